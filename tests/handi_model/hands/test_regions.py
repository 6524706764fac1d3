import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from handi_model.hands import regions_from_joints
from handi_model.hands.regions import FIRM, same_hand
from tests.handi_model.hands.conftest import NeverWaiting

HEIGHT, WIDTH = 270, 480

# Joints that MediaPipe 1.2.2 in its mode VIDEO took from a network whose answer was made up, and
# the region, in pixels and radians, in which it then looked for them on the next frame.
RECORDED_JOINTS = [
    *((0.7977, 0.2406), (0.6383, 0.1891), (0.8763, 0.5022), (0.8157, 0.4430), (0.8117, 0.5385)),
    *((0.8267, 0.1072), (0.8386, 0.1165), (0.8153, 0.1907), (0.8680, 0.3364), (0.7238, 0.3400)),
    *((0.6412, 0.2372), (0.8269, 0.4012), (0.7987, 0.2922), (0.9250, 0.5138), (0.8307, 0.4012)),
    *((0.8169, 0.2872), (0.7002, 0.4860), (0.7728, 0.2692), (0.7951, 0.5242), (0.8752, 0.2497)),
    (0.7847, 0.2695),
]
RECORDED_REGION = (375.303, 97.075, 267.007, 3.0962)


def hand(x: float = 240, y: float = 135, size: float = 60, angle: float = 0.0) -> torch.Tensor:
    """21 joints of a flat upright hand about (x, y), turned clockwise: (21, 2) pixels."""
    wrist = torch.tensor([[0.0, 1.0]])
    thumb = torch.tensor([[-0.4, 0.7], [-0.6, 0.4], [-0.7, 0.2], [-0.8, 0.0]])
    fingers = [
        torch.tensor([[across, 0.1], [across, -0.3], [across, -0.6], [across, -0.9]])
        for across in (-0.3, 0.0, 0.3, 0.6)
    ]
    upright = torch.cat([wrist, thumb, *fingers]) * size
    turn = torch.tensor([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    return upright @ turn + torch.tensor([x, y])


def regions_of(left: torch.Tensor | None, right: torch.Tensor | None) -> torch.Tensor:
    joints = torch.full((1, 42, 2), float("nan"))
    visible = torch.zeros(1, 42, dtype=torch.bool)
    for slot, pixels in enumerate((left, right)):
        if pixels is not None:
            joints[0, slot * 21 : slot * 21 + 21] = pixels / torch.tensor([WIDTH, HEIGHT])
            visible[0, slot * 21 : slot * 21 + 21] = True
    return regions_from_joints(joints, visible, HEIGHT, WIDTH)[0]


def test_the_region_is_the_one_that_mediapipe_refines_from_its_joints():
    joints = torch.tensor(RECORDED_JOINTS) * torch.tensor([WIDTH, HEIGHT])
    _, region = regions_of(None, joints)
    # The recorded joints are rounded to 0.05 pixels.
    assert torch.allclose(region, torch.tensor(RECORDED_REGION), atol=0.2)
    assert region[3] == pytest.approx(RECORDED_REGION[3], abs=2e-3)


@given(st.floats(0, 480), st.floats(0, 270), st.floats(10, 100), st.floats(-3.1, 3.1))
def test_the_region_follows_the_hand_s_place_size_and_direction(x, y, size, angle):
    at_rest = regions_of(hand(0, 0, 1), None)[0]
    region = regions_of(hand(x, y, size, angle), None)[0]
    assert region[3] == pytest.approx(angle, abs=1e-3)
    assert region[2] == pytest.approx(size * at_rest[2].item(), rel=1e-3)
    offset = torch.hypot(region[0] - x, region[1] - y)
    assert offset == pytest.approx(size * at_rest[:2].norm().item(), abs=0.05)


def test_a_hand_that_is_not_wholly_visible_has_no_region_and_leaves_the_other_alone():
    regions = regions_of(None, hand())
    assert regions[0].tolist() == [0, 0, 0, 0]
    assert torch.equal(regions[1], regions_of(hand(), hand())[1])
    joints, visible = torch.rand(1, 42, 2), torch.ones(1, 42, dtype=torch.bool)
    visible[0, FIRM[4]] = False
    assert not regions_from_joints(joints, visible, HEIGHT, WIDTH)[0, 0].any()


def test_joints_keep_a_finite_gradient_where_a_hand_is_absent():
    joints = torch.zeros(2, 42, 2, requires_grad=True)
    visible = torch.zeros(2, 42, dtype=torch.bool)
    regions_from_joints(joints, visible, HEIGHT, WIDTH).sum().backward()
    assert not joints.grad.any()


def test_regions_never_wait_for_the_device_and_compile_as_one_graph():
    compiled = torch.compile(regions_from_joints, fullgraph=True, backend="eager")
    joints = torch.rand(2, 42, 2, generator=torch.Generator().manual_seed(0))
    visible = torch.tensor([[True] * 42, [True] * 21 + [False] * 21])
    with NeverWaiting():
        regions = regions_from_joints(joints, visible, HEIGHT, WIDTH)
    assert torch.allclose(compiled(joints, visible, HEIGHT, WIDTH), regions)


@pytest.mark.parametrize(
    ("second", "same"),
    [(hand(243, 137), True), (hand(300, 135), False), (hand(angle=3.0), False)],
    ids=["hardly moved", "a hand's width away", "the other way round"],
)
def test_hands_are_one_if_most_of_their_joints_coincide(second, same):
    assert same_hand(hand()[None], second[None]).tolist() == [same]


def test_joints_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match=r"joints must be \(N, 42, 2\) and visible \(N, 42\)"):
        regions_from_joints(torch.zeros(2, 21, 2), torch.zeros(2, 21), HEIGHT, WIDTH)
