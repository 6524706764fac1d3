"""An hour of 1080p: memory stays flat, and a short clip costs few bytes."""

from __future__ import annotations

import os
import subprocess
import threading
from fractions import Fraction
from pathlib import Path

import av
import psutil
import pytest

from pipelines.records import Clip
from pipelines.rendered import CLIPS
from pipelines.video import DecodedClip, decode_clips
from tests.integration.conftest import REPOSITORY, job_command
from tests.integration.outputs import check_that_it_adds_up, rows

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

HOUR_S = 3600
CLIPS_OF_HOUR = 60


def source_clips() -> list[Path]:
    """Real egocentric clips where they are at hand, else the rendered ones."""
    folder = os.environ.get("HANDI_TEST_CLIPS")
    return sorted(Path(folder).glob("epicwall_*.mp4")) if folder else sorted(CLIPS.glob("*.mp4"))


@pytest.fixture(scope="module")
def hour(tmp_path_factory) -> Path:
    """The clips one after the other at 1080p, then that loop copied packet by packet."""
    folder = tmp_path_factory.mktemp("hour")
    with av.open(str(folder / "loop.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = 1920, 1080, "yuv420p", 60
        count = 0
        for path in source_clips():
            with av.open(str(path)) as source:
                for frame in source.decode(video=0):
                    picture = frame.reformat(1920, 1080, format="yuv420p")
                    picture.pts, picture.time_base = count, Fraction(1, 30)
                    container.mux(stream.encode(picture))
                    count += 1
        container.mux(stream.encode())
    with av.open(str(folder / "loop.mp4")) as loop, av.open(str(folder / "hour.mp4"), "w") as whole:
        source = loop.streams.video[0]
        copy = whole.add_stream_from_template(source)
        length = source.duration
        for turn in range(round(HOUR_S / float(length * source.time_base))):
            loop.seek(0)
            for packet in loop.demux(source):
                if packet.dts is not None:
                    packet.pts += turn * length
                    packet.dts += turn * length
                    packet.stream = copy
                    whole.mux(packet)
    (folder / "loop.mp4").unlink()
    return folder / "hour.mp4"


class Watch(threading.Thread):
    """Peak memory of each process of a family, in bytes: resident, less what is shared with
    others, such as the pages of the object store."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.peaks, self.done = pid, dict[str, int](), threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.5):
            try:
                family = [psutil.Process(self.pid)]
                family += family[0].children(recursive=True)
            except psutil.NoSuchProcess:
                return
            for process in family:
                try:
                    memory = process.memory_info()
                    name = f"{process.pid} {' '.join(process.cmdline())[:60].strip()}"
                except psutil.Error:
                    continue
                own = memory.rss - memory.shared
                self.peaks[name] = max(self.peaks.get(name, 0), own)


def test_memory_does_not_grow_with_the_length_of_a_video(hour, hand_model, tmp_path):
    lines = ["video,narration,start_s,stop_s"]
    for number in range(CLIPS_OF_HOUR):
        start_s = number * (HOUR_S - 60) / CLIPS_OF_HOUR
        lines.append(f"{hour},clip {number},{start_s:.2f},{start_s + 2:.2f}")
    captions = tmp_path / "captions.csv"
    captions.write_text("\n".join(lines) + "\n")
    output = tmp_path / "out"
    job = subprocess.Popen(
        job_command("--videos", hour.parent, "--annotations", captions, "--output", output)
        + ["--hand-model", str(hand_model), "--min-hand-rate", "0"],
        cwd=REPOSITORY,
    )
    watch = Watch(job.pid)
    watch.start()
    code = job.wait(timeout=1200)
    watch.done.set()
    watch.join()
    for name, peak in sorted(watch.peaks.items(), key=lambda item: -item[1])[:8]:
        print(f"{peak / 1e6:7.0f} MB  {name}")
    assert code == 0
    assert len(rows(str(output), "clips")) == CLIPS_OF_HOUR
    check_that_it_adds_up(str(output))
    assert max(watch.peaks.values()) < 2e9


def test_a_short_clip_of_an_hour_over_s3_reads_under_three_percent_of_its_bytes(
    hour, s3, monkeypatch
):
    os.link(hour, s3.folder / "raw" / "hour.mp4")
    from s3fs.core import S3File

    fetched = []
    fetch = S3File._fetch_range

    def counting(self, start, end):
        data = fetch(self, start, end)
        fetched.append(len(data))
        return data

    monkeypatch.setattr(S3File, "_fetch_range", counting)
    uri = "s3://raw/hour.mp4"
    clip = Clip("a", "folder", "", uri, 1800.0, 1802.0, "")
    (decoded,) = decode_clips(uri, [clip], 16, 256)
    assert isinstance(decoded, DecodedClip)
    share = sum(fetched) / hour.stat().st_size
    print(f"{sum(fetched) / 1e6:.1f} of {hour.stat().st_size / 1e6:.0f} MB read: {share:.2%}")
    assert share < 0.03
