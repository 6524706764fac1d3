"""What tells the latents of one model from those of another."""

from __future__ import annotations

import hashlib
import json

import torch

from handi_model.pipeline import HandiPipeline

# Keys of the networks' configurations that change what they compute, and not their weights' shapes.
VAE_KEYS = ("act_fn", "norm_num_groups", "scaling_factor")
TEXT_KEYS = ("hidden_act", "layer_norm_eps", "num_attention_heads")


def encoders_fingerprint(pipe: HandiPipeline) -> str:
    """16 hexadecimal digits for a pipeline's autoencoder and text encoder: their weights and what
    else decides what they make of a clip. The UNet has no part in it.
    """
    digest = hashlib.sha256()
    decides = {
        "resolution": pipe.resolution,
        "text_length": pipe.tokenizer.model_max_length,
        "vocabulary": pipe.tokenizer.get_vocab(),
        "vae": {key: pipe.vae.config[key] for key in VAE_KEYS},
        "text_encoder": {key: getattr(pipe.text_encoder.config, key) for key in TEXT_KEYS},
    }
    digest.update(json.dumps(decides, sort_keys=True).encode())
    for network in (pipe.vae, pipe.text_encoder):
        for name, weight in sorted(network.state_dict().items()):
            digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
            raw = weight.detach().cpu().contiguous().flatten().view(torch.uint8)
            digest.update(raw.numpy().data)
    return digest.hexdigest()[:16]
