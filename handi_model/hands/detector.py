"""HandDetector: MediaPipe's HandLandmarker in torch, frozen, batched and differentiable.

It does what HandLandmarker does with single pictures (mode IMAGE, two hands): the palm network
finds hands in the whole frame, the landmark network finds 21 joints in the region of each. Given
the regions, the joints are differentiable with respect to the frames.
"""

from __future__ import annotations

import zipfile
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from handi_model.hands import palm
from handi_model.hands.crops import cut, letterbox, to_frame
from handi_model.hands.model_files import hand_landmarker_task
from handi_model.hands.regions import same_hand, scale
from handi_model.hands.tflite_graph import TfliteGraph

CROP = 224
"""Side of the landmark network's input, pixels."""
PIXELS_AT_ONCE = 2**24
FRAMES_AT_ONCE = 64
"""`forward` takes frames in portions of at most this many pixels and frames, to bound memory."""
FRAMES_AT_ONCE_CPU = 2
"""On a processor larger portions are slower: their activations leave the cache."""
TOLERANCE = 0.01
"""Float frames may overshoot [0, 1] by this much: codecs and decoders do."""


class Detection(NamedTuple):
    """Hands found on N frames; the left hand comes first.

    Attributes:
        joints: (N, 42, 2) float32, normalised to the frame, zeros where not visible. Joints may lie
            outside the frame.
        score: (N, 2) float32, presence of the left and of the right hand, [0, 1]; zero if unseen.
        visible: (N, 42) bool; a hand's joints are visible all together.
    """

    joints: Tensor
    score: Tensor
    visible: Tensor


