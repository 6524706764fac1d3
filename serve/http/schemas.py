"""What the API answers with."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from serve.records import Status, VideoJob


class VideoError(BaseModel):
    """Why a job failed; what only its service's owner should know stands in the log by its id."""

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
    seconds: str = Field(description="A whole number, as clients expect; `duration_s` is exact.")
    duration_s: float
    prompt: str
    negative_prompt: str | None
    num_frames: int
    fps: float
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
    mask_steps: int | None = Field(
        description="null where the model predicts no motion area: anything may move."
    )
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
        seconds=str(max(1, round(job.seconds))),
        duration_s=job.seconds,
        prompt=job.prompt,
        negative_prompt=job.negative_prompt,
        num_frames=job.num_frames,
        fps=job.fps,
        seed=job.seed,
        guidance_scale=job.guidance_scale,
        num_inference_steps=job.num_inference_steps,
        mask_steps=job.mask_steps,
        attempts=job.attempts,
        error=VideoError(code=job.error_code or "", message=job.error_message or "")
        if failed
        else None,
    )
