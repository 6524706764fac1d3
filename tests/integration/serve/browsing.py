"""The page in a real browser: opened, used and looked at."""

from __future__ import annotations

import base64
import io
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from pipelines.clip_files import encode_png

PATIENCE_S = 120
"""For what a model computes on a busy machine."""


@contextmanager
def chromium() -> Iterator[Browser]:
    program = shutil.which("chromium")
    if program is None:
        pytest.fail("the page's tests need a browser: install chromium (apt-get install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        expect.set_options(timeout=PATIENCE_S * 1000)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, url: str, folder: Path, **context: Any) -> Iterator[Page]:
    """The page in a context of its own; how it looked at the end stays in the folder."""
    with browser.new_context(**context) as own:
        page = own.new_page()
        page.set_default_timeout(PATIENCE_S * 1000)
        page.goto(url)
        expect(page.locator("#num_inference_steps")).not_to_have_value("")
        yield page
        page.screenshot(path=folder / "page.png", full_page=True)


def scene() -> bytes:
    ramp = np.linspace(40, 220, 96, dtype=np.uint8)
    return encode_png(np.stack(np.broadcast_arrays(ramp, ramp[:64, None], np.uint8(120)), -1))


def rectangle() -> NDArray[np.uint8]:
    """An area that covers the upper left quarter."""
    area = np.zeros((64, 64), np.uint8)
    area[:32, :32] = 255
    return area


def few_steps(page: Page, steps: int = 2) -> None:
    page.click("#settings summary")
    page.fill("#num_inference_steps", str(steps))
    page.fill("#mask_steps", "2")
    page.click("#settings summary")


def answer_masks(page: Page, area: NDArray[np.uint8]) -> None:
    """A prediction that is known, in place of the model's."""
    body = encode_png(area)
    page.route("**/v1/masks", lambda route: route.fulfill(body=body, content_type="image/png"))


def refuse(route: Route, status: int, message: str, headers: dict[str, str]) -> None:
    body = json.dumps({"error": {"type": "server_error", "message": message, "param": None}})
    route.fulfill(status=status, body=body, headers=headers, content_type="application/json")


def paint_and_fill(page: Page, prompt: str = "lift box") -> None:
    choose(page, scene())
    expect(page.locator("#stage")).to_be_visible()
    page.locator("#area").click()
    expect(page.locator("#area-state")).to_contain_text("Painted")
    page.fill("#prompt", prompt)


def generate(page: Page, drawn: bool, prompt: str = "lift box") -> None:
    paint_and_fill(page, prompt)
    page.click("#generate")
    expect(page.locator("#job-title")).to_have_text(prompt)


def stroke(page: Page, start: tuple[int, int], end: tuple[int, int]) -> None:
    """Draw with the mouse from one pixel of the clip to another."""
    page.locator("#area").scroll_into_view_if_needed()
    box = page.locator("#area").bounding_box()
    assert box
    scale = box["width"] / 64
    page.mouse.move(box["x"] + start[0] * scale, box["y"] + start[1] * scale)
    page.mouse.down()
    page.mouse.move(box["x"] + end[0] * scale, box["y"] + end[1] * scale, steps=4)
    page.mouse.up()


def record_mask(page: Page) -> None:
    """Keep what is sent as the mask: the browser does not show the bytes of uploaded files."""
    page.evaluate(
        """() => {
            const real = window.fetch;
            window.fetch = async (path, options) => {
                const mask = options?.body instanceof FormData && options.body.get("mask");
                if (mask) {
                    const bytes = new Uint8Array(await mask.arrayBuffer());
                    window.sentMask = btoa(String.fromCharCode(...bytes));
                }
                return real(path, options);
            };
        }"""
    )


def shown_area(page: Page) -> NDArray[np.bool_]:
    """(64, 64): where the page draws something over the picture."""
    page.evaluate("new Promise(requestAnimationFrame)")
    alpha = page.evaluate(
        """() => {
            const canvas = document.getElementById("area");
            const { width, height } = canvas;
            const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
            const scale = width / 64;
            return Array.from({ length: 64 * 64 }, (_, i) => {
                const [x, y] = [(i % 64) + 0.5, Math.floor(i / 64) + 0.5];
                return data[(Math.floor(y * scale) * width + Math.floor(x * scale)) * 4 + 3];
            });
        }"""
    )
    return np.array(alpha).reshape(64, 64) > 0


def job(page: Page) -> dict[str, Any]:
    """The job that the page's address names, as the service tells of it."""
    address, _, identity = page.url.partition("#")
    answer = page.request.get(f"{address.rstrip('/')}/v1/videos/{identity}")
    assert answer.ok, answer.text()
    told: dict[str, Any] = answer.json()
    return told


def entry(prompt: str) -> dict[str, Any]:
    """A finished job in a list, as far as the page looks at it."""
    identity = f"video_{prompt.encode().hex():0>32}"
    return {"id": identity, "prompt": prompt, "status": "completed", "created_at": 1_700_000_000}


def area_of_job(page: Page) -> NDArray[np.bool_]:
    address, _, identity = page.url.partition("#")
    answer = page.request.get(f"{address.rstrip('/')}/v1/videos/{identity}/content?variant=mask")
    return np.asarray(Image.open(io.BytesIO(answer.body())).convert("L")) > 127


def percent(page: Page) -> float:
    return float(page.evaluate("document.getElementById('job-bar').value"))


def tab_to(page: Page, identity: str) -> None:
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == identity:
            return
    raise AssertionError(f"Tab does not reach {identity}")


def expect_playing(page: Page) -> None:
    eventually(
        page, lambda: page.evaluate("document.querySelector('video').currentTime > 0"), "a clip"
    )


def eventually(page: Page, holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not come"
        page.wait_for_timeout(50)


def choose(page: Page, picture: bytes) -> None:
    page.set_input_files("#file", {"name": "s.png", "mimeType": "image/png", "buffer": picture})


def drop(page: Page, picture: bytes) -> None:
    data = page.evaluate_handle(
        """(base64) => {
            const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], "s.png", { type: "image/png" }));
            return data;
        }""",
        base64.b64encode(picture).decode(),
    )
    for event in ("dragenter", "dragover", "drop"):
        page.dispatch_event("#drop", event, {"dataTransfer": data})


def paste(page: Page, picture: bytes) -> None:
    page.evaluate(
        """(base64) => {
            const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], "s.png", { type: "image/png" }));
            const event = new ClipboardEvent("paste", { clipboardData: data, bubbles: true });
            document.body.dispatchEvent(event);
        }""",
        base64.b64encode(picture).decode(),
    )
