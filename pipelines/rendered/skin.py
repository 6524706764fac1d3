"""The colour of skin: blotches, redder knuckles, paler palms and nails."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from pipelines.rendered.arm import Arm
from pipelines.rendered.shapes import vertex_normals

NAIL_MASK = Path("textures") / "mpfb_fingernails.jpg"


def skin_colours(
    arm: Arm, tone: tuple[float, float, float], mesh_folder: Path, rng: np.random.Generator
) -> np.ndarray:
    """Paint an arm.

    Args:
        arm: at rest.
        tone: mean colour of the skin, linear RGB in [0, 1].
        mesh_folder: where the mask of the nails lies.
        rng: source of the blotches.

    Returns:
        (V, 3) float64, linear RGB in [0, 1], one colour a vertex.

    Raises:
        FileNotFoundError: the mask of the nails is not there.
    """
    dark = 1 - np.mean(tone) / 0.6  # 0 for light skin, near 1 for dark skin
    points = arm.vertices
    light = 1 + 0.05 * _blotches(points, 0.02, rng) + 0.04 * _blotches(points, 0.006, rng)
    light += 0.05 * _blotches(points, 0.0022, rng)
    red = 0.05 * _blotches(points, 0.015, rng)
    for finger in range(1, 6):
        for joint, width, strength in ((1, 0.011, 0.10), (2, 0.011, 0.16), (3, 0.008, 0.14)):
            red += strength * _near(points, arm.heads[f"finger{finger}-{joint}"], width)
        red += 0.16 * _near(points, arm.tails[f"finger{finger}-3"], 0.009)
    redness = np.stack([1 - 0.3 * red, 1 - red, 1 - red], axis=1)
    colours = np.array(tone) * light[:, None] * redness

    # Palms carry little pigment: on dark skin they are markedly lighter.
    facing = -vertex_normals(points, arm.triangles) @ arm.frame[:, 2]
    of_hand = (points - arm.heads["wrist"]) @ arm.frame[:, 1] > -0.005
    palm = np.clip((facing - 0.25) / 0.5, 0, 1)[:, None] * of_hand[:, None]
    colours += palm * max(dark, 0.1) * 0.7 * (np.array([0.52, 0.30, 0.22]) - colours)

    mask = cv2.imread(str(mesh_folder / NAIL_MASK), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise FileNotFoundError(f"no picture {mesh_folder / NAIL_MASK}")
    rows, columns = mask.shape
    row = np.clip(((1 - arm.uv[:, 1]) * rows).astype(int), 0, rows - 1)
    column = np.clip((arm.uv[:, 0] * columns).astype(int), 0, columns - 1)
    nail = mask[row, column][:, None] / 255
    nail_colour = 0.75 * np.array(tone) + 0.25 * np.array([0.75, 0.48, 0.42])
    return np.clip(colours * (1 - nail) + nail_colour * nail, 0.01, 0.95)


def _blotches(points: np.ndarray, scale: float, rng: np.random.Generator) -> np.ndarray:
    """Return smooth noise over space, (V,), deviation about 1: a sum of random plane waves."""
    waves = 48
    frequency = rng.standard_normal((3, waves)) / scale
    phase = rng.uniform(0, 2 * np.pi, waves)
    return np.cos(points @ frequency + phase).sum(axis=1) / np.sqrt(waves / 2)


def _near(points: np.ndarray, centre: np.ndarray, width: float) -> np.ndarray:
    """Return (V,) in [0, 1], one at the centre, fading over a width in metres."""
    return np.exp(-(np.linalg.norm(points - centre, axis=1) ** 2) / width**2)
