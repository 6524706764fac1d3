"""Types of keys that name a place: absolute from the start, for workers have another folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator

from handi_model.config import PRESETS
from pipelines.storage import absolute


def local_path(path: str) -> str:
    """A path on this machine made absolute."""
    return str(Path(path).expanduser().absolute())


def model_place(model: str) -> str:
    """A local folder and a URL made absolute; a preset and a hub id stay as they are."""
    if "://" in model:
        return absolute(model)
    is_here = model not in PRESETS and Path(model).expanduser().exists()
    return local_path(model) if is_here else model


Url = Annotated[str, AfterValidator(absolute)]
"""URL or path of a file or a folder on any storage."""
LocalPath = Annotated[str, AfterValidator(local_path)]
"""Path on the machine."""
ModelPlace = Annotated[str, AfterValidator(model_place)]
"""A preset, a folder's URL or path, or a hub id."""
