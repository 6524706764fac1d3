"""What the motion mask and the hand loss are each worth: the same training without them.

python jobs/ablate.py --data out/sample64 --output out/ablation

A run that is there already is not repeated: an interrupted ablation goes on.
"""

from __future__ import annotations

from pipelines.running.interrupts import run_job

# isort: split

import json
from typing import Any

import numpy as np
from pydantic import Field

from handi_model.fitting import FitSettings
from jobs.cli import load, stop
from jobs.fit_report import as_json, generate, mean_of, measure, picture
from jobs.learning import Bench, LearningSettings, learn, prepare
from jobs.tracking import track_run
from pipelines.clip_files import encode_png
from pipelines.running.output_lease import OutputHeld, held_output
from pipelines.storage import join, read_bytes, write_bytes

CONDITIONS = ("both", "without L_HR", "without mask")
COLUMNS = {
    "psnr": "PSNR inside the mask, dB",
    "gain": "above the first frame, dB",
    "mask_iou": "mask IoU",
    "hs_err": "HS-Err in the true regions",
    "joint_error": "joint distance",
    "presence": "presence score",
}


class AblationSettings(LearningSettings):
    """Keys of the job."""

    seeds: list[int] = Field([0, 1, 2], min_length=1, description="A training for each.")


def main() -> None:
    settings = load(AblationSettings, "ablate")
    bench = prepare(settings)
    try:
        with held_output(settings.output, "jobs/ablate.py"):
            ablate(settings, bench)
    except OutputHeld as error:
        stop(str(error))


def ablate(settings: AblationSettings, bench: Bench) -> None:
    """Train under every condition and seed that is not there yet, and write the table."""
    for seed in settings.seeds:
        for condition in CONDITIONS:
            where = run_url(settings, condition, seed)
            if read_run(where, settings) is not None:
                print(f"{condition}, seed {seed}: there already")
                continue
            print(f"{condition}, seed {seed}")
            fit_settings = settings.fit.model_copy(update={"seed": seed})
            losses = settings.losses
            if condition == "without L_HR":
                losses = losses.model_copy(update={"eta": 0.0})
            uses_mask = condition != "without mask"
            if not uses_mask:
                fit_settings = stage_2_alone(fit_settings)
            pipe, _ = learn(bench, fit_settings, losses, uses_mask)
            generated = generate(pipe, bench.clips, seed)
            threshold = settings.losses.presence_threshold
            figures = mean_of(measure(generated, bench.clips, bench.detector, threshold))
            write_bytes(f"{where}.png", encode_png(picture(generated, bench.clips)))
            write_bytes(f"{where}.json", as_json({"figures": figures, **decisive(settings)}))
    runs = {
        condition: [
            read_run(run_url(settings, condition, seed), settings) or {} for seed in settings.seeds
        ]
        for condition in CONDITIONS
    }
    text = table(runs)
    write_bytes(join(settings.output, "table.md"), text.encode())
    print(text)
    track_run("ablation", settings, settings.output, {}, [join(settings.output, "table.md")])


def run_url(settings: AblationSettings, condition: str, seed: int) -> str:
    """Where a run's picture and figures lie, without the ending."""
    return join(settings.output, f"{condition.replace(' ', '-')}-seed{seed}")


def decisive(settings: AblationSettings) -> dict[str, Any]:
    """What decides a run's figures, beside its condition and its seed."""
    values = settings.model_dump(
        include={"data", "clips", "resolution", "num_inference_steps", "losses"}
    )
    return {**values, "fit": settings.fit.model_dump(exclude={"seed"})}


def read_run(where: str, settings: AblationSettings) -> dict[str, float] | None:
    """The figures of a run that is there; None where it is not, or ran under other settings."""
    try:
        found = json.loads(read_bytes(f"{where}.json"))
    except (FileNotFoundError, ValueError):  # not there, or damaged
        return None
    figures: dict[str, float] = found.pop("figures")
    return figures if found == decisive(settings) else None


def stage_2_alone(settings: FitSettings) -> FitSettings:
    """As many steps of stage 2 as the whole cycle gives it."""
    share = settings.cycle.count("video") / len(settings.cycle)
    return settings.model_copy(update={"cycle": ["video"], "steps": round(settings.steps * share)})


def table(runs: dict[str, list[dict[str, float]]]) -> str:
    """Mean and standard deviation over the seeds, as Markdown."""
    lines = [
        f"| | {' | '.join(COLUMNS.values())} |",
        f"|---|{'---|' * len(COLUMNS)}",
    ]
    for condition, results in runs.items():
        cells = []
        for name in COLUMNS:
            values = np.array([result[name] for result in results], float)  # null is NaN
            if name == "mask_iou" and condition == "without mask":
                cells.append("-")
                continue
            cells.append(f"{values.mean():#.3g} ± {values.std(ddof=len(values) > 1):.2g}")
        lines.append(f"| {condition} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    run_job(main)
