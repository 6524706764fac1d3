"""Batches through the pipeline: neighbours change nothing, and a job that fails fails alone."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from handi_model.config import ModelConfig
from handi_model.create import new_pipeline
from handi_model.latents import empty_mask_latent, encode_frames
from handi_model.pipeline import HandiPipeline
from serve.model.rendering import (
    Abandoned,
    Clip,
    Item,
    PictureGone,
    grouped,
    largest_group,
    predict_areas,
    reason,
    render,
)
from serve.orders import MaskOrder
from serve.records import VideoJob
from tests.serve.conftest import png


@pytest.fixture(scope="module")
def awake() -> HandiPipeline:
    """A model in which every input has weight, and whose motion areas are neither empty nor all."""
    torch.manual_seed(0)
    pipe = new_pipeline(ModelConfig.of("tiny"))
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(1)
    for name, weight in pipe.unet.named_parameters():
        if name.startswith(("conv_in", "frame_proj")) or "cond_proj" in name or "to_out" in name:
            weight.data.add_(0.1 * torch.randn(weight.shape, generator=generator))
    # Stage 1 leans towards white, so that at two steps about half of the picture is its area.
    white = encode_frames(pipe.vae, torch.ones(1, 1, 3, 64, 64))[0, :, 0]
    lean = 0.4 * (white - empty_mask_latent(pipe.vae, 64, 64)).mean((1, 2))
    pipe.unet.conv_out["mask"].bias.data.sub_(lean)
    return pipe


def picture(seed: int) -> bytes:
    """Smooth patches, another for each seed."""
    coarse = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), np.uint8)
    sink = io.BytesIO()
    Image.fromarray(coarse).resize((64, 64)).save(sink, "PNG")
    return sink.getvalue()


def drawn_area(top: int) -> bytes:
    area = np.zeros((64, 64), np.uint8)
    area[top : top + 30, 10:50] = 255
    sink = io.BytesIO()
    Image.fromarray(area).save(sink, "PNG")
    return sink.getvalue()


def item(seed: int = 0, drawn: bytes | None = None, **changes: Any) -> Item:
    fields: dict[str, Any] = {
        "model": "handi",
        "prompt": ("open the drawer", "lift box", "stir pan")[seed % 3],
        "height": 64,
        "width": 64,
        "num_frames": 3,
        "fps": 8.0,
        "seed": seed,
        "guidance_scale": 1.5 + seed,
        "num_inference_steps": 1,
        "mask_steps": None if drawn else 2,
    }
    return Item(VideoJob(**{**fields, **changes}), picture(seed), drawn)


def order_of(one: Item) -> MaskOrder:
    job = one.job
    return MaskOrder(
        one.scene,
        job.height,
        job.width,
        job.num_frames,
        job.prompt,
        job.seed,
        job.guidance_scale,
        job.mask_steps or 0,
    )


def no_steps(stage: str, done: int) -> None:
    pass


def clips(results: list[Clip | Exception]) -> list[Clip]:
    assert all(isinstance(result, Clip) for result in results), results
    return results  # type: ignore[return-value]


def assert_same_clip(one: Clip, other: Clip) -> None:
    """But for the rounding of sums in another order, and for pixels at the area's edge."""
    assert (one.area != other.area).mean() < 0.005
    assert np.abs(one.frames.astype(int) - other.frames).mean() < 0.05


# What goes together


def test_jobs_are_grouped_by_size_length_and_steps_in_the_order_of_their_firsts():
    jobs = [
        item(0).job,
        item(1, height=80).job,
        item(2).job,
        item(3, num_inference_steps=2).job,
        item(4, height=80).job,
        item(5, drawn=b"png").job,
        item(6, num_frames=4).job,
        item(7, prompt="stir", guidance_scale=7.0).job,
    ]
    together = [[jobs.index(job) for job in group] for group in grouped(jobs)]
    assert together == [[0, 2, 7], [1, 4], [3], [5], [6]]
    assert largest_group(jobs) == 3
    assert (grouped([]), largest_group([])) == ([], 0)


def test_height_and_width_are_not_mistaken_for_each_other():
    tall, wide = item(0, height=80, width=64).job, item(0, height=64, width=80).job
    assert len(grouped([tall, wide])) == 2


def test_a_job_that_was_interrupted_runs_alone():
    jobs = [item(0, attempts=1).job, item(1).job, item(2, attempts=1).job, item(3).job]
    assert sorted(len(group) for group in grouped(jobs)) == [1, 1, 2]


