"""An epoch's clips as a stream to each worker: read in parallel, ahead of time, in a set order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.data import DataIterator, ExecutionOptions, ExecutionResources

from handi_model.epochs import EpochPlan
from pipelines.clip_index import ClipIndex
from pipelines.clip_rows import load_clip, reference
from pipelines.latents import LatentIndex

LOAD_CPUS = 0.25
"""Share of a CPU by which Ray places a task that reads clips: it waits for the storage mostly."""
TURNS_PER_TASK = 32
"""Clips that such a task reads one after another."""


@dataclass(frozen=True)
class Pass:
    """The clips that a worker takes through the network at a time.

    Attributes:
        step: optimisation step of the epoch.
        number: which pass of the step.
        counts: (B,) bool, see `handi_model.epochs.Turn`.
        columns: see `clip_rows.load_clip`, stacked.
    """

    step: int
    number: int
    counts: NDArray[np.bool_]
    columns: dict[str, NDArray]


def epoch_streams(
    index: ClipIndex,
    latents: LatentIndex | None,
    clips: list[int],
    plan: EpochPlan,
    epoch: int,
    first_step: int,
    workers: int,
    reserved: ExecutionResources,
) -> list[DataIterator]:
    """One stream a worker, of the clips whose turn it is; see `EpochPlan.turns`.

    Args:
        clips: indices of the training clips in `index`, which the plan counts through.
        reserved: what the workers hold of the cluster.
    """
    rows = []
    for turn in plan.turns(epoch, first_step, workers):
        rows.append({**reference(index, clips[turn.clip], latents), **asdict(turn)})
    dataset = ray.data.from_items(rows, override_num_blocks=-(-len(rows) // TURNS_PER_TASK))
    context = dataset.context
    # Blocks of one row in a set order are what makes a split deal them out in turn.
    context.target_max_block_size = 1
    # Workers take from it when they come to it: a validation may take hours.
    context.execution_no_progress_timeout_s = -1
    context.execution_options = ExecutionOptions(preserve_order=True, exclude_resources=reserved)
    return dataset.map(_load, num_cpus=LOAD_CPUS).streaming_split(workers, equal=True)


def passes(stream: DataIterator, clips_per_pass: int, prefetch: int) -> Iterator[Pass]:
    """What one worker takes from its stream.

    Args:
        prefetch: passes held ready.
    """
    for batch in stream.iter_batches(
        batch_size=clips_per_pass, prefetch_batches=prefetch, batch_format="numpy"
    ):
        columns: dict[str, Any] = dict(batch)
        steps, numbers = columns.pop("step"), columns.pop("number")
        if len({*zip(steps, numbers, strict=True)}) > 1:
            raise RuntimeError("Ray Data has dealt the clips of two passes to one")
        yield Pass(int(steps[0]), int(numbers[0]), columns.pop("counts"), columns)


def close_stream(stream: DataIterator) -> None:
    """End an epoch's streams, of which this is one, when all of them have come to their end.

    Ray Data would keep the actor that dealt them out, a process an epoch, as long as the training.
    """
    actor = getattr(stream, "_coord_actor", None)
    if actor is not None:
        ray.kill(actor)


def _load(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("step", "number", "counts")} | load_clip(row)
