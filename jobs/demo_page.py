"""The demo's page: data, training, validation and a generated clip in one HTML file."""

from __future__ import annotations

import base64
import io
import json
import math
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, select_autoescape
from matplotlib.figure import Figure
from mlflow import MlflowClient
from numpy.typing import NDArray

from pipelines.dataset import read_columns, read_rows
from pipelines.drawing import at_height, heat_map, mask_of_size, outline_mask
from pipelines.frames import decode_jpeg, decode_mask, encode_jpeg, encode_mask
from pipelines.prior import read_prior
from pipelines.report import picture, sample
from pipelines.storage import find, join, read_bytes, write_bytes

SHOWN_HEIGHT = 192
"""Height of a frame in the data's pictures, pixels: joints on smaller ones hide the hand."""
SMOOTHED = 10
"""Records that a line's point is the mean of; the records themselves are dots."""

History = dict[int, float]
"""Step of the whole training -> value."""


@dataclass(frozen=True)
class Chart:
    """Metrics that share an axis.

    Attributes:
        lines: metric -> its name in the legend.
        note: what a reader should know; also the picture's text.
        smooth: whether lines are means over some records, which are dots beside them.
    """

    title: str
    lines: dict[str, str]
    note: str
    logarithmic: bool = False
    smooth: bool = True


CHARTS = (
    Chart(
        "Stage 1: the motion area",
        {"mask/loss": "loss", "mask/noise": "L_noise", "mask/mask_iou": "L_mIoU"},
        "The loss is L_noise + alpha L_mIoU.",
        logarithmic=True,
    ),
    Chart(
        "Stage 2: the video",
        {"video/loss": "loss", "video/noise": "L_noise"},
        "The loss is L_noise + eta L_HR.",
        logarithmic=True,
    ),
    Chart("Stage 2: the hand loss", {"video/hand": "L_HR"}, "Mean squared distance of the joints."),
    Chart(
        "Gates of the hand loss",
        {"video/timestep_gate": "timestep", "video/presence_gate": "presence"},
        "Shares of samples that are little noised enough, and of hands that look like hands.",
    ),
    Chart(
        "Generated masks in stage 2",
        {"generated_share": "planned", "video/generated": "taken"},
        "Share of clips that see the mask that stage 1 generates in place of the true one.",
    ),
    Chart(
        "Learning rate",
        {"learning_rate": "learning rate"},
        "Warm-up, then half a cosine.",
        smooth=False,
    ),
    Chart(
        "Gradient norm",
        {"gradient_norm": "norm"},
        "Before it is clipped.",
        logarithmic=True,
    ),
    Chart(
        "Speed",
        {"clips_per_second": "clips a second"},
        "It dips where an epoch begins, and differs between the stages.",
        smooth=False,
    ),
    Chart(
        "Waiting for data",
        {"data_wait_share": "share of the time"},
        "What the workers spend on waiting for clips: most where an epoch begins.",
        smooth=False,
    ),
)

FIGURES = {
    "mask_iou": ("mask IoU", "predicted area and true mask; 1 is best", "{:.2f}"),
    "psnr": ("PSNR, dB", "inside the true mask; higher is better", "{:.2f}"),
    "gain": ("gain, dB", "above the first frame repeated; higher is better", "{:+.2f}"),
    "hs_err": ("HS-Err", "squared distance of the joints; lower is better", "{:.5f}"),
    "joint_error": ("joint distance", "share of the frame; lower is better", "{:.4f}"),
    "presence": ("presence", "the detector's score of the hands; 1 is best", "{:.2f}"),
    "hand_recall": ("hands found", "share of the true hands; 1 is best", "{:.2f}"),
    "hand_distance": ("their joints", "distance in hand sizes; lower is better", "{:.3f}"),
    "mask_noise": ("L_noise, stage 1", "lower is better", "{:.3f}"),
    "video_noise": ("L_noise, stage 2", "lower is better", "{:.3f}"),
}
"""Figure of a validation -> its name, what it says, its format."""


