"""Eight rendered egocentric clips of hands at work, with the joints known exactly.

The clips ship with the project, so that every stage can be tried without a licence form or a
download. Reading them needs numpy only; rendering them anew (``pipelines.rendered.render``)
needs Mitsuba, scipy and the CC0 MakeHuman mesh (``pip install 'handi[render]'``).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

CLIPS: Path = Path(__file__).parent / "clips"
"""Folder of the clips, their captions and their joints."""


def true_joints() -> dict[str, np.ndarray]:
    """Return the joints that the renderer placed, one entry a clip.

    Returns:
        Clip stem (``"lift_box_1"``) to float32 (T, 42, 2): x then y as fractions of the frame's
        width and height, left hand in rows 0-20 and right hand in rows 21-41, MediaPipe's order
        of landmarks; NaN for a hand that is not in the scene. Values may leave [0, 1] where a
        joint is out of view.

    Raises:
        FileNotFoundError: the clips are not installed beside this module.
    """
    with np.load(CLIPS / "joints.npz", allow_pickle=False) as stored:
        return {stem: stored[stem] for stem in stored.files}
