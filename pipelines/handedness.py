"""Which detection is the left hand and which the right, over a whole clip.

MediaPipe labels each frame by itself, and its label flickers. Detections are linked over time by
where they are; each chain votes, so that one doubtful frame does not swap a hand's slot.

This file goes with every release of test clips as it is: it needs numpy alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

SAME_HAND = 0.25
"""Two detections in one frame nearer than this, in hand sizes, are one hand seen twice."""
LINK = 1.0
"""A hand moves less than this, in hand sizes, between two sampled frames."""
MEMORY = 3
"""Frames after which a chain that was not seen again is closed."""


@dataclass(frozen=True)
class Hand:
    """One detected hand.

    Attributes:
        joints: (21, 2) float32, normalised to the frame, in MediaPipe's landmark order.
        right: score of its being a right hand, [0, 1]. Handedness is the wearer's own: MediaPipe's
            label is taken as it is, which holds for pictures that are not mirrored.
    """

    joints: NDArray[np.float32]
    right: float


@dataclass
class _Chain:
    """One hand followed over time."""

    frames: list[int] = field(default_factory=list)
    hands: list[Hand] = field(default_factory=list)

    @property
    def vote(self) -> float:
        """Positive for a right hand, negative for a left one; its size is the certainty."""
        return sum(hand.right - 0.5 for hand in self.hands)


def assign_slots(
    detections: list[list[Hand]],
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]]:
    """Put a clip's detections into the slots of the left and the right hand.

    Args:
        detections: the hands of each frame, at most two.

    Returns:
        joints (L, 42, 2) float32, left hand 0-20, right hand 21-41, zeros where undetected;
        detected (L, 2) bool, left then right; score (L, 2) float32, MediaPipe's certainty of the
        label it gave that detection, [0.5, 1], zero where undetected.
    """
    joints = np.zeros((len(detections), 42, 2), np.float32)
    detected = np.zeros((len(detections), 2), bool)
    score = np.zeros((len(detections), 2), np.float32)
    # The most certain chain chooses its slot first; where that is taken it gets the other one.
    for chain in sorted(_chains(detections), key=lambda chain: -abs(chain.vote)):
        for frame, hand in zip(chain.frames, chain.hands, strict=True):
            wanted = int(chain.vote > 0)
            slot = 1 - wanted if detected[frame, wanted] else wanted
            if detected[frame, slot]:
                continue
            joints[frame, slot * 21 : slot * 21 + 21] = hand.joints
            detected[frame, slot] = True
            score[frame, slot] = max(hand.right, 1 - hand.right)
    return joints, detected, score


def interpolate(
    joints: NDArray[np.float32],
    detected: NDArray[np.bool_],
    score: NDArray[np.float32],
    length: int,
    stride: int,
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.float32]]:
    """Fill the frames between every `stride`-th one: linear in time, where both ends are known."""
    at = np.arange(0, length, stride)
    full_joints = np.zeros((length, 42, 2), np.float32)
    full_detected = np.zeros((length, 2), bool)
    full_score = np.zeros((length, 2), np.float32)
    for frame in range(length):
        before = frame // stride
        after = min(before + (frame % stride > 0), len(at) - 1)
        weight = 0.0 if at[after] == at[before] else (frame - at[before]) / (at[after] - at[before])
        known = detected[before] & detected[after] & (frame <= at[after])
        known_joints = np.repeat(known, 21)[:, None]
        mixed = (1 - weight) * joints[before] + weight * joints[after]
        full_joints[frame] = np.where(known_joints, mixed, 0)
        full_detected[frame] = known
        full_score[frame] = np.where(known, np.minimum(score[before], score[after]), 0)
    return full_joints, full_detected, full_score


def _chains(detections: list[list[Hand]]) -> list[_Chain]:
    chains: list[_Chain] = []
    for frame, hands in enumerate(detections):
        hands = _without_twins(hands)
        live = [chain for chain in chains if frame - chain.frames[-1] <= MEMORY]
        for hand, chain in zip(hands, _link(hands, live), strict=True):
            if chain is None:
                chain = _Chain()
                chains.append(chain)
            chain.frames.append(frame)
            chain.hands.append(hand)
    return chains


def _without_twins(hands: list[Hand]) -> list[Hand]:
    if len(hands) == 2 and _distance(*hands) < SAME_HAND:
        return [max(hands, key=lambda hand: abs(hand.right - 0.5))]
    return hands


def _link(hands: list[Hand], live: list[_Chain]) -> list[_Chain | None]:
    """The chain that each hand continues, None for a new one: most links, then least distance."""
    choices: list[_Chain | None] = [*live, *[None] * len(hands)]

    def cost(picked: Iterable[_Chain | None]) -> float:
        pairs = zip(hands, picked, strict=True)
        return sum(LINK if c is None else _distance(h, c.hands[-1]) for h, c in pairs)

    return list(min(permutations(choices, len(hands)), key=cost))


def _distance(a: Hand, b: Hand) -> float:
    """Mean distance of the joints, in sizes of the larger hand."""
    size = max(np.ptp(a.joints, axis=0).max(), np.ptp(b.joints, axis=0).max(), 1e-6)
    return float(np.linalg.norm(a.joints - b.joints, axis=1).mean() / size)
