import pytest
from pydantic import ValidationError

from jobs.cli import load
from pipelines.evaluation.settings import GENERATIVE, EvaluateSettings, MethodSettings, slug
from pipelines.mistakes import first_mistake


def settings(**changes: object) -> EvaluateSettings:
    return EvaluateSettings(**{"data": "data", "output": "out", **changes})  # type: ignore[arg-type]


def mistake(**changes: object) -> str:
    with pytest.raises(ValidationError) as refused:
        settings(**changes)
    line = first_mistake(refused.value, "--{}")
    assert "\n" not in line
    return line


def method(**changes: object) -> dict:
    return {"name": "mine", "kind": "folder", "clips": "clips"} | changes


def test_the_data_and_an_output_are_enough():
    assert [one.kind for one in settings().rows()] == ["real", "still", "shuffled", "swapped"]


def test_a_model_is_evaluated_as_it_is_without_its_mask_and_under_the_true_ones():
    ours = settings(model="run/model", num_inference_steps=5).rows()[:3]
    assert [(one.name, one.area) for one in ours] == [
        ("ours", "predicted"),
        ("ours, no mask", "frame"),
        ("ours, true masks", "true"),
    ]
    assert {(one.kind, one.model, one.num_inference_steps) for one in ours} == {
        ("handi", "run/model", 5)
    }


def test_the_rows_come_in_the_order_of_the_tables():
    rows = settings(model="m", clips="c", methods=[method(), method(name="other")]).rows()
    assert [one.name for one in rows] == [
        "ours",
        "ours, no mask",
        "ours, true masks",
        "clips",
        "mine",
        "other",
        "real clip",
        "still frame",
        "frames shuffled",
        "another clip",
    ]


def test_without_floors_the_real_clip_stays():
    assert [one.kind for one in settings(floors=False).rows()] == ["real"]


def test_a_floor_that_is_a_row_already_does_not_come_twice():
    rows = settings(methods=[{"name": "nothing moves", "kind": "still"}]).rows()
    assert [one.name for one in rows if one.kind == "still"] == ["nothing moves"]
    assert [one.kind for one in rows].count("real") == 1


def test_slugs_of_rows_differ_as_their_names_do():
    names = [one.slug for one in settings(model="m", clips="c").rows()]
    assert len(set(names)) == len(names)


def test_a_slug_is_of_letters_that_every_storage_takes():
    assert slug("Ours, no mask (8 steps)") == "ours-no-mask-8-steps"
    for name in ("手", "--", "é/è", "../up"):
        assert slug(name)
        assert set(slug(name)) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert slug("手") != slug("人")


@pytest.mark.parametrize(
    ("kind", "given", "options"),
    [
        ("handi", {}, {"area": "predicted"}),
        ("handi", {"area": "true", "mask_steps": 3}, {"area": "true", "mask_steps": 3}),
        ("handi", {"without": "hand loss"}, {"area": "predicted"}),
        ("animate-anything", {"guidance_scale": 2}, {"guidance_scale": 2}),
        ("cogvideox", {"height": 480, "num_frames": 49}, {"height": 480, "num_frames": 49}),
        ("i2vgen-xl", {"num_inference_steps": 9}, {"num_inference_steps": 9}),
        ("pia", {"width": 64}, {"width": 64}),
    ],
)
def test_an_adapter_gets_what_is_given_and_of_its_kind(kind, given, options):
    assert MethodSettings(name="x", kind=kind, model="m", **given).options() == options


@pytest.mark.parametrize("kind", GENERATIVE)
def test_a_generative_method_without_a_model_is_one_line(kind):
    line = mistake(methods=[method(kind=kind, clips=None)])
    assert "'mine'" in line and "needs a model" in line and kind in line


def test_a_folder_without_clips_is_one_line():
    line = mistake(methods=[method(clips=None)])
    assert "'mine'" in line and "needs clips" in line


@pytest.mark.parametrize(
    "given",
    [
        {"area": "true"},
        {"model": "m"},
        {"guidance_scale": 3},
        {"kind": "handi", "clips": None, "model": "m", "height": 64},
        {"kind": "pia", "clips": None, "model": "m", "mask_steps": 4},
        {"kind": "pia", "clips": None, "model": "m", "without": "mask"},
        {"kind": "real"},
    ],
)
def test_a_key_that_means_nothing_to_the_kind_is_one_line(given):
    line = mistake(methods=[method(**given)])
    assert "'mine'" in line and "means nothing" in line


@pytest.mark.parametrize("key", ["num_inference_steps", "mask_steps", "guidance_scale"])
def test_steps_without_a_model_are_one_line(key):
    assert mistake(**{key: 5}).startswith(f"{key}: ")


@pytest.mark.parametrize(
    "changes",
    [
        {"clips": "c", "methods": [method(name="clips")]},
        {"methods": [method(), method(name="Mine!")]},
        {"model": "m", "methods": [method(name="ours")]},
        {"methods": [method(name="real clip")]},
    ],
)
def test_two_rows_of_one_name_are_one_line_that_names_it(changes):
    line = mistake(**changes)
    assert any(name in line for name in ("'clips'", "'mine'", "'ours'", "'real-clip'"))
    assert "rename one" in line


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("limit", 0),
        ("seed", -1),
        ("seed", 2**63),
        ("bootstrap", 9),
        ("frechet_bootstrap", 1),
        ("workers", 0),
        ("shown", -1),
        ("fps", 0),
        ("fps", float("nan")),
        ("dtype", "int8"),
        ("num_inference_steps", 0),
        ("mask_steps", 1001),
        ("guidance_scale", 0.5),
        ("guidance_scale", float("inf")),
        ("methods", "mine"),
        ("bogus", 1),
    ],
)
def test_a_value_that_cannot_be_is_one_line_that_names_the_key(key, value):
    assert mistake(model="m", **{key: value}).startswith(f"{key}: ")


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"kind": "gan"}, "methods.0.kind"),
        ({"name": ""}, "methods.0.name"),
        ({"height": 4}, "methods.0.height"),
        ({"num_frames": 1}, "methods.0.num_frames"),
        ({"area": "mine"}, "methods.0.area"),
        ({"colour": "red"}, "methods.0.colour"),
    ],
)
def test_a_mistake_in_a_method_is_one_line_that_names_its_key(changes, key):
    assert mistake(methods=[method(**changes)]).startswith(f"{key}: ")


def test_what_is_missing_is_one_line():
    with pytest.raises(ValidationError) as refused:
        EvaluateSettings(output="out")  # type: ignore[call-arg]
    assert first_mistake(refused.value, "--{}") == "data: needed; give --data"


def test_methods_of_a_file_outlive_a_second_reading(tmp_path):
    """Settings are read from the line, the environment and the file, and then once more."""
    file = tmp_path / "evaluate.yaml"
    file.write_text(
        "data: data\noutput: out\nmethods:\n"
        "  - {name: theirs, kind: folder, clips: clips}\n"
        "  - {name: masked, kind: handi, model: m, area: 'true'}\n"
        "  - {name: pia, kind: pia, model: m, height: 64}\n"
    )
    rows = load(EvaluateSettings, "evaluate", ["--config", str(file)]).rows()
    assert [one.name for one in rows[:3]] == ["theirs", "masked", "pia"]
    assert rows[1].area == "true"
