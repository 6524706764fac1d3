import subprocess
import sys

import numpy as np
import pytest
import torch

from handi_model.hands import HandDetector, regions_from_joints
from handi_model.hands.detector import right_comes_first
from handi_model.hands.model_files import ModelFileError
from pipelines.handedness import Hand
from pipelines.rendered import CLIPS
from tests.handi_model.hands.conftest import NeverWaiting, disagreement, sampled


def both_slots(hands: list[Hand]) -> list[Hand | None]:
    """Left and right hand; of two with one label the more certain keeps its slot."""
    slots: list[Hand | None] = [None, None]
    for hand in sorted(hands[:2], key=lambda hand: -abs(hand.right - 0.5)):
        wanted = int(hand.right > 0.5)
        slots[wanted if slots[wanted] is None else 1 - wanted] = hand
    return slots


def compare(detector, mediapipe, frames: np.ndarray) -> tuple[int, list[float]]:
    """Frames whose left and right hand both find or both miss, and the hands' disagreement."""
    found = detector(torch.from_numpy(frames))
    size = np.array([frames.shape[2], frames.shape[1]])
    agreeing, distances = 0, []
    for at, hands in enumerate(mediapipe(frames)):
        slots = both_slots(hands)
        seen = found.visible[at, ::21].tolist()
        agreeing += seen == [hand is not None for hand in slots]
        for slot, hand in enumerate(slots):
            if hand is not None and seen[slot]:
                joints = found.joints[at, slot * 21 : slot * 21 + 21]
                distances.append(disagreement(joints, hand, size))
    return agreeing, distances


def assert_agrees(detector, mediapipe, videos, num_frames: int) -> None:
    agreeing = 0
    for video in videos:
        agree, distances = compare(detector, mediapipe, sampled(video, num_frames))
        assert np.median(distances) < 0.01, f"{video.name}: {np.median(distances):.4f}"
        agreeing += agree
    share = agreeing / (num_frames * len(videos))
    assert share >= 0.97, f"the same hands on {share:.1%} of the frames"


def test_rendered_clips_give_the_hands_that_mediapipe_finds(detector, mediapipe):
    assert_agrees(detector, mediapipe, sorted(CLIPS.glob("*.mp4")), 5)


def test_filmed_clips_give_the_hands_that_mediapipe_finds(detector, mediapipe, real_clips):
    assert_agrees(detector, mediapipe, real_clips, 30)


def test_a_batch_gives_what_its_frames_give_alone(detector, frames):
    together = detector(frames[:5])
    alone = [detector(frame[None]) for frame in frames[:5]]
    assert together.visible.all()
    for whole, parts in zip(together, zip(*alone, strict=True), strict=True):
        assert torch.allclose(whole.float(), torch.cat(parts).float(), atol=1e-4)


def test_bytes_and_fractions_give_the_same_hands(detector, frames):
    of_bytes, of_fractions = detector(frames[:2]), detector(frames[:2].float() / 255)
    assert of_bytes.visible.all()
    assert all(map(torch.equal, of_bytes, of_fractions))


def test_arrays_give_what_tensors_give(detector, frames):
    """Bytes and fractions of each kind, and however they lie in memory."""
    expected = detector(frames[:1])
    assert expected.visible.all()
    eight_bit = frames[:1].numpy()
    read_only = eight_bit.copy()
    read_only.flags.writeable = False
    turned = eight_bit[:, ::-1, ::-1].copy()[:, ::-1, ::-1]
    fractions = [(eight_bit / 255).astype(kind) for kind in ("f2", "f4", "f8", ">f4")]
    for array in (eight_bit, read_only, turned, *fractions):
        found = detector(array)
        assert all(isinstance(values, torch.Tensor) for values in found)
        assert (found.visible == expected.visible).all()
        assert (found.joints - expected.joints).abs().max() < 1e-3
    assert detector(eight_bit[:0]).joints.shape == (0, 42, 2)


