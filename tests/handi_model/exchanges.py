"""Two workers that train a small network together, and count what they exchange.

`python -m tests.handi_model.exchanges FILE` is the second one; the first is whoever imports this.
"""

from __future__ import annotations

import copy
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from handi_model.batch import Batch
from handi_model.optimiser import Optimiser, OptimiserSettings
from handi_model.trainer import DDP_OPTIONS, Trainer
from handi_model.training import LossSettings, Networks

WORKERS, PASSES, STEPS = 2, 4, 2
"""Passes of a worker in a step."""


class SmallNetwork(nn.Module):
    """Called as a HandiUNet is; its weights fill two of DistributedDataParallel's buckets."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        weights = [0.05 * torch.randn(640, 640, generator=generator) for _ in range(2)]
        self.layers = nn.ParameterList(weights)
        self.unused = nn.Parameter(torch.zeros(3))  # as the other stage's ends are

    def forward(
        self, noisy: Tensor, timestep: Tensor, text: Tensor, image: Tensor, area: Tensor, stage: str
    ) -> Tensor:
        values = noisy.flatten(1)
        for weight in self.layers:
            values = torch.tanh(values @ weight)
        return values.view_as(noisy)


def batch(number: int) -> Batch:
    """A clip of its own for each pass: 4 channels, 2 frames, 8x10 cells."""
    generator = torch.Generator().manual_seed(number)
    latent = torch.randn(1, 4, 2, 8, 10, generator=generator)
    masks, joints = torch.zeros(1, 2, 64, 80), torch.zeros(1, 2, 42, 2)
    return Batch(latent, latent, torch.zeros(1, 1, 1), masks, joints, joints[..., 0].bool())


def small_trainer(network: nn.Module, inner: nn.Module, workers: int = 1) -> Trainer:
    """A trainer of stage 1 without the pixel loss, which needs an autoencoder."""
    networks = Networks(
        unet=network,
        vae=None,  # type: ignore[arg-type]
        detector=None,
        predicts="noise",
        residual=False,
        alpha_bars=torch.linspace(0.99, 0.01, 100),
        prior=torch.zeros(8, 10),
        empty_text=torch.zeros(1, 1, 1),
        empty_mask_latent=torch.zeros(4, 8, 10),
        uses_mask=True,
    )
    return Trainer(
        networks=networks,
        unet=inner,  # type: ignore[arg-type]
        optimiser=Optimiser(dict(inner.named_parameters()), OptimiserSettings(warmup_steps=0), 10),
        losses=LossSettings(alpha=0.0),
        scheduler=None,  # type: ignore[arg-type]
        workers=workers,
    )


def weight_of(number: int) -> float:
    """Of a pass in its step: the last one only fills up, as where the clips do not suffice."""
    return 0.0 if number == WORKERS * PASSES - 1 else 1 / (WORKERS * PASSES - 1)


def take_pass(trainer: Trainer, step: int, number: int, last: bool) -> None:
    seed = step * 100 + number
    clip = batch(seed)
    if not weight_of(number):
        clip.mask_latent.fill_(torch.nan)
    trainer.backward(clip, "mask", seed, weight=weight_of(number), last=last)


def train_together(rank: int, meeting: Path) -> tuple[list[dict[int, int]], int, nn.Module]:
    """Train as one of the two.

    Returns:
        For each step how often each bucket was exchanged, the bytes of the last step, and the
        network.
    """
    dist.init_process_group(
        "gloo",
        init_method=f"file://{meeting}",
        rank=rank,
        world_size=WORKERS,
        timeout=timedelta(minutes=2),
    )
    try:
        network = SmallNetwork()
        wrapped = DistributedDataParallel(network, **DDP_OPTIONS)
        calls: list[dict[int, int]] = []
        sent: list[int] = []

        def counted(state, bucket):  # torch takes no annotations that are strings
            calls[-1][bucket.index()] = calls[-1].get(bucket.index(), 0) + 1
            sent[-1] += bucket.buffer().nbytes
            return allreduce_hook(None, bucket)

        wrapped.register_comm_hook(None, counted)
        trainer = small_trainer(wrapped, network, WORKERS)
        for step in range(STEPS):
            calls.append({})
            sent.append(0)
            for first in range(PASSES):
                take_pass(trainer, step, first * WORKERS + rank, last=first + 1 == PASSES)
            trainer.step()
        dist.barrier()  # neither leaves while the other still waits for it
        return calls, sent[-1], copy.deepcopy(network)
    finally:
        dist.destroy_process_group()


def train_alone() -> nn.Module:
    """The same passes on one worker."""
    network = SmallNetwork()
    trainer = small_trainer(network, network)
    for step in range(STEPS):
        for number in range(WORKERS * PASSES):
            take_pass(trainer, step, number, last=number + 1 == WORKERS * PASSES)
        trainer.step()
    return network


if __name__ == "__main__":
    train_together(1, Path(sys.argv[1]))
