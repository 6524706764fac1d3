"""Find `hand_landmarker.task`, MediaPipe's palm and landmark networks in one file.

MediaPipe's current packages ship no model files, so they are taken, in this order, from a path
that the caller names, the cache, the official download, or the two networks inside an older
MediaPipe wheel on the package index. Whichever it is, its SHA-256 must be a known one.
"""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import pooch

OFFICIAL_URL = (
    "https://storage.googleapis.com/mediapipe-models/"
    "hand_landmarker/hand_landmarker/float16/1/hand_landmarker.task"
)
OFFICIAL_SHA256 = "fbc2a30080c3c557093b5ddfc334698132eb341044ccee322ccf8bcf3607cde1"

WHEEL = "mediapipe==0.10.21"
"""The last release whose wheel holds the networks."""
WHEEL_NETWORKS = {
    "hand_detector.tflite": (
        "mediapipe/modules/palm_detection/palm_detection_full.tflite",
        "1b14e9422c6ad006cde6581a46c8b90dd573c07ab7f3934b5589e7cea3f89a54",
    ),
    "hand_landmarks_detector.tflite": (
        "mediapipe/modules/hand_landmark/hand_landmark_full.tflite",
        "11c272b891e1a99ab034208e23937a8008388cf11ed2a9d776ed3d01d0ba00e3",
    ),
}
"""Name in the task file -> (name in the wheel, SHA-256)."""

log = logging.getLogger(__name__)


class ModelFileError(RuntimeError):
    """No usable hand model; the message is one line that says what was tried."""


def hand_landmarker_task(path: str | None = None, cache: Path | None = None) -> Path:
    """Return a checked `hand_landmarker.task`.

    Args:
        path: the file to use; nothing else is tried when it is given.
        cache: folder of downloaded files; default `HANDI_CACHE`, else the user's cache folder.

    Raises:
        ModelFileError: if `path` is not a known file, or if no source works.
    """
    if path:
        _check(Path(path))
        return Path(path)
    cached = (cache or cache_folder()) / "hand_landmarker.task"
    tried = []
    for name, obtain in (
        (f"the cache ({cached})", _from_cache),
        (f"the download ({OFFICIAL_URL})", _from_download),
        (f"the wheel {WHEEL} (pip download)", _from_wheel),
    ):
        try:
            obtain(cached)
            _check(cached)
            return cached
        except Exception as problem:
            log.debug("%s: %s", name, problem)
            tried.append(f"{name}: {first_line(problem)}")
    raise ModelFileError(
        "no hand model could be had; give its path (--hand-model), or make one of these work: "
        + "; ".join(tried)
    )


def sha256(path: Path) -> str:
    """The SHA-256 of a file of any size, in lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_folder() -> Path:
    """Where downloaded files are kept: `HANDI_CACHE`, else the user's cache folder."""
    return Path(os.environ.get("HANDI_CACHE") or pooch.os_cache("handi"))


def first_line(problem: Exception) -> str:
    """An error as one line of at most 200 characters; its type's name where it says nothing."""
    return (str(problem).strip() or type(problem).__name__).splitlines()[0][:200]


def _check(path: Path) -> None:
    """Raise unless the file, or both networks in it, have the known SHA-256."""
    if not path.is_file():
        raise ModelFileError(f"{path}: no such file")
    if sha256(path) == OFFICIAL_SHA256:
        return
    try:
        with zipfile.ZipFile(path) as task:
            found = {name: hashlib.sha256(task.read(name)).hexdigest() for name in WHEEL_NETWORKS}
    except (zipfile.BadZipFile, KeyError):
        found = {}
    if found != {name: digest for name, (_, digest) in WHEEL_NETWORKS.items()}:
        raise ModelFileError(
            f"{path}: SHA-256 {sha256(path)} is not a known hand_landmarker.task; delete the file "
            "or name another"
        )


def _from_cache(cached: Path) -> None:
    _check(cached)


def _from_download(cached: Path) -> None:
    pooch.get_logger().setLevel("WARNING")
    pooch.retrieve(
        OFFICIAL_URL,
        known_hash=OFFICIAL_SHA256,
        path=cached.parent,
        fname=cached.name,
        downloader=pooch.HTTPDownloader(timeout=20),
    )


def _from_wheel(cached: Path) -> None:
    """Build the task file from the two networks in the older wheel."""
    with tempfile.TemporaryDirectory() as folder:
        # The networks are the same in every wheel of this release, so one platform is named:
        # the wheel is unpacked, never installed.
        command = [sys.executable, "-m", "pip", "download", WHEEL, "--no-deps", "--dest", folder]
        command += ["--only-binary=:all:", "--platform=manylinux_2_28_x86_64"]
        command += ["--python-version=3.11", "--implementation=cp", "--abi=cp311"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
        wheels = list(Path(folder).glob("*.whl"))
        if not wheels:
            reason = done.stderr.strip().splitlines()
            raise ModelFileError(reason[-1] if reason else "pip downloaded nothing")
        cached.parent.mkdir(parents=True, exist_ok=True)
        partial = cached.with_suffix(f".{os.getpid()}.partial")
        with zipfile.ZipFile(wheels[0]) as wheel, zipfile.ZipFile(partial, "w") as task:
            for name, (member, _) in WHEEL_NETWORKS.items():
                # MediaPipe maps the networks from the file, so they must be stored uncompressed;
                # a fixed date makes the file the same on every machine.
                entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
                task.writestr(entry, wheel.read(member), zipfile.ZIP_STORED)
        partial.replace(cached)
