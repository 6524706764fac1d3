"""Published image-to-video methods through diffusers' pipelines: CogVideoX, PIA and I2VGen-XL.

Each makes a clip of its own size and length; the clip is then brought to what was asked. A scene
is stretched to the method's frame and the frames back again, so nothing of it is cut off and a
pixel keeps its place. The defaults are each method's published settings; negative prompts are left
to the caller.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from diffusers import (
    CogVideoXDPMScheduler,
    CogVideoXImageToVideoPipeline,
    DDIMScheduler,
    DiffusionPipeline,
    I2VGenXLPipeline,
    MotionAdapter,
    PIAPipeline,
)
from numpy.typing import NDArray
from PIL import Image

from handi_model.baselines.method import Made, Task, count_parameters
from handi_model.bounds import LONGEST_CLIP, check_count, check_size
from handi_model.request import check_guidance

PIA_ADAPTER = "openmmlab/PIA-condition-adapter"
"""PIA's own weights on the hub: the motion layers and the first convolution."""


@dataclass(frozen=True)
class PublishedMethod:
    """A diffusers image-to-video pipeline at its own size and length.

    Attributes:
        height, width, num_frames: of the clip that the pipeline makes.
        settings: what else its call is given; a `target_fps` among them, which the network is told,
            yields to the rate at which the task's clip is played.
    """

    pipe: DiffusionPipeline
    height: int
    width: int
    num_frames: int
    settings: Mapping[str, Any]

    @property
    def parameters(self) -> int:
        return count_parameters(self.pipe)

    def __call__(self, task: Task) -> Made:
        scene, settings = Image.fromarray(task.scene), dict(self.settings)
        if "target_fps" in settings and task.fps:
            # Its frames fill the same time as the task's, from the first to the last.
            rate = task.fps * (self.num_frames - 1) / (task.num_frames - 1)
            settings["target_fps"] = max(1, round(rate))
        # I2VGen-XL's pipeline draws the image's latent without the generator that it is given.
        with torch.random.fork_rng():
            torch.manual_seed(task.seed)
            out = self.pipe(
                image=scene.resize((self.width, self.height), Image.Resampling.BICUBIC),
                prompt=task.prompt,
                height=self.height,
                width=self.width,
                num_frames=self.num_frames,
                generator=torch.Generator().manual_seed(task.seed),
                output_type="pil",
                **settings,
            )
        pictures, (height, width) = out.frames[0], task.scene.shape[:2]
        frames = resampled(pictures, height, width, task.num_frames)
        return Made(frames, None, None, (len(pictures), pictures[0].height, pictures[0].width))


def resampled(
    pictures: Sequence[Image.Image], height: int, width: int, num_frames: int
) -> NDArray[np.uint8]:
    """Frames evenly spaced in time, from the first to the last: (num_frames, height, width, 3).

    The nearest frame is taken, so none is a blend of two, and one repeats where more are asked for
    than there are. Pillow's bicubic filter averages where it shrinks (Parmar et al., "On Aliased
    Resizing and Surprising Subtleties in GAN Evaluation").
    """
    places = np.linspace(0, len(pictures) - 1, num_frames).round().astype(int)
    size = (width, height)
    return np.stack(
        [np.asarray(pictures[place].resize(size, Image.Resampling.BICUBIC)) for place in places]
    )


def open_cogvideox(
    model: str,
    device: torch.device | str,
    dtype: torch.dtype,
    *,
    num_inference_steps: int = 50,
    guidance_scale: float = 6.0,
    negative_prompt: str = "",
    height: int | None = None,
    width: int | None = None,
    num_frames: int | None = None,
) -> PublishedMethod:
    """CogVideoX image-to-video (Yang et al. 2024).

    Sampled as the authors' `inference/cli_demo.py` (github.com/THUDM/CogVideo) does: the DPM
    scheduler with trailing timesteps, and dynamic guidance.

    Args:
        model: folder or hub id, such as `THUDM/CogVideoX-5b-I2V`.
        height, width: default what the checkpoint was trained at, 480 and 720 (768 and 1360 for
            CogVideoX 1.5).
        num_frames: default the checkpoint's, 49 (81); 1 more than a multiple of the autoencoder's
            temporal factor, 4.

    Raises:
        ValueError: in one line, if it cannot be loaded or a setting cannot be met.
    """
    pipe = _load(CogVideoXImageToVideoPipeline, model, dtype)
    config = pipe.transformer.config
    if config.in_channels != 2 * pipe.vae.config.latent_channels:
        raise ValueError(
            f"model: {model} takes no image, it is a text-to-video checkpoint; give an "
            "image-to-video one, such as THUDM/CogVideoX-5b-I2V"
        )
    factor = pipe.vae_scale_factor_spatial
    own = (config.sample_height * factor, config.sample_width * factor)
    # CogVideoX 1.5 gives the largest grid of its position embedding there, not a size to sample.
    native = own if config.patch_size_t is None else (768, 1360)
    size = (native[0] if height is None else height, native[1] if width is None else width)
    if config.use_learned_positional_embeddings and size != own:
        raise ValueError(
            f"height, width: {model} makes frames of {own[0]} by {own[1]} only; leave them out"
        )
    frames = check_count(
        "num_frames",
        config.sample_frames if num_frames is None else num_frames,
        2,
        LONGEST_CLIP,
        "frames",
    )
    over = (frames - 1) % pipe.vae_scale_factor_temporal
    if over:
        below = frames - over
        raise ValueError(
            f"num_frames: {frames} cannot be made by {model}; take {below} or "
            f"{below + pipe.vae_scale_factor_temporal}"
        )
    pipe.scheduler = CogVideoXDPMScheduler.from_config(
        pipe.scheduler.config, timestep_spacing="trailing"
    )
    pipe.vae.enable_tiling()
    return _method(
        pipe.to(device),
        *size,
        factor * config.patch_size,
        frames,
        num_inference_steps=num_inference_steps,
        guidance_scale=guidance_scale,
        negative_prompt=negative_prompt,
        use_dynamic_cfg=True,
        max_sequence_length=config.max_text_seq_length,
    )


