import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from handi_model.bounds import check_count, check_size
from handi_model.pictures import read_area, read_scene
from handi_model.request import (
    Request,
    check_generators,
    check_guidance,
    check_prompts,
    one_each,
    read_request,
)
from handi_model.tiny import load_tokenizer


@given(st.integers(16, 90), st.integers(16, 90), st.sampled_from([(16, 16), (16, 32), (32, 16)]))
def test_a_scene_of_any_shape_becomes_the_clip_s_or_is_refused_as_too_small(tall, wide, size):
    picture = np.random.default_rng(0).random((tall, wide, 3)).astype(np.float32)
    if tall < size[0] or wide < size[1]:
        with pytest.raises(ValueError, match=f"image: {wide}x{tall} pixels are too small"):
            read_scene(picture, *size)
        return
    scene = read_scene(picture, *size)
    assert scene.shape == (*size, 3)
    assert scene.dtype == np.float32
    assert scene.min() >= 0 and scene.max() <= 1


def test_the_middle_of_a_wide_picture_is_kept():
    picture = np.zeros((32, 96, 3), np.uint8)
    picture[:, 32:64] = 255
    assert (read_scene(picture, 32, 32) == 1).all()


def test_one_picture_of_every_accepted_type_is_the_same_scene():
    eight_bit = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    expected = eight_bit / np.float32(255)
    floats = torch.from_numpy(expected).permute(2, 0, 1)
    for picture in (eight_bit, expected, Image.fromarray(eight_bit), floats, floats.double()):
        assert np.allclose(read_scene(picture, 32, 32), expected, atol=1e-6)
    assert np.allclose(read_scene(floats.bfloat16(), 32, 32), expected, atol=0.01)


def test_a_drawn_area_is_cut_as_the_image_is_and_holds_zeros_and_ones():
    drawn = np.zeros((64, 128))
    drawn[:, 64:] = 0.8
    area = read_area(drawn, 32, 32)
    assert set(np.unique(area)) == {0, 1}
    assert (area[:, :16] == 0).all() and (area[:, 16:] == 1).all()
    grey = Image.fromarray((drawn * 255).astype(np.uint8))
    assert (read_area(grey, 32, 32) == area).all()


@given(st.integers(16, 500), st.sampled_from([8, 16, 64]))
def test_a_size_that_does_not_fit_is_told_the_next_ones_that_do(side, multiple):
    if side >= multiple and side % multiple == 0:
        assert check_size(side, side, multiple) == (side, side)
        return
    with pytest.raises(ValueError, match=f"height: {side} is") as refused:
        check_size(side, side, multiple)
    if side > multiple:
        offered = [int(word) for word in str(refused.value).split("take ")[1].split(" or ")]
        assert [check_size(one, one, multiple)[0] for one in offered] == offered


def test_numbers_are_whole_and_in_their_range():
    assert check_count("steps", np.int64(5), 1, 9, "steps") == 5
    for wrong in (0, 10, 2.0, True, "5"):
        with pytest.raises(ValueError, match=r"^steps: "):
            check_count("steps", wrong, 1, 9, "steps")


def test_one_value_serves_all_and_a_list_must_have_one_for_each():
    assert one_each("image", "a", 3) == ["a"] * 3
    assert one_each("image", ["a", "b"], 2) == ["a", "b"]
    with pytest.raises(ValueError, match="image: 2 for 3 prompts"):
        one_each("image", ["a", "b"], 3)


def test_guidance_takes_any_number_from_one():
    assert check_guidance(np.float32(7.5), 2).tolist() == [7.5, 7.5]
    assert check_guidance([1, 9.0], 2).tolist() == [1, 9]
    for wrong in (0.5, float("nan"), True, "9"):
        with pytest.raises(ValueError, match=r"^guidance_scale: "):
            check_guidance(wrong, 1)


def test_a_generator_for_all_or_for_each_or_none():
    generator = torch.Generator()
    assert check_generators(None, 2) is None
    assert check_generators(generator, 2) == [generator, generator]
    with pytest.raises(ValueError, match="generator: 2 for 1 clips"):
        check_generators([generator, generator], 1)


def test_instructions_must_say_something_that_the_model_can_read():
    tokenizer = load_tokenizer()
    check_prompts("prompt", ["lift the box"], tokenizer)
    check_prompts("negative_prompt", "", tokenizer)
    for wrong in ([], [""], [None], ["cut " * 100]):
        with pytest.raises(ValueError, match=r"^prompt: "):
            check_prompts("prompt", wrong, tokenizer)
    with pytest.raises(ValueError, match=r"^negative_prompt: .* tokens"):
        check_prompts("negative_prompt", "blurred " * 100, tokenizer)


def test_a_whole_request():
    request = read_request(
        np.zeros((40, 60, 3), np.uint8),
        ("lift box", "open lid"),
        negative_prompt="",
        tokenizer=load_tokenizer(),
        text_channels=64,
        height=32,
        width=48,
        pixel_multiple=16,
        latent_channels=16,
        latent_factor=8,
        num_frames=4,
        num_inference_steps=5,
        mask_steps=2,
        most_steps=1000,
        generator=None,
        guidance_scale=3,
        mask=None,
    )
    assert isinstance(request, Request)
    assert request.size == (32, 48)
    assert request.scenes.shape == (2, 32, 48, 3)
    assert request.prompts == ["lift box", "open lid"]
    assert request.areas is None
