"""What of a request can be met by this model under these settings, and what its defaults are."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from functools import cached_property

from tokenizers import Tokenizer

from handi_model.bounds import LONGEST_CLIP, check_count, check_size
from pipelines.saved_model import SavedModel
from serve.http.schemas import Model
from serve.settings import ServeSettings


@dataclass(frozen=True)
class Limits:
    """Every method raises ValueError, in one line that names the field, for what cannot be met."""

    settings: ServeSettings
    model: SavedModel
    started_at: int

    @property
    def fps(self) -> float:
        """Frames a second that clips are played at unless a request says otherwise."""
        return self.settings.fps or self.model.fps

    @cached_property
    def described(self) -> Model:
        """The model as the API lists it."""
        model, settings = self.model, self.settings
        side, steps = model.resolution, min(model.num_inference_steps, settings.max_steps)
        return Model(
            id=settings.model_id,
            created=self.started_at,
            size=f"{side}x{side}",
            pixel_multiple=model.pixel_multiple,
            max_pixels=settings.max_pixels or 4 * side * side,
            num_frames=model.num_frames,
            max_frames=settings.max_frames or min(2 * model.num_frames, LONGEST_CLIP),
            fps=self.fps,
            seconds=f"{model.num_frames / self.fps:g}",
            num_inference_steps=steps,
            mask_steps=steps if model.uses_mask else None,
            max_steps=min(settings.max_steps, model.most_steps),
            guidance_scale=model.guidance_scale,
            max_prompt_characters=settings.max_prompt_characters,
            max_image_bytes=settings.max_image_bytes,
        )

    def prompt(self, text: str) -> str:
        text = self.text("prompt", text)
        if not text:
            raise ValueError("prompt: empty; say what the hands should do")
        return text

    def text(self, name: str, text: str) -> str:
        """One line of an instruction; it may be empty.

        Args:
            name: of the field, for the message.
        """
        text = " ".join(text.split())
        if len(text) > self.settings.max_prompt_characters:
            most = self.settings.max_prompt_characters
            raise ValueError(f"{name}: {len(text)} characters, and {most} are the most; shorten it")
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
            raise ValueError(f"{name}: it holds control characters; send plain text")
        if self._tokenizer:
            tokens = len(self._tokenizer.encode(text).ids)
            if tokens > self.model.longest_prompt:
                raise ValueError(
                    f"{name}: {tokens} tokens, and the model reads {self.model.longest_prompt}; "
                    "shorten it"
                )
        return text

    def size(
        self, size: str | None, width: int | None = None, height: int | None = None
    ) -> tuple[int, int]:
        """Height and width, pixels, from `size` or its two numbers."""
        if (width is None) != (height is None):
            sent, other = ("width", "height") if height is None else ("height", "width")
            raise ValueError(f"{sent}: sent without {other}; send both, or size")
        if width is not None and size not in (None, f"{width}x{height}"):
            raise ValueError(f"width: {width}x{height} is not the size {size}; send one of them")
        named = "size: " if width is None else ""
        size = size or (self.described.size if width is None else f"{width}x{height}")
        columns, rows = (int(side) for side in size.split("x"))
        try:
            check_size(rows, columns, self.model.pixel_multiple)
        except ValueError as error:
            raise ValueError(f"{named}{error}") from None
        if rows * columns > self.described.max_pixels:
            most = self.described.max_pixels
            raise ValueError(f"size: {size} has more than {most} pixels, which are the most")
        return rows, columns

    def num_frames(
        self, seconds: float | None, num_frames: int | None = None, fps: float | None = None
    ) -> int:
        """Frames, from their number or from seconds at the rate at which they are played."""
        most, fps = self.described.max_frames, fps or self.fps
        if num_frames is not None:
            check_count("num_frames", num_frames, 2, most, "frames")
        if seconds is None:
            return num_frames or self.model.num_frames
        frames = round(seconds * fps)
        if not 2 <= frames <= most:
            raise ValueError(f"seconds: {seconds:g} is outside of {2 / fps:g} to {most / fps:g}")
        if num_frames not in (None, frames):
            raise ValueError(
                f"num_frames: {num_frames} at {fps:g} a second are not {seconds:g} seconds; "
                "send one of them"
            )
        return frames

    def steps(self, name: str, asked: int | None, default: int) -> int:
        most = self.described.max_steps
        return check_count(name, min(default, most) if asked is None else asked, 1, most, "steps")

    @cached_property
    def _tokenizer(self) -> Tokenizer | None:
        if not self.model.tokenizer:
            return None
        tokenizer = Tokenizer.from_str(self.model.tokenizer)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer
