"""Which clips a saved model was trained on: written beside its weights, asked by the evaluation.

A clip is known by its content and by its id with its narration, so that it is found in a data set
that was preprocessed anew too. Hashes stand for both: 60,000 clips make a file of 2 MB, and no
name of a clip leaves with the model.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from handi_model.config import PRESETS
from handi_model.damage import parse_json
from pipelines.clip_index import ClipIndex
from pipelines.saved_model import small_file
from pipelines.storage import exists, read_bytes

TRAINED_ON = "trained_on.json"
"""In a saved pipeline's folder."""
DIGITS = 12
"""Hexadecimal digits of a hash: among a million clips the same ones are a chance of 1 in 500."""


@dataclass(frozen=True)
class TrainedOn:
    """Attributes:
    data: fingerprint of each data set, in the order of the trainings.
    clips: hashes of all clips, see `hashes`.
    complete: whether nothing is known to be missing, as it is where a training began from a
        model without such a record.
    """

    data: tuple[str, ...] = ()
    clips: frozenset[str] = frozenset()
    complete: bool = True

    def and_then(self, data: str, clips: frozenset[str]) -> TrainedOn:
        """After one training more."""
        return TrainedOn((*self.data, data), self.clips | clips, self.complete)

    def and_clips(self, index: ClipIndex, chosen: Sequence[int]) -> TrainedOn:
        """After one training more, on the chosen clips of a data set."""
        columns = (index.contents, index.clip_ids, index.narrations)
        clips = hashes(*([column[i] for i in chosen] for column in columns))
        return self.and_then(index.fingerprint, clips)

    def count(self, contents: Sequence[str], ids: Sequence[str], narrations: Sequence[str]) -> int:
        """How many of these clips it was trained on."""
        each = zip(contents, ids, narrations, strict=True)
        return sum(not self.clips.isdisjoint(hashes([c], [i], [n])) for c, i, n in each)

    def write(self, folder: Path) -> None:
        """Write it into a saved pipeline's local folder."""
        values = {"data": self.data, "complete": self.complete, "clips": sorted(self.clips)}
        (folder / TRAINED_ON).write_text(json.dumps(values))


def hashes(
    contents: Sequence[str], ids: Sequence[str], narrations: Sequence[str]
) -> frozenset[str]:
    """What clips are known by.

    Args:
        contents: see `clip_content`; none where they are not at hand.
    """
    named = (f"{clip_id}\n{said}" for clip_id, said in zip(ids, narrations, strict=True))
    each = (*contents, *named)
    return frozenset(hashlib.sha256(one.encode()).hexdigest()[:DIGITS] for one in each)


def read_trained_on(model: str) -> TrainedOn | None:
    """What a model was trained on; None where it does not say.

    Args:
        model: a preset, a local path, a folder's URL, or a name on the hub.

    Raises:
        DamagedFile: if the record is cut short.
    """
    if model in PRESETS:
        return TrainedOn()
    url = small_file(model, TRAINED_ON)
    if not exists(url):
        return None
    values = parse_json(url, read_bytes(url), "delete it: then nothing is known")
    return TrainedOn(tuple(values["data"]), frozenset(values["clips"]), values["complete"])


def begun_from(model: str, checkpoint: str | None = None) -> TrainedOn:
    """What a training that starts from a model adds to.

    Args:
        checkpoint: a text-to-video checkpoint whose weights it takes over; none of them names all
            that it has seen.
    """
    unknown = TrainedOn(complete=False)
    return unknown if checkpoint else read_trained_on(model) or unknown
