"""The frames of an opened video from a time on, each with when it is on display.

Time counts as players and `ffmpeg -ss` count it: zero is the container's start time, which is that
of its earliest stream, so that a picture that sets in half a second after the sound has its first
frame at 0.5 s. EPIC-KITCHENS' frame numbers come from `ffmpeg -r`, which counts from there too (it
repeats the first frame until the picture sets in), and Ego4D's seconds were set in a player, its
`video_start_sec` being the picture's start on that clock. In a file without sound, or whose streams
start together, zero is the first frame, and frame n of a constant rate is on display at n / fps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from contextlib import suppress
from fractions import Fraction

import av
from av.container import InputContainer
from av.format import Flags
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from pipelines.video.errors import VideoError

SEEK_MARGINS_S = (0.5, 2.0, 8.0, 32.0, 128.0)
"""Seek this much early: containers index by decoding time, which runs ahead of display time. Those
without an index lead to any place of a group of pictures, and decoding begins at the next one: a
seek that comes out behind its target is repeated from further back, at last from the start."""

UNINDEXED_JUMP_S = 10.0
"""Where no index tells the keyframes, shorter ways are decoded: a seek may lead behind them."""

CLOCK_S = 1e-3
"""Times closer than this are one time: containers tick in milliseconds, and floats round."""

BEFORE_ALL_S = 1e5
"""Seconds before the first frame that lead a seek to the start whatever the first time stamps."""


class FrameReader:
    """Reads frames of a video in the order of their display."""

    def __init__(self, container: InputContainer) -> None:
        """Take the main video stream, which is not a cover picture.

        Raises:
            VideoError: there is none, or FFmpeg does not know its codec.
        """
        stream = container.streams.best("video")
        if not isinstance(stream, VideoStream):
            if container.streams.video:
                raise VideoError("UnknownCodec", "the video's codec is unknown to FFmpeg")
            raise VideoError("NoVideoStream", "the file holds no video stream")
        if stream.codec_context is None:
            raise VideoError("UnknownCodec", "the video's codec is unknown to FFmpeg")
        stream.thread_type = "AUTO"
        self.container, self.stream = container, stream
        self.aspect = float(stream.sample_aspect_ratio or 1)
        self.fps = float(stream.average_rate or stream.guessed_rate or 0)
        self.time_base = stream.time_base or Fraction(1, av.time_base)
        """Seconds of one tick of the stream's clock."""
        self.zero_s = (container.start_time or 0) / av.time_base
        """Start of the container on its own clock."""
        self.untouched = True
        """Whether nothing was read of it, so that it stands at its start."""
        self.bare = bool(Flags(container.format.flags) & Flags.no_timestamps)
        """Whether it is a codec's stream without a container."""
        reorders = bool(stream.codec_context.has_b_frames)
        avi = container.format.name == "avi"
        # A bare stream has no display times; AVI has decoding times, of which FFmpeg derives the
        # wrong display times for these codecs.
        self.counted = self.bare or (
            avi and reorders and stream.codec_context.name in ("h264", "hevc")
        )
        """Whether the frames are to be counted from the start of the file."""
        self.seekable = not self.counted and container.format.name != "mpeg"
        """Whether a place in the middle can be the first one to be read. In a program stream most
        frames may lack a time stamp, and FFmpeg guesses them wrongly behind a seek."""
        self.begins_anywhere = bool(Flags(container.format.flags) & Flags.ts_discont)
        """Whether it may be cut from a broadcast or a longer recording, before any keyframe."""
        if avi and reorders and not self.counted:
            self.zero_s += float(self.time_base)  # display lags decoding, which begins at zero

    def frames(self, start_s: float) -> Iterator[tuple[VideoFrame, float]]:
        """Each frame and the second at which its display begins, to the end of the video.

        The first is on display at `start_s` or earlier, unless the picture begins later.

        Raises:
            av.FFmpegError: the file is damaged there.
        """
        for margin_s in SEEK_MARGINS_S:
            if not self.seekable or start_s <= margin_s:
                break
            if not self._seek(start_s - margin_s):
                continue
            frames = self._decode(from_start=False)
            first = next(frames, None)
            if first and first[1] <= start_s + CLOCK_S:
                yield first
                yield from frames
                return
            frames.close()
        self._rewind()
        yield from self._decode(from_start=True)

    def worth_seeking(self, position_s: float, start_s: float) -> bool:
        """Whether a seek to `start_s` skips anything: a keyframe lies behind the position."""
        target_s = start_s - SEEK_MARGINS_S[0]
        if not self.seekable or target_s <= position_s:
            return False
        entries = self.stream.index_entries
        at = entries.search_timestamp(self._ticks(target_s)) if len(entries) else -1
        if at >= 0 and entries[at].timestamp > self._ticks(position_s):
            return True
        index_reaches_target = 0 <= at < len(entries) - 1
        return not index_reaches_target and target_s - position_s > UNINDEXED_JUMP_S

    def last_frame_s(self) -> float | None:
        """When the display of the last frame begins, by what the file holds; None without frames.

        The tail of the file is read, not decoded: headers tell the length of the longest stream,
        a wrong one, or none.
        """
        header_s = (self.container.duration or 0) / av.time_base
        for margin_s in SEEK_MARGINS_S:
            if not self.seekable or header_s <= margin_s:
                break
            if self._seek(header_s - margin_s):
                last_s = self._last_s(from_start=False)
                if last_s is not None:
                    return last_s
        self._rewind()
        return self._last_s(from_start=True)

    def frame_s(self, frame: VideoFrame | Packet) -> float:
        """Seconds for which a frame is on display."""
        return float((frame.duration or 0) * self.time_base) or (1 / self.fps if self.fps else 0.0)

    def _ticks(self, time_s: float) -> int:
        return int((time_s + self.zero_s) / self.time_base)

    def _seconds(self, timestamp: int) -> float:
        return float(timestamp * self.time_base) - self.zero_s

    def _seek(self, time_s: float) -> bool:
        try:
            self.container.seek(self._ticks(time_s), stream=self.stream)
        except av.FFmpegError:
            return False
        return True

    def _rewind(self) -> None:
        """Go to the start: containers differ in which way of asking they take."""
        if not self.counted and (self._seek(-BEFORE_ALL_S) or self._seek(0.0)):
            return
        if self.bare or not self._seek(0.0):
            try:
                self.container.seek(0, stream=self.stream, unsupported_byte_offset=True)
            except av.FFmpegError:
                if self.untouched:
                    return
                raise VideoError(
                    "Unseekable", "the file cannot be read in jumps; convert the video to MP4"
                ) from None

    def _decode(self, from_start: bool) -> Generator[tuple[VideoFrame, float], None, None]:
        """Decode from the container's position on.

        Behind a seek nothing is given before the first keyframe: the frames that are displayed
        before it and decoded after it (of an open group of pictures) lack what they refer to. What
        cannot be decoded there is no damage.
        """
        began = from_start
        last_s, expected_s = None, 0.0 if from_start else None
        decoding_times: deque[int | None] = deque()
        failure: av.FFmpegError | None = None
        for packet in self._packets():
            if self.counted and packet.size:
                decoding_times.append(packet.dts)
            try:
                frames = packet.decode()
            except av.FFmpegError as error:
                if last_s is not None or (from_start and not self.begins_anywhere):
                    raise
                failure = error
                continue
            for frame in frames:
                began = began or bool(frame.key_frame)
                timestamp = frame.pts
                if self.counted:
                    timestamp = decoding_times.popleft() if decoding_times else None
                shown_s = expected_s if timestamp is None else self._seconds(timestamp)
                if not began or shown_s is None:
                    continue
                if last_s is not None and expected_s is not None and shown_s <= last_s:
                    shown_s = expected_s  # frames come as they are displayed: its stamp is wrong
                failure, last_s, expected_s = None, shown_s, shown_s + self.frame_s(frame)
                yield frame, shown_s
        if failure and from_start:
            raise failure

    def _packets(self) -> Iterator[Packet]:
        """The packets from the container's position on."""
        self.untouched = False
        yield from self.container.demux(self.stream)

    def _last_s(self, from_start: bool) -> float | None:
        """When the display of the last frame from the container's position on begins.

        Behind a seek packets count from the first keyframe on: the last to be decoded, alone, may
        not be the last to be displayed.
        """
        began, last_s, expected_s = from_start, None, 0.0 if from_start else None
        with suppress(av.InvalidDataError):  # frames before damage count
            for packet in self._packets():
                began = began or packet.is_keyframe
                timestamp = packet.dts if self.counted else packet.pts
                shown_s = expected_s if timestamp is None else self._seconds(timestamp)
                if began and packet.size and not packet.is_discard and shown_s is not None:
                    expected_s = shown_s + self.frame_s(packet)
                    last_s = shown_s if last_s is None else max(last_s, shown_s)
        return last_s
