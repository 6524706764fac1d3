"""Painted surfaces: wood, cloth and printed cardboard, drawn from a random generator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter


@dataclass(frozen=True)
class Material:
    """What a surface is made of.

    Attributes:
        colour: (3,) or a picture (H, W, 3), linear RGB in [0, 1].
        roughness: 0 is a mirror, 1 is chalk.
        specular: strength of the highlight in [0, 1].
    """

    colour: np.ndarray | tuple[float, float, float]
    roughness: float = 0.5
    specular: float = 0.5


def noise(rng: np.random.Generator, size: int, blur: tuple[float, float]) -> np.ndarray:
    """Return a (size, size) picture of smooth noise that tiles, mean 0, deviation 1."""
    smooth = gaussian_filter(rng.standard_normal((size, size)), blur, mode="wrap")
    return (smooth - smooth.mean()) / smooth.std()


def wood(
    rng: np.random.Generator, tone: tuple[float, float, float], planks: int = 7, size: int = 1024
) -> np.ndarray:
    """Paint planks of wood with grain along the picture's rows, (size, size, 3)."""
    height = np.arange(size) * planks / size
    plank = height.astype(int)
    bend = 0.5 * noise(rng, size, (30, 120)) + 0.3 * noise(rng, size, (8, 80))
    shift = rng.uniform(0, 7, planks)[plank][:, None]
    rings = np.sin(2 * np.pi * (3.5 * height[:, None] + 1.3 * bend + shift))
    fibre = 0.6 * noise(rng, size, (0.7, 14)) + 0.4 * noise(rng, size, (2, 50))
    light = 1 + 0.09 * rings + 0.10 * fibre + 0.12 * rng.standard_normal(planks)[plank][:, None]
    seam = np.minimum(height % 1, 1 - height % 1) < 0.008
    light[seam] *= 0.35
    # Darker wood is also redder.
    return np.clip(np.array(tone) * light[..., None] ** np.array([0.9, 1.1, 1.3]), 0.01, 0.95)


def cloth(
    rng: np.random.Generator,
    pattern: str,
    first: tuple[float, float, float],
    second: tuple[float, float, float],
    size: int = 512,
) -> np.ndarray:
    """Paint woven cloth, (size, size, 3).

    Args:
        rng: source of the threads' irregularity.
        pattern: ``"gingham"``, ``"stripes"`` or ``"linen"`` (plain with a border).
        first: colour of the ground, linear RGB.
        second: colour of the pattern, linear RGB.
        size: pixels a side.

    Raises:
        ValueError: no such pattern.
    """
    row, column = np.mgrid[:size, :size]
    period = size // 12
    if pattern == "gingham":
        share = (((row // period) % 2) + ((column // period) % 2)) / 2
    elif pattern == "stripes":
        share = np.isin((column // (period // 3)) % 8, (0, 2)).astype(float)
    elif pattern == "linen":
        edge = np.minimum.reduce([row, column, size - 1 - row, size - 1 - column]) / size
        share = ((edge > 0.06) & (edge < 0.085)).astype(float)
    else:
        raise ValueError(f"no cloth pattern {pattern!r}: gingham, stripes or linen")
    ground = np.array(first) * (1 - share[..., None]) + np.array(second) * share[..., None]
    threads = 1 + 0.05 * noise(rng, size, (0.6, 5)) + 0.05 * noise(rng, size, (5, 0.6))
    return np.clip(ground * threads[..., None], 0.01, 0.95)


def label(
    rng: np.random.Generator,
    ground: tuple[float, float, float],
    ink: tuple[float, float, float],
    size: int = 256,
) -> np.ndarray:
    """Paint a printed package: a band, a disc and lines of text, (size, size, 3)."""
    picture = np.ones((size, size, 3)) * ground
    row, column = np.mgrid[:size, :size] / size
    band = rng.uniform(0.12, 0.3)
    picture[(row > band) & (row < band + 0.14)] = ink
    centre = rng.uniform(0.3, 0.7)
    picture[(row - 0.66) ** 2 + (column - centre) ** 2 < 0.02] = np.array(ink) * 0.4 + 0.4
    for line in range(4):
        top = int(size * (band + 0.2 + 0.045 * line))
        left = int(size * 0.1)
        while left < size * 0.85:
            width = int(rng.integers(size // 40, size // 12))
            picture[top : top + size // 64, left : left + width] = np.array(ink) * 0.5
            left += width + size // 50
    return np.clip(picture * (1 + 0.02 * noise(rng, size, (3, 3))[..., None]), 0.01, 0.95)
