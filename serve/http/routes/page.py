"""The page for people, the scenes that they can try it with, and the API's reference."""

from __future__ import annotations

import mimetypes
from pathlib import Path

from fastapi import APIRouter, Request, Response

from pipelines.rendered.scenes import SCENES, first_frame
from serve.http.errors import ApiError, documented
from serve.http.reference import reference_page
from serve.http.schemas import Example

router = APIRouter(include_in_schema=False)

PAGE = Path(__file__).parents[2] / "page"
# Nothing is loaded from elsewhere, and no script but the page's own runs.
SAFE = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


@router.get("/")
def index() -> Response:
    return page_file("index.html")


@router.get("/page/{name}")
def page_file(name: str) -> Response:
    # Looked up among the names that are there: a name is never made into a path.
    known = {path.name: path for path in PAGE.iterdir() if path.is_file()}
    if name not in known:
        raise ApiError(404, f"the page has no {name}")
    media = mimetypes.guess_type(name)[0]
    return Response(known[name].read_bytes(), media_type=media, headers=SAFE)


@router.get("/examples")
def examples() -> list[Example]:
    return [
        Example(name=name, prompt=prompt, url=f"/examples/{name}.png")
        for name, prompt in SCENES.items()
    ]


@router.get("/examples/{file}", responses=documented(404))
def example(file: str) -> Response:
    name = file.removesuffix(".png")
    if name not in SCENES:
        raise ApiError(404, f"there is no example {name}")
    return Response(first_frame(name), media_type="image/png")


@router.get("/docs")
def docs(request: Request) -> Response:
    page = reference_page(request.app.openapi())
    return Response(page, media_type="text/html", headers=SAFE)
