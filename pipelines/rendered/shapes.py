"""Surfaces of the things on the table: turned on a lathe, drawn along a curve, or a box."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Shape:
    """A triangle mesh.

    Attributes:
        vertices: (V, 3) float64, metres.
        triangles: (F, 3) int64.
        normals: (V, 3) float64, unit length, outwards.
        uv: (V, 2) float64, texture points in [0, 1].
    """

    vertices: np.ndarray
    triangles: np.ndarray
    normals: np.ndarray
    uv: np.ndarray

    def moved(self, pose: np.ndarray) -> Shape:
        """Return the shape under a (4, 4) rigid motion."""
        turn, shift = pose[:3, :3], pose[:3, 3]
        return Shape(self.vertices @ turn.T + shift, self.triangles, self.normals @ turn.T, self.uv)


def lathe(profile: list[tuple[float, float]], bevel: float = 0.002, around: int = 72) -> Shape:
    """Turn a profile about the z axis.

    Args:
        profile: points (radius, height) in metres; the outside goes from the bottom upwards.
        bevel: how far from a corner its rounding begins, metres.
        around: facets around the axis.
    """
    points = _rounded(np.array(profile, dtype=float), bevel)
    tangent = np.gradient(points, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True) + 1e-12
    angle = np.linspace(0, 2 * np.pi, around + 1)
    cosine, sine = np.cos(angle), np.sin(angle)
    radius, height = points[:, :1], points[:, 1:]
    vertices = np.stack([radius * cosine, radius * sine, height + 0 * cosine], axis=-1)
    normals = np.stack(
        [tangent[:, 1:] * cosine, tangent[:, 1:] * sine, -tangent[:, :1] + 0 * cosine], axis=-1
    )
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    return _grid(vertices, normals, angle / (2 * np.pi), length / length[-1])


def tube(curve: np.ndarray, radius: np.ndarray, around: int = 24) -> Shape:
    """Draw a circle along a curve.

    Args:
        curve: (N, 3) points, metres.
        radius: (N,) radii, metres; zero at an end closes the tube.
        around: facets around the curve.
    """
    tangent = np.gradient(curve, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    first = np.cross(tangent, _any_across(tangent[0]))
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(tangent, first)
    angle = np.linspace(0, 2 * np.pi, around + 1)
    normals = (
        first[:, None] * np.cos(angle)[None, :, None]
        + second[:, None] * np.sin(angle)[None, :, None]
    )
    vertices = curve[:, None] + normals * radius[:, None, None]
    return _grid(vertices, normals, angle / (2 * np.pi), np.linspace(0, 1, len(curve)))


def box(half: tuple[float, float, float], bevel: float = 0.003) -> Shape:
    """Return a box about the origin with rounded edges.

    Args:
        half: half its width, depth and height, metres.
        bevel: radius of the edges, metres.
    """
    size = np.array(half)
    pieces = []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            across, up = (axis + 1) % 3, (axis + 2) % 3
            steps = [_edge_steps(size[i], bevel) for i in (across, up)]
            cube = np.empty((len(steps[0]), len(steps[1]), 3))
            cube[..., axis] = sign * size[axis]
            cube[..., across] = sign * steps[0][:, None]
            cube[..., up] = steps[1][None, :]
            inner = np.clip(cube, bevel - size, size - bevel)
            normals = cube - inner
            normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
            fractions = [(s - s[0]) / (s[-1] - s[0]) for s in steps]
            pieces.append(_grid(inner + bevel * normals, normals, fractions[1], fractions[0]))
    return join(pieces)


def join(shapes: list[Shape]) -> Shape:
    """Return several shapes as one."""
    first = np.cumsum([0] + [len(shape.vertices) for shape in shapes])
    return Shape(
        np.concatenate([shape.vertices for shape in shapes]),
        np.concatenate([s.triangles + k for s, k in zip(shapes, first, strict=False)]),
        np.concatenate([shape.normals for shape in shapes]),
        np.concatenate([shape.uv for shape in shapes]),
    )


def vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Return (V, 3) unit normals of a smooth surface, each face counted by its area."""
    a, b, c = (vertices[triangles[:, i]] for i in range(3))
    of_face = np.cross(b - a, c - a)
    normals = np.zeros_like(vertices)
    for corner in range(3):
        np.add.at(normals, triangles[:, corner], of_face)
    return normals / (np.linalg.norm(normals, axis=1, keepdims=True) + 1e-12)


def _grid(vertices: np.ndarray, normals: np.ndarray, u: np.ndarray, v: np.ndarray) -> Shape:
    """Join a (rows, columns, 3) grid of points to a mesh with texture points (u, v)."""
    rows, columns = vertices.shape[:2]
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = (
        part.ravel() for part in (index[:-1, :-1], index[:-1, 1:], index[1:, 1:], index[1:, :-1])
    )
    uv = np.stack(np.broadcast_arrays(u[None, :], v[:, None]), axis=-1)
    return Shape(
        vertices.reshape(-1, 3),
        np.concatenate([np.stack([a, b, c], axis=1), np.stack([a, c, d], axis=1)]),
        normals.reshape(-1, 3),
        uv.reshape(-1, 2),
    )


def _rounded(profile: np.ndarray, bevel: float) -> np.ndarray:
    """Replace every inner corner of a polyline by a short arc."""
    points = [profile[0]]
    for before, corner, after in zip(profile, profile[1:], profile[2:], strict=False):
        back, on = before - corner, after - corner
        lengths = np.linalg.norm(back), np.linalg.norm(on)
        start = corner + back * min(bevel / lengths[0], 0.45)
        end = corner + on * min(bevel / lengths[1], 0.45)
        for t in np.linspace(0, 1, 5):  # a quadratic Bezier curve through the corner's ends
            points.append((1 - t) ** 2 * start + 2 * t * (1 - t) * corner + t**2 * end)
    points.append(profile[-1])
    return np.array(points)


def _edge_steps(half: float, bevel: float) -> np.ndarray:
    near = half - bevel * np.array([0.0, 0.3, 0.6, 1.0])
    return np.concatenate([-near, near[::-1]])


def _any_across(direction: np.ndarray) -> np.ndarray:
    """Return a coordinate axis that is far from parallel to a direction."""
    return np.eye(3)[np.argmin(np.abs(direction))]
