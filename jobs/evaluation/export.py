"""The evaluation set as a release: what others need to score their clips, with or without our code.

python jobs/evaluate.py export --data DATASET --output BENCHMARK
"""

from __future__ import annotations

import hashlib
import json
from contextlib import closing

from pydantic import BaseModel, ConfigDict, Field
from tqdm import tqdm

from handi_model.hands.model_files import ModelFileError, hand_landmarker_task
from jobs.cli import load, stop
from jobs.evaluation.release import (
    as_csv,
    clip_contents,
    clip_names,
    describe,
    read_rows,
    readme,
    scripts,
)
from pipelines.clip_rows import load_clip, reference
from pipelines.evaluation.clips import EvaluationSet, read_evaluation_set
from pipelines.evaluation.protocol import protocol_text
from pipelines.evaluation.seen_hands import hand_tracker, seen_hands
from pipelines.places import LocalPath, Url
from pipelines.records import one_line
from pipelines.running.output_lease import held_output
from pipelines.running.refusal import cannot_write
from pipelines.storage import (
    exists,
    find,
    folder_state,
    join,
    read_bytes,
    remove,
    writable,
    write_bytes,
)

SUMS = "SHA256SUMS"
TEXTS = (
    *("benchmark.json", "clips.csv", "PROTOCOL.md", "README.md"),
    *("score.py", "detect.py", "handedness.py"),
)
"""Files of the release beside those of each clip and their checksums."""
UNFINISHED = ".unfinished"
"""File in the folder of a release that is being written: what its clips' files are made from."""


class ExportSettings(BaseModel):
    """Keys of `jobs/evaluate.py export`."""

    model_config = ConfigDict(extra="forbid")

    data: Url = Field(description="URL of the output of jobs/preprocess.py.")
    output: Url = Field(description="URL of the folder to write.")
    split: str | None = Field(
        None, description="Split to release; by default test, else validation, else all clips."
    )
    limit: int | None = Field(None, ge=1, description="At most so many clips, evenly spread.")
    frames: bool = Field(
        False,
        description="Ship the pictures too: the first frame and the real frames of every clip; "
        "only where the licence of the videos lets you.",
    )
    hand_model: LocalPath | None = Field(
        None, description="Path of hand_landmarker.task; found or downloaded by default."
    )
    clip_deadline_s: float = Field(
        60.0, gt=0, description="Seconds that hand detection may take on one clip."
    )


def export(arguments: list[str]) -> None:
    """The subcommand: write the release, and say where it is.

    Args:
        arguments: of the command line, behind `export`.
    """
    settings = load(ExportSettings, "evaluate export", arguments)
    try:
        clips = read_evaluation_set(settings.data, settings.split, settings.limit)
        settings.output = writable(settings.output)
        with held_output(settings.output, "jobs/evaluate.py export"):
            output = write_release(clips, settings)
    except (ValueError, ModelFileError) as error:
        stop(str(error))
    print(f"{len(clips)} clips: {output}")


def write_release(clips: EvaluationSet, settings: ExportSettings) -> str:
    """Write all files, the checksums last; gives the folder's absolute URL.

    A release that was cut short goes on: clips whose files are there are not sought anew.

    Raises:
        ModelFileError: without MediaPipe's model.
        ValueError: if a clip cannot be read or its id names no file, or the output holds other
            files, in one line.
        JobError: if the output cannot be written.
    """
    length = clips.index.num_frames
    names = {one: clip_names(one, length, settings.frames) for one in clips.index.clip_ids}
    output = settings.output
    wanted = {SUMS, *TEXTS, *(name for each in names.values() for name in each)}
    before = _take_stock(output, wanted)
    rows = read_rows(clips)
    model = hand_landmarker_task(settings.hand_model)
    said = describe(clips, model, settings.frames)
    made_from = json.dumps([said, folder_state(join(clips.index.data, "clips"))])
    done = _begin(output, before, hashlib.sha256(made_from.encode()).hexdigest().encode())
    sums: dict[str, str] = {}

    def write(name: str, data: bytes) -> None:
        try:
            if name not in done:
                write_bytes(join(output, name), data)
        except Exception as error:  # each storage has its own
            raise cannot_write(join(output, name), error) from None
        sums[name] = hashlib.sha256(data).hexdigest()

    with closing(hand_tracker(model.read_bytes(), settings.clip_deadline_s)) as tracker:
        for clip, row in enumerate(tqdm(rows, unit="clip", desc="export", mininterval=1.0)):
            own = names[row["clip_id"]]
            try:
                loaded = load_clip(reference(clips.index, clip, None))
                if done.issuperset(own):
                    contents = [read_bytes(join(output, name)) for name in own]
                else:
                    hands = seen_hands(loaded["frames"], tracker)
                    contents = clip_contents(loaded, hands, settings.frames)
            except Exception as error:
                raise ValueError(
                    f"data: {row['clip_id']} cannot be released: {one_line(error)}"
                ) from None
            row["first_frame_sha256"] = hashlib.sha256(loaded["frames"][0].tobytes()).hexdigest()
            for name, data in zip(own, contents, strict=True):
                write(name, data)
    texts = {
        "benchmark.json": (json.dumps(said, indent=2, ensure_ascii=False) + "\n").encode(),
        "clips.csv": as_csv(rows),
        "PROTOCOL.md": protocol_text().encode(),
        "README.md": readme(said),
        **scripts(),
    }
    for name in TEXTS:
        write(name, texts[name])
    write(SUMS, "".join(f"{sums[name]}  {name}\n" for name in sorted(sums)).encode())
    remove(join(output, UNFINISHED))
    return output


def _take_stock(output: str, wanted: set[str]) -> set[str]:
    """Names of the files that are there; what is not of this release must not be in it.

    Pictures that an earlier export left would be published unseen.
    """
    start = len(join(output, ""))
    there = {url[start:] for url in find(output, "")}
    if others := there - wanted:
        raise ValueError(
            f"output: {output} holds {min(others)}, which is not of this release; choose another "
            "folder, or empty this one"
        )
    return there


def _begin(output: str, there: set[str], made_from: bytes) -> set[str]:
    """Take back what an earlier release left; gives the names of the clips' files that hold.

    Args:
        there: names of the files that are there.
        made_from: what tells these clips, and how they are made, from others. That the clips' files
            are written whole or not at all is what makes those of a release cut short hold.
    """
    remove(join(output, SUMS))
    mark = join(output, UNFINISHED)
    if exists(mark) and read_bytes(mark) == made_from:
        return there - {SUMS, *TEXTS}
    for name in there - {SUMS}:
        remove(join(output, name))
    write_bytes(mark, made_from)
    return set()
