"""Truncated media files, detected from the structure of their container. `data.media` decodes media.

ffmpeg decodes the rest of a truncated file without an error. The sizes that the container states are therefore compared with the file:

| container | is truncated if the file ends inside |
|---|---|
| wav, avi | the `data` chunk or the `movi` list |
| mp4, m4a, mov | a `moov`, `mdat` or `moof` box |
| mkv, webm | the segment |
| ogg, opus | the last page |

Where a header counts samples (flac, ogg, mp3 with a Xing or VBRI frame), `data.media` also compares that count with the decoded
samples. Some truncated files cannot be detected, because nothing in them states their length: mp3 without such a frame, aac, ac3 and
mpeg-ts (unless they end inside a frame, which does not decode); files whose sizes were left open by a program that wrote into a pipe;
and ogg files that end exactly between two pages.

Sources: RIFF (Microsoft/IBM 1991), ISO/IEC 14496-12, RFC 8794 and 9559 (Matroska), RFC 3533 (Ogg), RFC 9639 (FLAC).
"""

import os
from pathlib import Path
from typing import BinaryIO

_SLACK_BYTES = 64
"""Largest error of writers that count their header as part of the chunk: 2 ms of audio at 16 kHz."""

_OPEN_RIFF_BYTES = 0x7FFF0000
"""Smallest RIFF size that means "not known yet" (0x7ffff000, 0x7fffffff, 0xffffffff)."""

_OGG_PAGE_BYTES = 65_307


def cut_short(path: Path, head: bytes) -> str:
    """Describe what is missing at the end of a media file.

    Args:
        path: The file.
        head: Its first bytes, at least 64 of them unless the file is shorter.

    Returns:
        A phrase such as "its data chunk ends 5120 bytes after the file"; empty if nothing is known to be missing.
    """
    size = os.path.getsize(path)
    with path.open("rb") as file:
        if is_riff(head):
            part, end = _riff_end(file, size)
        elif head[4:8] in (b"ftyp", b"moov", b"mdat", b"moof", b"free", b"skip", b"wide"):
            part, end = _iso_end(file, size)
        elif head.startswith(b"\x1a\x45\xdf\xa3"):
            part, end = "segment", _matroska_end(head)
        elif head.startswith(b"OggS"):
            part, end = "last page", _ogg_end(file, size)
        else:
            return ""
    missing = end - size
    return f"its {part} ends {missing} bytes after the file" if missing > 0 else ""


def is_riff(head: bytes) -> bool:
    """Return True if the first bytes of a file are those of a wav or avi file."""
    return head.startswith(b"RIFF") and head[8:12] in (b"WAVE", b"AVI ")


def counts_samples(head: bytes) -> bool:
    """Return True if the duration that ffmpeg reports was counted by the file's writer, not estimated from the file's size.

    Args:
        head: The first bytes of the file, after its ID3 tag if it has one.
    """
    if head.startswith(b"fLaC"):
        return int.from_bytes(head[21:26], "big") & 0xF_FFFF_FFFF > 0  # 36 bits of STREAMINFO
    return head.startswith(b"OggS") or any(mark in head[:192] for mark in (b"Xing", b"Info", b"VBRI"))


def after_id3(path: Path, head: bytes) -> bytes:
    """Return the first bytes after an ID3v2 tag; `head` itself if the file does not begin with one."""
    if not head.startswith(b"ID3") or len(head) < 10:
        return head
    size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    with path.open("rb") as file:
        file.seek(10 + size)
        return file.read(len(head))


def _riff_end(file: BinaryIO, size: int) -> tuple[str, int]:
    at = 12
    while at + 12 <= size:
        file.seek(at)
        header = file.read(12)
        length = int.from_bytes(header[4:8], "little")
        name = "movi list" if header[:4] == b"LIST" and header[8:] == b"movi" else f"{header[:4].decode('latin-1')} chunk"
        end = at + 8 + length
        if name in ("data chunk", "movi list"):
            is_open = length == 0 or length >= _OPEN_RIFF_BYTES
            return name, size if is_open or end <= size + _SLACK_BYTES else end
        at = end + length % 2
    return "", size


def _iso_end(file: BinaryIO, size: int) -> tuple[str, int]:
    at = 0
    while at + 8 <= size:
        file.seek(at)
        header = file.read(16)
        length, name = int.from_bytes(header[:4], "big"), header[4:8]
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length < 8:  # 0 means: to the end of the file
            break
        at += length
        if at > size and name in (b"moov", b"mdat", b"moof"):
            return f"{name.decode()} box", at
    return "", size


def _matroska_end(head: bytes) -> int:
    """Return the end of the segment after the EBML header; 0 if its size is left open."""
    length, at = _ebml_size(head, 4)
    at += length
    if head[at : at + 4] != b"\x18\x53\x80\x67":
        return 0
    length, begin = _ebml_size(head, at + 4)
    is_open = length == (1 << 7 * (begin - at - 4)) - 1
    return 0 if is_open else begin + length


def _ebml_size(head: bytes, at: int) -> tuple[int, int]:
    """Read a number of variable width at `at`; return it and the position after it."""
    if at >= len(head) or head[at] == 0:
        return 0, at + 1
    width = 9 - head[at].bit_length()
    return int.from_bytes(head[at : at + width], "big") & ((1 << 7 * width) - 1), at + width


def _ogg_end(file: BinaryIO, size: int) -> int:
    file.seek(max(0, size - _OGG_PAGE_BYTES - 27))
    begin = file.tell()
    tail = file.read()
    page = tail.rfind(b"OggS")
    if page < 0:
        return size
    segments = tail[page + 26] if page + 26 < len(tail) else 0
    table = tail[page + 27 : page + 27 + segments]
    missing_table = segments - len(table)
    return begin + page + 27 + segments + sum(table) + missing_table
