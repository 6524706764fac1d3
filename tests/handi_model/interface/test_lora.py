"""Adapters go in and out of the pipeline in diffusers' manner."""

import re

import pytest
import torch
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from handi_model import HandiPipeline
from handi_model.trainable import choose_trainable
from tests.closeness import ROUNDING, apart

FILE = "pytorch_lora_weights.safetensors"


def adapters(pipe, seed: int, **changes) -> dict[str, torch.Tensor]:
    """Adapters of a UNet that was trained with peft, by their names in it."""
    rank = {"r": 2, "lora_alpha": 4, "target_modules": ["to_q", "to_v"], **changes}
    pipe.unet.add_adapter(LoraConfig(**rank), "trained")
    draw = torch.Generator().manual_seed(seed)
    for name, weight in pipe.unet.named_parameters():
        if "lora_" in name:
            weight.data = 0.3 * torch.randn(weight.shape, generator=draw)
    weights = get_peft_model_state_dict(pipe.unet, adapter_name="trained")
    weights = {name: weight.clone() for name, weight in weights.items()}
    pipe.unet.delete_adapters("trained")
    pipe.unload_lora_weights()
    return weights


@pytest.fixture
def pipe(fresh_tiny) -> HandiPipeline:
    """With weight to its attention, which a new model gives none in its temporal layers."""
    generator = torch.Generator().manual_seed(1)
    for name, weight in fresh_tiny.unet.named_parameters():
        if "to_out" in name or "proj_out" in name:
            weight.data.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return fresh_tiny


@torch.no_grad()
def answer(pipe: HandiPipeline) -> torch.Tensor:
    """Of the network to something."""
    draw = torch.Generator().manual_seed(0)
    shapes = ((1, 16, 2, 8, 8), (1, 24, 64), (1, 16, 8, 8), (1, 8, 8))
    noisy, text, image, area = (torch.randn(shape, generator=draw) for shape in shapes)
    return pipe.unet(noisy, torch.tensor([300]), text, image, area, "video")


def test_saved_adapters_are_loaded_weighed_switched_and_taken_out(pipe, tmp_path):
    plain = answer(pipe)
    for seed in (1, 2):
        HandiPipeline.save_lora_weights(tmp_path / str(seed), adapters(pipe, seed))
    assert apart(answer(pipe), plain) < ROUNDING
    pipe.load_lora_weights(tmp_path / "1", adapter_name="one")
    one = answer(pipe)
    assert apart(one, plain) > 0.01
    pipe.load_lora_weights(tmp_path / "2", adapter_name="two")
    assert pipe.get_list_adapters() == {"unet": ["one", "two"]}
    pipe.set_adapters("two")
    assert apart(answer(pipe), one) > 0.01
    pipe.set_adapters(["one", "two"], [1.0, 0.0])
    assert apart(answer(pipe), one) < 10 * ROUNDING
    pipe.set_adapters(["one", "two"], [0.5, 0.0])
    assert apart(answer(pipe), one) > 0.001
    pipe.disable_lora()
    assert apart(answer(pipe), plain) < ROUNDING
    pipe.enable_lora()
    pipe.unload_lora_weights()
    assert pipe.get_list_adapters() == {}
    assert apart(answer(pipe), plain) < ROUNDING


def test_a_model_with_fused_adapters_is_saved_whole_and_one_with_loose_ones_is_not(pipe, tmp_path):
    plain_names = list(pipe.unet.state_dict())
    HandiPipeline.save_lora_weights(tmp_path / "lora", adapters(pipe, 1))
    pipe.load_lora_weights(tmp_path / "lora", adapter_name="mine")
    adapted = answer(pipe)
    with pytest.raises(ValueError, match=r"the adapters mine are loaded; .* fuse_lora\(\)"):
        pipe.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    assert list(pipe.unet.state_dict()) == plain_names
    pipe.save_pretrained(tmp_path / "model")
    opened = HandiPipeline.from_pretrained(tmp_path / "model")
    assert apart(answer(opened), adapted) < 100 * ROUNDING


def test_adapters_of_a_training_of_this_project_are_loaded_too(pipe, tmp_path):
    """What `trains: lora` puts into the network, scaled by alpha = rank."""
    source = {name: weight.clone() for name, weight in pipe.unet.state_dict().items()}
    choose_trainable(pipe.unet, "lora", 3)
    draw = torch.Generator().manual_seed(0)
    for name, weight in pipe.unet.named_parameters():
        if "lora_" in name:
            weight.data = 0.3 * torch.randn(weight.shape, generator=draw)
    trained = answer(pipe)
    weights = get_peft_model_state_dict(pipe.unet)
    fresh = HandiPipeline.from_pipe(pipe, unet=type(pipe.unet).from_config(pipe.unet.config).eval())
    fresh.unet.load_state_dict(source)
    HandiPipeline.save_lora_weights(tmp_path, weights)
    fresh.load_lora_weights(tmp_path)
    assert apart(answer(fresh), trained) < 100 * ROUNDING


def test_what_are_no_adapters_of_this_pipeline_is_refused(pipe, tmp_path):
    save_file({"transformer.lora_A.weight": torch.zeros(1, 1)}, tmp_path / FILE)
    with pytest.raises(ValueError, match=r"no weights of unet or text_encoder, but transformer\."):
        pipe.load_lora_weights(tmp_path)
    shapes = {"A": (2, 4), "B": (4, 2)}
    names = {f"unet.down.0.lora_{k}.weight": torch.ones(s) for k, s in shapes.items()}
    save_file(names, tmp_path / FILE)
    with pytest.raises(ValueError, match="not found in the base model"):
        pipe.load_lora_weights(tmp_path)


@pytest.mark.parametrize("given", [{"weight_name": "lora.bin"}, {"use_safetensors": False}])
def test_pickled_adapters_are_not_read(pipe, tmp_path, given):
    torch.save({"unet.lora_A.weight": torch.zeros(1)}, tmp_path / "lora.bin")
    torch.save({"unet.lora_A.weight": torch.zeros(1)}, tmp_path / "pytorch_lora_weights.bin")
    with pytest.raises(ValueError, match="read from safetensors alone"):
        pipe.load_lora_weights(tmp_path, **given)
    with pytest.raises(OSError, match=re.escape(FILE)):
        pipe.load_lora_weights(tmp_path)


def test_saved_adapters_are_safetensors(pipe, tmp_path):
    HandiPipeline.save_lora_weights(tmp_path, adapters(pipe, 1))
    assert [file.name for file in tmp_path.iterdir()] == [FILE]
    assert all(name.startswith("unet.backbone.") for name in load_file(tmp_path / FILE))
