"""The EgoVLP score: cosine of a generated clip and the real one in EgoVLP's video encoder.

Frames are prepared as the evaluation of LEGO (Lai et al., arXiv 2312.03849, `run_egovlp` in
`metrics/all_metrics_in_one.py` of BolinLai/LEGO) does it: the shorter side to 224 by bilinear
interpolation without smoothing, then the middle square. EgoVLP itself goes by way of 256, which
is the same but for rounding. LEGO repeats its single frame; of a clip, as many frames are taken as
the weights have places for, in the way that EgoVLP takes them at test time: 4 of the pretrained
ones, which LEGO uses for Ego4D, 16 of those fine-tuned on EPIC-KITCHENS (`epic_mir_plus.pth`),
which it uses there.

The published file is a pickle that holds its training's config besides the weights, so it is
converted once: `python -m handi_model.metrics.egovlp egovlp.pth egovlp.safetensors`.
"""

from __future__ import annotations

import argparse
import pickle
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from handi_model.hands.model_files import cache_folder, sha256
from handi_model.metrics.clip_scores import cosines
from handi_model.metrics.egovlp_network import EgoVlpNetwork
from handi_model.metrics.weights import Origin, Weights, WeightsError, find_weights

EGOVLP = Weights(
    name="EgoVLP",
    file="egovlp.safetensors",
    url="https://drive.google.com/file/d/1-cP3Gcg0NGDcMZalgJ_615BQdbFIbcj7",
    sha256=None,
    key="egovlp",
)
"""EgoVLP_PT_BEST of the README of showlab/EgoVLP, converted; other weights are named by path."""

MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)

CONVERT = "python -m handi_model.metrics.egovlp SOURCE.pth TARGET.safetensors"


class EgoVlp:
    """EgoVLP's embeddings of clips and of sentences, in one space.

    Attributes:
        origin: the weights that were loaded.
    """

    def __init__(self, network: EgoVlpNetwork, origin: Origin) -> None:
        self.origin = origin
        self._network = network

    @classmethod
    def load(cls, path: str | None = None, device: torch.device | str = "cpu") -> EgoVlp:
        """Load EgoVLP's encoders.

        Args:
            path: `.safetensors`, or a PyTorch checkpoint that holds tensors only; default
                `egovlp.safetensors` in the cache.

        Raises:
            WeightsError: if there is no such file, or it is not EgoVLP's.
        """
        file, origin = find_weights(EGOVLP, path or _cached())
        if file.suffix != ".safetensors" and (foreign := _foreign(file)):
            raise WeightsError(
                f"{EGOVLP.name}: {file}: holds objects besides tensors ({', '.join(foreign)}), and "
                f"reading those can run code; convert it ({CONVERT}) and name the result "
                f"(--{EGOVLP.key})"
            )
        return cls(_network(file).eval().requires_grad_(False).to(device), origin)

    @property
    def frames(self) -> int:
        """Frames of a clip that the encoder sees."""
        return self._network.video_model.temporal_embed.shape[1]

    @torch.no_grad()
    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Embed a clip: (L, H, W, 3) uint8 RGB to (256,) float32 of unit length."""
        chosen = torch.from_numpy(frames[sampled(len(frames), self.frames)])
        clip = _prepared(chosen.to(self._device), self._network.image_size)
        embedding = self._network.video(clip[None])[0]
        return functional.normalize(embedding, dim=0).cpu().numpy()

    @torch.no_grad()
    def texts(self, sentences: Sequence[str], tokenizer: Any) -> NDArray[np.float32]:
        """Embed sentences: (N, 256) float32 of unit length.

        Args:
            tokenizer: BERT's for lower-case English, as `Captioner.tokenizer`; EgoVLP's own,
                DistilBERT's, has the same words.
        """
        found = []
        for sentence in sentences:
            tokens = tokenizer(sentence, truncation=True, max_length=512, return_tensors="pt")
            tokens = tokens.to(self._device)
            found.append(self._network.text(tokens.input_ids, tokens.attention_mask)[0])
        return functional.normalize(torch.stack(found), dim=-1).cpu().numpy()

    @property
    def _device(self) -> torch.device:
        return self._network.video_model.cls_token.device


def egovlp_score(made: NDArray[np.floating], real: NDArray[np.floating]) -> float:
    """The EgoVLP score: cosine of two clips' embeddings, (256,) each, [-1, 1]."""
    return float(cosines(made, real))


