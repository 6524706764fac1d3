"""HandiUNet: one 3D UNet for both stages.

The backbone is diffusers' `UNet3DConditionModel`, shared whole. A stage owns only its first and
last convolution, and a vector in the timestep embedding. What is added to the published topology
(image latent, mask channel, stage, frame index) enters through weights that start at zero, so an
untrained HandiUNet gives exactly what the checkpoint it started from gives.
"""

from __future__ import annotations

import inspect
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin, UNet3DConditionModel
from diffusers.configuration_utils import register_to_config
from diffusers.loaders import PeftAdapterMixin
from diffusers.models.embeddings import get_timestep_embedding
from diffusers.models.resnet import ResnetBlock2D, TemporalConvLayer
from diffusers.models.transformers import Transformer2DModel
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from handi_model.config import STAGES, ModelConfig, Stage
from handi_model.text_to_video import check_topology, read_weights, unet_folder

CHECKPOINTED = (ResnetBlock2D, TemporalConvLayer, Transformer2DModel, TransformerTemporalModel)
"""What gradient checkpointing computes anew in the backward pass: the layers of every block."""

ENDS = ("conv_in.weight", "conv_in.bias", "conv_out.weight", "conv_out.bias")
"""The plain UNet's weights that each stage has its own of."""

STAGE_PROJ = "time_embedding.cond_proj.weight"
"""The backbone's weight that takes the stage, which a plain UNet does not have."""


