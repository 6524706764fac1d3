from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from handi_model.hands import HandDetector
from handi_model.hands.model_files import hand_landmarker_task
from pipelines.records import Clip
from pipelines.rendered import CLIPS
from pipelines.video import decode_clips

# An example may take as long as a busy machine needs.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first."""
    turns = ["tests/integration/test_", "tests/integration/serve/", "tests/"]
    items.sort(key=lambda item: [item.nodeid.startswith(turn) for turn in turns].index(True))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Files run side by side; their tests share what they prepare.

    Those of jobs on Ray run by turns: they would find one another's clusters.
    """
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = str(super()._split_scope(nodeid))
            return "jobs" if file.startswith("tests/integration/test_") else file

    return Scheduling(config, log)


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
