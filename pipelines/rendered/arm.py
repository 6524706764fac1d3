"""A skinned arm: from the angles of a hand to its surface and its 21 joints."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.rendered.mesh import BaseMesh, subdivision

ARM_BONES = ("finger", "metacarpal", "wrist", "lowerarm", "upperarm")
THUMB, LITTLE = 1, 5  # MakeHuman counts the fingers from the thumb
ARM_WEIGHT = 0.6  # a vertex belongs to the arm from this share of its skinning weight on


@dataclass(frozen=True)
class Arm:
    """One arm at rest.

    Attributes:
        side: ``"left"`` or ``"right"``, anatomical.
        vertices: (V, 3) float64, metres.
        triangles: (F, 3) int64.
        weights: (V, B) float64, skinning weights; rows sum to one.
        uv: (V, 2) float64 in [0, 1].
        bones: the B names, without the side.
        heads: bone name to (3,) float64, metres.
        tails: bone name to (3,) float64, metres.
        frame: (3, 3) float64, columns: towards the thumb, along the fingers, out of the back of
            the hand; unit length, at right angles.
    """

    side: str
    vertices: np.ndarray
    triangles: np.ndarray
    weights: np.ndarray
    uv: np.ndarray
    bones: tuple[str, ...]
    heads: dict[str, np.ndarray]
    tails: dict[str, np.ndarray]
    frame: np.ndarray


@dataclass(frozen=True)
class HandPose:
    """Where a hand is and how it is bent.

    Attributes:
        knuckle: (3,) position of the middle finger's knuckle, metres.
        fingers: (3,) direction from the wrist to that knuckle, any length.
        back: (3,) direction out of the back of the hand, any length.
        elbow: (3,) point that the forearm comes from, metres.
        curl: (4, 3) degrees, index to little finger, knuckle to last joint; positive bends to
            the palm.
        spread: (4,) degrees, index to little finger; positive towards the thumb.
        thumb: (4,) degrees: away from the index finger, across the palm, then the bend of the
            two outer joints.
    """

    knuckle: np.ndarray
    fingers: np.ndarray
    back: np.ndarray
    elbow: np.ndarray
    curl: np.ndarray
    spread: np.ndarray
    thumb: np.ndarray


Motion = tuple[np.ndarray, np.ndarray]
"""A (3, 3) rotation and a (3,) shift in metres: world = rotation @ rest + shift."""

Transforms = dict[str, Motion]
"""Bone name to the motion of that bone."""


def build_arm(base: BaseMesh, side: str, levels: int = 2) -> Arm:
    """Cut one arm out of the body and subdivide it.

    Args:
        base: the body.
        side: ``"left"`` or ``"right"``.
        levels: steps of Catmull-Clark subdivision.
    """
    suffix = f".{side[0].upper()}"
    bones = tuple(
        bone.removesuffix(suffix)
        for bone in base.heads
        if bone.endswith(suffix) and bone.startswith(ARM_BONES)
    )
    heads = {bone: base.heads[bone + suffix] for bone in bones}
    tails = {bone: base.tails[bone + suffix] for bone in bones}
    weights = np.stack([base.weights[bone + suffix] for bone in bones], axis=1)
    of_arm = weights.sum(axis=1) > ARM_WEIGHT
    kept, faces = np.unique(base.faces[of_arm[base.faces].all(axis=1)], return_inverse=True)
    faces = faces.reshape(-1, 4)
    vertices, uv, weights = base.vertices[kept], base.uv[kept], weights[kept]
    for _ in range(levels):
        matrix, faces = subdivision(faces, len(vertices))
        vertices, uv, weights = matrix @ vertices, matrix @ uv, matrix @ weights
    return Arm(
        side=side,
        vertices=vertices,
        triangles=np.concatenate([faces[:, [0, 1, 2]], faces[:, [0, 2, 3]]]),
        weights=weights / weights.sum(axis=1, keepdims=True),
        uv=uv,
        bones=bones,
        heads=heads,
        tails=tails,
        frame=_rest_frame(heads, tails),
    )


def pose_bones(arm: Arm, pose: HandPose) -> Transforms:
    """Return where every bone of the arm goes."""
    towards_thumb, along, back = arm.frame.T
    rotation = hand_frame(arm.side, pose.fingers, pose.back) @ arm.frame.T
    hand = rotation, pose.knuckle - rotation @ arm.heads["finger3-1"]
    bones: Transforms = dict.fromkeys(arm.bones, hand)
    # Turning about the back's axis moves the fingers of the two hands to opposite sides.
    mirrored = 1.0 if arm.side == "right" else -1.0
    for finger in range(THUMB + 1, LITTLE + 1):
        rotate, shift = hand
        for joint in range(3):
            bone = f"finger{finger}-{joint + 1}"
            direction = arm.tails[bone] - arm.heads[bone]
            turn = turning(np.cross(back, direction), pose.curl[finger - 2][joint])
            if joint == 0:
                turn = turning(back, mirrored * pose.spread[finger - 2]) @ turn
            rotate, shift = _turn_about(arm.heads[bone], turn, rotate, shift)
            bones[bone] = rotate, shift
    rotate, shift = hand
    first, second = (
        arm.tails[f"finger1-{joint}"] - arm.heads[f"finger1-{joint}"] for joint in (1, 3)
    )
    for joint in range(3):
        bone = f"finger1-{joint + 1}"
        if joint == 0:
            away = turning(np.cross(along, towards_thumb), pose.thumb[0])
            turn = turning(np.cross(back, towards_thumb), pose.thumb[1]) @ away
        else:
            turn = turning(np.cross(first, second), pose.thumb[joint + 1])
        rotate, shift = _turn_about(arm.heads[bone], turn, rotate, shift)
        bones[bone] = rotate, shift
    forearm = _forearm(arm, hand, pose.elbow)
    for bone in arm.bones:
        if bone.startswith(("lowerarm", "upperarm")):
            bones[bone] = forearm
    return bones


def surface(arm: Arm, bones: Transforms) -> np.ndarray:
    """Return the skinned surface, (V, 3) float64, metres (linear blend skinning)."""
    rotations = np.stack([bones[bone][0] for bone in arm.bones])
    shifts = np.stack([bones[bone][1] for bone in arm.bones])
    blended = np.einsum("vb,bij->vij", arm.weights, rotations)
    return np.einsum("vij,vj->vi", blended, arm.vertices) + arm.weights @ shifts


def joints(arm: Arm, bones: Transforms) -> np.ndarray:
    """Return the 21 joints in MediaPipe's order, (21, 3) float64, metres."""

    def moved(bone: str, point: np.ndarray) -> np.ndarray:
        rotation, shift = bones[bone]
        return rotation @ point + shift

    points = [moved("wrist", arm.heads["wrist"])]
    for finger in range(THUMB, LITTLE + 1):
        names = [f"finger{finger}-{joint}" for joint in (1, 2, 3)]
        points += [moved(bone, arm.heads[bone]) for bone in names]
        points.append(moved(names[-1], arm.tails[names[-1]]))
    return np.array(points)


