"""The HTTP application: routes, errors and limits put together. It knows nothing of Ray."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import FastAPI
from starlette.middleware.body_limit import RequestBodyLimitMiddleware

from serve.http.bodies import most_bytes
from serve.http.contents import HeadAsGet
from serve.http.doorkeeper import Doorkeeper
from serve.http.errors import add_handlers
from serve.http.forms import FORMS
from serve.http.routes import about, masks, page, videos
from serve.http.services import Services


def build_api(services: Services) -> FastAPI:
    app = FastAPI(
        title="HANDI",
        version=version("handi"),
        description="From one picture and an instruction, a clip in which the hands do the action.",
        docs_url=None,  # of FastAPI, which load their scripts from elsewhere
        redoc_url=None,
    )
    app.state.services = services
    for routes in (videos, masks, about, page):
        app.include_router(routes.router)
    add_handlers(app)
    most = most_bytes(services.settings)
    app.add_middleware(RequestBodyLimitMiddleware, max_body_size=most)
    app.add_middleware(Doorkeeper, services=services, most_bytes=most)
    app.add_middleware(HeadAsGet)
    _complete_document(app)
    return app


def _complete_document(app: FastAPI) -> None:
    """FastAPI documents 422 for what is a 400 here, and knows nothing of keys and forms."""
    made = app.openapi()
    refusal = {
        "description": "Forbidden: a page of another site, or another host name.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorBody"}}},
    }
    for path in made["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
            operation["responses"]["403"] = refusal  # of the doorkeeper, whatever is asked
            if "401" in operation["responses"]:
                operation["security"] = [{"key": []}]
    made["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    for unused in ("HTTPValidationError", "ValidationError"):
        made["components"]["schemas"].pop(unused, None)
    for form in FORMS:
        made["components"]["schemas"][form.__name__] = form.model_json_schema()
    app.openapi_schema = made
