"""What a clip shows for itself: hands, flow, features, embeddings. Two views make the figures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handi_model.metrics.captions import middle_frame
from handi_model.metrics.locality import area_square, optical_flow
from pipelines.evaluation.seen_hands import SeenHands, seen_hands
from pipelines.hands import HandTracker


class OncePerFrame:
    """A network of frames, (N, H, W, 3) -> (N, D), that remembers each frame.

    Inception takes most of the time, and a still clip is one frame many times, a shuffled one the
    real frames again.
    """

    def __init__(self, network: Callable[[NDArray[np.uint8]], NDArray[np.float32]]) -> None:
        self._network = network
        self._known: dict[bytes, NDArray[np.float32]] = {}

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        names = [frame.tobytes() for frame in frames]
        new = {name: i for i, name in enumerate(names) if name not in self._known}
        if new:
            found = self._network(frames[list(new.values())])
            self._known |= dict(zip(new, found, strict=True))
        return np.stack([self._known[name] for name in names])


@dataclass(frozen=True)
class View:
    """What a clip shows.

    Attributes:
        hands: on the frames; in_area: on the part of the frames around the motion area.
        flow: see `optical_flow`.
        features: `inception` (L, 2048), `i3d` and `i3d_area` (1, 400): those that can be had.
        clip: (L, D) embeddings of the frames.
        egovlp: (256,) embedding of the clip.
        caption: of the middle frame.
        None for a network that cannot be had.
    """

    hands: SeenHands
    in_area: SeenHands
    flow: NDArray[np.float32]
    features: dict[str, NDArray[np.float32]]
    clip: NDArray[np.float32] | None
    egovlp: NDArray[np.float32] | None
    caption: str | None


def view(
    frames: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    tracker: HandTracker,
    backbones: dict[str, Any],
) -> View:
    """Look at a clip.

    Args:
        frames: (L, H, W, 3) uint8 RGB.
        mask: (H, W), the true motion area: every method is looked at in the same place.
        backbones: see `Networks`.

    Raises:
        DetectorError: if MediaPipe hangs or dies on this clip.
    """
    top, left, side = area_square(mask)
    inside = np.ascontiguousarray(frames[:, top : top + side, left : left + side])
    inception, i3d, clip, egovlp, blip = (
        backbones.get(key) for key in ("inception", "i3d", "clip", "egovlp", "blip")
    )
    features: dict[str, NDArray[np.float32]] = {}
    if inception:
        features["inception"] = inception(frames)
    if i3d:
        features |= {"i3d": i3d(frames)[None], "i3d_area": i3d(inside)[None]}
    if not all(np.isfinite(one).all() for one in features.values()):
        raise ValueError("its features are not finite: the clip or the network is damaged")
    return View(
        hands=seen_hands(frames, tracker),
        in_area=seen_hands(inside, tracker),
        flow=optical_flow(frames),
        features=features,
        clip=clip.images(frames) if clip else None,
        egovlp=egovlp(frames) if egovlp else None,
        caption=blip(middle_frame(frames)) if blip else None,
    )
