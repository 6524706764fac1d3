"""What a model says of the clips that it was trained on, and how the evaluation finds them."""

import json
from types import SimpleNamespace

import pytest

from handi_model.damage import DamagedFile
from jobs.training.finish import trained_on
from pipelines.trained_on import TRAINED_ON, TrainedOn, begun_from, hashes, read_trained_on

IDS, SAID = ["P01/1", "P01/2", "P02/1"], ["open lid", "stir pan", "lift box"]
CONTENTS = ["aa", "bb", "cc"]


def record(clips=slice(0, 2)) -> TrainedOn:
    return TrainedOn().and_then("f00d", hashes(CONTENTS[clips], IDS[clips], SAID[clips]))


def test_clips_are_found_by_content_and_by_id_with_narration():
    assert record().count(CONTENTS, IDS, SAID) == 2
    # Preprocessed anew, or under other names.
    assert record().count(["x", "y", "z"], IDS, SAID) == 2
    assert record().count(CONTENTS, ["1", "2", "3"], SAID) == 2
    # Another video that has the same name by chance.
    assert record().count(["x", "y", "z"], IDS, ["close lid"] * 3) == 0
    assert record().count(CONTENTS[2:], IDS[2:], SAID[2:]) == 0


def test_a_record_comes_back_and_names_no_clip(tmp_path):
    record().write(tmp_path)
    assert read_trained_on(str(tmp_path)) == record()
    assert read_trained_on(f"file://{tmp_path}") == record()
    text = (tmp_path / TRAINED_ON).read_text()
    assert not any(name in text for name in (*IDS, *SAID))


def test_a_model_without_a_record_says_nothing_and_a_preset_was_trained_on_none(tmp_path):
    assert read_trained_on(str(tmp_path)) is None
    assert read_trained_on("tiny") == TrainedOn()
    assert not begun_from(str(tmp_path)).complete


def test_a_record_that_is_cut_short_is_told(tmp_path):
    (tmp_path / TRAINED_ON).write_text('{"data": [')
    with pytest.raises(DamagedFile, match=TRAINED_ON):
        read_trained_on(str(tmp_path))


def test_a_training_adds_its_own_clips_and_not_those_held_out(tmp_path):
    record(slice(0, 1)).write(tmp_path)
    index = SimpleNamespace(contents=CONTENTS, clip_ids=IDS, narrations=SAID, fingerprint="beef")
    work = SimpleNamespace(
        index=index, training_clips=[1], held_out=[2], trained_before=begun_from(str(tmp_path))
    )
    assert trained_on(work) == TrainedOn(("f00d", "beef"), record().clips)


def test_of_a_checkpoint_that_a_training_starts_from_nobody_knows_the_clips(tmp_path):
    record().write(tmp_path)
    assert begun_from(str(tmp_path)).complete
    assert not begun_from(str(tmp_path), "somebody/text-to-video").complete


def test_sixty_thousand_clips_fit_a_small_file(tmp_path):
    names = [str(i) for i in range(60_000)]
    TrainedOn().and_then("0", hashes(names, names, names)).write(tmp_path)
    assert (tmp_path / TRAINED_ON).stat().st_size < 3e6
    assert len(json.loads((tmp_path / TRAINED_ON).read_text())["clips"]) == 120_000
