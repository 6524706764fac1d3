import torch

from handi_model.hands import regions_from_joints
from handi_model.latents import decode_latents, decode_pictures
from handi_model.refinement import HALF_PIXEL, true_regions


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
    assert torch.allclose(pictures, frames[0], atol=1e-5)
