"""Text-to-video checkpoints in diffusers' layout: where the UNet is, what it is, its weights."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

from diffusers import UNet3DConditionModel
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from handi_model.damage import DamagedFile, check_local_safetensors, parse_json

WEIGHTS = "diffusion_pytorch_model.safetensors"
"""diffusers' name of a model's weights; sharded ones are listed in `WEIGHTS.index.json`."""

PUBLISHED = [
    "unet/config.json",
    f"unet/{WEIGHTS}",
    f"unet/{WEIGHTS}.index.json",
    "unet/diffusion_pytorch_model-*.safetensors",
]
"""What is read of a checkpoint on the hub."""


def unet_folder(checkpoint: str | Path) -> Path:
    """The folder of a checkpoint's UNet.

    Args:
        checkpoint: folder of a pipeline or of its UNet, or a pipeline's hub id.

    Raises:
        ValueError: if it is neither.
    """
    root = Path(checkpoint)
    if not root.is_dir():
        try:
            root = Path(snapshot_download(str(checkpoint), allow_patterns=PUBLISHED))
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{checkpoint}: neither a folder nor a hub id that can be read. Give the folder of "
                "a text-to-video pipeline in diffusers' layout, or of its UNet"
            ) from error
    return root / "unet" if (root / "unet").is_dir() else root


def check_topology(folder: Path, backbone: UNet3DConditionModel, preset: str) -> None:
    """See that the UNet in a folder is the plain one that `backbone` was made from.

    Raises:
        ValueError: if it is not, naming the first field that differs, or holds no UNet.
    """
    try:
        found = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{folder}: its config.json cannot be read. Give the folder of a text-to-video "
            "pipeline in diffusers' layout, or of its UNet"
        ) from error
    if found.get("_class_name") != UNet3DConditionModel.__name__:
        raise ValueError(
            f"{folder}: holds a {found.get('_class_name')}, not a {UNet3DConditionModel.__name__}. "
            "Give a text-to-video checkpoint"
        )
    needed = {**backbone.config, "time_cond_proj_dim": None}
    for name, parameter in inspect.signature(UNet3DConditionModel).parameters.items():
        given = found.get(name, parameter.default)
        # A convolutional network takes any size.
        if name != "sample_size" and _as_list(given) != _as_list(needed[name]):
            raise ValueError(
                f"{folder}: its UNet has {name} {given}, the preset {preset!r} needs "
                f"{needed[name]}. Give a checkpoint of that topology, or another preset"
            )


def _as_list(value: Any) -> Any:
    """Tuples are lists once written as JSON."""
    return list(value) if isinstance(value, tuple) else value


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a UNet's weights, each seen to be whole by its header and its size.

    Raises:
        ValueError: if a file is missing or damaged, or the weights are pickled, in one line.
    """
    index = folder / f"{WEIGHTS}.index.json"
    names = {WEIGHTS}
    if index.is_file():
        try:
            names = set(parse_json(str(index), index.read_bytes())["weight_map"].values())
        except (KeyError, TypeError, AttributeError):
            raise DamagedFile(str(index), "it has no weight_map") from None
    for name in sorted(names):
        if not (folder / name).is_file():
            raise ValueError(
                f"{folder}: has no {name}. Pickled weights (.bin) are not read, as they can run "
                "code; save the UNet anew with save_pretrained, or get its safetensors"
            )
        check_local_safetensors(folder / name)
    return [folder / name for name in sorted(names)]


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The weights of a UNet by name, from whole or sharded safetensors.

    Raises:
        ValueError: as `weight_files` does.
    """
    weights: dict[str, Tensor] = {}
    for file in weight_files(folder):
        try:
            weights |= load_file(file)
        except SafetensorError as error:
            raise DamagedFile(str(file), f"it cannot be read ({error})") from error
    return weights
