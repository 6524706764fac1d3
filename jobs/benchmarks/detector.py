"""The torch hand detector: frames and crops a second, beside MediaPipe frame by frame."""

from __future__ import annotations

import copy
import importlib.util
import statistics
import sys
from collections.abc import Callable
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import av
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PositiveInt
from torch import Tensor

from handi_model.device import peak_memory_gb, reset_peak_memory, usable_device
from handi_model.hands import Detection, HandDetector, regions_from_joints
from handi_model.hands.model_files import ModelFileError, hand_landmarker_task
from jobs.benchmarks.measuring import machine, short, timed
from pipelines.rendered import CLIPS

STRIDE = 5
"""Every so many frames of a video are taken: neighbours show the same."""


class Settings(BaseModel):
    """The torch hand detector against MediaPipe's, on the clips that ship or on others."""

    model_config = ConfigDict(extra="forbid")

    device: Literal["cpu", "cuda"] | None = Field(
        None, description="Torch device; a GPU where there is one."
    )
    videos: str | None = Field(
        None, description="Path of a folder with local MP4 files; the rendered clips by default."
    )
    frames: int = Field(64, ge=1, description="Frames to detect hands on.")
    short_side: int = Field(360, ge=32, description="Frames are shrunk to it, pixels.")
    batch_sizes: list[PositiveInt] = Field(
        [1, 8, 32], min_length=1, description="Frames a call, a row each."
    )
    compile: bool = Field(True, description="Measure compiled networks too.")
    mediapipe: bool = Field(True, description="Measure MediaPipe too, where it is installed.")
    hand_model: str | None = Field(None, description="Path of hand_landmarker.task.")
    repeats: int = Field(3, ge=1, description="Timed passes of a row; their median counts.")
    warm_up: int = Field(1, ge=0, description="Passes before the clock starts; they compile.")
    threads: int | None = Field(None, ge=1, description="Threads of torch on the processor.")
    result: str | None = Field(None, description="JSON file to write the figures to.")


def measure(settings: Settings) -> dict[str, Any]:
    """Measure every row; frames start in the processor's memory.

    Raises:
        ValueError: if device, videos or hand model are not there, or there are too few frames.
    """
    device = usable_device(settings.device)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    frames = read_frames(settings.videos, settings.frames, settings.short_side)
    if max(settings.batch_sizes) > len(frames):
        raise ValueError(f"batch_sizes: {max(settings.batch_sizes)} of {len(frames)} frames")
    try:
        task = hand_landmarker_task(settings.hand_model)
    except ModelFileError as error:
        raise ValueError(f"hand_model: {error}") from None
    on_processor = HandDetector.load(str(task))
    pictures = torch.from_numpy(frames)
    reference = on_processor(pictures)
    rows = _Rows(settings, device, reference, frames.shape[2:0:-1])

    mediapipe = "left out"
    if settings.mediapipe:
        mediapipe = "not installed"
        if importlib.util.find_spec("mediapipe"):
            mediapipe = version("mediapipe")
            rows.mediapipe(task, frames)
    networks = {"eager": on_processor.to(device)}
    if settings.compile:
        networks["compiled"] = compiled(on_processor)
    regions = regions_from_joints(reference.joints, reference.visible, *frames.shape[1:3])
    for kind, detector in networks.items():
        for size in settings.batch_sizes:
            rows.whole(kind, detector, pictures, size)
        for size in settings.batch_sizes:
            rows.landmarks(kind, detector, pictures[:size], regions[:size])
    return {
        **machine(device),
        "settings": settings.model_dump(exclude={"result"}),
        "mediapipe": mediapipe,
        "frames": len(frames),
        "frame_size": list(frames.shape[2:0:-1]),
        "hands_found": int((reference.score > 0).sum()),
        "distances_are": "of joints from the eager torch result on the processor, in pixels, over "
        "the hands that both see",
        "rows": rows.rows,
    }


