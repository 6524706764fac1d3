"""What a saved pipeline says of itself in its small files, read without weights and torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

from handi_model.config import DEFAULT_FPS
from handi_model.damage import AGAIN, DamagedFile, check_safetensors, parse_json
from pipelines.records import one_line
from pipelines.storage import absolute, exists, join, read_bytes, read_range, sizes

PIPELINE = "HandiPipeline"
INDEX = "model_index.json"
CONFIGS: dict[str, tuple[str, ...]] = {
    INDEX: ("_class_name", "num_frames", "num_inference_steps", "guidance_scale"),
    "unet/config.json": ("sample_size", "block_out_channels"),
    "vae/config.json": ("block_out_channels",),
    "text_encoder/config.json": (),
    "scheduler/scheduler_config.json": ("num_train_timesteps",),
    "tokenizer/tokenizer_config.json": ("model_max_length",),
}
"""The small files of a saved pipeline, and what is read in each."""
WEIGHTS = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}
"""As diffusers and transformers name them; sharded ones are listed in `<name>.index.json`."""


@dataclass(frozen=True)
class SavedModel:
    """Attributes:
    url: absolute, of the folder; a hub id as it is.
    resolution: side of its frames, pixels.
    pixel_multiple: height and width must be multiples of it.
    num_frames, num_inference_steps, guidance_scale: defaults of a call.
    fps: frames a second that its clips are played at.
    most_steps: denoising steps that the schedule has.
    tokenizer: the text of its `tokenizer.json`; empty where it has none.
    longest_prompt: tokens that the text encoder reads.
    uses_mask: see `HandiPipeline`.
    """

    url: str
    resolution: int
    pixel_multiple: int
    num_frames: int
    num_inference_steps: int
    guidance_scale: float
    most_steps: int
    tokenizer: str
    longest_prompt: int
    fps: float = DEFAULT_FPS
    uses_mask: bool = True


def read_saved_model(model: str) -> SavedModel:
    """Read it, and see that its weights are there and whole where they lie in a folder or below a
    URL: by their headers and sizes.

    Args:
        model: a local path, a folder's URL, or a name on the hub.

    Raises:
        ValueError: if there is no saved `HandiPipeline`, or a file of it is missing or damaged, in
            one line.
    """
    try:
        url, folder = _places(model)
        configs = _configs(folder) if is_on_hub(model) else check_saved_model(folder)
        index, unet, vae, _, scheduler, words = (configs[name] for name in CONFIGS)
        tokenizer = join(folder, "tokenizer/tokenizer.json")
        factor = 2 ** (len(vae["block_out_channels"]) - 1)
        return SavedModel(
            url=url,
            resolution=unet["sample_size"] * factor,
            pixel_multiple=factor * 2 ** (len(unet["block_out_channels"]) - 1),
            num_frames=index["num_frames"],
            num_inference_steps=index["num_inference_steps"],
            guidance_scale=float(index["guidance_scale"]),
            most_steps=scheduler["num_train_timesteps"],
            tokenizer=read_bytes(tokenizer).decode() if exists(tokenizer) else "",
            longest_prompt=words["model_max_length"],
            fps=float(index.get("fps", DEFAULT_FPS)),
            uses_mask=index.get("uses_mask", True),
        )
    except Exception as error:  # each storage has its own
        raise ValueError(
            f"model: {model} is no saved pipeline that can be read: {one_line(error)}"
        ) from None


def check_saved_model(folder: str) -> dict[str, dict[str, Any]]:
    """See that a saved pipeline is whole, without reading its weights.

    Args:
        folder: a local path or a URL.

    Returns:
        the name of each small file -> what it holds.

    Raises:
        ValueError: if a file is missing or of something else, in one line that names it.
        DamagedFile: if a file is cut short or cannot be read.
    """
    folder = absolute(folder)
    configs = _configs(folder)
    files = sizes(folder)
    for part, name in WEIGHTS.items():
        url = join(folder, part, name)
        shards = {url}
        if f"{url}.index.json" in files:
            index = _config(folder, f"{part}/{name}.index.json", ("weight_map",))
            shards = {join(folder, part, shard) for shard in index["weight_map"].values()}
        for shard in sorted(shards):
            if shard not in files:
                raise ValueError(f"{shard} is not there (weights are read as safetensors); {AGAIN}")
            check_safetensors(shard, files[shard], partial(read_range, shard))
    return configs


def small_file(model: str, name: str) -> str:
    """URL of one of a saved pipeline's JSON files, there or not.

    Args:
        model: a local path, a folder's URL, or a name on the hub.
    """
    return join(_places(model)[1], name)


def is_on_hub(model: str) -> bool:
    """Whether a model is named as on the hub."""
    return "://" not in model and not Path(model).exists() and model.count("/") == 1


def _configs(folder: str) -> dict[str, dict[str, Any]]:
    return {name: _config(folder, name, keys) for name, keys in CONFIGS.items()}


def _config(folder: str, name: str, keys: tuple[str, ...]) -> dict[str, Any]:
    url = join(folder, name)
    try:
        values = parse_json(url, read_bytes(url))
    except FileNotFoundError:
        raise ValueError(f"{url} is not there; {AGAIN}") from None
    if not isinstance(values, dict):
        raise DamagedFile(url, "it holds no keys and values")
    kind = values.get("_class_name", PIPELINE)
    if name == INDEX and kind != PIPELINE:
        raise ValueError(f"{url} is of a {kind}, not of a {PIPELINE}; give one that was trained")
    for key in keys:
        if key not in values:
            raise DamagedFile(url, f"it has no {key}")
    return values


def _places(model: str) -> tuple[str, str]:
    """URL of the model, and of a folder with its small files."""
    if is_on_hub(model):
        return model, snapshot_download(model, allow_patterns=["*.json"])
    return absolute(model), absolute(model)
