"""Encode a preprocessed data set once: latents and text embeddings, beside the clips.

python jobs/encode.py --data URL --model tiny
"""

from __future__ import annotations

from pipelines.running.interrupts import run_job

# isort: split

import sys
from contextlib import ExitStack
from functools import partial

from pydantic import BaseModel, ConfigDict, Field

from handi_model.config import PRESETS
from handi_model.fingerprint import encoders_fingerprint
from jobs.cli import load, stop
from jobs.training.shape import model_shape
from pipelines.clip_index import ClipIndex, read_clip_index
from pipelines.encode import Open, ToEncode, encode, to_encode
from pipelines.latents import latents_folder
from pipelines.models import open_pipeline
from pipelines.places import ModelPlace, Url
from pipelines.running.cluster import join_cluster, quiet_ray_data
from pipelines.running.job_error import JobError
from pipelines.running.output_lease import held_output
from pipelines.storage import join, writable

SHOWN = 20
"""Problems that are told one by one."""


class EncodeSettings(BaseModel):
    """Keys of jobs/encode.py."""

    model_config = ConfigDict(extra="forbid")

    data: Url = Field(description="URL of the output of jobs/preprocess.py.")
    model: ModelPlace = Field(
        "tiny", description="As in training: a preset, or a saved pipeline's URL."
    )
    checkpoint: ModelPlace | None = Field(
        None, description="As in training: what `base` starts from."
    )
    workers: int | None = Field(
        None, ge=1, description="Encoding processes; one a GPU, or a CPU without any, by default."
    )


def main() -> None:
    settings = load(EncodeSettings, "encode")
    try:
        data = settings.data
        index = read_clip_index(data)
        side = index.height if settings.model in PRESETS else None
        # The model's URL is absolute in it: workers may have another working directory.
        shape = model_shape(settings.model, settings.checkpoint, side)
        if (index.height, index.width) != (shape.resolution, shape.resolution):
            raise ValueError(
                f"data: {data} has frames of {index.width}x{index.height} pixels, and the model's "
                f"are {shape.resolution}x{shape.resolution}; preprocess with "
                f"--resolution {shape.resolution}"
            )
        opens = partial(open_pipeline, shape.model, settings.checkpoint, shape.resolution)
        pipe = opens()
    except ValueError as error:
        stop(str(error))
    fingerprint = encoders_fingerprint(pipe)
    wanted = to_encode(index, fingerprint)
    if not wanted and not wanted.damaged:
        print(f"nothing to do: all {len(index.clip_ids)} clips are encoded")
    else:
        print(
            f"{len(index.clip_ids)} clips, {len(wanted.clips)} to encode; "
            f"{len(set(index.narrations))} different narrations, {len(wanted.narrations)} to encode"
        )
        with ExitStack() as held:
            try:
                folder = writable(join(data, "latents", fingerprint))
                held.enter_context(held_output(folder, "jobs/encode.py"))
            except ValueError as error:
                stop(str(error))
            fill(index, wanted, opens, fingerprint, settings.workers)
    print(f"latents: {latents_folder(data, fingerprint, 'clips')}")


def fill(
    index: ClipIndex, wanted: ToEncode, opens: Open, fingerprint: str, workers: int | None
) -> None:
    """Encode what is wanted.

    Raises:
        JobError: if something could not be encoded.
    """
    join_cluster()
    # A clip takes seconds; a model as long to load as its storage needs.
    quiet_ray_data(no_progress_s=2 * 3600)
    problems = encode(index, wanted, opens, fingerprint, workers)
    for problem in problems[:SHOWN]:
        print(f"not encoded: {problem}", file=sys.stderr)
    if problems:
        raise JobError(
            f"data: {len(problems)} clips or narrations of {index.data} could not be encoded, the "
            "others are; correct them and run the same command again"
        )


if __name__ == "__main__":
    run_job(main)
