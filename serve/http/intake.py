"""From a form to a job that can be accepted: all is checked here, before anything is kept."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from serve.http.decoding import Decode
from serve.http.errors import ApiError, shown
from serve.http.forms import MaskForm, VideoForm
from serve.http.pictures import area_png, scene_png
from serve.http.references import picture_bytes
from serve.http.services import Services
from serve.orders import MaskOrder
from serve.records import VideoJob


@dataclass(frozen=True)
class VideoOrder:
    """A job with the PNGs that it starts from, at the clip's size."""

    job: VideoJob
    scene: bytes
    drawn: bytes | None


async def read_video_order(form: VideoForm, owner: str, services: Services) -> VideoOrder:
    """Raises ApiError for what cannot be met."""
    limits = services.limits
    try:
        mask_order = await read_mask_order(form, services, form.num_inference_steps)
        steps = limits.steps(
            "num_inference_steps", form.num_inference_steps, limits.described.num_inference_steps
        )
        size = (mask_order.height, mask_order.width)
        drawn = None
        if form.mask:
            data = await picture_bytes("mask", form.mask, limits.settings)
            drawn = await _decoded(area_png, data, size, services)
        job = VideoJob(
            owner=owner,
            model=limits.described.id,
            prompt=mask_order.prompt,
            negative_prompt=mask_order.negative_prompt or None,
            height=size[0],
            width=size[1],
            num_frames=mask_order.num_frames,
            fps=form.fps or limits.fps,
            seed=mask_order.seed,
            guidance_scale=mask_order.guidance_scale,
            num_inference_steps=steps,
            mask_steps=None if drawn else mask_order.mask_steps,
        )
    except ValueError as error:
        raise _refused(error) from None
    return VideoOrder(job, mask_order.scene, drawn)


async def read_mask_order(
    form: MaskForm, services: Services, video_steps: int | None = None
) -> MaskOrder:
    """Raises ApiError for what cannot be met.

    Args:
        video_steps: denoising steps of the clip; the motion area gets as many unless told.
    """
    limits = services.limits
    if form.model not in (None, limits.described.id):
        raise no_such_model(form.model, limits.described.id)
    try:
        prompt = limits.prompt(form.prompt)
        negative = limits.text("negative_prompt", form.negative_prompt or "")
        height, width = limits.size(form.size, form.width, form.height)
        num_frames = limits.num_frames(form.seconds, form.num_frames, form.fps)
        default = limits.described.num_inference_steps if video_steps is None else video_steps
        steps = limits.steps("mask_steps", form.mask_steps, default)
        data = await picture_bytes("input_reference", form.input_reference, limits.settings)
        scene = await _decoded(scene_png, data, (height, width), services)
    except ValueError as error:
        raise _refused(error) from None
    scale = form.guidance_scale
    return MaskOrder(
        scene=scene,
        height=height,
        width=width,
        num_frames=num_frames,
        prompt=prompt,
        negative_prompt=negative,
        seed=secrets.randbelow(2**31) if form.seed is None else form.seed,
        guidance_scale=services.limits.model.guidance_scale if scale is None else scale,
        mask_steps=steps,
    )


async def _decoded(
    decode: Decode,
    data: bytes,
    size: tuple[int, int],
    services: Services,
) -> bytes:
    return await services.decoder.decode(decode, data, size, services.settings.max_image_pixels)


def no_such_model(asked: str, served: str) -> ApiError:
    message = f"model: there is no {shown(asked)!r}; {served!r} is served"
    return ApiError(404, message, "model", code="model_not_found")


def _refused(error: ValueError) -> Exception:
    """What a check says of a field; whatever else there is says nothing to the client."""
    name = str(error).partition(":")[0]
    return ApiError(400, str(error), name) if name in VideoForm.model_fields else error
