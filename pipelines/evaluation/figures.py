"""A clip's figures, from what it and the real clip show; and the file that keeps them."""

from __future__ import annotations

import io
import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handi_model.baselines.method import Made
from handi_model.metrics.captions import caption_score
from handi_model.metrics.clip_scores import clip_consecutive, clip_gt, clip_text
from handi_model.metrics.egovlp import egovlp_score
from handi_model.metrics.fidelity import mask_iou
from handi_model.metrics.hand_error import hand_error
from handi_model.metrics.locality import change_outside, flow_inside
from handi_model.metrics.smoothness import joint_jerk
from pipelines.evaluation.clips import RealClip
from pipelines.evaluation.made_files import SUFFIX, opened_arrays, write_result
from pipelines.evaluation.seen_hands import SeenHands
from pipelines.evaluation.views import View
from pipelines.storage import join


@dataclass(frozen=True)
class Texts:
    """Embeddings of an instruction or a caption; None for a network that cannot be had."""

    clip: NDArray[np.float32] | None
    egovlp: NDArray[np.float32] | None


@dataclass(frozen=True)
class Scores:
    """What is kept of a scored clip.

    Attributes:
        figures: key of a column -> figure; NaN for one that the clip does not have, and none for
            a network that cannot be had.
        features: see `View`.
        hands: on the frames.
        caption: empty where there is none.
    """

    figures: dict[str, float]
    features: dict[str, NDArray[np.float32]]
    hands: SeenHands
    caption: str


def figures(
    made: Made, seen: View, real: RealClip, seen_real: View, instruction: Texts, caption: Texts
) -> dict[str, float]:
    """The figures of a clip that are its own; FID and FVD are those of many."""
    hands = _hands(seen.hands, seen_real.hands)
    area = _hands(seen.in_area, seen_real.in_area)
    frames, scene = made.frames / np.float32(255), real.frames[0] / np.float32(255)
    found = {
        **hands,
        "jerk": joint_jerk(seen.hands.joints, seen.hands.visible),
        "hs_err_area": area["hs_err"],
        "mask_iou": math.nan if made.area is None else mask_iou(made.area, real.mask),
        "flow_inside": flow_inside(seen.flow, real.mask),
        "change_outside": change_outside(frames, scene, real.mask),
        "change_before": math.nan if made.change_outside is None else made.change_outside,
    }
    if seen.clip is not None and seen_real.clip is not None and instruction.clip is not None:
        found |= {
            "clip_gt": clip_gt(seen.clip, seen_real.clip),
            "clip_cs": clip_consecutive(seen.clip),
            "clip_tx": clip_text(seen.clip, instruction.clip),
        }
    if seen.egovlp is not None and seen_real.egovlp is not None:
        found["egovlp"] = egovlp_score(seen.egovlp, seen_real.egovlp)
    if seen.caption is not None and instruction.egovlp is not None:
        found["blip"] = math.nan  # of a frame about which nothing is said
        if caption.egovlp is not None:
            found["blip"] = caption_score(caption.egovlp, instruction.egovlp)
    return found


def _hands(made: SeenHands, real: SeenHands) -> dict[str, float]:
    return vars(hand_error(made.joints, made.visible, real.joints, real.visible))


def write_scores(folder: str, clip_id: str, scores: Scores) -> None:
    sink = io.BytesIO()
    arrays: dict[str, Any] = {f"features_{name}": each for name, each in scores.features.items()}
    said = json.dumps({"figures": scores.figures, "caption": scores.caption})
    np.savez_compressed(
        sink, said=said, joints=scores.hands.joints, detected=scores.hands.detected, **arrays
    )
    write_result(join(folder, clip_id + SUFFIX), sink.getvalue())


def read_scores(folder: str, clip_id: str) -> Scores:
    with opened_arrays(join(folder, clip_id + SUFFIX)) as arrays:
        said = json.loads(str(arrays["said"]))
        return Scores(
            said["figures"],
            {
                name.removeprefix("features_"): arrays[name]
                for name in arrays
                if name.startswith("features_")
            },
            SeenHands(arrays["joints"], arrays["detected"]),
            said["caption"],
        )
