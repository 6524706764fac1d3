"""Encode a data set's clips and narrations once: the graph and its driver."""

from __future__ import annotations

from collections.abc import Callable, Container
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import ray
import torch
from ray.data import DataContext, Dataset
from ray.data.exceptions import ExecutionTimeoutError
from ray.exceptions import RayError
from tqdm import tqdm

from handi_model.batch import encode_clip, encode_text
from handi_model.pipeline import HandiPipeline
from pipelines.clip_content import CONTENT
from pipelines.clip_index import ClipIndex
from pipelines.clip_rows import load_clip, reference
from pipelines.latents import (
    as_bytes,
    latents_folder,
    open_latents,
    write_clip_latents,
    write_texts,
)
from pipelines.records import one_line
from pipelines.running.job_error import JobError
from pipelines.running.lost_rows import NO_RETRIES, LostRows, died, pool, tolerate_losses
from pipelines.running.ray_errors import reason
from pipelines.running.refusal import cannot_write
from pipelines.running.shards import Shards, WriteError, stream
from pipelines.running.workers import place_workers
from pipelines.storage import remove

ROWS_PER_FILE = 64

Open = Callable[[], HandiPipeline]
"""Builds the pipeline, on the worker that calls it."""


@dataclass(frozen=True)
class ToEncode:
    """What the cache lacks.

    Attributes:
        clips: indices in the data set; of those with the same content one.
        narrations: each once.
        damaged: URLs of files of the cache that cannot be read.
    """

    clips: list[int]
    narrations: list[str]
    damaged: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.clips or self.narrations)

    def __len__(self) -> int:
        return len(self.clips) + len(self.narrations)


def to_encode(index: ClipIndex, fingerprint: str) -> ToEncode:
    """Compare a data set with what is cached of it."""
    cached = open_latents(index.data, fingerprint)
    clips = {
        content: clip
        for clip, content in reversed([*enumerate(index.contents)])
        if content not in cached.clips
    }
    narrations = [text for text in dict.fromkeys(index.narrations) if text not in cached.texts]
    return ToEncode(sorted(clips.values()), narrations, cached.damaged)


class Encoder:
    """The actor of the graph: a clip or a narration -> its row of the cache, or what is wrong."""

    def __init__(self, open_pipeline: Open) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cpu":
            torch.set_num_threads(1)  # as many actors as there are processors
        self.pipe = open_pipeline().to(device)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        problem, encoded = "", {}
        try:
            encoded = self._text(row["narration"]) if row["is_text"] else self._clip(row)
        except Exception as error:  # of this row: the others go on
            problem = f"{type(error).__name__}: {one_line(error)}"
        nothing = {"video_latent": b"", "mask_latent": b"", "embedding": b"", "shape": [0]}
        named = {name: row[name] for name in ("is_text", "clip_id", CONTENT, "narration")}
        return {**nothing, **encoded, **named, "problem": problem}

    def _clip(self, ref: dict[str, Any]) -> dict[str, Any]:
        clip = load_clip(ref)
        video, mask = encode_clip(self.pipe, clip["frames"], clip["frame_masks"])
        (video_bytes, shape), (mask_bytes, _) = (
            as_bytes(latent.cpu().numpy()) for latent in (video, mask)
        )
        return {"video_latent": video_bytes, "mask_latent": mask_bytes, "shape": shape}

    def _text(self, narration: str) -> dict[str, Any]:
        data, shape = as_bytes(encode_text(self.pipe, narration).cpu().numpy())
        return {"embedding": data, "shape": shape}


def graph(
    index: ClipIndex, wanted: ToEncode, open_pipeline: Open, workers: int | None, alone: bool
) -> Dataset:
    """The stream from clips and narrations to rows of the cache, each a block."""
    rows = rows_of(index, wanted)
    place = place_workers(workers, len(rows))
    return ray.data.from_items(rows, override_num_blocks=len(rows)).map(
        Encoder,  # type: ignore[arg-type]  # Ray builds one an actor
        fn_constructor_args=(open_pipeline,),
        compute=pool(place.actors, alone),
        num_gpus=place.gpus,
        num_cpus=place.cpus,
        max_task_retries=NO_RETRIES,
    )


def rows_of(index: ClipIndex, wanted: ToEncode) -> list[dict[str, Any]]:
    """What the actors take: the same columns in every row, as Ray Data wants them.

    Of a narration they name a clip that has it.
    """
    clip_of = {narration: clip for clip, narration in enumerate(index.narrations)}
    texts = [clip_of[narration] for narration in wanted.narrations]
    return [
        {**reference(index, clip, None), "is_text": is_text}
        for is_text, clips in ((True, texts), (False, wanted.clips))
        for clip in clips
    ]


def write_shard(rows: pa.Table, data: str, fingerprint: str) -> dict[str, str]:
    """Rows of the graph -> a file of latents and one of embeddings.

    Returns:
        Clip id or narration -> why it could not be encoded.
    """
    all_rows = rows.to_pylist()
    good = [row for row in all_rows if not row["problem"]]
    clips = [row for row in good if not row["is_text"]]
    texts = [row for row in good if row["is_text"]]
    if clips:
        write_clip_latents(latents_folder(data, fingerprint, "clips"), clips)
    if texts:
        write_texts(latents_folder(data, fingerprint, "text"), texts)
    return {_name(row): row["problem"] for row in all_rows if row["problem"]}


def _name(row: dict[str, Any]) -> str:
    return str(row["narration"] if row["is_text"] else row["clip_id"])


def encode(
    index: ClipIndex,
    wanted: ToEncode,
    open_pipeline: Open,
    fingerprint: str,
    workers: int | None = None,
) -> list[str]:
    """Fill the cache. Ray must be running; a GPU actor for each GPU that the cluster has.

    What was lost with its process is tried once more, and alone. Shards are written when they are
    full, and every minute.

    Args:
        workers: actors; by default one a GPU, or one a CPU where there are none.

    Returns:
        A line for each clip and narration that could not be encoded.

    Raises:
        JobError: if the storage refuses what is written, or Ray gives up.
    """
    for url in wanted.damaged:
        remove(url)
    tolerate_losses(DataContext.get_current())
    write = partial(write_shard, data=index.data, fingerprint=fingerprint)
    problems: dict[str, str] = {}
    with (
        LostRows() as losses,
        tqdm(total=len(wanted), unit="row", desc="encode", mininterval=1.0) as bar,
    ):
        for alone in (False, True):
            dataset = graph(index, wanted, open_pipeline, workers, alone)
            try:
                with closing(stream(dataset, Shards(write, ROWS_PER_FILE))) as rows_and_shards:
                    for rows, shards in rows_and_shards:
                        bar.update(rows)
                        for shard in shards:
                            problems |= shard
            except WriteError as error:
                raise cannot_write(index.data, error.cause) from None
            except (RayError, ExecutionTimeoutError) as error:
                raise JobError(f"encode: {reason(error)}; what is encoded so far stays") from error
            wanted = _without(to_encode(index, fingerprint), index, problems)
            if not wanted:
                break
    lost = [index.clip_ids[clip] for clip in wanted.clips] + wanted.narrations
    problems |= dict.fromkeys(lost, died(losses))
    return [f"{name!r}: {problem}" for name, problem in problems.items()]


def _without(wanted: ToEncode, index: ClipIndex, names: Container[str]) -> ToEncode:
    return ToEncode(
        [clip for clip in wanted.clips if index.clip_ids[clip] not in names],
        [narration for narration in wanted.narrations if narration not in names],
    )
