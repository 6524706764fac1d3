"""Preprocessing against a plain loop: OpenCV decodes, MediaPipe detects, PNGs are written."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import ray
from pydantic import BaseModel, ConfigDict, Field
from tqdm import tqdm

from handi_model.hands.model_files import hand_landmarker_task
from handi_model.masks import hand_hull_mask, union_mask
from jobs.cli import stop
from pipelines.annotations import AnnotationsError, folder
from pipelines.hands import detect_hands, load_landmarker
from pipelines.preprocess import run, start_ray
from pipelines.records import Clip
from pipelines.settings import PreprocessSettings


class Settings(BaseModel):
    """Preprocessing against a plain loop: OpenCV decodes, MediaPipe detects, PNGs are written."""

    model_config = ConfigDict(extra="forbid")

    videos: str = Field(description="Path of a folder with local videos.")
    clips: int = Field(200, ge=20, description="Stretches to process, taken in turn.")
    clip_s: float = Field(2.0, gt=0, description="Length of a stretch, seconds.")
    frames: int = Field(16, ge=2, description="Frames per clip.")
    resolution: int = Field(256, ge=32, description="Side of a stored frame, pixels.")
    hand_model: str | None = Field(None, description="Path of hand_landmarker.task.")
    result: str | None = Field(None, description="JSON file to write the figures to.")


def measure(settings: Settings) -> dict[str, Any]:
    """Clips a second of the job and of the plain loop, over the same frames.

    The job's start-up (processes, imports, networks) is measured by a run over one clip a worker
    and taken off; the loop's networks are loaded before its clock starts. The figure with the
    start-up is given too.
    """
    clips = stretches(settings)
    model = hand_landmarker_task(settings.hand_model)
    with tempfile.TemporaryDirectory() as scratch:
        plain_s = plain_loop(clips, settings, model.read_bytes(), Path(scratch))

        def job_settings(name: str) -> PreprocessSettings:
            return PreprocessSettings(
                videos=settings.videos,
                output=f"{scratch}/{name}",
                frames=settings.frames,
                resolution=settings.resolution,
                hand_model=settings.hand_model,
                min_hand_rate=0.0,
                rows_per_file=32,
            )

        start_ray(job_settings("start"))
        workers = int(ray.cluster_resources()["CPU"])

        def job(name: str, some: list[Clip]) -> float:
            return run(some, [], job_settings(name), "benchmark").seconds

        start_s = job("start", clips[:workers])
        job_s = job("all", clips)
        ray.shutdown()
    plain = len(clips) / plain_s
    steady = (len(clips) - workers) / (job_s - start_s)
    return {
        "clips": len(clips),
        "frames": len(clips) * settings.frames,
        "plain_loop_clips_per_s": round(plain, 3),
        "job_clips_per_s": round(steady, 3),
        "ratio": round(steady / plain, 2),
        "job_start_up_s": round(start_s, 1),
        "job_clips_per_s_with_start_up": round(len(clips) / job_s, 3),
        "ratio_with_start_up": round(len(clips) / job_s / plain, 2),
    }


def stretches(settings: Settings) -> list[Clip]:
    """Cut the videos into stretches, and take them in turn until there are enough."""
    try:
        videos = folder.read(settings.videos).clips
    except AnnotationsError as error:
        stop(f"videos: {error}")
    cut = []
    for video in videos:
        with av.open(video.video_uri.removeprefix("file://")) as container:
            length_s = (container.duration or 0) / av.time_base
        step_s = min(settings.clip_s, length_s)
        for start_s in np.arange(0, length_s - step_s + 1e-6, step_s):
            cut.append(
                replace(video, start_s=float(start_s), stop_s=float(start_s + step_s * 0.95))
            )
    return [replace(cut[i % len(cut)], clip_id=f"{i:05d}") for i in range(settings.clips)]


def plain_loop(clips: list[Clip], settings: Settings, model: bytes, scratch: Path) -> float:
    """Seconds that one process takes, written as one writes it first."""
    load_landmarker(model, 0.5)
    began = time.perf_counter()
    for clip in tqdm(clips, desc="plain loop", unit="clip"):
        assert clip.stop_s is not None
        capture = cv2.VideoCapture(clip.video_uri.removeprefix("file://"))
        times = np.linspace(clip.start_s, clip.stop_s, settings.frames) * 1000
        capture.set(cv2.CAP_PROP_POS_MSEC, times[0])
        masks: list[np.ndarray] = []
        while len(masks) < settings.frames:
            read, frame = capture.read()
            if not read:
                break
            while len(masks) < settings.frames and (
                capture.get(cv2.CAP_PROP_POS_MSEC) >= times[len(masks)]
            ):
                (hands,) = detect_hands(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)[None])
                joints, visible = np.zeros((42, 2)), np.zeros(42, bool)
                for slot, hand in enumerate(hands[:2]):
                    joints[slot * 21 : slot * 21 + 21] = hand.joints
                    visible[slot * 21 : slot * 21 + 21] = True
                side = settings.resolution
                masks.append(hand_hull_mask(joints, visible, side, side))
                stored = cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA)
                cv2.imwrite(str(scratch / f"{clip.clip_id}_{len(masks)}.png"), stored)
        capture.release()
        if masks:
            union = union_mask(np.stack(masks)).astype(np.uint8) * 255
            cv2.imwrite(str(scratch / f"{clip.clip_id}_mask.png"), union)
    return time.perf_counter() - began
