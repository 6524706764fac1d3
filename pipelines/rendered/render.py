"""Render the clips: ``python -m pipelines.rendered.render --output DIR``."""

from __future__ import annotations

import argparse
import csv
import logging
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from tqdm import tqdm

from pipelines.rendered.arm import Arm, build_arm, joints, pose_bones, surface
from pipelines.rendered.camera import HEIGHT, WIDTH
from pipelines.rendered.catalogue import CATALOGUE, Clip
from pipelines.rendered.mesh import find_mesh, read_base_mesh
from pipelines.rendered.scene import Studio
from pipelines.rendered.shapes import Shape, vertex_normals
from pipelines.rendered.skin import skin_colours
from pipelines.rendered.table import clutter, table

log = logging.getLogger(__name__)

FRAMES_PER_SECOND = 15
FRAMES = 30
JOINTS = 21
HAND_ROWS = {"left": slice(0, JOINTS), "right": slice(JOINTS, 2 * JOINTS)}
EPIC_COLUMNS = [
    "narration_id",
    "participant_id",
    "video_id",
    "narration_timestamp",
    "start_timestamp",
    "stop_timestamp",
    "start_frame",
    "stop_frame",
    "narration",
    "verb",
    "verb_class",
    "noun",
    "noun_class",
    "all_nouns",
    "all_noun_classes",
]


def render_clip(
    clip: Clip, mesh_folder: Path, samples: int, frames: list[int], progress: tqdm
) -> tuple[np.ndarray, np.ndarray]:
    """Render some frames of a clip.

    Args:
        clip: what to render.
        mesh_folder: the MakeHuman data.
        samples: light paths a pixel.
        frames: numbers of the frames, in [0, FRAMES).
        progress: advanced by one a frame.

    Returns:
        The pictures, (T, HEIGHT, WIDTH, 3) uint8 sRGB, and the joints, (T, 42, 2) float32 as
        ``pipelines.rendered.true_joints`` describes them.
    """
    rng = np.random.default_rng(clip.seed)
    base = read_base_mesh(mesh_folder, clip.body)
    arms = {side: build_arm(base, side) for side in clip.sides}
    action = clip.action(arms)
    surroundings = table(rng, clip.table, *clip.cloth) + clutter(rng, clip.clutter)
    skins = {
        f"{side}_arm": (
            _arm_shape(arm, arm.vertices),
            skin_colours(arm, clip.skin, mesh_folder, rng),
        )
        for side, arm in arms.items()
    }
    studio = Studio(surroundings + action.standing + action.held, skins, clip.camera, clip.light)
    pictures = np.empty((len(frames), HEIGHT, WIDTH, 3), dtype=np.uint8)
    tracks = np.full((len(frames), 2 * JOINTS, 2), np.nan, dtype=np.float32)
    for row, number in enumerate(frames):
        moment = action.moment(number / (FRAMES - 1))
        for thing in action.held:
            studio.move(thing.name, thing.shape.moved(moment.held))
        for side, pose in moment.hands.items():
            bones = pose_bones(arms[side], pose)
            studio.move(f"{side}_arm", _arm_shape(arms[side], surface(arms[side], bones)))
            tracks[row, HAND_ROWS[side]] = clip.camera.project(joints(arms[side], bones))
        # One seed for the whole clip keeps what stands still free of flicker.
        pictures[row] = studio.picture(samples, clip.seed)
        progress.update()
    return pictures, tracks


def write_video(pictures: np.ndarray, path: Path) -> None:
    """Write (T, H, W, 3) uint8 sRGB pictures as H.264 that plays in browsers."""
    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream(
            "libx264", rate=FRAMES_PER_SECOND, options={"crf": "18", "preset": "slow"}
        )
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, FRAMES_PER_SECOND)
        for picture in pictures:
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def write_tables(clips: list[Clip], folder: Path) -> None:
    """Write ``captions.csv`` and ``EPIC_100_rendered.csv``, one row a clip."""
    with open(folder / "captions.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["video", "narration", "verb", "noun"])
        for clip in clips:
            writer.writerow([f"{clip.stem}.mp4", clip.narration, clip.verb[0], clip.noun[0]])
    with open(folder / "EPIC_100_rendered.csv", "w", newline="") as file:
        table_writer = csv.DictWriter(file, EPIC_COLUMNS, lineterminator="\n")
        table_writer.writeheader()
        stop = f"00:00:{FRAMES / FRAMES_PER_SECOND:05.2f}"
        for clip in clips:
            (verb, verb_class), (noun, noun_class) = clip.verb, clip.noun
            row = {
                "narration_id": f"{clip.stem}_0",
                "participant_id": clip.participant,
                "video_id": clip.stem,
                "narration_timestamp": "00:00:00.000",
                "start_timestamp": "00:00:00.00",
                "stop_timestamp": stop,
                "start_frame": 1,
                "stop_frame": FRAMES,
                "narration": clip.narration,
                "verb": verb,
                "verb_class": verb_class,
                "noun": noun,
                "noun_class": noun_class,
                "all_nouns": [noun],
                "all_noun_classes": [noun_class],
            }
            table_writer.writerow(row)


def main(arguments: list[str] | None = None) -> int:
    """Render the clips that the command line names and write everything beside them."""
    names = [clip.stem for clip in CATALOGUE]
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.rendered.render", description=__doc__
    )
    parser.add_argument("--output", type=Path, required=True, help="folder to write to")
    parser.add_argument("--clips", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--samples", type=int, default=24, help="light paths a pixel")
    parser.add_argument("--mesh", type=Path, help="folder of the MakeHuman data")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        mesh_folder = find_mesh(options.mesh)
    except FileNotFoundError as error:
        log.error("%s", error)
        return 1
    options.output.mkdir(parents=True, exist_ok=True)
    clips = [clip for clip in CATALOGUE if clip.stem in options.clips]
    tracks = {}
    frames = list(range(FRAMES))
    with tqdm(total=len(clips) * FRAMES, unit="frame") as progress:
        for clip in clips:
            progress.set_description(clip.stem)
            pictures, tracks[clip.stem] = render_clip(
                clip, mesh_folder, options.samples, frames, progress
            )
            write_video(pictures, options.output / f"{clip.stem}.mp4")
    np.savez_compressed(options.output / "joints.npz", allow_pickle=False, **tracks)
    write_tables(clips, options.output)
    log.info("%d clips in %s", len(clips), options.output)
    return 0


def _arm_shape(arm: Arm, vertices: np.ndarray) -> Shape:
    return Shape(vertices, arm.triangles, vertex_normals(vertices, arm.triangles), arm.uv)


if __name__ == "__main__":
    sys.exit(main())
