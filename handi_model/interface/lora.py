"""Low-rank adapters in diffusers' manner: load, weigh, fuse, take out and save."""

from __future__ import annotations

from typing import Any

from diffusers.loaders import StableDiffusionLoraLoaderMixin
from torch import Tensor


class LoraWeights(StableDiffusionLoraLoaderMixin):
    """`load_lora_weights` and what belongs to it, for the UNet and the text encoder."""

    @classmethod
    def lora_state_dict(cls, pretrained_model_name_or_path_or_dict: Any, **kwargs: Any) -> Any:
        """Read adapters, from safetensors alone: pickled weights can run code.

        Args: see diffusers.

        Raises:
            ValueError: if pickled weights are asked for, or none of them is of this pipeline.
        """
        source = pretrained_model_name_or_path_or_dict
        name = kwargs.get("weight_name") or ""
        if kwargs.get("use_safetensors") is False or (name and not name.endswith(".safetensors")):
            raise ValueError("load_lora_weights: adapters are read from safetensors alone")
        found = super().lora_state_dict(source, **{**kwargs, "use_safetensors": True})
        weights: dict[str, Tensor] = found[0]
        parts = tuple(f"{part}." for part in cls._lora_loadable_modules)
        if not any(name.startswith(parts) for name in weights):
            raise ValueError(
                "load_lora_weights: it holds no weights of unet or text_encoder, but "
                f"{', '.join(list(weights)[:2]) or 'nothing'}; give what save_lora_weights of this "
                "pipeline wrote"
            )
        return found

    def check_no_adapters(self) -> None:
        """Raise ValueError where adapters are loaded, which `from_pretrained` would not know."""
        loaded = {name for names in self.get_list_adapters().values() for name in names}
        if loaded:
            raise ValueError(
                f"save_pretrained: the adapters {', '.join(sorted(loaded))} are loaded; save them "
                "with save_lora_weights, or call fuse_lora() to keep them in the weights, and then "
                "unload_lora_weights()"
            )
