"""Audio files made of chunks whose lengths do not fit the file: wav, RF64, BW64, W64, avi, AIFF, CAF and au.

A header may count more than there is, because the file was cut off, or less, because a recorder died before it corrected the header or
because the count wrapped around at 4 GB. ffmpeg reads what both have in common, without an error. A count is also wrong if something
follows the sound that is neither a chunk, nor zeros, nor a tag. Counts that a program left open when it wrote into a pipe are accepted.

Sources: RIFF (Microsoft/IBM 1991), EBU Tech 3306 (RF64), ITU-R BS.2088 (BW64), Sony Wave64, Apple AIFF-C (1991) and CAF, NeXT/Sun au.
"""

import struct
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO, NamedTuple

_SLACK_BYTES = 64
"""Largest error of writers that count their header as part of the chunk: 2 ms of audio at 16 kHz."""

_NOTES = (
    *(b"LIST", b"id3 ", b"ID3 ", b"bext", b"iXML", b"axml", b"_PMX", b"fact", b"cue ", b"plst", b"smpl", b"inst", b"acid", b"PEAK"),
    *(b"JUNK", b"junk", b"PAD ", b"FLLR", b"DISP", b"idx1", b"umid", b"levl", b"afsp", b"NAME", b"AUTH", b"ANNO", b"COMT", b"MARK"),
)
"""Chunks without sound. It does not matter if the file ends inside one of them."""

_TAGS = (b"ID3", b"TAG", b"APETAGEX")
"""Tags that programs append without a chunk around them."""

_FILES = (b"RIFF", b"riff", b"FORM")
"""First names in a file. Behind the sound they begin another file, of which nothing would be read."""

_PCM = 1
_CODECS = {16: "pcm_s16le", 24: "pcm_s24le", 32: "pcm_s32le"}  # by stored bits

_BLOCK_BYTES = 1 << 20
_MOST_CHUNKS = 10_000


class _Kind(NamedTuple):
    """The layout of chunks in a family of formats."""

    begin: int  # position of the first chunk
    name_bytes: int
    length_format: str  # of `struct`; the length of a chunk follows its name
    align: int  # chunks begin at multiples of it
    counts_header: bool  # the length includes the header
    sound: tuple[bytes, ...]  # names of the chunks with sound, or list types


class _Chunk(NamedTuple):
    name: bytes
    begin: int  # of its content
    length: int  # of its content, as it says


_WAV = _Kind(12, 4, "<I", 2, False, (b"data",))
_AVI = _Kind(12, 4, "<I", 2, False, (b"movi", b"RIFF"))  # further RIFF lists hold what is beyond 1 GB
_AIFF = _Kind(12, 4, ">I", 2, False, (b"SSND",))
_CAF = _Kind(8, 4, ">q", 1, False, (b"data",))
_W64 = _Kind(40, 16, "<Q", 8, True, (b"data",))
_KINDS: Mapping[tuple[bytes, bytes], _Kind] = {
    (b"RIFF", b"WAVE"): _WAV,
    (b"RF64", b"WAVE"): _WAV,
    (b"BW64", b"WAVE"): _WAV,
    (b"RIFF", b"AVI "): _AVI,
    (b"FORM", b"AIFF"): _AIFF,
    (b"FORM", b"AIFC"): _AIFF,
}
_IS_OPEN: Mapping[str, Callable[[int], bool]] = {
    "<I": lambda length: length == 0 or 0x7FFF0000 <= length <= 0x80000100 or length >= 0xFFFF0000,
    ">I": lambda length: length == 0 or length >= 0xFFFF0000,
    "<Q": lambda length: length <= 0 or length >= 1 << 62,
    ">q": lambda length: length < 0,
}
"""Whether a length means "not known yet"; pipes get 0, 0x7ffff000, 0x7fffffff, 0xffffffff or -1."""


def wrong_length(file: BinaryIO, head: bytes, size: int) -> str:
    """Describe how the lengths in a chunked file differ from the file; empty if they do not, or if it is of no kind known here.

    Args:
        file: The file, open for reading.
        head: Its first bytes.
        size: Its size in bytes.
    """
    if head.startswith(b".snd"):
        begin, length = struct.unpack(">II", head[4:12].ljust(8, b"\0"))
        sound = _Chunk(b"sound", begin, length)
        return "" if _IS_OPEN[">I"](length) else _cut(sound, size) or _unread(file, sound, begin + length, size)
    kind = _kind(head)
    if kind is None:
        return ""
    counted = None  # bytes of sound that are counted outside the chunk with the sound
    for chunk in _chunks(file, kind):
        if chunk.name == b"ds64":
            counted = int.from_bytes(_content(file, chunk, 16)[8:], "little")
        elif chunk.name == b"COMM":
            counted = _bytes_of_comm(_content(file, chunk, 22))
        elif chunk.name in kind.sound:
            return _check_sound(file, kind, chunk, counted, size)
    return ""


def wav_codec(file: BinaryIO, head: bytes) -> str:
    """Return ffmpeg's name of the samples of a wav file of which fewer bits are valid than are stored; empty for all other files.

    WAVE_FORMAT_EXTENSIBLE counts both: field recorders write 24 valid bits in 32. The valid bits are the upper ones, so the sample is
    read as one of 32 bits. ffmpeg goes by the valid bits, and reads noise.

    Args:
        file: The file, open for reading.
        head: Its first bytes.
    """
    kind = _kind(head)
    if kind is None or kind not in (_WAV, _W64):
        return ""
    form = next((_content(file, chunk, 40) for chunk in _chunks(file, kind) if chunk.name == b"fmt "), b"")
    if len(form) < 40 or form[:2] != b"\xfe\xff":
        return ""
    bits, valid, encoding = (int.from_bytes(form[at : at + 2], "little") for at in (14, 18, 24))
    return _CODECS.get(bits, "") if encoding == _PCM and 0 < valid < bits else ""


