"""Generate the test clips that a method has not made yet: the graph and its driver."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import ray
import torch

from handi_model.baselines.load import open_method
from handi_model.baselines.method import Task
from handi_model.device import DTYPES, peak_memory_gb, usable_device
from handi_model.seeds import clip_seed
from pipelines.clip_rows import reference
from pipelines.evaluation.clips import EvaluationSet, real_clip
from pipelines.evaluation.made_files import Cost, write_made
from pipelines.evaluation.networks import one_thread
from pipelines.evaluation.plan import ON_OUR_PIPELINE, Planned
from pipelines.evaluation.settings import EvaluateSettings
from pipelines.models import load_pipeline
from pipelines.records import one_line
from pipelines.running.lost_rows import NO_RETRIES, pool
from pipelines.running.refusal import OutputRefused, cannot_write
from pipelines.running.workers import place_workers


class Generator:
    """The actor of the graph: makes one clip after another, each as if it were alone."""

    def __init__(self, planned: Planned, settings: EvaluateSettings, fps: float) -> None:
        one_thread()
        self.settings, self.folder, self.fps = settings, planned.made, fps
        self.device = usable_device(settings.device)
        dtype, method = DTYPES[settings.dtype], planned.method
        gpu = self.device.type == "cuda"
        processor = torch.cuda.get_device_name(self.device) if gpu else "a processor's core"
        self.made_by = f"{processor}, {settings.dtype}"
        model: Any = method.model
        if method.kind in ON_OUR_PIPELINE:
            model = load_pipeline(model, dtype)
            model.set_progress_bar_config(disable=True)
        self.method = open_method(method.kind, model, self.device, dtype, **method.options())

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        outcome = {"clip_id": row["clip_id"], "problem": "", "refused": ""}
        try:
            self._make(row)
        except OutputRefused as error:
            outcome["refused"] = one_line(error)
        except Exception as error:  # of this clip: the others go on
            outcome["problem"] = f"{type(error).__name__}: {one_line(error)}"
        return outcome

    def _make(self, row: dict[str, Any]) -> None:
        real = real_clip(row)
        seed = clip_seed(self.settings.seed, real.clip_id)
        task = Task(real.frames[0], real.narration, len(real.frames), seed, real.mask, self.fps)
        began = time.perf_counter()
        made = self.method(task)
        seconds = time.perf_counter() - began
        cost = Cost(
            seconds,
            peak_memory_gb(self.device),
            self.method.parameters,
            self.made_by,
            *(made.generated or made.frames.shape[:3]),
        )
        write_made(self.folder, real.clip_id, made, cost, self.fps)


def generate(
    clips: EvaluationSet,
    wanted: list[int],
    planned: Planned,
    settings: EvaluateSettings,
    alone: bool = False,
) -> Iterator[tuple[str, str]]:
    """Make a method's clips, and give each one's id and what went wrong. Ray must be running.

    A clip whose process died does not come out.

    Args:
        wanted: numbers of the clips to make.
        alone: whether each worker holds one clip at a time, see `pipelines/running/lost_rows.py`.

    Raises:
        JobError: if the storage refuses what is made.
        ray.exceptions.RayError: if no worker can be started, such as over a model.
    """
    place = place_workers(settings.workers, len(wanted), settings.device)
    rows = (
        ray.data.from_items(
            [reference(clips.index, clip, None) for clip in wanted],
            override_num_blocks=len(wanted),
        )
        .map(
            Generator,  # type: ignore[arg-type]  # Ray builds one an actor
            fn_constructor_args=(planned, settings, clips.fps),
            compute=pool(place.actors, alone),
            num_gpus=place.gpus,
            num_cpus=place.cpus,
            max_task_retries=NO_RETRIES,
        )
        .iter_rows()
    )
    for row in rows:
        if row["refused"]:
            raise cannot_write(settings.output, row["refused"])
        yield row["clip_id"], row["problem"]