def hand_frame(side: str, fingers: np.ndarray, back: np.ndarray) -> np.ndarray:
    """Return (3, 3) unit columns: towards the thumb, along the fingers, out of the back."""
    along = unit(fingers)
    out = unit(back - along * (along @ back))
    across = np.cross(along, out)
    return np.stack([-across if side == "right" else across, along, out], axis=1)


def turning(axis: np.ndarray, degrees: float) -> np.ndarray:
    """Return the (3, 3) rotation about an axis (right-hand rule)."""
    x, y, z = unit(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def unit(vector: np.ndarray) -> np.ndarray:
    """Return the vector at length one."""
    vector = np.asarray(vector, dtype=float)
    return vector / np.linalg.norm(vector)


def _rest_frame(heads: dict[str, np.ndarray], tails: dict[str, np.ndarray]) -> np.ndarray:
    along = unit(heads["finger3-1"] - heads["wrist"])
    towards_thumb = heads["finger2-1"] - heads["finger5-1"]
    towards_thumb = unit(towards_thumb - along * (along @ towards_thumb))
    back = np.cross(towards_thumb, along)
    # The fingers of the rest pose are slightly bent, hence their tips lie on the palm's side.
    if (tails["finger3-3"] - heads["finger3-1"]) @ back > 0:
        back = -back
    return np.stack([towards_thumb, along, back], axis=1)


def _turn_about(
    point: np.ndarray, turn: np.ndarray, rotate: np.ndarray, shift: np.ndarray
) -> Motion:
    """Let a bone turn about a point (rest coordinates) before its parent's motion."""
    return rotate @ turn, rotate @ (point - turn @ point) + shift


def _forearm(arm: Arm, hand: Motion, elbow: np.ndarray) -> Motion:
    """Return the forearm's motion: fixed at the wrist, pointing to the elbow."""
    rotation, shift = hand
    wrist = rotation @ arm.heads["wrist"] + shift
    now = unit(rotation @ (arm.heads["lowerarm01"] - arm.heads["wrist"]))
    wanted = unit(elbow - wrist)
    axis = np.cross(now, wanted)
    angle = np.degrees(np.arctan2(np.linalg.norm(axis), now @ wanted))
    turn = turning(axis, angle) if angle > 1e-6 else np.eye(3)
    return turn @ rotation, wrist - turn @ rotation @ arm.heads["wrist"]
