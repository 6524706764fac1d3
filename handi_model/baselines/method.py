"""What an image-to-video method is asked for, and what it gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

if TYPE_CHECKING:  # it takes seconds to import, and who reads clips needs none of it
    from diffusers import DiffusionPipeline


@dataclass(frozen=True)
class Task:
    """One test clip.

    Attributes:
        scene: (H, W, 3) uint8 RGB, the clip's first frame.
        prompt: the instruction.
        num_frames: of the clip, L.
        seed: of every random number that the method draws.
        area: (H, W) bool, the true motion mask. Only a method that is said to use it looks at it.
        fps: frames a second that the clip is played at; None where nobody says.
    """

    scene: NDArray[np.uint8]
    prompt: str
    num_frames: int
    seed: int
    area: NDArray[np.bool_]
    fps: float | None = None


@dataclass(frozen=True)
class Made:
    """One generated clip.

    Attributes:
        frames: (L, H, W, 3) uint8 RGB, the size and length asked for.
        area: (H, W) bool, where the method lets the clip change; None where it has no such area.
        change_outside: mean |frame - scene| outside of the area before it was overwritten with the
            scene, in [0, 1]; None without an area, or if nothing lies outside of it.
        generated: number of frames, height and width, pixels, of the clip that the networks made,
            where `frames` were thinned or resized from it; None where they made `frames`.
    """

    frames: NDArray[np.uint8]
    area: NDArray[np.bool_] | None
    change_outside: float | None
    generated: tuple[int, int, int] | None = None


class Method(Protocol):
    """Generates a clip; the same task gives the same clip."""

    @property
    def parameters(self) -> int:
        """Of all networks that a call uses."""

    def __call__(self, task: Task) -> Made: ...


def count_parameters(pipe: DiffusionPipeline) -> int:
    """Parameters of all networks of a pipeline, those of its text encoder and VAE among them."""
    networks = [part for part in pipe.components.values() if isinstance(part, nn.Module)]
    return sum(weight.numel() for network in networks for weight in network.parameters())
