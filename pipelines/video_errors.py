"""What a person reads when a video cannot be used."""

from __future__ import annotations

from dataclasses import dataclass

import av
from av.codec.codec import UnknownCodecError
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from fsspec.core import url_to_fs

from pipelines.records import Clip, Problem, one_line

TRANSIENT = ("Unreachable",)
"""Error types that a second try may cure."""


@dataclass
class VideoError(Exception):
    """A problem of a video or of a stretch of it; `message` is one line for a person."""

    error_type: str
    message: str

    def for_clip(self, clip: Clip) -> Problem:
        return Problem(clip.clip_id, clip.video_uri, "decode", self.error_type, self.message)


def explain(error: Exception, video_uri: str) -> VideoError:
    """Say what is wrong with a video and what would help."""
    if isinstance(error, VideoError):
        return error
    if isinstance(error, FileNotFoundError):
        return VideoError("MissingVideo", f"{video_uri}: no such video")
    if isinstance(error, PermissionError | NoCredentialsError) or _refused(error):
        return VideoError(
            "AccessRefused",
            f"{video_uri}: access refused; check the credentials and their rights",
        )
    if isinstance(error, av.DecoderNotFoundError | UnknownCodecError):
        return VideoError("UnknownCodec", f"{video_uri}: no decoder for its codec")
    if isinstance(error, av.FFmpegError):
        return _unreadable(error, video_uri)
    if isinstance(error, OSError | BotoCoreError | ClientError):
        return VideoError(
            "Unreachable",
            f"{video_uri}: the storage did not answer ({_short(error)}); check the endpoint",
        )
    return VideoError(type(error).__name__, f"{video_uri}: {_short(error)}")


def _refused(error: Exception) -> bool:
    code = getattr(error, "response", {}).get("Error", {}).get("Code", "")
    return code in {"403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"}


def _unreadable(error: av.FFmpegError, video_uri: str) -> VideoError:
    """Tell an empty file, a cut-off one and one that is no video apart by their first bytes."""
    try:
        fs, path = url_to_fs(video_uri)
        head = fs.cat_file(path, start=0, end=64)
    except Exception as problem:
        return VideoError("Unreachable", f"{video_uri}: cannot be read ({_short(problem)})")
    if not head:
        return VideoError("EmptyFile", f"{video_uri}: the file is empty; download it again")
    is_video = head[4:8] == b"ftyp" or head[:4] == b"\x1aE\xdf\xa3" or head[8:12] == b"AVI "
    if is_video:
        return VideoError(
            "TruncatedFile",
            f"{video_uri}: the file is cut off or damaged ({_short(error)}); download it again",
        )
    return VideoError("NotAVideo", f"{video_uri}: not a video ({_short(error)})")


def _short(error: Exception) -> str:
    return one_line(error)[:200]
