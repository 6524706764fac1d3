import copy
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from handi_model.config import STAGES, ModelConfig
from handi_model.pipeline import HandiPipeline
from handi_model.trainable import choose_trainable, merge_adapters, trainable_parameters
from handi_model.training import LossSettings, Networks, mask_step, video_step
from handi_model.unet import HandiUNet
from tests.closeness import COARSE_ROUNDING, ROUNDING, apart

SMALL = ModelConfig.of(
    "tiny",
    latent_channels=3,
    block_out_channels=(16, 32),
    attention_head_dim=8,
    norm_num_groups=8,
    cross_attention_dim=12,
    resolution=32,
    temporal_dropout=0.0,
)
ADDED = re.compile(
    r"conv_(in|out)\.(mask|video)\.(weight|bias)|frame_proj\.weight"
    r"|backbone\.time_embedding\.cond_proj\.weight"
)
"""What a HandiUNet has beside the published network."""
ATTENTION = re.compile(r"backbone\.(.*\.)?(transformer_in|(temp_)?attentions|temp_convs)\..*")
ADAPTERS = re.compile(r".*\.attn[12]\.(to_q|to_k|to_v|to_out\.0)\.lora_[AB]\.default\.weight")


def inputs() -> tuple[Tensor, ...]:
    """Noisy latent, timestep, text, image latent and area."""
    draw = torch.Generator().manual_seed(0)
    return (
        torch.randn(2, 3, 3, 4, 4, generator=draw),
        torch.randint(1000, (2,), generator=draw),
        torch.randn(2, 5, SMALL.cross_attention_dim, generator=draw),
        torch.randn(2, 3, 4, 4, generator=draw),
        torch.rand(2, 4, 4, generator=draw),
    )


def small_unet(seed: int = 0) -> HandiUNet:
    """With weights where an untrained network has zeros, so that every layer has its say."""
    torch.manual_seed(seed)
    unet = HandiUNet.of(SMALL)
    shake(dict(unet.named_parameters()))
    return unet


def shake(weights: dict[str, nn.Parameter]) -> None:
    with torch.no_grad():
        for weight in weights.values():
            weight.add_(0.05 * torch.randn(weight.shape))


@torch.no_grad()
def outputs(unet: HandiUNet) -> Tensor:
    return torch.stack([unet(*inputs(), stage) for stage in STAGES])


def test_all_trains_every_weight(fresh_tiny):
    fresh_tiny.unet.requires_grad_(False)
    choose_trainable(fresh_tiny.unet, "all", 4)
    assert list(trainable_parameters(fresh_tiny.unet)) == [
        name for name, _ in fresh_tiny.unet.named_parameters()
    ]


def test_attention_trains_attention_temporal_layers_and_what_was_added(fresh_tiny):
    unet = fresh_tiny.unet
    choose_trainable(unet, "attention", 4)
    trained = trainable_parameters(unet)
    assert list(trained) == [
        name
        for name, _ in unet.named_parameters()
        if ATTENTION.fullmatch(name) or ADDED.fullmatch(name)
    ]
    for kind in ("transformer_in", ".attentions.", ".temp_attentions.", ".temp_convs."):
        assert any(kind in name for name in trained)
    for kind in (".resnets.", "samplers.", "time_embedding.linear", "conv_norm_out"):
        assert not any(kind in name for name in trained)
        assert any(kind in name for name, _ in unet.named_parameters())


def test_lora_trains_adapters_of_the_rank_asked_for_and_what_was_added(fresh_tiny):
    unet = fresh_tiny.unet
    shapes = {name: weight.shape for name, weight in unet.named_parameters()}
    choose_trainable(unet, "lora", 3)
    trained = trainable_parameters(unet)
    adapters = {name: weight for name, weight in trained.items() if ADAPTERS.fullmatch(name)}
    assert trained.keys() - adapters.keys() == set(filter(ADDED.fullmatch, shapes))
    projections = [name for name in shapes if re.search(r"\.to_(q|k|v|out\.0)\.weight$", name)]
    assert len(adapters) == 2 * len(projections) > 0
    for name in projections:
        layer, (wide, narrow) = name.removesuffix(".weight"), shapes[name]
        assert adapters[f"{layer}.lora_A.default.weight"].shape == (3, narrow)
        assert adapters[f"{layer}.lora_B.default.weight"].shape == (wide, 3)


