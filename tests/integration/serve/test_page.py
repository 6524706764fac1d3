"""The page in a real browser, before the real service: the way to a clip, and clips made before."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Route, TimeoutError, expect

from pipelines.clip_files import encode_png
from tests.integration.serve.browsing import (
    answer_masks,
    area_of_job,
    choose,
    drop,
    entry,
    eventually,
    expect_playing,
    few_steps,
    generate,
    job,
    paste,
    percent,
    record_mask,
    rectangle,
    refuse,
    scene,
    shown_area,
    stroke,
    tab_to,
)

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("bring", [choose, drop, paste])
def test_a_picture_and_an_instruction_become_a_clip_that_plays(page, bring, tmp_path):
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    few_steps(page)
    bring(page, scene())
    with page.expect_response("**/v1/masks") as answer:
        page.fill("#prompt", "lift box")
    assert answer.value.ok
    expect(page.locator("#predicting")).to_be_hidden()

    page.click("#generate")
    expect_playing(page)
    assert page.evaluate("document.querySelector('video').loop")
    assert page.evaluate("document.querySelector('video').videoWidth") == 64
    expect(page.locator("#job-input img")).to_be_visible()
    with page.expect_download() as download:
        page.click("text=MP4")
    download.value.save_as(tmp_path / "clip.mp4")
    with av.open(str(tmp_path / "clip.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"
    assert complaints == []


def test_all_files_of_a_clip_can_be_downloaded(page):
    few_steps(page)
    generate(page, drawn=True)
    expect_playing(page)
    begins = {"MP4": b"", "GIF": b"GIF8", "Mask": b"\x89PNG", "Keypoints": b"{"}
    for name, magic in begins.items():
        with page.expect_download() as download:
            page.get_by_role("button", name=name, exact=True).click()
        assert Path(download.value.path()).read_bytes().startswith(magic)


def chooser_by(page, key: str):
    """What a key on the button opens; a busy browser may need it pressed once more."""
    for _ in range(3):
        try:
            with page.expect_file_chooser(timeout=30_000) as chooser:
                page.keyboard.press(key)
            return chooser.value
        except TimeoutError:
            continue
    raise AssertionError("the key opens no chooser")


def test_the_whole_path_goes_by_keyboard(page):
    few_steps(page)
    page.evaluate("document.activeElement.blur()")
    tab_to(page, "file")
    picture = {"name": "s.png", "mimeType": "image/png", "buffer": scene()}
    chooser_by(page, "Space").set_files(picture)
    expect(page.locator("#stage")).to_be_visible()
    tab_to(page, "area")
    expect(page.locator("#area")).to_have_accessible_description(re.compile("arrow keys"))
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Space")
    expect(page.locator("#area-state")).to_contain_text("Painted")
    tab_to(page, "prompt")
    page.keyboard.type("lift box")
    tab_to(page, "generate")
    page.keyboard.press("Enter")
    expect_playing(page)
    sent = area_of_job(page)
    assert sent[32, 28] and 0 < sent.mean() < 0.05


# The motion area


def test_the_predicted_area_appears_by_itself_over_the_picture(page):
    answer_masks(page, rectangle())
    choose(page, scene())
    page.fill("#prompt", "lift box")
    expect(page.locator("#area-state")).to_have_text("Predicted: 25 % of the picture may move.")
    shown = shown_area(page)
    assert shown[6:26, 6:26].all()
    assert not shown[:, 34:].any()
    assert not shown[34:].any()


def test_a_newer_instruction_supersedes_an_older_one(page):
    asked: list[Route] = []
    page.route("**/v1/masks", lambda route: asked.append(route))
    choose(page, scene())
    page.fill("#prompt", "lift box")
    eventually(page, lambda: len(asked) == 1, "a first request")
    page.fill("#prompt", "open lid")
    eventually(page, lambda: len(asked) == 2, "a second request")
    asked[1].fulfill(body=encode_png(rectangle()), content_type="image/png")
    asked[0].fulfill(body=encode_png(255 - rectangle()), content_type="image/png")
    expect(page.locator("#area-state")).to_have_text("Predicted: 25 % of the picture may move.")
    page.wait_for_timeout(200)
    assert not shown_area(page)[34:].any()


def test_a_late_prediction_does_not_overwrite_what_is_painted(page):
    asked: list[Route] = []
    page.route("**/v1/masks", lambda route: asked.append(route))
    choose(page, scene())
    page.fill("#prompt", "lift box")
    eventually(page, lambda: len(asked) == 1, "a request")
    stroke(page, (48, 48), (48, 48))
    asked[0].fulfill(body=encode_png(rectangle()), content_type="image/png")
    expect(page.locator("#area-state")).to_contain_text("Painted")
    page.wait_for_timeout(200)
    shown = shown_area(page)
    assert shown[48, 48] and not shown[:32, :32].any()


def test_what_the_brush_leaves_is_what_the_service_gets(page):
    answer_masks(page, rectangle())
    few_steps(page)
    choose(page, scene())
    page.fill("#prompt", "lift box")
    expect(page.locator("#area-state")).to_contain_text("Predicted")

    stroke(page, (48, 48), (56, 48))
    stroke(page, (48, 10), (56, 10))
    page.click("#undo")
    page.get_by_text("Erase", exact=True).click()
    stroke(page, (16, 16), (16, 16))
    expect(page.locator("#area-state")).to_contain_text("Painted")
    record_mask(page)
    page.click("#generate")
    expect(page.locator("#job-title")).to_have_text("lift box")

    png = Image.open(io.BytesIO(base64.b64decode(page.evaluate("window.sentMask"))))
    assert png.size == (64, 64)
    assert png.convert("RGBA").getchannel("A").getextrema() == (255, 255)
    sent = np.asarray(png.convert("L"))
    assert set(np.unique(sent)) == {0, 255}
    assert sent[4, 4] and sent[28, 28], "the prediction, where it was not corrected"
    assert sent[48, 48:56].all(), "painted"
    assert not sent[8:12, 40:].any(), "painted, and undone"
    assert not sent[16, 16], "erased"

    expect_playing(page)
    assert np.array_equal(area_of_job(page), sent > 0), "the clip moves where it was painted"
    page.check("#job-show-area")
    expect(page.locator("#job-area")).to_be_visible()


def test_a_cleared_area_is_left_to_the_service(page):
    answer_masks(page, rectangle())
    few_steps(page)
    choose(page, scene())
    page.fill("#prompt", "lift box")
    expect(page.locator("#area-state")).to_contain_text("Predicted")
    page.click("#clear")
    page.click("#generate")
    expect(page.locator("#job-title")).to_have_text("lift box")
    assert job(page)["mask_steps"] == 2


def test_the_picture_is_cut_as_the_service_cuts_it(page):
    few_steps(page)
    wide = np.zeros((64, 192, 3), np.uint8)
    wide[:, 64:128] = 255
    choose(page, encode_png(wide))
    shot = np.asarray(Image.open(io.BytesIO(page.locator("#stage").screenshot())).convert("L"))
    inner = shot[shot.shape[0] // 2, 12:-12]
    assert inner.min() > 245, "only the middle of the picture is in the stage"


# Jobs


def test_a_reload_in_mid_job_comes_back_to_it(page):
    few_steps(page, steps=40)
    generate(page, drawn=True)
    expect(page.locator("#job-bar")).to_be_visible()
    identity = job(page)["id"]
    page.reload()
    expect(page.locator("#job-title")).to_have_text("lift box")
    assert job(page)["id"] == identity
    eventually(page, lambda: 0 < percent(page) < 100, "progress after the reload")
    expect(page.locator("#job-step")).to_contain_text(re.compile(r"Clip: step \d+ of 40\."))
    expect_playing(page)
    expect(page.locator("#job-bar")).to_be_hidden()


def test_earlier_jobs_are_listed_opened_and_deleted(page, service):
    few_steps(page)
    generate(page, drawn=True, prompt="stir pan slowly")
    identity = job(page)["id"]
    expect_playing(page)
    page.goto(service.url)
    page.reload()
    entry = page.locator(f'#history-list a[href="#{identity}"]')
    expect(entry).to_contain_text("stir pan slowly")
    expect(entry).to_contain_text("Done")
    expect(entry.locator("img")).to_be_visible()

    entry.click()
    expect_playing(page)
    page.click("#job-delete")
    page.locator("#delete-dialog").get_by_role("button", name="Delete").click()
    expect(entry).to_have_count(0)
    expect(page.locator("#job")).to_be_hidden()
    assert page.request.get(f"{service.url}/v1/videos/{identity}").status == 404


def test_a_clip_can_be_started_from_an_earlier_one(page):
    few_steps(page)
    generate(page, drawn=True)
    expect_playing(page)
    area = area_of_job(page)
    assert 0 < area.mean() < 0.05
    page.reload()
    expect_playing(page)  # until the clip has its place, the button moves
    page.click("#job-reuse")
    expect(page.locator("#prompt")).to_have_value("lift box")
    expect(page.locator("#seed")).to_have_value(str(job(page)["seed"]))
    eventually(page, lambda: np.array_equal(shown_area(page), area), "the area that was painted")


def test_the_picture_chosen_last_is_the_one_that_is_used(page):
    held: list[Route] = []

    def hold(route: Route) -> None:
        if route.request.resource_type == "fetch":
            held.append(route)
        else:
            route.continue_()  # the small picture on the button

    page.route("**/examples/*.png", hold)
    page.locator("#examples button").first.click()
    eventually(page, lambda: len(held) == 1, "the example's request")
    choose(page, scene())
    expect(page.locator("#stage")).to_be_visible()
    held[0].continue_()
    page.wait_for_timeout(300)
    assert page.evaluate("document.getElementById('picture').naturalWidth") == 96
    expect(page.locator("#prompt")).to_have_value("")


def test_load_more_goes_on_past_a_job_that_was_deleted_elsewhere(page):
    def list_jobs(route: Route) -> None:
        query = route.request.url.partition("?")[2]
        if "after=" not in query:
            listed, more = [entry("first"), entry("deleted")], True
        elif f"after={entry('deleted')['id']}" in query:
            return refuse(route, 404, "no such video", {})
        else:
            listed, more = [entry("last")], False
        page_of = {"object": "list", "data": listed, "has_more": more}
        route.fulfill(json={**page_of, "first_id": listed[0]["id"], "last_id": listed[-1]["id"]})

    page.route("**/v1/videos?*", list_jobs)
    page.reload()
    expect(page.locator("#history-list li")).to_have_count(2)
    page.click("#more")
    expect(page.locator("#history-list .title")).to_have_text(["first", "last"])
    expect(page.locator("#history-error")).to_be_empty()
    expect(page.locator("#more")).to_be_hidden()


def test_a_job_that_is_no_longer_there_is_said_so(page, service):
    page.goto(f"{service.url}/#video_{'0' * 32}")
    expect(page.locator("#job-error")).to_have_text("This clip is not there, or not any more.")
