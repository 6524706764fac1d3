"""The cache of latents and text embeddings: encoded once, beside the clips, for one model.

`<data>/latents/<fingerprint>/clips/*.parquet` has latents by the content of the clips: those of
pictures that have changed since serve nobody.
`<data>/latents/<fingerprint>/text/*.parquet` has each narration once, however many clips share it.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from handi_model.damage import DamagedFile
from pipelines.clip_content import CONTENT
from pipelines.clip_index import ClipIndex
from pipelines.notices import notice
from pipelines.parquet_rows import Place, open_parquet, rows_and_places
from pipelines.patience import patient
from pipelines.storage import find, join, write_bytes

CLIP_LATENTS = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field(CONTENT, pa.string(), nullable=False),  # of the clip that was encoded
        pa.field("video_latent", pa.binary()),  # float16, scaled as diffusion takes it
        pa.field("mask_latent", pa.binary()),  # float16, of the grey frames of the masks
        pa.field("shape", pa.list_(pa.int32())),  # C, L, h, w of both
    ]
)
TEXTS = pa.schema(
    [
        pa.field("narration", pa.string(), nullable=False),
        pa.field("embedding", pa.binary()),  # float16
        pa.field("shape", pa.list_(pa.int32())),  # T, D
    ]
)


@dataclass(frozen=True)
class LatentIndex:
    """Where the cached rows of a model lie.

    Attributes:
        clips: by the content of the clip.
        texts: by narration.
        damaged: URLs of files that cannot be read, whose rows count as not encoded.
    """

    clips: dict[str, Place]
    texts: dict[str, Place]
    damaged: tuple[str, ...] = ()

    def missing(self, index: ClipIndex) -> int:
        """Clips that are not encoded, or whose narration is not."""
        pairs = zip(index.contents, index.narrations, strict=True)
        return sum(c not in self.clips or n not in self.texts for c, n in pairs)


def latents_folder(data: str, fingerprint: str, what: str) -> str:
    """URL of the folder of `clips` or of `text`."""
    return join(data, "latents", fingerprint, what)


def open_latents(data: str, fingerprint: str) -> LatentIndex:
    """What is encoded so far for the model of a fingerprint, which may be nothing.

    Files that are damaged are named and passed over.
    """
    places: dict[str, dict[str, Place]] = {CONTENT: {}, "narration": {}}
    damaged = []
    with ThreadPoolExecutor(16) as readers:
        for what, key in (("clips", CONTENT), ("text", "narration")):
            urls = find(latents_folder(data, fingerprint, what), ".parquet")
            for file in readers.map(partial(_places, key=key), urls):
                if isinstance(file, DamagedFile):
                    damaged.append(file)
                else:
                    places[key].update(file)
    for error in damaged:
        notice(f"latents: {error}; its rows count as not encoded until jobs/encode.py has run")
    return LatentIndex(places[CONTENT], places["narration"], tuple(one.url for one in damaged))


def _places(url: str, key: str) -> dict[str, Place] | DamagedFile:
    try:
        with open_parquet(url) as file:
            if key not in file.schema_arrow.names:
                return {}  # latents of an earlier version, which do not say of what they are
            return {row[key]: place for row, place in rows_and_places(url, file, [key])}
    except DamagedFile as error:
        return error


def as_bytes(array: NDArray[np.float16]) -> tuple[bytes, list[int]]:
    """An array as its bytes and its shape."""
    return np.ascontiguousarray(array, np.float16).tobytes(), list(array.shape)


def as_array(data: bytes, shape: list[int]) -> NDArray[np.float16]:
    """What `as_bytes` was given."""
    return np.frombuffer(data, np.float16).reshape(shape)


def write_clip_latents(folder: str, rows: list[dict]) -> None:
    """Write latents as a file that is named after the content of their clips."""
    _write(folder, CONTENT, rows, CLIP_LATENTS)


def write_texts(folder: str, rows: list[dict]) -> None:
    """Write embeddings as a file that is named after their narrations."""
    _write(folder, "narration", rows, TEXTS)


def _write(folder: str, key: str, rows: list[dict], schema: pa.Schema) -> None:
    names = "\n".join(sorted(row[key] for row in rows))
    url = join(folder, f"{hashlib.sha256(names.encode()).hexdigest()[:16]}.parquet")
    sink = pa.BufferOutputStream()
    # A row is read alone.
    pq.write_table(pa.Table.from_pylist(rows, schema), sink, row_group_size=1, compression="zstd")
    patient(write_bytes)(url, sink.getvalue().to_pybytes())
