"""Checkpoints of published methods with random weights, as small as their classes allow."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXImageToVideoPipeline,
    CogVideoXTransformer3DModel,
    DDIMScheduler,
    I2VGenXLPipeline,
    I2VGenXLUNet,
    MotionAdapter,
    PNDMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import load_file
from tokenizers import Tokenizer
from tokenizers.models import Unigram
from tokenizers.pre_tokenizers import Metaspace
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from handi_model.baselines.method import Method, Task
from handi_model.tiny import load_tokenizer


@pytest.fixture(scope="session")
def task(scene) -> Task:
    area = np.zeros((32, 32), bool)
    area[5:15, 10:25] = True
    small = np.round(scene[::2, ::2] * 255).astype(np.uint8)
    return Task(small, "open the drawer", 3, 0, area)


def changed(task: Task, **changes: object) -> Task:
    return dataclasses.replace(task, **changes)


def elsewhere(task: Task) -> Task:
    """The same task with another true motion mask."""
    return changed(task, area=task.area[::-1].copy())


def parameters_in(folder: Path) -> int:
    """Numbers in a folder's safetensors."""
    files = list(folder.rglob("*.safetensors"))
    assert files
    return sum(weight.numel() for file in files for weight in load_file(file).values())


def assert_generates(method: Method, task: Task) -> None:
    """What every method promises: the size, the length, and the seed."""
    made = method(task)
    assert made.frames.shape == (task.num_frames, *task.scene.shape)
    assert made.frames.dtype == np.uint8
    torch.rand(7)  # the caller's own random numbers have no say
    assert (method(task).frames == made.frames).all()
    assert (method(changed(task, seed=1)).frames != made.frames).any()
    assert len(method(changed(task, num_frames=5)).frames) == 5


def text_parts(width: int) -> dict[str, object]:
    tokenizer = load_tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=16,
        projection_dim=width,
        num_attention_heads=2,
        num_hidden_layers=2,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return {"tokenizer": tokenizer, "text_encoder": CLIPTextModel(config)}


def image_autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(8, 8),
        latent_channels=4,
        norm_num_groups=2,
        sample_size=16,
    )


@pytest.fixture(scope="session")
def image_model(tmp_path_factory) -> Path:
    """A Stable Diffusion checkpoint, which knows no video."""
    torch.manual_seed(0)
    pipe = StableDiffusionPipeline(
        vae=image_autoencoder(),
        unet=UNet2DConditionModel(
            sample_size=8,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            block_out_channels=(8, 8),
            layers_per_block=1,
            attention_head_dim=4,
            cross_attention_dim=8,
            norm_num_groups=2,
        ),
        scheduler=PNDMScheduler(beta_schedule="scaled_linear"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        **text_parts(8),
    )
    return saved(pipe, tmp_path_factory)


def motion_layers(conv_in_channels: int | None) -> MotionAdapter:
    torch.manual_seed(1)
    return MotionAdapter(
        block_out_channels=(8, 8),
        motion_layers_per_block=1,
        motion_num_attention_heads=2,
        motion_norm_num_groups=2,
        conv_in_channels=conv_in_channels,
    )


@pytest.fixture(scope="session")
def pia_adapter(tmp_path_factory) -> Path:
    return saved(motion_layers(9), tmp_path_factory)


@pytest.fixture(scope="session")
def i2vgen_xl(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    pipe = I2VGenXLPipeline(
        vae=image_autoencoder(),
        image_encoder=CLIPVisionModelWithProjection(
            CLIPVisionConfig(
                hidden_size=4,
                projection_dim=4,
                intermediate_size=16,
                num_attention_heads=2,
                num_hidden_layers=1,
                image_size=16,
                patch_size=4,
            )
        ),
        feature_extractor=CLIPImageProcessor(crop_size=16, size=16),
        unet=I2VGenXLUNet(
            sample_size=8,
            down_block_types=("CrossAttnDownBlock3D", "DownBlock3D"),
            up_block_types=("UpBlock3D", "CrossAttnUpBlock3D"),
            block_out_channels=(4, 8),
            layers_per_block=1,
            attention_head_dim=4,
            cross_attention_dim=4,
            norm_num_groups=2,
        ),
        scheduler=DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False),
        **text_parts(4),
    )
    return saved(pipe, tmp_path_factory)


@pytest.fixture(scope="session")
def cogvideox(tmp_path_factory) -> Path:
    return saved(cogvideox_pipeline(), tmp_path_factory)


def cogvideox_pipeline(**changes: object) -> CogVideoXImageToVideoPipeline:
    torch.manual_seed(0)
    topology = {
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "in_channels": 8,
        "out_channels": 4,
        "time_embed_dim": 2,
        "text_embed_dim": 8,
        "num_layers": 1,
        "sample_width": 4,
        "sample_height": 2,
        "sample_frames": 9,
        "patch_size": 2,
        "max_text_seq_length": 16,
        "use_rotary_positional_embeddings": True,
        "use_learned_positional_embeddings": True,
    }
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁open", -1.0)]
    letters = Tokenizer(Unigram([*pieces, *((one, -2.0) for one in "▁adehrtw")], unk_id=2))
    letters.pre_tokenizer = Metaspace()
    return CogVideoXImageToVideoPipeline(
        tokenizer=T5Tokenizer(tokenizer_object=letters, extra_ids=0),
        text_encoder=T5EncoderModel(
            T5Config(vocab_size=128, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
        ),
        vae=AutoencoderKLCogVideoX(
            down_block_types=("CogVideoXDownBlock3D",) * 4,
            up_block_types=("CogVideoXUpBlock3D",) * 4,
            block_out_channels=(4, 4, 4, 4),
            latent_channels=4,
            layers_per_block=1,
            norm_num_groups=2,
            temporal_compression_ratio=4,
        ),
        transformer=CogVideoXTransformer3DModel(**{**topology, **changes}),
        scheduler=CogVideoXDDIMScheduler(),
    )


def saved(model: object, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp(type(model).__name__)
    model.save_pretrained(folder)
    return folder
