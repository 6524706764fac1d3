"""The motion area alone, for whoever wants to see or correct it before the clip is made."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from serve.errors import ApiError, documented
from serve.intake import read_mask_order
from serve.schemas import MULTIPART, MaskForm
from serve.services import Services, owner, services

router = APIRouter(tags=["masks"])


@router.post(
    "/v1/masks",
    response_class=Response,
    dependencies=[Depends(owner)],
    responses={
        200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}},
        **documented(400, 401, 404, 413, 429, 503),
    },
)
async def predict(
    form: Annotated[MaskForm, MULTIPART], ours: Annotated[Services, Depends(services)]
) -> Response:
    """Stage 1's answer: a grey PNG at the clip's size, white where hands may move.

    Sent back as `mask` of a video with the same fields, it gives the clip that the video would have
    had without it.
    """
    if not ours.accepting:
        raise ApiError(503, "the service is draining and takes no new jobs", retry_after_s=60)
    if ours.masks_waiting >= ours.settings.max_masks:
        raise ApiError(429, "too many motion areas are asked for; try again", retry_after_s=2)
    ours.masks_waiting += 1
    try:
        return Response(
            await ours.predict_mask(await read_mask_order(form, ours)), media_type="image/png"
        )
    finally:
        ours.masks_waiting -= 1
