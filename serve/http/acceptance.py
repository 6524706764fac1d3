"""From what is asked for to a job that is written down: once, however often it is asked for."""

from __future__ import annotations

import asyncio
import hashlib
import json
from contextlib import suppress

from sqlalchemy.exc import DBAPIError
from starlette.datastructures import UploadFile

from serve.files import DRAWN, SCENE
from serve.http.errors import ApiError, draining
from serve.http.forms import VideoForm
from serve.http.intake import VideoOrder, read_video_order
from serve.http.references import data_of, is_data_url
from serve.http.services import Services
from serve.records import VideoJob

KEY_CHARACTERS = 255
"""Of an idempotency key, at most."""


async def accept(form: VideoForm, owner: str, ours: Services, key: str | None = None) -> VideoJob:
    """The job that does what is asked for, written down.

    Args:
        key: of the client's; a second request with it gets the first one's job, for as long as
            that is there. The client may have hung up before it read of the job, so that it
            stays; without a key nobody could find it.

    Raises:
        ApiError: for what cannot be met, and for a key under which something else was asked for.
    """
    hashed = None
    if key is not None:
        hashed = _sha256(key.encode())
        asked = await request_hash(form, ours.settings.max_image_bytes)
        if job := await _asked_before(owner, hashed, asked, ours):
            return job
    if not ours.accepting:
        raise draining()
    order = await read_video_order(form, owner, ours)
    if hashed:
        order.job.idempotency_key, order.job.request_hash = hashed, asked
    keeping = asyncio.create_task(asyncio.to_thread(_keep, order, ours))
    try:
        # Not cut short where the client hangs up: a thread goes on, and would go on unseen.
        accepted = await asyncio.shield(keeping)
    except asyncio.CancelledError:
        if not hashed:
            await asyncio.shield(asyncio.create_task(_forget(order.job, keeping, ours)))
        raise
    if accepted:
        wake(ours)
        return order.job
    if hashed and (job := await _asked_before(owner, hashed, asked, ours)):
        return job  # another request with the key was faster
    raise ApiError(
        429,
        f"{ours.settings.max_queued} jobs are waiting, which are the most; try again later",
        retry_after_s=await asyncio.to_thread(ours.store.seconds_a_job),
    )


async def request_hash(form: VideoForm, most_bytes: int) -> str:
    """SHA-256 of the fields as they are understood, and of the bytes of pictures that are sent.

    Neither the media type of the body nor the order of its fields makes a difference.

    Args:
        most_bytes: of a picture.
    """
    fields: dict[str, object] = {}
    for name in sorted(form.model_fields_set):
        value = getattr(form, name)
        if isinstance(value, UploadFile):
            fields[name] = {"sha256": _sha256(await value.read())}
            await value.seek(0)
        elif isinstance(value, str) and name in ("input_reference", "mask") and is_data_url(value):
            fields[name] = {"sha256": _sha256(data_of(name, value, most_bytes))}
        elif value is not None:
            fields[name] = value
    return _sha256(json.dumps(fields, sort_keys=True).encode())


def wake(ours: Services) -> None:
    """Tell the others; whoever does not hear it will look by itself."""
    with suppress(Exception):
        ours.wake()


async def _asked_before(owner: str, key: str, asked: str, ours: Services) -> VideoJob | None:
    job = await asyncio.to_thread(ours.store.asked_before, owner, key)
    if job and job.request_hash != asked:
        raise ApiError(
            409,
            "Idempotency-Key: something else was asked for under it; take a new key",
            "Idempotency-Key",
            code="idempotency_key_reused",
        )
    return job


async def _forget(job: VideoJob, keeping: asyncio.Task[bool], ours: Services) -> None:
    """Delete a job that nobody could find, once it is written down."""
    if await keeping:
        await asyncio.to_thread(ours.store.delete, job.id, job.owner)


def _keep(order: VideoOrder, ours: Services) -> bool:
    """Write down what was asked for; False, and nothing is kept, where the store refuses it."""
    accepted = kept = False
    try:
        # Files first: a job that is accepted can always be started.
        ours.files.write(order.job.id, SCENE, order.scene)
        if order.drawn:
            ours.files.write(order.job.id, DRAWN, order.drawn)
        accepted = ours.store.add(order.job, ours.settings.max_queued)
        key = order.job.idempotency_key
        if not accepted and key and not ours.store.asked_before(order.job.owner, key):
            # Whose key it was may be gone since.
            accepted = ours.store.add(order.job, ours.settings.max_queued)
        kept = accepted
    except DBAPIError as error:
        # Where the connection is lost over it, it may be accepted, and then needs its files.
        kept = error.connection_invalidated
        raise
    finally:
        if not kept:
            ours.files.remove(order.job.id)
    return accepted


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
