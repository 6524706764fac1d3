"""What tells the latents of one model from those of another."""

from __future__ import annotations

import hashlib
import json

import torch

from handi_model.pipeline import HandiPipeline


def encoders_fingerprint(pipe: HandiPipeline) -> str:
    """16 hexadecimal digits for a pipeline's autoencoder and text encoder: their weights and what
    else decides what they make of a clip. The UNet has no part in it.
    """
    digest = hashlib.sha256()
    decides = {
        "resolution": pipe.resolution,
        "scaling_factor": pipe.vae.config.scaling_factor,
        "text_length": pipe.tokenizer.model_max_length,
        "vocabulary": len(pipe.tokenizer),
    }
    digest.update(json.dumps(decides, sort_keys=True).encode())
    for network in (pipe.vae, pipe.text_encoder):
        for name, weight in sorted(network.state_dict().items()):
            digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
            raw = weight.detach().cpu().contiguous().flatten().view(torch.uint8)
            digest.update(raw.numpy().data)
    return digest.hexdigest()[:16]
