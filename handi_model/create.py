"""New pipelines: `tiny` from what ships with the project, `base` from a published checkpoint."""

from __future__ import annotations

from pathlib import Path

from diffusers import AutoencoderKL, DPMSolverMultistepScheduler
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from handi_model import tiny
from handi_model.config import ModelConfig
from handi_model.damage import check_local_safetensors
from handi_model.diffusion import scheduler_config
from handi_model.pipeline import HandiPipeline
from handi_model.unet import HandiUNet


def new_pipeline(config: ModelConfig, checkpoint: str | Path | None = None) -> HandiPipeline:
    """A pipeline to train, of either preset.

    Args:
        checkpoint: for `base`, a text-to-video checkpoint in diffusers' layout, a folder or a hub
            id (`damo-vilab/text-to-video-ms-1.7b`). Without one `base` gets random weights, which
            serve to measure speed and memory; `tiny` takes none.

    Raises:
        ValueError: if the checkpoint is not there, has another topology or a damaged file, in one
            line, or if `tiny` is given one.
    """
    if config.preset == "tiny":
        if checkpoint is not None:
            raise ValueError("checkpoint: the preset 'tiny' starts from what ships with it")
        parts = tiny.load_autoencoder(), tiny.load_text_encoder(), tiny.load_tokenizer()
        return assemble(config, HandiUNet.of(config), *parts)
    if checkpoint is None:
        return _random_base(config)
    unet = HandiUNet.from_text_to_video(checkpoint, config)
    try:
        check_encoders(checkpoint)
        parts = (
            AutoencoderKL.from_pretrained(checkpoint, subfolder="vae", use_safetensors=True),
            CLIPTextModel.from_pretrained(
                checkpoint, subfolder="text_encoder", use_safetensors=True
            ),
            CLIPTokenizer.from_pretrained(checkpoint, subfolder="tokenizer"),
        )
    except OSError as error:
        raise ValueError(f"{checkpoint}: {str(error).splitlines()[0]}") from error
    # A folder's place says nothing to those who get the model, its name may.
    base = Path(checkpoint).name if Path(checkpoint).exists() else str(checkpoint)
    return assemble(config, unet, *parts, base_model=base)


def check_encoders(checkpoint: str | Path) -> None:
    """See that what a local checkpoint has of an autoencoder and a text encoder is whole.

    Raises:
        DamagedFile: if a file of weights is not.
    """
    for part in ("vae", "text_encoder"):
        for file in sorted((Path(checkpoint) / part).glob("*.safetensors")):
            check_local_safetensors(file)


def assemble(
    config: ModelConfig,
    unet: HandiUNet,
    vae: AutoencoderKL,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    base_model: str | None = None,
) -> HandiPipeline:
    """A pipeline of these networks, in evaluation mode, with what `config` sets for sampling.

    Args:
        base_model: the checkpoint that they are of; None where they are new or ship with this.
    """
    for network in (unet, vae, text_encoder):
        network.eval()
    return HandiPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DPMSolverMultistepScheduler(**scheduler_config(config)),
        residual=config.residual,
        num_frames=config.num_frames,
        guidance_scale=config.guidance_scale,
        num_inference_steps=config.num_inference_steps,
        fps=config.fps,
        base_model=base_model,
    )


def _random_base(config: ModelConfig) -> HandiPipeline:
    """`base` in its real topology with random weights; only its vocabulary is the small one."""
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=config.latent_channels,
        sample_size=config.resolution,
    )
    text = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=config.cross_attention_dim,
        intermediate_size=4 * config.cross_attention_dim,
        num_hidden_layers=23,
        num_attention_heads=16,
        max_position_embeddings=77,
        hidden_act="gelu",
    )
    tokenizer = tiny.load_tokenizer()
    tokenizer.model_max_length = 77
    return assemble(config, HandiUNet.of(config), vae, CLIPTextModel(text), tokenizer)
