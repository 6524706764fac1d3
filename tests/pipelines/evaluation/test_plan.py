import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from handi_model.baselines.method import Made
from pipelines.clip_index import ClipIndex
from pipelines.evaluation.clips import EvaluationSet
from pipelines.evaluation.figures import Scores, write_scores
from pipelines.evaluation.made_files import Cost, made_url, write_made
from pipelines.evaluation.plan import Planned, finished, plan
from pipelines.evaluation.settings import EvaluateSettings
from pipelines.evaluation.views import SeenHands
from pipelines.frames import encode_mask
from pipelines.parquet_rows import Place
from pipelines.saved_model import WEIGHTS
from pipelines.trained_on import TrainedOn, hashes
from tests.videos import numbered_video

IDS = ["P01/1", "P01/2", "P02/1"]


def clips(ids: list[str] = IDS, side: int = 64, fingerprint: str = "0") -> EvaluationSet:
    places = [Place("", 0, 0)] * len(ids)
    splits = ["test"] * len(ids)
    index = ClipIndex("data", ids, ids, splits, places, side, side, 4, fingerprint, ids)
    return EvaluationSet(index, ["folder"] * len(ids), np.zeros(len(ids)), "test")


def weights(value: float) -> bytes:
    return save({"weight": np.array([value])})


def saved_model(folder: Path, **index: object) -> str:
    """The small files of a pipeline, and weights, of which planning reads the headers."""
    defaults = {"num_frames": 4, "num_inference_steps": 2, "guidance_scale": 1}
    files = {
        "model_index.json": {"_class_name": "HandiPipeline"} | defaults | index,
        "unet/config.json": {"sample_size": 8, "block_out_channels": [8, 16]},
        "vae/config.json": {"block_out_channels": [8, 8, 8, 8]},
        "text_encoder/config.json": {},
        "scheduler/scheduler_config.json": {"num_train_timesteps": 1000},
        "tokenizer/tokenizer_config.json": {"model_max_length": 77},
    }
    for name, values in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(values))
    for part, name in WEIGHTS.items():
        (folder / part / name).write_bytes(weights(0.0))
    return str(folder)


def settings(tmp_path: Path, **changes: object) -> EvaluateSettings:
    given = {"data": "data", "output": str(tmp_path / "out"), "floors": False} | changes
    return EvaluateSettings(**given)  # type: ignore[arg-type]


def planned(tmp_path: Path, name: str, of: EvaluationSet | None = None, **changes) -> Planned:
    rows = plan(settings(tmp_path, **changes), of or clips())
    return next(one for one in rows if one.method.name == name)


def touch(path: Path, data: bytes) -> None:
    """Another content at another time, however coarse the file system's clock is."""
    before = path.stat().st_mtime if path.exists() else 0
    path.write_bytes(data)
    os.utime(path, (before + 10, before + 10))


def make(one: Planned, clip_id: str) -> None:
    made = Made(np.zeros((2, 16, 16, 3), np.uint8), None, None)
    write_made(one.made, clip_id, made, Cost(1.0, 1.0, 1, "cpu", 16, 64, 64), fps=8)


def score(folder: str, clip_id: str) -> None:
    hands = SeenHands(np.zeros((2, 42, 2), np.float32), np.zeros((2, 2), bool))
    write_scores(folder, clip_id, Scores({}, {}, hands, ""))


# Generated clips


def test_what_is_made_is_not_made_again(tmp_path):
    ours = planned(tmp_path, "ours", model=saved_model(tmp_path / "model"))
    assert ours.to_make(clips()) == [0, 1, 2]
    assert ours.done(clips()) == []
    make(ours, "P01/2")
    make(ours, "of another data set")
    assert ours.to_make(clips()) == [0, 2]
    assert [Path(url).name for url in ours.done(clips())] == ["2.npz"]


def test_how_many_clips_a_model_was_trained_on_is_known_or_said_not_to_be(tmp_path):
    model = Path(saved_model(tmp_path / "model"))
    assert planned(tmp_path, "ours", model=str(model)).trained_on is None
    for ids, complete, expected in (
        (IDS[:2], True, 2),
        (["another"], True, 0),
        # What it began from is not known.
        (IDS[:2], False, 2),
        (["another"], False, None),
    ):
        TrainedOn(("0",), hashes([], ids, ids), complete).write(model)
        rows = plan(settings(tmp_path, model=str(model)), clips())
        found = {one.method.name: one.trained_on for one in rows}
        assert found["ours"] == found["ours, no mask"] == expected
        assert found["real clip"] is None


