import io
import json
import uuid

import numpy as np
import pyarrow as pa
import pytest

from pipelines.dataset import write_table
from pipelines.frames import encode_mask
from pipelines.patience import is_away
from pipelines.prior import Prior, count_masks, is_of_all_splits, read_prior, write_prior
from pipelines.records import WRITTEN
from pipelines.storage import exists, find, join, write_bytes


def write_array(data: str, array: np.ndarray) -> None:
    sink = io.BytesIO()
    np.save(sink, array)
    write_bytes(join(data, "prior.npy"), sink.getvalue())


@pytest.fixture
def data() -> str:
    return f"memory://{uuid.uuid4().hex}"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_prior_comes_back_as_it_was_left(data, dtype):
    prior = np.linspace(0, 1, 12, dtype=dtype).reshape(3, 4)
    write_array(data, prior)
    read = read_prior(data)
    assert read.dtype == np.float32
    assert (read == prior.astype(np.float32)).all()


def test_a_prior_that_preprocessing_has_not_left_yet_is_not_waited_for(data):
    with pytest.raises(FileNotFoundError) as caught:
        read_prior(data)
    assert not is_away(caught.value)


def test_a_file_that_would_run_code_is_refused(data):
    write_array(data, np.array([{"not": "numbers"}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        read_prior(data)


def clip(number: int, split: str | None) -> dict:
    """Clip 0 has a mask of the pixel at 0, 0, clip 1 of the one at 0, 1, and so on."""
    mask = np.zeros((2, 5), bool)
    mask[0, number] = True
    row = {"clip_id": f"c{number}", "split": split, "mask": encode_mask(mask)}
    return dict.fromkeys(WRITTEN.names) | row | {"frames": [], "frame_masks": []}


def prior_of(data: str, *files: list[dict]) -> Prior:
    for rows in files:
        write_table(pa.Table.from_pylist(rows, WRITTEN), join(data, "clips"))
    return Prior.of(count_masks(url) for url in find(join(data, "clips"), ".parquet"))


def test_the_prior_is_of_the_training_splits_masks_alone(data):
    mixed = [clip(0, "train"), clip(1, "validation"), clip(2, "test")]
    prior = prior_of(data, mixed, [clip(3, "train")], [clip(4, "test")])
    assert prior.mean.dtype == np.float32
    assert prior.mean.tolist() == [[0.5, 0, 0, 0.5, 0], [0] * 5]
    assert prior.as_dict() == {"splits": {"train": 2}, "left_out": {"test": 2, "validation": 1}}
    assert str(prior) == (
        "prior: mean of the masks of 2 clips of split train; left out: 2 clips of split test and "
        "1 clip of split validation"
    )
    write_prior(data, prior)
    assert (read_prior(data) == prior.mean).all()


def test_clips_of_no_named_split_are_trained_on_and_count_in_the_prior(data):
    prior = prior_of(data, [clip(0, ""), clip(1, None), clip(2, "train"), clip(3, "test")])
    assert prior.mean[0].tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 0, 0])
    assert prior.splits == {"train": 1, "unnamed": 2}
    assert "1 clip of split train and 2 clips of no named split; left out" in str(prior)


def test_without_clips_to_train_on_there_is_no_prior_and_none_of_an_earlier_run_stays(data):
    write_array(data, np.ones((2, 5), np.float32))
    prior = prior_of(data, [clip(1, "validation"), clip(2, "test")])
    assert prior.mean is None
    assert str(prior) == (
        "no prior: no clip may be trained on, 1 clip of split test and 1 clip of split validation"
    )
    write_prior(data, prior)
    assert not exists(join(data, "prior.npy"))


@pytest.mark.parametrize(
    ("summary", "splits", "expected"),
    [
        ({}, ["train", "test"], True),
        ({}, ["train", ""], False),
        ({"prior": {"splits": {"train": 1}}}, ["train", "test"], False),
        (None, ["train", "test"], True),
        (None, ["train", ""], False),
    ],
)
def test_a_prior_of_all_splits_by_an_earlier_version_is_known(data, summary, splits, expected):
    if summary is not None:
        write_bytes(join(data, "summary.json"), json.dumps(summary).encode())
    assert is_of_all_splits(data, splits) is expected
