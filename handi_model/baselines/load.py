"""Open an image-to-video method by its name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch

from handi_model.baselines.animate_anything import AnimateAnythingMethod
from handi_model.baselines.diffusers_adapters import open_cogvideox, open_i2vgen_xl, open_pia
from handi_model.baselines.handi import HandiMethod
from handi_model.baselines.method import Method
from handi_model.pipeline import HandiPipeline

OWN: dict[str, Callable[..., Method]] = {
    "handi": HandiMethod,
    "animate-anything": AnimateAnythingMethod,
}
"""Methods on a `HandiPipeline`, which the caller has opened."""

PUBLISHED: dict[str, Callable[..., Method]] = {
    "cogvideox": open_cogvideox,
    "pia": open_pia,
    "i2vgen-xl": open_i2vgen_xl,
}
"""Methods from a folder or hub id."""

KINDS = (*OWN, *PUBLISHED)


def open_method(
    kind: str,
    model: str | HandiPipeline,
    device: torch.device | str,
    dtype: torch.dtype,
    **options: Any,
) -> Method:
    """Open one of `KINDS`.

    Args:
        kind: name of the method.
        model: for `handi` and `animate-anything` an open pipeline, which is moved to the device
            and type; for the others a folder or hub id.
        options: settings of that method, see its class or function.

    Raises:
        ValueError: for an unknown kind or option, a model that cannot be loaded, or a setting that
            cannot be met, in one line.
    """
    if kind not in KINDS:
        raise ValueError(f"kind: {kind!r} is none of {', '.join(KINDS)}")
    opener = (OWN | PUBLISHED)[kind]
    known = set(inspect.signature(opener).parameters) - {"pipe", "model", "device", "dtype"}
    for name in options:
        if name not in known:
            raise ValueError(f"{name}: {kind} has no such setting, only {', '.join(sorted(known))}")
    if kind in OWN:
        if not isinstance(model, HandiPipeline):
            raise ValueError(f"model: {kind} runs on an open HandiPipeline, got {model!r}")
        return opener(model.to(device, dtype), **options)
    if not isinstance(model, str):
        raise ValueError(f"model: {kind} is opened from a folder or hub id, got {type(model)}")
    return opener(model, device, dtype, **options)