def test_a_model_without_the_motion_mask_is_not_evaluated_without_it_once_more(tmp_path):
    model = saved_model(tmp_path / "model", uses_mask=False)
    rows = plan(settings(tmp_path, model=model), clips())
    assert [one.method.name for one in rows if one.made] == ["ours"]
    ours = next(one.method for one in rows if one.made)
    assert (ours.area, ours.without) == ("frame", "mask")
    again = [{"name": "anywhere", "kind": "handi", "model": model, "area": "frame"}]
    rows = plan(settings(tmp_path, model=model, methods=again), clips())
    assert [one.method.name for one in rows if one.made] == ["ours", "anywhere"]


def test_a_storage_that_does_not_answer_is_one_line(monkeypatch):
    def away(*_):
        raise OSError("Connect timeout on endpoint URL")

    monkeypatch.setattr("pipelines.evaluation.plan.find", away)
    with pytest.raises(ValueError, match=r"^output: \S+ cannot be read: .*timeout"):
        finished("memory://eval/generated/ours")


def test_a_clip_of_which_only_the_video_is_there_is_made_again(tmp_path):
    ours = planned(tmp_path, "ours", model=saved_model(tmp_path / "model"))
    make(ours, "P01/2")
    Path(made_url(ours.made, "P01/2").removeprefix("file://")).unlink()
    assert ours.to_make(clips()) == [0, 1, 2]


def test_what_is_made_and_not_scored_is_scored(tmp_path):
    ours = planned(tmp_path, "ours", model=saved_model(tmp_path / "model"))
    scores = str(tmp_path / "scores")
    assert ours.to_score(clips(), scores) == {}
    make(ours, "P01/1")
    make(ours, "P02/1")
    wanted = ours.to_score(clips(), scores)
    assert set(wanted) == {0, 2}
    assert wanted[2].source == made_url(ours.made, "P02/1")
    assert (wanted[2].method, wanted[2].kind) == ("ours", "handi")
    score(wanted[2].folder, "P02/1")
    assert set(ours.to_score(clips(), scores)) == {0}
    assert set(ours.to_score(clips(), str(tmp_path / "other networks"))) == {0, 2}


def test_three_rows_of_one_model_have_places_of_their_own(tmp_path):
    rows = plan(settings(tmp_path, model=saved_model(tmp_path / "model")), clips())
    assert len({one.key for one in rows}) == len({one.made for one in rows[:3]}) + 1 == 4
    assert all(one.made.startswith(f"file://{tmp_path}/out") for one in rows[:3])


def test_nothing_changed_gives_the_same_place(tmp_path):
    model = saved_model(tmp_path / "model")
    keys = [planned(tmp_path, "ours", model=model, shown=shown).key for shown in (1, 2)]
    assert keys[0] == keys[1]


@pytest.mark.parametrize(
    "changes",
    [{"seed": 1}, {"num_inference_steps": 3}, {"guidance_scale": 2.0}, {"dtype": "bfloat16"}],
)
def test_other_settings_give_another_place(tmp_path, changes):
    model = saved_model(tmp_path / "model")
    first, second = (
        planned(tmp_path, "ours", model=model),
        planned(tmp_path, "ours", model=model, **changes),
    )
    assert first.key != second.key


def test_other_weights_in_the_same_folder_give_another_place(tmp_path):
    model = saved_model(tmp_path / "model")
    before = planned(tmp_path, "ours", model=model).key
    touch(Path(model) / "unet" / WEIGHTS["unet"], weights(1.0))
    assert planned(tmp_path, "ours", model=model).key != before


def test_another_data_set_gives_another_place(tmp_path):
    model = saved_model(tmp_path / "model")
    keys = [
        planned(tmp_path, "ours", clips(fingerprint=one), model=model).key for one in ("0", "1")
    ]
    assert keys[0] != keys[1]


