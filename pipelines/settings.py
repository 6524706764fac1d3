"""Every key of the preprocessing job, with its unit and default."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipelines.frames import FitMode
from pipelines.places import LocalPath, Url


class PreprocessSettings(BaseModel):
    """Keys of `jobs/preprocess.py`. The help text of each key is its description here."""

    model_config = ConfigDict(extra="forbid")

    source: Literal["folder", "epic-kitchens", "ego4d"] = Field(
        "folder", description="Kind of collection that the annotations and videos form."
    )
    videos: Url = Field(description="URL of the folder with the videos (or of one video).")
    annotations: Url | None = Field(
        None,
        description="URL of the annotations: an EPIC-KITCHENS-100 CSV or the folder of them; "
        "Ego4D's fho_main.json, narration.json or the folder of them; for a folder of videos a "
        "captions CSV or JSONL, by default captions.csv or captions.jsonl beside the videos.",
    )
    output: Url = Field(description="URL of the folder to write.")

    split: str | None = Field(None, description="Only clips of this split; all by default.")
    verb: list[str] = Field([], description="Only clips with one of these verbs.")
    noun: list[str] = Field([], description="Only clips with one of these nouns.")
    participant: list[str] = Field([], description="Only clips of these participants.")
    lego_list: Url | None = Field(
        None, description="URL of a LEGO split list (JSON): only the clips that it names."
    )
    limit: int | None = Field(None, ge=1, description="At most so many clips, the first ones.")
    ego4d_kind: Literal["actions", "narrations"] = Field(
        "actions", description="Ego4D: clips from fho_main.json or from narration.json."
    )
    ego4d_span: Literal["critical", "action"] = Field(
        "critical",
        description="Ego4D actions: from the pre- to the post-condition frame, or the whole "
        "annotated interval.",
    )

    frames: int = Field(16, ge=2, le=256, description="Frames per clip.")
    resolution: int = Field(256, ge=32, le=2048, description="Side of a stored frame, pixels.")
    fit: FitMode = Field(
        "crop",
        description="crop: short side to the resolution, middle kept. pad: long side to the "
        "resolution, black bars.",
    )
    jpeg_quality: int = Field(95, ge=1, le=100, description="Quality of stored frames.")

    detection_side: int = Field(
        360,
        ge=64,
        le=2160,
        description="Hands are sought on frames of this short side, pixels (never less than the "
        "resolution, never enlarged).",
    )
    detector_confidence: float = Field(
        0.5, ge=0, le=1, description="Threshold of palm detection and of hand presence."
    )
    detection_stride: int = Field(
        1, ge=1, description="Detect hands on every n-th sampled frame and interpolate in between."
    )
    hand_model: LocalPath | None = Field(
        None, description="Path of hand_landmarker.task; found or downloaded by default."
    )
    clip_deadline_s: float = Field(
        60.0, gt=0, description="Seconds that hand detection may take on one clip."
    )
    recycle_after: int = Field(
        500, ge=1, description="Clips after which a detector process is replaced."
    )

    # The filters, in the order in which they are tried: the first bound that a clip does not keep
    # is its reason.
    min_clip_s: float = Field(0.0, ge=0, description="Filter: least clip length, seconds.")
    max_clip_s: float | None = Field(
        None, gt=0, description="Filter: greatest clip length, seconds; none by default."
    )
    max_blank: float | None = Field(
        0.0,
        ge=0,
        le=1,
        description="Filter: greatest share of frames that show nothing (black, one plain colour, "
        "a covered lens); null for none.",
    )
    max_cut: float | None = Field(
        0.15,
        ge=0,
        le=1,
        description="Filter: greatest share of its colours in which a frame may differ from the "
        "one before where they do not show one scene, that is at a hard cut, in [0, 1]; null for "
        "none.",
    )
    min_hand_rate: float = Field(
        0.5, ge=0, le=1, description="Filter: least share of frames with a hand."
    )
    max_camera_motion: float | None = Field(
        None,
        ge=0,
        description="Filter: greatest camera motion left in the stored frames, pixels per frame "
        "(default: none).",
    )
    stabilize: bool = Field(
        False,
        description="Warp every frame onto the first one, so that the scene stays still. A clip "
        "that would not move less, or lose its hands, is stored as filmed: max_camera_motion "
        "filters those.",
    )

    hand_workers: int | None = Field(
        None, ge=1, description="Hand-detection actors; one a CPU of the cluster by default."
    )
    decode_workers: int | None = Field(
        None, ge=1, description="Decoding tasks at a time; one for two CPUs by default."
    )
    rows_per_file: int = Field(64, ge=1, description="Clips per Parquet file, about.")

    retry_failed: bool = Field(False, description="Try again the clips that failed earlier.")
    overwrite: bool = Field(False, description="Delete what the output holds and start afresh.")
    dry_run: bool = Field(False, description="Print what would be done, and do nothing.")

    @model_validator(mode="after")
    def _consistent(self) -> PreprocessSettings:
        if self.source != "folder" and not self.annotations:
            raise ValueError(f"annotations: needed with --source {self.source}")
        if self.max_clip_s is not None and self.max_clip_s < self.min_clip_s:
            raise ValueError(
                f"max_clip_s: {self.max_clip_s:g} is less than min_clip_s ({self.min_clip_s:g})"
            )
        if self.detection_stride >= self.frames:
            raise ValueError(
                f"detection_stride: {self.detection_stride} leaves one of {self.frames} frames"
            )
        return self

    @property
    def working_side(self) -> int:
        """Short side at which frames are decoded, pixels: enough to detect on and to store."""
        return max(self.detection_side, self.resolution)

    def row_settings(self) -> dict[str, object]:
        """The keys that decide what a row holds or whether it is written.

        Two runs into one output must agree in them.
        """
        names = (
            "frames",
            "resolution",
            "fit",
            "jpeg_quality",
            "detection_side",
            "detector_confidence",
            "detection_stride",
            "min_clip_s",
            "max_clip_s",
            "max_blank",
            "max_cut",
            "min_hand_rate",
            "max_camera_motion",
            "stabilize",
        )
        return {name: getattr(self, name) for name in names}
