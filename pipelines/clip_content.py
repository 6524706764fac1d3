"""What a clip is by its content: the key of whatever is computed from its pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pyarrow as pa

CONTENT = "content_sha256"
"""The column that holds it."""


def content_sha256(frames: Sequence[bytes] | None, frame_masks: Sequence[bytes] | None) -> str:
    """Hexadecimal digits of a clip's frames and masks, as they are stored."""
    digest = hashlib.sha256()
    for pictures in (frames or (), frame_masks or ()):
        digest.update(len(pictures).to_bytes(8, "little"))
        for picture in pictures:
            digest.update(len(picture).to_bytes(8, "little"))
            digest.update(picture)
    return digest.hexdigest()


def with_content(table: pa.Table) -> pa.Table:
    """Rows of clips with the column of their content, whatever stood there before."""
    keys = [
        content_sha256(frames.as_py(), masks.as_py())
        for frames, masks in zip(table["frames"], table["frame_masks"], strict=True)
    ]
    place = table.schema.get_field_index(CONTENT)
    return table.set_column(place, table.schema.field(place), pa.array(keys, pa.string()))
