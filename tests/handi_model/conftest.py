import numpy as np
import pytest
import torch

from handi_model.batch import Batch, encode_clips
from handi_model.config import ModelConfig
from handi_model.create import new_pipeline
from handi_model.masks import hand_hull_mask
from handi_model.pipeline import HandiPipeline


@pytest.fixture(scope="session")
def tiny() -> HandiPipeline:
    """The `tiny` preset before any training; tests that train it take `fresh_tiny`."""
    return _new()


@pytest.fixture
def fresh_tiny() -> HandiPipeline:
    return _new()


def _new() -> HandiPipeline:
    torch.manual_seed(0)
    pipe = new_pipeline(ModelConfig.of("tiny"))
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="session")
def scene() -> np.ndarray:
    """(64, 64, 3) float32 in [0, 1]: a table with a box on it."""
    y, x = np.mgrid[:64, :64] / 64
    picture = np.stack([0.6 + 0.2 * x, 0.5 + 0.1 * y, 0.4 + 0.1 * x * y], -1)
    picture[24:44, 20:40] = (0.2, 0.4, 0.7)
    return picture.astype(np.float32)


@pytest.fixture(scope="session")
def two_clips(tiny, sample_frames, detector) -> Batch:
    """Two clips of 4 frames with real rendered hands: one with its hands, one without any."""
    found = detector(torch.from_numpy(sample_frames[:4]))
    small = torch.nn.functional.interpolate(
        torch.from_numpy(sample_frames[:4]).permute(0, 3, 1, 2).float(), (64, 64), mode="area"
    )
    frames = small.permute(0, 2, 3, 1).byte().numpy()
    masks = np.stack(
        [hand_hull_mask(j, v, 64, 64) for j, v in zip(found.joints, found.visible, strict=True)]
    )
    detected = found.visible.reshape(4, 2, 21).any(2).numpy()
    assert detected.all(), "the rendered clip shows both hands on each of its first frames"
    return encode_clips(
        tiny,
        np.stack([frames, frames[::-1].copy()]),
        np.stack([masks, np.zeros_like(masks)]),
        np.stack([found.joints.numpy(), np.zeros((4, 42, 2), np.float32)]),
        np.stack([detected, np.zeros_like(detected)]),
        ["lift box", "open lid"],
    )
