"""The columns of the tables: what each is called, which way is better, what it needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Better = Literal["lower", "higher", "real"]
"""`real`: no better than the real clip's own."""


@dataclass(frozen=True)
class Column:
    """One figure.

    Attributes:
        key: its name in metrics.json.
        title: its name in the tables.
        better: which way.
        digits: behind the point.
        says: what it is, for a reader who does not know it.
        needs: keys of the networks without which it cannot be had.
        features: of a Fréchet distance: the features that it compares; else the figure is a mean
            over clips.
    """

    key: str
    title: str
    better: Better
    digits: int
    says: str
    needs: tuple[str, ...] = ()
    features: str | None = None


PAPER = (
    Column("hs_err", "HS-Err", "lower", 5, "squared distance of the joints that both clips show"),
    Column("fid", "FID", "lower", 2, "of frames", ("inception",), features="inception"),
    Column("clip_gt", "CLIP_GT", "higher", 4, "frames against the real ones", ("clip",)),
    Column("fvd", "FVD", "lower", 2, "of clips", ("i3d",), features="i3d"),
    Column("egovlp", "EgoVLP", "higher", 3, "clip against the real one", ("egovlp",)),
    Column("clip_cs", "CLIP_Cs", "higher", 4, "neighbouring frames", ("clip",)),
    Column("clip_tx", "CLIP_Tx", "higher", 2, "frames against the instruction", ("clip",)),
    Column("blip", "BLIP", "higher", 3, "caption against the instruction", ("blip", "egovlp")),
)
"""Those of the paper's Table 2, in its order."""

HANDS = (
    Column("recall", "hand recall", "higher", 3, "share of the real hands that are shown"),
    Column("precision", "hand precision", "higher", 3, "share of the shown hands that are real"),
    Column("joint_error", "joint distance", "lower", 4, "of the joints that both show, in frames"),
    Column("jerk", "jerk", "real", 4, "third difference of the joints over time, in frames"),
)
"""What tells a generator that shows few hands, which HS-Err forgives."""

LOCALITY = (
    Column("mask_iou", "mask IoU", "higher", 3, "motion area against the true mask"),
    Column(
        "flow_inside", "flow inside", "higher", 3, "share of the flow's energy in the true mask"
    ),
    Column("change_outside", "change outside", "lower", 4, "of pixels outside of the true mask"),
    Column(
        "change_before",
        "change before overwrite",
        "lower",
        4,
        "of pixels outside of its own motion area, before they were overwritten",
    ),
    Column("hs_err_area", "HS-Err in the area", "lower", 5, "on the square around the true mask"),
    Column("fvd_area", "FVD in the area", "lower", 2, "likewise", ("i3d",), features="i3d_area"),
)
"""Motion locality, which the paper claims and does not define."""

COLUMNS = (*PAPER, *HANDS, *LOCALITY)

TABLES = {"The paper's figures (Table 2)": PAPER, "Hands": HANDS, "Motion locality": LOCALITY}
"""Title of a table -> its columns."""
