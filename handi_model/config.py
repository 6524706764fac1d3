"""What a HANDI model is made of: its topology, its noise schedule and its defaults, in two presets.

`base` is the topology of the published text-to-video checkpoint `damo-vilab/text-to-video-ms-1.7b`
(its `unet/config.json`); `tiny` trains on two CPU cores in minutes.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

Stage = Literal["mask", "video"]
"""Stage 1 denoises the mask video, stage 2 the video."""

STAGES: tuple[Stage, Stage] = ("mask", "video")

Predicts = Literal["noise", "velocity"]

DType = Literal["float32", "bfloat16", "float16"]
"""Type in which a job computes."""


DEFAULT_FPS = 8.0
"""Of a model that has seen no data set, and of those saved before they knew their rate."""
LOWEST_FPS, HIGHEST_FPS = 0.1, 120.0


class ModelConfig(BaseModel):
    """Topology, noise schedule and sampling defaults of one model.

    The defaults of the fields are those of the `base` preset.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    preset: str = Field("base", description="Name of the preset that the values come from.")
    resolution: int = Field(256, ge=8, description="Side of a frame, pixels.")
    num_frames: int = Field(16, ge=2, description="Frames of a clip (L).")
    fps: float = Field(
        DEFAULT_FPS,
        ge=LOWEST_FPS,
        le=HIGHEST_FPS,
        description="Frames a second that its clips are played at: those of the data set that it "
        "was trained on.",
    )
    latent_channels: int = Field(4, ge=1, description="Channels of the autoencoder's latent.")
    latent_factor: int = Field(8, ge=1, description="Pixels a side of one latent cell.")
    block_out_channels: tuple[PositiveInt, ...] = Field(
        (320, 640, 1280, 1280), min_length=1, description="Channels of the UNet's levels."
    )
    attention_levels: tuple[bool, ...] = Field(
        (True, True, True, False), description="Which levels attend to the instruction."
    )
    layers_per_block: int = Field(2, ge=1, description="Residual blocks of a level.")
    cross_attention_dim: int = Field(1024, ge=1, description="Channels of a text embedding.")
    attention_head_dim: int = Field(64, ge=1, description="Channels of an attention head.")
    norm_num_groups: int = Field(32, ge=1, description="Groups of a GroupNorm.")
    temporal_dropout: float = Field(
        0.1, ge=0, lt=1, description="Dropout inside the temporal convolutions while training."
    )
    predicts: Predicts = Field("noise", description="What the network's output means.")
    residual: bool = Field(
        False,
        description="Diffuse the difference from the latent of a clip in which nothing moves "
        "(stage 2: the image repeated; stage 1: the empty mask) instead of the latent itself.",
    )
    train_timesteps: int = Field(1000, ge=1, description="Timesteps of the forward process (T).")
    beta_start: float = Field(0.00085, gt=0, lt=1, description="Noise variance of the first step.")
    beta_end: float = Field(0.012, gt=0, lt=1, description="Noise variance of the last step.")
    zero_terminal_snr: bool = Field(
        False, description="Rescale the schedule so that the last timestep is pure noise."
    )
    guidance_scale: float = Field(9.0, ge=1, description="Default guidance when sampling.")
    num_inference_steps: int = Field(25, ge=1, description="Default denoising steps.")

    @model_validator(mode="after")
    def _topology_holds(self) -> ModelConfig:
        if len(self.attention_levels) != len(self.block_out_channels):
            raise ValueError("attention_levels and block_out_channels must have one entry a level")
        for channels in self.block_out_channels:
            if channels % self.norm_num_groups or channels % self.attention_head_dim:
                raise ValueError(
                    f"block_out_channels: {channels} is not a multiple of norm_num_groups "
                    f"({self.norm_num_groups}) and attention_head_dim ({self.attention_head_dim})"
                )
        if self.resolution % self.pixel_multiple:
            raise ValueError(
                f"resolution: {self.resolution} is not a multiple of {self.pixel_multiple}, the "
                "autoencoder's factor times the UNet's"
            )
        if self.beta_start > self.beta_end:
            raise ValueError("beta_start must not exceed beta_end: noise grows with the timestep")
        if self.num_inference_steps > self.train_timesteps:
            raise ValueError("num_inference_steps must not exceed train_timesteps")
        if self.zero_terminal_snr and self.predicts == "noise":
            raise ValueError(
                "zero_terminal_snr needs predicts=velocity: where nothing but noise is left, "
                "the noise says nothing about the clip"
            )
        return self

    @property
    def pixel_multiple(self) -> int:
        """Sides of frames must be multiples of this: the autoencoder's factor times the UNet's."""
        return int(self.latent_factor * 2 ** (len(self.block_out_channels) - 1))

    @classmethod
    def of(cls, preset: str, **changes: Any) -> ModelConfig:
        """The preset's configuration, with `changes` to single fields.

        Raises:
            ValueError: for an unknown preset or field, or a value that does not fit, in one line.
        """
        if preset not in PRESETS:
            raise ValueError(f"preset {preset!r}: there are {', '.join(PRESETS)}")
        try:
            return cls(**{"preset": preset, **PRESETS[preset], **changes})
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            message = first["msg"].removeprefix("Value error, ")
            raise ValueError(
                f"{field}: {message}, got {first['input']!r}" if field else message
            ) from error


PRESETS: dict[str, dict[str, Any]] = {
    "base": {},
    "tiny": {
        "resolution": 64,
        "latent_channels": 16,
        "block_out_channels": (48, 96),
        "attention_levels": (True, True),
        "layers_per_block": 1,
        "cross_attention_dim": 64,
        "attention_head_dim": 16,
        "norm_num_groups": 16,
        "temporal_dropout": 0.0,
        "predicts": "velocity",
        "residual": True,
        "guidance_scale": 1.0,
    },
}
