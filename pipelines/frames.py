"""From the decoded frame to the stored one: a square of the chosen resolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

FitMode = Literal["crop", "pad"]


@dataclass(frozen=True)
class Fit:
    """How a frame becomes a stored square.

    Attributes:
        size: side of the square, pixels.
        width, height: of the resized frame, pixels.
        left, top: where the resized frame's corner lies in the square (negative when cropped).
    """

    size: int
    width: int
    height: int
    left: int
    top: int

    @classmethod
    def of(cls, height: int, width: int, resolution: int, mode: FitMode) -> Fit:
        """Fit the short side and crop the middle, or fit the long side and pad around it."""
        side = min(height, width) if mode == "crop" else max(height, width)
        w, h = round(width * resolution / side), round(height * resolution / side)
        return cls(resolution, w, h, (resolution - w) // 2, (resolution - h) // 2)

    def image(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Map (h, w) or (h, w, C) uint8 to (size, size) or (size, size, C); padding is black."""
        shrinks = self.width < frame.shape[1]
        how = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
        resized = cv2.resize(frame, (self.width, self.height), interpolation=how)
        square = np.zeros((self.size, self.size, *frame.shape[2:]), np.uint8)
        rows = slice(max(self.top, 0), max(self.top, 0) + min(self.height, self.size))
        columns = slice(max(self.left, 0), max(self.left, 0) + min(self.width, self.size))
        y, x = max(-self.top, 0), max(-self.left, 0)
        square[rows, columns] = resized[y : y + self.size, x : x + self.size]
        return square

    def joints(self, joints: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map (..., 2) joints normalised to the frame to ones normalised to the square."""
        corner = np.array([self.left, self.top], np.float32)
        extent = np.array([self.width, self.height], np.float32)
        return ((joints * extent + corner) / self.size).astype(np.float32)

    def unfit_joints(self, joints: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map (..., 2) joints normalised to the square back to ones normalised to the frame."""
        corner = np.array([self.left, self.top], np.float32)
        extent = np.array([self.width, self.height], np.float32)
        return ((joints * self.size - corner) / extent).astype(np.float32)


def encode_jpeg(frame: NDArray[np.uint8], quality: int) -> bytes:
    """(H, W, 3) uint8 RGB -> JPEG."""
    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    return cv2.imencode(".jpg", cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), options)[1].tobytes()


def encode_mask(mask: NDArray[np.bool_]) -> bytes:
    """(H, W) bool -> PNG of 0 and 255."""
    return cv2.imencode(".png", mask.astype(np.uint8) * 255)[1].tobytes()


def decode_jpeg(data: bytes) -> NDArray[np.uint8]:
    """JPEG -> (H, W, 3) uint8 RGB."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def decode_mask(data: bytes) -> NDArray[np.bool_]:
    """PNG -> (H, W) bool."""
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) > 127
