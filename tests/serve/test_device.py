"""What computes, and how it is seen that it does not any more."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest import mock

import pytest

from serve.model.device import Device, Quit, in_thread
from serve.model.holding import Watch


def ends(error: type[BaseException]) -> Any:
    raise error


@pytest.fixture
def device() -> Device:
    return Device("cpu", 600, mock.Mock())


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_whatever_ends_a_process_ends_neither_thread_nor_loop_and_is_told(device, error):
    async def live() -> None:
        with pytest.raises(Quit, match=error.__name__):
            await in_thread(ends, error)
        for work in (lambda: ends(error), lambda: "the next"):
            with pytest.raises(Quit, match=error.__name__):
                await device.run(work)
        with pytest.raises(RuntimeError, match=error.__name__):
            device.check()

    asyncio.run(live())


def test_a_mistake_of_one_piece_of_work_costs_the_device_nothing(device):
    async def live() -> None:
        for error in (ValueError, MemoryError):
            with pytest.raises(error):
                await device.run(lambda error=error: ends(error))
        assert await device.run(lambda: 7) == 7
        await device.test()
        device.check()

    asyncio.run(live())


def test_a_device_is_sound_while_steps_come_and_not_once_they_stay_away(device, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("serve.model.holding.time.monotonic", lambda: now[0])
    watch = Watch(mock.Mock(), [], 2)

    def work(on_step: Any) -> None:
        now[0] += 599
        device.check()
        on_step("mask", 1)
        now[0] += 599
        device.check()
        now[0] += 2
        with pytest.raises(RuntimeError, match="no denoising step for 600 s"):
            device.check()

    asyncio.run(device.watched(watch, work))
    now[0] += 10000
    device.check()  # where nothing runs nothing is late
