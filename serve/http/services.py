"""What the routes of the API work with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from fastapi import Request

from serve.files import JobFiles
from serve.http.decoding import Decoder
from serve.http.errors import ApiError
from serve.http.limits import Limits
from serve.orders import MaskOrder
from serve.settings import ServeSettings
from serve.store import JobStore


class Seats:
    """A bound on the requests that wait for the same thing."""

    def __init__(self, count: int) -> None:
        self.free = count

    @contextmanager
    def taken(self) -> Iterator[None]:
        """One of them; raises ApiError 429 where none is free."""
        if not self.free:
            raise ApiError(429, "too many such requests wait already; try again", retry_after_s=2)
        self.free -= 1
        try:
            yield
        finally:
            self.free += 1


@dataclass
class Services:
    """Attributes:
    keys: fingerprints of the API keys; none where the service is open to all.
    wake: tells the others that jobs came or went.
    predict_mask: the motion area as a PNG.
    detect_hands: the joints in a finished clip, by its folder, as JSON.
    scrape: the service's figures in Prometheus' text format.
    accepting: False while the service drains: what was accepted is finished, nothing is taken.
    model_seats: for requests of this process that wait for the model.
    clip_seats: for requests of this process that wait for their clip.
    decoder: opens strangers' pictures.
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
    decoder: Decoder = field(default_factory=Decoder)

    def __post_init__(self) -> None:
        self.model_seats = Seats(self.settings.max_masks)
        self.clip_seats = Seats(self.settings.max_waiting)


def services(request: Request) -> Services:
    """Of the running application."""
    found: Services = request.app.state.services
    return found


def owner(request: Request) -> str:
    """Whose request this is: the fingerprint of its API key, "" where none is asked for."""
    found: str = request.state.owner  # the doorkeeper let nobody else in
    return found
