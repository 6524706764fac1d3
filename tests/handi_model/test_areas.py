import numpy as np
import torch

from handi_model.areas import motion_areas
from handi_model.latents import encode_frames, grey_frames


def moving_square() -> torch.Tensor:
    masks = torch.zeros(1, 3, 64, 64)
    for frame, left in enumerate((8, 20, 32)):
        masks[0, frame, 16:40, left : left + 16] = 1
    return masks


def test_the_motion_area_is_the_union_of_the_decoded_masks(tiny):
    masks = moving_square()
    with torch.no_grad():
        area = motion_areas(tiny.vae, encode_frames(tiny.vae, grey_frames(masks)))
    union = masks.amax(1).numpy() > 0
    assert area.shape == (1, 64, 64)
    assert set(np.unique(area)) == {0.0, 1.0}
    overlap = ((area > 0) & union).sum() / ((area > 0) | union).sum()
    assert overlap > 0.95


def test_specks_are_cleaned_away(tiny):
    masks = torch.zeros(1, 1, 64, 64)
    masks[0, 0, 30, 30] = 1
    masks[0, 0, 10:30, 40:60] = 1
    with torch.no_grad():
        latents = encode_frames(tiny.vae, grey_frames(masks))
        cleaned = motion_areas(tiny.vae, latents, threshold=0.3, radius=2)
    assert cleaned[0, 28:33, 28:33].sum() == 0
    assert cleaned[0, 15:25, 45:55].all()
