"""Validation over all workers: each takes its share of the held-out clips, and sums are added."""

from __future__ import annotations

import torch.distributed as dist

from jobs.training.records import Picture, Reporter
from jobs.training.work import Work
from jobs.validation import Tally, ValidatedClip, validate
from pipelines.clip_rows import clips_of
from pipelines.patience import patient
from pipelines.running.refusal import refusals
from pipelines.storage import join, write_bytes


def validate_together(work: Work, epoch: int, reporter: Reporter) -> dict[str, float]:
    """Validate with the averaged weights: means over the held-out clips, the same on every worker.

    Pictures go to `samples/` of the output as they are made, and to the tracker from rank 0.
    """
    settings = work.settings
    mine = work.held_out[work.rank :: work.workers]
    done: list[ValidatedClip] = []
    if mine:
        clips = clips_of(work.index, mine)
        shown = [work.index.clip_ids[i] for i in work.held_out[: settings.validation.shown]]
        with work.trainer.optimiser.averaged():
            done = validate(
                work.pipe,
                work.trainer.networks,
                clips,
                settings.validation,
                settings.seed,
                settings.losses.presence_threshold,
                shown=shown,
            )
    tally = Tally.of(clip.figures for clip in done)
    everyone: list[tuple[dict, dict[str, bytes]]] = [({}, {})] * work.workers
    dist.all_gather_object(everyone, (tally.as_dict(), _pictures(done, epoch)))
    total = Tally()
    for sums, pictures in everyone:
        total += Tally(**sums)
        for path, data in pictures.items():
            reporter.tell(Picture(path, data))
            if work.rank == 0:
                with refusals():
                    patient(write_bytes)(join(settings.output, path), data)
    return total.means()


def _pictures(clips: list[ValidatedClip], epoch: int) -> dict[str, bytes]:
    files = {}
    for clip in clips:
        if clip.pictures:
            stem = f"samples/epoch-{epoch + 1:04d}/{clip.clip_id}"
            files[f"{stem}.png"], files[f"{stem}.mp4"] = clip.pictures.png, clip.pictures.mp4
    return files
