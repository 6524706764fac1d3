"""Which of a HandiUNet's weights a training moves: all, the published recipe's, or adapters.

What HANDI adds to the published topology starts at zero, so that it trains in every case.
"""

from __future__ import annotations

from typing import Literal

from diffusers.models.resnet import TemporalConvLayer
from diffusers.models.transformers import Transformer2DModel
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from torch import nn

from handi_model.unet import HandiUNet

Trains = Literal["all", "attention", "lora"]
"""All weights; attention and temporal layers; or low-rank adapters of the attention."""

ATTENTION = (Transformer2DModel, TransformerTemporalModel, TemporalConvLayer)
"""The published recipe: attention and temporal layers, whole."""

PROJECTIONS = ("to_q", "to_k", "to_v", "to_out.0")
"""An attention's linear layers, which low-rank adapters are put beside."""


def choose_trainable(unet: HandiUNet, what: Trains, lora_rank: int) -> None:
    """Let a network's weights require a gradient or not, in place.

    Args:
        unet: without adapters.
        what: `"lora"` puts adapters beside the attention's projections, so that the state dict
            has other names until `merge_adapters`. They begin as nothing: the output stays the
            same, bit for bit.
        lora_rank: from 1; the others take no notice of it. An adapter is not scaled: what it adds
            is the product of its two matrices (Hu et al., "LoRA", with alpha = r).
    """
    unet.requires_grad_(what == "all")
    if what == "all":
        return
    if what == "lora":
        config = LoraConfig(r=lora_rank, lora_alpha=lora_rank, target_modules=list(PROJECTIONS))
        inject_adapter_in_model(config, unet)
    else:
        for module in unet.modules():
            if isinstance(module, ATTENTION):
                module.requires_grad_(True)
    added = (unet.conv_in, unet.conv_out, unet.frame_proj, unet.backbone.time_embedding.cond_proj)
    for module in added:
        module.requires_grad_(True)


def trainable_parameters(unet: HandiUNet) -> dict[str, nn.Parameter]:
    """Name -> parameter of what requires a gradient, in the network's order."""
    return {name: weight for name, weight in unet.named_parameters() if weight.requires_grad}


def merge_adapters(unet: HandiUNet) -> HandiUNet:
    """Add what the adapters add to the weights beside them, and take them out, in place.

    Returns:
        The same network, with the names of one that never had adapters; with no adapters in it, as
        it came.
    """
    adapted = [
        (name, layer) for name, layer in unet.named_modules() if isinstance(layer, LoraLayer)
    ]
    for name, layer in adapted:
        layer.merge()
        unet.set_submodule(name, layer.get_base_layer())
    if adapted:
        del unet.peft_config
    return unet
