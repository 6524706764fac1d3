"""The switches by which diffusers' pipelines save memory in the autoencoder."""

from __future__ import annotations

from diffusers import AutoencoderKL


class VaeMemory:
    """Frame by frame, or tile by tile; a call's `decode_chunk_size` bounds the frames at a time."""

    vae: AutoencoderKL

    def enable_vae_slicing(self) -> None:
        """Decode one frame at a time, with the same result."""
        self.vae.enable_slicing()

    def disable_vae_slicing(self) -> None:
        """Decode frames together."""
        self.vae.disable_slicing()

    def enable_vae_tiling(self) -> None:
        """Decode frames larger than the model's in overlapping tiles; blended, so not the same."""
        self.vae.enable_tiling()

    def disable_vae_tiling(self) -> None:
        """Decode frames whole."""
        self.vae.disable_tiling()
