"""Encode a preprocessed data set once: latents and text embeddings, beside the clips.

python jobs/encode.py --data URL --model tiny
"""

from __future__ import annotations

from functools import partial

from pydantic import BaseModel, ConfigDict, Field
from ray.exceptions import RayError

from handi_model.config import PRESETS
from handi_model.fingerprint import encoders_fingerprint
from jobs.cli import load, stop
from jobs.training.failures import reason
from jobs.training.shape import model_shape
from pipelines.clip_index import read_clip_index
from pipelines.cluster import join_cluster, quiet_ray_data
from pipelines.encode import encode, to_encode
from pipelines.latents import latents_folder, open_latents
from pipelines.models import open_pipeline
from pipelines.places import ModelPlace, Url


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
    if not wanted.files and not wanted.narrations:
        print(f"nothing to do: all {len(index.clip_ids)} clips are encoded")
    else:
        print(
            f"{len(index.clip_ids)} clips, {wanted.clips} to encode; "
            f"{len(set(index.narrations))} different narrations, {len(wanted.narrations)} to encode"
        )
        join_cluster()
        quiet_ray_data(no_progress_s=-1)
        try:
            encode(index, wanted, opens, fingerprint, settings.workers)
        except RayError as error:  # a worker's own error, or its death
            stop(f"encode: {reason(error)}; what is encoded so far stays")
        if missing := open_latents(data, fingerprint).missing(index):
            stop(f"data: {missing} clips could not be encoded; run the same command again")
    print(f"latents: {latents_folder(data, fingerprint, 'clips')}")


if __name__ == "__main__":
    main()