def test_joints_in_known_regions_are_found_in_arrays_too(detector, frames, known):
    pictures, regions = (values[:1] for values in known)
    for tensor in (pictures, pictures.double(), frames[:1]):
        joints, presence = detector.landmarks(tensor, regions)
        again, present = detector.landmarks(tensor.numpy(), regions.numpy())
        assert isinstance(again, torch.Tensor) and again.dtype == torch.float32
        assert torch.allclose(again, joints, atol=1e-5)
        assert torch.allclose(present, presence, atol=1e-4)


def test_with_one_hand_covered_the_other_keeps_its_slot(detector, frames):
    """The rendered hands have the picture's left and right half to themselves."""
    for slot in (0, 1):
        covered = frames[3:5].clone()
        covered[:, :, slice(240, None) if slot == 0 else slice(240)] = 0
        found = detector(covered)
        assert found.visible.reshape(2, 2, 21)[:, slot].all()
        assert (found.score[:, slot] > 0.5).all()
        assert not found.visible.reshape(2, 2, 21)[:, 1 - slot].any()
        assert not found.joints.reshape(2, 2, 21, 2)[:, 1 - slot].any()
        assert not found.score[:, 1 - slot].any()


def test_a_picture_without_hands_and_a_batch_without_pictures_have_none(detector):
    empty = detector(torch.full((2, 90, 160, 3), 128, dtype=torch.uint8))
    assert not any(values.any() for values in empty)
    assert empty.joints.shape == (2, 42, 2)
    assert detector(torch.zeros(0, 90, 160, 3)).visible.shape == (0, 42)


def test_of_two_hands_with_one_label_the_more_certain_keeps_it():
    right = torch.tensor([[0.9, 0.6], [0.6, 0.9], [0.1, 0.3], [0.3, 0.1], [0.8, 0.2], [0.7, 0.0]])
    seen = torch.ones(6, 2, dtype=torch.bool)
    seen[5, 0] = False
    expected = [True, False, False, True, True, True]
    assert right_comes_first(seen, right).tolist() == expected


@pytest.fixture(scope="module")
def known(detector, frames):
    """Two frames in [0, 1] and the regions around their hands."""
    found = detector(frames[:2])
    return frames[:2].float() / 255, regions_from_joints(found.joints, found.visible, 270, 480)


def test_joints_in_known_regions_are_those_that_the_detector_finds(detector, frames, known):
    found = detector(frames[:2])
    joints, presence = detector.landmarks(*known)
    pixels = (joints - found.joints) * torch.tensor([480.0, 270.0])
    # The region is another one than the first, and the network's answer depends on it a little.
    assert pixels.norm(dim=-1).mean() < 8
    assert (presence > 0.5).all()


def test_joints_follow_shifted_targets_when_pixels_descend_their_gradient(detector, known):
    frames, regions = (values[:1] for values in known)
    with torch.no_grad():
        targets = detector.landmarks(frames, regions)[0] + torch.tensor([0.02, -0.02])
    pixels = frames.clone().requires_grad_()
    optimiser = torch.optim.Adam([pixels], lr=0.01)
    distances = []
    for _ in range(25):
        joints, _ = detector.landmarks(pixels, regions)
        distance = (joints - targets).norm(dim=-1).mean()
        optimiser.zero_grad()
        distance.backward()
        optimiser.step()
        pixels.data.clamp_(0, 1)
        distances.append(distance.item())
    assert distances[-1] < distances[0] / 2


def test_an_absent_hand_gives_zeros_and_takes_no_part_in_the_gradient(detector, known):
    frames, regions = known[0].clone().requires_grad_(), known[1].clone()
    regions[0] = torch.tensor([float("nan"), 3.0, 0.0, 1.0])
    regions[1, 0] = 0
    joints, presence = detector.landmarks(frames, regions)
    assert not joints[0].any() and not joints[1, :21].any() and joints[1, 21:].all()
    assert presence.bool().tolist() == [[False, False], [False, True]]
    (joints.sum() + presence.sum()).backward()
    assert frames.grad.isfinite().all()
    assert not frames.grad[0].any()
    x, _, side, _ = regions[1, 1].tolist()
    reach = int(side / 2**0.5) + 1
    assert frames.grad[1, :, int(x) - reach : int(x) + reach].any()
    assert not frames.grad[1, :, : max(int(x) - reach, 0)].any()