def read_frames(videos: str | None, count: int, short_side: int) -> NDArray[np.uint8]:
    """(N, h, w, 3) RGB with N at most `count`, as many of each video as the others have.

    Raises:
        ValueError: if there are no videos, or they differ in shape.
    """
    paths = sorted((Path(videos) if videos else CLIPS).glob("*.mp4"))
    if not paths:
        raise ValueError(f"videos: {videos} holds no MP4 files")
    each = -(-count // len(paths))
    frames: list[NDArray[np.uint8]] = []
    for path in paths:
        with av.open(str(path)) as container:
            for frame in islice(container.decode(video=0), 0, each * STRIDE, STRIDE):
                scale = min(1.0, short_side / min(frame.width, frame.height))
                to = round(frame.width * scale), round(frame.height * scale)
                picture = frame.to_ndarray(format="rgb24")
                frames.append(cv2.resize(picture, to, interpolation=cv2.INTER_AREA))
        if frames[-1].shape != frames[0].shape:
            raise ValueError(f"videos: {path} has another shape than {paths[0]}")
    return np.stack(frames[:count])


def compiled(detector: HandDetector) -> HandDetector:
    """A copy whose networks are compiled, each without a graph break."""
    faster = copy.deepcopy(detector)
    # Both networks run the same code: a graph each, with and without gradient, and for one picture.
    torch._dynamo.config.recompile_limit = 64
    faster.palm_network.compile(fullgraph=True)
    # There are as many crops as hands: another number must not compile again.
    faster.landmark_network.compile(fullgraph=True, dynamic=True)
    return faster


class _Rows:
    """Measures and collects the rows."""

    def __init__(
        self,
        settings: Settings,
        device: torch.device,
        reference: Detection,
        frame_size: tuple[int, ...],
    ) -> None:
        self.settings = settings
        self.device = device
        self.reference = reference
        self.pixels = np.array(frame_size)
        self.rows: list[dict[str, Any]] = []

    def whole(self, kind: str, detector: HandDetector, frames: Tensor, size: int) -> None:
        def call() -> Detection:
            found = [detector(part) for part in frames.split(size)]
            return Detection(*(torch.cat(parts).cpu() for parts in zip(*found, strict=True)))

        found = self._add("whole detector", kind, "frames", size, len(frames), call)
        self.rows[-1].update(
            agreement(
                pixel_hands(found.joints.numpy(), found.visible.numpy(), self.pixels),
                self._reference_hands(),
            )
        )

    def landmarks(self, kind: str, detector: HandDetector, frames: Tensor, regions: Tensor) -> None:
        frames = (frames.to(self.device) / 255).requires_grad_()
        regions = regions.to(self.device)
        size = len(frames)

        def forward() -> None:
            with torch.no_grad():
                detector.landmarks(frames, regions)

        def both() -> None:
            joints, _ = detector.landmarks(frames, regions)
            torch.autograd.grad(joints.sum(), frames)

        self._add("landmarks, forward", kind, "crops", size, 2 * size, forward)
        self._add("landmarks, forward and backward", kind, "crops", size, 2 * size, both)

    def mediapipe(self, task: Path, frames: NDArray[np.uint8]) -> None:
        # Here, so that the other rows need no MediaPipe.
        from pipelines.hands import detect_hands, load_landmarker

        load_landmarker(task.read_bytes(), 0.5)
        found = self._add(
            "MediaPipe", "HandLandmarker", "frames", 1, len(frames), lambda: detect_hands(frames)
        )
        hands = [[hand.joints * self.pixels for hand in frame] for frame in found]
        self.rows[-1].update(agreement(hands, self._reference_hands()))

    def _reference_hands(self) -> list[list[NDArray[np.float32]]]:
        return pixel_hands(
            self.reference.joints.numpy(), self.reference.visible.numpy(), self.pixels
        )

    def _add(
        self, what: str, kind: str, unit: str, size: int, count: int, call: Callable[[], Any]
    ) -> Any:
        reset_peak_memory(self.device)
        seconds, found = timed(call, self.device, self.settings.repeats, self.settings.warm_up)
        per_second = count / statistics.median(seconds)
        self.rows.append(
            {
                "what": what,
                "networks": kind,
                "frames_a_call": size,
                "unit": unit,
                "per_second": short(per_second),
                "peak_memory_gb": short(peak_memory_gb(self.device)),
            }
        )
        print(f"{what}, {kind}, {size}: {per_second:.4g} {unit}/s", file=sys.stderr, flush=True)
        return found


def pixel_hands(
    joints: NDArray[np.float32], visible: NDArray[np.bool_], size: NDArray[np.int64]
) -> list[list[NDArray[np.float32]]]:
    """(N, 42, 2) normalised and (N, 42) -> the hands seen on each frame, (21, 2) in pixels."""
    hands = (joints * size).reshape(-1, 2, 21, 2)
    seen: NDArray[np.bool_] = np.all(visible.reshape(-1, 2, 21), axis=2)
    return [list(frame[there]) for frame, there in zip(hands, seen, strict=True)]


def agreement(
    found: list[list[NDArray[np.float32]]], reference: list[list[NDArray[np.float32]]]
) -> dict[str, float | int | None]:
    """How far hands are from the nearest ones of the reference, whatever side they are called.

    Args:
        found, reference: of each frame its hands, (21, 2) in pixels.

    Returns:
        `max_joint_distance` and `median_joint_distance`, None where no frame has hands in both;
        `frames_with_another_count` of hands.
    """
    distances, other_count = [], 0
    for given, expected in zip(found, reference, strict=True):
        other_count += len(given) != len(expected)
        for hand in given:
            to_each = [np.linalg.norm(hand - other, axis=1) for other in expected]
            if to_each:
                distances.append(min(to_each, key=lambda apart: float(apart.mean())))
    joined = np.concatenate(distances) if distances else None
    return {
        "max_joint_distance": None if joined is None else short(joined.max()),
        "median_joint_distance": None if joined is None else short(np.median(joined)),
        "frames_with_another_count": other_count,
    }
