"""Four actions of the kitchen: what is handled, how the hands hold it, how they move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from pipelines.rendered import grasp
from pipelines.rendered.arm import Arm, HandPose, joints, pose_bones, unit
from pipelines.rendered.scene import Thing
from pipelines.rendered.shapes import box, lathe
from pipelines.rendered.textures import Material
from pipelines.rendered.vessels import KNOB_RADIUS, lid_shape, mug, pot_shape, spoon_shape

OPEN_CURL = np.array([[8.0, 12, 8], [6, 12, 8], [7, 12, 8], [10, 14, 9]])
SHUT_CURL = np.array([[46.0, 42, 24], [48, 44, 26], [50, 46, 26], [52, 46, 26]])
PINCH_CURL = np.array([[36.0, 36, 18], [38, 38, 20], [40, 40, 22], [42, 40, 22]])
SPREAD = np.array([6.0, 1, -4, -9])
OPEN_THUMB = np.array([6.0, 6, 2, 4])
SHUT_THUMB = np.array([0.0, 46, 22, 30])
PINCH_THUMB = np.array([0.0, 36, 12, 16])
THUMB_TIP, INDEX_TIP, MIDDLE_TIP = 4, 8, 12


@dataclass(frozen=True)
class Moment:
    """The moving part of the scene at one time.

    Attributes:
        hands: side (``"left"``, ``"right"``) to the pose of that hand.
        held: (4, 4) rigid motion of the held things from where they stand at first.
    """

    hands: dict[str, HandPose]
    held: np.ndarray


@dataclass(frozen=True)
class Action:
    """Things that stand, things that the hand moves, and their motion.

    Attributes:
        standing: things that keep their place.
        held: things that follow ``Moment.held``.
        moment: share of the clip in [0, 1] to what moves then.
    """

    standing: list[Thing]
    held: list[Thing]
    moment: Callable[[float], Moment]


def lift_box(arms: dict[str, Arm], surface: Material, half: tuple[float, float, float]) -> Action:
    """Reach for a box with both hands and lift it towards the wearer."""
    centre = np.array([0.0, 0.075, half[2] + 0.001])
    thing = grasp.box_distance(centre, half)
    grips = {}
    for side, arm in arms.items():
        mirror = _mirror(side)
        offset = np.array([half[0] + 0.028, -0.030, half[2] * 0.5 + 0.018])
        start = _hand(
            side,
            knuckle=mirror * offset + centre,
            fingers=mirror * np.array([-0.22, 0.95, -0.10]),
            back=mirror * np.array([0.66, -0.05, 0.72]),
        )
        grips[side] = start, grasp.close_hand(arm, start, SHUT_CURL, SHUT_THUMB, thing)

    def moment(time: float) -> Moment:
        lift = ease(time, 0.46, 0.95)
        shift = np.array([0.0, -0.025, 0.075]) * lift
        hands = {}
        for side, (start, closed) in grips.items():
            lag = 0.03 if side == "left" else 0.0
            away = 1 - ease(time, lag, 0.34 + lag)
            back_off = _mirror(side) * np.array([0.06, -0.035, 0.02]) * away
            hands[side] = _between(start, closed, ease(time, 0.30, 0.46), shift + back_off)
        return Moment(hands, _shifted(shift))

    return Action([], [Thing("box", box(half).moved(_shifted(centre)), surface)], moment)


def slide_cup(
    arms: dict[str, Arm], surface: Material, radius: float, height: float, path: np.ndarray
) -> Action:
    """Grasp a cup with one hand and slide it over the table by ``path`` (x, y in metres)."""
    ((side, arm),) = arms.items()
    mirror = _mirror(side)
    foot = np.array([0.0, 0.07, 0.0]) - 0.5 * np.array([*path, 0.0])
    thing = grasp.cylinder_distance(foot, radius, height)
    start = _hand(
        side,
        knuckle=foot + mirror * np.array([radius + 0.018, -0.012, height * 0.66]),
        fingers=mirror * np.array([-0.45, 0.88, -0.08]),
        back=mirror * np.array([0.52, 0.15, 0.82]),
    )
    closed = grasp.close_hand(arm, start, SHUT_CURL, SHUT_THUMB, thing)

    def moment(time: float) -> Moment:
        shift = np.array([*path, 0.0]) * ease(time, 0.42, 0.95)
        away = 1 - ease(time, 0.0, 0.32)
        back_off = mirror * np.array([0.045, -0.055, 0.02]) * away
        grip = ease(time, 0.26, 0.42)
        return Moment({side: _between(start, closed, grip, shift + back_off)}, _shifted(shift))

    # The handle points away from the hand.
    cup = mug(radius, height).moved(_turned(np.pi if side == "right" else 0.0))
    inside = lathe([(radius - 0.006, height * 0.78), (0.0, height * 0.78)])
    held = [
        Thing("cup", cup.moved(_shifted(foot)), surface),
        Thing("coffee", inside.moved(_shifted(foot)), Material((0.05, 0.022, 0.01), 0.08, 0.6)),
    ]
    return Action([], held, moment)


def open_lid(
    arms: dict[str, Arm], lifting: str, pot: Material, lid: Material, radius: float, height: float
) -> Action:
    """Lift the lid off a pot by its knob; a second hand, if there is one, steadies the pot."""
    foot = np.array([0.0, 0.045, 0.0])
    mirror = _mirror(lifting)
    knob_foot = foot + np.array([0.0, 0.0, height + 0.018])
    knob = grasp.cylinder_distance(knob_foot, KNOB_RADIUS, 0.030)
    start = _hand(
        lifting,
        knuckle=np.zeros(3),
        fingers=mirror * np.array([-0.60, 0.78, -0.12]),
        back=mirror * np.array([0.40, 0.05, 0.90]),
    )
    pinch, _ = _pinch(arms[lifting], start)
    start = _moved(start, knob_foot + np.array([0.0, 0.0, 0.022]) - pinch)
    closed = grasp.close_hand(arms[lifting], start, PINCH_CURL, SHUT_THUMB, knob)
    steady = {
        side: _hold_side(arm, foot, radius, height) for side, arm in arms.items() if side != lifting
    }

    def moment(time: float) -> Moment:
        lift = ease(time, 0.34, 0.86)
        shift = lift * mirror * np.array([0.065, -0.020, 0.050])
        away = 1 - ease(time, 0.0, 0.26)
        back_off = mirror * np.array([0.03, -0.05, 0.02]) * away
        grip = ease(time, 0.20, 0.34)
        hands = {lifting: _between(start, closed, grip, shift + back_off), **steady}
        tilt = _tilted(knob_foot, 0.16 * lift * mirror[0])
        return Moment(hands, _shifted(shift) @ tilt)

    rim = [(0.0, height * 0.4), (radius - 0.004, height * 0.4), (radius - 0.004, height)]
    standing = [
        Thing("pot", pot_shape(radius, height).moved(_shifted(foot)), pot),
        Thing("soup", lathe(rim[1::-1]).moved(_shifted(foot)), Material((0.42, 0.13, 0.03), 0.3)),
    ]
    return Action(
        standing, [Thing("lid", lid_shape(radius, height).moved(_shifted(foot)), lid)], moment
    )


def stir_pan(
    arms: dict[str, Arm], stirring: str, pan: Material, radius: float, height: float, turns: float
) -> Action:
    """Stir a pan with a wooden spoon; a second hand, if there is one, holds the pan."""
    foot = np.array([0.0, 0.030, 0.0])
    mirror = _mirror(stirring)
    tip = foot + np.array([0.0, 0.0, 0.022])
    start = _hand(
        stirring,
        knuckle=np.zeros(3),
        fingers=mirror * np.array([-0.60, 0.78, -0.12]),
        back=mirror * np.array([0.40, 0.05, 0.90]),
    )
    # As a pen, the spoon rests on the base of the index finger.
    pinch, base = _pinch(arms[stirring], start)
    along = unit(base + 0.024 * unit(start.back) - pinch)
    start = _moved(start, tip + 0.095 * along - pinch)
    top = tip + 0.22 * along
    stick = grasp.stick_distance(tip, top, 0.0055)
    closed = grasp.close_hand(arms[stirring], start, PINCH_CURL, SHUT_THUMB, stick)
    steady = {
        side: _hold_side(arm, foot, radius, height)
        for side, arm in arms.items()
        if side != stirring
    }
    circle = radius * 0.33

    def moment(time: float) -> Moment:
        angle = 2 * np.pi * turns * time
        shift = circle * mirror * np.array([1.0 + np.cos(angle), 0.5 + np.sin(angle), 0.0])
        return Moment({stirring: _between(start, closed, 1.0, shift), **steady}, _shifted(shift))

    food = lathe([(radius - 0.004, height * 0.45), (0.0, height * 0.45)])
    standing = [
        Thing("pan", pot_shape(radius, height).moved(_shifted(foot)), pan),
        Thing("food", food.moved(_shifted(foot)), Material((0.50, 0.20, 0.04), 0.25, 0.6)),
    ]
    spoon = Thing("spoon", spoon_shape(tip, top), Material((0.52, 0.33, 0.17), 0.55, 0.3))
    return Action(standing, [spoon], moment)


def ease(time: float, start: float, end: float) -> float:
    """Return 0 before ``start``, 1 after ``end``, and a smooth step between."""
    share = np.clip((time - start) / (end - start), 0.0, 1.0)
    return float(share * share * (3 - 2 * share))


def _mirror(side: str) -> np.ndarray:
    """Poses are written for the right hand; the left hand sees them in a mirror."""
    return np.array([1.0 if side == "right" else -1.0, 1.0, 1.0])


def _hand(side: str, knuckle: np.ndarray, fingers: np.ndarray, back: np.ndarray) -> HandPose:
    """Return an open hand in front of the wearer."""
    elbow = _mirror(side) * np.array([0.27, -0.42, 0.17])
    return HandPose(knuckle, fingers, back, elbow, OPEN_CURL, SPREAD, OPEN_THUMB)


def _pinch(arm: Arm, pose: HandPose) -> tuple[np.ndarray, np.ndarray]:
    """Return where a hand would pinch, between thumb and two fingers, and its index knuckle."""
    closed = replace(pose, curl=PINCH_CURL, thumb=PINCH_THUMB)
    points = joints(arm, pose_bones(arm, closed))
    return 0.5 * points[THUMB_TIP] + 0.25 * points[[INDEX_TIP, MIDDLE_TIP]].sum(axis=0), points[5]


def _hold_side(arm: Arm, foot: np.ndarray, radius: float, height: float) -> HandPose:
    """Return a hand that holds a round vessel at its side."""
    mirror = _mirror(arm.side)
    start = _hand(
        arm.side,
        knuckle=foot + mirror * np.array([radius + 0.032, -0.035, height * 0.5 + 0.026]),
        fingers=mirror * np.array([-0.22, 0.96, -0.08]),
        back=mirror * np.array([0.56, -0.10, 0.80]),
    )
    wall = grasp.cylinder_distance(foot, radius, height)
    return grasp.close_hand(arm, start, 0.5 * SHUT_CURL, 0.5 * SHUT_THUMB, wall)


def _moved(pose: HandPose, shift: np.ndarray) -> HandPose:
    return replace(pose, knuckle=pose.knuckle + shift)


def _between(start: HandPose, closed: HandPose, share: float, shift: np.ndarray) -> HandPose:
    """Return the hand while it closes, moved by a shift in metres."""
    return replace(
        start,
        knuckle=start.knuckle + shift,
        elbow=start.elbow + 0.5 * shift,
        curl=(1 - share) * start.curl + share * closed.curl,
        thumb=(1 - share) * start.thumb + share * closed.thumb,
    )


def _shifted(shift: np.ndarray) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, 3] = shift
    return pose


def _turned(angle: float) -> np.ndarray:
    """Return a turn about the z axis, radians."""
    pose = np.eye(4)
    pose[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return pose


def _tilted(centre: np.ndarray, angle: float) -> np.ndarray:
    """Return a tilt about an axis along y through a point, radians."""
    turn = np.eye(4)
    turn[0, 0] = turn[2, 2] = np.cos(angle)
    turn[0, 2], turn[2, 0] = np.sin(angle), -np.sin(angle)
    return _shifted(centre) @ turn @ _shifted(-centre)
