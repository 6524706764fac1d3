"""Measure speed side by side with what it is compared to, in one run.

python jobs/benchmark.py preprocess --videos URL
"""

from __future__ import annotations

import json
import os
import sys
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
from jobs.cli import load, stop
from pipelines.annotate import find_hands
from pipelines.annotations import AnnotationsError, folder
from pipelines.hands import HandTracker, detect_hands, load_landmarker
from pipelines.preprocess import run, start_ray
from pipelines.records import Clip
from pipelines.rendered import CLIPS, true_joints
from pipelines.settings import PreprocessSettings
from pipelines.video import DecodedClip, decode_clips


class PreprocessBenchmark(BaseModel):
    """Preprocessing against a plain loop: OpenCV decodes, MediaPipe detects, PNGs are written."""

    model_config = ConfigDict(extra="forbid")

    videos: str = Field(description="Path of a folder with local videos.")
    clips: int = Field(200, ge=20, description="Stretches to process, taken in turn.")
    clip_s: float = Field(2.0, gt=0, description="Length of a stretch, seconds.")
    frames: int = Field(16, ge=2, description="Frames per clip.")
    resolution: int = Field(256, ge=32, description="Side of a stored frame, pixels.")
    hand_model: str | None = Field(None, description="Path of hand_landmarker.task.")
    result: str | None = Field(None, description="JSON file to write the figures to.")


class JointsBenchmark(BaseModel):
    """MediaPipe's joints against the true ones of the rendered clips."""

    model_config = ConfigDict(extra="forbid")

    hand_model: str | None = Field(None, description="Path of hand_landmarker.task.")
    result: str | None = Field(None, description="JSON file to write the figures to.")


def main() -> None:
    benchmarks: dict[str, tuple[Any, Any]] = {
        "preprocess": (PreprocessBenchmark, preprocess),
        "joints": (JointsBenchmark, joints),
    }
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in benchmarks:
        stop(f"benchmark: {name or 'no name'} given; one of {', '.join(benchmarks)}")
    model, measure = benchmarks[name]
    settings = load(model, "benchmark", sys.argv[2:])
    figures = {"command": " ".join(sys.argv), "cpus": os.cpu_count(), **measure(settings)}
    print(json.dumps(figures, indent=2))
    if settings.result:
        Path(settings.result).write_text(json.dumps(figures, indent=2))


def preprocess(settings: PreprocessBenchmark) -> dict[str, Any]:
    """Clips a second of the job and of the plain loop, over the same frames.

    The job's start-up (processes, imports, networks) is measured by a run over one clip a worker
    and taken off; the loop's networks are loaded before its clock starts. The figure with the
    start-up is given too.
    """
    clips = stretches(settings)
    model = hand_landmarker_task(settings.hand_model)
    with tempfile.TemporaryDirectory() as scratch:
        plain_s = plain_loop(clips, settings, model.read_bytes(), Path(scratch))

        start_ray()
        workers = int(ray.cluster_resources()["CPU"])

        def job(name: str, some: list[Clip]) -> float:
            job_settings = PreprocessSettings(
                videos=settings.videos,
                output=f"{scratch}/{name}",
                frames=settings.frames,
                resolution=settings.resolution,
                hand_model=settings.hand_model,
                min_hand_rate=0.0,
                rows_per_file=32,
            )
            return run(some, [], job_settings, "benchmark").seconds

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


def stretches(settings: PreprocessBenchmark) -> list[Clip]:
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


def plain_loop(
    clips: list[Clip], settings: PreprocessBenchmark, model: bytes, scratch: Path
) -> float:
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
                for slot, hand in enumerate(hands):
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


def joints(settings: JointsBenchmark) -> dict[str, Any]:
    """Detection rate and joint error on every frame of the clips that ship."""
    truth = true_joints()
    tracker = HandTracker(hand_landmarker_task(settings.hand_model).read_bytes())
    rates, in_hand_sizes, normalised = {}, [], []
    for name, true in truth.items():
        uri = str(CLIPS / f"{name}.mp4")
        clip = Clip(name, "folder", "", uri, 0.0, None, "")
        decoded = next(iter(decode_clips(uri, [clip], len(true), 360)))
        assert isinstance(decoded, DecodedClip)
        hands = find_hands(decoded.frames, tracker, stride=1)
        rates[name] = round(hands.rate, 3)
        for slot in (slice(0, 21), slice(21, 42)):
            seen = hands.detected[:, slot.start // 21] & np.isfinite(true[:, slot]).all(axis=(1, 2))
            # Distances in pixels of the video, so that both axes count alike.
            pixels = np.array(decoded.frames.shape[2:0:-1])
            error = np.linalg.norm((hands.joints - true)[seen, slot] * pixels, axis=2)
            size = np.ptp(true[seen, slot] * pixels, axis=1).max(axis=1, keepdims=True)
            in_hand_sizes.append((error / size).ravel())
            normalised.append(np.linalg.norm((hands.joints - true)[seen, slot], axis=2).ravel())
    tracker.close()
    return {
        "frames": sum(len(true) for true in truth.values()),
        "hand_rate": rates,
        "mean_hand_rate": round(float(np.mean(list(rates.values()))), 3),
        "median_joint_error_in_hand_sizes": _median(in_hand_sizes),
        "median_joint_error_normalised": _median(normalised),
    }


def _median(parts: list[np.ndarray]) -> float:
    return round(float(np.median(np.concatenate(parts))), 4)


if __name__ == "__main__":
    main()