def test_flat_regions_in_any_order_give_the_same_joints(detector, known):
    frames, regions = known
    joints, presence = detector.landmarks(frames, regions)
    frame_index = torch.tensor([1, 0, 1])
    flat, flat_presence = detector.crop_landmarks(
        frames, frame_index, regions[[1, 0, 1], [0, 1, 1]]
    )
    expected = (joints * torch.tensor([480.0, 270.0])).reshape(2, 2, 21, 2)[[1, 0, 1], [0, 1, 1]]
    assert torch.allclose(flat, expected, atol=0.01)
    assert torch.allclose(flat_presence, presence[[1, 0, 1], [0, 1, 1]], atol=1e-4)
    none, _ = detector.crop_landmarks(frames, frame_index[:0], regions[:0, 0])
    assert none.shape == (0, 21, 2)


def test_joints_never_wait_for_the_device_and_compile_as_one_graph(detector, known):
    compiled = torch.compile(detector.landmarks, fullgraph=True, backend="eager")
    with NeverWaiting():
        joints, _ = detector.landmarks(*known)
    assert torch.allclose(compiled(*known)[0], joints, atol=1e-5)


def test_an_outer_autocast_does_not_coarsen_the_joints(detector, known):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        coarse, _ = detector.landmarks(*known)
    assert torch.allclose(coarse, detector.landmarks(*known)[0], atol=1e-5)


def test_the_detector_stays_frozen_inside_a_model_that_trains(detector):
    model = torch.nn.ModuleList([detector]).train()
    assert not detector.training
    assert not list(model.parameters())


def test_frames_that_are_no_pictures_are_refused(detector):
    with pytest.raises(ValueError, match=r"frames must be \(N, H, W, 3\), got \(1, 3, 9, 9\)"):
        detector(torch.zeros(1, 3, 9, 9))
    with pytest.raises(ValueError, match="must be uint8, or float in"):
        detector(torch.zeros(1, 9, 9, 3, dtype=torch.int32))
    with pytest.raises(ValueError, match=r"must be uint8, or float in .* got torch\.int64"):
        detector(np.zeros((1, 9, 9, 3), np.int64))
    with pytest.raises(ValueError, match="must be a tensor or an array, got list"):
        detector([np.zeros((9, 9, 3), np.uint8)])
    with pytest.raises(ValueError, match=r"got \[0, 255\]; divide by 255"):
        detector(np.arange(243, dtype=np.float64).reshape(1, 9, 9, 3) * 255 / 242)
    with pytest.raises(ValueError, match=r"got \[0, 255\]; divide by 255"):
        detector(torch.tensor([0.0, 255.0, 0.0]).expand(1, 9, 9, 3))
    with pytest.raises(ValueError, match="must lie in"):
        detector(torch.full((1, 9, 9, 3), float("nan")))


def test_regions_that_do_not_fit_the_frames_are_refused(detector, known):
    frames, regions = known
    with pytest.raises(ValueError, match=r"regions must be \(2, 2, 4\), two for each frame"):
        detector.landmarks(frames, regions[:1])
    with pytest.raises(ValueError, match=r"frame_index must be \(R,\) and regions \(R, 4\)"):
        detector.crop_landmarks(frames, torch.tensor([0]), regions[0])


def test_a_missing_model_file_is_named(tmp_path):
    with pytest.raises(ModelFileError, match="no such file"):
        HandDetector.load(str(tmp_path / "hand_landmarker.task"))


def test_the_model_files_can_be_had_without_torch():
    code = "import sys, handi_model.hands.model_files as _; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
