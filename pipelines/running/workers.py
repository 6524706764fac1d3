"""How many processes work at a time, and by what Ray places them."""

from __future__ import annotations

from dataclasses import dataclass

import ray


@dataclass(frozen=True)
class Workers:
    """Actors, and what each of them takes of the cluster."""

    actors: int
    gpus: int | None
    cpus: float | None


def place_workers(asked: int | None, work: int, device: str | None = None) -> Workers:
    """One a GPU, or one a CPU where there are none, and never more than there is work.

    Args:
        asked: that many instead.
        work: items to be done: each actor loads its networks for them.
        device: that they are to compute on; on `cpu` they take no GPU.
    """
    has = ray.cluster_resources()
    gpus = 0 if device == "cpu" else int(has.get("GPU", 0))
    actors = min(asked or gpus or int(has.get("CPU", 1)), work)
    return Workers(actors, 1 if gpus else None, None if gpus else 0.9)


def one_worker(device: str | None) -> dict[str, float]:
    """What a task takes that does what an actor does."""
    place = place_workers(1, 1, device)
    return {"num_gpus": place.gpus} if place.gpus else {"num_cpus": place.cpus or 1.0}
