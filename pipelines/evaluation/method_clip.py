"""A method's clip as it is measured: what else looks at one, such as the page, reads it here."""

from __future__ import annotations

from handi_model.baselines.method import Made
from pipelines.evaluation.clips import RealClip
from pipelines.evaluation.elsewhere import read_elsewhere
from pipelines.evaluation.made_files import read_made
from pipelines.evaluation.settings import Kind
from pipelines.frames import FitMode


def read_method_clip(kind: Kind, source: str, real: RealClip, fit: FitMode) -> Made:
    """Read a clip from its file, with the real clip's number and size of frames.

    Args:
        kind: of the method.
        source: URL of the clip.
        fit: how frames are made square, see `EvaluationSet.fit`.

    Raises:
        ValueError: if a clip that was made elsewhere cannot be read, in one line that names it.
        DamagedFile: if one that was generated here is cut short.
    """
    if kind == "folder":
        length, side = real.frames.shape[:2]
        return read_elsewhere(source, length, side, fit)
    return read_made(source)