def is_riff(head: bytes) -> bool:
    """Return True if the first bytes of a file are those of a wav or avi file."""
    return _kind(head) in (_WAV, _AVI)


def _kind(head: bytes) -> _Kind | None:
    if head.startswith(b"caff"):
        return _CAF
    if head.startswith(b"riff\x2e\x91\xcf\x11"):
        return _W64
    return _KINDS.get((head[:4], head[8:12]))


def _check_sound(file: BinaryIO, kind: _Kind, chunk: _Chunk, counted: int | None, size: int) -> str:
    if kind is _WAV and counted is not None and chunk.length == 0xFFFFFFFF:
        if _IS_OPEN["<Q"](counted):
            return ""
        chunk = chunk._replace(length=counted)
    elif _IS_OPEN[kind.length_format](chunk.length):
        return ""
    elif kind is _AIFF and counted:
        held = chunk.length - 8 - int.from_bytes(_content(file, chunk, 4), "big")
        if abs(counted - held) > _SLACK_BYTES:
            return f"damaged, its COMM chunk counts {counted} bytes of sound and its SSND chunk {held}"
    return _cut(chunk, size) or _check_rest(file, kind, chunk, size)


def _check_rest(file: BinaryIO, kind: _Kind, sound: _Chunk, size: int) -> str:
    """Check what follows the sound: chunks, zeros and tags."""
    chunk = sound
    for _ in range(_MOST_CHUNKS):
        end = chunk.begin + chunk.length
        if end >= size:
            return ""
        found = (_read_chunk(file, kind, at) for at in (end + -end % kind.align, end))  # some writers omit the padding
        following = next((chunk for chunk in found if chunk and _is_plausible(chunk, kind, size)), None)
        if following is None:
            return _unread(file, sound, end, size)
        chunk = following
        if chunk.name in kind.sound and (said := _cut(chunk, size)):
            return said
    return ""


def _cut(chunk: _Chunk, size: int) -> str:
    missing = chunk.begin + chunk.length - size
    return f"cut off, its {_title(chunk.name)} ends {missing} bytes after the file" if missing > _SLACK_BYTES else ""


def _unread(file: BinaryIO, sound: _Chunk, end: int, size: int) -> str:
    if size - end <= _SLACK_BYTES or _is_tag_or_zeros(file, end):
        return ""
    return f"damaged, its {_title(sound.name)} counts {sound.length} bytes, and {size - end} bytes follow that are no chunk"


def _title(name: bytes) -> str:
    return {b"movi": "movi list", b"sound": "sound"}.get(name, f"{name.decode()} chunk")


def _is_plausible(chunk: _Chunk, kind: _Kind, size: int) -> bool:
    if chunk.name in (*kind.sound, *_NOTES):
        return True
    if chunk.name in _FILES:
        return False
    is_name = all(0x20 <= byte < 0x7F for byte in chunk.name)
    return is_name and 0 <= chunk.length <= size + _SLACK_BYTES - chunk.begin


def _is_tag_or_zeros(file: BinaryIO, at: int) -> bool:
    file.seek(at)
    block = file.read(_BLOCK_BYTES)
    if block.startswith(_TAGS):
        return True
    while block and not any(block):
        block = file.read(_BLOCK_BYTES)
    return not block


def _chunks(file: BinaryIO, kind: _Kind) -> Iterator[_Chunk]:
    """Yield the chunks of a file from its first one on, as far as their lengths lead."""
    at = kind.begin
    for _ in range(_MOST_CHUNKS):
        chunk = _read_chunk(file, kind, at)
        if chunk is None:
            return
        yield chunk
        end = chunk.begin + max(chunk.length, 0)
        at = end + -end % kind.align


def _read_chunk(file: BinaryIO, kind: _Kind, at: int) -> _Chunk | None:
    """Return the chunk at a position; an avi list of sound by its type, W64's names by their first four letters. None at the end."""
    file.seek(at)
    header = file.read(kind.name_bytes + struct.calcsize(kind.length_format))
    if len(header) < kind.name_bytes + struct.calcsize(kind.length_format):
        return None
    name = header[:4]
    if kind is _AVI and name == b"LIST" and file.read(4) == b"movi":
        name = b"movi"
    (length,) = struct.unpack(kind.length_format, header[kind.name_bytes :])
    return _Chunk(name, at + len(header), length - len(header) if kind.counts_header else length)


def _content(file: BinaryIO, chunk: _Chunk, count: int) -> bytes:
    file.seek(chunk.begin)
    return file.read(min(count, max(chunk.length, 0)))


def _bytes_of_comm(content: bytes) -> int:
    """Return how many bytes of samples an AIFF file counts; 0 if it does not say or if they are compressed."""
    if content[18:22] not in (b"", b"NONE", b"twos", b"sowt", b"raw ", b"in24", b"in32"):
        return 0
    channels, frames, bits = struct.unpack(">HIH", content[:8].ljust(8, b"\0"))
    return channels * frames * -(-bits // 8)
