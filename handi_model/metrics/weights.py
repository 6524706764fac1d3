"""Find a file of weights: from the path that the caller names, the cache, or its official place.

A path that the caller names is used whatever it holds, so that other weights can be tried; the
cache and the download must be the published file, by its SHA-256.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import pooch
import torch

from handi_model.hands.model_files import cache_folder, first_line, sha256

log = logging.getLogger(__name__)


class WeightsError(RuntimeError):
    """Weights cannot be had; the message is one line that says what was tried and the remedy."""


@dataclass(frozen=True)
class Weights:
    """A published file.

    Attributes:
        name: what people call it, such as "FID Inception".
        file: its name in the cache.
        url: its official place.
        sha256: in lower-case hex; None where none is known, and nothing can be checked.
        key: the key of a job's config that names another path, without "--".
    """

    name: str
    file: str
    url: str
    sha256: str | None
    key: str


@dataclass(frozen=True)
class Origin:
    """The file that was loaded; as text, a footnote for a table of scores.

    Attributes:
        name: that of `Weights`.
        path: where the file lies.
        sha256: the file's own.
        reference: whether it is the published file; False where no SHA-256 is known.
    """

    name: str
    path: str
    sha256: str
    reference: bool

    def __str__(self) -> str:
        verdict = "the reference's" if self.reference else "not known as the reference's"
        return f"{self.name}, SHA-256 {self.sha256[:8]}… ({verdict})"


def find_weights(
    weights: Weights, path: str | None = None, cache: Path | None = None
) -> tuple[Path, Origin]:
    """Return the file and what is known about it.

    Args:
        path: the file to use; nothing else is tried when it is given.
        cache: folder of downloaded files; default `HANDI_CACHE`, else the user's cache folder.

    Raises:
        WeightsError: if `path` is not a file, or if neither the cache nor the download has it.
    """
    if path:
        if not Path(path).is_file():
            raise WeightsError(f"{weights.name}: {path}: no such file (--{weights.key})")
        return Path(path), _origin(weights, Path(path))
    cached = (cache or cache_folder()) / weights.file
    tried = f"the cache ({cached}): {_fault_of(weights, cached)}"
    if cached.is_file():
        origin = _origin(weights, cached)
        if origin.reference or weights.sha256 is None:
            return cached, origin
    try:
        _download(weights, cached)
    except Exception as problem:
        raise WeightsError(
            f"{weights.name}: no weights could be had; give their path (--{weights.key}), or make "
            f"one of these work: {tried}; the download ({weights.url}): {first_line(problem)}"
        ) from problem
    if weights.sha256 is None:
        log.warning(
            "%s: %s is unchecked, as its SHA-256 is not published", weights.name, weights.url
        )
    return cached, _origin(weights, cached)


def open_torchscript(
    weights: Weights, path: Path, device: torch.device | str
) -> torch.jit.ScriptModule:
    """Open a TorchScript file that `find_weights` gave.

    Raises:
        WeightsError: if it is anything else.
    """
    try:
        return torch.jit.load(str(path), map_location=device).eval()
    except (RuntimeError, ValueError) as problem:
        raise unusable(weights, path, f"no TorchScript ({first_line(problem)})") from None


def unusable(weights: Weights, path: Path, reason: str) -> WeightsError:
    """The error for a file that is there but holds something else."""
    return WeightsError(
        f"{weights.name}: {path} cannot be used: {reason}; name another file (--{weights.key})"
    )


def _fault_of(weights: Weights, cached: Path) -> str:
    return f"SHA-256 is not {weights.sha256}" if cached.is_file() else "no such file"


def _origin(weights: Weights, path: Path) -> Origin:
    digest = sha256(path)
    return Origin(weights.name, str(path), digest, digest == weights.sha256)


def _download(weights: Weights, cached: Path) -> None:
    pooch.get_logger().setLevel("WARNING")
    pooch.retrieve(
        weights.url,
        known_hash=weights.sha256 and f"sha256:{weights.sha256}",
        path=cached.parent,
        fname=cached.name,
        downloader=pooch.HTTPDownloader(timeout=20),
    )
