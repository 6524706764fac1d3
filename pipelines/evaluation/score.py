"""Measure clips against the real ones: the graph and its driver.

A row is a test clip with all methods that are to be measured on it, so that the real clip is
looked at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from handi_model.baselines.method import Made
from handi_model.damage import DamagedFile
from handi_model.seeds import clip_seed
from pipelines.clip_rows import reference
from pipelines.evaluation.clips import EvaluationSet, RealClip, real_clip
from pipelines.evaluation.figures import Scores, Texts, figures, write_scores
from pipelines.evaluation.floors import shuffled, still
from pipelines.evaluation.method_clip import read_method_clip
from pipelines.evaluation.networks import Origins, one_thread, open_networks
from pipelines.evaluation.plan import ToScore
from pipelines.evaluation.seen_hands import hand_tracker
from pipelines.evaluation.settings import EvaluateSettings
from pipelines.evaluation.views import OncePerFrame, View, view
from pipelines.frames import FitMode
from pipelines.records import one_line
from pipelines.running.lost_rows import NO_RETRIES, pool
from pipelines.running.refusal import OutputRefused, cannot_write
from pipelines.running.workers import place_workers
from pipelines.storage import remove

OF_MANY = ("inception", "i3d")
"""Networks whose features are compared over all clips, not clip by clip."""


class Scorer:
    """The actor of the graph: scores of one test clip under some methods."""

    def __init__(
        self, settings: EvaluateSettings, expected: Origins, num_frames: int, fit: FitMode
    ) -> None:
        one_thread()
        self.networks = open_networks(settings, num_frames, expected.loaded)
        found = self.networks.origins
        if found.fingerprint != expected.fingerprint:
            why = "; ".join(found.missing.values()) or "their files differ"
            raise RuntimeError(f"a worker finds other networks than another one: {why}")
        self.seed = settings.seed
        self.fit: FitMode = fit
        self.tracker = hand_tracker(self.networks.hand_model, settings.clip_deadline_s)
        self._texts = lru_cache(1024)(self._embed)

    def __del__(self) -> None:
        # As in preprocessing: Ray has killed the detector's process by now, about which the exit
        # handlers would print tracebacks.
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        problems: list[str] = []
        outcome = {"clip": row["clip"], "scores": len(row["wanted"]), "problems": problems}
        outcome["refused"] = ""
        try:
            real = real_clip(row["real"])
            look = self._looks_at(real)
            seen_real = look(real.frames)
        except Exception as error:  # of this clip: the others go on
            problems.append(f"{row['clip_id']}: {one_line(error)}")
            return outcome
        for wanted in row["wanted"]:
            one = ToScore(**wanted)
            try:
                made = self._made(one, real, row["other"])
                if one.kind == "swapped":
                    # All clips together are the same ones: they have no distance to be told.
                    seen = self._looks_at(real, without=OF_MANY)(made.frames)
                else:
                    seen = seen_real if one.kind == "real" else look(made.frames)
                write_scores(one.folder, real.clip_id, self._scores(made, seen, real, seen_real))
            except OutputRefused as error:
                outcome["refused"] = one_line(error)
            except DamagedFile as error:
                problems.append(f"{one.method}: {real.clip_id}: {error}")
                if one.kind != "folder":  # it is ours: the next run makes it anew
                    remove(error.url)
            except Exception as error:
                problems.append(f"{one.method}: {real.clip_id}: {one_line(error)}")
        return outcome

    def _looks_at(
        self, real: RealClip, without: tuple[str, ...] = ()
    ) -> Callable[[NDArray[np.uint8]], View]:
        """What looks at all clips that are compared with a real one."""
        backbones = {key: one for key, one in self.networks.backbones.items() if key not in without}
        if "inception" in backbones:
            backbones["inception"] = OncePerFrame(backbones["inception"])
        return partial(view, mask=real.mask, tracker=self.tracker, backbones=backbones)

    def _made(self, one: ToScore, real: RealClip, other: dict[str, Any]) -> Made:
        if one.source:
            return read_method_clip(one.kind, one.source, real, self.fit)
        frames = {
            "real": lambda: real.frames,
            "still": lambda: still(real.frames),
            "shuffled": lambda: shuffled(real.frames, clip_seed(self.seed, real.clip_id)),
            "swapped": lambda: real_clip(other).frames,
        }[one.kind]()
        return Made(frames, None, None)

    def _scores(self, made: Made, seen: View, real: RealClip, seen_real: View) -> Scores:
        caption = seen.caption or ""
        found = figures(
            made,
            seen,
            real,
            seen_real,
            self._texts(real.narration),
            self._texts(caption) if caption else Texts(None, None),
        )
        return Scores(found, seen.features, seen.hands, caption)

    def _embed(self, text: str) -> Texts:
        clip, egovlp, blip = (
            self.networks.backbones.get(key) for key in ("clip", "egovlp", "blip")
        )
        return Texts(
            clip.texts([text])[0] if clip else None,
            egovlp.texts([text], blip.tokenizer)[0] if egovlp and blip else None,
        )


def score(
    clips: EvaluationSet,
    wanted: dict[int, list[ToScore]],
    settings: EvaluateSettings,
    origins: Origins,
    alone: bool = False,
) -> Iterator[tuple[int, int, list[str]]]:
    """Score clips: gives a clip's number, its scores done and what went wrong. Ray must be running.

    A clip whose process died does not come out.

    Args:
        wanted: number of a clip -> what to measure on it.
        alone: as in generation.

    Raises:
        JobError: if the storage refuses the scores.
        ray.exceptions.RayError: if no worker can be started.
    """
    place = place_workers(settings.workers, len(wanted), settings.device)
    references = {
        clip: reference(clips.index, clip, None)
        for clip in {*wanted, *((clip + 1) % len(clips) for clip in wanted)}
    }
    items = [
        {
            "clip": clip,
            "clip_id": clips.index.clip_ids[clip],
            "real": references[clip],
            "other": references[(clip + 1) % len(clips)],
            "wanted": [vars(one) for one in methods],
        }
        for clip, methods in wanted.items()
    ]
    rows = (
        ray.data.from_items(items, override_num_blocks=len(items))
        .map(
            Scorer,  # type: ignore[arg-type]  # Ray builds one an actor
            fn_constructor_args=(settings, origins, clips.index.num_frames, clips.fit),
            compute=pool(place.actors, alone),
            num_gpus=place.gpus,
            num_cpus=place.cpus,
            max_task_retries=NO_RETRIES,
        )
        .iter_rows()
    )
    for row in rows:
        if row["refused"]:
            raise cannot_write(settings.output, row["refused"])
        yield row["clip"], row["scores"], list(row["problems"])
