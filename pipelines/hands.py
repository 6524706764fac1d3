"""MediaPipe's hand landmarker, kept at arm's length.

MediaPipe can hang or crash in native code. It therefore lives in a process of its own, which is
given a deadline for each clip, killed when it misses it, and replaced after a number of clips.
The process is spawned, never forked: the landmarker's threads would not survive a fork.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import TimeoutError as DeadlineMissed
from typing import Any

import numpy as np
import tenacity
from numpy.typing import NDArray
from pebble import ProcessExpired, ProcessPool

from pipelines.handedness import Hand

ATTEMPTS = 2
"""Tries a clip gets: a hang is often not the clip's fault."""

MOST_HANDS = 4
"""Hands asked of MediaPipe on a frame, so that a bystander's does not displace the wearer's. On 840
frames of real and rendered clips the first two are those that it gives when asked for two, in the
same time (50 ms); each further hand on a frame costs a run of the landmark network."""

START_UP_S = 120.0
"""What a fresh process may take to import MediaPipe and load the networks, on a busy machine."""


class DetectorError(Exception):
    """The detector hung or died on a clip."""

    def __init__(self, error_type: str, message: str) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.attempts = ATTEMPTS


class HandTracker:
    """Detects up to `MOST_HANDS` hands on each frame, in a process that it owns.

    Args:
        model: contents of `hand_landmarker.task`.
        confidence: detection and presence threshold, [0, 1].
        deadline_s: seconds that one clip may take.
        recycle_after: clips after which the process is replaced.
        prepare, detect: run in the process, once and for each clip.
    """

    def __init__(
        self,
        model: bytes,
        confidence: float = 0.5,
        deadline_s: float = 60.0,
        recycle_after: int = 500,
        prepare: Callable[[bytes, float], None] | None = None,
        detect: Callable[[NDArray[np.uint8]], list[list[Hand]]] | None = None,
    ) -> None:
        self._deadline_s = deadline_s
        self._detect = detect or detect_hands
        self._pool = ProcessPool(
            max_workers=1,
            max_tasks=recycle_after,
            initializer=prepare or start_process,
            initargs=[model, confidence],
            context=multiprocessing.get_context("spawn"),
        )

    def __call__(self, frames: NDArray[np.uint8]) -> list[list[Hand]]:
        """Detect hands on (L, h, w, 3) uint8 RGB frames: a list of hands for each frame.

        Raises:
            DetectorError: if the detector hangs or dies on this clip each time it is tried.
        """
        for attempt in tenacity.Retrying(
            stop=tenacity.stop_after_attempt(ATTEMPTS),
            retry=tenacity.retry_if_exception_type(DetectorError),
            reraise=True,
        ):
            with attempt:
                return self._once(frames)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _once(self, frames: NDArray[np.uint8]) -> list[list[Hand]]:
        future = self._pool.schedule(self._detect, args=[frames], timeout=self._deadline_s)
        try:
            return list(future.result(timeout=self._deadline_s + START_UP_S))
        except DeadlineMissed:
            future.cancel()
            raise DetectorError(
                "DetectorHung",
                f"the hand detector did not finish this clip in {self._deadline_s:g} s; "
                "raise --clip-deadline-s if the machine is slow",
            ) from None
        except ProcessExpired as death:
            raise DetectorError(
                "DetectorCrashed", f"the hand detector died on this clip (exit {death.exitcode})"
            ) from None

    def close(self) -> None:
        self._pool.stop()
        self._pool.join()


_landmarker: Any = None
"""The landmarker of this process, once `load_landmarker` has run."""


def start_process(model: bytes, confidence: float) -> None:
    """Make this process one that only detects hands."""
    # MediaPipe's native code logs its inner workings to standard error, past every log setting.
    # What fails here reaches the parent as an exception, not as output.
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    load_landmarker(model, confidence)


def load_landmarker(model: bytes, confidence: float) -> None:
    """Build this process's landmarker."""
    from mediapipe.tasks.python import BaseOptions, vision

    global _landmarker
    options = vision.HandLandmarkerOptions(
        base_options=BaseOptions(model_asset_buffer=model),
        num_hands=MOST_HANDS,
        min_hand_detection_confidence=confidence,
        min_hand_presence_confidence=confidence,
    )
    _landmarker = vision.HandLandmarker.create_from_options(options)


def detect_hands(frames: NDArray[np.uint8]) -> list[list[Hand]]:
    """Run this process's landmarker on each frame by itself."""
    from mediapipe import Image, ImageFormat

    found = []
    for frame in frames:
        result = _landmarker.detect(Image(image_format=ImageFormat.SRGB, data=frame))
        found.append(
            [
                Hand(
                    np.array([[point.x, point.y] for point in landmarks], np.float32),
                    label[0].score if label[0].category_name == "Right" else 1 - label[0].score,
                )
                for landmarks, label in zip(result.hand_landmarks, result.handedness, strict=True)
            ]
        )
    return found