def test_motion_areas_are_grouped_by_size_length_and_steps():
    orders = [order_of(item(seed)) for seed in range(3)]
    orders.append(replace(orders[0], mask_steps=3))
    assert [len(group) for group in grouped(orders)] == [3, 1]


# Clips


@pytest.mark.parametrize("drawn", [False, True])
def test_a_job_in_a_batch_gives_the_clip_that_it_gives_alone(awake, drawn):
    items = [item(seed, drawn_area(5 * seed) if drawn else None) for seed in range(3)]
    together = clips(render(awake, items, no_steps))
    for one, clip in zip(items, together, strict=True):
        (alone,) = clips(render(awake, [one], no_steps))
        assert clip.frames.shape == (3, 64, 64, 3) and clip.frames.dtype == np.uint8
        assert clip.area.shape == (64, 64) and clip.area.dtype == np.uint8
        assert_same_clip(clip, alone)
        if drawn:
            assert (clip.area == alone.area).all()
        else:
            assert 0.2 < (clip.area > 0).mean() < 0.9, "the model's areas should be in parts"
    first, second, third = (clip.frames.astype(int) for clip in together)
    assert np.abs(first - second).max() > 20 and np.abs(second - third).max() > 20


def test_every_field_of_a_job_reaches_its_clip(awake):
    area = drawn_area(20)
    reseeded = item(0, area)
    reseeded.job.seed = 9
    changed = [
        item(0, area),
        reseeded,
        item(0, area, prompt="stir pan"),
        item(0, area, guidance_scale=30.0),
        item(0, drawn_area(0)),
        replace(item(0, area), scene=picture(7)),
    ]
    frames = [clip.frames.astype(int) for clip in clips(render(awake, changed, no_steps))]
    for other in frames[1:]:
        assert np.abs(other - frames[0]).max() > 1
    (longer,) = clips(render(awake, [item(0, area, num_frames=4)], no_steps))
    assert longer.frames.shape == (4, 64, 64, 3)
    (wider,) = clips(render(awake, [replace(item(0, width=80), scene=png(80, 64))], no_steps))
    assert wider.frames.shape == (3, 64, 80, 3) and wider.area.shape == (64, 80)


def test_a_drawn_area_is_the_area_and_the_rest_stays_still(awake):
    one = item(0, drawn_area(20))
    (clip,) = clips(render(awake, [one], no_steps))
    drawn = np.asarray(Image.open(io.BytesIO(one.drawn or b"")))
    scene = np.asarray(Image.open(io.BytesIO(one.scene)))
    assert (clip.area == drawn).all()
    assert (clip.frames[:, drawn == 0] == scene[drawn == 0]).all()
    assert (clip.frames[:, drawn > 0] != scene[drawn > 0]).any()


@pytest.mark.parametrize("bad", [0, 1, 2])
def test_a_job_that_cannot_be_done_fails_alone(awake, bad):
    items = [item(seed) for seed in range(3)]
    items[bad] = replace(items[bad], scene=png()[:200])
    results = render(awake, items, no_steps)
    assert [isinstance(result, Exception) for result in results] == [i == bad for i in range(3)]
    for index in {0, 1, 2} - {bad}:
        (alone,) = clips(render(awake, [items[index]], no_steps))
        assert_same_clip(results[index], alone)


def test_a_job_that_the_pipeline_refuses_fails_with_its_line(awake):
    (refused,) = render(awake, [item(0, prompt="cut " * 200)], no_steps)
    assert isinstance(refused, ValueError)
    assert str(refused).startswith("prompt: ")
    results = render(awake, [item(0), item(1, guidance_scale=0.0)], no_steps)
    assert isinstance(results[0], Clip)
    assert str(results[1]).startswith("guidance_scale: ")


def test_a_job_without_its_drawn_area_fails(awake):
    (failed,) = render(awake, [item(0, mask_steps=None)], no_steps)
    assert isinstance(failed, Exception)


def test_a_clip_that_is_not_finite_fails_that_job_only(awake, monkeypatch):
    called = HandiPipeline.__call__

    def spoiled(self: HandiPipeline, *args: Any, **keys: Any) -> Any:
        out = called(self, *args, **keys)
        out.frames[1][0, 0, 0, 0] = np.nan
        return out

    monkeypatch.setattr(HandiPipeline, "__call__", spoiled)
    first, spoilt, third = render(awake, [item(seed) for seed in range(3)], no_steps)
    assert isinstance(first, Clip) and isinstance(third, Clip)
    assert isinstance(spoilt, ArithmeticError)
    told = ("not_finite", "the model gave no finite picture; take another seed")
    assert reason(item(1).job, spoilt) == told
    assert reason(item(1).job, PictureGone())[0] == "picture_gone"


