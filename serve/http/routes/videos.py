"""Video jobs, in the shape of OpenAI's Videos API."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from sqlalchemy.exc import SQLAlchemyError

from serve.files import VARIANTS
from serve.http.acceptance import KEY_CHARACTERS, accept, wake
from serve.http.bodies import body_as
from serve.http.contents import NOSNIFF, file_answer
from serve.http.errors import ApiError, documented
from serve.http.forms import VideoForm, documented_body
from serve.http.schemas import Deleted, Video, VideoList, video_of
from serve.http.services import Services, owner, services
from serve.keypoints import Keypoints
from serve.records import VideoJob

router = APIRouter(prefix="/v1/videos", tags=["videos"])

Ours = Annotated[Services, Depends(services)]
Owner = Annotated[str, Depends(owner)]
Form = Annotated[VideoForm, Depends(body_as(VideoForm))]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        min_length=1,
        max_length=KEY_CHARACTERS,
        description="Asked for again under the same key, the same fields and pictures give the "
        "same job, for as long as that is there.",
    ),
]

POLL_S = 0.1
"""How often a waiting request looks whether its clip is there."""
NO_RETRY = {"x-should-retry": "false"}
"""OpenAI's clients ask again after a 503 without it; under its key a failed job stays failed."""

TAKES_FORM = documented(400, 401, 404, 409, 413, 415, 429, 503)
BODY = documented_body(VideoForm)
ANY_FILE: dict[str, Any] = {
    "model": Keypoints,
    "content": {
        media: {"schema": {"type": "string", "format": "binary"}}
        for media in sorted({media for _, media in VARIANTS.values()} - {"application/json"})
    },
}


@router.post("", responses=TAKES_FORM, openapi_extra=BODY)
async def create(form: Form, owner: Owner, ours: Ours, key: Key = None) -> Video:
    """Accept a job. It outlives whatever runs it; ask for it by its id."""
    return video_of(await accept(form, owner, ours, key))


@router.post(
    "/sync",
    response_class=Response,
    responses={
        200: {"content": {"video/mp4": {"schema": {"type": "string", "format": "binary"}}}},
        **TAKES_FORM,
    },
    openapi_extra=BODY,
)
async def create_and_wait(form: Form, owner: Owner, ours: Ours, key: Key = None) -> Response:
    """Accept a job and answer with its clip.

    Who hangs up before that deletes the job, unless it has a key to ask for it again.
    """
    with ours.clip_seats.taken():
        job = await accept(form, owner, ours, key)
        try:
            found = await _ended(job, ours)
        except asyncio.CancelledError:
            if key is None:
                await asyncio.to_thread(ours.store.delete, job.id, owner)
            raise
    if not found:
        raise ApiError(404, f"{job.id} was deleted by another request")
    if found.status == "failed":
        why = f"{job.id} failed: {found.error_message}"
        raise ApiError(503, why, code=found.error_code, headers=NO_RETRY)
    name, media = VARIANTS["video"]
    data = await _file(found.result, name, ours)
    return Response(data, media_type=media, headers={**NOSNIFF, "Video-Id": job.id})


@router.get("", responses=documented(400, 401, 404, 503))
async def page(
    owner: Owner,
    ours: Ours,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(description="Id of the last job already seen.")] = None,
    order: Literal["asc", "desc"] = "desc",
) -> VideoList:
    """The jobs of this key, the newest first."""
    last = await _job(after, owner, ours) if after else None
    jobs = await asyncio.to_thread(ours.store.page, owner, limit + 1, last, order == "desc")
    shown = [video_of(job) for job in jobs[:limit]]
    return VideoList(
        data=shown,
        first_id=shown[0].id if shown else None,
        last_id=shown[-1].id if shown else None,
        has_more=len(jobs) > limit,
    )


@router.get("/{video_id}", responses=documented(400, 401, 404, 503))
async def retrieve(video_id: str, owner: Owner, ours: Ours, response: Response) -> Video:
    """A job as it stands."""
    response.headers["openai-poll-after-ms"] = "500"
    return video_of(await _job(video_id, owner, ours))


@router.delete("/{video_id}", responses=documented(400, 401, 404, 503))
async def delete(video_id: str, owner: Owner, ours: Ours) -> Deleted:
    """Remove a job and its files, whatever its state; it is 404 from then on.

    One that is queued is never started. The result of one in progress is dropped; a batch under way
    goes on for the others in it, and ends once none of its jobs is wanted.
    """
    job = await _job(video_id, owner, ours)
    await asyncio.to_thread(ours.store.delete, job.id, owner)
    wake(ours)
    return Deleted(id=job.id)


@router.get(
    "/{video_id}/content",
    response_class=Response,
    responses={
        200: ANY_FILE,
        206: {**ANY_FILE, "description": "The range of bytes that was asked for."},
        **documented(400, 401, 404, 409, 416, 429, 503),
    },
)
async def content(
    video_id: str,
    owner: Owner,
    ours: Ours,
    request: Request,
    variant: Literal["video", "gif", "mask", "keypoints", "input"] = "video",
) -> Response:
    """The clip, or another view of it; the input picture is there before the clip is."""
    job = await _job(video_id, owner, ours)
    name, media = VARIANTS[variant]
    if variant != "input" and job.status != "completed":
        why = f": {job.error_message}" if job.status == "failed" else ""
        code = job.error_code or "not_completed"
        raise ApiError(409, f"{job.id} is {job.status}{why}", code=code)
    place = job.id if variant == "input" else job.result
    if variant == "keypoints" and not await asyncio.to_thread(ours.files.has, place, name):
        with ours.model_seats.taken():
            data = await ours.detect_hands(place)
        if not await asyncio.to_thread(ours.store.get, job.id, owner):
            await asyncio.to_thread(ours.files.remove, job.id)  # deleted meanwhile
    else:
        data = await _file(place, name, ours)
    return file_answer(request, data, media, f"{job.id}-{name}")


async def _file(place: str, name: str, ours: Services) -> bytes:
    try:
        return await asyncio.to_thread(ours.files.read, place, name)
    except FileNotFoundError:
        raise ApiError(404, "the file is not there any more") from None


async def _ended(job: VideoJob, ours: Services) -> VideoJob | None:
    """The job once it has ended; None if it is deleted. A store that is away is asked again."""
    found: VideoJob | None = job
    while found and found.status in ("queued", "in_progress"):
        await asyncio.sleep(POLL_S)
        with suppress(SQLAlchemyError):
            found = await asyncio.to_thread(ours.store.get, job.id, job.owner)
    return found


async def _job(video_id: str, owner: str, ours: Services) -> VideoJob:
    """The owner's job; raises ApiError 404 for whatever is no id of one."""
    known = re.fullmatch(r"video_[0-9a-f]{32}", video_id)
    job = await asyncio.to_thread(ours.store.get, video_id, owner) if known else None
    if not job:
        raise ApiError(404, "there is no such video; it may have expired, or be another key's")
    return job
