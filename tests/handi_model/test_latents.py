import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from handi_model.latents import (
    area_channel,
    decode_latents,
    empty_mask_latent,
    encode_frames,
    grey_frames,
    masks_of_grey,
)
from tests.closeness import ROUNDING, apart


@given(arrays(np.float32, (2, 3, 8, 8), elements=st.floats(0, 1, width=32)))
def test_masks_come_back_from_their_grey_frames(values):
    masks = torch.from_numpy(values)
    frames = grey_frames(masks)
    assert frames.shape == (2, 3, 3, 8, 8)
    assert frames.min() >= -1 and frames.max() <= 1
    assert torch.allclose(masks_of_grey(frames), masks, atol=1e-6)


def test_grey_beyond_black_and_white_is_no_mask_and_a_whole_mask():
    frames = torch.tensor([-1.3, 1.4]).reshape(1, 1, 1, 2).expand(1, 3, 1, 2)
    assert masks_of_grey(frames).flatten().tolist() == [0, 1]


def test_a_cell_of_the_area_channel_is_the_share_that_the_mask_covers():
    mask = torch.zeros(1, 16, 16)
    mask[0, :8, :4] = 1
    assert area_channel(mask, (2, 2))[0].tolist() == [[0.5, 0], [0, 0]]


def test_frames_are_encoded_each_by_itself_and_in_any_portion(tiny):
    frames = torch.rand(2, 3, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        whole = encode_frames(tiny.vae, frames)
        portions = encode_frames(tiny.vae, frames, chunk=1)
        one = encode_frames(tiny.vae, frames[1:, 2:])
    assert whole.shape == (2, 16, 3, 8, 8)
    assert apart(portions, whole) < ROUNDING
    assert apart(one, whole[1:, :, 2:]) < ROUNDING


def test_decoding_keeps_clips_and_frames_apart(tiny):
    latents = torch.randn(2, 16, 3, 8, 8)
    with torch.no_grad():
        whole = decode_latents(tiny.vae, latents)
        one = decode_latents(tiny.vae, latents[1:, :, 2:])
    assert whole.shape == (2, 3, 3, 64, 64)
    assert apart(one, whole[1:, 2:]) < ROUNDING


def test_the_empty_mask_decodes_to_no_mask(tiny):
    latent = empty_mask_latent(tiny.vae, 64, 64)
    with torch.no_grad():
        decoded = masks_of_grey(decode_latents(tiny.vae, latent[None, :, None]))
    assert decoded.max() < 0.5
