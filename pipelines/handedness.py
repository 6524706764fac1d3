"""Which detections are the wearer's hands, and which of them is left and which right.

MediaPipe looks at each frame by itself: its labels flicker, it may call both hands the same, and it
sees the hands of bystanders too. Here detections become tracks over the clip, and each track as a
whole is a left hand, a right hand, or not the wearer's.

This file goes with every release of test clips as it is: it needs numpy alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

# Where a number was chosen on clips, these are 16 frames each of 2.5 s: 12 of a wearer's view (two
# videos of EPIC-KITCHENS, two of EgoLoc), 5 of a dance filmed from outside. For bystanders the
# hands of another clip were put beside the wearer's. Over the upper border (turned by 180 degrees,
# at 0.6 to 1 of their size) at most 9 of 1,779 detections got a slot; raised (not turned) none at
# 0.3 of their size, 47 at 0.4, 456 at 0.5: these are told from the wearer's by their size alone.

SAME_HAND = 0.25
"""Two detections in one frame nearer than this, in hand sizes, are one hand seen twice."""
LINK, LABELS = 0.8, 0.3
"""A hand moves less than this from one detection to the next, in hand sizes, or less than this
beyond what its last step foretells; sure labels that agree add so much to it, and labels that
contradict each other take as much away. With 0.6 the hands of the clips fall apart into tracks,
with 1.0 the dancer's left hand goes on as the right one."""
STEP = 0.45
"""A hand's centre moves less than this, in short sides of the frame, from one frame to the next;
the fastest on the clips moves 0.37."""
MEMORY = 3
"""Frames after which a track that was not seen again is closed, and its slot open to any hand of
the wearer's. Tracks with at most as many frames between them are compared with each other."""
PALM_CHANGE = 2.0
"""A palm does not grow or shrink by more than this factor from one detection to the next; on the
clips by at most 1.55."""

PRIOR, ENTRY, NEARNESS, PRESENCE = 1.0, 2.0, 2.5, 0.5
"""Evidence that a track is the wearer's: for any; for an arm that comes in over the lower border
(over the upper one: against); against, for each halving of the palm beside the largest at that
time; for being seen in every frame. A track passes with more than 0. All of a wearer's on the
clips do: the least has 1.3, a hand beside another of 1.7 times its palm 1.6. An arm straight over
the upper border never passes; one over a side is judged by its height there, and by the rest."""
OUTSIDE = 0.25
"""With less than this share of the detections on tracks that pass, nobody wears the camera: a
person opposite may be seen up to three times as often as the wearer."""

KEEP, WEARER = 0.5, 0.5
"""What a detection in a slot is worth, where a sure label of that slot is worth 1; and what is
taken from it for each unit of evidence that another track at that time has more. Less than a sure
label: a hand whose slot is closed to it does not go into the other one."""
ARM, ORDER = 0.3, 0.5
"""What an arm from the slot's own side is worth, and a left wrist left of the right one: too little
to overrule sure labels, enough where they coincide or flicker. The clips need the arm's (without
it 3 of 70 detections of one are lost); the order's is for hands called the same alike, of which
they have none."""
PAIR = 1.0
"""What both slots taken at once are worth: enough, with `KEEP`, to put one of two hands that are
called the same into the other slot. Twice as much lets in three times as many raised hands."""
RETURN = 1.0
"""What it is worth that a slot's next track begins where its last one ended: a sure label."""
BEAM = 100
"""Assignments followed at a time; the clips need 31 to follow all, 60 frames of them 91."""

PALM = [0, 5, 9, 13, 17]
"""Wrist and knuckles."""


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


@dataclass(frozen=True)
class Slots:
    """The left and the right hand of a clip.

    Attributes:
        joints: (L, 42, 2) float32, left hand 0-20, right hand 21-41, normalised to the frame, zeros
            where undetected.
        detected: (L, 2) bool, left then right.
        score: (L, 2) float32, MediaPipe's certainty of the label it gave that detection, [0.5, 1],
            zero where undetected.
        track: (L, 2) int64, number of the track that the detection belongs to, -1 where undetected.
        reassigned: share of the frames, [0, 1], in which MediaPipe's labels alone would have given
            something else: a hand is in the slot that its label does not name, or left out. A hand
            seen twice counts once.
    """

    joints: NDArray[np.float32]
    detected: NDArray[np.bool_]
    score: NDArray[np.float32]
    track: NDArray[np.int64]
    reassigned: float

    @classmethod
    def empty(cls, length: int, reassigned: float = 0.0) -> Slots:
        return cls(
            np.zeros((length, 42, 2), np.float32),
            np.zeros((length, 2), bool),
            np.zeros((length, 2), np.float32),
            np.full((length, 2), -1),
            reassigned,
        )


