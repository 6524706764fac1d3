"""A network's mode for a while: whatever happens meanwhile, it goes back to the one it was in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; every layer then goes back to the mode that it was in."""
    with _in_mode(network, training=False):
        yield


@contextmanager
def training(network: nn.Module) -> Iterator[None]:
    """Training mode for a while; every layer then goes back to the mode that it was in."""
    with _in_mode(network, training=True):
        yield


@contextmanager
def weightless(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """What goes back within adds exact zeros to the gradients, even where it is not finite.

    To multiply a loss by zero would not do: zero times NaN is NaN. Whoever waits for the gradients
    (as DistributedDataParallel does) gets them.
    """
    hooks = [parameter.register_hook(torch.zeros_like) for parameter in parameters]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _in_mode(network: nn.Module, training: bool) -> Iterator[None]:
    before = [(module, module.training) for module in network.modules()]
    try:
        network.train(training)
        yield
    finally:
        for module, mode in before:
            module.training = mode
