"""A video job as it is stored."""

from __future__ import annotations

import secrets
from typing import Literal

from sqlalchemy import BigInteger, Index, String
from sqlalchemy.orm import DeclarativeBase, Mapped, MappedAsDataclass, mapped_column

Status = Literal["queued", "in_progress", "completed", "failed"]


class Base(MappedAsDataclass, DeclarativeBase):
    pass


class VideoJob(Base, kw_only=True):
    """One clip that somebody asked for.

    Attributes:
        owner: fingerprint of the API key that asked; empty where the service is open to all.
        model: its name in the API.
        guidance_scale: from 1 (none).
        mask_steps: denoising steps of stage 1; None where the motion area was drawn.
        negative_prompt: what guidance moves away from; None for nothing.
        idempotency_key: SHA-256 of the one under which its owner asked; no two jobs share it.
        request_hash: of all that was asked for under that key.
        ticket: names the one start of the job that may report on it, or that completed it; None
            while nobody works on it.
        lease_until: until when the holder of the ticket is believed to live, or until when a job
            that was put back rests, Unix seconds.
        attempts: how many times it was started.
        turn: its place in the queue; the lower, the earlier.
        deleted: its user wants it gone; only its files may still be there.
        progress: percent of the denoising steps of both stages.
        created_at, completed_at, expires_at: Unix seconds; `completed_at` also of a failure.

    All times are of the database's clock, which is one however many machines there are.
    """

    __tablename__ = "handi_video_jobs"
    __table_args__ = (
        Index("handi_video_jobs_by_status", "status", "created_at"),
        Index("handi_video_jobs_by_owner", "owner", "created_at"),
        Index("handi_video_jobs_by_end", "completed_at"),
        Index("handi_video_jobs_by_key", "owner", "idempotency_key", unique=True),
    )

    id: Mapped[str] = mapped_column(String(64), primary_key=True, default_factory=lambda: new_id())
    owner: Mapped[str] = mapped_column(String(64), default="")
    model: Mapped[str] = mapped_column(String(255))
    prompt: Mapped[str]
    height: Mapped[int]
    width: Mapped[int]
    num_frames: Mapped[int]
    fps: Mapped[float]
    seed: Mapped[int] = mapped_column(BigInteger)
    guidance_scale: Mapped[float]
    num_inference_steps: Mapped[int]
    mask_steps: Mapped[int | None]
    # What came later may be null: databases that were written before get it as they are opened.
    negative_prompt: Mapped[str | None] = mapped_column(default=None)
    idempotency_key: Mapped[str | None] = mapped_column(String(64), default=None)
    request_hash: Mapped[str | None] = mapped_column(String(64), default=None)
    status: Mapped[str] = mapped_column(String(16), default="queued")
    progress: Mapped[int] = mapped_column(default=0)
    attempts: Mapped[int] = mapped_column(default=0)
    turn: Mapped[int] = mapped_column(BigInteger, default=0, server_default="0")
    ticket: Mapped[str | None] = mapped_column(String(64), default=None, index=True)
    lease_until: Mapped[float] = mapped_column(default=0.0)
    deleted: Mapped[bool] = mapped_column(default=False, index=True)
    created_at: Mapped[float] = mapped_column(default=0.0)
    completed_at: Mapped[float | None] = mapped_column(default=None)
    expires_at: Mapped[float | None] = mapped_column(default=None, index=True)
    error_code: Mapped[str | None] = mapped_column(String(64), default=None)
    error_message: Mapped[str | None] = mapped_column(default=None)

    @property
    def seconds(self) -> float:
        return self.num_frames / self.fps

    @property
    def result(self) -> str:
        """The folder of what was made of it, below that of all jobs.

        Each start has a folder of its own: what a replica writes that was given up never touches
        what another one made.
        """
        return f"{self.id}/{self.ticket}" if self.ticket else self.id

    @property
    def alike(self) -> str:
        """Jobs of which this is equal can be denoised together.

        A job that was interrupted is for nobody's company: it may be what killed its replica.
        """
        stages = (self.num_inference_steps, self.mask_steps)
        alone = self.id if self.attempts else ""
        shape = f"{self.height}x{self.width}x{self.num_frames}"
        return f"{shape}/{stages}{alone}/{self.negative_prompt or ''}"


def new_id() -> str:
    return f"video_{secrets.token_hex(16)}"