@dataclass(frozen=True)
class _Detection:
    """A hand, and what tells whose it is. Lengths are in short sides of the frame.

    Attributes:
        points: (21, 2).
        size: longer side of the box around the joints.
        palm: largest distance of two palm joints: the same for a fist and an open hand.
        entry: where the line from the knuckles through the wrist leaves the frame: 0 at the upper
            border, 1 at the lower one, the height between at the sides.
        side: horizontal part of the unit vector from the knuckles to the wrist: negative where the
            arm comes from the left.
    """

    hand: Hand
    points: NDArray[np.float64]
    size: float
    palm: float
    entry: float
    side: float

    @classmethod
    def of(cls, hand: Hand, aspect: float) -> _Detection:
        frame = np.array([aspect, 1.0]) / min(aspect, 1.0)
        points = hand.joints * frame
        palm = points[PALM]
        wrist, arm = palm[0], palm[0] - palm[1:].mean(axis=0)
        arm = arm / max(float(np.linalg.norm(arm)), 1e-6)
        # The nearest border that the arm points at; a wrist beyond it is already there.
        ways = [
            max(((side if along > 0 else 0.0) - at) / along, 0.0)
            for at, along, side in zip(wrist, arm, frame, strict=True)
            if abs(along) > 1e-6
        ]
        entry = (wrist[1] + arm[1] * min(ways, default=0.0)) / frame[1]
        return cls(
            hand,
            points,
            size=max(float(np.ptp(points, axis=0).max()), 1e-6),
            palm=max(float(np.linalg.norm(palm[:, None] - palm, axis=2).max()), 1e-6),
            entry=float(np.clip(entry, 0.0, 1.0)),
            side=float(arm[0]),
        )


@dataclass(eq=False)
class _Track:
    """One hand followed over time."""

    frames: list[int] = field(default_factory=list)
    seen: list[_Detection] = field(default_factory=list)
    parts: dict[int, _Track] = field(default_factory=dict)

    def part(self, start: int) -> _Track:
        """The track without its first detections; the same one each time it is asked for."""
        if start == 0:
            return self
        return self.parts.setdefault(start, _Track(self.frames[start:], self.seen[start:]))

    @property
    def palm(self) -> float:
        return float(np.median([one.palm for one in self.seen]))

    @property
    def right(self) -> float:
        """Mean score of its being a right hand."""
        return float(np.mean([one.hand.right for one in self.seen]))

    @property
    def side(self) -> float:
        """Evidence for a right hand, negative for a left one, in sure labels."""
        return sum(2 * one.hand.right - 1 + ARM * one.side for one in self.seen)

    def meets(self, other: _Track) -> bool:
        """Whether two tracks are seen at one time, or nearly."""
        latest = max(self.frames[0], other.frames[0])
        return latest - min(self.frames[-1], other.frames[-1]) <= MEMORY

    def next_step(self) -> NDArray[np.float64]:
        """(2,) how far the hand is expected to move on."""
        if len(self.frames) < 2:
            return np.zeros(2)
        moved = (self.seen[-1].points - self.seen[-2].points).mean(axis=0)
        return np.asarray(moved / (self.frames[-1] - self.frames[-2]))

    def wearer_evidence(self, largest_palm: float, length: int) -> float:
        """That it is the wearer's hand, above 0, or somebody else's.

        Args:
            largest_palm: of the tracks at that time.
            length: frames of the clip.
        """
        entry = 2 * float(np.mean([one.entry for one in self.seen])) - 1
        nearness = float(np.log2(self.palm / largest_palm))
        presence = len(self.frames) / length
        return PRIOR + ENTRY * entry + NEARNESS * nearness + PRESENCE * presence


