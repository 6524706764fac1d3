"""Load a transformers model from a folder, the hub's cache or the hub, and say what was loaded.

Only safetensors are read. A folder that the caller names is used whatever it holds, so that other
weights can be tried; from the cache and the hub one revision is taken.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import hf_hub_url, snapshot_download
from huggingface_hub.utils import get_session, hf_raise_for_status
from transformers import AutoTokenizer

from handi_model.hands.model_files import first_line, sha256
from handi_model.metrics.weights import Origin, WeightsError

WEIGHTS = "model.safetensors"
"""transformers' name of a model's weights."""

NEEDED = ("config.json", WEIGHTS, "tokenizer.json")
"""Without these a folder in the hub's cache is not whole."""

READ = [WEIGHTS, "*.json", "merges.txt", "vocab.txt"]
"""What is read of a model on the hub: its weights, its config and its tokenizer."""

PATIENCE = 10
"""Seconds to wait for the hub's first answer. Its own library tries for minutes."""


@dataclass(frozen=True)
class HubModel:
    """A model on the hub.

    Attributes:
        name: what people call it, such as "CLIP ViT-L/14".
        repository: its id on the hub.
        revision: the commit that is taken.
        sha256: of its `model.safetensors`, in lower-case hex; None where none is known.
        key: the key of a job's config that names a folder instead, without "--".
    """

    name: str
    repository: str
    revision: str
    sha256: str | None
    key: str


def load_hub_model(
    published: HubModel,
    model_class: Any,
    path: str | None = None,
    device: torch.device | str = "cpu",
) -> tuple[Any, Any, Origin]:
    """Return the model, frozen and in float32, its tokenizer, and what is known of its weights.

    Args:
        model_class: transformers' class of the model.
        path: folder as `save_pretrained` writes it, with the tokenizer; nothing else is tried
            when it is given.

    Raises:
        WeightsError: if the model cannot be had, the folder holds another one, or the weights that
            the cache or the hub gave are not the published ones.
    """
    folder = Path(path) if path else _from_hub(published)
    if not (folder / WEIGHTS).is_file():
        raise WeightsError(
            f"{published.name}: {folder}: has no {WEIGHTS}; name a folder as save_pretrained "
            f"writes it, with the tokenizer (--{published.key})"
        )
    if (kind := _kind(folder)) != model_class.config_class.model_type:
        raise WeightsError(
            f"{published.name}: {folder}: its config.json is of a model of type {kind}, not "
            f"{model_class.config_class.model_type}; name another folder (--{published.key})"
        )
    try:
        model, found = model_class.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as problem:
        raise WeightsError(
            f"{published.name}: {folder}: cannot be read as a {model_class.__name__} with its "
            f"tokenizer ({first_line(problem)}); name another folder (--{published.key})"
        ) from problem
    # transformers makes up what a file lacks, and scores of such a model would mean nothing.
    if lacking := sorted(found["missing_keys"]):
        raise WeightsError(
            f"{published.name}: {folder}: is no {model_class.__name__}: {WEIGHTS} lacks "
            f"{lacking[0]}; name another folder (--{published.key})"
        )
    digest = sha256(folder / WEIGHTS)
    if not path and published.sha256 and digest != published.sha256:
        raise WeightsError(
            f"{published.name}: {folder}: {WEIGHTS} has SHA-256 {digest[:16]}... and not "
            f"{published.sha256[:16]}...; remove it to get it anew, or name the folder to use it "
            f"all the same (--{published.key})"
        )
    origin = Origin(published.name, str(folder), digest, digest == published.sha256)
    return model.eval().requires_grad_(False).to(device), tokenizer, origin


def _kind(folder: Path) -> Any:
    """The type of model that a folder's config tells, None without one."""
    try:
        return json.loads((folder / "config.json").read_text())["model_type"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _from_hub(published: HubModel) -> Path:
    """The folder of a model in the hub's cache, filled from the hub where need be."""
    with contextlib.suppress(OSError):
        cached = _snapshot(published, local_files_only=True)
        if all((cached / name).is_file() for name in NEEDED):
            return cached
    try:
        _see_that_the_hub_answers(published)
        return _snapshot(published, local_files_only=False)
    except Exception as problem:
        raise WeightsError(
            f"{published.name}: no weights could be had; name a folder that holds "
            f"{published.repository} (--{published.key}), or make one of these work: the hub's "
            f"cache: it lacks revision {published.revision[:8]}; the hub: {first_line(problem)}"
        ) from problem


def _snapshot(published: HubModel, local_files_only: bool) -> Path:
    return Path(
        snapshot_download(
            published.repository,
            revision=published.revision,
            allow_patterns=READ,
            local_files_only=local_files_only,
        )
    )


def _see_that_the_hub_answers(published: HubModel) -> None:
    url = hf_hub_url(published.repository, "config.json", revision=published.revision)
    hf_raise_for_status(get_session().head(url, timeout=PATIENCE, follow_redirects=True))
