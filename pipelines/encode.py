"""Encode a data set's clips and narrations once: the graph and its driver."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
import torch
from ray.data import ActorPoolStrategy
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
from pipelines.storage import remove
from pipelines.workers import place_workers

TEXTS_PER_FILE = 256

Open = Callable[[], HandiPipeline]
"""Builds the pipeline, on the worker that calls it."""


@dataclass(frozen=True)
class ToEncode:
    """What the cache lacks.

    Attributes:
        files: URL of a file of clips -> indices of its clips.
        narrations: each once.
        damaged: URLs of files of the cache that cannot be read.
    """

    files: dict[str, list[int]]
    narrations: list[str]
    damaged: tuple[str, ...] = ()

    @property
    def clips(self) -> int:
        return sum(map(len, self.files.values()))


def to_encode(index: ClipIndex, fingerprint: str) -> ToEncode:
    """Compare a data set with what is cached of it."""
    cached = open_latents(index.data, fingerprint)
    files: dict[str, list[int]] = {}
    for clip, place in enumerate(index.places):
        files.setdefault(place.url, []).append(clip)
    return ToEncode(
        {
            url: clips
            for url, clips in files.items()
            if any(index.contents[clip] not in cached.clips for clip in clips)
        },
        [text for text in dict.fromkeys(index.narrations) if text not in cached.texts],
        cached.damaged,
    )


class Encoder:
    """The actor of the graph: a file of clips, or some narrations, into a file of the cache."""

    def __init__(self, open_pipeline: Open, data: str, fingerprint: str) -> None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cpu":
            torch.set_num_threads(1)  # as many actors as there are processors
        self.pipe = open_pipeline().to(device)
        self.clips = latents_folder(data, fingerprint, "clips")
        self.texts = latents_folder(data, fingerprint, "text")

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        if row["narrations"]:
            write_texts(self.texts, [self._text(narration) for narration in row["narrations"]])
        else:
            rows = [self._clip(ref) for ref in row["clips"]]
            write_clip_latents(self.clips, row["file"], rows)
        return {"clips": len(row["clips"])}

    def _clip(self, ref: dict[str, Any]) -> dict[str, Any]:
        clip = load_clip(ref)
        video, mask = encode_clip(self.pipe, clip["frames"], clip["frame_masks"])
        (video_bytes, shape), (mask_bytes, _) = (
            as_bytes(latent.cpu().numpy()) for latent in (video, mask)
        )
        return {
            "clip_id": ref["clip_id"],
            CONTENT: ref[CONTENT],
            "video_latent": video_bytes,
            "mask_latent": mask_bytes,
            "shape": shape,
        }

    def _text(self, narration: str) -> dict[str, Any]:
        data, shape = as_bytes(encode_text(self.pipe, narration).cpu().numpy())
        return {"narration": narration, "embedding": data, "shape": shape}


def encode(
    index: ClipIndex,
    wanted: ToEncode,
    open_pipeline: Open,
    fingerprint: str,
    workers: int | None = None,
) -> None:
    """Fill the cache. Ray must be running; a GPU actor for each GPU that the cluster has.

    Args:
        workers: actors; by default one a GPU, or one a CPU where there are none.
    """
    for url in wanted.damaged:
        remove(url)
    rows: list[dict[str, Any]] = [
        {"file": "", "clips": [], "narrations": wanted.narrations[i : i + TEXTS_PER_FILE]}
        for i in range(0, len(wanted.narrations), TEXTS_PER_FILE)
    ]
    rows += [
        {"file": url, "clips": [reference(index, clip, None) for clip in clips], "narrations": []}
        for url, clips in wanted.files.items()
    ]
    place = place_workers(workers, len(rows))
    done = (
        ray.data.from_items(rows, override_num_blocks=len(rows))
        .map(
            Encoder,  # type: ignore[arg-type]  # Ray builds one an actor
            fn_constructor_args=(open_pipeline, index.data, fingerprint),
            compute=ActorPoolStrategy(size=place.actors),
            num_gpus=place.gpus,
            num_cpus=place.cpus,
        )
        .iter_rows()
    )
    with tqdm(total=wanted.clips, unit="clip", desc="encode", mininterval=1.0) as bar:
        for row in done:
            bar.update(row["clips"])
