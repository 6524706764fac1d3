from dataclasses import dataclass, fields

import numpy as np
import pytest
import torch

from handi_model.batch import Batch, batch_of_latents, encode_clip, encode_clips, encode_text
from handi_model.training import LossSettings, Networks, mask_step, video_step
from tests.closeness import assert_same_batch

ALL = LossSettings(decoded_frames=1, window_margin=None, hand_timesteps=1.0, presence_threshold=0.0)
"""Every part of the losses counts."""


@dataclass(frozen=True)
class Clips:
    """B clips as a data set holds them, see `encode_clips`."""

    frames: np.ndarray
    frame_masks: np.ndarray
    joints: np.ndarray
    detected: np.ndarray
    narrations: list[str]

    def take(self, items: list[int]) -> "Clips":
        arrays = (self.frames, self.frame_masks, self.joints, self.detected)
        return Clips(*(array[items] for array in arrays), [self.narrations[i] for i in items])

    def encoded(self, pipe) -> Batch:
        return encode_clips(pipe, **vars(self))

    def kept(self, pipe) -> Batch:
        """Encoded one by one into what a cache keeps, and taken from there."""
        pairs = zip(self.frames, self.frame_masks, strict=True)
        latents = [tuple(part.numpy() for part in encode_clip(pipe, *pair)) for pair in pairs]
        texts = {text: encode_text(pipe, text).numpy() for text in set(self.narrations)}
        return batch_of_latents(
            torch.from_numpy(np.stack([video for video, _ in latents])),
            torch.from_numpy(np.stack([mask for _, mask in latents])),
            torch.from_numpy(np.stack([texts[text] for text in self.narrations])),
            self.frame_masks,
            self.joints,
            self.detected,
        )


@pytest.fixture(scope="module")
def clips() -> Clips:
    """Three clips of 4 frames, of noise and boxes; the second shows no hand."""
    chance = np.random.default_rng(0)
    masks = np.zeros((3, 4, 64, 64), bool)
    masks[0, :, 8:30, 8:30] = masks[2, 1:, 20:60, 30:50] = True
    detected = np.array([[True, False], [False, False], [True, True]])
    return Clips(
        chance.integers(0, 255, (3, 4, 64, 64, 3), np.uint8),
        masks,
        chance.random((3, 4, 42, 2), np.float32),
        np.repeat(detected[:, None], 4, axis=1),
        ["lift box", "open lid", "lift box"],
    )


def test_clips_are_encoded_with_all_that_training_takes(tiny, clips):
    batch = clips.encoded(tiny)
    assert len(batch) == 3
    assert batch.video_latent.shape == batch.mask_latent.shape == (3, 16, 4, 8, 8)
    assert batch.text.shape[::2] == (3, 64)
    assert {getattr(batch, name).dtype for name in ("video_latent", "mask_latent", "text")} == {
        torch.float32
    }
    assert (batch.frame_masks.numpy() == clips.frame_masks).all()
    assert (batch.joints.numpy() == clips.joints).all()
    assert batch.visible.shape == (3, 4, 42)
    assert batch.visible[0, :, :21].all() and not batch.visible[0, :, 21:].any()
    assert not batch.visible[1].any() and batch.visible[2].all()


def test_a_batchs_mask_and_image_are_the_clips_union_and_first_frame(tiny, clips):
    batch = clips.encoded(tiny)
    assert (batch.mask.numpy() == clips.frame_masks.any(axis=1)).all()
    assert torch.equal(batch.image_latent, batch.video_latent[:, :, 0])


def test_a_clip_is_encoded_alike_whatever_lies_beside_it(tiny, clips):
    together = clips.encoded(tiny)
    for items in ([0], [1], [2], [2, 0], [1, 1, 1, 1]):
        assert_same_batch(clips.take(items).encoded(tiny), together.take(items))


def test_what_is_kept_of_a_clip_is_small(tiny, clips):
    kept = *encode_clip(tiny, clips.frames[0], clips.frame_masks[0]), encode_text(tiny, "open lid")
    assert [part.dtype for part in kept] == [torch.float16] * 3
    assert [part.ndim for part in kept] == [4, 4, 2]


def test_what_is_kept_of_clips_makes_the_batch_that_they_make_themselves(tiny, clips):
    assert_same_batch(clips.kept(tiny), clips.encoded(tiny))


def test_losses_do_not_tell_kept_clips_from_those_encoded_at_once(fresh_tiny, clips, detector):
    fresh_tiny.unet.set_prior(torch.full((64, 64), 0.3))
    networks = Networks.of(fresh_tiny, detector)

    def losses(batch: Batch) -> dict[str, torch.Tensor]:
        def seed() -> torch.Generator:
            return torch.Generator().manual_seed(0)

        mask = mask_step(networks, batch, ALL, seed())
        video = video_step(networks, batch, batch.mask, ALL, seed())
        parts = {f"mask {name}": value for name, value in mask.parts.items()}
        return parts | video.parts | {"mask loss": mask.loss, "video loss": video.loss}

    encoded, kept = (losses(batch) for batch in (clips.encoded(fresh_tiny), clips.kept(fresh_tiny)))
    assert encoded.keys() == kept.keys()
    for name, value in encoded.items():
        torch.testing.assert_close(kept[name], value, rtol=1e-3, atol=1e-6, msg=name)


def test_encoding_leaves_no_graph(fresh_tiny, clips):
    batch = clips.take([0]).encoded(fresh_tiny)
    assert not any(getattr(batch, field.name).requires_grad for field in fields(Batch))
