"""From a form to a job that can be accepted: all is checked here, before anything is kept."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
from starlette.datastructures import UploadFile

from serve.http.decoding import Decode
from serve.http.errors import ApiError
from serve.http.pictures import area_png, scene_png
from serve.http.schemas import MaskForm, VideoForm
from serve.http.services import Services
from serve.orders import MaskOrder
from serve.records import VideoJob

FETCH_S = 10
"""How long a picture's host may take."""


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
            data = await _uploaded("mask", form.mask, services)
            drawn = await _decoded(area_png, data, size, services)
        job = VideoJob(
            owner=owner,
            model=limits.described.id,
            prompt=mask_order.prompt,
            height=size[0],
            width=size[1],
            num_frames=mask_order.num_frames,
            fps=limits.fps,
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
        raise ApiError(
            404, f"model: there is no {form.model!r}; {limits.described.id!r} is served", "model"
        )
    try:
        prompt = limits.prompt(form.prompt)
        height, width = limits.size(form.size)
        num_frames = limits.num_frames(form.seconds)
        default = limits.described.mask_steps if video_steps is None else video_steps
        steps = limits.steps("mask_steps", form.mask_steps, default)
        data = await _sent(form.input_reference, services)
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


async def _sent(picture: UploadFile | str, services: Services) -> bytes:
    if isinstance(picture, str):
        settings = services.settings
        return await fetch(picture, settings.image_hosts, settings.max_image_bytes)
    return await _uploaded("input_reference", picture, services)


async def _uploaded(name: str, file: UploadFile, services: Services) -> bytes:
    most = services.settings.max_image_bytes
    data = await file.read(most + 1)
    if len(data) > most:
        raise ApiError(413, f"{name}: more than {most} bytes; send a smaller file", name)
    return data


async def fetch(url: str, hosts: list[str], most_bytes: int) -> bytes:
    """A picture from a host that the service's owner allows; redirects are not followed.

    Raises:
        ApiError: for every other host, and for what the host does not give.
    """

    def refusal(status: int, why: str) -> ApiError:
        return ApiError(status, f"input_reference: {why}; send the file", "input_reference")

    try:
        parts = urlsplit(url)
    except ValueError:
        raise refusal(400, "neither a file nor a URL") from None
    if parts.scheme not in ("http", "https") or parts.hostname not in hosts:
        raise refusal(400, "URLs of this host are not fetched")
    try:
        timeout = aiohttp.ClientTimeout(total=FETCH_S)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(url, allow_redirects=False) as answer,
        ):
            data = b""
            while answer.status == 200 and len(data) <= most_bytes:
                piece = await answer.content.read(most_bytes + 1 - len(data))
                if not piece:
                    break
                data += piece
    except (aiohttp.ClientError, TimeoutError, ValueError):
        raise refusal(400, "the URL cannot be fetched") from None
    if answer.status != 200:
        raise refusal(400, f"its host answers {answer.status}")
    if len(data) > most_bytes:
        raise refusal(413, f"more than {most_bytes} bytes")
    return data


def _refused(error: ValueError) -> ApiError:
    message = str(error)
    name = message.partition(":")[0]
    return ApiError(400, message, name if name.isidentifier() else None)
