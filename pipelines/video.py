"""Decode the wanted stretches of one video, from any fsspec URL, in one pass.

Only the byte ranges that the stretches need are read. Memory holds the frames of the clips that
overlap at one moment, never the video.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from pipelines.records import Clip, Problem
from pipelines.video_errors import TRANSIENT, VideoError, explain
from pipelines.video_source import opened, to_rgb, working_size

END_TOLERANCE_S = 0.25
"""How far an annotation may reach past the last frame: annotators round."""

SEEK_MARGIN_S = 0.5
"""Seek this much early: containers index by decoding time, which runs ahead of display time."""

CLOCK_S = 1e-3
"""Times closer than this are one time: containers tick in milliseconds, and floats round."""


@dataclass(frozen=True)
class DecodedClip:
    """The sampled frames of one clip.

    Attributes:
        clip: with `stop_s` filled in where it was open.
        frames: (L, h, w, 3) uint8 RGB, display orientation, square pixels.
        frame_times_s: (L,) float64, display time of each frame.
        fps_source: average frame rate of the video.
    """

    clip: Clip
    frames: NDArray[np.uint8]
    frame_times_s: NDArray[np.float64]
    fps_source: float


def decode_clips(
    video_uri: str, clips: Iterable[Clip], num_frames: int, short_side: int
) -> Iterator[DecodedClip | tuple[Clip, Problem]]:
    """Yield each clip's frames as soon as its stretch has been passed, or its problem.

    Args:
        video_uri: fsspec URL.
        clips: stretches of that video, in any order; they may overlap.
        num_frames: frames a clip, evenly spaced from `start_s` to `stop_s` inclusive. A sample is
            the frame on display at its time, so a variable frame rate is respected.
        short_side: frames are shrunk so that their short side is at most this many pixels.

    Every clip comes out exactly once. Nothing is raised for a bad video.
    """
    waiting = deque(sorted(clips, key=lambda clip: (clip.start_s, clip.clip_id)))
    sweep: _Sweep | None = None
    try:
        with opened(video_uri) as container:
            sweep = _Sweep(container, waiting, num_frames, short_side)
            while waiting or sweep.active:
                try:
                    yield from sweep.run()
                except Exception as error:
                    # What spoils one stretch (a hole in the file, a lost connection) may spare
                    # the next one.
                    problem = explain(error, video_uri)
                    if problem.error_type in TRANSIENT:
                        raise
                    spoiled, sweep.active = sweep.active, []
                    lost = [stretch.clip for stretch in spoiled] or [waiting.popleft()]
                    yield from ((clip, problem.for_clip(clip)) for clip in lost)
    except Exception as error:
        problem = explain(error, video_uri)
        lost = [stretch.clip for stretch in sweep.active] if sweep else []
        yield from ((clip, problem.for_clip(clip)) for clip in [*lost, *waiting])


@dataclass
class _Stretch:
    """A clip that is being filled with frames."""

    clip: Clip
    times: NDArray[np.float64]
    size: tuple[int, int]
    frames: list[NDArray[np.uint8]] = field(default_factory=list)
    frame_times: list[float] = field(default_factory=list)
    began: int = 0
    """Frames whose display began within the stretch."""

    @property
    def complete(self) -> bool:
        return len(self.frames) == len(self.times)

    def take(self, frame: VideoFrame, shown_s: float, until_s: float) -> None:
        """Fill the samples that fall before `until_s` with the frame on display since `shown_s`."""
        due = int(np.searchsorted(self.times, until_s - CLOCK_S)) - len(self.frames)
        if due > 0:
            image = to_rgb(frame, self.size)
            self.frames.extend([image] * due)
            self.frame_times.extend([shown_s] * due)


def _named(clip: Clip) -> float:
    """The first moment of the clip that its annotation itself names, seconds."""
    return clip.start_s if clip.timestamp_s is None else clip.timestamp_s


class _Sweep:
    """One pass over a video: seek to the next stretch, decode through it, hand it out."""

    def __init__(
        self,
        container: InputContainer,
        waiting: deque[Clip],
        num_frames: int,
        short_side: int,
    ) -> None:
        if not container.streams.video:
            raise VideoError("NoVideoStream", "the file holds no video stream")
        self.container = container
        self.stream: VideoStream = container.streams.video[0]
        if self.stream.codec_context is None:
            raise VideoError("UnknownCodec", "the video's codec is unknown to FFmpeg")
        self.stream.thread_type = "AUTO"
        self.waiting = waiting
        self.num_frames = num_frames
        self.short_side = short_side
        self.active: list[_Stretch] = []
        self.previous: tuple[VideoFrame, float] | None = None
        """The frame on display at the sweep's position, and since when."""
        self.time_base = self.stream.time_base or Fraction(1, av.time_base)
        """Seconds of one tick of the stream's clock."""
        base = self.time_base
        self.offset_s = float((self.stream.start_time or 0) * base)
        self.aspect = float(self.stream.sample_aspect_ratio or 1)
        self.fps = float(self.stream.average_rate or self.stream.guessed_rate or 0)
        if self.stream.duration:
            self.length_s: float | None = float(self.stream.duration * base)
        elif container.duration:
            self.length_s = container.duration / av.time_base - max(self.offset_s, 0.0)
        else:
            self.length_s = None

    def run(self) -> Iterator[DecodedClip | tuple[Clip, Problem]]:
        """Seek to the next stretch and decode until no stretch is open or near."""
        yield from self._reject()
        if not self.waiting:
            return
        target = self.waiting[0]
        self._seek(target.start_s)
        for packet in self.container.demux(self.stream):
            for frame in packet.decode():
                if frame.pts is None:
                    continue
                shown_s = float(frame.pts * self.time_base) - self.offset_s
                self._open_stretches(frame, shown_s)
                yield from self._advance(frame, shown_s)
                if not self.active and not self.waiting:
                    return
                # Once a seek: where it landed is as near to its target as the container goes.
                passed = not self.active and self.waiting[0] is not target
                if passed and self._worth_seeking(shown_s):
                    return
        yield from self._finish()

    def _reject(self) -> Iterator[tuple[Clip, Problem]]:
        """Hand back the clips that cannot be in this video, and close open ends."""
        for clip in list(self.waiting):
            problem = None
            if clip.stop_s is None and self.length_s is None:
                problem = VideoError(
                    "UnknownLength",
                    "the video does not tell its length; name the stretch in a captions file",
                )
            elif clip.stop_s is not None and clip.stop_s <= clip.start_s:
                problem = VideoError(
                    "StopBeforeStart",
                    f"the clip stops at {clip.stop_s:.2f} s, not after its start at "
                    f"{clip.start_s:.2f} s; correct its annotation",
                )
            elif self.length_s is not None and _named(clip) >= self.length_s + END_TOLERANCE_S:
                problem = self._beyond_end(clip, self.length_s)
            if problem:
                self.waiting.remove(clip)
                yield clip, problem.for_clip(clip)

    def _stop(self, clip: Clip) -> float:
        """When the clip stops: an open end, and a stretch around a timestamp, with the video.

        The end of the video is the start of its last frame.
        """
        if self.length_s is None or (clip.stop_s is not None and clip.timestamp_s is None):
            assert clip.stop_s is not None
            return clip.stop_s
        last_s = max(clip.start_s, self.length_s - (1 / self.fps if self.fps else 0.0))
        return last_s if clip.stop_s is None else min(clip.stop_s, last_s)

    def _beyond_end(self, clip: Clip, end_s: float) -> VideoError:
        if clip.timestamp_s is None:
            named = f"the clip runs from {clip.start_s:.2f} to {self._stop(clip):.2f} s"
        else:
            named = f"the annotation's timestamp is {clip.timestamp_s:.2f} s"
        return VideoError(
            "BeyondEnd",
            f"{named} but the video ends at {end_s:.2f} s; check that the annotation belongs to "
            "this video",
        )

    def _keyframe_before(self, time_s: float) -> float | None:
        entries = self.stream.index_entries
        timestamp = int((time_s + self.offset_s) / self.time_base)
        found = entries.search_timestamp(timestamp) if len(entries) else -1
        if found < 0:
            return None
        return float(entries[found].timestamp * self.time_base) - self.offset_s

    def _worth_seeking(self, position_s: float) -> bool:
        """Whether a jump to the next stretch skips anything: a keyframe lies in between."""
        start_s = self.waiting[0].start_s - SEEK_MARGIN_S
        keyframe_s = self._keyframe_before(start_s)
        return start_s > position_s and (keyframe_s is None or keyframe_s > position_s)

    def _seek(self, start_s: float) -> None:
        target_s = max(start_s - SEEK_MARGIN_S, 0.0) + self.offset_s
        self.container.seek(int(target_s / self.time_base), stream=self.stream)
        self.previous = None

    def _open_stretches(self, frame: VideoFrame, shown_s: float) -> None:
        while self.waiting and self.waiting[0].start_s <= shown_s + CLOCK_S:
            clip = self.waiting.popleft()
            times = np.linspace(clip.start_s, self._stop(clip), self.num_frames)
            size = working_size(frame, self.aspect, self.short_side)
            self.active.append(_Stretch(clip, times, size))

    def _advance(
        self, frame: VideoFrame, shown_s: float
    ) -> Iterator[DecodedClip | tuple[Clip, Problem]]:
        """Let every open stretch take its samples that fall before this frame's display."""
        before, since_s = self.previous or (frame, shown_s)
        for stretch in self.active:
            stretch.take(before, since_s, shown_s)
            stretch.began += stretch.times[0] - CLOCK_S <= shown_s <= stretch.times[-1] + CLOCK_S
        self.previous = (frame, shown_s)
        yield from self._completed()

    def _completed(self) -> Iterator[DecodedClip | tuple[Clip, Problem]]:
        complete = [stretch for stretch in self.active if stretch.complete]
        self.active = [stretch for stretch in self.active if not stretch.complete]
        for stretch in complete:
            clip = stretch.clip
            first_s, last_s = float(stretch.times[0]), float(stretch.times[-1])
            if stretch.began:
                clip = replace(clip, stop_s=last_s)
                times = np.array(stretch.frame_times)
                yield DecodedClip(clip, np.stack(stretch.frames), times, self.fps)
            else:
                problem = VideoError(
                    "NoFrames",
                    f"no frame lies between {first_s:.2f} and {last_s:.2f} s of the video",
                )
                yield clip, problem.for_clip(clip)

    def _finish(self) -> Iterator[DecodedClip | tuple[Clip, Problem]]:
        """At the end of the file: the last frame stays on display for a moment."""
        end_s = 0.0
        if self.previous:
            frame, shown_s = self.previous
            end_s = shown_s + float((frame.duration or 0) * self.time_base)
            for stretch in self.active:
                stretch.take(frame, shown_s, end_s + END_TOLERANCE_S)
        yield from self._completed()
        missing = [stretch.clip for stretch in self.active] + list(self.waiting)
        self.active.clear()
        self.waiting.clear()
        promised_s = self.length_s or 0.0
        cut_off = end_s < promised_s - max(END_TOLERANCE_S, 0.02 * promised_s)
        for clip in missing:
            problem = self._beyond_end(clip, end_s)
            if cut_off:
                problem = VideoError(
                    "TruncatedFile",
                    f"the file is cut off: its header promises {promised_s:.2f} s but no frame "
                    f"follows {max(end_s, clip.start_s):.2f} s; download it again",
                )
            yield clip, problem.for_clip(clip)
