"""The networks that figures are made by: those that can be had, and why the others cannot."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import ray
import torch

from handi_model.device import usable_device
from handi_model.hands.model_files import ModelFileError, hand_landmarker_task, sha256
from handi_model.metrics.captions import Captioner
from handi_model.metrics.clip_scores import ClipEncoder
from handi_model.metrics.egovlp import EgoVlp
from handi_model.metrics.i3d import MIN_FRAMES, I3DFeatures
from handi_model.metrics.inception import InceptionFeatures
from handi_model.metrics.weights import WeightsError
from pipelines.evaluation.protocol import PROTOCOL
from pipelines.evaluation.seen_hands import CONFIDENCE
from pipelines.evaluation.settings import EvaluateSettings
from pipelines.records import one_line
from pipelines.running.workers import one_worker

BACKBONES: dict[str, Callable[..., Any]] = {
    "inception": InceptionFeatures.load,
    "i3d": I3DFeatures.load,
    "clip": ClipEncoder.load,
    "egovlp": EgoVlp.load,
    "blip": Captioner.load,
}
"""Key of the settings that names a path -> what loads the network."""


@dataclass(frozen=True)
class Origins:
    """What there is to measure with.

    Attributes:
        loaded: key -> what was loaded, as a footnote has it.
        missing: key -> why not.
        fingerprint: of all that decides a clip's figures, beside the clip.
    """

    loaded: dict[str, str]
    missing: dict[str, str]
    fingerprint: str


@dataclass(frozen=True)
class Networks:
    """Attributes:
    hand_model: contents of MediaPipe's model file.
    backbones: key -> network, those that could be had.
    """

    hand_model: bytes
    backbones: dict[str, Any]
    origins: Origins = field(repr=False)


def open_networks(
    settings: EvaluateSettings, num_frames: int, wanted: Collection[str] = tuple(BACKBONES)
) -> Networks:
    """Load what can be had; each that cannot costs its own columns only, unless it was named.

    Args:
        num_frames: of every clip.
        wanted: keys of the networks to look for.

    Raises:
        ValueError: over a network's path, or without the device, in one line.
        ModelFileError: without MediaPipe's model.
    """
    device = usable_device(settings.device)
    task = hand_landmarker_task(settings.hand_model)
    loaded: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for key in wanted:
        if key == "i3d" and num_frames < MIN_FRAMES:
            missing[key] = f"clips of {num_frames} frames are too short, it takes {MIN_FRAMES}"
            continue
        try:
            loaded[key] = BACKBONES[key](getattr(settings, key), device)
        except WeightsError as error:
            if getattr(settings, key):  # what is named is meant
                raise ValueError(str(error)) from None
            missing[key] = str(error)
    hashes = {key: network.origin.sha256 for key, network in loaded.items()}
    decides = {
        "protocol": PROTOCOL,
        "hands": [sha256(task), version("mediapipe"), CONFIDENCE],
        **{key: hashes.get(key) for key in BACKBONES},
    }
    digest = hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:8]
    names = {key: str(network.origin) for key, network in loaded.items()}
    return Networks(task.read_bytes(), loaded, Origins(names, missing, digest))


def find_networks(settings: EvaluateSettings, num_frames: int) -> Origins:
    """Look, on a worker, at what there is to measure with. Ray must be running.

    Raises:
        ValueError: see `open_networks`.
    """
    found: Origins | str = ray.get(
        _find_networks.options(**one_worker(settings.device)).remote(settings, num_frames)
    )
    if isinstance(found, str):
        raise ValueError(found)
    return found


@ray.remote(max_retries=0, max_calls=1)  # it leaves nothing on the GPU
def _find_networks(settings: EvaluateSettings, num_frames: int) -> Origins | str:
    try:
        return open_networks(settings, num_frames).origins
    except (ValueError, ModelFileError) as error:
        return one_line(error)


def one_thread() -> None:
    """Make this process one core's work: figures do not depend on how many share the machine."""
    import cv2

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
