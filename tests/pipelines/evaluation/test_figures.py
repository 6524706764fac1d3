import math
from dataclasses import replace

import numpy as np
import pytest

from handi_model.baselines.method import Made
from handi_model.metrics.hand_error import hand_error
from handi_model.metrics.smoothness import joint_jerk
from pipelines.evaluation.clips import RealClip
from pipelines.evaluation.columns import COLUMNS, LOCALITY
from pipelines.evaluation.figures import Scores, Texts, figures, read_scores, write_scores
from pipelines.evaluation.views import SeenHands, View

FRAMES = 5
NOTHING = Texts(None, None)


def unit(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def hands(seed: int, shown: bool = True) -> SeenHands:
    joints = np.random.default_rng(seed).random((FRAMES, 42, 2)).astype(np.float32)
    return SeenHands(joints, np.full((FRAMES, 2), shown))


def seen(seed: int) -> View:
    flow = np.zeros((FRAMES - 1, 32, 32, 2), np.float32)
    flow[:, :16, :16, 0] = 2
    return View(
        hands(seed),
        hands(seed + 50),
        flow,
        {"inception": unit(FRAMES, 6, seed=seed)},
        unit(FRAMES, 8, seed=seed + 1),
        unit(12, seed=seed + 2),
        "a hand",
    )


def real() -> RealClip:
    mask = np.zeros((16, 16), bool)
    mask[:8, :8] = True
    frames = np.random.default_rng(9).integers(0, 256, (FRAMES, 16, 16, 3)).astype(np.uint8)
    return RealClip("clip", "lift box", frames, mask)


def made() -> Made:
    frames = np.repeat(real().frames[:1], FRAMES, axis=0)
    frames[:, 12:] = np.clip(frames[:, 12:].astype(int) + 51, 0, 255)
    area = np.zeros((16, 16), bool)
    area[:8, :4] = True
    return Made(frames, area, 0.25)


def texts(seed: int) -> Texts:
    return Texts(unit(8, seed=seed), unit(12, seed=seed + 1))


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def found(**changes: View | Made) -> dict[str, float]:
    given = {"made": made(), "seen": seen(0), "real": real(), "seen_real": seen(100)} | changes
    return figures(**given, instruction=texts(200), caption=texts(300))  # type: ignore[arg-type]


def test_a_clip_has_every_figure_that_is_its_own():
    assert set(found()) == {column.key for column in COLUMNS if column.features is None}


def test_hands_are_measured_on_the_frames_and_around_the_motion_area():
    one, other = seen(0), seen(100)
    got = found()
    for key, where in (("hs_err", "hands"), ("hs_err_area", "in_area")):
        a, b = getattr(one, where), getattr(other, where)
        error = hand_error(a.joints, a.visible, b.joints, b.visible)
        assert got[key] == pytest.approx(error.hs_err)
    assert got["jerk"] == pytest.approx(joint_jerk(one.hands.joints, one.hands.visible))
    assert (got["recall"], got["precision"]) == (1, 1)
    assert got["hs_err"] != pytest.approx(got["hs_err_area"])


def test_where_the_real_clip_shows_no_hands_there_is_no_hs_err():
    nothing = replace(seen(100), hands=hands(0, False), in_area=hands(0, False))
    got = found(seen_real=nothing)
    assert np.isnan([got["hs_err"], got["hs_err_area"], got["recall"], got["joint_error"]]).all()
    assert got["precision"] == 0
    assert got["jerk"] > 0


def test_a_clip_without_hands_has_no_hs_err_and_a_recall_of_zero():
    got = found(seen=replace(seen(0), hands=hands(0, False), in_area=hands(0, False)))
    assert got["recall"] == 0
    missing = ["hs_err", "hs_err_area", "precision", "joint_error", "jerk"]
    assert np.isnan([got[key] for key in missing]).all()


def test_hands_that_only_the_square_shows_count_there_alone():
    got = found(seen_real=replace(seen(100), hands=hands(0, False)))
    assert math.isnan(got["hs_err"])
    assert got["hs_err_area"] > 0


def test_motion_is_held_against_the_true_area():
    got = found()
    assert got["mask_iou"] == pytest.approx(0.5)
    assert got["flow_inside"] == pytest.approx(1)
    # The four lowest rows of sixteen, of the three quarters of the frame outside of the mask.
    raised = made().frames[0].astype(int) - real().frames[0]
    expected = raised[~real().mask].mean() / 255
    assert got["change_outside"] == pytest.approx(expected, rel=1e-5)
    assert got["change_before"] == 0.25


def test_a_method_without_an_area_has_no_figure_of_one():
    got = found(made=Made(made().frames, None, None))
    assert np.isnan([got["mask_iou"], got["change_before"]]).all()
    assert got["change_outside"] > 0


def test_embeddings_are_compared_with_their_own_kind():
    got, one, other = found(), seen(0), seen(100)
    instruction, caption = texts(200), texts(300)
    pairs = zip(one.clip, other.clip, strict=True)
    assert got["clip_gt"] == pytest.approx(np.mean([cosine(*pair) for pair in pairs]))
    beside = zip(one.clip[:-1], one.clip[1:], strict=True)
    assert got["clip_cs"] == pytest.approx(np.mean([cosine(*pair) for pair in beside]))
    to_text = [cosine(frame, instruction.clip) for frame in one.clip]
    assert got["clip_tx"] == pytest.approx(100 * np.mean(to_text))
    assert got["egovlp"] == pytest.approx(cosine(one.egovlp, other.egovlp))
    assert got["blip"] == pytest.approx(cosine(caption.egovlp, instruction.egovlp))


def test_the_real_clip_against_itself_is_the_ceiling():
    itself = Made(real().frames, real().mask, None)
    got = found(made=itself, seen=seen(100))
    for key, value in (("hs_err", 0), ("recall", 1), ("precision", 1), ("joint_error", 0)):
        assert got[key] == value
    for key in ("clip_gt", "egovlp", "mask_iou"):
        assert got[key] == pytest.approx(1)


def test_networks_that_are_not_there_leave_their_figures_out():
    blind = {"clip": None, "egovlp": None, "caption": None, "features": {}}
    got = figures(
        made(), replace(seen(0), **blind), real(), replace(seen(100), **blind), NOTHING, NOTHING
    )
    networks = {"clip_gt", "clip_cs", "clip_tx", "egovlp", "blip"}
    assert set(got) == set(found()) - networks
    assert {one.key for one in LOCALITY if not one.features} <= set(got)


def test_of_a_frame_about_which_nothing_is_said_the_caption_has_no_figure_but_a_column():
    one = replace(seen(0), caption="")
    got = figures(made(), one, real(), seen(100), texts(200), NOTHING)
    assert math.isnan(got["blip"])


def test_scores_come_back_as_they_were_written(tmp_path):
    features = {"inception": unit(FRAMES, 6, seed=1), "i3d_area": unit(1, 4, seed=2)}
    values = {"hs_err": 0.1 + 0.2, "mask_iou": math.nan, "egovlp": 1.0}
    said = "Cut the leek – “fine”\nthen stir"
    scores = Scores(values, features, hands(3), said)
    write_scores(str(tmp_path), "P01/P01.1/7", scores)
    back = read_scores(str(tmp_path), "P01/P01.1/7")
    assert back.figures == pytest.approx(values, rel=0, abs=0, nan_ok=True)
    assert list(back.figures) == list(values)
    assert back.caption == said
    assert set(back.features) == set(features)
    for name, each in features.items():
        assert back.features[name].dtype == np.float32
        np.testing.assert_array_equal(back.features[name], each)
    np.testing.assert_array_equal(back.hands.joints, scores.hands.joints)
    np.testing.assert_array_equal(back.hands.visible, scores.hands.visible)


def test_figures_of_a_clip_can_be_written(tmp_path):
    got = found()
    write_scores(str(tmp_path), "clip", Scores(got, {}, hands(0), ""))
    back = read_scores(str(tmp_path), "clip")
    assert back.figures == got
    assert (back.features, back.caption) == ({}, "")
