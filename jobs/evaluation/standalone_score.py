"""Score generated clips of hands against this benchmark, by the joints that they show.

    python score.py FOLDER

FOLDER holds a <clip_id>.npz for each generated clip; README.md says what is in it. Needs numpy, and
Pillow where motion areas are scored. The figures are those of PROTOCOL.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

DIGITS = {
    "HS-Err": 5,
    "hand recall": 3,
    "hand precision": 3,
    "joint distance": 4,
    "jerk": 4,
    "jerk, real clips": 4,
    "mask IoU": 3,
}
"""Figure -> digits behind the point. The jerk of the real clips is the mark for the other one."""


def hand_figures(
    joints: np.ndarray, detected: np.ndarray, real_joints: np.ndarray, real_detected: np.ndarray
) -> dict[str, float]:
    """The figures of one clip's hands; NaN for what the clip does not have.

    Args:
        joints, real_joints: (L, 42, 2), shares of the frame's width and height.
        detected, real_detected: (L, 2) bool, left and right hand.
    """
    shown, real = (np.repeat(each, 21, axis=1) for each in (detected, real_detected))
    both = shown & real
    squared = np.square(np.asarray(joints, np.float64) - real_joints).sum(-1)[both]
    return {
        "HS-Err": float(squared.sum() / both.size) if len(squared) else math.nan,
        "hand recall": float(both.sum() / real.sum()) if real.any() else math.nan,
        "hand precision": float(both.sum() / shown.sum()) if shown.any() else math.nan,
        "joint distance": float(np.sqrt(squared).mean()) if len(squared) else math.nan,
        "jerk": jerk(joints, shown),
        "jerk, real clips": jerk(real_joints, real),
    }


def jerk(joints: np.ndarray, visible: np.ndarray) -> float:
    """Mean length of a joint's third difference over four frames on end in which it is visible.

    Args:
        joints: (L, 42, 2), shares of the frame.
        visible: (L, 42) bool.
    """
    if len(joints) < 4:
        return math.nan
    third = np.diff(np.asarray(joints, np.float64), n=3, axis=0)
    seen = np.lib.stride_tricks.sliding_window_view(visible, 4, axis=0).all(axis=-1)
    return float(np.linalg.norm(third, axis=-1)[seen].mean()) if seen.any() else math.nan


def mask_iou(area: np.ndarray, mask: np.ndarray) -> float:
    """Intersection over union of two (H, W) bool masks; two empty ones agree."""
    either = (area | mask).sum()
    return float((area & mask).sum() / either) if either else 1.0


def check(benchmark: Path) -> None:
    """Refuse a benchmark whose files are not those that were released."""
    try:
        lines = (benchmark / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    except OSError:
        raise ValueError(f"{benchmark} has no SHA256SUMS: it is no complete benchmark") from None
    for line in lines:
        digest, _, name = line.partition("  ")
        try:
            found = hashlib.sha256((benchmark / name).read_bytes()).hexdigest()
        except OSError:
            found = "missing"
        if found != digest:
            what = "is missing" if found == "missing" else "is not as released"
            raise ValueError(f"the benchmark is damaged: {name} {what}; copy it anew")


def read_clip(path: Path, frames: int, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Joints, detected, and area where there is one, of a clip of `frames` frames of `size`."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            names = {"joints", "detected", "area"} & {*arrays}
            clip: dict[str, np.ndarray] = {name: arrays[name] for name in names}
    except Exception as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} cannot be read as npz: {why}") from None
    wanted = {"joints": (frames, 42, 2), "detected": (frames, 2), "area": size}
    for name, shape in wanted.items():
        if name not in clip and name != "area":
            raise ValueError(f"{path} has no {name}")
        if name in clip and clip[name].shape != shape:
            raise ValueError(f"{path}: {name} must be {shape}, and is {clip[name].shape}")
    for name in names - {"joints"}:
        if not np.isin(clip[name], (0, 1)).all():
            raise ValueError(f"{path}: {name} must be true or false (1 or 0) everywhere")
        clip[name] = clip[name].astype(bool)
    if clip["joints"].dtype.kind not in "fiu":
        raise ValueError(f"{path}: joints must be numbers, and are {clip['joints'].dtype}")
    if not np.isfinite(clip["joints"][np.repeat(clip["detected"], 21, axis=1)]).all():
        raise ValueError(f"{path}: a joint of a detected hand is not finite")
    return clip


def read_mask(path: Path) -> np.ndarray:
    """(H, W) bool."""
    try:
        from PIL import Image
    except ImportError:
        raise ValueError("motion areas need Pillow: pip install pillow") from None
    with Image.open(path) as picture:
        return np.asarray(picture.convert("L")) > 127


def score(folder: Path, benchmark: Path) -> dict[str, dict[str, float]]:
    """Clip id -> its figures, of the clips that the folder has."""
    said = json.loads((benchmark / "benchmark.json").read_text(encoding="utf-8"))
    frames, size = said["frames_per_clip"], (said["height"], said["width"])
    found = {}
    for clip_id in said["clip_ids"]:
        path = folder / f"{clip_id}.npz"
        if not path.exists():
            continue
        clip = read_clip(path, frames, size)
        real = read_clip(benchmark / "joints" / f"{clip_id}.npz", frames, size)
        found[clip_id] = hand_figures(
            clip["joints"], clip["detected"], real["joints"], real["detected"]
        )
        if "area" in clip:
            mask = read_mask(benchmark / "masks" / f"{clip_id}.png")
            found[clip_id]["mask IoU"] = mask_iou(clip["area"], mask)
    if not found:
        first = said["clip_ids"][0]
        raise ValueError(f"{folder} has none of the clips; name each by its id: {first}.npz")
    return found


def report(found: dict[str, dict[str, float]], said: dict[str, Any]) -> str:
    """Each subset's means over the clips that have the figure, and how many these are."""
    lines = [f"{said['name']}, protocol {said['protocol']}"]
    for subset, members in said["subsets"].items():
        clips = [found[clip_id] for clip_id in members if clip_id in found]
        lines += ["", f"{subset}: {len(clips)} of {len(members)} clips"]
        for name, digits in DIGITS.items():
            values = np.array([clip.get(name, math.nan) for clip in clips], np.float64)
            known = values[np.isfinite(values)]
            mean = f"{known.mean():.{digits}f}" if len(known) else "-"
            of = "1 clip" if len(known) == 1 else f"{len(known)} clips"
            lines.append(f"  {name:<18}{mean:>9}  ({of})")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Score generated clips by their hands' joints.")
    parser.add_argument("folder", type=Path, help="with a <clip_id>.npz for each clip")
    parser.add_argument(
        "--benchmark",
        type=Path,
        default=Path(__file__).resolve().parent,
        help="the benchmark's folder; that of this file by default",
    )
    given = parser.parse_args()
    try:
        check(given.benchmark)
        found = score(given.folder, given.benchmark)
    except ValueError as error:
        sys.exit(f"error: {error}")
    said = json.loads((given.benchmark / "benchmark.json").read_text(encoding="utf-8"))
    print(report(found, said))


if __name__ == "__main__":
    main()
