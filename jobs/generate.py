"""Generate a clip from an image and an instruction.

python jobs/generate.py --model RUN/model --image scene.jpg --prompt "open drawer" --output clips
"""

from __future__ import annotations

from pipelines.running.interrupts import run_job

# isort: split

import io
import json
import re
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from pydantic import BaseModel, ConfigDict, Field

from handi_model.config import DType
from handi_model.device import DTYPES, usable_device
from handi_model.pipeline import HandiOutput
from jobs.cli import load, stop
from pipelines.clip_files import clip_strip, eight_bit, encode_gif, encode_mp4, encode_png
from pipelines.models import load_pipeline
from pipelines.places import ModelPlace, Url
from pipelines.records import one_line
from pipelines.running.job_error import JobError
from pipelines.storage import join, read_bytes, writable, write_bytes

CALL = {
    "num_frames",
    "height",
    "width",
    "num_inference_steps",
    "mask_steps",
    "guidance_scale",
    "negative_prompt",
}
"""Keys that go to the pipeline as they are; what is not given is the model's own."""
AREA = {"mask_threshold", "mask_radius", "feather"}
"""Keys of the motion area."""


class GenerateSettings(BaseModel):
    """Keys of the job."""

    model_config = ConfigDict(extra="forbid")

    model: ModelPlace = Field(description="URL of a saved pipeline's folder, or a hub id.")
    image: Url = Field(description="URL of the picture of the scene.")
    prompt: str = Field(description="What the hands should do, such as 'open the drawer'.")
    output: Url = Field(description="URL of the folder to write.")
    name: str | None = Field(
        None, description="Name of the files; picture, instruction and seed by default."
    )
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of the noise.")
    num_frames: int | None = Field(None, description="Frames; the model's own by default.")
    height: int | None = Field(None, description="Height, pixels; the model's own by default.")
    width: int | None = Field(None, description="Width, pixels; the model's own by default.")
    num_inference_steps: int | None = Field(
        None, description="Denoising steps of the clip; the model's own by default."
    )
    mask_steps: int | None = Field(
        None, description="Denoising steps of the motion area; as many as the clip by default."
    )
    guidance_scale: float | None = Field(
        None, description="Classifier-free guidance, from 1 (none); the model's own by default."
    )
    mask: Url | None = Field(
        None, description="URL of a picture of the motion area, white inside: skips stage 1."
    )
    negative_prompt: str = Field("", description="What guidance moves away from.")
    mask_threshold: float = Field(
        0.5, description="A predicted pixel at or above it belongs to the motion area, (0, 1)."
    )
    mask_radius: int | None = Field(
        None, description="Of the disc that cleans the area, pixels; 1/85 of a side by default."
    )
    feather: int = Field(0, description="Soft edge inside the motion area, pixels.")
    fps: float | None = Field(
        None, gt=0, le=120, description="Frames a second of the files; the model's own by default."
    )
    device: str | None = Field(None, description="Torch device; a GPU where there is one.")
    dtype: DType = Field("float32", description="Type of the weights.")


def main() -> None:
    settings = load(GenerateSettings, "generate")
    try:
        device = usable_device(settings.device)
        scene = open_picture("image", settings.image)
        mask = open_picture("mask", settings.mask) if settings.mask else None
        pipe = load_pipeline(settings.model, DTYPES[settings.dtype]).to(device)
        asked = settings.model_dump(include=CALL)
        settings.fps = settings.fps or pipe.config.fps
        request = pipe.check(scene, settings.prompt, mask=mask, **asked)
        settings.output = writable(settings.output)
        generator = torch.Generator().manual_seed(settings.seed)
        began = time.perf_counter()
        out = pipe(
            scene,
            settings.prompt,
            mask=mask,
            generator=generator,
            **settings.model_dump(include=AREA),
            **asked,
        )
    except ValueError as error:
        stop(one_line(error))
    except FloatingPointError as error:
        raise JobError(one_line(error)) from None
    used = {
        **settings.model_dump(),
        **{name: getattr(request, name) for name in CALL - {"height", "width", "guidance_scale"}},
        "height": request.size[0],
        "width": request.size[1],
        "guidance_scale": float(request.guidance_scale[0]),
        "mask_steps": None if mask or not pipe.config.uses_mask else request.mask_steps,
        "device": str(device),
        "seconds": round(time.perf_counter() - began, 2),
        "versions": {name: version(name) for name in ("handi", "torch", "diffusers")},
    }
    for url in write_clip(settings, out, request.scenes[0], settings.fps, used):
        print(url)


def open_picture(key: str, url: str) -> Image.Image:
    """Read a picture.

    Raises:
        ValueError: if it cannot be read or is no picture.
    """
    try:
        picture = Image.open(io.BytesIO(read_bytes(url)))
        picture.load()
    except UnidentifiedImageError:
        raise ValueError(f"{key}: {url} is not a picture; give a JPEG or a PNG") from None
    except Exception as error:
        raise ValueError(f"{key}: {url} cannot be read: {one_line(error)}") from None
    return picture


def default_name(settings: GenerateSettings) -> str:
    """Picture, instruction and seed, in letters that every storage takes."""
    words = f"{Path(settings.image).stem} {settings.prompt}".lower()
    return re.sub(r"[^a-z0-9]+", "-", words).strip("-")[:80] + f"-seed{settings.seed}"


def write_clip(
    settings: GenerateSettings,
    out: HandiOutput,
    scene: np.ndarray,
    fps: float,
    used: dict[str, Any],
) -> list[str]:
    """Write video, GIF, mask, strip and settings side by side; gives their URLs."""
    stem = join(settings.output, settings.name or default_name(settings))
    frames, mask = eight_bit(out.frames[0]), out.masks[0]
    files = {
        f"{stem}.mp4": encode_mp4(frames, fps),
        f"{stem}.gif": encode_gif(frames, fps),
        f"{stem}-mask.png": encode_png(eight_bit(mask)),
        f"{stem}-strip.png": encode_png(clip_strip(frames, eight_bit(scene), mask > 0)),
        f"{stem}.json": json.dumps(used, indent=2).encode(),
    }
    for url, data in files.items():
        write_bytes(url, data)
    return list(files)


if __name__ == "__main__":
    run_job(main, resumes=False)
