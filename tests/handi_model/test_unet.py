import copy
import json
import os
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from diffusers import UNet3DConditionModel
from diffusers.models.attention_processor import AttnProcessor2_0
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from handi_model.config import STAGES, ModelConfig
from handi_model.unet import HandiUNet
from tests.closeness import COARSE_ROUNDING, ROUNDING, apart

CONFIG = ModelConfig.of(
    "tiny",
    latent_channels=3,
    block_out_channels=(16, 32),
    attention_head_dim=8,
    norm_num_groups=8,
    cross_attention_dim=12,
    resolution=32,
)
TEXT_ENCODER_AND_AUTOENCODER = 340e6 + 84e6
"""Parameters of the networks that the published checkpoint has beside its UNet."""


def inputs(config: ModelConfig = CONFIG, batch: int = 2, frames: int = 3, side: int = 4):
    """Noisy latent, timestep, text, image latent and area."""
    draw = torch.Generator().manual_seed(batch + frames + side)
    channels = config.latent_channels
    return (
        torch.randn(batch, channels, frames, side, side, generator=draw),
        torch.randint(1000, (batch,), generator=draw),
        torch.randn(batch, 5, config.cross_attention_dim, generator=draw),
        torch.randn(batch, channels, side, side, generator=draw),
        torch.rand(batch, side, side, generator=draw),
    )


def plain_unet(config: ModelConfig) -> UNet3DConditionModel:
    """The text-to-video UNet of this topology, as the published checkpoint would build it."""
    levels = config.attention_levels
    return UNet3DConditionModel(
        sample_size=32,
        in_channels=config.latent_channels,
        out_channels=config.latent_channels,
        down_block_types=[
            "CrossAttnDownBlock3D" if attends else "DownBlock3D" for attends in levels
        ],
        up_block_types=[
            "CrossAttnUpBlock3D" if attends else "UpBlock3D" for attends in levels[::-1]
        ],
        block_out_channels=list(config.block_out_channels),
        layers_per_block=config.layers_per_block,
        cross_attention_dim=config.cross_attention_dim,
        attention_head_dim=config.attention_head_dim,
        norm_num_groups=config.norm_num_groups,
    )


def shaken(module: nn.Module) -> nn.Module:
    """Give every weight that starts at zero a value, so that nothing is hidden behind it."""
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(torch.randn(weight.shape, generator=draw), alpha=0.02)
    return module


@pytest.fixture
def unet() -> HandiUNet:
    return shaken(HandiUNet.of(CONFIG)).eval()


@pytest.fixture
def plain() -> UNet3DConditionModel:
    return shaken(plain_unet(CONFIG)).eval()


