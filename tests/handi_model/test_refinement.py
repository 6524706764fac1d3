import torch

from handi_model.hands import regions_from_joints
from handi_model.latents import decode_latents, decode_pictures
from handi_model.refinement import HALF_PIXEL, decoded_hand_loss, true_regions
from tests.closeness import ROUNDING, apart


def test_a_true_region_lies_half_a_pixel_before_the_one_mediapipe_would_take():
    joints = torch.rand(3, 42, 2, generator=torch.Generator().manual_seed(0))
    visible = torch.ones(3, 42, dtype=torch.bool)
    visible[1, :21] = False
    theirs = regions_from_joints(joints, visible, 48, 64)
    ours = true_regions(joints, visible, 48, 64)
    there = theirs[..., 2] > 0
    assert there.sum() == 5
    assert torch.allclose(ours[there][:, :2], theirs[there][:, :2] - HALF_PIXEL)
    assert torch.equal(ours[..., 2:], theirs[..., 2:])
    assert (ours[~there] == 0).all()


def test_joints_keep_their_place_on_a_shrunk_frame(detector, sample_frames):
    """Found on the large frame, sought on one a third as wide: no drift to the upper left."""
    large = torch.from_numpy(sample_frames[:, :360, :636].copy()).float() / 255
    found = detector(large)
    where = regions_from_joints(found.joints, found.visible, *large.shape[1:3])
    true, _ = detector.landmarks(large, where)
    small = torch.nn.functional.avg_pool2d(large.permute(0, 3, 1, 2), 3).permute(0, 2, 3, 1)
    height, width = small.shape[1:3]
    extent = torch.tensor([width, height])

    def drift(regions: torch.Tensor, half: float) -> torch.Tensor:
        joints, _ = detector.landmarks(small, regions)
        apart = joints * extent + half - true * extent
        return apart[found.visible].mean(0)

    plain = drift(regions_from_joints(found.joints, found.visible, height, width), 0.0)
    ours = drift(true_regions(found.joints, found.visible, height, width), HALF_PIXEL)
    assert ours[0].abs() < 0.2
    assert ours.norm() < plain.norm()


def test_pictures_are_decoded_as_frames_are_whatever_the_portion(tiny):
    latents = torch.randn(3, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        pictures = decode_pictures(tiny.vae, latents, chunk=2)
        frames = decode_latents(tiny.vae, latents.transpose(0, 1)[None])
    assert pictures.shape == (3, 3, 64, 64)
    assert apart(pictures, frames[0]) < ROUNDING


class Watched:
    """The hand detector, which keeps what it was given, what it found and whether in autocast."""

    def __init__(self, detector) -> None:
        self.detector = detector

    def crop_landmarks(self, *given):
        self.autocast = torch.is_autocast_enabled("cpu")
        self.given = [value.detach() for value in given]
        joints, presence = self.detector.crop_landmarks(*given)
        self.joints = joints.detach()
        return joints, presence


def test_hands_are_sought_in_float32_where_the_decoder_computes_in_bfloat16(
    tiny, detector, two_clips
):
    clips = two_clips.take([0])
    seen, losses, gradients = [], [], []
    for autocast in (False, True):
        watched = Watched(detector)
        clean = clips.video_latent.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = decoded_hand_loss(
                clean,
                clips.joints,
                clips.visible,
                tiny.vae,
                watched,
                presence_threshold=0.0,
                generator=torch.Generator().manual_seed(0),
            ).loss
        loss.backward()
        assert not watched.autocast
        seen.append(watched)
        losses.append(loss.detach())
        gradients.append(clean.grad.flatten())
    exact, decoded_in_bfloat16 = seen
    assert not torch.equal(exact.given[0], decoded_in_bfloat16.given[0])
    with torch.no_grad():
        joints, _ = detector.crop_landmarks(*decoded_in_bfloat16.given)
    # In pixels; bfloat16 in the detector, too, would be off by some tenths.
    torch.testing.assert_close(decoded_in_bfloat16.joints, joints, rtol=0, atol=0.01)
    off = (decoded_in_bfloat16.joints - exact.joints).abs()
    print(f"joints differ by {off.mean():.2f} pixels, at most by {off.max():.2f}")
    assert off.mean() < 0.25
    torch.testing.assert_close(*losses, rtol=0.05, atol=0)
    assert all(gradient.isfinite().all() and gradient.any() for gradient in gradients)
    assert torch.cosine_similarity(*gradients, dim=0) > 0.9