def test_a_model_is_told_by_its_absolute_place(tmp_path, monkeypatch):
    """A worker has another working directory."""
    model = saved_model(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    assert planned(tmp_path, "ours", model="model").method.model == f"file://{model}"


def test_a_hub_id_is_taken_at_its_word(tmp_path):
    theirs = {"name": "theirs", "kind": "cogvideox", "model": "someone/some-video-model"}
    one = planned(tmp_path, "theirs", methods=[theirs])
    assert one.method.model == "someone/some-video-model"
    assert one.key.startswith("theirs-")


@pytest.mark.parametrize("kind", ["handi", "animate-anything"])
def test_what_is_no_saved_model_is_one_line(tmp_path, kind):
    nothing = {"name": "x", "kind": kind, "model": str(tmp_path / "nothing")}
    with pytest.raises(ValueError, match="no saved pipeline") as refused:
        plan(settings(tmp_path, methods=[nothing]), clips())
    assert str(tmp_path / "nothing") in str(refused.value)
    assert "\n" not in str(refused.value)


def test_frames_that_the_model_cannot_make_are_one_line(tmp_path):
    """Eight pixels a latent, halved once in the network."""
    model = saved_model(tmp_path / "model")
    plan(settings(tmp_path, model=model), clips(side=48))
    with pytest.raises(ValueError, match=r"multiples of 16 pixels, and those of data have 56$"):
        plan(settings(tmp_path, model=model), clips(side=56))


# Clips made elsewhere


def folder_of(tmp_path: Path, *ids: str) -> str:
    for clip_id in ids:
        (tmp_path / "theirs" / clip_id).parent.mkdir(parents=True, exist_ok=True)
        numbered_video(tmp_path / "theirs" / f"{clip_id}.mp4", 2)
    return str(tmp_path / "theirs")


def test_clips_made_elsewhere_are_scored_where_they_are_there(tmp_path):
    one = planned(tmp_path, "clips", clips=folder_of(tmp_path, "P01/1", "P02/1", "other"))
    assert one.to_make(clips()) == [] == one.done(clips())
    wanted = one.to_score(clips(), str(tmp_path / "scores"))
    assert {i: Path(of.source).name for i, of in wanted.items()} == {0: "1.mp4", 2: "1.mp4"}
    score(wanted[0].folder, "P01/1")
    assert set(one.to_score(clips(), str(tmp_path / "scores"))) == {2}


def test_clips_made_elsewhere_are_found_from_any_directory(tmp_path, monkeypatch):
    folder_of(tmp_path, "P01/1")
    monkeypatch.chdir(tmp_path)
    assert planned(tmp_path, "clips", clips="theirs").elsewhere == {
        "P01/1": f"file://{tmp_path}/theirs/P01/1.mp4"
    }


@pytest.mark.parametrize("name", ["P01/1.mp4", "P01/2.mp4", "P01/1-mask.png"])
def test_another_clip_or_mask_in_the_folder_gives_another_place(tmp_path, name):
    folder = folder_of(tmp_path, "P01/1")
    before = planned(tmp_path, "clips", clips=folder).key
    assert planned(tmp_path, "clips", clips=folder).key == before
    touch(Path(folder) / name, encode_mask(np.ones((8, 8), bool)))
    assert planned(tmp_path, "clips", clips=folder).key != before


def test_a_picture_that_changed_gives_another_place(tmp_path):
    frames = tmp_path / "theirs" / "P01" / "1"
    frames.mkdir(parents=True)
    for number in range(2):
        (frames / f"{number}.png").write_bytes(encode_mask(np.ones((8, 8), bool)))
    before = planned(tmp_path, "clips", clips=str(tmp_path / "theirs")).key
    touch(frames / "1.png", encode_mask(np.zeros((8, 8), bool)))
    assert planned(tmp_path, "clips", clips=str(tmp_path / "theirs")).key != before


def test_a_folder_of_other_clips_is_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"none of the test clips.*P01/1\.mp4") as refused:
        plan(settings(tmp_path, clips=folder_of(tmp_path, "other")), clips())
    assert "\n" not in str(refused.value)


# Floors and ceilings


def test_what_is_made_of_real_clips_needs_no_files(tmp_path):
    rows = plan(settings(tmp_path, floors=True), clips())
    assert [one.method.kind for one in rows] == ["real", "still", "shuffled", "swapped"]
    for one in rows:
        assert one.to_make(clips()) == [] == one.done(clips())
        wanted = one.to_score(clips(), str(tmp_path / "scores"))
        assert set(wanted) == {0, 1, 2}
        assert {of.source for of in wanted.values()} == {""}
        score(wanted[1].folder, "P01/2")
        assert set(one.to_score(clips(), str(tmp_path / "scores"))) == {0, 2}


def test_a_single_clip_has_no_other_one(tmp_path):
    rows = plan(settings(tmp_path, floors=True), clips(["a"]))
    assert [one.method.kind for one in rows] == ["real", "still", "shuffled"]


@pytest.mark.parametrize(
    ("changes", "moved"),
    [({"seed": 1}, {"frames shuffled"}), ({"shown": 3}, set())],
)
def test_a_floor_moves_only_with_what_makes_it(tmp_path, changes, moved):
    before, after = (
        {one.method.name: one.key for one in plan(settings(tmp_path, floors=True, **of), clips())}
        for of in ({}, changes)
    )
    assert {name for name in before if before[name] != after[name]} == moved


def test_another_clip_is_another_one_of_another_choice(tmp_path):
    """The neighbour of a clip depends on which clips are evaluated; the real clip does not."""
    few = clips(IDS[:2])
    before, after = (
        {one.method.kind: one.key for one in plan(settings(tmp_path, floors=True), of)}
        for of in (clips(), few)
    )
    assert {kind for kind in before if before[kind] != after[kind]} == {"swapped"}
