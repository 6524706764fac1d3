"""`report.html`: the data set for a person to look at, in one file that needs nothing else."""

from __future__ import annotations

import base64
import io
from typing import Any

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, select_autoescape
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipelines.annotate import HandTrack, Take
from pipelines.camera import measure_path
from pipelines.dataset import read_columns, read_rows
from pipelines.drawing import draw_hands, heat_map, strip
from pipelines.frames import Fit, decode_jpeg, decode_mask
from pipelines.prior import Prior
from pipelines.records import ANNOTATIONS, Clip
from pipelines.settings import PreprocessSettings
from pipelines.storage import join, write_bytes
from pipelines.video import DecodedClip, decode_clips

SAMPLES = 8
"""Clips shown with joints and masks."""
FRAMES_SHOWN = 6
MOVING_SAMPLES = 3
"""Clips shown as stored and the other way, filmed or stabilized: whose camera moves most."""
PROBLEMS_SHOWN = 50


def write_report(
    settings: PreprocessSettings, summary: dict[str, Any], prior: Prior | None
) -> None:
    """Draw the report of an output into its `report.html`."""
    output = settings.output
    mean = prior.mean if prior else None
    clips = read_columns(
        join(output, "clips"),
        [
            "clip_id",
            "start_s",
            "stop_s",
            "hand_rate",
            "mask_area",
            "camera_motion",
            "residual_motion",
        ],
    ).to_pylist()
    environment = Environment(
        loader=PackageLoader("pipelines", "."), autoescape=select_autoescape(default=True)
    )
    problems = read_columns(
        join(output, "errors"), ["clip_id", "stage", "error_type", "message", "attempts"]
    ).to_pylist()
    failed = [row for row in problems if row["stage"] != ANNOTATIONS]
    malformed = [row for row in problems if row["stage"] == ANNOTATIONS]
    shown = [clips[i] for i in np.linspace(0, len(clips) - 1, min(SAMPLES, len(clips))).astype(int)]
    page = environment.get_template("report.html.j2").render(
        output=output,
        summary=summary,
        prior=picture(enlarge(heat_map(mean), 2)) if mean is not None else None,
        prior_peak=float(mean.max()) if mean is not None else 0.0,
        prior_of=str(prior) if prior else "",
        charts=picture(charts(clips)) if clips else None,
        samples=[sample(row) for row in read_rows(output, [row["clip_id"] for row in shown])],
        moving=camera_samples(clips, settings),
        failed=failed[:PROBLEMS_SHOWN],
        malformed=malformed[:PROBLEMS_SHOWN],
        filtered=read_columns(
            join(output, "filtered"), ["clip_id", "reason", "value", "narration"]
        ).to_pylist()[:PROBLEMS_SHOWN],
        problems_shown=PROBLEMS_SHOWN,
    )
    write_bytes(join(output, "report.html"), page.encode())


def sample(row: dict[str, Any]) -> dict[str, Any]:
    """A strip of a clip's frames with joints and each frame's mask, and the union behind it."""
    shown = np.linspace(0, len(row["frames"]) - 1, FRAMES_SHOWN).astype(int)
    joints = np.array(row["keypoints"], np.float32)
    detected = np.array(row["hand_detected"], bool)
    drawn = [
        draw_hands(
            decode_jpeg(row["frames"][i]),
            joints[i],
            detected[i],
            decode_mask(row["frame_masks"][i]),
        )
        for i in shown
    ]
    union = decode_mask(row["mask"])
    grey = np.repeat(np.where(union, 255, 40).astype(np.uint8)[..., None], 3, axis=2)
    return {"row": row, "picture": picture(strip([*drawn, grey]))}


def camera_samples(
    clips: list[dict[str, Any]], settings: PreprocessSettings
) -> list[dict[str, Any]]:
    """The clips whose camera moves most, as stored, and the other way round.

    A clip that is stored stabilized stands beside its frames as filmed, decoded again; one that is
    stored as filmed beside what stabilizing would give, where that can be had.
    """
    measured = [row for row in clips if row["camera_motion"] is not None]
    most = sorted(measured, key=lambda row: (-row["camera_motion"], row["clip_id"]))
    return [
        camera_sample(row, settings)
        for row in read_rows(settings.output, [row["clip_id"] for row in most[:MOVING_SAMPLES]])
    ]


