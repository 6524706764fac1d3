import pytest
from pydantic import ValidationError

from handi_model.config import PRESETS, ModelConfig


def test_the_base_preset_has_the_topology_of_the_published_checkpoint():
    base = ModelConfig.of("base")
    assert base.block_out_channels == (320, 640, 1280, 1280)
    assert base.attention_levels == (True, True, True, False)
    assert (base.layers_per_block, base.norm_num_groups) == (2, 32)
    assert (base.cross_attention_dim, base.attention_head_dim) == (1024, 64)
    assert (base.latent_channels, base.resolution // base.latent_factor) == (4, 32)
    assert (base.predicts, base.train_timesteps) == ("noise", 1000)
    assert base == ModelConfig()


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_knows_its_name_and_survives_json(preset):
    config = ModelConfig.of(preset)
    assert config.preset == preset
    assert ModelConfig.model_validate_json(config.model_dump_json()) == config


def test_a_preset_takes_changes_to_single_fields():
    changed = ModelConfig.of("tiny", num_frames=8)
    assert changed.num_frames == 8
    assert changed.model_copy(update={"num_frames": 16}) == ModelConfig.of("tiny")


def test_frames_must_fit_the_autoencoder_and_the_unet():
    assert ModelConfig.of("base").pixel_multiple == 64
    assert ModelConfig.of("tiny").pixel_multiple == 16
    assert ModelConfig.of("base", resolution=320).resolution == 320
    with pytest.raises(ValueError, match="resolution: 300 is not a multiple of 64"):
        ModelConfig.of("base", resolution=300)


def test_a_configuration_does_not_change():
    with pytest.raises(ValidationError, match="frozen"):
        ModelConfig.of("tiny").num_frames = 8  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resolutoin": 64}, "resolutoin: Extra inputs are not permitted"),
        ({"resolution": 4}, "resolution: .* greater than or equal to 8, got 4"),
        ({"resolution": "large"}, "resolution: .* integer.*, got 'large'"),
        ({"num_frames": 1}, "num_frames: .* greater than or equal to 2"),
        ({"predicts": "sample"}, "predicts: .*'noise' or 'velocity'"),
        ({"guidance_scale": float("nan")}, "guidance_scale: "),
        ({"guidance_scale": float("inf")}, "guidance_scale: .* finite"),
        ({"temporal_dropout": 1.0}, "temporal_dropout: .* less than 1"),
        ({"block_out_channels": ()}, "block_out_channels: .* at least 1"),
        ({"block_out_channels": (48, -96)}, r"block_out_channels\.1: .* greater than 0"),
        ({"block_out_channels": (48, 90)}, "block_out_channels: 90 is not a multiple"),
        ({"norm_num_groups": 32}, "block_out_channels: 48 is not a multiple of norm_num_groups"),
        ({"block_out_channels": (48,)}, "one entry a level"),
        ({"attention_levels": (True,)}, "one entry a level"),
        ({"beta_start": 0.02}, "beta_start must not exceed beta_end"),
        ({"beta_end": 1.5}, "beta_end: .* less than 1"),
        ({"num_inference_steps": 1001}, "num_inference_steps must not exceed"),
        ({"zero_terminal_snr": True, "predicts": "noise"}, "zero_terminal_snr needs predicts="),
    ],
)
def test_a_value_that_does_not_fit_is_refused_in_one_line_that_names_it(changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        ModelConfig.of("tiny", **changes)
    assert "\n" not in str(caught.value)


def test_an_unknown_preset_is_refused_with_the_ones_there_are():
    with pytest.raises(ValueError, match="'huge': there are base, tiny"):
        ModelConfig.of("huge")
