"""Several jobs through the pipeline as one batch. It knows torch, and nothing of Ray."""

from __future__ import annotations

import io
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from handi_model.config import Stage
from pipelines.clip_files import eight_bit, encode_png
from serve.orders import MaskOrder
from serve.records import VideoJob

if TYPE_CHECKING:
    from handi_model.pipeline import HandiPipeline

OnStep = Callable[[Stage, int], None]
"""Called after each denoising step with its stage and how many are done; raising ends the batch."""


class Alike(Protocol):
    @property
    def alike(self) -> Hashable:
        """Equal for what can be denoised together."""


One = TypeVar("One", bound=Alike)


class PictureGone(Exception):
    """What a job starts from was removed."""


class Abandoned(Exception):
    """Nobody wants the batch any more."""


@dataclass(frozen=True)
class Item:
    """A job with its pictures: PNGs at the clip's size, `drawn` the user's own motion area."""

    job: VideoJob
    scene: bytes
    drawn: bytes | None


@dataclass(frozen=True)
class Clip:
    """Frames (L, H, W, 3) uint8 RGB, and the motion area (H, W) uint8, 255 inside."""

    frames: NDArray[np.uint8]
    area: NDArray[np.uint8]


REASONS: dict[type[Exception], tuple[str, str]] = {
    FloatingPointError: ("not_finite", "the model gave no finite picture; take another seed"),
    PictureGone: ("picture_gone", "the picture that it starts from is gone; send it again"),
}


def reason(job: VideoJob, error: Exception) -> tuple[str, str]:
    """Code and message of a failed job; the exception's own text is for the log.

    What was asked for was checked before: none of it was the client's mistake.
    """
    for kind, told in REASONS.items():
        if isinstance(error, kind):
            return told
    return "server_error", f"the clip could not be made; the service's log tells why at {job.id}"


def grouped(items: Iterable[One]) -> list[list[One]]:
    """The items in groups that can be denoised together, in the order of their firsts."""
    groups: dict[Hashable, list[One]] = {}
    for item in items:
        groups.setdefault(item.alike, []).append(item)
    return list(groups.values())


def largest_group(items: Iterable[One]) -> int:
    """How many of the items are denoised together at most."""
    return max((len(group) for group in grouped(items)), default=0)


def render(pipe: HandiPipeline, items: Sequence[Item], on_step: OnStep) -> list[Clip | Exception]:
    """Generate the clips of jobs that are alike; a job that cannot be done fails alone.

    An item's clip does not depend on its neighbours: each has its own seed, so its own noise.

    Raises:
        Abandoned: if `on_step` does.
    """

    def together(items: Sequence[Item]) -> list[Clip | Exception]:
        job = items[0].job
        out = pipe(
            image=[_picture(item.scene) for item in items],
            prompt=[item.job.prompt for item in items],
            negative_prompt=job.negative_prompt or "",
            num_frames=job.num_frames,
            height=job.height,
            width=job.width,
            generator=_generators(item.job.seed for item in items),
            num_inference_steps=job.num_inference_steps,
            mask_steps=job.mask_steps,
            guidance_scale=[item.job.guidance_scale for item in items],
            mask=None if job.mask_steps else [_picture(item.drawn or b"") for item in items],
            callback_on_step_end=_told(on_step),
        )
        return [
            Clip(eight_bit(frames), eight_bit(area))
            if np.isfinite(frames).all()
            else FloatingPointError("the model gave no finite picture")
            for frames, area in zip(out.frames, out.masks, strict=True)
        ]

    return _each(items, together)


def predict_areas(
    pipe: HandiPipeline, orders: Sequence[MaskOrder], on_step: OnStep
) -> list[bytes | Exception]:
    """Motion areas of orders that are alike, as PNGs; one that cannot be done fails alone."""

    def together(orders: Sequence[MaskOrder]) -> list[bytes | Exception]:
        out = pipe(
            image=[_picture(order.scene) for order in orders],
            prompt=[order.prompt for order in orders],
            negative_prompt=orders[0].negative_prompt,
            num_frames=orders[0].num_frames,
            height=orders[0].height,
            width=orders[0].width,
            generator=_generators(order.seed for order in orders),
            mask_steps=orders[0].mask_steps,
            guidance_scale=[order.guidance_scale for order in orders],
            output_type="mask",
            callback_on_step_end=_told(on_step),
        )
        return [encode_png(eight_bit(area)) for area in out.masks]

    return _each(orders, together)


Given = TypeVar("Given")
Made = TypeVar("Made")


def _each(
    items: Sequence[Given], together: Callable[[Sequence[Given]], list[Made | Exception]]
) -> list[Made | Exception]:
    """All at once; where that fails, one by one, so that the culprit is found."""
    try:
        return together(items)
    except Abandoned:
        raise
    except Exception as error:
        if len(items) == 1:
            return [error]
    return [result for item in items for result in _each([item], together)]


def _picture(png: bytes) -> Image.Image:
    return Image.open(io.BytesIO(png))


def _generators(seeds: Iterable[int]) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def _told(on_step: OnStep) -> Callable[[HandiPipeline, int, float, dict[str, Any]], None]:
    def after(pipe: HandiPipeline, step: int, timestep: float, state: dict[str, Any]) -> None:
        on_step(state["stage"], step + 1)

    return after
