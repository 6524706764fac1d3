"""The method: equations, networks, losses and sampling. Imports neither Ray nor MediaPipe."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from handi_model.interface.names import tell_diffusers

if TYPE_CHECKING:
    from handi_model.config import ModelConfig
    from handi_model.pipeline import HandiPipeline
    from handi_model.unet import HandiUNet

__all__ = ["HandiPipeline", "HandiUNet", "ModelConfig"]

_HOMES = {"HandiPipeline": "pipeline", "HandiUNet": "unet", "ModelConfig": "config"}


def __getattr__(name: str) -> Any:
    # Looked up on demand: the preprocessing workers use the masks and have no need of torch.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


tell_diffusers()
