"""What every worker of a training runs: the loop over epochs, steps and passes."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator
from functools import partial
from typing import Any

import ray
import torch
import torch.distributed as dist
from ray import ObjectRef, train
from ray.data import DataIterator, ExecutionResources
from ray.exceptions import RayError
from ray.train.collective import broadcast_from_rank_zero
from ray.util.queue import Queue

from handi_model.config import Stage
from handi_model.epochs import EpochPlan
from handi_model.trainer import pass_seed, weighted_means
from handi_model.training import StepResult, generated_share, stage_of_epoch
from jobs.training.course import Course, checkpoint_due
from jobs.training.finish import save_model, write_result
from jobs.training.records import Pace, Progress, Reporter, Saved, Stopped
from jobs.training.settings import TrainSettings
from jobs.training.validating import validate_together
from jobs.training.work import Work, set_up
from pipelines.batches import batch_of
from pipelines.epoch_stream import Pass, close_stream, epoch_streams, passes
from pipelines.records import one_line
from pipelines.running.cluster import quiet_ray_data
from pipelines.running.refusal import OutputRefused, cannot_write, refusals


def train_worker(config: dict[str, Any]) -> None:
    """Train to the end, from the newest checkpoint on.

    What trying again does not cure (a damaged model, a network whose numbers are none any more, a
    storage that refuses) is told to the driver; raised, it would have Ray Train replace the workers
    again and again.

    Args:
        config: `settings` of TrainSettings, the `records` queue, and the `stop` request.
    """
    rank = train.get_context().get_world_rank()
    queue: Queue = config["records"]
    asked = config["stop"].wait.remote() if rank == 0 else None
    settings = TrainSettings.model_validate(config["settings"])
    try:
        _train(settings, Reporter(queue if rank == 0 else None), asked)
    except (ValueError, FloatingPointError, OutputRefused) as error:
        traceback.print_exc()  # into the worker's log
        refused = isinstance(error, OutputRefused)
        line = str(cannot_write(settings.output, str(error))) if refused else one_line(error)
        Reporter(queue).tell(Stopped(line))
        _wait_for_the_end()


def _train(settings: TrainSettings, reporter: Reporter, asked: ObjectRef | None) -> None:
    rank = train.get_context().get_world_rank()
    # A stream waits as long as the training does something else, such as a validation.
    quiet_ray_data(no_progress_s=-1)
    work = set_up(settings, reporter)
    course = work.restored
    plan = settings.plan(len(work.training_clips))
    total = settings.epochs * plan.steps
    while True:
        # Before the next epoch rather than after the last: whoever goes on from a checkpoint that
        # was written in between validates too.
        if work.validates(course.done) and course.validated < course.done:
            _validate(work, course, plan, reporter)
        if course.done >= total:
            break
        epoch = course.done // plan.steps
        stage = stage_of_epoch(epoch, settings.cycle)
        if not _train_epoch(work, course, plan, epoch, stage, total, reporter, asked):
            reporter.tell(Stopped(_no_gradient(settings, course)))
            return
    if rank == 0:
        with refusals():
            work.checkpoints.wait()
            save_model(work)
            write_result(work, course)
    dist.barrier()


def _validate(work: Work, course: Course, plan: EpochPlan, reporter: Reporter) -> None:
    """Validate after an epoch's last step, and save the result."""
    epoch = course.done // plan.steps - 1
    course.validation = validate_together(work, epoch, reporter)
    stages = work.trainer.networks.stages
    course.score = sum(course.validation[f"validation/{s}_noise"] for s in stages)
    course.validated = course.done
    stage = stage_of_epoch(epoch, work.settings.cycle)
    reporter.tell(Progress(course.done, epoch, stage, course.validation))
    work.save(course)


