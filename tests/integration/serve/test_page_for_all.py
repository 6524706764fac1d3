"""The page in a real browser, when things go wrong, on any screen, for anyone."""

from __future__ import annotations

import io

import pytest
from PIL import Image
from playwright.sync_api import Route, expect

from tests.integration.serve.browsing import (
    choose,
    eventually,
    expect_playing,
    few_steps,
    generate,
    opened,
    paint_and_fill,
    refuse,
    scene,
    shown_area,
)

pytestmark = pytest.mark.slow


# Errors in words


def test_a_file_that_is_no_picture_is_refused_where_it_was_chosen(page):
    text = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"eggs"}
    page.set_input_files("#file", text)
    expect(page.locator("#file-error")).to_contain_text('"notes.txt" is not a picture')
    expect(page.locator("#file-error")).to_have_attribute("role", "alert")
    expect(page.locator("#stage")).to_be_hidden()


def test_what_the_service_refuses_is_said_beside_the_field_at_fault(page):
    bitmap = io.BytesIO()
    Image.open(io.BytesIO(scene())).save(bitmap, "BMP")  # a browser opens it, the service does not
    choose(page, bitmap.getvalue())
    page.fill("#prompt", "lift box")
    expect(page.locator("#file-error")).to_contain_text("JPEG, PNG or WebP")
    expect(page.locator("#file-error")).not_to_contain_text("{")

    choose(page, scene())
    page.click("#settings summary")
    page.fill("#size", "100x100")
    page.click("#generate")
    expect(page.locator("#size-error")).to_contain_text("multiple of")
    expect(page.locator("#size")).to_have_attribute("aria-invalid", "true")
    page.fill("#size", "64x64")
    page.click("#predict")
    expect(page.locator("#size-error")).to_be_empty()


def test_what_is_missing_is_asked_for(page):
    page.click("#generate")
    expect(page.locator("#file-error")).to_have_text("Choose a picture first.")
    choose(page, scene())
    page.click("#generate")
    expect(page.locator("#prompt-error")).to_have_text("Say what the hands are to do.")
    expect(page.locator("#prompt")).to_be_focused()


def test_a_picture_whose_file_is_too_large_is_not_sent(page):
    sent: list[str] = []
    page.on("request", lambda asked: sent.append(asked.url) if asked.method == "POST" else None)
    large = page.request.get(f"{page.url}v1/models").json()["data"][0]["max_image_bytes"] + 1
    choose(page, scene().ljust(large, b"\0"))
    page.fill("#prompt", "lift box")
    page.click("#generate")
    expect(page.locator("#file-error")).to_contain_text("too large: at most")
    assert sent == []


def test_a_busy_service_is_tried_again(page):
    few_steps(page)
    answers = [("1", "the queue is full")]

    def busy_once(route: Route) -> None:
        if route.request.method == "POST" and answers:
            refuse(route, 503, answers[0][1], {"Retry-After": answers.pop()[0]})
        else:
            route.continue_()

    page.route("**/v1/videos", busy_once)
    paint_and_fill(page)
    page.click("#generate")
    expect(page.locator("#generate-error")).to_contain_text("The queue is full. Trying again in")
    expect(page.locator("#job-title")).to_have_text("lift box")
    expect(page.locator("#generate-error")).to_be_empty()


def test_waiting_for_a_busy_service_can_be_cancelled(page):
    few_steps(page)
    page.route("**/v1/videos", lambda route: refuse(route, 429, "too many", {"Retry-After": "90"}))
    paint_and_fill(page)
    page.click("#generate")
    page.locator("#generate-error").get_by_role("button", name="Cancel").click()
    expect(page.locator("#generate-error")).to_be_empty()
    expect(page.locator("#generate")).to_have_text("Generate")
    expect(page.locator("#job")).to_be_hidden()