def count(module: nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


@pytest.mark.parametrize("preset", ["tiny", "base"])
def test_two_stages_cost_at_most_seven_percent_more_than_the_plain_unet(preset):
    config = ModelConfig.of(preset)
    with torch.device("meta"):
        assert count(HandiUNet.of(config)) <= 1.07 * count(plain_unet(config))


def test_the_base_model_has_the_published_unet_and_fits_in_1_94_billion_in_all():
    config = ModelConfig.of("base")
    with torch.device("meta"):
        plain, ours = count(UNet3DConditionModel(sample_size=32)), count(HandiUNet.of(config))
        assert plain == count(plain_unet(config))
    assert plain == pytest.approx(1.413e9, rel=0.002)
    assert ours + TEXT_ENCODER_AND_AUTOENCODER <= 1.94e9


def test_a_head_of_the_base_model_has_64_channels():
    with torch.device("meta"):
        backbone = HandiUNet.of(ModelConfig.of("base")).backbone
    attention = backbone.down_blocks[0].attentions[0].transformer_blocks[0].attn1
    assert attention.heads == 5
    assert attention.inner_dim == 320


@pytest.mark.parametrize("shard", ["10GB", "100KB"])
@pytest.mark.parametrize("place", ["unet", "."])
def test_before_any_training_it_gives_what_the_checkpoint_gives(tmp_path, plain, shard, place):
    plain.save_pretrained(tmp_path / place, max_shard_size=shard)
    assert (len(list((tmp_path / place).glob("*.safetensors"))) > 1) == (shard == "100KB")
    unet = HandiUNet.from_text_to_video(tmp_path, CONFIG)
    assert unet.training
    unet.eval()
    noisy, timestep, text, image_latent, area = inputs()
    with torch.no_grad():
        expected = plain(noisy, timestep, text).sample
        for stage in STAGES:
            for image, where in ((image_latent, area), (100 * image_latent, 1 - area)):
                given = unet(noisy, timestep, text, image, where, stage)
                assert apart(given, expected) < ROUNDING


def test_the_tiny_preset_starts_from_a_checkpoint_of_its_topology(tmp_path):
    config = ModelConfig.of("tiny")
    plain = shaken(plain_unet(config)).eval()
    plain.save_pretrained(tmp_path / "unet")
    unet = HandiUNet.from_text_to_video(str(tmp_path), config).eval()
    noisy, timestep, text, image_latent, area = inputs(config)
    with torch.no_grad():
        given = unet(noisy, timestep, text, image_latent, area, "video")
        assert apart(given, plain(noisy, timestep, text).sample) < ROUNDING


def test_what_started_from_a_checkpoint_is_saved_apart_from_it(tmp_path, plain):
    plain.save_pretrained(tmp_path / "plain")
    unet = HandiUNet.from_text_to_video(tmp_path / "plain", CONFIG).eval()
    unet.save_pretrained(tmp_path / "ours")
    with torch.no_grad():
        expected = unet(*inputs(), "mask")
        ours = HandiUNet.from_pretrained(tmp_path / "ours")
        assert apart(ours(*inputs(), "mask"), expected) < ROUNDING
        for weight in unet.parameters():
            weight.zero_()
    again = UNet3DConditionModel.from_pretrained(tmp_path / "plain")
    assert torch.equal(again.conv_in.weight, plain.conv_in.weight)


def test_a_checkpoint_in_half_precision_starts_a_float32_model(tmp_path, plain):
    plain.half().save_pretrained(tmp_path)
    unet = HandiUNet.from_text_to_video(tmp_path, CONFIG)
    assert {weight.dtype for weight in unet.parameters()} == {torch.float32}
    assert torch.equal(unet.backbone.conv_norm_out.weight, plain.conv_norm_out.weight.float())


def test_after_starting_from_a_checkpoint_every_weight_of_a_stage_learns_and_is_its_own(
    tmp_path, plain
):
    plain.save_pretrained(tmp_path)
    unet = HandiUNet.from_text_to_video(tmp_path, CONFIG)
    unet(*inputs(), "mask").square().sum().backward()
    without = {name for name, weight in unet.named_parameters() if weight.grad is None}
    other = {name for name, _ in unet.named_parameters() if name.split(".")[1] == "video"}
    assert without == other
    for name in ("conv_in.mask.weight", "conv_out.mask.weight", "frame_proj.weight"):
        assert unet.get_parameter(name).grad.abs().amax() > 0
    # The image latent's and the mask's channels, too, and this stage's vector alone.
    assert (unet.conv_in["mask"].weight.grad.abs().amax((0, 2, 3)) > 0).all()
    vectors = unet.backbone.time_embedding.cond_proj.weight.grad.abs().amax(0)
    assert vectors[0] > 0
    assert vectors[1] == 0
    assert len({weight.data_ptr() for weight in unet.parameters()}) == len(list(unet.parameters()))


def without_file(folder: Path) -> None:
    (folder / "diffusion_pytorch_model.safetensors").unlink()


def pickled(folder: Path) -> None:
    weights = folder / "diffusion_pytorch_model.safetensors"
    torch.save(load_file(weights), folder / "diffusion_pytorch_model.bin")
    weights.unlink()


def incomplete(folder: Path) -> None:
    file = folder / "diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    del weights["mid_block.resnets.0.norm1.bias"]
    save_file(weights, file)


def cut_off(folder: Path) -> None:
    file = folder / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def without_shard(folder: Path) -> None:
    shutil.rmtree(folder)
    plain_unet(CONFIG).save_pretrained(folder, max_shard_size="100KB")
    next(iter(sorted(folder.glob("*-00002-of-*")))).unlink()


def changed(**entries: object) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | entries))

    return change


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shutil.rmtree, "neither a folder nor a hub id"),
        (lambda folder: (folder / "config.json").unlink(), r"config\.json cannot be read"),
        (lambda folder: (folder / "config.json").write_text("{"), r"config\.json cannot be read"),
        (changed(_class_name="UNet2DConditionModel"), "UNet2DConditionModel, not"),
        (changed(cross_attention_dim=1024), "cross_attention_dim 1024, the preset 'tiny' needs 12"),
        (changed(block_out_channels=[16, 64]), r"block_out_channels \[16, 64\]"),
        (changed(act_fn="gelu"), "act_fn gelu"),
        (changed(time_cond_proj_dim=256), "time_cond_proj_dim 256"),
        (pickled, r"Pickled weights \(\.bin\) are not read"),
        (without_file, r"has no diffusion_pytorch_model\.safetensors"),
        (without_shard, "has no diffusion_pytorch_model-00002"),
        (incomplete, r"mid_block\.resnets\.0\.norm1\.bias"),
        (cut_off, "is damaged: it holds"),
    ],
)
def test_a_checkpoint_that_cannot_start_it_is_refused_in_one_line(tmp_path, plain, spoil, message):
    folder = tmp_path / "checkpoint"
    plain.save_pretrained(folder)
    spoil(folder)
    with pytest.raises(ValueError, match=message) as caught:
        HandiUNet.from_text_to_video(folder, CONFIG)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_hub_id_names_the_pipeline_whose_unet_starts_it(tmp_path, plain, monkeypatch):
    plain.save_pretrained(tmp_path / "unet")
    asked = []

    def snapshot(name: str, allow_patterns: list[str]) -> str:
        asked.append(name)
        return str(tmp_path)

    monkeypatch.setattr("handi_model.text_to_video.snapshot_download", snapshot)
    unet = HandiUNet.from_text_to_video("owner/text-to-video", CONFIG)
    assert asked == ["owner/text-to-video"]
    assert torch.equal(unet.conv_out["mask"].weight, plain.conv_out.weight)