@pytest.mark.parametrize("what", ["all", "attention", "lora"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_both_stages_together_reach_all_that_trains_and_nothing_else(
    fresh_tiny, two_clips, detector, what, checkpointing
):
    unet = fresh_tiny.unet.train()
    choose_trainable(unet, what, 2)
    if checkpointing:
        unet.enable_gradient_checkpointing()
    networks = Networks.of(fresh_tiny, detector)
    clips = two_clips.take([0])
    losses = LossSettings(hand_timesteps=1, decoded_frames=1)
    reached = {}
    for stage in STAGES:
        unet.zero_grad()
        draw = torch.Generator().manual_seed(0)
        if stage == "mask":
            mask_step(networks, clips, losses, draw).loss.backward()
        else:
            video_step(networks, clips, clips.mask, losses, draw).loss.backward()
        reached[stage] = {n for n, weight in unet.named_parameters() if weight.grad is not None}
        assert all(weight.grad is None or weight.requires_grad for weight in unet.parameters())
    trained = trainable_parameters(unet).keys()
    assert reached["mask"] | reached["video"] == trained
    assert {name.split(".")[1] for name in reached["mask"] - reached["video"]} == {"mask"}
    assert {name.split(".")[1] for name in reached["video"] - reached["mask"]} == {"video"}


@pytest.mark.parametrize("precision", ["float32", "autocast"])
def test_adapters_change_nothing_before_they_are_trained(precision):
    def given() -> Tensor:
        # An autocast keeps its copies of the weights, so each call has its own.
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "autocast"):
            return outputs(unet)

    unet = small_unet()
    before = given()
    choose_trainable(unet, "lora", 4)
    rounding = ROUNDING if precision == "float32" else COARSE_ROUNDING
    assert apart(given(), before) < rounding
    shake(trainable_parameters(unet))
    assert apart(given(), before) > 0.1


def test_gradient_checkpointing_gives_adapters_the_same_gradients():
    unet = small_unet().train()
    choose_trainable(unet, "lora", 4)
    shake(trainable_parameters(unet))
    found = []
    for checkpointing in (False, True):
        if checkpointing:
            unet.enable_gradient_checkpointing()
        unet.zero_grad()
        unet(*inputs(), "video").square().mean().backward()
        found.append(
            {
                name: weight.grad.clone()
                for name, weight in trainable_parameters(unet).items()
                if weight.grad is not None
            }
        )
    plain, checkpointed = found
    assert plain.keys() == checkpointed.keys()
    assert all(plain[name].any() for name in plain if ADAPTERS.fullmatch(name))
    for name, gradient in plain.items():
        assert apart(checkpointed[name], gradient) < 10 * ROUNDING, name


@pytest.mark.parametrize("what", ["all", "attention", "lora"])
def test_a_training_goes_on_from_the_saved_weights_of_a_fresh_network(tmp_path, what):
    unet = small_unet()
    choose_trainable(unet, what, 4)
    shake(trainable_parameters(unet))
    save_file(unet.state_dict(), tmp_path / "all.safetensors")
    fresh = small_unet(seed=1)
    choose_trainable(fresh, what, 4)
    fresh.load_state_dict(load_file(tmp_path / "all.safetensors"))
    assert apart(outputs(fresh), outputs(unet)) < ROUNDING
    assert list(trainable_parameters(fresh)) == list(trainable_parameters(unet))


@settings(max_examples=5)
@given(rank=st.integers(1, 24), checkpointing=st.booleans())
def test_merging_keeps_the_output_and_brings_back_the_plain_names(rank, checkpointing):
    unet = small_unet()
    plain = copy.deepcopy(unet)
    if checkpointing:
        unet.enable_gradient_checkpointing()
    choose_trainable(unet, "lora", rank)
    shake(trainable_parameters(unet))
    trained = outputs(unet)
    merged = merge_adapters(unet)
    assert list(merged.state_dict()) == list(plain.state_dict())
    assert apart(outputs(merged), trained) < 10 * ROUNDING
    plain.load_state_dict(merged.state_dict())
    assert apart(outputs(plain), trained) < 10 * ROUNDING


@pytest.mark.parametrize("what", ["all", "attention"])
def test_merging_leaves_a_network_without_adapters_as_it_is(what):
    unet = small_unet()
    choose_trainable(unet, what, 4)
    before = copy.deepcopy(unet.state_dict())
    trained = list(trainable_parameters(unet))
    assert merge_adapters(unet) is unet
    assert list(trainable_parameters(unet)) == trained
    after = unet.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_a_pipeline_with_merged_adapters_is_saved_and_opened_as_any_other(
    fresh_tiny, two_clips, tmp_path
):
    choose_trainable(fresh_tiny.unet, "lora", 2)
    shake(trainable_parameters(fresh_tiny.unet))
    clips = two_clips.take([0])
    given = (
        clips.video_latent,
        torch.tensor([300]),
        clips.text,
        clips.image_latent,
        torch.full((1, 8, 8), 0.5),
        "video",
    )
    with torch.no_grad():
        trained = fresh_tiny.unet(*given)
        merge_adapters(fresh_tiny.unet)
        fresh_tiny.save_pretrained(tmp_path)
        opened = HandiPipeline.from_pretrained(tmp_path)
        assert apart(opened.unet(*given), trained) < 10 * ROUNDING
