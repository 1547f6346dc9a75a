"""Ways to damage a file: each takes random numbers and the bytes of a valid file, and returns other bytes.

Those of `TEXT` are for files of lines (CSV, JSON, YAML, luigi.cfg); those of `BYTES` suit every file.
"""

import random
import re
from collections.abc import Callable, Mapping

Mutation = Callable[[random.Random, bytes], bytes]

PAGE_BYTES = 4096
DEEP = 100_000
"""Levels of nesting: more than the stack of any recursive parser holds."""

_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
_VALUE = re.compile(rb'"[^"\n]*"|-?\d+(?:\.\d+)?|true|false|null')
_STRANGE_NUMBERS = (
    b"1" * 5000,  # more digits than Python converts
    b"9" * 70,
    b"1e999",
    b"-1e999",
    b"1e-999",
    b"nan",
    b"-inf",
    b"18446744073709551616",
    b"-9223372036854775809",
    b"2147483648",
    b"-1",
    b"0",
    b"-0.0",
    b"0x10",
    b"1_000",
    "٣".encode(),
)
_STRANGE_VALUES = (
    b"[]",
    b"{}",
    b"null",
    b"true",
    b'""',
    b"3.5",
    b"[[1]]",
    b'{"a": 1}',
    b"-7",
    b'"\\ud800"',
    b"~",
    b"!!binary x",
    b"*a",
)
_STRANGE_TEXTS = (
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xe2\x80\xa8",
    b"\x1b[31m",
    b"%",
    b"%(x)s",
    b'"',
    b"'",
    b",",
    b";",
    b"\t",
    b"\r",
    b"\\",
)


def _place(rng: random.Random, content: bytes) -> int:
    return rng.randrange(len(content) + 1)


def flip_bit(rng: random.Random, content: bytes, count: int = 1) -> bytes:
    """Flip bits anywhere."""
    changed = bytearray(content)
    for _ in range(count if changed else 0):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def flip_bits(rng: random.Random, content: bytes) -> bytes:
    """Flip up to 64 bits anywhere."""
    return flip_bit(rng, content, rng.randint(2, 64))


def flip_in_head(rng: random.Random, content: bytes) -> bytes:
    """Flip up to 8 bits of the first 256 bytes, where formats have their structure."""
    return flip_bit(rng, content[:256], rng.randint(1, 8)) + content[256:]


def cut(rng: random.Random, content: bytes) -> bytes:
    """Cut off the end."""
    return content[: rng.randrange(max(1, len(content)))]


def zero_page(rng: random.Random, content: bytes) -> bytes:
    """Replace one page by zeros, as a failing disk does."""
    start = _place(rng, content) // PAGE_BYTES * PAGE_BYTES
    page = content[start : start + PAGE_BYTES]
    return content[:start] + bytes(len(page)) + content[start + PAGE_BYTES :]


def fill(rng: random.Random, content: bytes) -> bytes:
    """Overwrite a short range with one byte."""
    start, count = _place(rng, content), rng.choice((1, 2, 4, 8, 32))
    filled = bytes([rng.choice((0, 1, 0x7F, 0x80, 0xFF))]) * count
    return (content[:start] + filled + content[start + count :])[: len(content)]


def remove(rng: random.Random, content: bytes) -> bytes:
    """Remove a range."""
    start = _place(rng, content)
    return content[:start] + content[start + rng.randint(1, 64) :]


def repeat(rng: random.Random, content: bytes) -> bytes:
    """Repeat a range."""
    start = _place(rng, content)
    part = content[start : start + rng.randint(1, 64)]
    return content[:start] + part * rng.choice((2, 3, 50)) + content[start + len(part) :]


def insert(rng: random.Random, content: bytes) -> bytes:
    """Insert random bytes."""
    start = _place(rng, content)
    return content[:start] + rng.randbytes(rng.randint(1, 32)) + content[start:]


def append(rng: random.Random, content: bytes) -> bytes:
    """Append random bytes."""
    return content + rng.randbytes(rng.randint(1, PAGE_BYTES))


