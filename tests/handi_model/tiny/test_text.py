"""The tiny tokenizer and text encoder: any text is read, and meaning orders the sentences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from handi_model.config import ModelConfig
from handi_model.tiny import FOLDER, load_text_encoder, load_tokenizer
from handi_model.tiny.corpus import NOUNS, VERBS, instructions, is_held_out
from handi_model.tiny.train_text import (
    nearest_pair_accuracy,
    tokenize,
    train_text_encoder,
    train_tokenizer,
)

TOKENIZER = load_tokenizer()


@pytest.fixture(scope="module")
def encoder():
    return load_text_encoder()


def likeness(encoder, one: str, other: str) -> float:
    """Cosine of two sentences' pooled states."""
    pooled = encoder(input_ids=tokenize(TOKENIZER, [one, other])).pooler_output
    return float(torch.cosine_similarity(pooled[0], pooled[1], dim=0))


@settings(max_examples=50)
@given(st.text(max_size=60))
def test_any_text_becomes_24_tokens_with_one_start_and_an_end(text):
    (numbers,) = tokenize(TOKENIZER, [text]).tolist()
    assert len(numbers) == 24
    assert numbers[0] == TOKENIZER.bos_token_id
    assert TOKENIZER.eos_token_id in numbers
    assert max(numbers) < len(TOKENIZER)


@given(st.text(st.characters(categories=["L", "S", "Nd"]), max_size=12))
def test_no_letter_or_sign_is_unknown(text):
    inner = TOKENIZER(text).input_ids[1:-1]
    assert TOKENIZER.unk_token_id not in inner


def test_case_and_spaces_do_not_matter():
    assert (
        TOKENIZER("  Slice   THE cucumber ").input_ids == TOKENIZER("slice the cucumber").input_ids
    )


def test_words_of_the_grammar_are_single_tokens():
    assert TOKENIZER.tokenize("slice the cucumber") == ["slice</w>", "the</w>", "cucumber</w>"]


def test_the_general_loader_reads_the_same_tokenizer():
    general = AutoTokenizer.from_pretrained(FOLDER / "tokenizer", local_files_only=True)
    for text in ("open the drawer", "déjà vu 12 ✂"):
        assert general(text).input_ids == TOKENIZER(text).input_ids
    assert general.model_max_length == 24


def test_the_encoder_fits_tokenizer_and_preset(encoder):
    tokens = tokenize(TOKENIZER, ["open the drawer", ""])
    states = encoder(input_ids=tokens).last_hidden_state
    assert states.shape == (2, 24, ModelConfig.of("tiny").cross_attention_dim)
    assert encoder.config.vocab_size == len(TOKENIZER)
    assert encoder.config.eos_token_id == TOKENIZER.eos_token_id
    assert 0.7 < float(states.std()) < 1.4


@pytest.mark.parametrize(
    ("one", "same", "other"),
    [
        ("cut cucumber", "slice the cucumber", "open the drawer"),
        ("cut cucumber", "slice the cucumber", "open the cucumber"),
        ("cut cucumber", "slice the cucumber", "cut the paper"),
        ("pick up the cup", "lift cup", "put down the cup"),
        ("open lid", "open up the lid with both hands", "close lid"),
    ],
)
def test_the_same_in_other_words_is_nearer_than_something_else(encoder, one, same, other):
    assert likeness(encoder, one, same) > likeness(encoder, one, other) + 0.1


def test_pairs_that_were_never_trained_on_are_told_apart(encoder):
    lines = instructions(200, np.random.default_rng(11), held_out=True)
    assert nearest_pair_accuracy(encoder, TOKENIZER, lines) > 0.9


def test_the_grammar_names_every_action_and_thing_once():
    words = [word for group in VERBS for word in group]
    assert len(VERBS) >= 60 and len(NOUNS) >= 200
    assert len(set(words)) == len(words)
    assert len(set(NOUNS)) == len(NOUNS)


def test_sentences_say_their_verb_and_noun_and_keep_to_their_side():
    for held_out in (False, True):
        for line in instructions(300, np.random.default_rng(0), held_out):
            assert any(word in line.text for word in VERBS[line.verb])
            assert NOUNS[line.noun] in line.text
            assert is_held_out(line.verb, line.noun) == held_out


def test_a_seed_decides_tokenizer_and_encoder():
    first, again = train_tokenizer(0, sentences=500), train_tokenizer(0, sentences=500)
    assert first.get_vocab() == again.get_vocab()
    one, other = (train_text_encoder(first, 2, batch_size=8).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], other[name]) for name in one)
