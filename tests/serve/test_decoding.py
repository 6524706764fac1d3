"""Strangers' pictures are decoded beside the gateway: nobody's request waits for another's."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from PIL import Image

from serve.http.decoding import FEW_PIXELS, Decoder
from serve.http.errors import ApiError
from serve.http.pictures import scene_png
from tests.serve.asking import ask
from tests.serve.conftest import png
from tests.serve.decoding_work import GATE, dying, own_process, refusing, waiting

MOST = 50_000_000
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    decoder = Decoder()
    yield decoder
    for lane in decoder._lanes.values():
        lane.shutdown()


def large() -> bytes:
    """Of few bytes and many pixels."""
    sink = io.BytesIO()
    Image.new("1", (7000, 7000)).save(sink, "PNG")
    assert len(sink.getvalue()) < 100_000 and FEW_PIXELS < 7000 * 7000 < MOST
    return sink.getvalue()


def test_a_large_picture_holds_up_no_small_one_and_nothing_of_the_gateway(tmp_path, decoder):
    gate = tmp_path / "gate"

    async def requests() -> None:
        for data in (png(), large()):  # or a lane's start would take the time of its first picture
            await decoder.decode(own_process, data, (64, 64), MOST)
        picture = large() + GATE + str(gate).encode()
        held = asyncio.create_task(decoder.decode(waiting, picture, (64, 64), MOST))
        for _ in range(3):
            small = await decoder.decode(scene_png, png(), (64, 64), MOST)
            assert Image.open(io.BytesIO(small)).size == (64, 64)
        assert not held.done(), "it was waited for"
        gate.touch()
        assert await held == b"waited"

    asyncio.run(requests())


def test_no_picture_is_decoded_in_the_gateways_process(decoder):
    async def processes() -> set[int]:
        return {
            int(await decoder.decode(own_process, data, (64, 64), MOST))
            for data in (png(), large())
        }

    found = asyncio.run(processes())
    assert len(found) == 2 and os.getpid() not in found


def test_a_refusal_comes_back_as_it_is(decoder):
    with pytest.raises(ValueError, match=r"^input_reference: the picture is broken$"):
        asyncio.run(decoder.decode(refusing, png(), (64, 64), MOST))


def test_a_decoder_that_dies_is_told_and_replaced(decoder):
    with pytest.raises(ApiError) as error:
        asyncio.run(decoder.decode(dying, png(), (64, 64), MOST))
    assert error.value.status == 503 and error.value.retry_after_s
    assert asyncio.run(decoder.decode(scene_png, png(), (64, 64), MOST))


def test_the_api_takes_its_pictures_there(client, services, decoder):
    services.decoder = decoder
    assert ask(client, mask=png(mode="L")).status_code == 200
    assert ask(client, picture=b"no picture").json()["error"]["param"] == "input_reference"


def test_decoders_end_with_a_gateway_that_is_killed():
    program = (
        "import asyncio, os, signal\n"
        "from serve.http.decoding import Decoder\n"
        "from tests.serve.decoding_work import own_process\n"
        "if __name__ == '__main__':\n"
        "    child = asyncio.run(Decoder().decode(own_process, b'', (64, 64), 1))\n"
        "    print(child.decode(), flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == -signal.SIGKILL, ran.stderr
    with suppress(psutil.NoSuchProcess):
        psutil.Process(int(ran.stdout)).wait(60)