class HandiUNet(ModelMixin, ConfigMixin, PeftAdapterMixin):
    """Two-stage 3D UNet (Li, Cao and Corso, section 3) over one shared backbone.

    A step leaves the other stage's first and last convolution without a gradient, so
    `DistributedDataParallel` needs `find_unused_parameters=True`.

    Args: the fields of `ModelConfig` of the same name; `sample_size` is the side of the latent
        that the prior is stored at.

    Attributes:
        prior: (sample_size, sample_size) float in [0, 1], the mean training mask, which stage 1 is
            conditioned on. Saved with the weights; zero until `set_prior`.
    """

    _supports_gradient_checkpointing = True
    gradient_checkpointing = False
    prior: Tensor

    @register_to_config
    def __init__(
        self,
        sample_size: int = 32,
        latent_channels: int = 4,
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        attention_levels: tuple[bool, ...] = (True, True, True, False),
        layers_per_block: int = 2,
        cross_attention_dim: int = 1024,
        attention_head_dim: int = 64,
        norm_num_groups: int = 32,
        temporal_dropout: float = 0.1,
    ) -> None:
        super().__init__()
        width = block_out_channels[0]
        self.backbone = UNet3DConditionModel(
            sample_size=sample_size,
            in_channels=latent_channels,
            out_channels=latent_channels,
            down_block_types=tuple(
                "CrossAttnDownBlock3D" if attends else "DownBlock3D" for attends in attention_levels
            ),
            up_block_types=tuple(
                "CrossAttnUpBlock3D" if attends else "UpBlock3D"
                for attends in reversed(attention_levels)
            ),
            block_out_channels=block_out_channels,
            layers_per_block=layers_per_block,
            cross_attention_dim=cross_attention_dim,
            attention_head_dim=attention_head_dim,
            norm_num_groups=norm_num_groups,
            time_cond_proj_dim=len(STAGES),
        )
        # Noisy latent, image latent, and one channel for the prior or the mask.
        self.conv_in = nn.ModuleDict(
            {stage: nn.Conv2d(2 * latent_channels + 1, width, 3, padding=1) for stage in STAGES}
        )
        self.conv_out = nn.ModuleDict(
            {stage: nn.Conv2d(width, latent_channels, 3, padding=1) for stage in STAGES}
        )
        # The backbone's temporal layers know a frame's neighbours, not its place in the clip.
        self.frame_proj = nn.Linear(width, width, bias=False)
        self.register_buffer("prior", torch.zeros(sample_size, sample_size))
        ends = {name: self.backbone.get_parameter(name).detach() for name in ENDS}
        self.backbone.conv_in = nn.Identity()
        self.backbone.conv_out = nn.Identity()
        self.load_state_dict(_beside_the_backbone(ends), strict=False)
        for module in self.backbone.modules():
            if isinstance(module, nn.Dropout) and module.p:
                module.p = temporal_dropout

    @classmethod
    def of(cls, config: ModelConfig) -> HandiUNet:
        """A new network with the topology of `config` and random weights."""
        return cls(
            sample_size=config.resolution // config.latent_factor,
            **config.model_dump(include=set(inspect.signature(cls).parameters)),
        )

    @classmethod
    def from_text_to_video(cls, folder: str | Path, config: ModelConfig) -> HandiUNet:
        """Start from a published text-to-video UNet in diffusers' layout.

        Args:
            folder: of the pipeline or of its UNet, or a pipeline's hub id; with whole or sharded
                safetensors in any precision.
            config: must have the checkpoint's topology.

        Returns:
            float32, in training mode. Before any training it gives what the checkpoint gives.

        Raises:
            ValueError: if there is no such checkpoint, its weights are pickled or incomplete, or
                its topology is another one; the line names the first difference.
        """
        root = unet_folder(folder)
        # Its memory is the checkpoint's: nothing is drawn at random only to be overwritten.
        with torch.device("meta"):
            unet = cls.of(config)
        check_topology(root, unet.backbone, config.preset)
        plain = read_weights(root)
        shared = [name for name in unet.backbone.state_dict() if name != STAGE_PROJ]
        for name in (*ENDS, *shared):
            if name not in plain:
                raise ValueError(f"{root}: {name} is not among its weights; get it anew")
        weights = {f"backbone.{name}": plain[name].float() for name in shared}
        weights |= _beside_the_backbone({name: plain[name].float() for name in ENDS})
        weights["prior"] = torch.zeros(unet.prior.shape)
        unet.load_state_dict(weights, assign=True)
        return unet

    def set_prior(self, prior: Tensor) -> None:
        """Store the data set's prior, (H, W) in [0, 1], at the latent's size.

        Raises:
            ValueError: if it is not (H, W) or not in [0, 1].
        """
        if prior.ndim != 2 or not bool(((prior >= 0) & (prior <= 1)).all()):
            raise ValueError(f"a prior must be (H, W) in [0, 1], got {tuple(prior.shape)}")
        resized = nn.functional.interpolate(
            prior[None, None].to(self.prior), self.prior.shape, mode="area"
        )
        self.prior.copy_(resized[0, 0])

    def forward(
        self,
        noisy: Tensor,
        timestep: Tensor,
        text: Tensor,
        image_latent: Tensor,
        area: Tensor,
        stage: Stage,
    ) -> Tensor:
        """Predict the noise (or velocity) of one stage.

        Args:
            noisy: (B, C, L, h, w) noisy latent of the mask video or of the video.
            timestep: (B,) int.
            text: (B, T, D) embedded instruction.
            image_latent: (B, C, h, w) latent of the image; it is repeated over the frames.
            area: (B, h, w) in [0, 1]: stage 1 the prior, stage 2 the mask.
            stage: `"mask"` or `"video"`.

        Returns:
            (B, C, L, h, w).
        """
        batch, _, frames = noisy.shape[:3]
        still = torch.cat([image_latent, area[:, None]], 1)
        still = still[:, :, None].expand(-1, -1, frames, -1, -1)
        # In the weights' own type: training noises its latents in float32.
        dtype = self.frame_proj.weight.dtype
        inputs = torch.cat([noisy.to(dtype), still.to(dtype)], 1)
        hidden = self.conv_in[stage](inputs.transpose(1, 2).flatten(0, 1))
        hidden = hidden.unflatten(0, (batch, frames)).transpose(1, 2)
        hidden = hidden + self._frame_embedding(frames, hidden).T[:, :, None, None]
        which = inputs.new_zeros(batch, len(STAGES))
        which[:, STAGES.index(stage)] = 1
        hidden = self.backbone(
            hidden, timestep, text.to(dtype), timestep_cond=which, return_dict=False
        )[0]
        out = self.conv_out[stage](hidden.transpose(1, 2).flatten(0, 1))
        return out.unflatten(0, (batch, frames)).transpose(1, 2)

    def _frame_embedding(self, frames: int, like: Tensor) -> Tensor:
        """(L, width): where a frame stands between the clip's first and last."""
        # In thousandths of the clip, so that a clip of another length spans the same range.
        place = torch.linspace(0, 1000, frames, device=like.device)
        embedding = get_timestep_embedding(place, self.frame_proj.in_features)
        return self.frame_proj(embedding.to(like.dtype))

    def set_attention_slice(self, slice_size: str | int | list[int] | None) -> None:
        """Compute attention in slices, which saves memory; see diffusers."""
        self.backbone.set_attention_slice(slice_size)

    def enable_gradient_checkpointing(self, gradient_checkpointing_func: Any = None) -> None:
        """Keep only the inputs of each layer for the backward pass, and compute the rest anew.

        diffusers has this for the spatial attention of a 3D UNet only.

        Args:
            gradient_checkpointing_func: called with a layer's forward and its arguments; torch's
                `checkpoint` where it is not given.
        """
        function = gradient_checkpointing_func or partial(checkpoint, use_reentrant=False)
        for layer in self._checkpointed_layers():
            # On the instance and not in a wrapper, so that the weights keep their names.
            layer.__dict__["forward"] = partial(function, type(layer).forward.__get__(layer))
        self.gradient_checkpointing = True

    def disable_gradient_checkpointing(self) -> None:
        """Keep what the backward pass needs again."""
        for layer in self._checkpointed_layers():
            layer.__dict__.pop("forward", None)
        self.gradient_checkpointing = False

    def _checkpointed_layers(self) -> list[nn.Module]:
        return [module for module in self.backbone.modules() if isinstance(module, CHECKPOINTED)]


def _beside_the_backbone(ends: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of what a HandiUNet adds, with which it gives what the plain UNet gives.

    Args:
        ends: the plain UNet's first and last convolution, by the names in `ENDS`.
    """
    first = ends["conv_in.weight"]
    width, channels = first.shape[:2]
    weights = {
        "frame_proj.weight": first.new_zeros(width, width),
        f"backbone.{STAGE_PROJ}": first.new_zeros(width, len(STAGES)),
    }
    for stage in STAGES:
        for name in ENDS:
            layer, kind = name.split(".")
            weights[f"{layer}.{stage}.{kind}"] = ends[name].clone()
        image_and_area = first.new_zeros(width, channels + 1, *first.shape[2:])
        weights[f"conv_in.{stage}.weight"] = torch.cat([first, image_and_area], 1)
    return weights
