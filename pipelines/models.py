"""Open what a job starts from: a preset, or a saved pipeline."""

from __future__ import annotations

import tempfile
from pathlib import Path

import diffusers
import torch
import transformers

from handi_model.config import PRESETS, ModelConfig
from handi_model.create import new_pipeline
from handi_model.pipeline import HandiPipeline
from pipelines.records import one_line
from pipelines.saved_model import check_saved_model, is_on_hub
from pipelines.storage import fetch_folder


def open_pipeline(
    model: str, checkpoint: str | None = None, resolution: int | None = None
) -> HandiPipeline:
    """A new pipeline of a preset, or a saved one.

    Args:
        model: a preset, or see `load_pipeline`.
        checkpoint: for `base`, the text-to-video checkpoint that it starts from.
        resolution: of a preset's frames, pixels; its own by default.

    Raises:
        ValueError: if there is none, in one line.
    """
    _no_bars()
    if model in PRESETS:
        changes = {"resolution": resolution} if resolution else {}
        return new_pipeline(ModelConfig.of(model, **changes), checkpoint)
    return load_pipeline(model)


def load_pipeline(model: str, dtype: torch.dtype = torch.float32) -> HandiPipeline:
    """Load a saved pipeline.

    Args:
        model: a local path, a folder's URL, or a name on the hub.
        dtype: of the weights.

    Raises:
        ValueError: if there is none, or a file of it is missing or damaged, in one line.
    """
    _no_bars()
    with tempfile.TemporaryDirectory() as scratch:
        try:
            folder = _folder(model, scratch)
            # Pickled weights, which diffusers would fall back to, can run code.
            return HandiPipeline.from_pretrained(folder, dtype=dtype, use_safetensors=True)
        except Exception as error:
            raise ValueError(f"model: {model} cannot be loaded: {one_line(error)}") from error


def _folder(model: str, scratch: str) -> str | Path:
    if is_on_hub(model):
        return model
    # The libraries' own errors often name no file, nor say whether to try again.
    check_saved_model(model)
    return fetch_folder(model, Path(scratch))


def _no_bars() -> None:
    """Without bars of files read; the bar of steps stays."""
    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()
