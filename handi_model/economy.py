"""Which pixels a training step decodes: a few frames, and windows of the latent around the hands.

Decoding all frames costs more than the network itself. A random subset of the frames gives an
unbiased estimate of a mean over frames; a window around a hand gives nearly the pixels that the
whole frame's decoding gives there, since the autoencoder's decoder is local but for its norms and
its innermost attention. Everything here is bookkeeping on the CPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

WINDOW_STEP = 4
"""Windows grow in steps of this many latent cells, so that few different shapes come up."""


@dataclass(frozen=True)
class Windows:
    """Pieces of a clip batch's latents, all of one size, and the hands that lie in them.

    Attributes:
        place: for each window its item, frame, top row and left column, in latent cells.
        size: height and width of every window, latent cells.
        window_of: (R,) int64, the window of each hand.
        hands: (R, 3) int64, each hand's item, its place among the chosen frames, and its slot.
    """

    place: list[tuple[int, int, int, int]]
    size: tuple[int, int]
    window_of: Tensor
    hands: Tensor

    def cut(self, latents: Tensor) -> Tensor:
        """(B, C, L, h, w) latents -> (N, C, *size)."""
        height, width = self.size
        return torch.stack(
            [
                latents[item, :, frame, top : top + height, left : left + width]
                for item, frame, top, left in self.place
            ]
        )

    def corners(self, latent_factor: int) -> Tensor:
        """(R, 2): x and y of the upper left corner of each hand's window, pixels of the frame."""
        corners = torch.tensor([[left, top] for _, _, top, left in self.place])
        return corners[self.window_of] * latent_factor


def random_frames(
    batch: int, frames: int, count: int | None, generator: torch.Generator | None
) -> Tensor:
    """(B, K) int64: for each item `count` different frames, each equally likely; None takes all."""
    count = frames if count is None else min(count, frames)
    order = torch.rand(batch, frames, generator=generator).argsort(1)
    return order[:, :count].sort(1).values


def random_frames_with_hands(
    visible: Tensor, count: int | None, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Choose among the frames that show a hand, since others add nothing to eq. 5.

    Args:
        visible: (B, L, 42) bool.
        count: frames of an item; None takes all.

    Returns:
        frames (B, K) int64, and weight (B,): eq. 5 over the chosen frames times the weight has
        eq. 5 over all frames as its expected value.
    """
    length = visible.shape[1]
    count = length if count is None else min(count, length)
    shown = visible.any(2)
    # Frames with a hand come first, in random order.
    order = (torch.rand(shown.shape, generator=generator) - shown.float()).argsort(1)
    weight = shown.sum(1).clamp(min=count) / length
    return order[:, :count], weight


def hand_windows(
    regions: Tensor, frames: Tensor, size: tuple[int, int], latent_factor: int, margin: int | None
) -> Windows | None:
    """Windows of the latent around the hands of the chosen frames.

    Args:
        regions: (B, K, 2, 4) CPU tensor: centre x, centre y, side in pixels and rotation of each
            hand of the chosen frames; side 0 where there is no hand.
        frames: (B, K) int64, the chosen frames.
        size: height and width of the latent.
        margin: latent cells around a hand's region; None takes whole frames.

    Returns:
        None where no chosen frame shows a hand. Hands of one frame share a window where their
        windows fall together, as whole frames do.
    """
    hands = (regions[..., 2] > 0).nonzero()
    if not len(hands):
        return None
    chosen = regions[tuple(hands.T)].double()
    # Half the side of the upright square around the rotated one.
    reach = chosen[:, 2] / 2 * (chosen[:, 3].cos().abs() + chosen[:, 3].sin().abs())
    low = ((chosen[:, :2] - reach[:, None]) / latent_factor).floor().long()
    high = ((chosen[:, :2] + reach[:, None]) / latent_factor).ceil().long()
    height, width = size
    if margin is not None:
        needed = int((high - low).max()) + 2 * margin
        side = math.ceil(needed / WINDOW_STEP) * WINDOW_STEP
        height, width = min(height, side), min(width, side)
    middle = (low + high) // 2
    places: dict[tuple[int, int, int, int], int] = {}
    window_of = []
    for (item, nth, _), (x, y) in zip(hands.tolist(), middle.tolist(), strict=True):
        top = min(max(y - height // 2, 0), size[0] - height)
        left = min(max(x - width // 2, 0), size[1] - width)
        place = (item, int(frames[item, nth]), top, left)
        window_of.append(places.setdefault(place, len(places)))
    return Windows(list(places), (height, width), torch.tensor(window_of), hands)