class HandDetector(nn.Module):
    """The palm network and the landmark network with all that MediaPipe does around them.

    Args:
        palm_network, landmark_network: as in `hand_landmarker.task`.
        confidence: threshold of palm score and hand presence, [0, 1].
    """

    def __init__(
        self, palm_network: TfliteGraph, landmark_network: TfliteGraph, confidence: float = 0.5
    ) -> None:
        super().__init__()
        self.palm_network = palm_network
        self.landmark_network = landmark_network
        self.confidence = confidence
        self.eval()

    @classmethod
    def load(cls, path: str | None = None, confidence: float = 0.5) -> HandDetector:
        """Build the detector from `hand_landmarker.task`.

        Args:
            path: the file; default: wherever `hand_landmarker_task` finds it.

        Raises:
            ModelFileError: if there is no usable file.
        """
        with zipfile.ZipFile(hand_landmarker_task(path)) as task:
            palms, landmarks = (
                TfliteGraph(task.read(name))
                for name in ("hand_detector.tflite", "hand_landmarks_detector.tflite")
            )
        return cls(palms, landmarks, confidence)

    def train(self, mode: bool = True) -> HandDetector:
        """Stay in evaluation mode: the networks are frozen."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, frames: Tensor | NDArray) -> Detection:
        """Detect up to two hands on each frame.

        Args:
            frames: (N, H, W, 3) RGB, uint8 or float in [0, 1]; an array, or a tensor on any
                device. Floats are rounded to 8 bits, the only frames that MediaPipe takes.

        Returns:
            Detection on the detector's device.

        Raises:
            ValueError: if the frames have another shape, type or range.
        """
        frames = self._tensor(frames)
        _check_frames(frames)
        if frames.is_floating_point() and frames.numel():
            low, high = (float(value) for value in torch.aminmax(frames))
            # Written so that NaN fails too.
            if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):
                raise ValueError(
                    f"float frames must lie in [0, 1], got [{low:g}, {high:g}]; "
                    "divide by 255, or clamp"
                )
        pixels = frames.shape[1] * frames.shape[2]
        most = FRAMES_AT_ONCE_CPU if self._device.type == "cpu" else FRAMES_AT_ONCE
        portion = min(max(PIXELS_AT_ONCE // pixels, 1), most)
        found = [self._detect(part.to(self._device)) for part in frames.split(portion)]
        return Detection(*map(torch.cat, zip(*found, strict=True)))

    def landmarks(
        self, frames: Tensor | NDArray, regions: Tensor | NDArray
    ) -> tuple[Tensor, Tensor]:
        """Find the joints of hands in known regions; differentiable with respect to the frames.

        Args:
            frames: (N, H, W, 3) RGB, uint8 or float in [0, 1]; a tensor or an array, as the
                regions are.
            regions: (N, 2, 4) of the left and the right hand: centre x, centre y, side in pixels
                of the frame, rotation in radians (see `regions.py`). Side 0 is no region.

        Returns:
            joints (N, 42, 2) float32 normalised to the frame, and presence (N, 2) in [0, 1]; both
            are zero, without gradient, where there is no region.

        Raises:
            ValueError: if the shapes are not these.
        """
        frames, regions = self._tensor(frames), self._tensor(regions)
        _check_frames(frames)
        if regions.shape != (len(frames), 2, 4):
            raise ValueError(
                f"regions must be ({len(frames)}, 2, 4), two for each frame, "
                f"got {tuple(regions.shape)}"
            )
        frame_index = torch.arange(len(frames), device=frames.device).repeat_interleave(2)
        joints, presence = self.crop_landmarks(frames, frame_index, regions.reshape(-1, 4))
        height, width = frames.shape[1:3]
        joints = scale(joints, 1 / width, 1 / height)
        return joints.reshape(-1, 42, 2), presence.reshape(-1, 2)

    def crop_landmarks(
        self, frames: Tensor, frame_index: Tensor, regions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Find the joints in each of R regions; differentiable with respect to the frames.

        Args:
            frames: (N, H, W, 3) RGB, uint8 or float in [0, 1].
            frame_index: (R,) long, the frame of each region.
            regions: (R, 4), as in `landmarks`.

        Returns:
            joints (R, 21, 2) float32 in pixels of the frame, and presence (R,) in [0, 1]; both are
            zero, without gradient, where there is no region.

        Raises:
            ValueError: if the shapes are not these.
        """
        joints, presence, _ = self._hands(frames, frame_index, regions)
        return joints, presence

    def _tensor(self, values: Tensor | NDArray) -> Tensor:
        """A tensor as it is, and an array as one on the detector's device."""
        if isinstance(values, Tensor):
            return values
        if not isinstance(values, np.ndarray):
            raise ValueError(f"frames must be a tensor or an array, got {type(values).__name__}")
        # torch takes no arrays that are read-only, turned round or in another byte order.
        native = np.array(values, dtype=values.dtype.newbyteorder("="), order="C")
        return torch.from_numpy(native).to(self._device)

    @property
    def _device(self) -> torch.device:
        return next(self.buffers()).device

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.buffers()).dtype

    def _hands(
        self, frames: Tensor, frame_index: Tensor, regions: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Joints and presence as in `crop_landmarks`, and the score of being a right hand, (R,)."""
        _check_frames(frames)
        if regions.ndim != 2 or regions.shape[1] != 4 or frame_index.shape != regions.shape[:1]:
            raise ValueError(
                "frame_index must be (R,) and regions (R, 4), got "
                f"{tuple(frame_index.shape)} and {tuple(regions.shape)}"
            )
        present = regions[:, 2] > 0
        # Whatever else an absent region holds must not reach the gradient.
        regions = torch.where(present[:, None], regions, 0.0)
        crops = cut(frames, frame_index, regions, CROP)
        # Half a pixel matters here, and an outer autocast would not keep it.
        with torch.autocast(crops.device.type, enabled=False):
            points, presence, right, _ = self.landmark_network(crops.to(self._dtype))
        joints = to_frame(points.reshape(-1, 21, 3)[:, :, :2] / CROP, regions)
        joints = torch.where(present[:, None, None], joints, 0.0)
        return joints, torch.where(present, presence[:, 0].float(), 0.0), right[:, 0].float()

    def _detect(self, frames: Tensor) -> Detection:
        height, width = frames.shape[1:3]
        if frames.is_floating_point():
            frames = (frames.float().clamp(0, 1) * 255).round().to(torch.uint8)
        with torch.autocast(frames.device.type, enabled=False):
            pictures = letterbox(frames, palm.SIZE).to(self._dtype)
            raw, logits = self.palm_network(pictures)
        scores = logits[:, :, 0].float().sigmoid()
        palms, found = palm.merge(palm.decode(raw), scores, self.confidence)
        regions = palm.hand_regions(palms, height, width)
        # Only the regions that were found are worth the landmark network's time.
        frame_index, order = found.nonzero(as_tuple=True)
        joints = regions.new_zeros(len(frames), 2, 21, 2)
        presence, right = regions.new_zeros(2, len(frames), 2)
        if len(frame_index):
            at = (frame_index, order)
            joints[at], presence[at], right[at] = self._hands(frames, frame_index, regions[at])
        seen = presence > self.confidence
        twin = seen.all(1) & same_hand(joints[:, 0], joints[:, 1])
        seen[:, 1] &= ~twin
        swapped = right_comes_first(seen, right)
        joints, presence, seen = (
            torch.where(swapped.reshape(-1, *[1] * (values.ndim - 1)), values.flip(1), values)
            for values in (joints, presence, seen)
        )
        joints = torch.where(seen[:, :, None, None], joints, 0.0)
        joints = scale(joints, 1 / width, 1 / height)
        visible = seen.repeat_interleave(21, 1)
        return Detection(joints.reshape(-1, 42, 2), presence.where(seen, 0.0), visible)


def right_comes_first(seen: Tensor, right: Tensor) -> Tensor:
    """Tell on which frames the first of two hands belongs into the right hand's slot.

    MediaPipe names the wearer's own hand on pictures that are not mirrored. Of two hands with one
    name the more certain keeps it, and the other gets the slot that is left.

    Args:
        seen: (N, 2) bool, which hands there are.
        right: (N, 2) scores of being a right hand, [0, 1].

    Returns:
        (N,) bool.
    """
    doubt = right.new_tensor(0.5)
    lean = torch.where(seen, right, doubt) - doubt
    first, second = lean.unbind(1)
    return torch.where(first.abs() >= second.abs(), first > 0, second <= 0) & seen.any(1)


def _check_frames(frames: Tensor) -> None:
    if frames.ndim != 4 or frames.shape[3] != 3 or 0 in frames.shape[1:3]:
        raise ValueError(f"frames must be (N, H, W, 3), got {tuple(frames.shape)}")
    if not (frames.is_floating_point() or frames.dtype == torch.uint8):
        raise ValueError(f"frames must be uint8, or float in [0, 1], got {frames.dtype}")
