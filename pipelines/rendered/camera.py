"""The still camera of a clip, as the joints are projected with it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

WIDTH, HEIGHT = 480, 270


@dataclass(frozen=True)
class Camera:
    """A pinhole camera; the table is the plane z = 0, y points away from the wearer.

    Attributes:
        position: (x, y, z) in metres.
        target: the point in the middle of the picture, metres.
        field_of_view: horizontal, degrees.
    """

    position: tuple[float, float, float] = (0.0, -0.27, 0.45)
    target: tuple[float, float, float] = (0.0, 0.02, 0.03)
    field_of_view: float = 60.0

    def project(self, points: np.ndarray) -> np.ndarray:
        """Project points into the picture.

        Args:
            points: (..., 3), metres, in front of the camera.

        Returns:
            (..., 2): x and y as fractions of the picture's width and height, y down.
        """
        position = np.array(self.position)
        forward = np.array(self.target) - position
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        up = np.cross(right, forward)
        seen = points - position
        reach = seen @ forward * np.tan(np.radians(self.field_of_view / 2))
        x = 0.5 + 0.5 * (seen @ right) / reach
        y = 0.5 - 0.5 * (seen @ up) / reach * WIDTH / HEIGHT
        return np.stack([x, y], axis=-1)
