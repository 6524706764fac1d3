"""Video jobs, in the shape of OpenAI's Videos API."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Response
from sqlalchemy.exc import SQLAlchemyError

from serve.files import DRAWN, SCENE, VARIANTS
from serve.http.errors import ApiError, documented
from serve.http.intake import VideoOrder, read_video_order
from serve.http.schemas import MULTIPART, Deleted, Video, VideoForm, VideoList, video_of
from serve.http.services import Services, owner, services
from serve.keypoints import Keypoints
from serve.records import VideoJob

router = APIRouter(prefix="/v1/videos", tags=["videos"])

Ours = Annotated[Services, Depends(services)]
Owner = Annotated[str, Depends(owner)]

POLL_S = 0.1
"""How often a waiting request looks whether its clip is there."""

TAKES_FORM = documented(400, 401, 404, 413, 429, 503)
ANY_FILE: dict[str, Any] = {
    "model": Keypoints,
    "content": {
        media: {"schema": {"type": "string", "format": "binary"}}
        for media in sorted({media for _, media in VARIANTS.values()} - {"application/json"})
    },
}


@router.post("", responses=TAKES_FORM)
async def create(form: Annotated[VideoForm, MULTIPART], owner: Owner, ours: Ours) -> Video:
    """Accept a job. It outlives whatever runs it; ask for it by its id."""
    return video_of(await _accept(form, owner, ours))


@router.post(
    "/sync",
    response_class=Response,
    responses={
        200: {"content": {"video/mp4": {"schema": {"type": "string", "format": "binary"}}}},
        **TAKES_FORM,
    },
)
async def create_and_wait(
    form: Annotated[VideoForm, MULTIPART], owner: Owner, ours: Ours
) -> Response:
    """Accept a job and answer with its clip. Who hangs up before that deletes the job."""
    with ours.clip_seats.taken():
        job = await _accept(form, owner, ours)
        try:
            found = await _ended(job, ours)
        except asyncio.CancelledError:
            await asyncio.to_thread(ours.store.delete, job.id, owner)
            raise
    if not found:
        raise ApiError(404, f"{job.id} was deleted by another request")
    if found.status == "failed":
        raise ApiError(503, f"{job.id} failed: {found.error_message}", retry_after_s=1)
    name, media = VARIANTS["video"]
    data = await asyncio.to_thread(ours.files.read, found.result, name)
    return Response(data, media_type=media, headers={"Video-Id": job.id})


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
    _wake(ours)
    return Deleted(id=job.id)


@router.get(
    "/{video_id}/content",
    response_class=Response,
    responses={200: ANY_FILE, **documented(400, 401, 404, 409, 429, 503)},
)
async def content(
    video_id: str,
    owner: Owner,
    ours: Ours,
    variant: Literal["video", "gif", "mask", "keypoints", "input"] = "video",
) -> Response:
    """The clip, or another view of it; the input picture is there before the clip is."""
    job = await _job(video_id, owner, ours)
    name, media = VARIANTS[variant]
    if variant != "input" and job.status != "completed":
        why = f": {job.error_message}" if job.status == "failed" else ""
        raise ApiError(409, f"{job.id} is {job.status}{why}")
    place = job.id if variant == "input" else job.result
    if variant == "keypoints" and not await asyncio.to_thread(ours.files.has, place, name):
        with ours.model_seats.taken():
            data = await ours.detect_hands(place)
        if not await asyncio.to_thread(ours.store.get, job.id, owner):
            await asyncio.to_thread(ours.files.remove, job.id)  # deleted meanwhile
    else:
        data = await asyncio.to_thread(ours.files.read, place, name)
    file = f'inline; filename="{job.id}-{name}"'
    return Response(data, media_type=media, headers={"Content-Disposition": file})


async def _ended(job: VideoJob, ours: Services) -> VideoJob | None:
    """The job once it has ended; None if it is deleted. A store that is away is asked again."""
    found: VideoJob | None = job
    while found and found.status in ("queued", "in_progress"):
        await asyncio.sleep(POLL_S)
        with suppress(SQLAlchemyError):
            found = await asyncio.to_thread(ours.store.get, job.id, job.owner)
    return found


def _wake(ours: Services) -> None:
    """Tell the others; whoever does not hear it will look by itself."""
    with suppress(Exception):
        ours.wake()


async def _accept(form: VideoForm, owner: str, ours: Services) -> VideoJob:
    order = await read_video_order(form, owner, ours)
    keeping = asyncio.create_task(asyncio.to_thread(_keep, order, ours))
    try:
        # Not cut short where the client hangs up: a thread goes on, and would go on unseen.
        accepted = await asyncio.shield(keeping)
    except asyncio.CancelledError:
        await keeping
        await asyncio.to_thread(ours.store.delete, order.job.id, owner)
        raise
    if not accepted:
        raise ApiError(
            429,
            f"{ours.settings.max_queued} jobs are waiting, which are the most; try again later",
            retry_after_s=await asyncio.to_thread(ours.store.seconds_a_job),
        )
    _wake(ours)
    return order.job


def _keep(order: VideoOrder, ours: Services) -> bool:
    """Write down what was asked for; False, and nothing is kept, where too many jobs wait."""
    accepted = False
    try:
        # Files first: a job that is accepted can always be started.
        ours.files.write(order.job.id, SCENE, order.scene)
        if order.drawn:
            ours.files.write(order.job.id, DRAWN, order.drawn)
        accepted = ours.store.add(order.job, ours.settings.max_queued)
    finally:
        if not accepted:
            ours.files.remove(order.job.id)
    return accepted


async def _job(video_id: str, owner: str, ours: Services) -> VideoJob:
    """The owner's job; raises ApiError 404 for whatever is no id of one."""
    known = re.fullmatch(r"video_[0-9a-f]{32}", video_id)
    job = await asyncio.to_thread(ours.store.get, video_id, owner) if known else None
    if not job:
        raise ApiError(404, "there is no such video; it may have expired, or be another key's")
    return job
