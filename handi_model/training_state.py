"""A training's state as files: weights, averages, moments and position, without any pickle."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from handi_model.damage import check_local_safetensors, parse_json
from handi_model.optimiser import Optimiser

WEIGHTS_FILE, OPTIMISER_FILE, STATE_FILE = (
    "weights.safetensors",
    "optimiser.safetensors",
    "state.json",
)


@dataclass(frozen=True)
class TrainingState:
    """Copies in the CPU's memory: the training goes on while they are written.

    Attributes:
        weights: the trainable parameters, by name.
        optimiser: see `Optimiser.tensors`.
        numbers: JSON of everything else: position, schedule, what the training was begun with.
    """

    weights: dict[str, Tensor]
    optimiser: dict[str, Tensor]
    numbers: dict[str, Any]

    @classmethod
    def of(cls, optimiser: Optimiser, numbers: dict[str, Any]) -> TrainingState:
        return cls(
            {name: _copy(weight) for name, weight in optimiser.parameters.items()},
            {name: _copy(value) for name, value in optimiser.tensors().items()},
            {**numbers, "optimiser": optimiser.numbers()},
        )

    def write(self, folder: Path) -> None:
        save_file(self.weights, folder / WEIGHTS_FILE)
        save_file(self.optimiser, folder / OPTIMISER_FILE)
        (folder / STATE_FILE).write_text(json.dumps(self.numbers, indent=2))

    @classmethod
    def read(cls, folder: Path) -> TrainingState:
        """What `write` has written.

        Raises:
            DamagedFile: if a file is not whole.
            OSError: if one is missing.
        """
        for name in (WEIGHTS_FILE, OPTIMISER_FILE):
            check_local_safetensors(folder / name)
        return cls(
            load_file(folder / WEIGHTS_FILE),
            load_file(folder / OPTIMISER_FILE),
            parse_json(str(folder / STATE_FILE), (folder / STATE_FILE).read_bytes()),
        )

    def restore(self, optimiser: Optimiser) -> None:
        """Bring the weights and the optimiser back to where they were.

        Raises:
            ValueError: if another set of parameters was trained, in one line.
        """
        if odd := set(self.weights) ^ set(optimiser.parameters):
            raise ValueError(
                f"the checkpoint is of another model: {min(odd)} trains in one of the two only"
            )
        with torch.no_grad():
            for name, parameter in optimiser.parameters.items():
                if self.weights[name].shape != parameter.shape:
                    raise ValueError(f"the checkpoint is of another model: {name} has other sides")
                parameter.copy_(self.weights[name])
        optimiser.load(self.optimiser, self.numbers["optimiser"])


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous()
