"""The motion area alone, for whoever wants to see or correct it before the clip is made."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Response

from serve.http.bodies import body_as
from serve.http.contents import NOSNIFF
from serve.http.errors import ApiError, documented
from serve.http.forms import MaskForm, documented_body
from serve.http.intake import read_mask_order
from serve.http.services import Services, owner, services

router = APIRouter(tags=["masks"])


@router.post(
    "/v1/masks",
    response_class=Response,
    dependencies=[Depends(owner)],
    responses={
        200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}},
        **documented(400, 401, 404, 413, 415, 429, 503),
    },
    openapi_extra=documented_body(MaskForm),
)
async def predict(
    form: Annotated[MaskForm, Depends(body_as(MaskForm))],
    ours: Annotated[Services, Depends(services)],
) -> Response:
    """Stage 1's answer: a grey PNG at the clip's size, white where hands may move.

    Sent back as `mask` of a video with the same fields, it gives the clip that the video would have
    had without it.
    """
    if not ours.limits.model.uses_mask:
        served = ours.limits.described.id
        raise ApiError(400, f"model: {served!r} predicts no motion area; ask for the clip", "model")
    with ours.model_seats.taken():
        area = await ours.predict_mask(await read_mask_order(form, ours))
    return Response(area, media_type="image/png", headers=NOSNIFF)
