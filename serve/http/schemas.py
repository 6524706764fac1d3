"""What the API answers with, and the forms that it takes."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import Form, UploadFile
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from serve.records import Status, VideoJob

MULTIPART = Form(media_type="multipart/form-data")
SIZE = Field(
    None, pattern=r"^[0-9]{1,5}x[0-9]{1,5}$", description="Width x height, pixels, such as 256x256."
)
PICTURE = "JPEG, PNG or WebP; scaled down, and its middle cut to the clip's size"


def _blank_is_absent(value: object) -> object:
    """Browsers and clients send an unfilled field as an empty text."""
    return None if value == "" else value


Blank = BeforeValidator(_blank_is_absent)


class MaskForm(BaseModel):
    """What both stages need."""

    model_config = ConfigDict(extra="forbid")

    prompt: str = Field(description="What the hands should do, such as 'open the drawer'.")
    input_reference: UploadFile | str = Field(
        description=f"The scene: {PICTURE}. Or its URL, where the service allows the host."
    )
    model: Annotated[str | None, Blank] = Field(None, description="Its id in /v1/models.")
    size: Annotated[str | None, Blank] = SIZE
    seed: Annotated[int | None, Blank] = Field(
        None, ge=0, lt=2**63, description="Of the noise; drawn by default."
    )
    guidance_scale: Annotated[float | None, Blank] = Field(
        None, ge=1, le=100, description="Classifier-free guidance, from 1 (none)."
    )
    seconds: Annotated[float | None, Blank] = Field(None, gt=0, le=3600, description="Of the clip.")
    mask_steps: Annotated[int | None, Blank] = Field(
        None, ge=1, description="Denoising steps of the motion area."
    )


class VideoForm(MaskForm):
    """What a clip needs."""

    num_inference_steps: Annotated[int | None, Blank] = Field(
        None, ge=1, description="Denoising steps of the clip."
    )
    mask: Annotated[UploadFile | None, Blank] = Field(
        None, description="The motion area, white inside, drawn over the scene: skips stage 1."
    )


class VideoError(BaseModel):
    code: str
    message: str


class Video(BaseModel):
    """A video job."""

    id: str
    object: Literal["video"] = "video"
    model: str
    status: Status
    progress: int = Field(description="Percent of the denoising steps of both stages.")
    created_at: int
    completed_at: int | None
    expires_at: int | None = Field(description="When the clip is removed, Unix seconds.")
    size: str
    seconds: str
    prompt: str
    num_frames: int
    seed: int
    guidance_scale: float
    num_inference_steps: int
    mask_steps: int | None = Field(description="null where the motion area was given.")
    attempts: int = Field(description="Starts; more than one if a replica died over it.")
    error: VideoError | None


class VideoList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Video]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Deleted(BaseModel):
    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: Literal[True] = True


class Model(BaseModel):
    """A model, its defaults and its bounds."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["handi"] = "handi"
    size: str
    pixel_multiple: int
    max_pixels: int
    num_frames: int
    max_frames: int
    fps: float
    seconds: str
    num_inference_steps: int
    mask_steps: int
    max_steps: int
    guidance_scale: float
    max_prompt_characters: int
    max_image_bytes: int


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]


class Health(BaseModel):
    status: Literal["ok", "draining"]
    queued: int
    in_progress: int


class Example(BaseModel):
    """A scene that ships, to try the service with."""

    name: str
    prompt: str
    url: str


def video_of(job: VideoJob) -> Video:
    failed = job.error_code is not None
    return Video(
        id=job.id,
        model=job.model,
        status=job.status,
        progress=job.progress,
        created_at=int(job.created_at),
        completed_at=None if job.completed_at is None else int(job.completed_at),
        expires_at=None if job.expires_at is None else int(job.expires_at),
        size=f"{job.width}x{job.height}",
        seconds=f"{job.seconds:g}",
        prompt=job.prompt,
        num_frames=job.num_frames,
        seed=job.seed,
        guidance_scale=job.guidance_scale,
        num_inference_steps=job.num_inference_steps,
        mask_steps=job.mask_steps,
        attempts=job.attempts,
        error=VideoError(code=job.error_code or "", message=job.error_message or "")
        if failed
        else None,
    )
