"""Keys of the service."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from handi_model.config import DType
from pipelines.places import LocalPath


def _listed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return [part.strip().lower() for part in value.split(",") if part.strip()]


def _are_fingerprints(values: list[str]) -> list[str]:
    if not all(re.fullmatch(r"[0-9a-f]{64}", value) for value in values):
        # Without the values, which may be the keys themselves.
        raise ValueError("64 hexadecimal digits each, which `printf %s KEY | sha256sum` gives")
    return values


Listed = Annotated[list[str], BeforeValidator(_listed)]
Fingerprints = Annotated[Listed, AfterValidator(_are_fingerprints)]


class ServeSettings(BaseModel):
    """`python -m serve key=value ...`, or `args:` of a `serve deploy` config."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    model: str = Field(description="URL of a saved pipeline's folder, or a hub id.")
    model_id: str = Field("handi", description="Name of the model in the API.")

    store: str = Field(
        "sqlite:///out/serve/jobs.db",
        description="SQLAlchemy URL of the job records, without a password; on a cluster "
        "PostgreSQL.",
    )
    store_password_file: LocalPath | None = Field(
        None, description="File with the database's password, on every node of the service."
    )
    results: str = Field(
        "out/serve/results", description="URL of the folder of pictures and clips; on a cluster S3."
    )
    expire_after_s: float = Field(
        86400.0,
        gt=0,
        le=1e9,
        description="How long a finished job and its clip are kept, seconds.",
    )

    api_keys_file: LocalPath | None = Field(
        None, description="File of API keys, one a line; without any key all may ask."
    )
    api_key_fingerprints: Fingerprints = Field(
        default_factory=list, description="SHA-256 of further API keys, comma-separated."
    )
    hosts: Listed = Field(
        default_factory=list,
        description="Without API keys: host names under which it is asked, beside localhost and "
        "its addresses, comma-separated; `*.NAME` for all below one, `*` for any.",
    )

    gateways: int = Field(1, ge=1, description="Replicas that take requests.")
    replicas: int = Field(1, ge=1, description="Replicas of the model, at least.")
    max_replicas: int | None = Field(
        None, ge=1, description="Replicas of the model, at most; `replicas` by default."
    )
    num_cpus: float = Field(1.0, gt=0, description="CPU cores of a model replica.")
    num_gpus: float | None = Field(
        None, ge=0, description="GPUs of a model replica; 1 where this machine has any, by default."
    )
    device: str | None = Field(None, description="Torch device; a GPU where there is one.")
    dtype: DType = Field("float32", description="Type of the weights.")

    batch_size: int = Field(8, ge=1, le=256, description="Clips that are denoised together.")
    batch_wait_s: float = Field(
        0.05, ge=0, le=60, description="How long an idle replica waits for a fuller batch, seconds."
    )
    max_queued: int = Field(1000, ge=1, description="Jobs that may wait; a further one gets 429.")
    max_masks: int = Field(
        16, ge=1, description="Motion areas and keypoints a gateway may wait for, else it is 429."
    )
    max_waiting: int = Field(
        200,
        ge=1,
        description="Requests that wait for a clip in a gateway; a further one gets 429.",
    )
    max_attempts: int = Field(
        4, ge=1, description="Starts of a job that is interrupted, before it counts as failed."
    )
    lease_s: float = Field(
        20.0,
        ge=2,
        description="A replica or gateway silent for so long, seconds, loses its jobs to others "
        "and is replaced.",
    )
    drain_s: float = Field(
        60.0, ge=0, description="What a replica that has to go may spend on what it runs, seconds."
    )
    stall_s: float = Field(
        600.0,
        gt=0,
        description="A replica without a denoising step for so long is replaced, seconds.",
    )

    fps: float | None = Field(
        None, gt=0, le=120, description="Frames a second of the clips; the model's own by default."
    )
    max_pixels: int | None = Field(
        None, ge=1, description="Height times width of a clip; 4 times the model's own by default."
    )
    max_frames: int | None = Field(
        None, ge=2, le=256, description="Frames of a clip; twice the model's own by default."
    )
    max_steps: int = Field(100, ge=1, le=1000, description="Denoising steps of a stage.")
    max_prompt_characters: int = Field(1000, ge=1, description="Of an instruction.")
    max_image_bytes: int = Field(20 * 2**20, ge=1024, description="Of a picture as it is sent.")
    max_image_pixels: int = Field(50_000_000, ge=1, description="Height times width of a picture.")
    image_hosts: Listed = Field(
        default_factory=list,
        description="Hosts from which pictures are fetched by URL, comma-separated; none if empty.",
    )

    @property
    def most_replicas(self) -> int:
        return max(self.replicas, self.max_replicas or 0)