def nothing(_: random.Random, content: bytes) -> bytes:
    """Leave no byte."""
    return content[:0]


def another_format(rng: random.Random, _: bytes) -> bytes:
    """Replace the file by what a failed download leaves, or by one of another format."""
    return rng.choice(
        (
            b"<!DOCTYPE html>\n<html></html>",
            b"version https://git-lfs.github.com/spec/v1\n",
            b"PK\x03\x04" + bytes(60),
            b"\x1f\x8b\x08" * 9,
        )
    )


def _with_lines(content: bytes, change: Callable[[list[bytes]], None]) -> bytes:
    lines = content.split(b"\n")
    change(lines)
    return b"\n".join(lines)


def remove_line(rng: random.Random, content: bytes) -> bytes:
    """Remove a line."""
    return _with_lines(content, lambda lines: lines.__delitem__(rng.randrange(len(lines))))


def repeat_line(rng: random.Random, content: bytes) -> bytes:
    """Repeat a line, next to itself or elsewhere."""
    return _with_lines(content, lambda lines: lines.insert(rng.randrange(len(lines) + 1), rng.choice(lines)))


def swap_lines(rng: random.Random, content: bytes) -> bytes:
    """Shuffle a few lines."""

    def swap(lines: list[bytes]) -> None:
        one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
        lines[one], lines[other] = lines[other], lines[one]

    return _with_lines(content, swap)


def _substitute(rng: random.Random, content: bytes, pattern: re.Pattern[bytes], other: bytes) -> bytes:
    found = list(pattern.finditer(content))
    if not found:
        return insert(rng, content)
    match = rng.choice(found)
    return content[: match.start()] + other + content[match.end() :]


def strange_number(rng: random.Random, content: bytes) -> bytes:
    """Replace a number by one that is too large, too long or none."""
    return _substitute(rng, content, _NUMBER, rng.choice(_STRANGE_NUMBERS))


def strange_value(rng: random.Random, content: bytes) -> bytes:
    """Replace a value by one of another type."""
    return _substitute(rng, content, _VALUE, rng.choice(_STRANGE_VALUES))


def strange_text(rng: random.Random, content: bytes) -> bytes:
    """Insert a character with a meaning of its own, or half of one."""
    start = _place(rng, content)
    return content[:start] + rng.choice(_STRANGE_TEXTS) + content[start:]


def nest(rng: random.Random, content: bytes) -> bytes:
    """Replace a value by lists or mappings in each other, closed or not."""
    opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}"), (b"{a: ", b"}"), (b"- ", b"")))
    inside = opening * DEEP + b"1" + (closing * DEEP if rng.random() < 0.5 else b"")
    return inside if rng.random() < 0.2 else _substitute(rng, content, _VALUE, inside)


def encode(rng: random.Random, content: bytes) -> bytes:
    """Save the text in another encoding, or with other ends of lines."""
    text = content.decode("utf-8", "replace")
    return rng.choice(
        (
            text.encode("utf-16"),
            text.encode("utf-8-sig"),
            text.replace("e", "é").encode("latin-1", "replace"),
            text.replace("\n", "\r\n").encode(),
            text.replace("\n", "\r").encode(),
            text.encode("utf-32"),
        )
    )


def long_line(rng: random.Random, content: bytes) -> bytes:
    """Put a million characters into one place."""
    start = _place(rng, content)
    return content[:start] + rng.choice((b"a", b" ", b",", b"\n", b"1")) * 1_000_000 + content[start:]


BYTES: Mapping[str, Mutation] = {
    change.__name__: change
    for change in (
        flip_bit, flip_bits, flip_in_head, cut, zero_page, fill, remove, repeat, insert, append, nothing, another_format,
    )
}  # fmt: skip
"""Name → mutation of any file."""

TEXT: Mapping[str, Mutation] = {
    change.__name__: change
    for change in (
        remove_line, repeat_line, swap_lines, strange_number, strange_value, strange_text, nest, encode, long_line, cut, flip_bit,
        nothing, another_format,
    )
}  # fmt: skip
"""Name → mutation of a file of lines."""
