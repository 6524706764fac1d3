"""The data set's prior: the mean of the masks of the clips that may be trained on."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from handi_model.damage import DamagedFile, parse_json
from pipelines.frames import decode_mask
from pipelines.parquet_rows import open_parquet
from pipelines.records import HELD_BACK
from pipelines.storage import exists, join, read_bytes, remove, write_bytes

PRIOR_FILE = "prior.npy"
UNNAMED = "unnamed"
"""In place of the split of clips whose source names none."""


@dataclass(frozen=True)
class MaskCount:
    """The masks of some clips.

    Attributes:
        pixels: (H, W) int64: how often each pixel lies in the mask of a clip that may be trained
            on; None where there is no such clip.
        clips: split -> clips, of all splits.
    """

    pixels: NDArray[np.int64] | None
    clips: Counter[str]


@dataclass(frozen=True)
class Prior:
    """Attributes:
    mean: float32 (H, W) in [0, 1]; None where no clip may be trained on.
    splits, left_out: split -> clips that it is the mean of, and that stay out of it.
    """

    mean: NDArray[np.float32] | None
    splits: dict[str, int]
    left_out: dict[str, int]

    @classmethod
    def of(cls, counts: Iterable[MaskCount]) -> Prior:
        """The counts are integers: the mean is the same however they are summed."""
        counts = list(counts)
        clips = sum((one.clips for one in counts), Counter[str]())
        splits = {name: count for name, count in sorted(clips.items()) if name not in HELD_BACK}
        left_out = {name: count for name, count in sorted(clips.items()) if name in HELD_BACK}
        known = [one.pixels for one in counts if one.pixels is not None]
        mean = (
            np.asarray(np.sum(known, axis=0) / sum(splits.values()), np.float32) if known else None
        )
        return cls(mean, splits, left_out)

    def __str__(self) -> str:
        """What it is the mean of, for a person."""
        if self.mean is None:
            return f"no prior: no clip may be trained on, {_listed(self.left_out) or '0 clips'}"
        left_out = f"; left out: {_listed(self.left_out)}" if self.left_out else ""
        return f"prior: mean of the masks of {_listed(self.splits)}{left_out}"

    def as_dict(self) -> dict[str, Any]:
        """What the summary says of it."""
        return {"splits": self.splits, "left_out": self.left_out}


def count_masks(file: str) -> MaskCount:
    """Count the masks of a file of clips, pixel by pixel."""
    with open_parquet(file) as source:
        rows = source.read(["mask", "split"]).to_pylist()
    masks = [decode_mask(row["mask"]) for row in rows if row["split"] not in HELD_BACK]
    pixels = np.asarray(np.sum(masks, axis=0, dtype=np.int64)) if masks else None
    return MaskCount(pixels, Counter(row["split"] or UNNAMED for row in rows))


def write_prior(output: str, prior: Prior) -> None:
    """Write `prior.npy`, or remove an earlier one where there is no prior."""
    url = join(output, PRIOR_FILE)
    if prior.mean is None:
        remove(url)
        return
    data = io.BytesIO()
    np.save(data, prior.mean, allow_pickle=False)
    write_bytes(url, data.getvalue())


def read_prior(data: str) -> NDArray[np.float32]:
    """(H, W) in [0, 1]: the mean of the training masks.

    Raises:
        FileNotFoundError: if preprocessing has not come to its end, or no clip may be trained on.
    """
    return np.asarray(
        np.load(io.BytesIO(read_bytes(join(data, PRIOR_FILE))), allow_pickle=False), np.float32
    )


def is_of_all_splits(data: str, splits: Iterable[str]) -> bool:
    """Whether a prior may be of validation and test masks too, as earlier versions made it.

    Args:
        splits: of its clips.
    """
    url = join(data, "summary.json")
    if HELD_BACK.isdisjoint(splits):
        return False
    try:
        return not exists(url) or "prior" not in parse_json(url, read_bytes(url))
    except DamagedFile:
        return True  # nobody knows what it is the mean of


def _listed(splits: dict[str, int]) -> str:
    """Such as `40 clips of split train and 2 clips of no named split`."""
    return " and ".join(
        f"{count} clip{'s' * (count != 1)} of "
        + ("no named split" if name == UNNAMED else f"split {name}")
        for name, count in splits.items()
    )