def test_each_stage_sees_image_area_text_and_timestep(unet):
    given = inputs()
    with torch.no_grad():
        for stage in STAGES:
            whole = unet(*given, stage)
            for index in range(len(given)):
                other = [value.flip(0) if i == index else value for i, value in enumerate(given)]
                assert not torch.allclose(whole, unet(*other, stage))
        assert not torch.allclose(unet(*given, "mask"), unet(*given, "video"))


def test_a_frame_knows_its_place_in_the_clip():
    # A new network's temporal convolutions add nothing, and attention knows no order.
    unet = HandiUNet.of(CONFIG).eval()
    noisy, *others = inputs(frames=4)
    noisy = noisy[:, :, :1].expand_as(noisy)
    with torch.no_grad():
        frames = unet(noisy, *others, "video").unbind(2)
        assert apart(frames[1], frames[2]) < ROUNDING
        unet.frame_proj.weight.normal_()
        frames = unet(noisy, *others, "video").unbind(2)
    for earlier, later in pairwise(frames):
        assert not torch.allclose(earlier, later, rtol=1e-3, atol=1e-3)


def test_the_items_of_a_batch_do_not_see_each_other(unet):
    given = inputs(batch=3)
    with torch.no_grad():
        together = unet(*given, "video")
        for i in range(3):
            alone = unet(*(value[i : i + 1] for value in given), "video")
            assert apart(alone[0], together[i]) < ROUNDING


@pytest.mark.parametrize(("frames", "side"), [(1, 4), (5, 4), (16, 2), (3, 10)])
def test_it_takes_other_frame_counts_and_sizes_than_it_was_made_for(unet, frames, side):
    given = inputs(frames=frames, side=side)
    with torch.no_grad():
        output = unet(*given, "mask")
    assert output.shape == given[0].shape
    assert output.isfinite().all()


