"""Going on with a training: what must be as it was begun, and what may change but is told."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from handi_model.damage import parse_json
from jobs.training.settings import TrainSettings
from pipelines.checkpoints import latest_checkpoint
from pipelines.clip_index import ClipIndex
from pipelines.storage import join, read_bytes

PLAN = (
    *("model", "checkpoint", "trains", "lora_rank", "uses_mask"),
    *("batch_size", "clips_per_pass", "cycle", "repeats", "seed", "validation.held_out"),
)
"""Keys that say which weights train and which clips and random numbers a pass has. With others the
steps that are done would not be those of the plan, so that they must stay. What weighs, rounds or
paces a step (learning rate, losses, precision, ramp, mask_steps, epochs, workers) may change."""
LATER = {"uses_mask": True}
"""What keys of the plan were that checkpoints of earlier versions do not have."""
PLACES = ("output", "parent_run")
"""Keys that say nothing of the training."""


@dataclass(frozen=True)
class Change:
    """A key that has another value than in the run before."""

    key: str
    before: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.key}: {_shown(self.before)} -> {_shown(self.now)}"

    def undone(self) -> str:
        """What to give on the command line to have the value as it was."""
        flag = self.key.replace("_", "-")
        if isinstance(self.before, bool):
            return f"--{flag}" if self.before else f"--no-{flag}"
        return f"--{flag} {_shown(self.before)}"


@dataclass(frozen=True)
class Resumed:
    """What an output holds of its training.

    Attributes:
        done: steps; 0 where there is no checkpoint.
        changes: keys of the newest checkpoint that have another value now.
    """

    done: int = 0
    changes: tuple[Change, ...] = ()


def checkpoints_folder(settings: TrainSettings) -> str:
    return join(settings.output, "checkpoints")


def resume(settings: TrainSettings, index: ClipIndex, steps: int) -> Resumed:
    """Look at the newest checkpoint of an output, which must be of this training.

    To be called while the output is held: another job would write on.

    Args:
        steps: of the whole training.

    Raises:
        ValueError: if it is of another one, in one line.
    """
    url = latest_checkpoint(checkpoints_folder(settings))
    if url is None:
        return Resumed()
    state = join(url, "state.json")
    begun = parse_json(state, read_bytes(state), "delete its folder: the one before is taken")
    afresh = "choose another --output"
    changes = changed(begun["begun_with"], settings.begun_with())
    if broken := [change for change in changes if change.key in PLAN]:
        raise ValueError(
            f"{', '.join(one.key for one in broken)}: {settings.output} was begun with "
            f"{', '.join(_shown(one.before) for one in broken)} and this run has "
            f"{', '.join(_shown(one.now) for one in broken)}; give "
            f"{' '.join(one.undone() for one in broken)}, or {afresh}"
        )
    if begun["data"] != index.fingerprint:
        raise ValueError(
            f"data: {settings.output} was begun with another data set (fingerprint "
            f"{begun['data']}) than {settings.data} is now ({index.fingerprint}); give the one "
            f"that it was begun with, or {afresh}"
        )
    done = int(begun["course"]["done"])
    if done > steps:
        raise ValueError(
            f"epochs: {settings.output} has gone {done} steps already, and {settings.epochs} "
            f"epochs are {steps}; give more --epochs, or {afresh}"
        )
    return Resumed(done, tuple(changes))


def changed(before: dict[str, Any], now: dict[str, Any]) -> list[Change]:
    """The keys whose values differ.

    A key that only one of the two has is of another version; a device that is not asked for is
    chosen later.
    """
    before = {**LATER, **before}
    return [
        Change(key, before[key], value)
        for key, value in now.items()
        if key in before
        and before[key] != value
        and key not in PLACES
        and not (key == "device" and value is None)
    ]


def _shown(value: Any) -> str:
    """As it stands on the command line."""
    if isinstance(value, list):
        return ",".join(map(_shown, value))
    return value if isinstance(value, str) else json.dumps(value)
