"""Evaluations as processes, with small stand-ins for the networks that figures are made by."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel

from handi_model.tiny import load_tokenizer
from tests.integration.conftest import REPOSITORY

PATIENCE_S = 400


class Pooled(nn.Module):
    """Called as FID's Inception is; its features are a random projection of a shrunk frame."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("projection", torch.randn(192, 2048, generator=generator) / 100)

    def forward(self, frames: Tensor, return_features: bool) -> Tensor:
        small = nn.functional.adaptive_avg_pool2d(frames.float(), 8)
        return small.flatten(1) @ self.projection


class PooledOverTime(nn.Module):
    """Called as FVD's I3D is; its features see the order of the frames."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.register_buffer("projection", torch.randn(3 * 64 * 8, 400, generator=generator))

    def forward(self, x: Tensor, rescale: bool, resize: bool, return_features: bool) -> Tensor:
        small = nn.functional.adaptive_avg_pool3d(x, [8, 8, 8])
        return small.flatten(1) @ self.projection


def stand_ins(folder: Path) -> dict[str, Path]:
    """Networks for FID, FVD and CLIP: key of the job -> path."""
    torch.manual_seed(0)
    torch.jit.script(Pooled()).save(str(folder / "inception.pt"))
    torch.jit.script(PooledOverTime()).save(str(folder / "i3d.pt"))
    tokenizer = load_tokenizer()
    marks = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id")}
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    small["num_attention_heads"] = 2
    config = CLIPConfig(
        text_config={**small, **marks, "vocab_size": len(tokenizer)},
        vision_config={**small, "image_size": 32, "patch_size": 8},
        projection_dim=8,
    )
    CLIPModel(config).save_pretrained(folder / "clip")
    tokenizer.save_pretrained(folder / "clip")
    return {"inception": folder / "inception.pt", "i3d": folder / "i3d.pt", "clip": folder / "clip"}


def command(**keys: object) -> list[str]:
    line = [(f"--{key.replace('_', '-')}", str(value)) for key, value in keys.items()]
    return ["jobs/evaluate.py", *(part for pair in line for part in pair)]


def start(store: str, **keys: object) -> subprocess.Popen[str]:
    """Evaluate in a process group of its own, on a Ray of its own.

    Args:
        store: MLflow's URI.
    """
    return subprocess.Popen(
        [sys.executable, *command(**keys)],
        cwd=REPOSITORY,
        env={**environment(store), "RAY_ADDRESS": "local"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def environment(store: str) -> dict[str, str]:
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "MLFLOW_TRACKING_URI": store,
        "HF_HUB_OFFLINE": "1",  # what is not given is not looked for, and not found by chance
    }


def finish(process: subprocess.Popen[str]) -> str:
    """Wait for the end; gives what stood on the console."""
    try:
        output, _ = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # its Ray would go on
        raise
    assert process.returncode == 0, output[-3000:]
    return output


def metrics(output: Path) -> dict[str, Any]:
    return dict(json.loads((output / "metrics.json").read_text()))
