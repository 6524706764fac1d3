import math
import re
import warnings
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handi_model.baselines.method import Made
from handi_model.metrics.intervals import Estimate
from handi_model.metrics.locality import optical_flow
from jobs.evaluation.page import best_methods, table, write_page
from jobs.evaluation.pictures import (
    STRIP_HEIGHT,
    Whisker,
    colour_wheel,
    flow_colours,
    full_colour,
    hand_strip,
    mean_flow,
    outlined,
    plain_strip,
    shown_frames,
    whiskers,
)
from jobs.evaluation.result import Result
from jobs.evaluation.shown_clips import find_measured, shown_clip
from pipelines.clip_files import encode_mp4
from pipelines.clip_rows import reference
from pipelines.drawing import LEFT, MASK_TINT
from pipelines.evaluation.clips import read_evaluation_set, real_clip
from pipelines.evaluation.columns import COLUMNS
from pipelines.evaluation.figures import Scores, write_scores
from pipelines.evaluation.made_files import Cost, write_made
from pipelines.evaluation.method_clip import read_method_clip
from pipelines.evaluation.networks import Origins
from pipelines.evaluation.plan import Planned
from pipelines.evaluation.protocol import PROTOCOL
from pipelines.evaluation.settings import EvaluateSettings, MethodSettings
from pipelines.evaluation.table import Efficiency
from pipelines.evaluation.views import SeenHands
from pipelines.report import picture
from tests.datasets import rendered_dataset
from tests.jobs.pages import Page, check_words_and_playing

CLIP_IDS = ["open_lid_1", "slide_cup_1", "stir_pan_2"]
NARRATIONS = ["open lid", "slide <b>cup</b> & smile", "stir pan"]
HS_ERRORS = {"open_lid_1": 0.01, "slide_cup_1": math.nan, "stir_pan_2": 0.03}
FRAMES = 4
BY_KEY = {column.key: column for column in COLUMNS}
KINDS = {"ours": "handi", "no mask": "handi", "clips": "folder", "real clip": "real"}
KINDS |= {"still frame": "still"}
SECTIONS = ["What was measured", "The tables", "Clips side by side", "What moves where"]
SECTIONS += ["Frame by frame"]


def estimate(value: float, reach: float = math.nan) -> Estimate:
    return Estimate(value, value - reach, value + reach, len(CLIP_IDS))


COST = Cost(1.0, 2.0, 3_000_000, "a core", 16, 64, 64)
MEASURED = {"ours": 3, "no mask": 3, "clips": 1, "real clip": 3, "still frame": 3}
ESTIMATES = {
    "ours": {"hs_err": estimate(0.012, 0.002), "jerk": estimate(0.4)},
    "no mask": {"hs_err": estimate(0.015, 0.001), "jerk": estimate(0.2)},
    "clips": {
        "hs_err": Estimate(math.nan, math.nan, math.nan, 0),
        "jerk": Estimate(0.9, math.nan, math.nan, 1),
    },
    "real clip": {"hs_err": estimate(0.0, 0.0), "jerk": estimate(0.5)},
    "still frame": {"hs_err": estimate(0.011, 0.001), "jerk": estimate(0.0)},
}


