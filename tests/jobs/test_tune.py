import math

import pytest
import yaml

from jobs.cli import load
from jobs.training.settings import TrainSettings
from jobs.training.trials import Trial, score
from jobs.tune import TuneSettings, best_config


def test_the_best_weights_stand_in_a_file_that_training_takes(tmp_path):
    settings = TuneSettings(
        data="clips", output="tuned", epochs=4, losses={"decoded_frames": 2}, samples=3
    )
    path = tmp_path / "best.yaml"
    path.write_bytes(best_config(settings, Trial(alpha=0.25, eta=2.0, score=0.1, epochs=4)))
    again = load(TrainSettings, "train", ["--config", str(path), "--output", "run"])
    assert (again.losses.alpha, again.losses.eta, again.losses.decoded_frames) == (0.25, 2.0, 2)
    assert again.epochs == 4
    assert again.data.endswith("/clips") and again.output.endswith("/run")
    assert "output" not in yaml.safe_load(path.read_text())


def test_a_score_is_the_weighted_sum_and_missing_where_a_figure_is():
    figures = {"validation/mask_iou": 0.5, "validation/joint_error": 0.1}
    objective = {"validation/mask_iou": -1.0, "validation/joint_error": 2.0}
    assert score(figures, objective) == pytest.approx(-0.3)
    assert math.isnan(score({}, objective))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--alpha", "[1, 0.1]"], "alpha: needs a lowest and a highest weight"),
        (["--validation.held-out", "0"], "validation.held_out: 0 leaves nothing"),
        (["--grace-epochs", "1"], "grace_epochs: ends before the first validation"),
    ],
)
def test_a_search_that_cannot_work_is_refused_in_one_line(arguments, line, capsys):
    with pytest.raises(SystemExit):
        load(TuneSettings, "tune", ["--data", "d", "--output", "o", *arguments])
    said = capsys.readouterr().err
    assert line in said and said.count("\n") == 1
