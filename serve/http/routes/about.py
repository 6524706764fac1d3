"""What the service says of itself: health, figures, models."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends, Response

from serve.http.errors import documented
from serve.http.intake import no_such_model
from serve.http.schemas import Health, Model, ModelList
from serve.http.services import Services, owner, services

router = APIRouter(tags=["service"])

Ours = Annotated[Services, Depends(services)]


@router.get("/health", responses=documented(503))
async def health(ours: Ours) -> Health:
    """Whether jobs are taken, and how many wait and run."""
    counts = await asyncio.to_thread(ours.store.counts)
    return Health(status="ok" if ours.accepting else "draining", **counts)


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}, **documented(503)},
)
async def metrics(ours: Ours) -> Response:
    """Figures of all replicas in Prometheus' text format."""
    return Response(await ours.scrape(), media_type="text/plain; version=0.0.4")


@router.get("/v1/models", dependencies=[Depends(owner)], responses=documented(401))
async def models(ours: Ours) -> ModelList:
    """The model that is served, its defaults and its bounds."""
    return ModelList(data=[ours.limits.described])


@router.get(
    "/v1/models/{model_id:path}", dependencies=[Depends(owner)], responses=documented(401, 404)
)
async def model(model_id: str, ours: Ours) -> Model:
    """One of the models."""
    if model_id != ours.limits.described.id:
        raise no_such_model(model_id, ours.limits.described.id)
    return ours.limits.described