def assign_slots(detections: list[list[Hand]], aspect: float) -> Slots:
    """Put a clip's detections into the slots of the wearer's left and right hand.

    Tracks that do not pass as the wearer's are left out. Of all ways to put the others into slots,
    the one that is worth most over the whole clip is taken. A slot holds one track at a time. It
    goes to another one where a hand can have moved there, or after `MEMORY` frames without a hand;
    the detections before that are left out.

    Where hardly any detection passes, the clip shows people from outside: all tracks take part.

    Args:
        detections: the hands of each frame, any number.
        aspect: width of the frames over their height.
    """
    frames = [
        _without_twins([_Detection.of(hand, aspect) for hand in hands]) for hands in detections
    ]
    slots = Slots.empty(len(frames))
    as_labelled = np.zeros(len(frames), int)
    for number, (track, slot) in enumerate(_assign(_tracks(frames), len(frames))):
        for frame, one in zip(track.frames, track.seen, strict=True):
            right = one.hand.right
            slots.joints[frame, slot * 21 : slot * 21 + 21] = one.hand.joints
            slots.detected[frame, slot] = True
            slots.score[frame, slot] = max(right, 1 - right)
            slots.track[frame, slot] = number
            as_labelled[frame] += right >= 0.5 if slot else right <= 0.5
    changed = as_labelled != [len(seen) for seen in frames]
    return replace(slots, reassigned=float(changed.mean()) if frames else 0.0)


def interpolate(slots: Slots, length: int, stride: int) -> Slots:
    """Fill the frames between every `stride`-th one: linear in time, where both ends are one track.

    Args:
        slots: of every `stride`-th of `length` frames.
    """
    at = np.arange(0, length, stride)
    full = Slots.empty(length, slots.reassigned)
    for frame in range(length):
        before = frame // stride
        after = min(before + (frame % stride > 0), len(at) - 1)
        weight = 0.0 if at[after] == at[before] else (frame - at[before]) / (at[after] - at[before])
        known = slots.detected[before] & slots.detected[after] & (frame <= at[after])
        known &= slots.track[before] == slots.track[after]
        known_joints = np.repeat(known, 21)[:, None]
        mixed = (1 - weight) * slots.joints[before] + weight * slots.joints[after]
        full.joints[frame] = np.where(known_joints, mixed, 0)
        full.detected[frame] = known
        full.score[frame] = np.where(known, np.minimum(slots.score[before], slots.score[after]), 0)
        full.track[frame] = np.where(known, slots.track[before], -1)
    return full


def _without_twins(seen: list[_Detection]) -> list[_Detection]:
    kept: list[_Detection] = []
    for one in sorted(seen, key=lambda one: -abs(one.hand.right - 0.5)):
        if all(_distance(one, other) >= SAME_HAND for other in kept):
            kept.append(one)
    return kept


def _tracks(frames: list[list[_Detection]]) -> list[_Track]:
    """In the order in which they begin."""
    tracks: list[_Track] = []
    for frame, seen in enumerate(frames):
        live = [track for track in tracks if frame - track.frames[-1] <= MEMORY]
        for one, track in zip(seen, _link(seen, live, frame), strict=True):
            if track is None:
                track = _Track()
                tracks.append(track)
            track.frames.append(frame)
            track.seen.append(one)
    return tracks


def _link(seen: list[_Detection], live: list[_Track], frame: int) -> list[_Track | None]:
    """The track that each detection continues, None for a new one: most links, then least cost."""
    costs: list[dict[int | None, float]] = [
        {n: _cost(one, track) for n, track in enumerate(live) if _can_be(one, track, frame)}
        for one in seen
    ]

    def rank(picked: tuple[int | None, ...]) -> tuple[int, float]:
        cost = sum(of[n] for of, n in zip(costs, picked, strict=True) if n is not None)
        return picked.count(None), cost

    choices = (
        picked
        for picked in product(*([*of, None] for of in costs))
        if len(set(picked) - {None}) == len(picked) - picked.count(None)
    )
    return [None if n is None else live[n] for n in min(choices, key=rank)]


def _can_be(one: _Detection, track: _Track, frame: int) -> bool:
    """Whether a detection can be the hand of a track."""
    last = track.seen[-1]
    near = min(_distance(one, last), _distance(one, last, track.next_step()))
    return (
        near < LINK + LABELS * _agreement(one, track)
        and _moved(last, one) <= STEP * (frame - track.frames[-1])
        and 1 / PALM_CHANGE < one.palm / last.palm < PALM_CHANGE
    )


def _cost(one: _Detection, track: _Track) -> float:
    """Of linking a detection to a track, in hand sizes."""
    # The last position counts too: hands stop and turn back between sampled frames.
    last = track.seen[-1]
    moved = (2 * _distance(one, last, track.next_step()) + _distance(one, last)) / 3
    return moved - LABELS * _agreement(one, track)


