import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.nn import functional
from transformers import CLIPConfig, CLIPModel

from handi_model.metrics.clip_scores import (
    BATCH,
    ClipEncoder,
    clip_consecutive,
    clip_gt,
    clip_text,
)
from handi_model.metrics.weights import WeightsError
from handi_model.tiny import load_tokenizer

SMALL = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}
WORDS = 16
"""Tokens that the tiny text encoder reads."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    tokenizer = load_tokenizer()
    marks = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id")}
    text = {**SMALL, **marks, "vocab_size": len(tokenizer), "max_position_embeddings": WORDS}
    vision = {**SMALL, "image_size": 32, "patch_size": 8}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=6)
    CLIPModel(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module")
def encoder(folder):
    return ClipEncoder.load(folder)


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 256, (BATCH + 3, 40, 56, 3), np.uint8)


def test_frames_score_as_transformers_scores_them(encoder, folder, frames):
    model = CLIPModel.from_pretrained(folder)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])
    deviation = torch.tensor([0.26862954, 0.26130258, 0.27577711])
    scaled = (torch.from_numpy(frames) / 255 - mean) / deviation
    pixels = functional.interpolate(scaled.permute(0, 3, 1, 2), (32, 32), mode="bicubic")
    with torch.no_grad():
        expected = model.get_image_features(pixels).pooler_output
    expected = expected / expected.norm(dim=1, keepdim=True)
    np.testing.assert_allclose(encoder.images(frames), expected, atol=2e-5)


def test_sentences_score_as_transformers_scores_them_one_by_one(encoder, folder):
    model, tokenizer = CLIPModel.from_pretrained(folder), load_tokenizer()
    sentences = ["open the drawer", "cut an onion in two halves", "pour"] * BATCH
    with torch.no_grad():
        expected = torch.cat(
            [
                model.get_text_features(**tokenizer(s, return_tensors="pt")).pooler_output
                for s in sentences
            ]
        )
    expected = expected / expected.norm(dim=1, keepdim=True)
    np.testing.assert_allclose(encoder.texts(sentences), expected, atol=2e-5)


def test_a_sentence_that_is_too_long_is_cut(encoder):
    long = "open the drawer and take out the knife " * 5
    assert encoder.texts([long, long + "again"]).shape == (2, 6)


def test_embeddings_are_of_unit_length(encoder, frames):
    np.testing.assert_allclose(np.linalg.norm(encoder.images(frames), axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(encoder.texts(["pour", "cut"]), axis=1), 1, atol=1e-6)


def test_an_embedding_does_not_depend_on_the_rest_of_the_batch(encoder, frames):
    together = encoder.images(frames)
    alone = np.concatenate([encoder.images(frames[i : i + 1]) for i in range(len(frames))])
    np.testing.assert_allclose(together, alone, atol=2e-5)


def test_the_whole_frame_counts_as_it_is_squashed_and_not_cropped(encoder, frames):
    changed = frames[:1].copy()
    changed[:, :, :4] = 0
    assert np.abs(encoder.images(changed) - encoder.images(frames[:1])).max() > 1e-4


def test_a_clip_against_itself_and_a_still_clip_score_one(encoder, frames):
    clip = encoder.images(frames)
    assert clip_gt(clip, clip) == pytest.approx(1, abs=1e-12)
    assert clip_consecutive(np.repeat(clip[:1], 5, axis=0)) == pytest.approx(1, abs=1e-12)


def test_scores_by_hand():
    right, up = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    slanted = np.array([0.6, 0.8])
    assert clip_gt(np.stack([right, right]), np.stack([up, slanted])) == pytest.approx(0.3)
    assert clip_consecutive(np.stack([right, slanted, up])) == pytest.approx(0.7)
    assert clip_text(np.stack([right, slanted]), right) == pytest.approx(80)


@given(arrays(np.float32, (2, 3, 4), elements=st.floats(0.125, 1, width=32)), st.integers(0, 23))
def test_scores_stay_in_their_ranges_whatever_the_lengths(clips, flipped):
    clips.reshape(-1)[:flipped] *= -1
    assert -1 <= clip_gt(clips[0], clips[1]) <= 1
    assert -1 <= clip_consecutive(clips[0]) <= 1
    assert -100 <= clip_text(clips[0], clips[1, 0]) <= 100


def test_clips_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match=r"\(3, 2\) and \(4, 2\)"):
        clip_gt(np.ones((3, 2)), np.ones((4, 2)))


def test_one_frame_has_no_consistency():
    with pytest.raises(ValueError, match="two frames"):
        clip_consecutive(np.ones((1, 2)))


def test_the_line_about_missing_weights_names_the_callers_key(tmp_path):
    with pytest.raises(WeightsError, match=r"--metrics\.clip"):
        ClipEncoder.load(str(tmp_path), key="metrics.clip")
