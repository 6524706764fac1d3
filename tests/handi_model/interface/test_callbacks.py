"""What a callback of diffusers' users sees and may change between steps."""

import pytest
import torch
from diffusers.callbacks import SDCFGCutoffCallback

from handi_model import HandiPipeline

SHORT = {"num_frames": 2, "num_inference_steps": 2, "mask_steps": 1, "output_type": "latent"}


@pytest.fixture
def call(scene):
    def made(pipe: HandiPipeline, callback, **given):
        return pipe(
            scene,
            "lift box",
            generator=torch.Generator().manual_seed(0),
            callback_on_step_end=callback,
            **{**SHORT, **given},
        )

    return made


def test_a_callback_gets_the_tensors_that_it_asks_for(tiny, call):
    seen = []

    def watch(pipe, step, timestep, state):
        seen.append({name: tuple(one.shape) for name, one in state.items() if name != "stage"})

    call(tiny, watch, callback_on_step_end_tensor_inputs=HandiPipeline._callback_tensor_inputs)
    words = (1, tiny.tokenizer.model_max_length, 64)
    assert seen == 3 * [
        {
            "latents": (1, 16, 2, 8, 8),
            "prompt_embeds": words,
            "negative_prompt_embeds": words,
            "image_latents": (1, 16, 8, 8),
        }
    ]
    call(tiny, lambda *given: seen.append(given[3].keys()), callback_on_step_end_tensor_inputs=[])
    assert seen[-1] == {"stage"}


def texts(pipe, monkeypatch) -> list[torch.Tensor]:
    """What the network is told at each call."""
    told, forward = [], pipe.unet.forward

    def watched(noisy, timestep, text, *rest):
        told.append(text)
        return forward(noisy, timestep, text, *rest)

    monkeypatch.setattr(pipe.unet, "forward", watched)
    return told


def test_what_a_callback_changes_holds_for_the_steps_after_it(tiny, call, monkeypatch):
    told = texts(tiny, monkeypatch)

    def change(pipe, step, timestep, state):
        if step == 0:
            return {"prompt_embeds": torch.full_like(state["prompt_embeds"], 2.0)}

    call(tiny, change, callback_on_step_end_tensor_inputs=["prompt_embeds"])
    assert [bool((text == 2).all()) for text in told] == [False, True, True]


def test_diffusers_own_callback_ends_the_guidance(tiny, call, monkeypatch):
    told = texts(tiny, monkeypatch)
    cutoff = SDCFGCutoffCallback(cutoff_step_ratio=None, cutoff_step_index=1)
    call(tiny, cutoff, guidance_scale=3.0)
    assert [len(text) for text in told] == [2, 2, 1]
    assert not tiny.do_classifier_free_guidance
    call(tiny, None, guidance_scale=3.0)
    assert tiny.guidance_scale == 3.0 and tiny.do_classifier_free_guidance


def test_a_tensor_of_another_shape_is_told(tiny, call):
    with pytest.raises(ValueError, match=r"callback_on_step_end: it gave latents of shape \(2,\)"):
        call(tiny, lambda *_: {"latents": torch.zeros(2)})


def test_an_interrupted_call_ends_with_what_is_there(tiny, call):
    steps = []

    def stop_at(last):
        def callback(pipe, step, timestep, state):
            steps.append(step)
            pipe._interrupt = step == last

        return callback

    whole = call(tiny, None, output_type="np")
    out = call(tiny, stop_at(1), output_type="np")
    assert steps == [0, 1]
    assert out.frames[0].shape == whole.frames[0].shape
    assert (out.masks == whole.masks).all()
    steps.clear()
    out = call(tiny, stop_at(0), output_type="np")
    assert steps == [0] and out.frames == [] and out.masks.shape == (1, 64, 64)
    assert tiny.interrupt
    assert len(call(tiny, None).frames) == 1, "the next call is not interrupted"