def _agreement(one: _Detection, track: _Track) -> float:
    """1 where both are surely a right hand, or surely a left one, -1 where they surely differ."""
    return (2 * one.hand.right - 1) * (2 * track.right - 1)


def _moved(a: _Detection, b: _Detection) -> float:
    """Distance of two hands' centres, in short sides of the frame."""
    return float(np.linalg.norm((b.points - a.points).mean(axis=0)))


def _distance(a: _Detection, b: _Detection, step: NDArray[np.float64] | float = 0.0) -> float:
    """Mean distance of the joints of `a` and the moved ones of `b`, in sizes of the larger hand."""
    apart = np.linalg.norm(a.points - b.points - step, axis=1).mean()
    return float(apart / max(a.size, b.size))


def _assign(tracks: list[_Track], length: int) -> list[tuple[_Track, int]]:
    """The tracks that are the wearer's, each with its slot: the assignment worth most.

    Tracks come in the order in which they begin, so what a track is worth in a slot depends on the
    last one in either slot alone: of the assignments that end alike, the best is followed.
    """
    nothing = _Assignment()
    best = {nothing.last: nothing}
    for track, worth in _candidates(tracks, length):
        longer = dict(best)
        for one in best.values():
            for slot in (0, 1):
                if (extended := one.extended(track, slot, worth)) is None:
                    continue
                other = longer.get(extended.last)
                if other is None or extended.worth > other.worth:
                    longer[extended.last] = extended
        best = dict(sorted(longer.items(), key=lambda item: -item[1].worth)[:BEAM])
    return list(max(best.values(), key=lambda one: one.worth).chosen)


def _candidates(tracks: list[_Track], length: int) -> list[tuple[_Track, float]]:
    """The tracks that pass as the wearer's, and what a detection of each is worth in any slot."""
    rivals = [[n for n, other in enumerate(tracks) if track.meets(other)] for track in tracks]
    evidence = [
        track.wearer_evidence(max(tracks[n].palm for n in met), length)
        for track, met in zip(tracks, rivals, strict=True)
    ]
    passing = [n for n, value in enumerate(evidence) if value > 0]
    seen = [len(track.frames) for track in tracks]
    if sum(seen[n] for n in passing) < OUTSIDE * sum(seen):
        passing = list(range(len(tracks)))
    return [
        (tracks[n], KEEP - WEARER * (max(evidence[m] for m in rivals[n]) - evidence[n]))
        for n in passing
    ]


@dataclass(frozen=True)
class _Assignment:
    """Tracks with their slots, what that is worth, and the last track of either slot."""

    worth: float = 0.0
    chosen: tuple[tuple[_Track, int], ...] = ()
    last: tuple[_Track | None, _Track | None] = (None, None)

    def extended(self, track: _Track, slot: int, worth: float) -> _Assignment | None:
        """With one more track, or its later part; None where the slot is closed to all of it."""
        left, right = self.last
        before = self.last[slot]
        part = _part_after(before, track)
        if part is None:
            return None
        total = self.worth + len(part.frames) * worth + (part.side if slot else -part.side)
        if before:
            total += RETURN * max(0.0, 1 - _distance(part.seen[0], before.seen[-1]))
        last = (left, part) if slot else (part, right)
        return _Assignment(total + _pair(*last), (*self.chosen, (part, slot)), last)


def _part_after(last: _Track | None, track: _Track) -> _Track | None:
    """What of a track may follow another one in a slot: from where a hand can have moved there."""
    if last is None:
        return track
    if track.frames[0] <= last.frames[-1]:
        return None
    for n, (frame, one) in enumerate(zip(track.frames, track.seen, strict=True)):
        gap = frame - last.frames[-1]
        if gap > MEMORY or _moved(last.seen[-1], one) <= STEP * gap:
            return track.part(n)
    return None


def _pair(left: _Track | None, right: _Track | None) -> float:
    """What two tracks on the same frames are worth as the left and the right hand."""
    if left is None or right is None:
        return 0.0
    wrists = {f: one.points[0, 0] for f, one in zip(left.frames, left.seen, strict=True)}
    worth = 0.0
    for frame, one in zip(right.frames, right.seen, strict=True):
        if frame in wrists:
            worth += PAIR + ORDER * float(
                np.clip((one.points[0, 0] - wrists[frame]) / one.size, -1, 1)
            )
    return worth
