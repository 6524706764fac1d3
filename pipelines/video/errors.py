"""What a person reads when a video cannot be used.

The message of a `VideoError` does not name the video: `for_clip` puts its URL before it.
"""

from __future__ import annotations

from dataclasses import dataclass

import av
from av.codec.codec import UnknownCodecError
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from fsspec.core import url_to_fs

from pipelines.records import Clip, Problem, one_line
from pipelines.video.structure import is_container, is_cut_off

TRANSIENT = ("Unreachable",)
"""Error types that a second try may cure."""


@dataclass
class VideoError(Exception):
    """A problem of a video or of a stretch of it; `message` is one line for a person."""

    error_type: str
    message: str

    def for_clip(self, clip: Clip) -> Problem:
        message = f"{clip.video_uri}: {self.message}"
        return Problem(clip.clip_id, clip.video_uri, "decode", self.error_type, message)


def explain(error: Exception, video_uri: str, is_video: bool = False) -> VideoError:
    """Say what is wrong with a video and what would help.

    Args:
        is_video: FFmpeg has opened it and knows its streams.
    """
    if isinstance(error, VideoError):
        return error
    if isinstance(error, FileNotFoundError):
        return VideoError("MissingVideo", "no such video")
    if isinstance(error, PermissionError | NoCredentialsError) or _refused(error):
        return VideoError("AccessRefused", "access refused; check the credentials and their rights")
    if isinstance(error, av.DecoderNotFoundError | UnknownCodecError):
        return VideoError("UnknownCodec", "no decoder for its codec; convert it to H.264")
    if isinstance(error, av.FFmpegError):
        return _unreadable(error, video_uri, is_video)
    if isinstance(error, OSError | BotoCoreError | ClientError):
        return VideoError(
            "Unreachable", f"the storage did not answer ({_short(error)}); check the endpoint"
        )
    return VideoError(type(error).__name__, _short(error))


def _refused(error: Exception) -> bool:
    code = getattr(error, "response", {}).get("Error", {}).get("Code", "")
    return code in {"403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"}


def _unreadable(error: av.FFmpegError, video_uri: str, is_video: bool) -> VideoError:
    """Tell an empty file, a cut-off one, a damaged one and one that is no video apart."""
    try:
        fs, path = url_to_fs(video_uri)
        head = fs.cat_file(path, start=0, end=512)
        cut_off = is_cut_off(video_uri)
    except Exception as problem:
        return VideoError("Unreachable", f"cannot be read ({_short(problem)}); check the storage")
    if not head:
        return VideoError("EmptyFile", "the file is empty; download it again")
    if cut_off:
        return VideoError(
            "TruncatedFile", f"the file is cut off ({_short(error)}); download it again"
        )
    if is_video or is_container(head):
        return VideoError(
            "DamagedFile", f"the file is damaged ({_short(error)}); replace it by a sound copy"
        )
    return VideoError("NotAVideo", f"not a video ({_short(error)}); leave the file out")


def _short(error: Exception) -> str:
    return one_line(error)[:200]
