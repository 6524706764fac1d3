"""The BLIP score: whether a caption of the generated clip says what the instruction said.

As in the evaluation of LEGO (Lai et al., arXiv 2312.03849, file `metrics/all_metrics_in_one.py` of
BolinLai/LEGO): BLIP captions a frame, and the score is the cosine of the caption to the
instruction. The embeddings are those of EgoVLP's text encoder there: `EgoVlp.texts`.

LEGO generates one frame, so a clip leaves a choice: here its middle frame is captioned, in which
the action is under way.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import BlipForConditionalGeneration

from handi_model.metrics.clip_scores import DEVIATION, MEAN, cosines
from handi_model.metrics.hub_models import HubModel, load_hub_model
from handi_model.metrics.weights import Origin

BLIP = HubModel(
    name="BLIP captioner, large",
    repository="Salesforce/blip-image-captioning-large",
    revision="353689b859fcf0523410b1806dace5fb46ecdf41",
    sha256="ebc867586b8318647dd7b75ef8e52f93f89b98ac7dcbd04d10219d33b9a68c6f",
    key="blip",
)
"""Salesforce's for transformers; LEGO reads Salesforce's earlier `model_large_caption.pth`."""

PROMPT = "a picture of"
"""What every caption starts with; it is not part of the result."""

BEAMS = 3
SHORTEST = 5
LONGEST = 20
"""Of the beam search; the lengths are in tokens, with the prompt's."""


class Captioner:
    """BLIP's caption of a frame, by beam search: the same for the same frame.

    Attributes:
        origin: the weights that were loaded.
        tokenizer: BERT's for lower-case English, with BLIP's two marks; `EgoVlp.texts` reads it.
    """

    def __init__(self, model: BlipForConditionalGeneration, tokenizer: Any, origin: Origin) -> None:
        self.origin = origin
        self.tokenizer = tokenizer
        self._model = model

    @classmethod
    def load(cls, path: str | None = None, device: torch.device | str = "cpu") -> Captioner:
        """Load a BLIP captioner, by default Salesforce's large one.

        Args:
            path: folder as `save_pretrained` writes it, with the tokenizer.

        Raises:
            WeightsError: if the model cannot be had, or the folder holds another one.
        """
        return cls(*load_hub_model(BLIP, BlipForConditionalGeneration, path, device))

    def __call__(self, frame: NDArray[np.uint8]) -> str:
        """Caption a frame: (H, W, 3) uint8 RGB, squashed to the network's square input."""
        size = self._model.config.vision_config.image_size
        picture = Image.fromarray(frame).resize((size, size), Image.Resampling.BICUBIC)
        pixels = (np.asarray(picture, np.float32) / 255 - MEAN) / DEVIATION
        prompt = self.tokenizer(PROMPT, return_tensors="pt").to(self._model.device)
        tokens = self._model.generate(
            torch.from_numpy(pixels.astype(np.float32))
            .permute(2, 0, 1)[None]
            .to(self._model.device),
            input_ids=prompt.input_ids,
            attention_mask=prompt.attention_mask,
            do_sample=False,
            num_beams=BEAMS,
            min_length=SHORTEST,
            max_length=LONGEST,
        )[0]
        # The prompt's own end mark is not repeated in the answer.
        caption = tokens[prompt.input_ids.shape[1] - 1 :]
        return str(self.tokenizer.decode(caption, skip_special_tokens=True)).strip()


def middle_frame(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The frame of a clip that is captioned: of (L, H, W, 3), the one at L // 2."""
    return frames[len(frames) // 2]


def caption_score(caption: NDArray[np.floating], instruction: NDArray[np.floating]) -> float:
    """The BLIP score: cosine of two sentences' embeddings, (D,) each, [-1, 1]."""
    return float(cosines(caption, instruction))
