"""Find the hands of generated clips as this benchmark does, for score.py.

    python detect.py CLIPS JOINTS --model hand_landmarker.task

README.md says what CLIPS holds; JOINTS gets a <clip_id>.npz for each clip. Needs MediaPipe, which
brings numpy and OpenCV, and PyAV for videos; handedness.py lies beside this file.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np

VIDEOS = (".mp4", ".webm", ".mov", ".mkv", ".avi", ".gif")
PICTURES = (".png", ".jpg", ".jpeg")


def differences(model: Path, detector: dict[str, Any]) -> list[str]:
    """What is not as it was for the benchmark's own joints, a line each.

    Args:
        detector: of benchmark.json.

    Raises:
        ValueError: if the model cannot be read, in one line.
    """
    found = []
    if version("mediapipe") != detector["mediapipe"]:
        found.append(f"MediaPipe is {version('mediapipe')}, and was {detector['mediapipe']}")
    try:
        # The same networks may come in task files that differ.
        with zipfile.ZipFile(model) as task:
            same = all(
                hashlib.sha256(task.read(name)).hexdigest() == digest
                for name, digest in detector["networks_sha256"].items()
            )
    except (OSError, zipfile.BadZipFile, KeyError):
        raise ValueError(f"{model} is no hand_landmarker.task; README.md has the link") from None
    if not same:
        found.append(f"the networks in {model} are others")
    return found


def landmarker(model: Path, confidence: float) -> Callable[[np.ndarray], list[Any]]:
    """What finds at most four hands on a (H, W, 3) uint8 RGB frame, each frame by itself."""
    from handedness import Hand  # type: ignore[import-not-found]  # it lies beside this file
    from mediapipe import Image, ImageFormat
    from mediapipe.tasks.python import BaseOptions, vision

    options = vision.HandLandmarkerOptions(
        base_options=BaseOptions(model_asset_buffer=model.read_bytes()),
        num_hands=4,
        min_hand_detection_confidence=confidence,
        min_hand_presence_confidence=confidence,
    )
    network = vision.HandLandmarker.create_from_options(options)

    def find(frame: np.ndarray) -> list[Any]:
        seen = network.detect(Image(image_format=ImageFormat.SRGB, data=frame))
        hands = []
        for points, (label, *_) in zip(seen.hand_landmarks, seen.handedness, strict=True):
            joints = np.array([[point.x, point.y] for point in points], np.float32)
            right = label.score if label.category_name == "Right" else 1 - label.score
            hands.append(Hand(joints, right))
        return hands

    return find


def find_clip(folder: Path, clip_id: str) -> Path | None:
    """The clip's npz, else its video, else its folder of pictures."""
    for ending in (".npz", *VIDEOS):
        if (path := folder / f"{clip_id}{ending}").is_file():
            return path
    return folder / clip_id if pictures(folder / clip_id) else None


def pictures(folder: Path) -> list[Path]:
    """The pictures of a folder; frame 2 comes before frame 10, with or without zeros before it."""

    def turn(path: Path) -> list[int | str]:
        parts = re.split(r"(\d+)", path.name)
        return [int(part) if part.isdigit() else part for part in parts]

    found = folder.iterdir() if folder.is_dir() else ()
    return sorted((path for path in found if path.suffix.lower() in PICTURES), key=turn)


def read_clip(path: Path, frames: int, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """`frames` (L, H, W, 3) uint8 RGB of a clip, and its `area` (H, W) bool where it has one.

    Raises:
        ValueError: unless the clip can be read and is of `frames` frames of `size`, in one line.
    """
    try:
        clip = _read(path, frames)
    except Exception as error:  # each library has its own
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} cannot be read: {why}") from None
    wanted = {"frames": ((frames, *size, 3), np.uint8), "area": (size, np.bool_)}
    for name, array in clip.items():
        shape, kind = wanted[name]
        if array.shape != shape or array.dtype != kind:
            raise ValueError(
                f"{path}: {name} must be {np.dtype(kind)} of shape {shape}, and is {array.dtype} "
                f"of shape {array.shape}"
            )
    return clip


def _read(path: Path, frames: int) -> dict[str, np.ndarray]:
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            return {
                name: arrays[name] for name in ("frames", "area") if name in {"frames", *arrays}
            }
    files = pictures(path)
    shown = [_picture(one) for one in files] if files else _video(path, frames)
    shapes = {frame.shape for frame in shown}
    if len(shapes) != 1:
        raise ValueError("its frames are not of one size" if shapes else "it holds no frames")
    stem = path if files else path.with_suffix("")
    mask = stem.with_name(f"{stem.name}-mask.png")
    area = {"area": _picture(mask, cv2.IMREAD_GRAYSCALE) > 127} if mask.exists() else {}
    return {"frames": np.stack(shown), **area}