def test_what_the_model_raises_is_told_by_the_jobs_id_alone():
    job = item(0).job
    for raised in (ValueError("tensor (3, 4) at /home/user"), RuntimeError("CUDA: secret detail")):
        code, message = reason(job, raised)
        assert code == "server_error", "it was not asked for wrongly"
        assert job.id in message and str(raised) not in message


def test_what_is_asked_to_be_avoided_reaches_the_model(awake, monkeypatch):
    avoided = []
    called = HandiPipeline.__call__

    def watched(self: HandiPipeline, *args: Any, negative_prompt: str, **keys: Any) -> Any:
        avoided.append(negative_prompt)
        return called(self, *args, negative_prompt=negative_prompt, **keys)

    monkeypatch.setattr(HandiPipeline, "__call__", watched)
    for text in (None, "blur"):
        one = item(0)
        one.job.negative_prompt = text
        render(awake, [one], no_steps)
    assert avoided == ["", "blur"]
    assert len(grouped([item(0).job, one.job])) == 2, "a batch avoids one thing"


def test_a_job_whose_numbers_are_none_fails_alone_with_a_line_that_says_so(awake, monkeypatch):
    """By its prompt, so that it is spoilt beside others and alone."""
    encode = HandiPipeline.encode_prompt

    def spoilt(pipe: HandiPipeline, prompts: list[str]) -> torch.Tensor:
        bad = torch.tensor([prompt == "spoil it" for prompt in prompts])
        return encode(pipe, prompts).masked_fill(bad[:, None, None], torch.nan)

    monkeypatch.setattr(HandiPipeline, "encode_prompt", spoilt)
    first, bad = render(awake, [item(0), item(1, prompt="spoil it")], no_steps)
    assert isinstance(first, Clip)
    assert isinstance(bad, FloatingPointError)
    assert "are not finite numbers in float32" in str(bad) and "\n" not in str(bad)


def test_steps_are_told_over_both_stages(awake):
    told: list[tuple[str, int]] = []
    render(
        awake,
        [item(0, mask_steps=1, num_inference_steps=2)],
        lambda stage, done: told.append((stage, done)),
    )
    assert told == [("mask", 1), ("video", 2), ("video", 3)]

    told.clear()
    render(awake, [item(0, drawn_area(5))], lambda stage, done: told.append((stage, done)))
    assert told == [("video", 1)]


def test_a_batch_that_nobody_wants_ends_at_once(awake):
    told: list[int] = []

    def unwanted(stage: str, done: int) -> None:
        told.append(done)
        raise Abandoned

    with pytest.raises(Abandoned):
        render(awake, [item(0), item(1)], unwanted)
    with pytest.raises(Abandoned):
        predict_areas(awake, [order_of(item(0)), order_of(item(1))], unwanted)
    assert told == [1, 1]


# Motion areas


def test_a_motion_area_is_the_one_that_the_clip_with_the_same_fields_would_have(awake):
    items = [item(seed) for seed in range(3)]
    areas = predict_areas(awake, [order_of(one) for one in items], no_steps)
    for one, area in zip(items, areas, strict=True):
        assert isinstance(area, bytes)
        (clip,) = clips(render(awake, [one], no_steps))
        assert 0.2 < (clip.area > 0).mean() < 0.9
        assert (np.asarray(Image.open(io.BytesIO(area))) != clip.area).mean() < 0.005


def test_a_predicted_area_sent_back_as_drawn_gives_the_same_clip(awake):
    one = item(0)
    (area,) = predict_areas(awake, [order_of(one)], no_steps)
    assert isinstance(area, bytes)
    (first,) = clips(render(awake, [one], no_steps))
    (again,) = clips(render(awake, [item(0, drawn=area)], no_steps))
    assert_same_clip(again, first)


def test_an_area_that_cannot_be_predicted_fails_alone(awake):
    orders = [order_of(item(seed)) for seed in range(3)]
    orders[1] = replace(orders[1], scene=b"no picture")
    results = predict_areas(awake, orders, no_steps)
    assert [type(result) is bytes for result in results] == [True, False, True]