def scores(hs_err: float) -> Scores:
    recall = math.nan if math.isnan(hs_err) else 0.5
    figures = {"hs_err": hs_err, "recall": recall, "mask_iou": math.nan}
    joints = np.full((FRAMES, 42, 2), 0.5, np.float32)
    return Scores(figures, {}, SeenHands(joints, np.ones((FRAMES, 2), bool)), "")


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory):
    """What `write_page` is given: ours has made and scored all clips, the others some of them."""
    folder = tmp_path_factory.mktemp("evaluated")
    (folder / "data").mkdir()
    clips = read_evaluation_set(rendered_dataset(folder / "data", CLIP_IDS), None, None)
    clips = replace(clips, index=replace(clips.index, narrations=NARRATIONS))
    settings = EvaluateSettings(data=str(folder / "data"), output=str(folder), shown=3)
    planned = []
    for name, kind in KINDS.items():
        source = {"handi": {"model": "run/model"}, "folder": {"clips": "others"}}.get(kind, {})
        method = MethodSettings(name=name, kind=kind, **source)
        made = str(folder / "generated" / method.slug) if kind == "handi" else ""
        planned.append(Planned(method, method.slug, made, {}))
    ours, no_mask, others, real, _ = planned
    frames = np.random.default_rng(0).integers(0, 255, (FRAMES, 64, 64, 3)).astype(np.uint8)
    area = np.zeros((64, 64), bool)
    area[16:48, 16:48] = True
    for clip_id in CLIP_IDS:
        write_made(ours.made, clip_id, Made(frames, area, 0.1), COST, 8)
        for one in (ours, real):
            write_scores(f"{folder}/scores/{one.key}", clip_id, scores(HS_ERRORS[clip_id]))
    # Made and not scored, scored and broken since, and never made.
    write_made(no_mask.made, CLIP_IDS[0], Made(frames, None, None), COST, 8)
    (folder / "generated" / "no-mask" / f"{CLIP_IDS[1]}.npz").write_bytes(b"broken")
    write_scores(f"{folder}/scores/{no_mask.key}", CLIP_IDS[1], scores(0.02))
    video = folder / f"{CLIP_IDS[2]}.mp4"
    video.write_bytes(encode_mp4(frames, 8))
    others.elsewhere[CLIP_IDS[2]] = str(video)
    result = Result(
        clips={"epic-kitchens": 3},
        estimates={"epic-kitchens": ESTIMATES},
        measured={"epic-kitchens": MEASURED},
        efficiency={
            "ours": Efficiency(3_000_000, 1.25, 2.0, "a core", 3, FRAMES, 64, 64),
            "no mask": Efficiency(3_000_000, 1.5, 2.0, "a core", 1, FRAMES, 64, 64),
        },
        trained_on={"ours": 2, "no mask": 0, "clips": None},
        whole="ours",
        changes={"epic-kitchens": {"no mask": {"hs_err": Estimate(-0.2, -0.3, -0.1, 3)}}},
        without={"no mask": "mask"},
        frames=FRAMES,
        side=64,
        origins=Origins({"clip": "CLIP, SHA-256 0123abcd…"}, {"i3d": "no <file>"}, "feed1234"),
        problems=["no mask: open_lid_1: the hand detector died"],
        settings={},
    )
    return result, clips, planned, f"{folder}/scores", settings


@pytest.fixture(scope="module")
def html(evaluated) -> str:
    return write_page(*evaluated).decode()


def row_of(html: str, method: str, column: str) -> str:
    """The cell of a method's row in the table that has a column."""
    head, body = html.split(f">{BY_KEY[column].title}&nbsp;", 1)
    place = head.rsplit("<tr>", 1)[1].count('class="number"')
    row = re.search(
        rf'<tr[^>]*><th scope="row">{method}(?:<small>[^<]*</small>)?</th>(.*)</tr>', body
    )
    assert row
    return row[1].split('<td class="number">')[place]


def test_the_page_tells_what_was_measured_and_shows_tables_clips_flow_and_frames(html):
    assert Page(html).headings == SECTIONS
    for words in ("3 clips of 4 frames", f"Protocol {PROTOCOL}", "0123abcd", "feed1234"):
        assert words in html
    assert "<b>FVD, FVD in the area</b>" in html and "no &lt;file&gt;" in html
    assert "the hand detector died" in html


def test_the_page_is_one_file_that_fetches_nothing(html):
    page = Page(html)
    inside = [url for url in page.fetched if url.startswith("#")]
    assert {url[1:] for url in inside} <= page.places and inside
    assert all(url.startswith("data:") for url in {*page.fetched} - {*inside})
    assert not page.tags & {"script", "link", "iframe"}
    assert not re.search(r"url\(|@import", html)


def test_pictures_and_videos_have_words_and_videos_play_by_themselves(html):
    page = Page(html)
    check_words_and_playing(page)
    assert len(page.videos) == 3 + 3 + 1 + 1  # real, ours, without a mask, made elsewhere


def test_words_of_the_data_are_shown_as_they_are(html):
    assert "slide &lt;b&gt;cup&lt;/b&gt; &amp; smile" in html
    assert "<b>cup</b>" not in html


def test_clips_stand_by_the_worst_hand_error_of_the_first_method_and_those_without_one_last(html):
    assert Page(html).clips == ["stir pan", "open lid", "slide <b>cup</b> & smile"]


def test_so_many_clips_are_shown_as_was_asked_for(evaluated):
    *others, settings = evaluated
    one = write_page(*others, settings.model_copy(update={"shown": 1})).decode()
    assert Page(one).clips == ["stir pan"]
    none = Page(write_page(*others, settings.model_copy(update={"shown": 0})).decode())
    assert none.headings == SECTIONS and not none.videos


