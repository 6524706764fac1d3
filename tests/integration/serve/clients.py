"""What a client of the service does, and how a test sees what came of it."""

from __future__ import annotations

import io
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import av
import numpy as np
import requests
from numpy.typing import NDArray
from PIL import Image, ImageSequence
from prometheus_client.parser import text_string_to_metric_families

from jobs.benchmarks.service import Service
from tests.integration.serve.serving import QUICK, scene_png

PATIENCE_S = 300
"""For what two busy cores compute."""

EXPORT_S = 20
"""Ray exports figures every ten seconds, or a little later."""

FIELDS = {"prompt": "lift box", "seed": "5", **QUICK}
LONG = {"num_inference_steps": "100", "mask_steps": "100"}
SCENE = scene_png()

TOLERANCE = 6
"""What the video codec may change, of 255."""

ROUNDING = 0.05
"""Mean difference, of 255, where a batch of another size turns single pixels by 1."""

Found = TypeVar("Found")


def prepared(
    service: Service,
    path: str = "/v1/videos",
    scene: bytes | str = SCENE,
    mask: bytes | None = None,
    headers: dict[str, str] | None = None,
    **fields: str | None,
) -> requests.PreparedRequest:
    """A form: the usual fields but for what is given; None leaves one out."""
    parts: dict[str, Any] = {
        name: (None, value) for name, value in {**FIELDS, **fields}.items() if value is not None
    }
    parts["input_reference"] = (
        (None, scene) if isinstance(scene, str) else ("scene.png", scene, "image/png")
    )
    if mask:
        parts["mask"] = ("mask.png", mask, "image/png")
    return requests.Request("POST", service.url + path, headers=headers, files=parts).prepare()


def post(service: Service, path: str = "/v1/videos", **form: Any) -> requests.Response:
    with requests.Session() as session:
        return session.send(prepared(service, path, **form), timeout=PATIENCE_S)


def ask(
    service: Service,
    job_id: str,
    path: str = "",
    headers: dict[str, str] | None = None,
    **query: str,
) -> requests.Response:
    return requests.get(f"{service.url}/v1/videos/{job_id}{path}", query, headers=headers)


def accepted(service: Service, seed: int = 0, steps: int = 20) -> str:
    """The id of a job that takes some seconds, so that a fault comes in the middle of it."""
    answer = post(service, seed=str(seed), num_inference_steps=str(steps), mask_steps=str(steps))
    assert answer.status_code == 200, answer.text
    return str(answer.json()["id"])


def seen(service: Service, job: str) -> dict[str, Any]:
    answer = ask(service, job)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def all_completed(service: Service, jobs: list[str]) -> Callable[[], bool]:
    return lambda: all(seen(service, job)["status"] == "completed" for job in jobs)


def listed(service: Service, headers: dict[str, str] | None = None) -> list[dict[str, Any]]:
    answer = requests.get(f"{service.url}/v1/videos", {"limit": "100"}, headers=headers)
    jobs: list[dict[str, Any]] = answer.json()["data"]
    return jobs


def content(
    service: Service, job_id: str, variant: str = "video", headers: dict[str, str] | None = None
) -> bytes:
    answer = ask(service, job_id, "/content", headers, variant=variant)
    assert answer.status_code == 200, answer.text
    return answer.content


def finished(
    service: Service, job_id: str, headers: dict[str, str] | None = None
) -> dict[str, Any]:
    """The job once it is completed or failed."""

    def ended() -> dict[str, Any] | None:
        job: dict[str, Any] = ask(service, job_id, headers=headers).json()
        return job if job["status"] in ("completed", "failed") else None

    return until(ended)


def until(look: Callable[[], Found | None]) -> Found:
    """What `look` finds as soon as it finds something."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.1)
    return found


@contextmanager
def busy(service: Service, headers: dict[str, str] | None = None) -> Iterator[str]:
    """A job has the model, so that all others wait; it is deleted at the end."""
    job_id = post(service, headers=headers, **LONG).json()["id"]
    until(lambda: ask(service, job_id, headers=headers).json()["status"] == "in_progress")
    try:
        yield job_id
    finally:
        requests.delete(f"{service.url}/v1/videos/{job_id}", headers=headers)


def clip_of(service: Service, job_id: str) -> NDArray[np.int64]:
    """(L, H, W, 3), once it is there; of the GIF, which keeps closer to the model's frames."""
    assert finished(service, job_id)["status"] == "completed"
    with Image.open(io.BytesIO(content(service, job_id, "gif"))) as gif:
        frames = [np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(gif)]
    return np.stack(frames).astype(int)


def decoded(video: bytes) -> NDArray[np.int64]:
    with av.open(io.BytesIO(video)) as container:
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)]).astype(
            int
        )


def assert_same(one: NDArray[np.int64], other: NDArray[np.int64]) -> None:
    """But for the rounding of sums in another order."""
    assert difference(one, other) <= ROUNDING


def difference(one: NDArray[np.int64], other: NDArray[np.int64]) -> float:
    """Mean over all colours of all frames."""
    assert one.shape == other.shape
    return float(np.abs(one - other).mean())


def picture(png: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(png)))


def folder(service: Service, job_id: str) -> Path:
    return service.folder / "results" / job_id


def forgotten(service: Service, job_id: str) -> bool:
    """Neither files nor a record are left."""
    with sqlite3.connect(service.folder / "jobs.db") as store:
        rows = store.execute("SELECT id FROM handi_video_jobs WHERE id = ?", (job_id,)).fetchall()
    return not rows and not folder(service, job_id).exists()


def batches(service: Service) -> float:
    """That were denoised to the end."""
    return figure(service, "handi_batch_size_count")


def figure(service: Service, name: str, **labels: str) -> float:
    """A figure of /metrics, summed over replicas and whatever labels are not given."""
    text = requests.get(f"{service.url}/metrics").text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == f"ray_{name}" and labels.items() <= sample.labels.items()
    )
