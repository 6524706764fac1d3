from dataclasses import dataclass

import pytest

from handi_model.metrics.weights import Origin, WeightsError
from pipelines.evaluation import networks
from pipelines.evaluation.networks import open_networks
from pipelines.evaluation.settings import EvaluateSettings


@dataclass(frozen=True)
class Network:
    origin: Origin


@pytest.fixture
def opened(monkeypatch, hand_model):
    """Open networks of which some are there, each with a hash."""

    def opened(there, num_frames=16, wanted=tuple(networks.BACKBONES), **keys):
        def loader(key):
            def load(path, device):
                if path or key not in there:
                    raise WeightsError(f"{key}: cannot be had")
                return Network(Origin(key, f"/{key}", there[key], True))

            return load

        monkeypatch.setattr(networks, "BACKBONES", {key: loader(key) for key in networks.BACKBONES})
        paths = {"hand_model": str(hand_model), "device": "cpu", **keys}
        settings = EvaluateSettings(data="data", output="output", **paths)
        return open_networks(settings, num_frames, wanted)

    return opened


def test_a_network_that_cannot_be_had_costs_itself_alone(opened):
    found = opened({"i3d": "a", "clip": "b"})
    assert set(found.backbones) == set(found.origins.loaded) == {"i3d", "clip"}
    assert set(found.origins.missing) == {"inception", "egovlp", "blip"}
    assert found.origins.missing["blip"] == "blip: cannot be had"


def test_one_that_was_named_is_meant(opened):
    with pytest.raises(ValueError, match="i3d: cannot be had"):
        opened({"clip": "b"}, i3d="/nowhere")


def test_scores_of_other_networks_lie_elsewhere(opened):
    known = dict.fromkeys(networks.BACKBONES, "a")
    sets = [known, {**known, "clip": "b"}, {}, {"clip": "a"}, {"i3d": "a"}]
    assert len({opened(there).origins.fingerprint for there in sets}) == len(sets)
    assert opened(known).origins.fingerprint == opened(known).origins.fingerprint


def test_a_worker_looks_for_what_was_found_and_for_nothing_else(opened):
    first = opened({"i3d": "a", "clip": "b"})
    again = opened({"i3d": "a", "clip": "b", "blip": "c"}, wanted=first.origins.loaded)
    assert again.origins.fingerprint == first.origins.fingerprint
    lacking = opened({"i3d": "a"}, wanted=first.origins.loaded)
    assert lacking.origins.fingerprint != first.origins.fingerprint
    assert lacking.origins.missing == {"clip": "clip: cannot be had"}


def test_short_clips_have_no_fvd_and_the_table_says_why(opened):
    found = opened({"i3d": "a", "clip": "b"}, num_frames=8)
    assert set(found.backbones) == {"clip"}
    assert "8 frames are too short" in found.origins.missing["i3d"]
