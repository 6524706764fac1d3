"""What the deployments send each other. Plain data, so that none loads the other's libraries."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MaskOrder:
    """A motion area that somebody waits for.

    Attributes:
        scene: PNG at the clip's size.
    """

    scene: bytes
    height: int
    width: int
    num_frames: int
    prompt: str
    seed: int
    guidance_scale: float
    mask_steps: int
    negative_prompt: str = ""

    @property
    def alike(self) -> str:
        """Orders of which this is equal can be denoised together."""
        shape = f"{self.height}x{self.width}x{self.num_frames}"
        return f"{shape}/{self.mask_steps}/{self.negative_prompt}"
