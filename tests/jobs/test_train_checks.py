import pytest
import yaml

from jobs.cli import load
from jobs.training import checks
from jobs.training.checks import check, check_cluster
from jobs.training.settings import TrainSettings
from tests.datasets import rendered_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return rendered_dataset(folder, ["lift_box_1", "open_lid_1", "slide_cup_1"], frames=4)


@pytest.fixture
def settings(data, tmp_path, hand_model):
    keys = {"num_frames": 4, "batch_size": 2, "clips_per_pass": 2, "hand_model": str(hand_model)}
    keys["validation"] = {"held_out": 1}
    return TrainSettings(data=data, output=str(tmp_path / "run"), **keys)


def test_what_the_driver_knows_before_it_starts_workers(settings):
    checked = check(settings)
    assert (checked.training_clips, checked.held_out) == (2, 1)
    assert (checked.steps, checked.resumed.done) == (10, 0)
    assert settings.resolution == 64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": "/nowhere"}, "data: .*/nowhere"),
        ({"resolution": 128}, "data: .* has frames of 64x64 pixels, .* --resolution 128"),
        ({"num_frames": 16}, "num_frames is 16; preprocess with --frames 16"),
        ({"model": "huge"}, "model: huge is no saved .*; the presets are base, tiny"),
        ({"checkpoint": "x"}, "checkpoint: the preset 'tiny'"),
        ({"model": "base", "checkpoint": "/nowhere"}, "/nowhere: neither a folder nor a hub id"),
        ({"output": "/proc/run"}, "output: /proc/run cannot be written"),
    ],
)
def test_a_mistake_gets_one_line(settings, changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        check(settings.model_copy(update=changes))
    assert "\n" not in str(caught.value)


def test_a_data_set_that_is_not_finished_is_refused(settings, tmp_path):
    rendered_dataset(tmp_path / "half", ["lift_box_1", "open_lid_1"], frames=4)
    (tmp_path / "half" / "prior.npy").unlink()
    with pytest.raises(ValueError, match=r"has no prior\.npy"):
        check(settings.model_copy(update={"data": str(tmp_path / "half")}))


def test_a_prior_of_all_splits_is_warned_about(settings, tmp_path, capsys):
    old = tmp_path / "old"
    rendered_dataset(old, ["lift_box_1", "open_lid_1"], frames=4)
    assert check(settings.model_copy(update={"data": str(old)}))
    assert not capsys.readouterr().err

    rendered_dataset(old, ["slide_cup_1"], frames=4, split="test")
    (old / "summary.json").write_text("{}")
    assert check(settings.model_copy(update={"data": str(old)})).training_clips == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "may be the mean over all splits" in line and "run jobs/preprocess.py again" in line


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--batch-size", "6", "--clips-per-pass", "4"], "clips_per_pass: 4 does not divide"),
        (["--num-workers", "3"], "do not divide among 3 workers; make it a multiple of 12"),
        (["--ramp-start", "0.9"], "ramp_start"),
        (["--epochs", "0"], "epochs"),
        (["--trains", "some"], "trains"),
    ],
)
def test_keys_that_do_not_fit_end_the_job_with_one_line(arguments, line, capsys):
    with pytest.raises(SystemExit) as caught:
        load(TrainSettings, "train", ["--data", "d", "--output", "o", *arguments])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert line in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("resources", "changes", "message"),
    [
        ({"CPU": 8.0}, {"device": "cuda"}, "cuda needs a GPU for each of the 1 workers, .* none"),
        ({"CPU": 8.0, "GPU": 1.0}, {"num_workers": 2}, "has 1; give --device cpu, or fewer"),
        ({"CPU": 2.0}, {"num_workers": 2}, "leave none of the cluster's 2"),
    ],
)
def test_a_cluster_that_is_too_small_is_told(settings, monkeypatch, resources, changes, message):
    monkeypatch.setattr(checks.ray, "cluster_resources", lambda: resources)
    with pytest.raises(ValueError, match=message):
        check_cluster(settings.model_copy(update=changes))


def test_workers_go_to_gpus_where_there_are_any(settings, monkeypatch):
    monkeypatch.setattr(checks.ray, "cluster_resources", lambda: {"CPU": 8.0, "GPU": 2.0})
    check_cluster(settings)
    assert settings.device == "cuda"
    monkeypatch.setattr(checks.ray, "cluster_resources", lambda: {"CPU": 8.0})
    settings.device = None
    check_cluster(settings)
    assert settings.device == "cpu"


def test_a_training_without_the_mask_has_stage_2_alone(settings):
    with pytest.raises(ValueError, match=r"cycle: .* give cycle \[video\]"):
        TrainSettings(**settings.model_dump() | {"uses_mask": False})


def test_the_recipe_without_the_mask_is_the_whole_one_with_stage_2_alone():
    from tests.integration.conftest import REPOSITORY

    whole, alone = (
        yaml.safe_load((REPOSITORY / f"jobs/configs/{name}.yaml").read_text())
        for name in ("epic_kitchens", "epic_kitchens_no_mask")
    )
    # As many epochs of stage 2.
    assert alone == whole | {"uses_mask": False, "cycle": ["video"], "epochs": whole["epochs"] // 2}


@pytest.mark.parametrize("name", ["tiny", "epic_kitchens", "epic_kitchens_no_mask", "ego4d"])
def test_the_recipes_are_valid(name):
    from tests.integration.conftest import REPOSITORY

    keys = yaml.safe_load((REPOSITORY / f"jobs/configs/{name}.yaml").read_text())
    settings = TrainSettings(data="d", output="o", **keys)
    if name != "tiny":  # the published recipe
        assert settings.trains == "attention"
        assert settings.optimiser.learning_rate == 5e-5
        assert settings.losses.text_dropout == 0.15
        assert (settings.resolution, settings.num_frames) == (256, 16)
        assert settings.validation.num_inference_steps == 25
        assert settings.validation.guidance_scale == 9
