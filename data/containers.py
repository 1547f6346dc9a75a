"""The containers that are read, and how a truncated file is detected from the structure of each. `data.media` decodes media.

ffmpeg decodes the rest of a truncated file without an error. The sizes that the container states are therefore compared with the file:

| container | is truncated if the file ends inside |
|---|---|
| wav, avi, aiff, au, caf, w64 | the chunk with the sound; `data.chunks` also detects that its header counts less than there is |
| mp4, m4a, mov | a `moov`, `mdat` or `moof` box |
| mkv, webm | the segment |
| ogg, opus | the last page |
| flv | a tag |
| wma, asf | the data object |
| mpeg-ts | a packet |

Where a header counts samples (flac, ogg, mp3 with a Xing or VBRI frame) or states the length of a track (Matroska's DURATION),
`data.media` also compares that with the decoded samples. Some truncated files cannot be detected, because nothing in them states their
length: ac3; mp3 without such a frame, aac, amr and mpeg-ts (unless they end inside a frame, which does not decode, or a packet); files
whose sizes were left open by a program that wrote into a pipe; and ogg and flv files that end exactly between two pages or tags.

Sources: ISO/IEC 14496-12, RFC 8794 and 9559 (Matroska), RFC 3533 (Ogg), RFC 9639 (FLAC), Adobe FLV 10.1, Microsoft ASF 1.20, ISO/IEC
13818-1 (mpeg-ts).
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from data import chunks

CONTAINERS: Mapping[str, str] = {
    # lossless audio
    ".wav": "wav",
    ".flac": "flac",
    ".w64": "w64",
    ".aiff": "aiff",
    ".aif": "aiff",
    ".aifc": "aiff",
    ".au": "au",
    ".caf": "caf",
    # lossy audio
    ".ogg": "ogg",
    ".opus": "ogg",
    ".oga": "ogg",
    ".m4a": "mov",
    ".mp3": "mp3",
    ".aac": "aac",
    ".ac3": "ac3",
    ".mka": "matroska",
    ".wma": "asf",
    ".amr": "amr",
    # video
    ".mp4": "mov",
    ".mkv": "matroska",
    ".webm": "matroska",
    ".avi": "avi",
    ".mov": "mov",
    ".m4v": "mov",
    ".3gp": "mov",
    ".3g2": "mov",
    ".flv": "flv",
    ".wmv": "asf",
    ".asf": "asf",
    ".ts": "mpegts",
    ".mts": "mpegts",
    ".m2ts": "mpegts",
}
"""Suffix of a media file → ffmpeg's demuxer of its container. Only these files are looked for, and only these containers are opened. Of
files that differ only in suffix, the first one is used."""

MEDIA_SUFFIXES = tuple(CONTAINERS)

_OGG_PAGE_BYTES = 65_307
_TS_PACKET_BYTES = (188, 192)  # 192: with a clock before each packet
_ASF_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
_ASF_OPEN_BYTES = 50  # a data object without packets: the header of a broadcast
_ASF_INDEXES = (  # what may follow the data object: simple index, index, media object index, timecode index
    bytes.fromhex("90080033b1e5cf1189f400a0c90349cb"),
    bytes.fromhex("d329e2d6da35d111903400a0c90349be"),
    bytes.fromhex("f803b1fead12644c840f2a1d2f7ad48c"),
    bytes.fromhex("d03fb73c4a0c0348953dedf7b6228f0c"),
)


def wrong_length(path: Path, head: bytes) -> str:
    """Describe how the lengths that a media file states differ from the file.

    Args:
        path: The file.
        head: Its first bytes, at least 256 of them unless the file is shorter.

    Returns:
        A phrase such as "cut off, its data chunk ends 5120 bytes after the file"; empty if nothing is known to be wrong.
    """
    size = os.path.getsize(path)
    with path.open("rb") as file:
        if head.startswith(_ASF_HEADER):
            return _asf_length(file, size)
        if said := chunks.wrong_length(file, head, size):
            return said
        part, end = _end(file, head, size)
    return f"cut off, its {part} ends {end - size} bytes after the file" if end > size else ""


def _end(file: BinaryIO, head: bytes, size: int) -> tuple[str, int]:
    """Return the last part of a file that states its length, and where that part ends; ("", 0) if there is none."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"moof", b"free", b"skip", b"wide"):
        return _iso_end(file, size)
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "segment", _matroska_end(head)
    if head.startswith(b"OggS"):
        return "last page", _ogg_end(file, size)
    if head.startswith(b"FLV"):
        return "last tag", _flv_end(file, head, size)
    for length in _TS_PACKET_BYTES:
        if {head[at : at + 1] for at in range(length - 188, len(head), length)} == {b"\x47"} and len(head) > length:
            return "last packet", size + -size % length
    return "", 0


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


def _flv_end(file: BinaryIO, head: bytes, size: int) -> int:
    at = int.from_bytes(head[5:9], "big") + 4
    while at + 11 <= size:
        file.seek(at)
        at += 11 + int.from_bytes(file.read(4)[1:], "big")
        if at > size:
            return at
        at += 4  # the length of the tag again
    return 0


def _asf_length(file: BinaryIO, size: int) -> str:
    """Describe how the length of the data object differs from the file, as `wrong_length` does."""
    at = 0
    while at + 24 <= size:
        file.seek(at)
        name, length = file.read(16), int.from_bytes(file.read(8), "little")
        if length < 24:
            return ""
        at += length
        if name == _ASF_DATA:
            break
    else:
        return ""
    is_open = length == _ASF_OPEN_BYTES or length >= 1 << 62
    if is_open or at == size:
        return ""
    if at > size:
        return f"cut off, its data object ends {at - size} bytes after the file"
    file.seek(at)
    if file.read(16) in _ASF_INDEXES:
        return ""
    return f"damaged, its data object counts {length} bytes, and {size - at} bytes follow that are no index"
