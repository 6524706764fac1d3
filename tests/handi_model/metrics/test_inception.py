import os
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from handi_model.metrics import inception
from handi_model.metrics.inception import InceptionFeatures
from handi_model.metrics.weights import WeightsError

REAL = sorted(Path(os.environ.get("HANDI_TEST_WEIGHTS", "/nowhere")).glob("inception*.pt"))


class Reference(nn.Module):
    """Called as NVIDIA's file is: 8-bit pictures of any size."""

    def __init__(self, features: int = 2048):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.mix = nn.Parameter(torch.randn(features, 48, generator=generator))

    def forward(self, img: Tensor, return_features: bool = False, use_fp16: bool = False) -> Tensor:
        assert img.dtype == torch.uint8
        assert return_features
        return functional.adaptive_avg_pool2d(img.float(), (4, 4)).flatten(1) @ self.mix.T


class Bare(nn.Module):
    """Called as the network without its preprocessing is."""

    def __init__(self):
        super().__init__()
        self.net = Reference()

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1:] == (3, 299, 299)
        return functional.adaptive_avg_pool2d(x, (4, 4)).flatten(1) @ self.net.mix.T


@pytest.fixture(scope="module", params=[Reference, Bare])
def network(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "net.pt"
    torch.jit.script(request.param()).save(str(path))
    return InceptionFeatures.load(str(path))


def a_clip(count, height=40, width=56):
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), np.uint8)


def tensorflow_resize(picture, side):
    """(H, W, 3) -> (side, side, 3) as tf.image.resize_bilinear of TensorFlow 1, pixel by pixel."""
    for axis in (0, 1):
        size = picture.shape[axis]
        at = np.arange(side) * size / side
        low = np.floor(at).astype(int)
        share = (at - low).reshape([-1 if axis == side_ else 1 for side_ in (0, 1, 2)])
        below, above = (picture.take(np.minimum(index, size - 1), axis) for index in (low, low + 1))
        picture = below + share * (above - below)
    return picture


@given(st.integers(2, 400), st.integers(2, 400))
@settings(max_examples=20)
def test_pictures_are_resized_as_tensorflow_1_does(height, width):
    picture = a_clip(1, height, width)[0].astype(np.float64)
    resized = inception.resize(torch.from_numpy(picture).permute(2, 0, 1)[None])
    np.testing.assert_allclose(
        resized[0].permute(1, 2, 0).numpy(), tensorflow_resize(picture, 299), atol=1e-6
    )


def test_the_reference_takes_rgb_pictures_as_they_are(tmp_path):
    module = Reference()
    torch.jit.script(module).save(str(tmp_path / "net.pt"))
    clip = a_clip(3)
    pictures = torch.from_numpy(clip).permute(0, 3, 1, 2)
    expected = module(pictures, return_features=True).detach().numpy()
    features = InceptionFeatures.load(str(tmp_path / "net.pt"))(clip)
    np.testing.assert_allclose(features, expected, rtol=1e-4, atol=1e-2)


def test_the_bare_network_takes_pictures_of_299_from_minus_1_to_127_128ths(tmp_path):
    module = Bare()
    torch.jit.script(module).save(str(tmp_path / "net.pt"))
    clip = a_clip(2)
    resized = np.stack([tensorflow_resize(frame.astype(np.float64), 299) for frame in clip])
    pictures = torch.from_numpy((resized - 128) / 128).float().permute(0, 3, 1, 2)
    features = InceptionFeatures.load(str(tmp_path / "net.pt"))(clip)
    np.testing.assert_allclose(features, module(pictures).detach().numpy(), atol=1e-4)


def test_each_frame_has_2048_features_that_do_not_depend_on_the_others(network, monkeypatch):
    monkeypatch.setattr(inception, "FRAMES_AT_ONCE", 4)
    clip = a_clip(10)
    features = network(clip)
    assert features.shape == (10, 2048)
    assert features.dtype == np.float32
    alone = np.concatenate([network(frame[None]) for frame in clip])
    np.testing.assert_allclose(features, alone, rtol=1e-4, atol=1e-2)


def test_no_frames_have_no_features(network):
    assert network(a_clip(0)).shape == (0, 2048)


def test_the_origin_is_the_named_file(network):
    assert network.origin.name == "FID Inception"
    assert network.origin.path.endswith("net.pt")
    assert not network.origin.reference


def test_a_file_that_is_no_torchscript_is_refused_in_one_line(tmp_path):
    (tmp_path / "net.pt").write_bytes(b"<html>not found</html>")
    with pytest.raises(WeightsError, match=r"net\.pt cannot be used: no TorchScript") as error:
        InceptionFeatures.load(str(tmp_path / "net.pt"))
    assert "--inception" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "foreign", [Reference(features=1008), nn.Conv2d(8, 8, 1), nn.Identity(), nn.Sequential()]
)
def test_another_network_is_refused_in_one_line(foreign, tmp_path):
    torch.jit.script(foreign).save(str(tmp_path / "net.pt"))
    with pytest.raises(WeightsError, match=r"net\.pt cannot be used") as error:
        InceptionFeatures.load(str(tmp_path / "net.pt"))
    assert "--inception" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.skipif(not REAL, reason="HANDI_TEST_WEIGHTS names no folder with inception*.pt")
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_the_published_weights_give_the_recorded_features(path):
    """Recorded with the bare network: the reference must agree with what is made around it."""
    down, across = np.mgrid[:200, :256]
    frame = np.stack([down, across, 255 - down], axis=-1).astype(np.uint8)
    features = InceptionFeatures.load(str(path))(frame[None])[0]
    assert features.min() >= 0
    np.testing.assert_allclose(features.mean(), 0.18299, atol=1e-3)
    np.testing.assert_allclose(features[[83, 271, 1669]], [3.6984, 4.2284, 4.4907], atol=0.01)
