"""What a person is told of a search: lines, a file of figures, a picture, MLflow's nested runs."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from handi_model.metrics.intervals import CONFIDENCE
from jobs.experiment import Experiment
from jobs.fit_report import as_json
from jobs.tracking import run_name
from jobs.training.finish import model_url
from jobs.training.settings import TrainSettings
from jobs.tuning.standing import Difference, Moments, Repeated, Trial
from jobs.tuning.trials import trial_settings

CLOSE_S = 10.0
"""For a store that is down: there is a run for each trial."""
MARKS = {"finished": "o", "cut off": "X"}


def trial_line(trial: Trial, score: float, objective: Mapping[str, float]) -> str:
    """Weights, score, figures, and how it ended."""
    named = [(_short(name), trial.figures.get(name, math.nan)) for name in objective]
    figures = "  ".join(f"{name} {value:.4f}" for name, value in named)
    ended = {"finished": "", "cut off": ", cut off", "failed": f", failed: {trial.why}"}
    weights = f"alpha {trial.plan.alpha:.4f}  eta {trial.plan.eta:.4f}"
    if not trial.history:
        return f"{weights}  failed: {trial.why}"
    after = f"after {trial.epochs} epochs{ended[trial.outcome]}"
    return f"{weights}  score {score:+.2f}  {figures}  {after}"


def repeated_line(one: Repeated) -> str:
    """Weights, and what came of them over seeds: mean ± standard deviation."""
    figures = "  ".join(f"{_short(name)} {_moments(m, 4)}" for name, m in one.figures.items())
    weights = f"alpha {one.alpha:.4f}  eta {one.eta:.4f}"
    return f"{weights}  score {_moments(one.score, 2)}  {figures}  ({len(one.scores)} seeds)"


def difference_line(found: Difference | None) -> str:
    """Whether the best weights are better than the next ones beyond chance."""
    if found is None:
        return "too few seeds to tell whether the best weights are better than the next ones"
    interval = f"{CONFIDENCE:.0%} interval {found.low:.2f} to {found.high:.2f}"
    verdict = "beyond chance" if found.beyond_chance else "within chance, either will do"
    lower = f"{found.mean:.2f} lower than the next ({interval}, {found.seeds} seeds)"
    return f"the best score is {lower}: {verdict}"


def result_file(
    trials: Sequence[tuple[Trial, float]],
    repeats: Sequence[Repeated],
    found: Difference | None,
    settings: dict[str, Any],
) -> bytes:
    """All of it as JSON."""
    return as_json(
        {
            "trials": [
                {**asdict(trial), "epochs": trial.epochs, "score": score} for trial, score in trials
            ],
            "repeated": [asdict(one) for one in repeats],
            "difference": found and {**asdict(found), "beyond_chance": found.beyond_chance},
            "settings": settings,
        }
    )


def picture(trials: Sequence[tuple[Trial, float]], repeats: Sequence[Repeated]) -> bytes:
    """PNG: the trials by their weights, their scores as colours; those repeated are ringed."""
    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.add_subplot(
        xscale="log", yscale="log", xlabel="alpha (L_mIoU)", ylabel="eta (L_HR)"
    )
    known = [(trial, score) for trial, score in trials if math.isfinite(score)]
    shown = [score for _, score in known] or [0.0]
    shades = Normalize(min(shown), max(shown))
    for outcome, mark in MARKS.items():
        own = [(trial, score) for trial, score in known if trial.outcome == outcome]
        drawn = axes.scatter(
            [trial.plan.alpha for trial, _ in own],
            [trial.plan.eta for trial, _ in own],
            c=[score for _, score in own],
            norm=shades,
            cmap="viridis_r",
            marker=mark,
            s=70,
            label=outcome,
        )
    axes.scatter(
        [one.alpha for one in repeats],
        [one.eta for one in repeats],
        s=220,
        facecolors="none",
        edgecolors="#d98032",
        label="repeated",
    )
    figure.colorbar(drawn, label="score, standard deviations (lower is better)")
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=120)
    return sink.getvalue()


def end_run(training: TrainSettings, trial: Trial, score: float, parent_run: str | None) -> None:
    """Give a trial's run in MLflow its score, its outcome and its end.

    A trial that was cut off could not do so: Ray Tune has ended its process.
    """
    settings = trial_settings(training, trial.plan, trial.name)
    tags: dict[str, str] = {"handi.outcome": trial.outcome}
    if trial.outcome == "cut off":
        tags["handi.cut_off"] = f"after {trial.epochs} of {training.epochs} epochs"
    if trial.outcome == "finished":
        tags["handi.model"] = model_url(settings)
    if trial.why:
        tags["handi.failure"] = trial.why
    run = Experiment.start(
        training.experiment,
        run_name(settings.output),
        {},
        tags,
        run_id=trial.run_id,
        parent_run_id=parent_run,
    )
    run.log_metrics(trial.epochs, {"score": score})
    run.close("FAILED" if trial.outcome == "failed" else "FINISHED", timeout_s=CLOSE_S)


def _short(name: str) -> str:
    return name.removeprefix("validation/")


def _moments(one: Moments, digits: int) -> str:
    return f"{one.mean:.{digits}f} ± {one.deviation:.{digits}f}"