def _train_epoch(
    work: Work,
    course: Course,
    plan: EpochPlan,
    epoch: int,
    stage: Stage,
    total: int,
    reporter: Reporter,
    asked: ObjectRef | None,
) -> bool:
    """Go through an epoch from where the course is; False where the training must stop."""
    settings, trainer = work.settings, work.trainer
    pace = Pace()
    tracked = _Tracked(work.device)
    stream = _my_stream(work, plan, epoch, course.done - epoch * plan.steps)
    mine = iter(_timed(passes(stream, plan.clips_per_pass, settings.prefetch), pace))
    for step in range(course.done - epoch * plan.steps, plan.steps):
        share = generated_share(course.done / total, settings.ramp_start, settings.ramp_end)
        results: list[tuple[StepResult, float]] = []
        for first in range(0, plan.passes, work.workers):
            number = first + work.rank
            taken = next(mine)
            if (taken.step, taken.number) != (step, number):
                raise RuntimeError(
                    f"worker {work.rank} got pass {taken.number} of step {taken.step}, and its "
                    f"turn is pass {number} of step {step}"
                )
            batch, weight = _counted(work, taken, plan.counted(step))
            seed = pass_seed(settings.seed, epoch, step, number)
            last = first + work.workers >= plan.passes
            take = partial(trainer.backward, batch, stage, seed, share, weight, last)
            result = work.meter.counted(stage, len(batch), take)
            results.append((result, weight))
        stepped = trainer.step()
        course.done += 1
        course.skipped += stepped.skipped
        course.skipped_in_row = course.skipped_in_row + 1 if stepped.skipped else 0
        pace.done(plan.counted(step))
        tracked.add(results)
        if course.done % settings.log_every == 0 or step + 1 == plan.steps:
            losses = tracked.take()
            course.losses[stage] = losses
            values = {f"{stage}/{name}": value for name, value in losses.items()} | {
                "gradient_norm": stepped.gradient_norm,
                "learning_rate": stepped.learning_rate,
                "generated_share": share,
                "skipped_steps": float(course.skipped),
                **pace.take(),
                **work.meter.figures(),
            }
            reporter.tell(Progress(course.done, epoch, stage, values))
        else:
            reporter.tell(Progress(course.done, epoch, stage, {}))
        if course.skipped_in_row >= settings.max_skipped:
            return False
        if asked is not None and _is_made(asked):
            work.save(course, at_once=True)
            reporter.tell(Saved(course.done))
            _wait_for_the_end()
        _save_if_due(work, course, total)
    # To the end of the stream, so that Ray Data is done with it.
    for _ in mine:
        raise RuntimeError("the stream goes on after the epoch's last pass")
    dist.barrier()
    if work.rank == 0:
        close_stream(stream)
    return True


def _save_if_due(work: Work, course: Course, total: int) -> None:
    validates = work.validates(course.done)
    if checkpoint_due(course.done, total, work.settings.checkpoint_every, validates):
        work.save(course)


def _my_stream(work: Work, plan: EpochPlan, epoch: int, first_step: int) -> DataIterator:
    """This worker's stream: rank 0 lays them out and deals them."""
    streams = None
    if work.rank == 0:
        settings = work.settings
        reserved = ExecutionResources(
            cpu=settings.cpus_per_worker * work.workers,
            gpu=float(work.workers) if work.device.type == "cuda" else 0.0,
        )
        streams = epoch_streams(
            work.index,
            work.latents,
            work.training_clips,
            plan,
            epoch,
            first_step,
            work.workers,
            reserved,
        )
    streams = broadcast_from_rank_zero(streams)
    assert streams is not None
    return streams[work.rank]


def _timed(stream: Iterator[Pass], pace: Pace) -> Iterator[Pass]:
    while True:
        began = time.perf_counter()
        taken = next(stream, None)
        pace.waited(time.perf_counter() - began)
        if taken is None:
            return
        yield taken


def _counted(work: Work, taken: Pass, counted: int) -> tuple[Any, float]:
    """The clips of a pass that count, and their weight in a step of so many.

    A pass without any goes through the network with one clip that weighs nothing.
    """
    kept = taken.counts.nonzero()[0]
    chosen = kept if len(kept) else [0]
    columns = {name: values[chosen] for name, values in taken.columns.items()}
    return batch_of(work.pipe, columns), len(kept) / counted


def _is_made(asked: ObjectRef) -> bool:
    """Whether the training was asked to end; who asks may have died, which asks nothing."""
    if not ray.wait([asked], timeout=0)[0]:
        return False
    try:
        ray.get(asked)
    except RayError:
        return False
    return True


def _wait_for_the_end() -> None:
    """Stay until the driver ends the workers; to return would look like a failure to the others."""
    while True:
        time.sleep(60)


class _Tracked:
    """Means of the losses' parts over steps and workers."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._steps: list[dict[str, tuple[torch.Tensor, torch.Tensor]]] = []

    def add(self, results: list[tuple[StepResult, float]]) -> None:
        self._steps.append(weighted_means(results))

    def take(self) -> dict[str, float]:
        """The means since the last call, the same on every worker; begin anew."""
        names = list(self._steps[0])
        sums = torch.stack([torch.stack([s[n][0] for n in names]) for s in self._steps]).sum(0)
        counts = torch.stack([torch.stack([s[n][1] for n in names]) for s in self._steps]).sum(0)
        both = torch.stack([sums, counts]).to(self._device)
        dist.all_reduce(both)
        self._steps = []
        means = (both[0] / both[1]).tolist()
        return dict(zip(names, means, strict=True))


def _no_gradient(settings: TrainSettings, course: Course) -> str:
    return (
        f"optimiser.learning_rate: {course.skipped_in_row} steps in a row up to step {course.done} "
        f"had no finite gradient; lower it from {settings.optimiser.learning_rate:g} and run the "
        "same command again, which goes on from the last checkpoint"
    )
