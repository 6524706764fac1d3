"""diffusers' switches that save memory change nothing of what comes out."""

import pytest
import torch
from accelerate import cpu_offload

from handi_model import HandiPipeline
from tests.closeness import ROUNDING, apart


@pytest.fixture
def made(scene):
    def clip(pipe: HandiPipeline) -> torch.Tensor:
        out = pipe(
            scene,
            "lift box",
            num_frames=2,
            num_inference_steps=1,
            generator=torch.Generator().manual_seed(0),
            mask_threshold=0.05,
            mask_radius=0,
            output_type="pt",
        )
        return torch.cat([out.frames[0].flatten(), torch.from_numpy(out.masks).flatten()])

    return clip


@pytest.fixture
def pipe(fresh_tiny) -> HandiPipeline:
    fresh_tiny.unet.prior.fill_(0.3)
    generator = torch.Generator().manual_seed(1)
    for name, weight in fresh_tiny.unet.named_parameters():
        if name.startswith("conv_in") or "to_out" in name:
            weight.data.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return fresh_tiny


def test_frames_and_attention_can_be_taken_in_slices(pipe, made):
    whole = made(pipe)
    pipe.enable_vae_slicing()
    assert pipe.vae.use_slicing
    assert apart(made(pipe), whole) < 100 * ROUNDING
    pipe.disable_vae_slicing()
    assert not pipe.vae.use_slicing
    for size in ("auto", "max"):
        pipe.enable_attention_slicing(size)
        processors = {type(one).__name__ for one in pipe.unet.backbone.attn_processors.values()}
        assert processors == {"SlicedAttnProcessor"}
        assert apart(made(pipe), whole) < 100 * ROUNDING
    pipe.disable_attention_slicing()
    assert apart(made(pipe), whole) < 100 * ROUNDING


def test_large_frames_can_be_decoded_in_tiles(tiny):
    latents = torch.randn(1, 16, 1, 16, 12, generator=torch.Generator().manual_seed(0))
    whole = tiny.decode(latents)
    tiny.enable_vae_tiling()
    try:
        tiles = tiny.decode(latents)
    finally:
        tiny.disable_vae_tiling()
    assert tiles.shape == whole.shape
    assert not torch.equal(tiles, whole)
    assert (tiles - whole).abs().mean() < 0.1
    assert torch.allclose(tiny.decode(latents), whole, atol=1e-4)


@pytest.mark.parametrize("way", ["whole networks", "layer by layer"])
def test_networks_that_wait_elsewhere_give_the_same_clip_each_time(pipe, made, way):
    """On the processor itself, by the hooks that take weights away from a GPU and put them back."""
    whole = made(pipe)
    if way == "whole networks":
        pipe.enable_model_cpu_offload(device="cpu")
    else:
        # As in `enable_sequential_cpu_offload`, which cannot name a processor without a number.
        for network in (pipe.text_encoder, pipe.unet, pipe.vae):
            cpu_offload(network, "cpu", offload_buffers=len(network._parameters) > 0)
        assert {weight.device.type for weight in pipe.unet.parameters()} == {"meta"}
    for _ in range(2):
        assert apart(made(pipe), whole) < 100 * ROUNDING


@pytest.mark.parametrize("way", ["enable_model_cpu_offload", "enable_sequential_cpu_offload"])
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU can be offloaded from")
def test_without_a_gpu_there_is_nothing_to_offload_from_and_it_is_said(tiny, way):
    with pytest.raises(RuntimeError, match=f"`{way}` requires accelerator, but not found"):
        getattr(tiny, way)()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("way", ["enable_model_cpu_offload", "enable_sequential_cpu_offload"])
def test_networks_wait_in_the_processors_memory_for_their_turn_on_the_gpu(pipe, made, way):
    whole = made(pipe)
    getattr(pipe, way)()
    for _ in range(2):
        assert apart(made(pipe), whole) < 0.05
        assert {weight.device.type for weight in pipe.unet.parameters()} <= {"cpu", "meta"}
