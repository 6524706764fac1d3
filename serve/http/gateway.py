"""The deployment that takes requests: the HTTP application, and its ways to the others."""

from __future__ import annotations

import time
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.exceptions import RayError, RayTaskError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle

from pipelines.saved_model import SavedModel
from serve.figures import Scrape
from serve.files import JobFiles
from serve.http.api import build_api
from serve.http.errors import SOON_S, ApiError, log_incident
from serve.http.limits import Limits
from serve.http.services import Services
from serve.orders import MaskOrder
from serve.settings import ServeSettings
from serve.store import JobStore
from serve.sweeper import Sweeper


@serve.ingress()
class Gateway:
    def __init__(
        self,
        settings: ServeSettings,
        model: SavedModel,
        keys: list[str],
        generator: DeploymentHandle,
    ) -> None:
        store = JobStore(settings.store, settings.store_password_file)
        files = JobFiles(settings.results)
        self._sweeper = Sweeper(settings, store, files)

        def wake() -> None:
            self._sweeper.wake()
            # One replica hears of it, perhaps a busy one: the idle ones look by themselves.
            generator.wake.remote()

        async def predict_mask(order: MaskOrder) -> bytes:
            return await _answered(generator.mask.remote(order), "the motion area")

        async def detect_hands(result: str) -> bytes:
            return await _answered(generator.keypoints.remote(result), "the keypoints")

        self.services = Services(
            settings=settings,
            limits=Limits(settings, model, int(time.time())),
            store=store,
            files=files,
            keys=keys,
            wake=wake,
            predict_mask=predict_mask,
            detect_hands=detect_hands,
            scrape=Scrape(store.counts),
        )

    def __serve_build_asgi_app__(self) -> FastAPI:
        return build_api(self.services)

    async def check_health(self) -> None:
        """Raise where the gateway does only half of its work: Serve replaces it."""
        self._sweeper.check()

    def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Of the deploy config: `accepting: false` drains the service without a restart."""
        self.services.accepting = bool(user_config.get("accepting", True))


async def _answered(response: Any, what: str) -> bytes:
    """What the model gives, or 503; the reason that it does not is for the log."""
    try:
        data: bytes = await response
        return data
    except RayTaskError as error:
        incident = log_incident(error.cause or error, what)
        message = f"{what} could not be made; the service's log tells why under {incident}"
        raise ApiError(503, message, None, SOON_S, "server_error", incident) from None
    except (RayError, RayServeException):
        raise ApiError(503, f"{what}: the replica died; try again", None, SOON_S) from None
