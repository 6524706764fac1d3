import threading
import time
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel

from handi_model.hands.model_files import sha256
from handi_model.metrics import hub_models
from handi_model.metrics.clip_scores import CLIP
from handi_model.metrics.hub_models import load_hub_model
from handi_model.metrics.weights import WeightsError
from handi_model.tiny import load_tokenizer

SMALL = {
    "hidden_size": 8,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip")
    tokenizer = load_tokenizer()
    text = {**SMALL, "vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id}
    vision = {**SMALL, "image_size": 16, "patch_size": 8}
    CLIPModel(
        CLIPConfig(text_config=text, vision_config=vision, projection_dim=4)
    ).half().save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """An empty cache, and a hub whose name is not known."""

    def fails(*arguments, **options):
        raise OSError("[Errno -2] Name or service not known")

    monkeypatch.setattr(hub_models, "_see_that_the_hub_answers", fails)
    monkeypatch.setattr(
        hub_models,
        "snapshot_download",
        lambda *a, **options: (
            pytest.fail("tried the hub all the same")
            if not options["local_files_only"]
            else fails()
        ),
    )


def published(folder):
    """CLIP, were this its file."""
    return replace(CLIP, sha256=sha256(folder / "model.safetensors"))


def test_a_folder_is_loaded_frozen_and_in_float32(folder):
    model, tokenizer, _ = load_hub_model(CLIP, CLIPModel, str(folder))
    assert not model.training
    assert {(p.dtype, p.requires_grad) for p in model.parameters()} == {(torch.float32, False)}
    assert tokenizer("open the drawer").input_ids == load_tokenizer()("open the drawer").input_ids


def test_the_origin_tells_the_published_weights_from_others(folder):
    digest = sha256(folder / "model.safetensors")
    _, _, other = load_hub_model(CLIP, CLIPModel, str(folder))
    _, _, same = load_hub_model(replace(CLIP, sha256=digest), CLIPModel, str(folder))
    assert (other.sha256, other.reference) == (digest, False)
    assert (same.sha256, same.reference) == (digest, True)
    assert same.path == str(folder)


def test_without_folder_cache_and_network_one_line_names_all_three_and_the_key(no_network):
    with pytest.raises(WeightsError) as error:
        load_hub_model(CLIP, CLIPModel)
    message = str(error.value)
    assert "\n" not in message
    for part in ("CLIP ViT-L/14", "--clip", "openai/clip-vit-large-patch14", "cache", "not known"):
        assert part in message


def test_the_hub_is_asked_once_before_its_library_tries_for_minutes(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    sleep = time.sleep

    def no_waiting(seconds: float) -> None:
        if threading.current_thread() is threading.main_thread():
            pytest.fail("tried again")
        sleep(seconds)  # others go on with what they wait for

    monkeypatch.setattr(time, "sleep", no_waiting)
    with pytest.raises(WeightsError, match="--clip"):
        load_hub_model(CLIP, CLIPModel)


def test_a_whole_snapshot_in_the_cache_needs_no_network(folder, monkeypatch):
    def cached(repository, revision, local_files_only, **options):
        assert (repository, revision) == (CLIP.repository, CLIP.revision)
        assert local_files_only
        return str(folder)

    monkeypatch.setattr(hub_models, "snapshot_download", cached)
    assert load_hub_model(published(folder), CLIPModel)[2].path == str(folder)


def test_a_damaged_file_in_the_cache_is_refused_unless_its_folder_is_named(folder, monkeypatch):
    monkeypatch.setattr(hub_models, "snapshot_download", lambda *a, **o: str(folder))
    with pytest.raises(WeightsError, match=r"has SHA-256 \w{16}.*--clip"):
        load_hub_model(CLIP, CLIPModel)
    assert load_hub_model(CLIP, CLIPModel, str(folder))[2].path == str(folder)


def test_a_snapshot_without_weights_is_completed_from_the_hub(folder, monkeypatch, tmp_path):
    monkeypatch.setattr(hub_models, "_see_that_the_hub_answers", lambda published: None)
    monkeypatch.setattr(
        hub_models,
        "snapshot_download",
        lambda *a, local_files_only, **o: str(tmp_path if local_files_only else folder),
    )
    assert load_hub_model(published(folder), CLIPModel)[2].path == str(folder)


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"has no model.safetensors; .*--clip") as error:
        load_hub_model(CLIP, CLIPModel, str(tmp_path))
    assert "\n" not in str(error.value)


def test_a_folder_of_another_model_is_refused(tmp_path):
    tokenizer = load_tokenizer()
    CLIPTextModel(CLIPTextConfig(**SMALL, vocab_size=len(tokenizer))).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(WeightsError, match=r"type clip_text_model, not clip; .*--clip") as error:
        load_hub_model(CLIP, CLIPModel, str(tmp_path))
    assert "\n" not in str(error.value)


def test_weights_that_lack_a_part_are_refused_rather_than_made_up(folder, tmp_path):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(folder / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(WeightsError, match=r"lacks visual_projection.weight; .*--clip"):
        load_hub_model(CLIP, CLIPModel, str(tmp_path))


def test_damaged_weights_are_refused_in_one_line(folder, tmp_path):
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"half a file")
    with pytest.raises(WeightsError, match=r"cannot be read as a CLIPModel .*--clip") as error:
        load_hub_model(CLIP, CLIPModel, str(tmp_path))
    assert "\n" not in str(error.value)
