from pathlib import Path

import numpy as np
import pytest

from handi_model.hands import HandDetector
from handi_model.hands.model_files import hand_landmarker_task
from pipelines.records import Clip
from pipelines.rendered import CLIPS
from pipelines.video import decode_clips


@pytest.fixture(scope="session")
def hand_model() -> Path:
    return hand_landmarker_task()


@pytest.fixture(scope="session")
def detector(hand_model) -> HandDetector:
    return HandDetector.load(str(hand_model))


@pytest.fixture(scope="session")
def sample_frames() -> np.ndarray:
    """(8, h, w, 3) uint8 RGB of a rendered clip with two hands."""
    video = str(CLIPS / "lift_box_1.mp4")
    clip = Clip("lift_box_1", "folder", "", video, 0.0, None, "lift box")
    return next(iter(decode_clips(video, [clip], 8, 360))).frames
