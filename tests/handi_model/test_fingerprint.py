from dataclasses import dataclass

import pytest
import torch

from handi_model.config import ModelConfig
from handi_model.create import new_pipeline
from handi_model.fingerprint import encoders_fingerprint
from handi_model.pipeline import HandiPipeline


def test_a_pipeline_keeps_its_fingerprint_when_saved_and_loaded(tiny, tmp_path):
    fingerprint = encoders_fingerprint(tiny)
    assert len(fingerprint) == 16 and int(fingerprint, 16) >= 0
    tiny.save_pretrained(tmp_path)
    assert encoders_fingerprint(HandiPipeline.from_pretrained(tmp_path)) == fingerprint


def test_training_the_network_does_not_change_it(tiny, fresh_tiny):
    with torch.no_grad():
        for weight in fresh_tiny.unet.parameters():
            weight.add_(1)
    assert encoders_fingerprint(fresh_tiny) == encoders_fingerprint(tiny)


@pytest.mark.parametrize("encoder", ["vae", "text_encoder"])
def test_a_single_other_weight_changes_it(tiny, fresh_tiny, encoder):
    with torch.no_grad():
        last = list(getattr(fresh_tiny, encoder).parameters())[-1]
        last.view(-1)[0] += 1e-3
    assert encoders_fingerprint(fresh_tiny) != encoders_fingerprint(tiny)


def test_weights_of_another_type_change_it(tiny, fresh_tiny):
    fresh_tiny.vae.half()
    assert encoders_fingerprint(fresh_tiny) != encoders_fingerprint(tiny)


def test_another_resolution_changes_it(tiny):
    larger = new_pipeline(ModelConfig.of("tiny", resolution=128))
    assert encoders_fingerprint(larger) != encoders_fingerprint(tiny)


@dataclass(frozen=True)
class Change:
    """One that leaves the weights as they are, and changes what the encoders compute."""

    part: str
    key: str
    value: object


@pytest.mark.parametrize(
    "change",
    [
        Change("vae", "scaling_factor", 0.5),
        Change("vae", "norm_num_groups", 1),
        Change("vae", "act_fn", "relu"),
        Change("text_encoder", "num_attention_heads", 1),
        Change("text_encoder", "hidden_act", "relu"),
    ],
    ids=lambda change: change.key,
)
def test_what_the_weights_do_not_tell_changes_it_too(tiny, fresh_tiny, change):
    network = getattr(fresh_tiny, change.part)
    if change.part == "vae":
        network.register_to_config(**{change.key: change.value})
    else:
        setattr(network.config, change.key, change.value)
    assert encoders_fingerprint(fresh_tiny) != encoders_fingerprint(tiny)


def test_a_shorter_reading_of_the_instruction_changes_it(tiny, fresh_tiny):
    fresh_tiny.tokenizer.model_max_length -= 1
    assert encoders_fingerprint(fresh_tiny) != encoders_fingerprint(tiny)


def test_another_vocabulary_changes_it(tiny, fresh_tiny):
    fresh_tiny.tokenizer.add_tokens(["kettle-grip"])
    assert encoders_fingerprint(fresh_tiny) != encoders_fingerprint(tiny)
