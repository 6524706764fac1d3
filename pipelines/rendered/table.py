"""The table and what lies about on it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipelines.rendered.scene import Thing
from pipelines.rendered.shapes import Shape, box, lathe
from pipelines.rendered.textures import Material, cloth, label, wood

PLACES = ((-0.25, 0.20), (0.25, 0.19), (-0.10, 0.30), (0.10, 0.31), (-0.36, 0.32), (0.36, 0.30))
"""Where things may lie: out of the way of the hands, metres."""

Colour = tuple[float, float, float]
Piece = tuple[Shape, float, Material]
"""A shape, the height of its origin above the table (metres), and its material."""


def table(
    rng: np.random.Generator, tone: Colour, pattern: str, first: Colour, second: Colour
) -> list[Thing]:
    """Return a wooden table top with a cloth on it; colours are linear RGB in [0, 1]."""
    top = _turned_box((1.2, 1.2, 0.02), 0.0, (0.0, 0.25, -0.0215))
    mat = _turned_box((0.29, 0.17, 0.001), float(rng.uniform(-0.12, 0.12)), (0.0, 0.09, 0.0))
    return [
        Thing("table", top, Material(wood(rng, tone), 0.35, 0.45)),
        Thing("mat", mat, Material(cloth(rng, pattern, first, second), 0.95, 0.1)),
    ]


def clutter(rng: np.random.Generator, kinds: tuple[str, ...]) -> list[Thing]:
    """Scatter things over the far side of the table.

    Args:
        rng: source of places, angles and colours.
        kinds: up to six of ``"plate"``, ``"jar"``, ``"orange"``, ``"apple"``, ``"book"``,
            ``"board"``, ``"carton"``, ``"bottle"``.

    Raises:
        KeyError: no such kind.
    """
    makers: dict[str, Callable[[np.random.Generator], list[Piece]]] = {
        "plate": _plate,
        "jar": _jar,
        "orange": lambda rng: [_fruit(rng, (0.80, 0.28, 0.03))],
        "apple": lambda rng: [_fruit(rng, (0.50, 0.05, 0.03))],
        "book": lambda rng: [_printed(rng, (0.075, 0.10, 0.012))],
        "board": lambda rng: [
            (box((0.11, 0.075, 0.007)), 0.007, Material(wood(rng, (0.50, 0.32, 0.17), 3), 0.5))
        ],
        "carton": lambda rng: [_printed(rng, (0.032, 0.032, 0.06))],
        "bottle": _bottle,
    }
    things = []
    for number, (kind, place) in enumerate(zip(kinds, PLACES, strict=False)):
        x, y = np.array(place) + rng.uniform(-0.02, 0.02, 2)
        angle = float(rng.uniform(-0.6, 0.6))
        for part, (shape, height, material) in enumerate(makers[kind](rng)):
            placed = _placed(shape, angle, (x, y, height))
            things.append(Thing(f"{kind}_{number}_{part}", placed, material))
    return things


def _plate(rng: np.random.Generator) -> list[Piece]:
    profile = [
        (0.0, 0.002),
        (0.045, 0.002),
        (0.075, 0.014),
        (0.074, 0.017),
        (0.044, 0.006),
        (0, 0.006),
    ]
    glaze = (0.75, 0.73, 0.68) if rng.random() < 0.5 else (0.20, 0.33, 0.42)
    return [(lathe(profile), 0.0, Material(glaze, 0.15))]


def _jar(rng: np.random.Generator) -> list[Piece]:
    body = lathe([(0.0, 0.0), (0.032, 0.0), (0.032, 0.07), (0.026, 0.078), (0.0, 0.078)])
    lid = lathe([(0.029, 0.074), (0.029, 0.092), (0.0, 0.093)])
    ground, ink = _palette(rng)
    return [
        (body, 0.0, Material(np.flipud(label(rng, ground, ink)), 0.2)),
        (lid, 0.0, Material((0.55, 0.42, 0.16), 0.3)),
    ]


def _bottle(rng: np.random.Generator) -> list[Piece]:
    body = lathe(
        [(0.0, 0.0), (0.03, 0.0), (0.03, 0.10), (0.012, 0.13), (0.012, 0.16), (0.0, 0.16)], 0.006
    )
    glass = (0.05, 0.16, 0.06) if rng.random() < 0.5 else (0.30, 0.14, 0.03)
    return [(body, 0.0, Material(glass, 0.08, 0.7))]


def _fruit(rng: np.random.Generator, colour: Colour) -> Piece:
    radius = float(rng.uniform(0.030, 0.036))
    angle = np.linspace(-np.pi / 2, np.pi / 2, 28)
    # A dent at the stalk, as apples and oranges have.
    reach = radius * (1 - 0.12 * np.exp(-(((angle - np.pi / 2) / 0.35) ** 2)))
    profile = list(zip(reach * np.cos(angle), reach * np.sin(angle), strict=True))
    return lathe(profile, bevel=0.0005), radius, Material(colour, 0.38, 0.4)


def _printed(rng: np.random.Generator, half: tuple[float, float, float]) -> Piece:
    return box(half), half[2], Material(label(rng, *_palette(rng)), 0.45)


def _palette(rng: np.random.Generator) -> tuple[Colour, Colour]:
    """Return a ground and an ink that look like print."""
    choices = (
        ((0.70, 0.62, 0.45), (0.45, 0.06, 0.05)),
        ((0.06, 0.16, 0.30), (0.75, 0.70, 0.55)),
        ((0.10, 0.26, 0.14), (0.80, 0.75, 0.60)),
        ((0.62, 0.33, 0.05), (0.15, 0.08, 0.05)),
        ((0.72, 0.72, 0.70), (0.05, 0.20, 0.38)),
    )
    return choices[rng.integers(len(choices))]


def _turned_box(
    half: tuple[float, float, float], angle: float, centre: tuple[float, float, float]
) -> Shape:
    return _placed(box(half, bevel=0.0008), angle, centre)


def _placed(shape: Shape, angle: float, centre: tuple[float, float, float]) -> Shape:
    """Turn a shape about the z axis (radians) and put it somewhere."""
    pose = np.eye(4)
    pose[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    pose[:3, 3] = centre
    return shape.moved(pose)
