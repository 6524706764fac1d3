"""Every key of the evaluation, with its unit and default: the methods, the clips, the networks."""

from __future__ import annotations

import hashlib
import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from handi_model.config import DType
from pipelines.places import LocalPath, ModelPlace, Url

Kind = Literal[
    "handi",
    "animate-anything",
    "cogvideox",
    "pia",
    "i2vgen-xl",
    "folder",
    "real",
    "still",
    "shuffled",
    "swapped",
]
GENERATIVE: tuple[Kind, ...] = ("handi", "animate-anything", "cogvideox", "pia", "i2vgen-xl")
"""Kinds that a model makes clips by."""
OF_REAL_CLIPS: tuple[Kind, ...] = ("real", "still", "shuffled", "swapped")
"""Kinds that are made of the real clips: floors and ceilings of the figures."""


class Sampling(BaseModel):
    """How a model is called; what is not given is the model's own."""

    model_config = ConfigDict(extra="forbid")

    num_inference_steps: int | None = Field(
        None, ge=1, le=1000, description="Denoising steps of a clip."
    )
    mask_steps: int | None = Field(
        None, ge=1, le=1000, description="Denoising steps of ours' motion area."
    )
    guidance_scale: float | None = Field(
        None, ge=1, allow_inf_nan=False, description="Classifier-free guidance, from 1 (none)."
    )


class MethodSettings(Sampling):
    """A row of the tables."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, description="The row's title.")
    kind: Kind = Field(description="What makes the clips.")
    model: ModelPlace | None = Field(
        None, description="URL of a saved pipeline's folder, or a hub id."
    )
    clips: Url | None = Field(None, description="Of kind 'folder': URL of the clips.")
    area: Literal["predicted", "true", "frame"] = Field(
        "predicted",
        description="Of kind 'handi': the motion area of stage 1, the true mask, or the whole "
        "frame (no mask).",
    )
    without: Literal["mask", "hand loss", "mask and hand loss"] | None = Field(
        None,
        description="Of kinds 'handi' and 'folder': the part of the method that this run is "
        "without; the first whole one of kind 'handi' is compared with it.",
    )
    height: int | None = Field(None, ge=8, description="Of diffusers' pipelines, pixels.")
    width: int | None = Field(None, ge=8, description="Of diffusers' pipelines, pixels.")
    num_frames: int | None = Field(None, ge=2, description="Of diffusers' pipelines.")
    motion_adapter: ModelPlace | None = Field(
        None, description="Of PIA: a folder or hub id; the published one by default."
    )

    @model_validator(mode="after")
    def _complete(self) -> MethodSettings:
        if self.kind in GENERATIVE and not self.model:
            raise ValueError(f"method {self.name!r}: kind '{self.kind}' needs a model")
        if self.kind == "folder" and not self.clips:
            raise ValueError(f"method {self.name!r}: kind 'folder' needs clips, a folder's URL")
        fields = type(self).model_fields
        given = {name for name, field in fields.items() if getattr(self, name) != field.default}
        if idle := sorted(given - {"name", "kind"} - self._keys()):
            raise ValueError(f"method {self.name!r}: {idle[0]} means nothing to kind {self.kind!r}")
        return self

    def _keys(self) -> set[str]:
        """The keys that this kind heeds, beside its name."""
        if self.kind not in GENERATIVE:
            return {"clips", "without"} if self.kind == "folder" else set()
        sizes = {"height", "width", "num_frames"}
        own: dict[str, set[str]] = {
            "handi": {"mask_steps", "area", "without"},
            "animate-anything": set(),
            "pia": {*sizes, "motion_adapter"},
        }
        return {"model", "num_inference_steps", "guidance_scale"} | own.get(self.kind, sizes)

    @property
    def slug(self) -> str:
        """The name in letters that every storage takes."""
        return slug(self.name)

    def options(self) -> dict[str, object]:
        """What goes to the adapter beside the model; what is not given is left out."""
        names = self._keys() - {"model", "without"}
        return self.model_dump(include=names, exclude_none=True)


def slug(name: str) -> str:
    """A method's name in small letters, digits and dashes."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    if name.isascii() and plain:
        return plain
    # Names in other letters must not fall together.
    return f"{plain or 'method'}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


