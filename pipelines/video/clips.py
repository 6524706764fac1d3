"""Decode the wanted stretches of one video, from any fsspec URL, in one pass.

Only the byte ranges that the stretches need are read. Memory holds the frames of the clips that
overlap at one moment, never the video.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from pipelines.records import Clip, Problem
from pipelines.video.colour import to_rgb, working_size
from pipelines.video.errors import TRANSIENT, VideoError, explain
from pipelines.video.frames import CLOCK_S, FrameReader
from pipelines.video.source import opened
from pipelines.video.structure import is_cut_off

END_TOLERANCE_S = 0.25
"""How far an annotation may reach past the last frame, or before the first: annotators round."""


@dataclass(frozen=True)
class DecodedClip:
    """The sampled frames of one clip.

    Attributes:
        clip: with `stop_s` filled in where it was open. A `start_s` of 0 is the first frame, and
            is moved to it where the picture begins later.
        frames: (L, h, w, 3) uint8 RGB, display orientation, square pixels.
        frame_times_s: (L,) float64, display time of each frame, on the clock of `FrameReader`.
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

    Every clip comes out exactly once. Nothing is raised for a bad video. Seconds count from the
    container's start, as players count (see `video.frames`). A clip of which all samples are one
    frame is a problem: a still picture shows no action.
    """
    waiting = deque(sorted(clips, key=lambda clip: (clip.start_s, clip.clip_id)))
    sweep: _Sweep | None = None
    try:
        with opened(video_uri) as container:
            sweep = _Sweep(video_uri, FrameReader(container), waiting, num_frames, short_side)
            while waiting or sweep.active:
                try:
                    yield from sweep.run()
                except Exception as error:
                    # What spoils one stretch (a hole in the file, a lost connection) may spare
                    # the next one.
                    problem = explain(error, video_uri, is_video=True)
                    if problem.error_type in TRANSIENT:
                        raise
                    spoiled, sweep.active = sweep.active, []
                    lost = [stretch.clip for stretch in spoiled] or [waiting.popleft()]
                    yield from ((clip, problem.for_clip(clip)) for clip in lost)
    except Exception as error:
        problem = explain(error, video_uri, is_video=sweep is not None)
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

    def take(
        self, frame: VideoFrame, shown_s: float, until_s: float, reformatter: VideoReformatter
    ) -> None:
        """Fill the samples that fall before `until_s` with the frame on display since `shown_s`."""
        due = int(np.searchsorted(self.times, until_s - CLOCK_S)) - len(self.frames)
        if due > 0:
            image = to_rgb(frame, self.size, reformatter)
            self.frames.extend([image] * due)
            self.frame_times.extend([shown_s] * due)


class _Sweep:
    """One pass over a video: seek to the next stretch, decode through it, hand it out."""

    def __init__(
        self,
        video_uri: str,
        reader: FrameReader,
        waiting: deque[Clip],
        num_frames: int,
        short_side: int,
    ) -> None:
        self.video_uri = video_uri
        self.reader = reader
        self.waiting = waiting
        self.num_frames = num_frames
        self.short_side = short_side
        self.active: list[_Stretch] = []
        self.previous: tuple[VideoFrame, float] | None = None
        """The frame on display at the sweep's position, and since when."""
        self.last_frame_s: float | None = None
        """When the video's last frame begins, once a clip with an open end asked for it."""
        self.looked_through = False
        self.reformatter = VideoReformatter()

    def run(self) -> Iterator[DecodedClip | tuple[Clip, Problem]]:
        """Seek to the next stretch and decode until no stretch is open or near."""
        yield from self._reject()
        if not self.waiting:
            return
        target = self.waiting[0]
        self.previous = None
        for frame, shown_s in self.reader.frames(target.start_s):
            yield from self._open_stretches(frame, shown_s)
            yield from self._advance(frame, shown_s)
            if not self.active and not self.waiting:
                return
            # Once a seek: where it led is as near to its target as the container goes.
            passed = not self.active and self.waiting[0] is not target
            if passed and self.reader.worth_seeking(shown_s, self.waiting[0].start_s):
                return
        yield from self._finish()

    def _reject(self) -> Iterator[tuple[Clip, Problem]]:
        """Hand back the clips that cannot be in this video, and learn where open ends are."""
        if self.looked_through:
            return
        self.looked_through = True
        for clip in list(self.waiting):
            problem = None
            ends_with_video = clip.stop_s is None or clip.timestamp_s is not None
            if ends_with_video and self.last_frame_s is None and not self._cut_off:
                self.last_frame_s = self.reader.last_frame_s() or 0.0
            if clip.stop_s is None and self._cut_off:
                problem = self._truncated()
            elif clip.timestamp_s is not None and self.last_frame_s is not None:
                end_s = self.last_frame_s + (1 / self.reader.fps if self.reader.fps else 0.0)
                if clip.timestamp_s >= end_s + END_TOLERANCE_S:
                    problem = self._beyond(clip, end_s)
            elif clip.stop_s is not None and clip.stop_s <= clip.start_s:
                problem = VideoError(
                    "StopBeforeStart",
                    f"the clip stops at {clip.stop_s:.2f} s, not after its start at "
                    f"{clip.start_s:.2f} s; correct its annotation",
                )
            if problem:
                self.waiting.remove(clip)
                yield clip, problem.for_clip(clip)

    @cached_property
    def _cut_off(self) -> bool:
        return is_cut_off(self.video_uri)

    def _stop(self, clip: Clip) -> float:
        """When the clip stops; an open end and a stretch around a timestamp do with the video."""
        fixed = clip.timestamp_s is None or self.last_frame_s is None
        if clip.stop_s is not None and fixed:
            return clip.stop_s
        last_s = max(clip.start_s, self.last_frame_s or 0.0)
        return last_s if clip.stop_s is None else min(clip.stop_s, last_s)

    def _truncated(self) -> VideoError:
        stream = self.reader.stream
        promised_s = float((stream.duration or 0) * self.reader.time_base)
        promise = f": its header promises {promised_s:.2f} s" if promised_s else ""
        return VideoError("TruncatedFile", f"the file is cut off{promise}; download it again")

    def _open_stretches(self, frame: VideoFrame, shown_s: float) -> Iterator[tuple[Clip, Problem]]:
        """Begin the stretches that start before this frame's display or with it."""
        while self.waiting and self.waiting[0].start_s <= shown_s + CLOCK_S:
            clip = self.waiting.popleft()
            stop_s = self._stop(clip)
            if self.previous is None and clip.start_s < shown_s - CLOCK_S:
                # No frame of the file comes earlier.
                late = clip.start_s != 0 and clip.start_s < shown_s - END_TOLERANCE_S
                if late or stop_s < shown_s - CLOCK_S:
                    problem = VideoError(
                        "BeforePicture",
                        f"the clip runs from {clip.start_s:.2f} to {stop_s:.2f} s but the picture "
                        f"begins at {shown_s:.2f} s; check its annotation",
                    )
                    yield clip, problem.for_clip(clip)
                    continue
                if clip.start_s == 0:
                    clip = replace(clip, start_s=shown_s)
            times = np.linspace(clip.start_s, stop_s, self.num_frames)
            size = working_size(frame, self.reader.aspect, self.short_side)
            self.active.append(_Stretch(clip, times, size))

    def _advance(
        self, frame: VideoFrame, shown_s: float
    ) -> Iterator[DecodedClip | tuple[Clip, Problem]]:
        """Let every open stretch take its samples that fall before this frame's display."""
        before, since_s = self.previous or (frame, shown_s)
        for stretch in self.active:
            stretch.take(before, since_s, shown_s, self.reformatter)
            stretch.began += stretch.times[0] - CLOCK_S <= shown_s <= stretch.times[-1] + CLOCK_S
        self.previous = (frame, shown_s)
        yield from self._completed()

    def _completed(self) -> Iterator[DecodedClip | tuple[Clip, Problem]]:
        complete = [stretch for stretch in self.active if stretch.complete]
        self.active = [stretch for stretch in self.active if not stretch.complete]
        for stretch in complete:
            try:
                yield self._decoded(stretch)
            except Exception as error:  # such as frames that change their size
                yield stretch.clip, explain(error, self.video_uri, True).for_clip(stretch.clip)

    def _decoded(self, stretch: _Stretch) -> DecodedClip:
        problem = self._still(stretch)
        if problem:
            raise problem
        clip = replace(stretch.clip, stop_s=float(stretch.times[-1]))
        times = np.array(stretch.frame_times)
        return DecodedClip(clip, np.stack(stretch.frames), times, self.reader.fps)

    def _still(self, stretch: _Stretch) -> VideoError | None:
        """What is wrong with a stretch in which nothing can move."""
        between = f"{stretch.times[0]:.2f} and {stretch.times[-1]:.2f} s"
        if not stretch.began:
            return VideoError(
                "NoFrames",
                f"no frame lies between {between} of the video; check the annotation",
            )
        if self.num_frames > 1 and len(set(stretch.frame_times)) == 1:
            return VideoError(
                "OneFrame",
                f"a single frame is on display between {between}, and a still picture is no clip; "
                "widen the stretch or leave the video out",
            )
        return None

    def _finish(self) -> Iterator[DecodedClip | tuple[Clip, Problem]]:
        """At the end of the file: the last frame stays on display for a moment."""
        end_s = None
        if self.previous:
            frame, shown_s = self.previous
            end_s = shown_s + self.reader.frame_s(frame)
            for stretch in self.active:
                stretch.take(frame, shown_s, end_s + END_TOLERANCE_S, self.reformatter)
        yield from self._completed()
        missing = [stretch.clip for stretch in self.active] + list(self.waiting)
        self.active.clear()
        self.waiting.clear()
        for clip in missing:
            yield clip, self._beyond(clip, end_s).for_clip(clip)

    def _beyond(self, clip: Clip, end_s: float | None) -> VideoError:
        if self._cut_off:
            return self._truncated()
        if end_s is None:
            return VideoError("NoFrames", "no frame of the video can be decoded; replace the file")
        if clip.timestamp_s is None:
            named = f"the clip runs from {clip.start_s:.2f} to {self._stop(clip):.2f} s"
        else:
            named = f"the annotation's timestamp is {clip.timestamp_s:.2f} s"
        return VideoError(
            "BeyondEnd",
            f"{named} but the video ends at {end_s:.2f} s; check that the annotation belongs to "
            "this video",
        )
