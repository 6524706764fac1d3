import numpy as np
import pytest
import tflite
import torch

from handi_model.hands.crops import cut, letterbox
from handi_model.hands.tflite_graph import TfliteGraph
from tests.closeness import apart
from tests.handi_model.hands.conftest import sampled, tflite_runtime

PALM, LANDMARK = "hand_detector.tflite", "hand_landmarks_detector.tflite"

ROUNDING = 5e-3
"""Outputs reach some hundred pixels, and processors add up in orders of their own: between 1.6e-4
and 1.1e-3 have been seen."""


def palm_inputs(frames: torch.Tensor) -> torch.Tensor:
    return letterbox(frames, 192)


def landmark_inputs(frames: torch.Tensor, detector) -> torch.Tensor:
    """Crops around the hands that the detector finds."""
    found = detector(frames)
    height, width = frames.shape[1:3]
    at, slot = found.visible[:, ::21].nonzero(as_tuple=True)
    joints = found.joints.reshape(-1, 2, 21, 2)[at, slot] * torch.tensor([width, height])
    low, high = joints.amin(1), joints.amax(1)
    side = (high - low).amax(1, keepdim=True) * 1.6
    regions = torch.cat([(low + high) / 2, side, torch.linspace(-3, 3, len(at))[:, None]], 1)
    return cut(frames, at, regions, 224)


def assert_agrees(model: bytes, pictures: torch.Tensor) -> None:
    """Every output of the network, in its own unit (pixels of the picture, or a score)."""
    theirs = tflite_runtime(model)(pictures)
    with torch.no_grad():
        ours = TfliteGraph(model)(pictures)
    assert len(ours) == len(theirs)
    for mine, reference in zip(ours, theirs, strict=True):
        assert mine.shape == reference.shape
        assert np.abs(mine.numpy() - reference).max() < ROUNDING


@pytest.mark.parametrize("name", [PALM, LANDMARK])
def test_both_networks_agree_with_the_tflite_runtime_on_noise(name, network_files):
    side = 192 if name == PALM else 224
    noise = torch.rand(3, side, side, 3, generator=torch.Generator().manual_seed(0))
    assert_agrees(network_files[name], noise)


def test_both_networks_agree_with_the_tflite_runtime_on_rendered_hands(
    network_files, frames, detector
):
    assert_agrees(network_files[PALM], palm_inputs(frames[:3]))
    assert_agrees(network_files[LANDMARK], landmark_inputs(frames[:3], detector))


def test_both_networks_agree_with_the_tflite_runtime_on_filmed_hands(
    network_files, real_clips, detector
):
    for video in real_clips:
        frames = torch.from_numpy(sampled(video, 5))
        assert_agrees(network_files[PALM], palm_inputs(frames))
        crops = landmark_inputs(frames, detector)
        assert len(crops)
        assert_agrees(network_files[LANDMARK], crops)


@pytest.mark.parametrize("name", [PALM, LANDMARK])
def test_a_batch_gives_what_its_pictures_give_alone(name, network_files):
    network = TfliteGraph(network_files[name])
    pictures = torch.rand(3, *network.input_shape, generator=torch.Generator().manual_seed(0))
    alone = [network(picture[None]) for picture in pictures]
    for together, parts in zip(network(pictures), zip(*alone, strict=True), strict=True):
        assert torch.allclose(together, torch.cat(parts), rtol=0, atol=ROUNDING)


def test_the_landmark_network_compiles_as_one_graph_and_keeps_its_gradient(network_files):
    network = TfliteGraph(network_files[LANDMARK])
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")
    gradients = []
    for run in (network, compiled):
        pictures = torch.full((2, *network.input_shape), 0.5, requires_grad=True)
        run(pictures)[0].sum().backward()
        gradients.append(pictures.grad)
    assert gradients[0].abs().max() > 0
    assert apart(*gradients) < 1e-4


def test_the_weights_are_frozen_and_move_with_the_module(network_files):
    network = TfliteGraph(network_files[LANDMARK])
    assert not list(network.parameters())
    assert not any(weight.requires_grad for weight in network.buffers())
    network.to(torch.bfloat16)
    outputs = network(torch.zeros(1, *network.input_shape, dtype=torch.bfloat16))
    assert {output.dtype for output in outputs} == {torch.bfloat16}


def test_an_operator_that_is_not_known_is_named(network_files):
    model = bytearray(network_files[LANDMARK])
    parsed = tflite.Model.GetRootAs(model, 0)
    for at in range(parsed.OperatorCodesLength()):
        table = parsed.OperatorCodes(at)._tab
        code, deprecated = table.Offset(10), table.Offset(4)
        if parsed.OperatorCodes(at).DeprecatedBuiltinCode() == tflite.BuiltinOperator.LOGISTIC:
            model[table.Pos + deprecated] = tflite.BuiltinOperator.TANH
            if code:
                model[table.Pos + code] = tflite.BuiltinOperator.TANH
    with pytest.raises(ValueError, match="operator TANH is not known; known are ADD, "):
        TfliteGraph(bytes(model))


def test_a_file_that_is_no_network_is_refused():
    with pytest.raises(ValueError, match="not a tflite file"):
        TfliteGraph(b"PK\x03\x04 a zip file")


def test_pictures_of_another_size_are_refused(network_files):
    with pytest.raises(ValueError, match=r"takes \(N, 224, 224, 3\), got \(1, 192, 192, 3\)"):
        TfliteGraph(network_files[LANDMARK])(torch.zeros(1, 192, 192, 3))
