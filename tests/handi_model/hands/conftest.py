import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from ai_edge_litert.interpreter import Interpreter
from torch.utils._python_dispatch import TorchDispatchMode

from pipelines.handedness import Hand
from pipelines.hands import HandTracker
from pipelines.records import Clip
from pipelines.video import decode_clips

Reference = Callable[[torch.Tensor], list[np.ndarray]]


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def network_files(hand_model: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(hand_model) as task:
        return {name: task.read(name) for name in task.namelist()}


@pytest.fixture(scope="session")
def frames(sample_frames: np.ndarray) -> torch.Tensor:
    """(8, 270, 480, 3) uint8 with both hands on every frame."""
    return torch.from_numpy(sample_frames)


@pytest.fixture(scope="session")
def mediapipe(hand_model: Path):
    """MediaPipe's own landmarker: frames (L, h, w, 3) to a list of hands for each frame."""
    tracker = HandTracker(hand_model.read_bytes(), confidence=0.5)
    yield tracker
    tracker.close()


@pytest.fixture(scope="session")
def real_clips() -> list[Path]:
    folder = os.environ.get("HANDI_TEST_CLIPS")
    if not folder:
        pytest.skip("HANDI_TEST_CLIPS names no folder of filmed clips")
    return sorted(Path(folder).glob("*.mp4"))


def sampled(video: Path, num_frames: int) -> np.ndarray:
    """(num_frames, h, w, 3) uint8 of a whole video at its own size."""
    clip = Clip(video.stem, "folder", "", str(video), 0.0, None, "")
    return next(iter(decode_clips(str(video), [clip], num_frames, 10_000))).frames


def tflite_runtime(model: bytes) -> Reference:
    """TensorFlow Lite's own interpreter of a network, one picture at a time."""
    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()

    def run(pictures: torch.Tensor) -> list[np.ndarray]:
        results = []
        for picture in pictures:
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture[None])
            interpreter.invoke()
            outputs = interpreter.get_output_details()
            results.append([interpreter.get_tensor(output["index"]) for output in outputs])
        return [np.concatenate(parts) for parts in zip(*results, strict=True)]

    return run


def disagreement(ours: torch.Tensor, theirs: Hand, size: np.ndarray) -> float:
    """Mean distance of a hand's joints, in the hand's size."""
    expected = theirs.joints * size
    distance = np.linalg.norm(ours.numpy() * size - expected, axis=1).mean()
    return float(distance / np.ptp(expected, axis=0).max())


class NeverWaiting(TorchDispatchMode):
    """Refuses what makes the host wait for a GPU: reading a value, counting, copying constants."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().removeprefix("aten::").partition(".")[0]
        assert name not in ("_local_scalar_dense", "nonzero", "masked_select", "lift_fresh"), name
        if name in ("index", "index_put_"):
            indices = [index for index in args[1] if index is not None]
            assert all(index.dtype == torch.long for index in indices), "an index is a mask"
        return func(*args, **(kwargs or {}))
