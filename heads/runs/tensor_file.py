"""The bytes of checkpoints and states: safetensors, with a checksum of the whole file in its metadata.

`version` in the metadata is "2 crc32 " and eight hexadecimal digits: the CRC-32 (as in zlib) of the file in which these digits are
zeros. It stands in one entry because safetensors writes several in random order, and equal runs have equal bytes. Version 1, of older
programs, has no checksum: such a file is read as it is. The run folder that holds these files is in `heads.runs.folder`.
"""

import json
import re
import zlib
from collections.abc import Mapping

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

_OLD = "1"
_VERSION = re.compile(r"2 crc32 ([0-9a-f]{8})")
_ZEROS = b"00000000"
_START = b'"version":"2 crc32 '
"""Text before the digits in the header, which begins with the length of the header in 8 bytes."""


def pack(tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> bytes:
    """Return the bytes of a file.

    Args:
        tensors: Name → tensor on the host; no two share memory.
        facts: Other entries of the metadata.
    """
    content = bytearray(save(dict(tensors), {**facts, "version": f"2 crc32 {_ZEROS.decode()}"}))
    at = content.index(_START + _ZEROS) + len(_START)
    content[at : at + len(_ZEROS)] = b"%08x" % zlib.crc32(content)
    return bytes(content)


def unpack(content: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors by name, and the facts.

    Raises:
        ValueError: The bytes are not those that `pack` or an older program returned.
    """
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    length = int.from_bytes(content[:8], "little")
    facts = json.loads(content[8 : 8 + length]).get("__metadata__", {})
    version = facts.pop("version", "none")
    if version != _OLD:
        _compare(content, version)
    return tensors, facts


def _compare(content: bytes, version: str) -> None:
    """Compare the bytes of a file with the checksum in its version; raise ValueError if they differ."""
    match = _VERSION.fullmatch(version)
    at = content.find(_START + version.encode()[-len(_ZEROS) :])
    if match is None or at < 0:
        raise ValueError(f"version {version!r} is unknown: expected {_OLD!r}, or '2 crc32' and a checksum")
    first = at + len(_START)
    found = zlib.crc32(memoryview(content)[first + len(_ZEROS) :], zlib.crc32(_ZEROS, zlib.crc32(memoryview(content)[:first])))
    if f"{found:08x}" != match[1]:
        raise ValueError(f"checksum {found:08x}, {match[1]} when it was written")
