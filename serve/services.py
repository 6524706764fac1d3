"""What the routes of the API work with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import Request

from serve.errors import ApiError
from serve.files import JobFiles
from serve.keys import owner_of
from serve.limits import Limits
from serve.orders import MaskOrder
from serve.settings import ServeSettings
from serve.store import JobStore


@dataclass
class Services:
    """Attributes:
    keys: fingerprints of the API keys; none where the service is open to all.
    wake: tells the dispatcher of a new job.
    predict_mask: the motion area as a PNG.
    detect_hands: the joints in a finished clip, as JSON.
    scrape: the service's figures in Prometheus' text format.
    accepting: False while the service drains: what was accepted is finished, nothing is taken.
    masks_waiting: orders of motion areas in this process.
    """

    settings: ServeSettings
    limits: Limits
    store: JobStore
    files: JobFiles
    keys: list[str]
    wake: Callable[[], object]
    predict_mask: Callable[[MaskOrder], Awaitable[bytes]]
    detect_hands: Callable[[str], Awaitable[bytes]]
    scrape: Callable[[], Awaitable[bytes]]
    accepting: bool = True
    masks_waiting: int = 0


def services(request: Request) -> Services:
    """Of the running application."""
    found: Services = request.app.state.services
    return found


def owner(request: Request) -> str:
    """Whose request this is: the fingerprint of its API key, "" where none is asked for.

    Raises:
        ApiError: 401.
    """
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    found = owner_of(key if scheme.lower() == "bearer" else None, services(request).keys)
    if found is None:
        raise ApiError(401, "no valid API key; send the header 'Authorization: Bearer KEY'")
    return found
