import os
import shutil

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet3DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from handi_model import HandiPipeline, HandiUNet, ModelConfig
from handi_model.create import new_pipeline
from handi_model.damage import DamagedFile
from handi_model.tiny import load_tokenizer

SMALL_BASE = {
    "resolution": 64,
    "block_out_channels": (16, 32, 32, 32),
    "layers_per_block": 1,
    "cross_attention_dim": 32,
    "attention_head_dim": 8,
    "norm_num_groups": 8,
}
"""`base` with fewer channels, so that a checkpoint of it fits in a test."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    """A text-to-video checkpoint in diffusers' layout, as published ones are."""
    folder = tmp_path_factory.mktemp("text-to-video")
    config = ModelConfig.of("base", **SMALL_BASE)
    plain = HandiUNet.of(config).backbone.config
    torch.manual_seed(0)
    UNet3DConditionModel(
        **{
            name: plain[name]
            for name in (
                "down_block_types",
                "up_block_types",
                "block_out_channels",
                "layers_per_block",
                "cross_attention_dim",
                "attention_head_dim",
                "norm_num_groups",
            )
        }
    ).save_pretrained(folder / "unet")
    AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16),
        norm_num_groups=4,
        scaling_factor=0.18215,
    ).save_pretrained(folder / "vae")
    tokenizer = load_tokenizer()
    CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=24,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    ).save_pretrained(folder / "text_encoder")
    tokenizer.save_pretrained(folder / "tokenizer")
    return str(folder)


def test_base_starts_from_a_published_checkpoint_and_generates(checkpoint, tmp_path):
    config = ModelConfig.of("base", **SMALL_BASE)
    pipe = new_pipeline(config, checkpoint)
    pipe.set_progress_bar_config(disable=True)
    assert pipe.scheduler.config.prediction_type == "epsilon"
    assert pipe.scheduler.config.algorithm_type == "dpmsolver++"
    assert pipe.config.guidance_scale == 9.0
    assert pipe.vae.config.scaling_factor == 0.18215
    scene = np.random.default_rng(0).random((64, 64, 3)).astype(np.float32)
    out = pipe(scene, "open the drawer", num_frames=2, num_inference_steps=2)
    assert out.frames[0].shape == (2, 64, 64, 3)
    assert np.isfinite(out.frames[0]).all()
    pipe.save_pretrained(tmp_path)
    again = HandiPipeline.from_pretrained(tmp_path)
    assert again.config.residual is False


def test_what_cannot_start_a_model_is_one_line(checkpoint, tmp_path):
    config = ModelConfig.of("base", **SMALL_BASE)
    with pytest.raises(ValueError, match="neither a folder nor a hub id"):
        new_pipeline(config, tmp_path / "nowhere")
    with pytest.raises(ValueError, match="block_out_channels"):
        new_pipeline(ModelConfig.of("base", resolution=64), checkpoint)
    with pytest.raises(ValueError, match="'tiny' starts from what ships"):
        new_pipeline(ModelConfig.of("tiny"), checkpoint)


@pytest.mark.parametrize(
    "name",
    [
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
    ],
)
def test_a_checkpoints_file_that_is_cut_short_is_named(checkpoint, tmp_path, name):
    folder = tmp_path / "checkpoint"
    shutil.copytree(checkpoint, folder)
    os.truncate(folder / name, 1000)
    with pytest.raises(DamagedFile, match=f"{folder / name} is damaged: .*; copy or") as caught:
        new_pipeline(ModelConfig.of("base", **SMALL_BASE), folder)
    assert "\n" not in str(caught.value)


def test_tiny_needs_nothing_from_outside(tiny):
    assert tiny.resolution == 64
    assert tiny.pixel_multiple == 16
    assert tiny.config.residual is True
    text = tiny.encode_prompt(["open the drawer", "lift box"])
    assert text.shape == (2, tiny.tokenizer.model_max_length, 64)
    assert not torch.allclose(text[0], text[1])


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_base_with_random_weights_generates_a_clip_on_the_cpu():
    torch.manual_seed(0)
    pipe = new_pipeline(ModelConfig.of("base"))
    counts = {
        name: sum(weight.numel() for weight in getattr(pipe, name).parameters())
        for name in ("unet", "text_encoder", "vae")
    }
    print(counts, sum(counts.values()))
    assert sum(counts.values()) <= 1.94e9
    scene = np.random.default_rng(0).random((64, 64, 3)).astype(np.float32)
    out = pipe(
        scene,
        "open the drawer",
        num_frames=2,
        height=64,
        width=64,
        num_inference_steps=1,
        generator=torch.Generator().manual_seed(0),
    )
    assert out.frames[0].shape == (2, 64, 64, 3)
    assert np.isfinite(out.frames[0]).all()
