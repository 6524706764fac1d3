"""Optimisation steps of both stages: clips a second, each economy beside doing without it.

Rows of a stage take the same clips, timesteps and noise. Then the same step on more workers.
"""

from __future__ import annotations

import gc
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import ProcessException, spawn

from handi_model.config import STAGES, Stage
from handi_model.device import reset_peak_memory, usable_device
from handi_model.hands.model_files import ModelFileError, hand_landmarker_task
from handi_model.training import LossSettings
from jobs.benchmarks.measuring import ceiling_tflops, machine, short
from jobs.benchmarks.train_bench import Bench, Measured, Settings, Variant, model_config

ECONOMICAL = "cached latents, economical decode"
"""The row that the others are compared with, and that is taken on more workers."""


def variants(settings: Settings, stage: Stage) -> list[Variant]:
    """A stage's rows, `ECONOMICAL` first."""
    losses = LossSettings(
        decoded_frames=settings.decoded_frames,
        window_margin=settings.window_margin,
        presence_threshold=settings.presence_threshold,
        hand_timesteps=settings.hand_timesteps,
    )
    whole = losses.model_copy(update={"decoded_frames": None, "window_margin": None})
    rows = [
        Variant(ECONOMICAL, stage, losses),
        Variant("cached latents, full decode", stage, whole),
        Variant("encoded in the step, economical decode", stage, losses, cached=False),
        Variant("encoded in the step, full decode", stage, whole, cached=False),
    ]
    if stage == "mask":
        without = losses.model_copy(update={"alpha": 0.0})
        return [*rows, Variant("cached latents, no L_mIoU", stage, without)]
    without = losses.model_copy(update={"eta": 0.0})
    return [
        *rows,
        Variant("cached latents, no L_HR", stage, without),
        Variant(f"{ECONOMICAL}, generated masks", stage, losses, share=1.0),
    ]


def measure(settings: Settings) -> dict[str, Any]:
    """Measure every row.

    Raises:
        ValueError: if device or hand model are not there, or the resolution does not fit the model.
    """
    device = usable_device(settings.device)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    on_gpu = device.type == "cuda"
    try:
        task = str(hand_landmarker_task(settings.hand_model))
    except ModelFileError as error:
        raise ValueError(f"hand_model: {error}") from None
    settings = settings.model_copy(
        update={
            "hand_model": task,
            "dtype": settings.dtype or ("bfloat16" if on_gpu else "float32"),
        }
    )
    config = model_config(settings)
    rows, ceiling = stage_rows(settings, device)
    rows += scaling_rows(settings, device)
    return {
        **machine(device),
        "settings": settings.model_dump(exclude={"result"}),
        "resolution": config.resolution,
        "num_frames": config.num_frames,
        "ceiling_tflop_per_s": short(ceiling),
        "memory_is": "tensors on the GPU" if on_gpu else "resident set of one worker's process",
        "cpu_s_is": "of one worker's process: what others do on the machine hardly shows in it",
        "steps_are": "passes forward and back of clips_per_pass clips a worker, and the "
        "optimiser's step; without reading the clips",
        "rows": rows,
    }


def stage_rows(
    settings: Settings, device: torch.device
) -> tuple[list[dict[str, Any]], float | None]:
    """All variants of both stages on one worker, and a GPU's ceiling, TFLOP/s."""
    bench = Bench.of(settings, device)
    ceiling = ceiling_tflops(device, bench.trainer.dtype) if device.type == "cuda" else None
    clips = settings.clips_per_pass
    rows: list[dict[str, Any]] = []
    for stage in STAGES:
        measured = [Measured(variant) for variant in variants(settings, stage)]
        for one in measured:
            bench.warm_up(one, ceiling is not None)
        # In turns, so that what else the machine does is in every row.
        for number in range(settings.repeats):
            for one in measured:
                bench.take(one, number)
        economical = measured[0].median
        for one in measured:
            row = {"what": one.variant.what, "stage": stage, "workers": 1}
            if one.median:
                row |= speed(clips, one) | {
                    "times_economical": short(economical / one.median) if economical else None
                }
            if one.median and one.tflop and ceiling:
                row["tflop_a_clip"] = short(one.tflop / clips)
                row["share_of_ceiling"] = short(one.tflop / one.median / ceiling)
            if one.failed:
                row["failed"] = one.failed
            rows.append(row)
    return rows, ceiling