def open_pia(
    model: str,
    device: torch.device | str,
    dtype: torch.dtype,
    *,
    motion_adapter: str | None = PIA_ADAPTER,
    motion_scale: int = 0,
    num_inference_steps: int = 25,
    guidance_scale: float = 7.5,
    negative_prompt: str = "",
    height: int | None = None,
    width: int | None = None,
    num_frames: int = 16,
) -> PublishedMethod:
    """PIA (Zhang et al. 2023), on a Stable Diffusion 1.5 checkpoint.

    Schedule and steps are those of `example/config/base.yaml`, the guidance that of its pipeline
    (github.com/open-mmlab/PIA).

    Args:
        model: folder or hub id of the image model, such as
            `SG161222/Realistic_Vision_V6.0_B1_noVAE`; without an adapter, of a saved PIA pipeline.
        motion_adapter: folder or hub id of PIA's own weights; None if `model` holds them.
        motion_scale: 0 small, 1 moderate, 2 large motion; to 8, see `PIAPipeline`.
        height, width: default the image model's, 512.
        num_frames: at most what the adapter was trained for, 32.

    Raises:
        ValueError: in one line, if it cannot be loaded or a setting cannot be met.
    """
    parts = {}
    if motion_adapter is not None:
        parts["motion_adapter"] = _load(MotionAdapter, motion_adapter, dtype)
    pipe = _load(PIAPipeline, model, dtype, **parts)
    # Noisy latent, image latent, and the channel that says how near a frame is to the image.
    if pipe.motion_adapter is None or pipe.unet.config.in_channels != 9:
        raise ValueError(
            f"motion_adapter: {motion_adapter or model} holds no weights of PIA; give its adapter, "
            f"such as {PIA_ADAPTER}"
        )
    # The UNet has its layers by now: kept beside it they would count and take memory twice.
    pipe.register_modules(motion_adapter=None)
    pipe.scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="linear",
        steps_offset=1,
        clip_sample=False,
    )
    native = pipe.unet.config.sample_size * pipe.vae_scale_factor
    longest = pipe.unet.config.motion_max_seq_length
    return _method(
        pipe.to(device),
        native if height is None else height,
        native if width is None else width,
        8,
        check_count("num_frames", num_frames, 2, longest, "frames"),
        num_inference_steps=num_inference_steps,
        guidance_scale=guidance_scale,
        negative_prompt=negative_prompt,
        motion_scale=check_count("motion_scale", motion_scale, 0, 8, "PIA's kinds of motion"),
    )


def open_i2vgen_xl(
    model: str,
    device: torch.device | str,
    dtype: torch.dtype,
    *,
    num_inference_steps: int = 50,
    guidance_scale: float = 9.0,
    negative_prompt: str = "",
    height: int = 704,
    width: int = 1280,
    num_frames: int = 16,
) -> PublishedMethod:
    """I2VGen-XL (Zhang et al. 2023).

    Guidance, length and, where a task has none, frame rate are those of
    `configs/i2vgen_xl_infer.yaml` (github.com/ali-vilab/VGen), size and steps those of
    `I2VGenXLPipeline`. Its image encoder sees the middle square of the frame alone, so a square
    frame shows it the whole scene.

    Args:
        model: folder or hub id, such as `ali-vilab/i2vgen-xl`.

    Raises:
        ValueError: in one line, if it cannot be loaded or a setting cannot be met.
    """
    pipe = _load(I2VGenXLPipeline, model, dtype)
    if not hasattr(pipe.text_encoder, "text_model"):
        # The pipeline looks for a level that transformers 5.6 did away with (diffusers, issue
        # 14124). Not by assignment: torch would take the network for a part of itself.
        pipe.text_encoder.__dict__["text_model"] = pipe.text_encoder
    return _method(
        pipe.to(device),
        height,
        width,
        8,
        check_count("num_frames", num_frames, 2, LONGEST_CLIP, "frames"),
        num_inference_steps=num_inference_steps,
        guidance_scale=guidance_scale,
        negative_prompt=negative_prompt,
        target_fps=16,
    )


def _method(
    pipe: DiffusionPipeline,
    height: int,
    width: int,
    multiple: int,
    num_frames: int,
    **settings: Any,
) -> PublishedMethod:
    """Check what every pipeline is given. Sides must be multiples of `multiple`."""
    check_size(height, width, multiple)
    most = pipe.scheduler.config.num_train_timesteps
    check_count("num_inference_steps", settings["num_inference_steps"], 1, most, "steps")
    check_guidance(settings["guidance_scale"], 1)
    pipe.set_progress_bar_config(disable=True)
    return PublishedMethod(pipe, height, width, num_frames, settings)


def _load(kind: Any, model: str, dtype: torch.dtype, **parts: Any) -> Any:
    """Read a pipeline or network from safetensors alone: pickled weights can run code."""
    try:
        return kind.from_pretrained(model, dtype=dtype, use_safetensors=True, **parts)
    except Exception as error:  # the libraries say it with many types
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if "tiktoken" in str(error):  # what transformers tries, and names, last
            reason = (
                "its tokenizer needs sentencepiece, which is missing: pip install sentencepiece"
            )
        raise ValueError(f"{model}: cannot be loaded as {kind.__name__}: {reason}") from error