def camera_sample(row: dict[str, Any], settings: PreprocessSettings) -> dict[str, Any]:
    """Strips of one clip; each ends in the mean over time: what stands still in it is sharp.

    Returns:
        `row`; `stored`, a picture of the frames in the row; `other`, of the clip as filmed if it is
        stored stabilized, or as it would be stabilized, None where that cannot be had; `decoded`,
        whether the video could be read again; `left`, the motion that stabilizing would leave, None
        if it is not asked or cannot be measured.
    """
    stored = _strip_with_mean(np.stack([decode_jpeg(frame) for frame in row["frames"]]))
    shown: dict[str, Any] = {
        "row": row,
        "stored": picture(stored),
        "other": None,
        "decoded": False,
        "left": None,
    }
    clip = Clip(**{name: row[name] for name in Clip.__dataclass_fields__ if name in row})
    decoded = next(
        iter(decode_clips(clip.video_uri, [clip], len(row["frames"]), settings.working_side))
    )
    # A video that has gone since is no reason to have no report.
    if not isinstance(decoded, DecodedClip):
        return shown
    shown["decoded"] = True
    frames = decoded.frames
    height, width = frames.shape[1:3]
    fit = Fit.of(height, width, settings.resolution, settings.fit)
    if not row["stabilized"]:
        joints = fit.unfit_joints(np.array(row["keypoints"], np.float32))
        detected = np.array(row["hand_detected"], bool)
        hands = HandTrack(joints, detected, np.array(row["hand_score"], np.float32))
        path = measure_path(frames, joints, detected)
        if not path.complete:
            return shown
        warped = Take(frames, np.ones((height, width), bool), hands, path).stabilized()
        frames = warped.frames
        shown["left"] = warped.path.motion(min(fit.width, fit.height))
    strip_of_other = _strip_with_mean(np.stack([fit.image(frame) for frame in frames]))
    return {**shown, "other": picture(strip_of_other)}


def _strip_with_mean(squares: NDArray[np.uint8]) -> NDArray[np.uint8]:
    shown = np.linspace(0, len(squares) - 1, FRAMES_SHOWN).astype(int)
    mean = squares.mean(axis=0).astype(np.uint8)
    return strip([*squares[shown], mean])


def charts(clips: list[dict[str, Any]]) -> NDArray[np.uint8]:
    """Histograms of what training cares about: (H, W, 3) uint8 RGB."""
    figure = Figure(figsize=(13, 2.9), dpi=100, layout="constrained")
    axes = figure.subplots(1, 4)
    lengths = [row["stop_s"] - row["start_s"] for row in clips]
    rates = [row["hand_rate"] for row in clips]
    areas = [row["mask_area"] for row in clips]
    for axis, values, label, bounds in (
        (axes[0], lengths, "clip length, s", None),
        (axes[1], rates, "share of frames with a hand", (0, 1)),
        (axes[2], areas, "mask area, share of the frame", (0, max(areas) * 1.05 or 1)),
    ):
        axis.hist(values, bins=20, range=bounds, color="#3d7ea6")
        axis.set_xlabel(label)
    filmed = [row["camera_motion"] for row in clips if row["camera_motion"] is not None]
    stored = [row["residual_motion"] for row in clips if row["residual_motion"] is not None]
    top = max([*filmed, *stored, 1e-3]) * 1.05
    axes[3].hist(filmed, bins=20, range=(0, top), color="#d98032", label="as filmed")
    if stored != filmed:
        axes[3].hist(stored, bins=20, range=(0, top), color="#3d7ea6", alpha=0.8, label="as stored")
    axes[3].set_xlabel("camera motion, pixels per frame")
    axes[3].legend(frameon=False)
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("clips")
    canvas = io.BytesIO()
    figure.savefig(canvas, format="png")
    return decode_jpeg(canvas.getvalue())


def enlarge(image: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    size = (image.shape[1] * factor, image.shape[0] * factor)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR))


def picture(image: NDArray[np.uint8]) -> str:
    """(H, W, 3) uint8 RGB as a data URL."""
    jpeg = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [1, 88])[1]
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode()