def test_a_clip_that_was_not_made_or_cannot_be_read_or_was_not_measured_is_said_to_be_so(html):
    for section in ("Clips side by side", "What moves where", "Frame by frame"):
        part = html.split(f"<h2>{section}</h2>")[1].split("<h2>")[0]
        assert part.count("There is no such clip.") == 3
        assert part.count("It cannot be read: ") == 1
    assert html.count("<small>HS-Err –, hand recall –, mask IoU –</small>") == 3
    assert "<small>HS-Err 0.03000, hand recall 0.500, mask IoU –</small>" in html


def test_a_clip_made_elsewhere_is_shown_as_it_is_measured(evaluated, tmp_path):
    """Beside padded clips the whole of a wide frame is padded, not its middle cut out."""
    _, clips, planned, scores, _ = evaluated
    padded = replace(clips, preprocessing={"fit": "pad"})
    ramp = np.linspace(0, 255, 96).astype(np.uint8)
    wide = np.broadcast_to(ramp[None, None, :, None], (FRAMES, 48, 96, 3)).copy()
    video = tmp_path / f"{CLIP_IDS[0]}.mp4"
    video.write_bytes(encode_mp4(wide, 8))
    others = replace(planned[2], elsewhere={CLIP_IDS[0]: str(video)})
    methods = find_measured(padded, [others], scores)
    real = real_clip(reference(padded.index, 0, None))
    measured = read_method_clip("folder", str(video), real, padded.fit)
    shown = shown_clip(padded, CLIP_IDS[0], methods, methods[0], 8)
    (view,) = shown["views"]
    assert (measured.frames[:, :8] == 0).all()
    assert view["strip"] == picture(plain_strip(measured.frames))


def test_without_any_scores_the_tables_stand_and_no_clip_is_shown(evaluated, tmp_path):
    result, clips, planned, _, settings = evaluated
    page = Page(write_page(result, clips, planned, str(tmp_path / "none"), settings).decode())
    assert page.headings == SECTIONS and not page.videos


def test_the_best_method_is_bold_and_floors_and_ceilings_never_are(html):
    assert "<b>0.01200</b>" in row_of(html, "ours", "hs_err")
    for method in ("no mask", "clips", "real clip", "still frame"):
        assert "<b>" not in row_of(html, method, "hs_err")
    assert "<small>0.01000 to 0.01400</small>" in row_of(html, "ours", "hs_err")
    assert row_of(html, "clips", "hs_err").startswith("–")
    assert html.count('<tr class="floor">') == 2 * 3  # of three tables


def test_fewer_clips_a_given_mask_and_a_clip_without_hands_win_nothing():
    kinds = {"ours": "handi", "baseline": "folder"}
    none, seldom = Estimate(math.nan, math.nan, math.nan, 0), Estimate(0.1, 0.1, 0.1, 1)
    for key, won in (
        ("fid", estimate(0.1)),
        ("mask_iou", estimate(1.0)),
        ("hs_err", none),
        ("hs_err", seldom),
        ("hs_err_area", seldom),
    ):
        found = {name: {key: estimate(0.9)} for name in ("ours", "other")}
        found["other"] = {key: estimate(0.8)}
        found["baseline"] = {key: won}
        fewer = ["baseline"] if key == "fid" else []
        own = {**kinds, "other": "folder"}
        assert "baseline" not in best_methods(BY_KEY[key], found, own, fewer)
    better = {"ours": {"fid": estimate(2.0)}, "baseline": {"fid": estimate(1.0)}}
    assert best_methods(BY_KEY["fid"], better, kinds) == {"baseline"}


def test_what_should_be_as_the_real_clips_is_best_when_it_is_nearest_to_them():
    assert best_methods(BY_KEY["jerk"], ESTIMATES, KINDS) == {"ours"}
    alone = {name: found for name, found in ESTIMATES.items() if name != "real clip"}
    assert best_methods(BY_KEY["jerk"], alone, KINDS) == set()


@given(st.lists(st.floats(0, 1), min_size=2, max_size=5), st.sampled_from(COLUMNS))
def test_no_method_is_printed_better_than_a_bold_one(values, column):
    names = [f"method {i}" for i in range(len(values))]
    found = {
        name: {column.key: estimate(value)}
        for name, value in zip([*names, "real clip"], [*values, 0.5], strict=True)
    }
    kinds = dict.fromkeys(names, "handi") | {"real clip": "real"}
    rows = table([column], found, kinds)["rows"][:-1]
    cells = [row["cells"][0] for row in rows]
    away = {"lower": float, "higher": lambda text: -float(text)}
    bad = away.get(column.better, lambda text: abs(float(text) - 0.5))
    bold = [bad(cell["value"]) for cell in cells if cell["best"]]
    step = 10.0**-column.digits
    shown = [bad(cell["value"]) for cell in cells]
    assert max(bold, default=max(shown)) <= min(shown) + 1.01 * step


