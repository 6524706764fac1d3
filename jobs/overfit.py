"""See whether the method learns: train both stages on a few clips, generate them, and measure.

python jobs/overfit.py --data out/sample64 --output out/overfit --clips '["lift_box_1"]'
"""

from __future__ import annotations

from pipelines.running.interrupts import run_job

# isort: split

import tempfile
from pathlib import Path

from jobs.cli import load, stop
from jobs.fit_report import as_json, generate, mean_of, measure, picture
from jobs.learning import Bench, LearningSettings, learn, prepare
from jobs.tracking import track_run
from pipelines.clip_files import encode_png
from pipelines.running.output_lease import OutputHeld, held_output
from pipelines.storage import join, put_folder, write_bytes
from pipelines.trained_on import TrainedOn


def main() -> None:
    settings = load(LearningSettings, "overfit")
    bench = prepare(settings)
    try:
        with held_output(settings.output, "jobs/overfit.py"):
            overfit(settings, bench)
    except OutputHeld as error:
        stop(str(error))


def overfit(settings: LearningSettings, bench: Bench) -> None:
    """Train, generate, measure, and write it all down."""
    clips = bench.clips
    pipe, log = learn(bench, settings.fit, settings.losses)
    generated = generate(pipe, clips, settings.fit.seed)
    rows = measure(generated, clips, bench.detector, settings.losses.presence_threshold)
    with tempfile.TemporaryDirectory() as scratch:
        pipe.save_pretrained(scratch)
        TrainedOn().and_clips(bench.index, bench.chosen).write(Path(scratch))
        put_folder(Path(scratch), join(settings.output, "model"))
    write_bytes(join(settings.output, "strip.png"), encode_png(picture(generated, clips)))
    mean = mean_of(rows)
    result = {
        "clips": {row.clip_id: row.numbers() for row in rows},
        "mean": mean,
        "settings": settings.model_dump(),
        "losses": log,
    }
    write_bytes(join(settings.output, "result.json"), as_json(result))
    for row in rows:
        print(
            f"{row.clip_id}: mask IoU {row.mask_iou:.2f}; inside the mask {row.psnr:.2f} dB, "
            f"first frame repeated {row.still_psnr:.2f} dB ({row.gain:+.2f}); outside of it "
            f"{'the input' if row.outside_equal else 'NOT the input'}; presence of the "
            f"hands {row.presence:.2f}"
        )
    print(f"picture: {join(settings.output, 'strip.png')}")
    track_run("overfit", settings, settings.output, mean, [join(settings.output, "strip.png")])


if __name__ == "__main__":
    run_job(main, resumes=False)
