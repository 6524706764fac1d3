"""The service: gateways take requests and sweep up what is over, replicas hold the model.

python -m serve model=RUN/model          (key=value for each key of `ServeSettings`)
"""

from __future__ import annotations

import os
import sys
from typing import Any

import ray
from pydantic import ValidationError
from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingPolicy

from pipelines.mistakes import first_mistake
from pipelines.saved_model import SavedModel, read_saved_model
from pipelines.storage import writable
from serve.files import JobFiles
from serve.http.gateway import Gateway
from serve.http.keys import fingerprints
from serve.model.generator import Generator
from serve.scaling import replicas_for_the_queue
from serve.secret_files import check_environment, check_url
from serve.settings import ServeSettings
from serve.store import JobStore

SILENT = 3
"""Health checks without an answer after which Ray Serve replaces a replica."""
SLOW_S = 45
"""What a replica on a loaded machine may take to answer all of them, seconds."""
WAKES = 100
"""Room for calls that are answered at once."""


def app(arguments: dict[str, str]) -> Application:
    """Build the application; a mistake ends it with one line before anything is started."""
    try:
        settings, model, keys = checked(arguments)
    except ValueError as error:
        if ray.is_initialized():
            # Built on a cluster, where the line becomes the application's status.
            raise ValueError(str(error)) from None
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None

    # The lease frees the jobs of whoever is silent; to replace it there is time, for on a machine
    # under load the healthy are silent, too, now and then.
    health: dict[str, Any] = {
        "health_check_period_s": max(settings.lease_s / 10, 5),
        "health_check_timeout_s": max(settings.lease_s, SLOW_S) / SILENT,
    }
    generator = serve.deployment(
        ray_actor_options={"num_cpus": settings.num_cpus, "num_gpus": settings.num_gpus},
        autoscaling_config={
            "min_replicas": settings.replicas,
            "max_replicas": settings.most_replicas,
            "target_ongoing_requests": settings.batch_size,
            "policy": AutoscalingPolicy(policy_function=replicas_for_the_queue),
        },
        graceful_shutdown_timeout_s=settings.drain_s,
        max_ongoing_requests=settings.gateways * settings.max_masks + WAKES,
        **health,
    )(Generator).bind(settings)
    return serve.deployment(
        num_replicas=settings.gateways,
        ray_actor_options={"num_cpus": 0.1},
        max_ongoing_requests=1000,  # most of them wait
        user_config={"accepting": True},
        **health,
    )(Gateway).bind(settings, model, keys, generator)


def checked(arguments: dict[str, str]) -> tuple[ServeSettings, SavedModel, list[str]]:
    """The settings with every place made absolute and tried, the model, the keys' fingerprints.

    Raises:
        ValueError: for the first mistake, in one line that names the key.
    """
    try:
        settings = ServeSettings.model_validate(arguments)
    except ValidationError as error:
        raise ValueError(first_mistake(error, "{}=...")) from None
    check_environment(_env_vars())
    for key in ("model", "store", "results"):
        check_url(key, getattr(settings, key))
    keys = fingerprints(settings.api_keys_file, settings.api_key_fingerprints)
    model = read_saved_model(settings.model)
    _check_bounds(settings, model)
    try:
        results = writable(settings.results, private=True)
    except ValueError as error:
        raise ValueError(str(error).replace("output: ", "results: ", 1)) from None
    JobFiles(results).keep_private()
    settings = settings.model_copy(
        update={
            "model": model.url,
            "results": results,
            "store": absolute_store(settings.store),
            "num_gpus": _gpus_here() if settings.num_gpus is None else settings.num_gpus,
        }
    )
    JobStore(settings.store, settings.store_password_file)
    return settings, model, keys


def _check_bounds(settings: ServeSettings, model: SavedModel) -> None:
    """What nobody asks for otherwise must be allowed: the model's own clip."""
    pixels, frames = model.resolution**2, model.num_frames
    if settings.max_pixels is not None and settings.max_pixels < pixels:
        raise ValueError(f"max_pixels: {settings.max_pixels} is less than the model's own {pixels}")
    if settings.max_frames is not None and settings.max_frames < frames:
        raise ValueError(f"max_frames: {settings.max_frames} is less than the model's own {frames}")


def absolute_store(url: str) -> str:
    """The same store from whatever folder a replica runs in.

    Raises:
        ValueError: if no two processes would see the same.
    """
    driver, found, path = url.partition(":///")
    if not driver.startswith("sqlite"):
        return url
    if not found or path in ("", ":memory:"):
        raise ValueError(f"store: {url} is one process's own; give sqlite:///FILE")
    return f"{driver}:///{os.path.abspath(path)}"


def _env_vars() -> dict[str, str]:
    """Of the deploy config, where the application is built on a cluster."""
    if not ray.is_initialized():
        return {}
    found: dict[str, str] = ray.get_runtime_context().runtime_env.get("env_vars") or {}
    return found


def _gpus_here() -> float:
    if ray.is_initialized():
        return float(ray.cluster_resources().get("GPU", 0) > 0)
    import torch  # seconds to import, and only asked where nobody said

    return float(torch.cuda.is_available())