def _picture(path: Path, how: int = cv2.IMREAD_COLOR) -> np.ndarray:
    """(H, W, 3) uint8 RGB, or (H, W) uint8 of a grey one."""
    picture = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), how)
    if picture is None:
        raise ValueError(f"{path.name} is no picture")
    return picture[..., ::-1] if how == cv2.IMREAD_COLOR else picture


def _video(path: Path, frames: int) -> list[np.ndarray]:
    """Its frames, at most one too many: enough to refuse it."""
    try:
        import av
    except ImportError:
        raise ValueError("videos need PyAV: pip install av") from None
    with av.open(str(path)) as container:
        if not container.streams.video:
            raise ValueError("it holds no video stream")
        stream = container.streams.video[0]
        if (stream.sample_aspect_ratio or 1) != 1:
            raise ValueError("its pixels are not square")
        decoded = list(islice(container.decode(stream), frames + 1))
    if any(frame.rotation for frame in decoded):
        raise ValueError("it is to be shown turned; turn its frames")
    return [_rgb(frame) for frame in decoded]


def _rgb(frame: Any) -> np.ndarray:
    """(H, W, 3) uint8 by the colour tags of a PyAV frame.

    YUV without tags is BT.709 in HD and BT.601 below, of limited range.
    """
    from av.video.reformatter import ColorRange, Colorspace, Interpolation

    how = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
    tags: dict[str, int] = {}
    if not frame.format.is_rgb:
        hd = frame.width >= 1280 or frame.height >= 720
        by_tag = {1: Colorspace.ITU709, 5: Colorspace.ITU601, 6: Colorspace.ITU601}
        by_tag |= {4: Colorspace.FCC, 7: Colorspace.SMPTE240M}
        by_tag |= {9: Colorspace.BT2020, 10: Colorspace.BT2020}
        matrix = by_tag.get(int(frame.colorspace), by_tag[1] if hd else by_tag[5])
        full = frame.format.name.startswith("yuvj") or frame.color_range == ColorRange.JPEG
        tags = {"src_colorspace": matrix, "dst_colorspace": matrix}
        tags["src_color_range"] = ColorRange.JPEG if full else ColorRange.MPEG
        tags["dst_color_range"] = ColorRange.JPEG
    size = frame.width, frame.height
    return frame.reformat(*size, "rgb24", interpolation=how, **tags).to_ndarray()


def detect(clips: Path, joints: Path, model: Path, benchmark: Path) -> int:
    """Write the joints of the clips that the folder has; gives how many these are.

    Raises:
        ValueError: if there is none, or over the first that is not as it must be, in one line.
    """
    from handedness import assign_slots

    said = json.loads((benchmark / "benchmark.json").read_text(encoding="utf-8"))
    found = {clip_id: find_clip(clips, clip_id) for clip_id in said["clip_ids"]}
    paths = {clip_id: path for clip_id, path in found.items() if path}
    if not paths:
        first = said["clip_ids"][0]
        raise ValueError(f"{clips} has none of the clips; name each by its id, such as {first}.mp4")
    for line in differences(model, said["detector"]):
        print(f"note: {line}; figures may differ a little", file=sys.stderr)
    find = landmarker(model, said["detector"]["confidence"])
    for clip_id, path in paths.items():
        clip = read_clip(path, said["frames_per_clip"], (said["height"], said["width"]))
        hands = [find(frame) for frame in clip.pop("frames")]
        slots = assign_slots(hands, said["width"] / said["height"])
        target = joints / f"{clip_id}.npz"
        target.parent.mkdir(parents=True, exist_ok=True)
        seen = {"joints": slots.joints, "detected": slots.detected}
        np.savez_compressed(target, **seen, **clip)  # type: ignore[arg-type]
    return len(paths)


def main() -> None:
    parser = argparse.ArgumentParser(description="Find the hands of generated clips.")
    parser.add_argument("clips", type=Path, help="folder of the generated clips")
    parser.add_argument("joints", type=Path, help="folder to write, for score.py")
    parser.add_argument("--model", type=Path, required=True, help="MediaPipe's model file")
    parser.add_argument(
        "--benchmark",
        type=Path,
        default=Path(__file__).resolve().parent,
        help="the benchmark's folder; that of this file by default",
    )
    given = parser.parse_args()
    try:
        count = detect(given.clips, given.joints, given.model, given.benchmark)
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(f"{count} clips: {given.joints}")


if __name__ == "__main__":
    main()
