"""The tiny preset's autoencoder, tokenizer and text encoder, whose weights ship with the project.

They were made from the project's own rendered clips and an own grammar of instructions
(`jobs/pretrain_tiny.py` makes them anew), so the preset needs no download and no licence form.
"""

from __future__ import annotations

from pathlib import Path

from diffusers import AutoencoderKL
from transformers import CLIPTextModel, CLIPTokenizer

FOLDER: Path = Path(__file__).parent
"""Holds `autoencoder/`, `tokenizer/` and `text_encoder/`, as diffusers and transformers save."""


def load_autoencoder(folder: Path = FOLDER) -> AutoencoderKL:
    """Load the autoencoder, frozen, float32.

    Frames (N, 3, H, W) in [-1, 1], sides multiples of 8, to latents (N, 16, H/8, W/8) and back. A
    binary mask goes in as a grey frame, -1 outside and 1 inside. Latents have about unit deviation
    in every channel; `config.scaling_factor` is 1.

    Raises:
        FileNotFoundError: there are no weights in `folder`.
    """
    path = _part(folder, "autoencoder")
    model = AutoencoderKL.from_pretrained(
        path, local_files_only=True, use_safetensors=True, low_cpu_mem_usage=False
    )
    return model.float().requires_grad_(False).eval()


def load_tokenizer(folder: Path = FOLDER) -> CLIPTokenizer:
    """Load the tokenizer: byte pairs, lower case, any text.

    Ask for `padding="max_length", truncation=True`: the text encoder reads 24 tokens at most.

    Raises:
        FileNotFoundError: there is no tokenizer in `folder`.
    """
    tokenizer: CLIPTokenizer = CLIPTokenizer.from_pretrained(
        _part(folder, "tokenizer"), local_files_only=True
    )
    return tokenizer


def load_text_encoder(folder: Path = FOLDER) -> CLIPTextModel:
    """Load the text encoder, frozen, float32: `last_hidden_state` is (N, tokens, 64).

    Raises:
        FileNotFoundError: there are no weights in `folder`.
    """
    path = _part(folder, "text_encoder")
    model = CLIPTextModel.from_pretrained(path, local_files_only=True, use_safetensors=True)
    return model.float().requires_grad_(False).eval()


def _part(folder: Path, name: str) -> Path:
    if not (folder / name).is_dir():
        raise FileNotFoundError(
            f"{folder / name}: no such folder; python jobs/pretrain_tiny.py --output {folder} "
            f"makes it"
        )
    return folder / name