def test_one_method_alone_or_all_alike_are_not_the_best_of_anything():
    alike = {name: {"hs_err": estimate(0.1)} for name in ("ours", "no mask")}
    assert best_methods(BY_KEY["hs_err"], alike, KINDS) == set()
    assert best_methods(BY_KEY["hs_err"], {"ours": {"hs_err": estimate(0.1)}}, KINDS) == set()


def test_a_method_that_was_measured_on_fewer_clips_is_said_to_be_so(html):
    assert html.count("<small>1 of 3 clips</small>") == 3  # in each table
    assert '<th scope="row">clips<small>1 of 3 clips</small></th>' in html


def test_the_papers_own_numbers_stand_apart_and_are_said_not_to_be_measured_here(html):
    apart = re.findall(r'<div class="paper">(.*?)</div>\s*</div>', html, re.DOTALL)
    assert len(apart) == 2  # its Table 2, its Table 1
    for block in apart:
        assert "The paper's own numbers, not measured here" in block
        assert "<b>" not in block
    assert "0.01512" in apart[0] and "8.64" in apart[1]
    for method in ("Open-Sora", "DynamiCrafter", "CogVideoX"):
        assert all(method in block for block in apart)
    measured = html
    for block in apart:
        measured = measured.replace(block, "")
    assert "0.01512" not in measured


def test_relative_changes_and_clips_that_were_trained_on_are_told(html):
    (head, tables) = html.split("<h2>The tables</h2>")
    assert "<b>Trained on clips of these tables: ours, on 2 of 3 clips." in head
    assert "Trained on none of these clips: no mask." in head
    assert "Not known whether trained on these clips: clips." in head
    part = tables.split("<h4>Relative changes</h4>")[1].split("</table>")[0]
    assert "without mask: no mask" in part and "the paper claims" in part
    assert "-20 % (-30 to -10)" in part and "-28 %" in part


def costs_of(html: str) -> dict[str, str]:
    """Method -> its row of the efficiency table."""
    part = html.split("<h3>Efficiency ")[1].split('<div class="paper">')[0]
    return dict(re.findall(r'<tr><th scope="row">([^<]*)</th>(.*)</tr>', part))


def test_times_stand_beside_the_frames_that_were_made_and_compete_among_the_same_alone(evaluated):
    result, *others = evaluated
    rows = costs_of(write_page(result, *others).decode())
    assert rows["ours"].startswith('<td class="number">4 at 64x64</td>')
    assert "<b>1.25</b>" in rows["ours"]
    larger = replace(result.efficiency["no mask"], num_frames=49, height=480, width=720)
    unlike = {**result.efficiency, "no mask": larger}
    rows = costs_of(write_page(replace(result, efficiency=unlike), *others).decode())
    assert ">49 at 480x720<" in rows["no mask"] and ">1.25<" in rows["ours"]
    assert "<b>" not in rows["ours"] + rows["no mask"]


def moved(pixels: int) -> np.ndarray:
    """A texture that moves to the right, or with a minus to the left."""
    noise = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    texture = cv2.GaussianBlur(noise, (0, 0), 2)
    texture = cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX)
    frames = [np.roll(texture, pixels * time, axis=1) for time in range(4)]
    return np.repeat(np.stack(frames)[..., None], 3, axis=3)


def hue_and_saturation(colours: np.ndarray) -> tuple[float, float]:
    """Of the middle, where nothing comes in from the sides: degrees, and in [0, 1]."""
    middle = colours[80:-80, 80:-80].reshape(-1, 3).mean(axis=0)
    hsv = cv2.cvtColor((middle / 255).astype(np.float32)[None, None], cv2.COLOR_RGB2HSV)
    return float(hsv[0, 0, 0]), float(hsv[0, 0, 1])


def test_motion_to_the_right_and_to_the_left_have_opposite_hues():
    right, left = (mean_flow(optical_flow(moved(pixels))) for pixels in (1, -1))
    full = full_colour(right)
    (hue, strong), (other, _) = (
        hue_and_saturation(flow_colours(one, full)) for one in (right, left)
    )
    assert strong > 0.5
    assert min(hue, 360 - hue) < 20
    assert abs(other - 180) < 20


