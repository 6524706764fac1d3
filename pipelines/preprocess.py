"""Raw egocentric video in, training data out: the graph and its driver."""

from __future__ import annotations

import time
import warnings
from dataclasses import asdict, dataclass, field
from functools import partial

import pyarrow as pa
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset, TaskPoolStrategy
from tqdm import tqdm

from pipelines.cluster import join_cluster, quiet_ray_data
from pipelines.dataset import write_table
from pipelines.ledger import read_ledger
from pipelines.records import FAILED, Clip, Problem
from pipelines.settings import PreprocessSettings
from pipelines.stages import (
    STAGES,
    AnnotateClip,
    by_video,
    decode_video,
    write_shard,
)
from pipelines.storage import join

BLOCK_BYTES = 32 << 20
"""Raw frames handed on at a time, about: three clips at the default detection side."""
MAX_VIDEO_TASKS = 2000
"""Blocks that the list of videos is cut into at most: Ray tracks each of them."""

# Shares of a CPU by which Ray places the stages. Detection is most of the work, so that one
# detection actor a CPU leaves a quarter for decoding beside it and a little for writing.
DECODE_CPUS, HANDS_CPUS, WRITE_CPUS = 0.4, 0.7, 0.05


@dataclass
class RunTotals:
    """What one run did.

    Attributes:
        clips: clips that reached an outcome in this run.
        seconds: wall time.
        stage_seconds: stage -> seconds, summed over clips and processes.
    """

    clips: int = 0
    seconds: float = 0.0
    stage_seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))


def graph(
    clips: list[Clip],
    settings: PreprocessSettings,
    detector_name: str,
    earlier_attempts: dict[str, int],
    alone: bool = False,
) -> Dataset:
    """The stream from clips to Parquet; consuming it does the work.

    Frames cross the object store once, from the decoding task to the actor that detects, fits,
    fills and encodes. Ray holds decoding back while the actors are busy.
    """
    videos = by_video(clips, alone)
    cpus = int(ray.cluster_resources().get("CPU", 1))
    return (
        ray.data.from_items(videos, override_num_blocks=min(len(videos), MAX_VIDEO_TASKS))
        .flat_map(
            partial(decode_video, settings=settings),
            compute=TaskPoolStrategy(size=settings.decode_workers or max(1, cpus // 2)),
            num_cpus=DECODE_CPUS,
            ray_remote_args_fn=_one_retry,
        )
        .map(
            AnnotateClip,  # type: ignore[arg-type]  # Ray builds one an actor
            fn_constructor_args=(settings, detector_name),
            compute=ActorPoolStrategy(size=settings.hand_workers or cpus),
            num_cpus=HANDS_CPUS,
        )
        .map_batches(
            partial(write_shard, output=settings.output, earlier_attempts=earlier_attempts),
            batch_size=settings.rows_per_file,
            num_cpus=WRITE_CPUS,
        )
    )


def run(
    clips: list[Clip],
    problems: list[Problem],
    settings: PreprocessSettings,
    detector_name: str,
    earlier_attempts: dict[str, int] | None = None,
) -> RunTotals:
    """Bring every clip that the output does not hold yet to one of its three folders.

    Ray must be running. A clip whose worker died is tried once more by itself; if it kills its
    worker again, that is its outcome.
    """
    began = time.perf_counter()
    totals = RunTotals()
    earlier_attempts = earlier_attempts or {}
    record_problems(problems, settings.output)
    for alone in (False, True):
        done = read_ledger(settings.output)
        pending = [clip for clip in clips if clip.clip_id not in done]
        if not pending:
            break
        dataset = graph(pending, settings, detector_name, earlier_attempts, alone)
        _consume(dataset, len(pending), totals)
    done = read_ledger(settings.output)
    lost = [clip for clip in clips if clip.clip_id not in done]
    record_problems([_worker_died(clip, earlier_attempts) for clip in lost], settings.output)
    totals.clips += len(lost)
    totals.seconds = time.perf_counter() - began
    return totals


def record_problems(problems: list[Problem], output: str) -> None:
    """Write problems that no worker could write; the same ones again change nothing."""
    if problems:
        table = pa.Table.from_pylist([asdict(problem) for problem in problems], schema=FAILED)
        write_table(table.sort_by("clip_id"), join(output, "errors"))


def _one_retry() -> dict[str, int]:
    """Ray would run a task that kills its worker again for ever."""
    return {"max_retries": 1}


def start_ray() -> None:
    """Start or join Ray, set up for this graph."""
    join_cluster()
    configure_ray_data()


def configure_ray_data() -> None:
    """Settings of Ray Data that the driver relies on."""
    # Ray offers no other way to bound a task's retries; see `_one_retry`.
    warnings.filterwarnings("ignore", message=".*ray_remote_args_fn.*")
    context = DataContext.get_current()
    context.target_max_block_size = BLOCK_BYTES
    # A block that fails costs its own clips only: they are missed afterwards and tried again.
    context.max_errored_blocks = -1
    quiet_ray_data()


def _consume(dataset: Dataset, expected: int, totals: RunTotals) -> None:
    with tqdm(total=expected, unit="clip", desc="clips", mininterval=1.0) as bar:
        tally = dict.fromkeys(("clips", "filtered", "errors"), 0)
        for shard in dataset.iter_rows():
            for folder in tally:
                tally[folder] += shard[folder]
            for stage in STAGES:
                totals.stage_seconds[stage] += shard[stage]
            finished = sum(shard[folder] for folder in tally)
            totals.clips += finished
            bar.set_postfix(
                written=tally["clips"],
                filtered=tally["filtered"],
                failed=tally["errors"],
                refresh=False,
            )
            bar.update(finished)


def _worker_died(clip: Clip, earlier_attempts: dict[str, int]) -> Problem:
    return Problem(
        clip.clip_id,
        clip.video_uri,
        "worker",
        "WorkerDied",
        "the process that worked on this clip died each time; Ray's logs say how",
        attempts=2 + earlier_attempts.get(clip.clip_id, 0),
    )
