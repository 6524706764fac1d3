"""Decode the wanted stretches of a video, from any fsspec URL."""

from pipelines.video.clips import DecodedClip, decode_clips

__all__ = ["DecodedClip", "decode_clips"]
