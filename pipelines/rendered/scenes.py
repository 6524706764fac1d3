"""Pictures to start from: the first frames of some of the rendered clips, and what happens next."""

from __future__ import annotations

from functools import cache

import av
import numpy as np

from pipelines.clip_files import encode_png
from pipelines.rendered import CLIPS

SCENES = {
    "lift_box_1": "lift box",
    "open_lid_1": "open lid",
    "slide_cup_1": "slide cup",
    "stir_pan_1": "stir pan",
}
"""Clips, and their narrations."""


@cache
def first_frame(name: str) -> bytes:
    """Of a rendered clip, as a PNG."""
    with av.open(str(CLIPS / f"{name}.mp4"), "r") as container:
        return encode_png(np.asarray(next(container.decode(video=0)).to_image()))
