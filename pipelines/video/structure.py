"""Is a video file all there? By the sizes that its outermost boxes declare, not by decoding it."""

from __future__ import annotations

from collections.abc import Callable

from fsspec.core import url_to_fs

MP4_BOXES = tuple(b"ftyp moov mdat free skip wide moof styp sidx uuid".split())
"""Boxes that may stand outermost in MP4 and QuickTime (ISO/IEC 14496-12)."""

EBML, SEGMENT = b"\x1aE\xdf\xa3", b"\x18S\x80g"
"""The two outermost elements of Matroska and WebM (RFC 8794, RFC 9559)."""

MOST_BOXES = 1000

Read = Callable[[int, int], bytes]
"""(offset, count) -> bytes, fewer at the end of the file."""


def is_container(head: bytes) -> bool:
    """Whether the first bytes (some hundred of them) are those of a container of video."""
    return (
        head[4:8] in MP4_BOXES
        or head[:4] in (EBML, b"\0\0\1\xba", b"0&\xb2u")  # Matroska, MPEG program stream, ASF
        or head[:3] == b"FLV"
        or head[8:12] == b"AVI "
        or _is_transport_stream(head)
    )


def is_cut_off(video_uri: str) -> bool:
    """Whether a file ends before what its boxes declare, or before MP4's index.

    False where container or storage do not tell. Transport and program streams, FLV, live
    recordings and fragmented MP4 play to wherever they end.

    Raises:
        OSError or the storage's own error: it cannot be read.
    """
    fs, path = url_to_fs(video_uri)
    size = fs.size(path)
    if size is None:
        return False

    def read(offset: int, count: int) -> bytes:
        end = min(offset + count, size)
        return fs.cat_file(path, start=offset, end=end) if offset < end else b""

    head = read(0, 64)
    if head[4:8] in MP4_BOXES:
        return _mp4_is_cut_off(read, size)
    if head[:4] == b"RIFF":
        return _riff_is_cut_off(read, size)
    if head[:4] == EBML:
        return _matroska_is_cut_off(read, size)
    return False


def _is_transport_stream(head: bytes) -> bool:
    """Packets of 188 bytes; Blu-ray and AVCHD put four more before each."""
    return head[:1] == head[188:189] == b"G" or head[4:5] == head[196:197] == b"G"


def _mp4_is_cut_off(read: Read, size: int) -> bool:
    offset, indexed = 0, False
    for _ in range(MOST_BOXES):
        head = read(offset, 16)
        length, kind = int.from_bytes(head[:4]), head[4:8]
        if kind == b"moof" or len(head) < 8 or (kind not in MP4_BOXES and offset and indexed):
            return offset > size or (kind != b"moof" and not indexed)
        indexed = indexed or kind == b"moov"
        if length == 0:  # to the end of the file
            return not indexed
        offset += int.from_bytes(head[8:16]) if length == 1 else max(length, 8)
    return False


def _riff_is_cut_off(read: Read, size: int) -> bool:
    """AVI beyond 1 GB goes on in further RIFF chunks."""
    offset = 0
    while (head := read(offset, 8))[:4] == b"RIFF":
        length = int.from_bytes(head[4:8], "little")
        if length in (0, 0xFFFFFFFF):  # the writer did not come back to fill it in
            return False
        offset += 8 + length + length % 2
    return offset > size + 1


def _matroska_is_cut_off(read: Read, size: int) -> bool:
    length, width = _variable_integer(read(4, 8))
    offset = 4 + width + (length or 0)
    head = read(offset, 12)
    if head[:4] != SEGMENT:
        return False
    length, width = _variable_integer(head[4:])
    return length is not None and offset + 4 + width + length > size


def _variable_integer(data: bytes) -> tuple[int | None, int]:
    """An EBML size and the bytes that it takes; None where it is declared unknown."""
    if not data or not data[0]:
        return None, 1
    width = 9 - data[0].bit_length()
    ones = (1 << (7 * width)) - 1
    value = int.from_bytes(data[:width]) & ones
    return (None if value == ones else value), width
