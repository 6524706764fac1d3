"""What is handled: a mug, a pot, its lid and a spoon; lengths in metres."""

from __future__ import annotations

import numpy as np

from pipelines.rendered.arm import unit
from pipelines.rendered.shapes import Shape, join, lathe, tube

KNOB_RADIUS = 0.020


def lid_shape(radius: float, height: float) -> Shape:
    """Return a lid with a knob for a pot that stands on the origin."""
    return lathe(
        [
            (0.0, height),
            (radius + 0.003, height),
            (radius + 0.003, height + 0.005),
            (radius * 0.55, height + 0.014),
            (0.007, height + 0.018),
            (0.007, height + 0.026),
            (KNOB_RADIUS, height + 0.030),
            (KNOB_RADIUS, height + 0.044),
            (0.0, height + 0.048),
        ]
    )


def mug(radius: float, height: float) -> Shape:
    """Return a mug that stands on the origin, its handle towards +x."""
    body = lathe(
        [
            (0.0, 0.001),
            (radius * 0.9, 0.001),
            (radius, 0.010),
            (radius, height),
            (radius - 0.004, height),
            (radius - 0.004, 0.006),
            (0.0, 0.006),
        ]
    )
    angle = np.linspace(-np.pi / 2, np.pi / 2, 25)
    curve = np.stack(
        [
            radius - 0.004 + 0.026 * np.cos(angle),
            np.zeros_like(angle),
            height / 2 + 0.030 * np.sin(angle),
        ],
        axis=1,
    )
    return join([body, tube(curve, np.full(len(curve), 0.0052))])


def pot_shape(radius: float, height: float) -> Shape:
    """Return an open pot with two small handles front and back."""
    body = lathe(
        [
            (0.0, 0.001),
            (radius * 0.94, 0.001),
            (radius, 0.012),
            (radius, height - 0.002),
            (radius + 0.002, height),
            (radius - 0.004, height),
            (radius - 0.004, 0.006),
            (0.0, 0.006),
        ]
    )
    angle = np.linspace(-np.pi / 2, np.pi / 2, 25)
    curve = np.stack(
        [
            0.028 * np.sin(angle),
            radius - 0.004 + 0.022 * np.cos(angle),
            np.full_like(angle, height * 0.78),
        ],
        axis=1,
    )
    return join([body, tube(curve, np.full(len(curve), 0.005))])


def spoon_shape(tip: np.ndarray, top: np.ndarray) -> Shape:
    """Return a wooden spoon from the middle of its head to the end of its handle."""
    share = np.linspace(0, 1, 60)
    direction = unit(top - tip)
    curve = tip - 0.02 * direction + share[:, None] * (top - tip + 0.02 * direction)
    head = 0.019 * np.sqrt(np.clip(1 - ((share - 0.12) / 0.13) ** 2, 0, 1))
    handle = 0.0055 * np.sqrt(np.clip(1 - ((share - 0.95) / 0.05) ** 2, 0, 1)) * (share > 0.95)
    handle += 0.0055 * ((share <= 0.95) & (share > 0.12))
    radius = np.maximum(head, handle)
    radius[[0, -1]] = 0.0
    return tube(curve, radius)