def test_a_job_is_followed_through_an_outage_and_again_after_it(page):
    few_steps(page, steps=40)
    generate(page, drawn=True)
    expect(page.locator("#job-bar")).to_be_visible()
    failures = [500, 502, 418]

    def fail(route: Route) -> None:
        if failures:
            refuse(route, failures.pop(0), "not now", {})
        else:
            route.continue_()

    page.route("**/v1/videos/video_*", fail)
    expect(page.locator("#job-error")).to_have_text("Not now. Trying again.")
    expect(page.locator("#job-error")).to_have_text("Not now.")  # not an outage: it stops
    expect(page.locator("#job-bar")).to_be_hidden()

    page.locator('#history-list a[aria-current="true"]').click()
    expect_playing(page)
    expect(page.locator("#job-error")).to_be_empty()


def test_a_service_with_keys_is_given_the_users(browser, service, tmp_path):
    def guarded(route: Route) -> None:
        if route.request.headers.get("authorization") == "Bearer sesame":
            headers = {k: v for k, v in route.request.headers.items() if k != "authorization"}
            route.continue_(headers=headers)
        else:
            refuse(route, 401, "a valid API key is needed", {})

    with browser.new_context() as own:
        page = own.new_page()
        page.route("**/v1/**", guarded)
        page.goto(service.url)
        page.fill("#key", "\N{SNOWMAN}")
        page.keyboard.press("Enter")
        expect(page.locator("#key-error")).to_contain_text("cannot be a key")
        page.click("#key-cancel")
        page.locator("#history-error").get_by_role("button", name="Enter the key").click()
        page.fill("#key", "mellon")
        page.keyboard.press("Enter")
        expect(page.locator("#key-error")).to_have_text("The service did not accept this key.")
        page.fill("#key", "sesame")
        page.keyboard.press("Enter")
        expect(page.locator("#num_inference_steps")).not_to_have_value("")
        page.reload()
        expect(page.locator("#num_inference_steps")).not_to_have_value("")
        expect(page.locator("#key-dialog")).to_be_hidden()


def test_a_model_that_becomes_known_late_takes_nothing_from_the_user(browser, service):
    answers = [503]

    def fail_first(route: Route) -> None:
        if answers:
            refuse(route, answers.pop(), "starting", {"Retry-After": "2"})
        else:
            route.continue_()

    with browser.new_context() as own:
        page = own.new_page()
        page.route("**/v1/models", fail_first)
        page.goto(service.url)
        choose(page, scene())
        expect(page.locator("#stage")).to_be_visible()
        expect(page.locator("#generate-error")).to_contain_text("Starting. Trying again in")
        expect(page.locator("#area")).to_be_hidden()  # its pixels are not known yet
        expect(page.locator("#tools")).to_be_hidden()
        page.fill("#prompt", "lift box")

        expect(page.locator("#area-state")).to_contain_text("Predicted")
        expect(page.locator("#prompt")).to_have_value("lift box")
        expect(page.locator("#tools")).to_be_visible()
        expect(page.locator("#generate-error")).to_be_empty()


# Any screen, anyone


@pytest.mark.parametrize("width", [390, 360])
def test_a_phone_shows_everything_without_scrolling_sideways(browser, service, tmp_path, width):
    phone = {"viewport": {"width": width, "height": 800}, "has_touch": True, "is_mobile": True}
    with opened(browser, service.url, tmp_path, **phone) as page:
        few_steps(page)
        generate(page, drawn=True, prompt="lift the box that stands on the striped tablecloth")
        expect_playing(page)
        closed = page.locator("details:not([open]) > summary")
        while closed.count():
            closed.first.click()
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_finger_paints(browser, service, tmp_path):
    phone = {"viewport": {"width": 390, "height": 800}, "has_touch": True, "is_mobile": True}
    with opened(browser, service.url, tmp_path, **phone) as page:
        choose(page, scene())
        page.locator("#area").tap()
        expect(page.locator("#area-state")).to_contain_text("Painted")
        assert shown_area(page)[32, 32]


def test_nothing_moves_unasked_for_who_wants_less_motion(browser, service, tmp_path):
    with opened(browser, service.url, tmp_path, reduced_motion="reduce") as page:
        few_steps(page)
        generate(page, drawn=True)
        ready = "document.querySelector('video').readyState >= 2"
        eventually(page, lambda: page.evaluate(ready), "a clip that is loaded")
        assert page.evaluate("document.querySelector('video').paused")
