"""Tokenizer and text encoder of the tiny preset: CLIP's classes, small, made from the grammar.

The encoder (transformers' `CLIPTextModel`; Radford et al., Learning Transferable Visual Models
From Natural Language Supervision, section 2.4) learns to tell the action and the thing of a
sentence from its last state, whatever the words and the template. That is all that a UNet trained
on a handful of clips needs of language: synonyms lie together, other actions apart.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np
import torch
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.trainers import BpeTrainer
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from handi_model.tiny.corpus import NOUNS, VERBS, Instruction, instructions

MAX_TOKENS = 24
VOCABULARY = 1536
CHANNELS = 64
START, END = "<|startoftext|>", "<|endoftext|>"
LEARNING_RATE = 3e-3


def train_tokenizer(seed: int = 0, sentences: int = 20_000) -> CLIPTokenizer:
    """Learn byte pairs from the grammar.

    Every byte is a token, within a word and at its end, so that no text is unknown.
    """
    corpus = [line.text for line in instructions(sentences, np.random.default_rng(seed))]
    learner = CLIPTokenizer().backend_tokenizer
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    endings = [letter + "</w>" for letter in letters]
    learner.train_from_iterator(
        corpus,
        BpeTrainer(
            vocab_size=VOCABULARY - 2,
            initial_alphabet=letters,
            special_tokens=endings,  # numbered before the training, or their order is chance
            end_of_word_suffix="</w>",
            show_progress=False,
        ),
    )
    learned = learner.get_vocab()
    tokens = letters + endings
    tokens += sorted(set(learned) - set(tokens) - {START, END}, key=lambda token: learned[token])
    # The two marks come last, as in CLIP: its text model once looked for the highest number.
    vocabulary = {token: number for number, token in enumerate([*tokens, START, END])}
    return CLIPTokenizer(vocab=vocabulary, merges=_merges(learner), model_max_length=MAX_TOKENS)


def train_text_encoder(
    tokenizer: CLIPTokenizer, steps: int, batch_size: int = 128, seed: int = 0
) -> CLIPTextModel:
    """Train on the grammar's sentences, held-out pairs left aside.

    The padding behind a sentence is trained like its end: cross-attention sees both.

    Returns:
        the model in evaluation mode; `last_hidden_state` is (N, 24, 64), and the final layer norm
        keeps it near unit deviation.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed + 1)
    model = CLIPTextModel(_config(tokenizer))
    verb_head, noun_head = nn.Linear(CHANNELS, len(VERBS)), nn.Linear(CHANNELS, len(NOUNS))
    weights = [*model.parameters(), *verb_head.parameters(), *noun_head.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    model.train()
    bar = tqdm(range(steps), desc="text encoder", mininterval=5)
    for step in bar:
        rise = min(1.0, (step + 1) / (0.05 * steps))
        for group in optimizer.param_groups:
            fall = 0.5 + 0.5 * math.cos(math.pi * step / steps)
            group["lr"] = LEARNING_RATE * rise * fall
        batch = instructions(batch_size, rng)
        tokens = tokenize(tokenizer, [line.text for line in batch])
        states = model(input_ids=tokens).last_hidden_state
        ended = (tokens == tokenizer.eos_token_id).cumsum(1) > 0
        loss = _naming_loss(verb_head(states), ended, [line.verb for line in batch])
        loss = loss + _naming_loss(noun_head(states), ended, [line.noun for line in batch])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        if step % 20 == 0:
            bar.set_postfix(loss=f"{loss.item():.3f}")
    return model.eval()


def tokenize(tokenizer: CLIPTokenizer, texts: Sequence[str]) -> Tensor:
    """Token numbers, (N, 24) int64: padded, and cut where a text is longer."""
    encoded = tokenizer(
        list(texts),
        padding="max_length",
        max_length=MAX_TOKENS,
        truncation=True,
        return_tensors="pt",
    )
    return encoded.input_ids


@torch.no_grad()
def nearest_pair_accuracy(
    model: CLIPTextModel, tokenizer: CLIPTokenizer, lines: Sequence[Instruction]
) -> float:
    """Share of sentences whose nearest one, by the cosine of pooled states, says the same.

    Each sentence is sought among the plain sentences "first verb the noun" of all pairs in
    `lines`, so a share by chance is one over the number of pairs.
    """
    pairs = sorted({(line.verb, line.noun) for line in lines})
    plain = [f"{VERBS[verb][0]} the {NOUNS[noun]}" for verb, noun in pairs]
    known, sought = (
        functional.normalize(model(input_ids=tokenize(tokenizer, texts)).pooler_output, dim=-1)
        for texts in (plain, [line.text for line in lines])
    )
    found = (sought @ known.T).argmax(1).tolist()
    right = [pairs[at] == (line.verb, line.noun) for at, line in zip(found, lines, strict=True)]
    return sum(right) / len(right)


def _config(tokenizer: CLIPTokenizer) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=CHANNELS,
        intermediate_size=4 * CHANNELS,
        projection_dim=CHANNELS,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _naming_loss(logits: Tensor, ended: Tensor, names: list[int]) -> Tensor:
    """Cross entropy of the names at each sentence's end and behind it."""
    targets = torch.tensor(names)[:, None].expand(ended.shape)
    return functional.cross_entropy(logits[ended], targets[ended], label_smoothing=0.05)


def _merges(learner: Tokenizer) -> list[tuple[str, str]]:
    """The learned pairs, first learned first."""
    return [(left, right) for left, right in json.loads(learner.to_str())["model"]["merges"]]