def gradients(unet: HandiUNet) -> tuple[Tensor, dict[str, Tensor], int]:
    """Output, gradients by name, and the bytes of activations kept for the backward pass."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    unet.zero_grad()
    torch.manual_seed(0)  # of the dropout
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        output = unet(
            *(value.to(unet.dtype) if value.ndim > 1 else value for value in inputs()), "video"
        )
    output.float().square().mean().backward()
    named = {
        name: weight.grad for name, weight in unet.named_parameters() if weight.grad is not None
    }
    weights = {weight.untyped_storage().data_ptr() for weight in unet.parameters()}
    activations = sum(size for place, size in kept.items() if place not in weights)
    return output.detach(), copy.deepcopy(named), activations


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "autocast"])
def test_gradient_checkpointing_changes_the_memory_and_nothing_else(precision):
    unet = shaken(HandiUNet.of(CONFIG.model_copy(update={"temporal_dropout": 0.3}))).train()
    if precision == "bfloat16":
        unet.to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "autocast"):
        output, expected, memory = gradients(unet)
        unet.enable_gradient_checkpointing()
        assert unet.is_gradient_checkpointing
        same_output, given, less_memory = gradients(unet)
        unet.disable_gradient_checkpointing()
        assert not unet.is_gradient_checkpointing
        *_, memory_again = gradients(unet)
    rounding = ROUNDING if precision == "float32" else COARSE_ROUNDING
    assert apart(same_output, output) < rounding
    assert given.keys() == expected.keys()
    for name, gradient in expected.items():
        assert apart(given[name], gradient) < 10 * rounding, name
    assert less_memory < 0.4 * memory
    assert memory_again == memory


def test_checkpointed_layers_keep_their_weights_names_and_their_copies_are_their_own(unet):
    names = [name for name, _ in unet.named_parameters()]
    unet.enable_gradient_checkpointing()
    unet.enable_gradient_checkpointing()
    assert [name for name, _ in unet.named_parameters()] == names
    twin = copy.deepcopy(unet)
    with torch.no_grad():
        before = unet(*inputs(), "mask")
        for weight in twin.parameters():
            weight.zero_()
        assert torch.equal(unet(*inputs(), "mask"), before)
        assert not twin(*inputs(), "mask").any()


@pytest.mark.parametrize("checkpointing", [False, True])
def test_data_parallel_steps_of_both_stages_give_the_gradients_of_the_bare_network(
    unet, tmp_path, checkpointing
):
    twin = copy.deepcopy(unet)
    if checkpointing:
        unet.enable_gradient_checkpointing()
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    try:
        # A step leaves the other stage's first and last convolution out.
        parallel = DistributedDataParallel(unet, find_unused_parameters=True)
        for stage in ("mask", "video", "mask"):
            parallel.zero_grad()
            twin.zero_grad()
            parallel(*inputs(), stage).square().sum().backward()
            twin(*inputs(), stage).square().sum().backward()
            for given, expected in zip(unet.parameters(), twin.parameters(), strict=True):
                if expected.grad is not None:
                    assert apart(given.grad, expected.grad) < 10 * ROUNDING
    finally:
        torch.distributed.destroy_process_group()


def test_a_network_in_bfloat16_stays_close_to_the_one_in_float32(unet):
    given = inputs()
    with torch.no_grad():
        expected = unet(*given, "video")
        unet.to(torch.bfloat16)
        halved = [value.bfloat16() if value.is_floating_point() else value for value in given]
        output = unet(*halved, "video")
    assert output.dtype == torch.bfloat16
    error = (output.float() - expected).square().mean() / expected.square().mean()
    assert error < 0.05**2


def test_attention_is_torchs_scaled_dot_product_attention(unet):
    processors = unet.backbone.attn_processors.values()
    assert {type(processor) for processor in processors} == {AttnProcessor2_0}


class NoWaiting(TorchDispatchMode):
    """Fails on every operation that makes the host wait for the device."""

    WAITS = ("_local_scalar_dense", "item", "is_nonzero", "nonzero", "equal", "masked_select")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in self.WAITS and not name.startswith(("unique", "_unique")), name
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("stage", STAGES)
def test_a_step_never_waits_for_the_device(unet, stage):
    with pytest.raises(AssertionError, match="_local_scalar_dense"), NoWaiting():
        torch.ones(1).item()
    unet.enable_gradient_checkpointing()
    given = inputs()
    with NoWaiting():
        unet(*given, stage).square().mean().backward()


@pytest.mark.parametrize("stage", STAGES)
def test_a_step_neither_mixes_devices_nor_looks_at_values(stage):
    # A tensor on the meta device has a shape and a device but no values.
    with torch.device("meta"):
        unet = HandiUNet.of(CONFIG)
    batch = [value.to("meta") for value in inputs()]
    with pytest.raises(RuntimeError):
        unet(batch[0], inputs()[1], *batch[2:], stage)
    output = unet(*batch, stage)
    output.square().mean().backward()
    assert output.shape == batch[0].shape
    assert unet.frame_proj.weight.grad.device.type == "meta"


INDUCTOR = pytest.param(
    "inductor",
    marks=[
        pytest.mark.slow,
        pytest.mark.skipif(not shutil.which(os.environ.get("CXX", "g++")), reason="no compiler"),
    ],
)


@pytest.mark.parametrize("backend", ["eager", INDUCTOR])
@pytest.mark.parametrize("stage", STAGES)
def test_a_compiled_forward_has_no_graph_break_and_the_same_output(unet, backend, stage):
    torch._dynamo.reset()
    compiled = torch.compile(unet, fullgraph=True, backend=backend)
    with torch.no_grad():
        assert apart(compiled(*inputs(), stage), unet(*inputs(), stage)) < 10 * ROUNDING


@pytest.mark.slow
def test_a_compiled_training_step_with_checkpointing_has_the_same_gradients(unet):
    torch._dynamo.reset()
    unet.enable_gradient_checkpointing()
    _, expected, _ = gradients(unet)
    unet.zero_grad()
    compiled = torch.compile(unet, fullgraph=True, backend="aot_eager")
    compiled(*inputs(), "video").square().mean().backward()
    for name, gradient in expected.items():
        assert apart(unet.get_parameter(name).grad, gradient) < 10 * ROUNDING, name


def test_saved_and_loaded_it_is_the_same_network_with_the_same_prior(unet, tmp_path):
    unet.set_prior(torch.rand(64, 64))
    unet.save_pretrained(tmp_path)
    assert list(tmp_path.glob("*.safetensors"))
    loaded = HandiUNet.from_pretrained(tmp_path)
    assert torch.equal(loaded.prior, unet.prior)
    with torch.no_grad():
        for stage in STAGES:
            assert apart(loaded(*inputs(), stage), unet(*inputs(), stage)) < ROUNDING


def test_the_prior_is_kept_at_the_latents_size_as_the_mean_of_its_pixels(unet):
    prior = torch.zeros(32, 32)
    prior[:8, :12] = 1
    unet.set_prior(prior)
    assert unet.prior.shape == (4, 4)
    assert torch.equal(unet.prior[0], torch.tensor([1, 0.5, 0, 0]))
    assert not unet.prior[1:].any()


@pytest.mark.parametrize(
    "prior", [torch.zeros(1, 8, 8), torch.full((8, 8), 1.5), torch.full((8, 8), float("nan"))]
)
def test_a_prior_that_is_not_a_map_of_shares_is_refused(unet, prior):
    with pytest.raises(ValueError, match="prior"):
        unet.set_prior(prior)


def test_dropout_is_in_the_temporal_convolutions_alone_and_only_while_training():
    unet = shaken(HandiUNet.of(CONFIG.model_copy(update={"temporal_dropout": 0.3})))
    rates = {
        name: module.p
        for name, module in unet.named_modules()
        if isinstance(module, nn.Dropout) and module.p
    }
    assert set(rates.values()) == {0.3}
    assert all("temp_convs" in name for name in rates)
    with torch.no_grad():
        unet.eval()
        assert torch.equal(unet(*inputs(), "mask"), unet(*inputs(), "mask"))
        unet.train()
        assert not torch.equal(unet(*inputs(), "mask"), unet(*inputs(), "mask"))
