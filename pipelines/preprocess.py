"""Raw egocentric video in, training data out: the graph and its driver."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial

import pyarrow as pa
import ray
from ray.data import DataContext, Dataset, TaskPoolStrategy
from ray.data.exceptions import ExecutionTimeoutError
from ray.exceptions import RayError
from tqdm import tqdm

from pipelines.dataset import write_table
from pipelines.ledger import read_ledger
from pipelines.parquet_rows import open_parquet
from pipelines.patience import patient
from pipelines.records import ANNOTATIONS, FAILED, Clip, Problem
from pipelines.running.cluster import join_cluster, quiet_ray_data
from pipelines.running.job_error import JobError
from pipelines.running.lost_rows import NO_RETRIES, TRIES, LostRows, died, pool, tolerate_losses
from pipelines.running.ray_errors import reason
from pipelines.running.refusal import cannot_write, ends_job
from pipelines.running.shards import Shards, WriteError, stream
from pipelines.settings import PreprocessSettings
from pipelines.stages import STAGES, AnnotateClip, by_video, decode_video, write_shard
from pipelines.storage import find, join, remove

MAX_VIDEO_TASKS = 2000
"""Blocks that the list of videos is cut into at most: Ray tracks each of them."""

# Shares of a CPU by which Ray places the stages. Detection is most of the work, so that one
# detection actor a CPU leaves a quarter for decoding beside it and a little for writing.
DECODE_CPUS, HANDS_CPUS = 0.4, 0.7

OUTCOMES_SHOWN = {"clips": "written", "filtered": "filtered", "errors": "failed"}


@dataclass
class RunTotals:
    """What one run did.

    Attributes:
        clips: clips that reached an outcome in this run.
        seconds: wall time.
        stage_seconds: stage -> seconds, summed over clips and processes.
        outcomes: folder -> clips.
    """

    clips: int = 0
    seconds: float = 0.0
    stage_seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    outcomes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(OUTCOMES_SHOWN, 0))

    def add(self, shard: dict[str, float]) -> None:
        """Count what `write_shard` gave back."""
        for stage in STAGES:
            self.stage_seconds[stage] += shard[stage]
        for folder in OUTCOMES_SHOWN:
            self.outcomes[folder] += int(shard[folder])
            self.clips += int(shard[folder])


def graph(
    clips: list[Clip], settings: PreprocessSettings, detector_name: str, alone: bool = False
) -> Dataset:
    """The stream from clips to outcomes, a clip a block; consuming it does the work.

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
            max_retries=NO_RETRIES,
        )
        .map(
            AnnotateClip,  # type: ignore[arg-type]  # Ray builds one an actor
            fn_constructor_args=(settings, detector_name),
            compute=pool(min(settings.hand_workers or cpus, len(clips)), alone),
            num_cpus=HANDS_CPUS,
            max_task_retries=NO_RETRIES,
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

    Ray must be running. A clip whose process died is tried once more by itself; if it kills its
    process again, that is its outcome. Shards are written when they are full, and every minute.

    Raises:
        JobError: if the storage refuses what is written, or Ray gives up; clips that are not
            written stay to do.
    """
    began = time.perf_counter()
    totals = RunTotals()
    earlier_attempts = earlier_attempts or {}
    replace_malformed(problems, settings.output)
    write = partial(write_shard, output=settings.output, earlier_attempts=earlier_attempts)
    with LostRows() as lost:
        for alone in (False, True):
            done = patient(read_ledger)(settings.output)
            pending = [clip for clip in clips if clip.clip_id not in done]
            if not pending:
                break
            shards = Shards(write, settings.rows_per_file)
            dataset = graph(pending, settings, detector_name, alone)
            _consume(dataset, shards, len(pending), totals, settings.output)
            if lost.out_of_disk:
                raise JobError(
                    f"Ray has no disk space left for clips on their way ({lost.commonest()}); free "
                    "some, or give Ray another folder (RAY_TMPDIR)"
                )
    done = patient(read_ledger)(settings.output)
    missing = [clip for clip in clips if clip.clip_id not in done]
    record_problems(
        [_lost(clip, earlier_attempts, died(lost)) for clip in missing], settings.output
    )
    totals.clips += len(missing)
    totals.outcomes["errors"] += len(missing)
    totals.seconds = time.perf_counter() - began
    return totals


def replace_malformed(rows: list[Problem], output: str) -> None:
    """Record the malformed rows of the annotations in place of those of an earlier run.

    Raises:
        JobError: if the storage refuses.
    """
    with ends_job(output):
        for url in find(join(output, "errors"), ".parquet"):
            with open_parquet(url) as file:
                stages = set(file.read(["stage"])["stage"].to_pylist())
            if stages == {ANNOTATIONS}:
                remove(url)
    record_problems(rows, output)


def record_problems(problems: list[Problem], output: str) -> None:
    """Write problems that no worker could write; the same ones again change nothing.

    Raises:
        JobError: if the storage refuses them.
    """
    if problems:
        table = pa.Table.from_pylist([asdict(problem) for problem in problems], schema=FAILED)
        with ends_job(output):
            patient(write_table)(table.sort_by("clip_id"), join(output, "errors"))


def start_ray(settings: PreprocessSettings) -> None:
    """Start or join Ray, set up for this graph.

    Raises:
        JobError: if that fails.
    """
    join_cluster()
    configure_ray_data(settings.clip_deadline_s)


def configure_ray_data(clip_deadline_s: float) -> None:
    """Settings of Ray Data that the driver relies on."""
    # The slowest clip: two tries of the detector, each in a process that has to start, after a
    # video whose start is far away. What takes far longer hangs.
    quiet_ray_data(no_progress_s=1800 + 10 * clip_deadline_s)
    tolerate_losses(DataContext.get_current())


def _consume(
    dataset: Dataset, shards: Shards, expected: int, totals: RunTotals, output: str
) -> None:
    with (
        tqdm(total=expected, unit="clip", desc="clips", mininterval=1.0) as bar,
        closing(stream(dataset, shards)) as rows_and_shards,
    ):
        try:
            for rows, written in rows_and_shards:
                bar.update(rows)
                for shard in written:
                    totals.add(shard)
                    counts = {OUTCOMES_SHOWN[name]: n for name, n in totals.outcomes.items()}
                    bar.set_postfix(counts, refresh=False)
        except WriteError as error:
            raise cannot_write(output, error.cause) from None
        except (RayError, ExecutionTimeoutError) as error:
            raise JobError(f"preprocess: {reason(error)}; what is done so far stays") from error


def _lost(clip: Clip, earlier_attempts: dict[str, int], message: str) -> Problem:
    attempts = TRIES + earlier_attempts.get(clip.clip_id, 0)
    return Problem(clip.clip_id, clip.video_uri, "worker", "WorkerDied", message, attempts)