def test_what_stands_still_is_white_and_twice_the_motion_is_the_stronger_colour():
    slow, fast = (mean_flow(optical_flow(moved(pixels))) for pixels in (1, 2))
    full = full_colour(fast)
    _, weak = hue_and_saturation(flow_colours(slow, full))
    _, strong = hue_and_saturation(flow_colours(fast, full))
    assert weak == pytest.approx(strong / 2, abs=0.15)
    still = mean_flow(optical_flow(moved(0)))
    assert (flow_colours(still, full_colour(still)) > 250).all()


def test_motion_there_and_back_is_shown_and_does_not_cancel_out():
    there = np.zeros((2, 4, 4, 2))
    there[0, ..., 0], there[1, ..., 0] = 3.0, -1.0
    mean = mean_flow(there)
    np.testing.assert_allclose(mean[..., 0], 2.0)
    np.testing.assert_allclose(mean[..., 1], 0.0)


def test_the_wheel_has_the_colour_of_a_direction_where_it_points():
    wheel, side = colour_wheel(65), 65
    right = flow_colours(np.array([[[1.0, 0.0]]]), 1.0)[0, 0]
    down = flow_colours(np.array([[[0.0, 1.0]]]), 1.0)[0, 0]
    # A channel at half of its range is rounded one way or the other.
    np.testing.assert_allclose(wheel[side // 2, -1], right.astype(int), atol=1)
    np.testing.assert_allclose(wheel[-1, side // 2], down.astype(int), atol=1)
    assert (wheel[side // 2, side // 2] == 255).all()


def test_an_outline_leaves_the_colours_inside_and_outside():
    white = np.full((64, 64, 3), 255, np.uint8)
    mask = np.zeros((16, 16), bool)
    mask[4:12, 4:12] = True
    drawn = outlined(white, mask)
    assert (drawn[32, 32] == 255).all() and (drawn[2, 2] == 255).all()
    assert (drawn[32, 16] < 100).all() and (white == 255).all()


def test_a_chart_is_drawn_of_names_that_are_long_or_look_like_formulas_and_without_intervals():
    rows = [
        Whisker("a method with a name " * 9, 0.2, 0.1, 0.3, False),
        Whisker("$x_{", 0.0, math.nan, math.nan, True),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chart = cv2.imdecode(np.frombuffer(whiskers("HS-Err ↓", rows), np.uint8), -1)
    assert (chart[..., 3] == 0).mean() > 0.5  # no ground of its own
    orange = (np.abs(chart[..., 2::-1].astype(int) - (217, 128, 50)).max(axis=2) < 8) & (
        chart[..., 3] == 255
    )
    # The interval takes up much of the chart: the names have left it the room.
    assert np.ptp(np.flatnonzero(orange.any(axis=0))) > 0.25 * chart.shape[1]


@given(st.integers(1, 40))
def test_a_strip_begins_with_the_first_frame_and_ends_with_the_last(count):
    shown = shown_frames(count)
    assert shown[0] == 0 and shown[-1] == count - 1
    assert shown == sorted(set(shown)) and len(shown) <= 6


def test_small_frames_are_enlarged_so_that_hands_can_be_seen():
    frames = np.zeros((4, 64, 48, 3), np.uint8)
    assert plain_strip(frames).shape == (STRIP_HEIGHT, 4 * 144 + 3 * 4, 3)


def test_the_motion_area_is_drawn_on_the_first_frame_alone_and_hands_where_they_are_found():
    frames = np.zeros((2, 64, 64, 3), np.uint8)
    area = np.ones((64, 64), bool)
    joints = np.full((2, 42, 2), 0.5, np.float32)
    detected = np.array([[False, False], [True, False]])
    drawn = hand_strip(frames, joints, detected, area)
    first, second = drawn[:, :STRIP_HEIGHT], drawn[:, -STRIP_HEIGHT:]
    middle = STRIP_HEIGHT // 2
    tint = (0.35 * np.array(MASK_TINT)).astype(np.uint8)
    np.testing.assert_array_equal(first[middle, middle], tint)
    np.testing.assert_array_equal(second[middle, middle], LEFT)
    assert not second[10, 10].any()
    assert not hand_strip(frames, None, None, None)[:, :STRIP_HEIGHT].any()