def write_page(output: str, scene: str, python: str, commands: Sequence[str]) -> str:
    """Draw the page of a finished demo into its `index.html`; gives that file's URL.

    Args:
        output: URL of the demo's folder, as a person would type it.
        scene: id of the clip that was generated anew.
        python: the interpreter, as a person would type it.
        commands: that made what the page shows, in their order.
    """
    environment = Environment(
        loader=PackageLoader("jobs", "."),
        autoescape=select_autoescape(default=True),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["quote"] = shlex.quote
    result = json.loads(read_bytes(join(output, "run", "result.json")))
    tracked = json.loads(read_bytes(join(output, "run", "mlflow.json")))
    histories = read_histories(tracked["uri"], tracked["run_id"])
    prior = read_prior(join(output, "data"))
    page = environment.get_template("demo.html.j2").render(
        output=output,
        result=result,
        samples=data_samples(join(output, "data")),
        prior=picture(at_height(heat_map(prior)[None], SHOWN_HEIGHT)[0]),
        prior_peak=float(prior.max()),
        charts=drawn_charts(histories),
        validations=validation_table(histories, result["done"] / result["epochs"]),
        shown=shown_validations(join(output, "run")),
        clip=generated_clip(output, scene),
        python=python,
        commands=commands,
        run_id=tracked["run_id"],
        store=store_to_open(tracked["uri"]),
    )
    url = join(output, "index.html")
    write_bytes(url, page.encode())
    return url


def read_histories(uri: str, run_id: str) -> dict[str, History]:
    """Every metric of a run; where a resumed training took a step again, the later value."""
    client = MlflowClient(tracking_uri=uri)
    histories: dict[str, History] = {}
    for name in client.get_run(run_id).data.metrics:
        records = sorted(client.get_metric_history(run_id, name), key=lambda one: one.timestamp)
        last = {one.step: one.value for one in records if math.isfinite(one.value)}
        histories[name] = dict(sorted(last.items()))
    return histories


def data_samples(data: str) -> list[dict[str, Any]]:
    """All clips with joints and masks, see `pipelines.report.sample`."""
    ids = read_columns(join(data, "clips"), ["clip_id"])["clip_id"].to_pylist()
    return [sample(_enlarged(row)) for row in read_rows(data, ids)]


def _enlarged(row: dict[str, Any]) -> dict[str, Any]:
    frames = at_height(np.stack([decode_jpeg(one) for one in row["frames"]]), SHOWN_HEIGHT)
    size = (frames.shape[1], frames.shape[2])
    return row | {
        "frames": [encode_jpeg(frame, 95) for frame in frames],
        "frame_masks": [
            encode_mask(mask_of_size(decode_mask(one), size)) for one in row["frame_masks"]
        ],
        "mask": encode_mask(mask_of_size(decode_mask(row["mask"]), size)),
    }


def drawn_charts(histories: dict[str, History]) -> list[dict[str, str]]:
    """The charts of which there is anything: title, note, and picture as a data URL."""
    drawn = []
    for chart in CHARTS:
        known = {
            label: histories[name] for name, label in chart.lines.items() if histories.get(name)
        }
        if known:
            picture_url = _draw(chart, known)
            drawn.append({"title": chart.title, "note": chart.note, "picture": picture_url})
    return drawn


def _draw(chart: Chart, lines: dict[str, History]) -> str:
    """A chart without a ground, in colours that are read on white and on black."""
    grey = "#888888"
    figure = Figure(figsize=(4.4, 2.7), dpi=160, layout="constrained")
    axis = figure.subplots()
    for (label, history), colour in zip(
        lines.items(), ("#d98032", "#4a90c2", "#3aa76d"), strict=False
    ):
        steps = np.array([*history])
        values = np.array([*history.values()])
        if chart.smooth:
            axis.plot(steps, values, ".", color=colour, alpha=0.3, markersize=3)
            values = smoothed(values, SMOOTHED)
        axis.plot(*with_gaps(steps, values), color=colour, label=label, linewidth=1.6)
    if chart.logarithmic:
        axis.set_yscale("log")
    axis.set_xlabel("step", color=grey)
    axis.tick_params(colors=grey, which="both")
    for side, spine in axis.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(grey)
    if len(lines) > 1:
        axis.legend(frameon=False, labelcolor=grey)
    canvas = io.BytesIO()
    figure.savefig(canvas, format="png", transparent=True)
    return data_url("image/png", canvas.getvalue())


def smoothed(values: NDArray[np.floating], width: int) -> NDArray[np.floating]:
    """Means over each value and the `width - 1` before it, or as many as there are."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    first = np.maximum(np.arange(1, len(values) + 1) - width, 0)
    counts = np.arange(1, len(values) + 1) - first
    return np.asarray((sums[1:] - sums[first]) / counts)


def with_gaps(
    steps: NDArray[np.integer], values: NDArray[np.floating]
) -> tuple[NDArray[np.integer], NDArray[np.floating]]:
    """Both with a NaN wherever steps are left out, so that no line leads over the other stage."""
    apart = np.diff(steps)
    if not len(apart):
        return steps, values
    gaps = np.flatnonzero(apart > 1.5 * np.median(apart)) + 1
    return np.insert(steps, gaps, steps[gaps]), np.insert(values, gaps, np.nan)


def validation_table(
    histories: dict[str, History], steps_an_epoch: float
) -> tuple[list[int], list[dict[str, Any]]]:
    """Epochs of the validations, and a row for each figure with its value at each of them."""
    known = {name: histories.get(f"validation/{name}", {}) for name in FIGURES}
    steps = sorted({step for history in known.values() for step in history})
    rows = []
    for name, (title, note, form) in FIGURES.items():
        values = [form.format(known[name][s]) if s in known[name] else "-" for s in steps]
        rows.append({"title": title, "note": note, "values": values})
    return [round(step / steps_an_epoch) for step in steps], rows


def shown_validations(run: str) -> list[dict[str, Any]]:
    """Strip and video of the clips that the first and the last validation drew."""
    files: dict[str, list[str]] = {}
    for url in find(join(run, "samples"), ".png"):
        files.setdefault(url.rsplit("/", 2)[-2], []).append(url)
    epochs = sorted(files)
    return [
        {
            "epoch": int(epoch.removeprefix("epoch-")),
            "clip_id": url.rsplit("/", 1)[-1].removesuffix(".png"),
            "strip": data_url("image/png", read_bytes(url)),
            "video": data_url("video/mp4", read_bytes(url.removesuffix("png") + "mp4")),
        }
        for epoch in dict.fromkeys([*epochs[:1], *epochs[-1:]])
        for url in files[epoch]
    ]


def generated_clip(output: str, scene: str) -> dict[str, Any]:
    """The clip of jobs/generate.py: its input under the predicted area, its files, its settings."""
    stem = join(output, "clips", scene)
    still = at_height(decode_jpeg(read_bytes(join(output, "scene.jpg")))[None], 2 * SHOWN_HEIGHT)[0]
    area = decode_mask(read_bytes(f"{stem}-mask.png"))
    settings = json.loads(read_bytes(f"{stem}.json"))
    return {
        "clip_id": scene,
        "narration": settings["prompt"],
        "input": picture(outline_mask(still, mask_of_size(area, still.shape[:2]))),
        "area": float(area.mean()),
        "strip": data_url("image/png", read_bytes(f"{stem}-strip.png")),
        "video": data_url("video/mp4", read_bytes(f"{stem}.mp4")),
        "settings": json.dumps(settings, indent=2),
    }


def store_to_open(uri: str) -> str | None:
    """A local store as `mlflow ui` takes it from here; None for a server, whose address may hold
    a password and stays out of the page."""
    scheme, _, path = uri.partition("://")
    if scheme == "sqlite":
        near = os.path.relpath(path.removeprefix("/"))
        return uri if near.startswith("..") else f"sqlite:///{near}"
    if scheme == "file" or "://" not in uri:
        return os.path.relpath(path or uri)
    return None


def data_url(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
