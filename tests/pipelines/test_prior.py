import io
import uuid

import numpy as np
import pytest

from pipelines.patience import is_away
from pipelines.prior import read_prior
from pipelines.storage import join, write_bytes


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