FLOORS_AND_CEILINGS = (
    MethodSettings(name="real clip", kind="real"),
    MethodSettings(name="still frame", kind="still"),
    MethodSettings(name="frames shuffled", kind="shuffled"),
    MethodSettings(name="another clip", kind="swapped"),
)


class EvaluateSettings(Sampling):
    """Keys of `jobs/evaluate.py`."""

    data: Url = Field(description="URL of the output of jobs/preprocess.py.")
    output: Url = Field(description="URL of the folder to write.")
    model: ModelPlace | None = Field(
        None,
        description="URL of a saved HandiPipeline: evaluated as it is, without its mask, and "
        "under the true masks.",
    )
    clips: Url | None = Field(
        None, description="URL of a folder of clips made elsewhere, each named by its clip id."
    )
    methods: list[MethodSettings] = Field([], description="Further rows; best given in YAML.")
    floors: bool = Field(
        True, description="Beside the real clip: a still frame, shuffled frames, another clip."
    )

    split: str | None = Field(
        None, description="Split to evaluate; by default test, else validation, else all clips."
    )
    limit: int | None = Field(None, ge=1, description="At most so many clips, evenly spread.")
    seed: int = Field(0, ge=0, lt=2**63, description="Seed; each clip's own comes of it.")
    bootstrap: int = Field(
        1000, ge=10, description="Sets of clips drawn for the interval of a mean."
    )
    frechet_bootstrap: int = Field(
        50, ge=2, description="Sets of clips drawn for the interval of FID and FVD."
    )

    inception: LocalPath | None = Field(None, description="Path of FID's Inception network.")
    i3d: LocalPath | None = Field(None, description="Path of FVD's I3D network.")
    clip: LocalPath | None = Field(None, description="Path of the CLIP model's folder.")
    blip: LocalPath | None = Field(None, description="Path of the BLIP model's folder.")
    egovlp: LocalPath | None = Field(
        None,
        description="Path of EgoVLP's weights; for LEGO's figures on EPIC-KITCHENS those that "
        "were fine-tuned there (epic_mir_plus), converted.",
    )
    hand_model: LocalPath | None = Field(
        None, description="Path of hand_landmarker.task; found or downloaded by default."
    )

    clip_deadline_s: float = Field(
        60.0, gt=0, description="Seconds that hand detection may take on one clip."
    )

    device: str | None = Field(None, description="Torch device; a GPU where there is one.")
    dtype: DType = Field("float32", description="Type of the generating models' weights.")
    workers: int | None = Field(
        None, ge=1, description="Processes; one a GPU, or a CPU without any, by default."
    )
    shown: int = Field(24, ge=0, description="Clips on the page, those with the worst hands.")
    fps: float | None = Field(
        None, gt=0, le=120, description="Frames a second of the videos; the data set's by default."
    )
    experiment: str = Field(
        "handi-evaluation", min_length=1, description="MLflow's experiment that the run goes to."
    )
    dry_run: bool = Field(False, description="Print what would be done, and do nothing.")

    @model_validator(mode="after")
    def _something_to_do(self) -> EvaluateSettings:
        names = [one.slug for one in self.rows()]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"methods: two of them are named {twice[0]!r}; rename one")
        if [one.kind for one in self.rows()].count("real") > 1:
            raise ValueError("methods: two of them are of kind 'real'; keep one")
        for name in Sampling.model_fields:
            if getattr(self, name) is not None and not self.model:
                raise ValueError(f"{name}: it is of the model, and none is given (--model)")
        return self

    def rows(self) -> list[MethodSettings]:
        """All methods, in the order of the tables; the real clip is always among them."""
        rows: list[MethodSettings] = []
        if self.model:
            calls = self.model_dump(include=set(Sampling.model_fields))
            ours = MethodSettings(name="ours", kind="handi", model=self.model, **calls)
            rows.append(ours)
            rows.append(
                ours.model_copy(
                    update={"name": "ours, no mask", "area": "frame", "without": "mask"}
                )
            )
            rows.append(ours.model_copy(update={"name": "ours, true masks", "area": "true"}))
        if self.clips:
            rows.append(MethodSettings(name="clips", kind="folder", clips=self.clips))
        rows += self.methods
        floors = FLOORS_AND_CEILINGS if self.floors else FLOORS_AND_CEILINGS[:1]
        taken = {one.kind for one in rows}
        return rows + [one for one in floors if one.kind not in taken]
