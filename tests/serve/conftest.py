"""The HTTP application without Ray: a store and files in a folder, a model that only answers."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

import handi_model.tiny
from pipelines.saved_model import SavedModel
from serve.files import JobFiles
from serve.http.api import build_api
from serve.http.decoding import Decoder
from serve.http.limits import Limits
from serve.http.services import Services
from serve.orders import MaskOrder
from serve.settings import ServeSettings
from serve.store import JobStore

TOKENIZER = Path(handi_model.tiny.__file__).parent / "tokenizer"

MODEL = SavedModel(
    url="file:///model",
    resolution=64,
    pixel_multiple=16,
    num_frames=16,
    num_inference_steps=25,
    guidance_scale=9.0,
    most_steps=1000,
    tokenizer=(TOKENIZER / "tokenizer.json").read_text(),
    longest_prompt=json.loads((TOKENIZER / "tokenizer_config.json").read_text())[
        "model_max_length"
    ],
)


def png(width: int = 80, height: int = 64, mode: str = "RGB") -> bytes:
    sink = io.BytesIO()
    Image.fromarray(
        np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    ).convert(mode).save(sink, "PNG")
    return sink.getvalue()


@pytest.fixture
def settings(tmp_path) -> ServeSettings:
    return ServeSettings(
        model="/model",
        store=f"sqlite:///{tmp_path}/jobs.db",
        results=str(tmp_path / "results"),
        max_queued=5,
        hosts=["testserver"],
    )


@pytest.fixture
def services(settings) -> Services:
    async def predict_mask(order: MaskOrder) -> bytes:
        return png(order.width, order.height, "L")

    async def detect_hands(result: str) -> bytes:
        return json.dumps({"clip": result}).encode()

    async def scrape() -> bytes:
        return b""

    return Services(
        settings=settings,
        limits=Limits(settings, MODEL, 1),
        store=JobStore(settings.store),
        files=JobFiles(settings.results),
        keys=[],
        wake=lambda: None,
        predict_mask=predict_mask,
        detect_hands=detect_hands,
        scrape=scrape,
        decoder=Decoder(lambda: ThreadPoolExecutor(1)),  # which needs no second to start
    )


@pytest.fixture
def client(services) -> TestClient:
    return TestClient(build_api(services), raise_server_exceptions=False)
