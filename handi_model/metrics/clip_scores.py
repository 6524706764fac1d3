"""CLIP scores: of a clip against the real one, of a clip against itself, and against its text.

The frames are prepared as the evaluation of LEGO (Lai et al., arXiv 2312.03849, file
`metrics/clip_similarity.py` of BolinLai/LEGO) does it: squashed to the network's square input by
bicubic interpolation, without a crop and without smoothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from transformers import CLIPModel

from handi_model.metrics.hub_models import HubModel, load_hub_model
from handi_model.metrics.weights import Origin

CLIP = HubModel(
    name="CLIP ViT-L/14",
    repository="openai/clip-vit-large-patch14",
    revision="32bd64288804d66eefd0ccbe215aa642df71cc41",
    sha256="a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb",
    key="clip",
)

MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
"""Of the channels in CLIP's training data; BLIP takes the same."""

BATCH = 16
"""Frames or sentences that go through the network at once."""


class ClipEncoder:
    """CLIP's embeddings of frames and of sentences, in one space.

    Attributes:
        origin: the weights that were loaded.
    """

    def __init__(self, model: CLIPModel, tokenizer: Any, origin: Origin) -> None:
        self.origin = origin
        self._model = model
        self._tokenizer = tokenizer
        self._mean = torch.tensor(MEAN, device=model.device).view(3, 1, 1)
        self._deviation = torch.tensor(DEVIATION, device=model.device).view(3, 1, 1)

    @classmethod
    def load(
        cls, path: str | None = None, device: torch.device | str = "cpu", key: str = CLIP.key
    ) -> ClipEncoder:
        """Load a CLIP model, by default OpenAI's ViT-L/14.

        Args:
            path: folder as `save_pretrained` writes it, with the tokenizer.
            key: the key of the caller's config that names the folder, for messages.

        Raises:
            WeightsError: if the model cannot be had, or the folder holds another one.
        """
        return cls(*load_hub_model(replace(CLIP, key=key), CLIPModel, path, device))

    @torch.no_grad()
    def images(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed frames: (N, H, W, 3) uint8 RGB to (N, D) float32 of unit length."""
        size = self._model.config.vision_config.image_size
        found = []
        for part in torch.from_numpy(frames).split(BATCH):
            pixels = part.to(self._model.device).permute(0, 3, 1, 2).float() / 255
            pixels = functional.interpolate(pixels, (size, size), mode="bicubic")
            pixels = (pixels - self._mean) / self._deviation
            found.append(self._model.get_image_features(pixels).pooler_output)
        return _unit(torch.cat(found))

    @torch.no_grad()
    def texts(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        """Embed sentences, cut where they are too long: (N, D) float32 of unit length."""
        found = []
        for start in range(0, len(sentences), BATCH):
            tokens = self._tokenizer(
                list(sentences[start : start + BATCH]),
                padding=True,
                truncation=True,
                max_length=self._model.config.text_config.max_position_embeddings,
                return_tensors="pt",
            ).to(self._model.device)
            found.append(self._model.get_text_features(**tokens).pooler_output)
        return _unit(torch.cat(found))


def _unit(embeddings: Tensor) -> NDArray[np.float32]:
    return functional.normalize(embeddings, dim=-1).cpu().numpy()


def clip_gt(made: NDArray[np.floating], real: NDArray[np.floating]) -> float:
    """CLIP_GT: mean cosine of the frames of two clips at the same time, [-1, 1].

    Args:
        made, real: (L, D) embeddings of the frames.

    Raises:
        ValueError: if the clips differ in length.
    """
    if made.shape != real.shape:
        raise ValueError(f"the clips' embeddings differ in shape: {made.shape} and {real.shape}")
    return float(cosines(made, real).mean())


def clip_consecutive(made: NDArray[np.floating]) -> float:
    """CLIP_Cs: mean cosine of neighbouring frames, [-1, 1].

    Args:
        made: (L, D) embeddings of a clip's frames.

    Raises:
        ValueError: if there are fewer than two frames.
    """
    if len(made) < 2:
        raise ValueError(f"consistency needs two frames at least, got {len(made)}")
    return float(cosines(made[:-1], made[1:]).mean())


def clip_text(made: NDArray[np.floating], text: NDArray[np.floating]) -> float:
    """CLIP_Tx: mean cosine of the frames to the sentence, times 100: [-100, 100].

    Args:
        made: (L, D) embeddings of a clip's frames.
        text: (D,) embedding of its sentence.
    """
    return float(100 * cosines(made, text).mean())


def cosines(first: NDArray[np.floating], second: NDArray[np.floating]) -> NDArray[np.float64]:
    """Cosines of vectors along the last axis, [-1, 1]; the other axes broadcast."""
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    return np.asarray(np.clip((a * b).sum(-1) / lengths, -1, 1))
