"""Keys of the service as they come from the command line: texts."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from serve.settings import ServeSettings


def read(**given: str) -> ServeSettings:
    return ServeSettings.model_validate({"model": "/model", **given})


def test_texts_become_numbers():
    settings = read(batch_size="4", lease_s="2.5", num_gpus="0", max_replicas="3")
    assert (settings.batch_size, settings.lease_s) == (4, 2.5)
    assert (settings.num_gpus, settings.max_replicas) == (0.0, 3)


def test_hosts_are_listed_with_commas():
    assert read(image_hosts="a.example,b.example").image_hosts == ["a.example", "b.example"]
    assert read(image_hosts="a.example,").image_hosts == ["a.example"]
    assert read(image_hosts="").image_hosts == read().image_hosts == []
    listed = ServeSettings.model_validate({"model": "/model", "image_hosts": ["a.example"]})
    assert listed.image_hosts == ["a.example"]


def test_hosts_may_have_a_space_after_the_comma():
    assert read(image_hosts="a.example, b.example").image_hosts == ["a.example", "b.example"]


def test_there_are_as_many_replicas_at_most_as_at_least():
    assert read().most_replicas == 1
    assert read(replicas="2").most_replicas == 2
    assert read(replicas="2", max_replicas="5").most_replicas == 5


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("batch_sise", "8"),
        ("batch_size", "0"),
        ("batch_size", "many"),
        ("batch_size", "2.5"),
        ("lease_s", "1"),
        ("lease_s", "nan"),
        ("fps", "0"),
        ("fps", "nan"),
        ("max_frames", "1"),
        ("max_steps", "1001"),
        ("dtype", "float8"),
        ("gateways", "0"),
        ("num_gpus", "-1"),
        ("expire_after_s", "0"),
    ],
)
def test_a_wrong_key_or_value_is_refused_by_name(key, value):
    with pytest.raises(ValidationError) as refused:
        read(**{key: value})
    assert [error["loc"] for error in refused.value.errors()] == [(key,)]


def test_an_endless_time_to_live_is_refused():
    with pytest.raises(ValidationError):
        read(expire_after_s="inf")


def test_the_model_is_needed():
    with pytest.raises(ValidationError) as refused:
        ServeSettings.model_validate({})
    assert [error["loc"] for error in refused.value.errors()] == [("model",)]