def scaling_rows(settings: Settings, device: torch.device) -> list[dict[str, Any]]:
    """The economical step of both stages on several workers, all processes of this machine.

    On a processor each worker has one thread: a single one with more would take the cores of the
    others, and the comparison would show threads, not workers.
    """
    gc.collect()
    reset_peak_memory(device)  # gives the GPU's memory back to the workers
    rows: list[dict[str, Any]] = []
    alone: dict[Stage, float] = {}
    for workers in settings.workers:
        for stage, found in on_workers(settings, device.type, workers).items():
            row = {"what": f"scaling: {ECONOMICAL}", "stage": stage, "workers": workers}
            if found.median:
                if workers == 1:
                    alone[stage] = found.median
                times = workers * alone[stage] / found.median if stage in alone else None
                row |= speed(settings.clips_per_pass * workers, found)
                row["times_one_worker"] = short(times)
            if found.failed:
                row["failed"] = found.failed
            rows.append(row)
    return rows


def on_workers(settings: Settings, device: str, workers: int) -> dict[Stage, Measured]:
    """The economical step of both stages, as the first worker sees it, or why it cannot be."""
    economical = {stage: variants(settings, stage)[0] for stage in STAGES}
    if device == "cuda" and torch.cuda.device_count() < workers:
        why = f"{workers} workers need a GPU each, found {torch.cuda.device_count()}"
        return {stage: Measured(one, failed=why) for stage, one in economical.items()}
    with tempfile.TemporaryDirectory() as scratch:
        try:
            spawn(work, (settings, device, workers, Path(scratch)), nprocs=workers)
        except ProcessException as error:
            why = str(error).strip().splitlines()[-1]
            return {stage: Measured(one, failed=why) for stage, one in economical.items()}
        found = json.loads((Path(scratch) / "found.json").read_text())
    return {stage: Measured(one, **found[stage]) for stage, one in economical.items()}


def work(rank: int, settings: Settings, device: str, workers: int, scratch: Path) -> None:
    """One worker's process: the first one writes `found.json`.

    Raises:
        RuntimeError: if a step fails, which ends the other workers too.
    """
    place = torch.device(device, rank) if device == "cuda" else torch.device(device)
    if device == "cuda":
        torch.cuda.set_device(place)
    else:
        torch.set_num_threads(1)
    dist.init_process_group(
        "nccl" if device == "cuda" else "gloo",
        init_method=f"file://{scratch}/rendezvous",
        rank=rank,
        world_size=workers,
    )
    bench = Bench.of(settings, place, rank, workers)
    found = {}
    for stage in STAGES:
        measured = Measured(variants(settings, stage)[0])
        bench.warm_up(measured)
        for number in range(settings.repeats):
            bench.take(measured, number)
        if measured.failed:
            raise RuntimeError(measured.failed)
        found[stage] = {
            "seconds": measured.seconds,
            "cpu_seconds": measured.cpu_seconds,
            "memory": measured.memory,
        }
    if rank == 0:
        (scratch / "found.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def speed(clips: int, measured: Measured) -> dict[str, Any]:
    """The figures of steps that take so many clips, over all workers."""
    return {
        "clips_a_second": short(clips / measured.median),
        "seconds_a_step": short(measured.median),
        "spread_s": short(max(measured.seconds) - min(measured.seconds)),
        "cpu_s_a_step": short(statistics.median(measured.cpu_seconds)),
        "peak_memory_gb": short(measured.memory),
    }
