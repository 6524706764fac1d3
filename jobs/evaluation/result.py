"""All that an evaluation has found: what metrics.json holds and the tables are drawn from."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from tqdm import tqdm

from handi_model.config import DEFAULT_FPS
from handi_model.metrics.intervals import CONFIDENCE
from jobs.fit_report import as_json
from pipelines.evaluation.changes import for_changes, relative_changes, whole_method
from pipelines.evaluation.clips import EvaluationSet
from pipelines.evaluation.figures import Scores
from pipelines.evaluation.networks import Origins
from pipelines.evaluation.plan import Planned, finished
from pipelines.evaluation.protocol import PROTOCOL
from pipelines.evaluation.settings import OF_REAL_CLIPS, EvaluateSettings, slug
from pipelines.evaluation.table import Draws, Efficiency, Estimates, efficiency, estimates, read_all
from pipelines.storage import join

EFFICIENCY = "efficiency"
"""Stands in a subset's place beside the figures of the paper's Table 1."""


@dataclass(frozen=True)
class Result:
    """Attributes:
    clips: subset -> how many clips it has.
    estimates: subset -> method -> figures.
    measured: subset -> method -> how many of its clips were measured.
    efficiency: method -> cost, for the methods that a model makes.
    trained_on: method -> how many of the clips its model was trained on; None where that is not
        known.
    whole: the method that runs without a part of it are compared with; empty without such.
    changes: subset -> run without a part -> relative changes, see `relative_changes`.
    without: run -> the part that it is without.
    frames, side: of every clip, and of every frame, pixels.
    origins: of the networks.
    problems: a line for each clip that could not be made or measured.
    settings: the job's.
    fps: frames a second that the clips are played at.
    """

    clips: dict[str, int]
    estimates: dict[str, dict[str, Estimates]]
    measured: dict[str, dict[str, int]]
    efficiency: dict[str, Efficiency]
    trained_on: dict[str, int | None]
    whole: str
    changes: dict[str, dict[str, Estimates]]
    without: dict[str, str]
    frames: int
    side: int
    origins: Origins
    problems: list[str]
    settings: dict[str, Any]
    fps: float = DEFAULT_FPS

    def as_json(self) -> bytes:
        """For metrics.json; a figure that there is not is null."""
        values = {"protocol": PROTOCOL, "confidence": CONFIDENCE, **asdict(self)}
        return as_json(values)

    def numbers(self) -> dict[str, float]:
        """For MLflow: `subset/method/column`, `efficiency/method/figure`, and against a run without
        a part `subset/run/relative_change/column`."""
        costs = {
            f"{EFFICIENCY}/{slug(method)}/{key}": value
            for method, one in self.efficiency.items()
            for key, value in one.figures().items()
        }
        return costs | {
            f"{subset}/{slug(method)}/{prefix}{key}": one.value
            for prefix, figures in (("", self.estimates), ("relative_change/", self.changes))
            for subset, methods in figures.items()
            for method, found in methods.items()
            for key, one in found.items()
            if math.isfinite(one.value)
        }


def measured(
    clips: EvaluationSet,
    planned: list[Planned],
    scores: str,
    settings: EvaluateSettings,
    origins: Origins,
    problems: list[str],
) -> Result:
    """Put together what is scored.

    Args:
        scores: URL of the folder of all scores.
        problems: a line for each clip that could not be made or measured.
    """
    ids = clips.index.clip_ids
    subsets = {name: [ids[i] for i in members] for name, members in clips.subsets().items()}
    found: dict[str, dict[str, Estimates]] = {name: {} for name in subsets}
    counts: dict[str, dict[str, int]] = {name: {} for name in subsets}
    draws = Draws(settings.bootstrap, settings.frechet_bootstrap, settings.seed)
    folders = {one.method.name: join(scores, one.key) for one in planned}
    (real_folder,) = (folders[one.method.name] for one in planned if one.method.kind == "real")

    def read(folder: str) -> dict[str, Scores]:
        return read_all(folder, sorted(finished(folder) & {*ids}))

    real = read(real_folder)
    whole = whole_method(planned)
    scored_whole = for_changes(read(folders[whole.method.name])) if whole else {}
    without = {one.method.name: one.method.without for one in planned if one.method.without}
    changes: dict[str, dict[str, Estimates]] = {name: {} for name in subsets}
    with tqdm(total=len(folders) * len(subsets), unit="row", desc="tables", mininterval=1.0) as bar:
        for method, folder in folders.items():
            scored = real if folder == real_folder else read(folder)
            for subset, row in estimates(scored, real, subsets, draws):
                found[subset][method] = row
                counts[subset][method] = len(scored.keys() & {*subsets[subset]})
                if whole and method in without:
                    changes[subset][method] = relative_changes(
                        scored_whole, scored, real, subsets[subset], draws
                    )
                bar.update()
    made = {one.method.name: one.done(clips) for one in planned if one.made}
    return Result(
        clips={name: len(members) for name, members in subsets.items()},
        estimates=found,
        measured=counts,
        efficiency={name: efficiency(urls) for name, urls in made.items() if urls},
        trained_on={
            one.method.name: one.trained_on
            for one in planned
            if one.method.kind not in OF_REAL_CLIPS
        },
        whole=whole.method.name if whole else "",
        changes=changes if whole else {},
        without={name: str(part) for name, part in without.items()},
        frames=clips.index.num_frames,
        side=clips.index.height,
        origins=origins,
        problems=problems,
        settings=settings.model_dump(),
        fps=clips.fps,
    )