def sampled(length: int, count: int) -> list[int]:
    """The `count` frames of a clip that the encoder sees: the middles of so many even parts.

    A clip of fewer frames gives all of them, the last one repeated.

    Source: `sample_frames` and `read_frames_cv2_egoclip` in `base/base_dataset.py` of
    showlab/EgoVLP.
    """
    parts = np.linspace(0, length, min(count, length) + 1).astype(int)
    middles = [int(start + end - 1) // 2 for start, end in pairwise(parts)]
    return middles + middles[-1:] * (count - len(middles))


def convert(source: Path, target: Path) -> None:
    """Write the weights of a published EgoVLP checkpoint as safetensors.

    Objects of other classes in the checkpoint are left out, and their code is never run.

    Raises:
        WeightsError: if `source` is no PyTorch checkpoint of EgoVLP.
    """
    stand_ins: list[Any] = [(_stand_in(), name) for name in _foreign(source)]
    with safe_globals(stand_ins):
        network = _network(source)
    save_file(network.state_dict(), target)


def _cached() -> str:
    cached = cache_folder() / EGOVLP.file
    if not cached.is_file():
        raise WeightsError(
            f"{EGOVLP.name}: no weights could be had; get EgoVLP_PT_BEST from {EGOVLP.url} (it "
            f"cannot be downloaded unattended), convert it ({CONVERT}), and name the result "
            f"(--{EGOVLP.key}) or put it at {cached}"
        )
    return str(cached)


def _network(file: Path) -> EgoVlpNetwork:
    try:
        return EgoVlpNetwork.of(_read(file))
    except (KeyError, RuntimeError, SafetensorError, pickle.UnpicklingError) as problem:
        lacking = f"it lacks {problem}" if isinstance(problem, KeyError) else str(problem)
        raise WeightsError(
            f"{EGOVLP.name}: {file}: these are not EgoVLP's weights "
            f"({' '.join(lacking.split())[:200]}); name another file (--{EGOVLP.key})"
        ) from problem


def _read(file: Path) -> dict[str, Tensor]:
    """Weights by the network's own names; of a training's checkpoint, its `state_dict`."""
    found: Any
    if file.suffix == ".safetensors":
        found = load_file(file)
    else:
        found = torch.load(file, map_location="cpu", weights_only=True)
    named = found.get("state_dict", found) if isinstance(found, dict) else {}
    return {
        name.removeprefix("module."): tensor
        for name, tensor in named.items()
        # DistilBERT's buffer of 0, 1, 2, ... that some versions of transformers save.
        if isinstance(tensor, Tensor) and not name.endswith("position_ids")
    }


def _foreign(file: Path) -> list[str]:
    """Names of the classes in a PyTorch checkpoint that are not read, without reading them."""
    try:
        return get_unsafe_globals_in_checkpoint(file)
    except (RuntimeError, ValueError) as problem:
        raise WeightsError(
            f"{EGOVLP.name}: {file}: is neither safetensors nor a PyTorch checkpoint; get it anew "
            f"from {EGOVLP.url}"
        ) from problem


def _stand_in() -> type:
    """A class that takes any object's place while a checkpoint is read, and does nothing."""

    class StandIn:
        def __new__(cls, *ignored: Any) -> StandIn:
            return super().__new__(cls)

        def __init__(self, *ignored: Any) -> None:
            pass

        def __setstate__(self, ignored: Any) -> None:
            pass

    return StandIn


def _prepared(frames: Tensor, size: int) -> Tensor:
    """(L, H, W, 3) uint8 to (L, 3, size, size), normalised."""
    height, width = frames.shape[1:3]
    pixels = frames.permute(0, 3, 1, 2).float() / 255
    shorter = min(height, width)
    shape = (size * height // shorter, size * width // shorter)
    pixels = functional.interpolate(pixels, shape, mode="bilinear")
    top, left = round((shape[0] - size) / 2), round((shape[1] - size) / 2)
    pixels = pixels[:, :, top : top + size, left : left + size]
    mean, deviation = (pixels.new_tensor(of).view(3, 1, 1) for of in (MEAN, DEVIATION))
    return (pixels - mean) / deviation


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m handi_model.metrics.egovlp",
        description="Convert a published checkpoint of EgoVLP to safetensors.",
    )
    parser.add_argument("source", type=Path, help="the checkpoint, .pth")
    parser.add_argument("out", type=Path, help="the file to write, .safetensors")
    parsed = parser.parse_args(arguments)
    try:
        convert(parsed.source, parsed.out)
    except (WeightsError, OSError) as problem:
        parser.error(str(problem))
    print(f"{parsed.out}: SHA-256 {sha256(parsed.out)}")


if __name__ == "__main__":
    main()
