"""Which frame is on display at a time, in every container and group of pictures."""


import numpy as np
import pytest

from pipelines.video import DecodedClip
from tests.pipelines.test_video import clip, decode, numbers
from tests.videos import numbered_video

FPS, COUNT = 25, 300
MPEG = {"bf": "2", "sc_threshold": "1000000000", "qmin": "1", "qmax": "2"}
X264 = {"preset": "ultrafast", "x264-params": "scenecut=0:bframes=3:b-adapt=0:crf=18"}
OPEN = {"preset": "ultrafast", "x264-params": "scenecut=0:bframes=3:b-adapt=0:crf=18:open-gop=1"}
X265 = {"preset": "ultrafast", "x265-params": "log-level=none:scenecut=0:bframes=3:crf=18"}
VP9 = {"deadline": "realtime", "cpu-used": "8"}

CONTAINERS = {
    "mp4": ("libx264", X264),
    "mov": ("libx264", OPEN),
    "mkv": ("libx264", X264),
    "webm": ("libvpx-vp9", VP9),
    "avi": ("mpeg4", MPEG),
    "h264.avi": ("libx264", X264),
    "flv": ("libx264", X264),
    "wmv": ("wmv2", {"qmin": "1", "qmax": "2"}),
    "ts": ("libx264", X264),
    "open.ts": ("libx264", OPEN),
    "hevc.ts": ("libx265", X265),
    "mpeg2.ts": ("mpeg2video", MPEG),
    "m2ts": ("libx264", OPEN),
    "mpg": ("mpeg2video", MPEG),
    "h264.mpg": ("libx264", X264),
    "vob": ("mpeg2video", MPEG),
    "h264": ("libx264", X264),
    "m2v": ("mpeg2video", MPEG),
}
"""Ending of the file -> codec and its options: B-frames in all but VP9 and WMV."""

CLIPS = {
    "start": (clip(0.0, 0.48, "start"), [0, 4, 8, 12]),
    "early": (clip(2.0, 2.6, "early"), [50, 55, 60, 65]),
    "overlapping": (clip(2.2, 4.0, "overlapping"), [55, 70, 85, 100]),
    "middle": (clip(7.0, 7.36, "middle"), [175, 178, 181, 184]),
    "late": (clip(11.2, 11.8, "late"), [280, 285, 290, 295]),
    "open end": (clip(11.0, None, "open end"), [275, 283, 291, 299]),
}


@pytest.mark.parametrize("gop", [12, 60, 250])
@pytest.mark.parametrize("ending", CONTAINERS)
def test_a_clip_has_the_frames_on_display_at_its_times(tmp_path, ending, gop):
    codec, options = CONTAINERS[ending]
    video = tmp_path / f"v.{ending}"
    numbered_video(video, count=COUNT, fps=FPS, codec=codec, gop=gop, options=options)
    together = decode(video, *(wanted for wanted, _ in CLIPS.values()))
    for name, (wanted, expected) in CLIPS.items():
        for found in (together, decode(video, wanted)):
            assert isinstance(found[name], DecodedClip), found[name]
            assert numbers(found[name]) == expected, name
            assert np.allclose(found[name].frame_times_s, np.array(expected) / FPS, atol=2e-3)
