import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from handi_model.compose import feathered, overwrite

areas = arrays(np.float32, (16, 16), elements=st.sampled_from([0.0, 1.0]))


@given(areas, st.integers(0, 5))
def test_feathering_never_leaves_the_area_and_never_empties_it(area, width):
    soft = feathered(area, width)
    assert ((soft > 0) == (area > 0)).all()
    assert soft.max(initial=0) <= 1


def test_the_edge_rises_over_its_width_and_is_whole_at_the_picture_border():
    area = np.zeros((20, 20), np.float32)
    area[:, 8:] = 1
    row = feathered(area, 3)[10]
    assert np.allclose(row[8:12], [0.25, 0.5, 0.75, 1.0])
    assert row[-1] == 1


@given(areas)
def test_outside_the_area_is_the_scene_exactly_even_where_frames_are_not_finite(area):
    frames = torch.full((1, 2, 3, 16, 16), torch.nan)
    scene = torch.rand(1, 3, 16, 16)
    out = overwrite(frames, scene, torch.from_numpy(area)[None])
    outside = torch.from_numpy(area) == 0
    assert torch.equal(out[..., outside], scene[:, None].expand(-1, 2, -1, -1, -1)[..., outside])
    assert out[..., ~outside].isnan().all()
