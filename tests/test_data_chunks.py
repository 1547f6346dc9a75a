"""Headers that count more or less than there is are detected in every chunked format; valid files of unusual layout are not."""

import struct
from pathlib import Path

import numpy as np
import pytest
from tones import problem, write_wav

from data.media import SAMPLE_RATE_HZ, decode

SAMPLES = np.random.default_rng(0).integers(-(2**14), 2**14, 8_000).astype("<i2")
LITTLE, BIG = SAMPLES.tobytes(), SAMPLES.astype(">i2").tobytes()
W64_RIFF = b"riff" + bytes.fromhex("2e91cf11a5d628db04c10000")
W64_TAIL = bytes.fromhex("f3acd3118cd100c04f8edb8a")
FORMAT = struct.pack("<HHIIHH", 1, 1, SAMPLE_RATE_HZ, 2 * SAMPLE_RATE_HZ, 2, 16)
RATE_80_BITS = bytes.fromhex("400cfa00000000000000")  # 16000 as an extended float


def chunk(name: bytes, content: bytes, length: int | None = None, order: str = "<") -> bytes:
    return name + struct.pack(f"{order}I", len(content) if length is None else length) + content


def wav(counted: int, after: bytes = b"") -> bytes:
    body = b"WAVE" + chunk(b"fmt ", FORMAT) + chunk(b"data", LITTLE, counted) + after
    return chunk(b"RIFF", body)


def rf64(counted: int, after: bytes = b"", name: bytes = b"RF64") -> bytes:
    ds64 = chunk(b"ds64", struct.pack("<QQQI", 0, counted, 0, 0))
    return chunk(name, b"WAVE" + ds64 + chunk(b"fmt ", FORMAT) + chunk(b"data", LITTLE, 0xFFFFFFFF) + after, 0xFFFFFFFF)


def bw64(counted: int, after: bytes = b"") -> bytes:
    return rf64(counted, after, b"BW64")


def w64(counted: int, after: bytes = b"") -> bytes:
    parts = ((b"fmt ", FORMAT, len(FORMAT)), (b"data", LITTLE, counted))
    body = b"".join(name + W64_TAIL + struct.pack("<Q", 24 + length) + content for name, content, length in parts) + after
    return W64_RIFF + struct.pack("<Q", 40 + len(body)) + b"wave" + W64_TAIL + body


def aiff(counted: int, after: bytes = b"") -> bytes:
    common = chunk(b"COMM", struct.pack(">HIH", 1, counted // 2, 16) + RATE_80_BITS, order=">")
    return chunk(b"FORM", b"AIFF" + common + chunk(b"SSND", bytes(8) + BIG, 8 + counted, ">") + after, order=">")


def caf(counted: int, after: bytes = b"") -> bytes:
    description = struct.pack(">d4sIIIII", SAMPLE_RATE_HZ, b"lpcm", 0, 2, 1, 1, 16)
    parts = ((b"desc", description, len(description)), (b"data", bytes(4) + BIG, 4 + counted))
    return b"caff\0\1\0\0" + b"".join(name + struct.pack(">q", length) + content for name, content, length in parts) + after


def au(counted: int, after: bytes = b"") -> bytes:
    return b".snd" + struct.pack(">IIIII", 24, counted, 3, SAMPLE_RATE_HZ, 1) + BIG + after


FORMATS = (wav, rf64, bw64, w64, aiff, caf, au)
ALL = len(LITTLE)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("form", FORMATS)
def test_a_right_count_gives_the_samples(tmp_path: Path, form) -> None:
    expected = (SAMPLES / 2**15).astype(np.float32)
    np.testing.assert_array_equal(decode(write(tmp_path / "a", form(ALL))), expected)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("part", [0.2, 0.5, 0.95])
def test_a_count_of_more_than_there_is_means_a_cut_file(tmp_path: Path, form, part: float) -> None:
    path = write(tmp_path / "a", form(ALL))
    path.write_bytes(path.read_bytes()[: -round(ALL * (1 - part))])
    error = problem(path)
    assert error.kind == "truncated"
    assert f"ends {round(ALL * (1 - part))} bytes after the file. Get the file again." in str(error)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_a_count_of_less_than_there_is_is_a_damaged_header(tmp_path: Path, form, part: float) -> None:
    counted = round(ALL * part)
    error = problem(write(tmp_path / "a", form(counted)))
    assert error.kind == "truncated"
    assert f"and {ALL - counted} bytes follow that are no chunk. Get the file again." in str(error)


def test_an_aiff_of_which_two_chunks_disagree(tmp_path: Path) -> None:
    content = bytearray(aiff(ALL))
    content[22:26] = (ALL).to_bytes(4, "big")  # frames of COMM: twice as many
    assert f"COMM chunk counts {2 * ALL} bytes of sound and its SSND chunk {ALL}" in str(problem(write(tmp_path / "a", bytes(content))))


NOTE = chunk(b"LIST", b"INFO" + chunk(b"ISFT", b"recorder"))


@pytest.mark.parametrize(
    "after",
    [
        NOTE,
        chunk(b"bext", bytes(602)) + NOTE,
        chunk(b"LIST", b"INFO" + bytes(500))[:200],
        chunk(b"iXML", b"<xml>" * 40) + bytes(4_000),
        bytes(10_000),
        b"TAG" + bytes(range(1, 126)),
        b"ID3\x04\x00\x00" + bytes(range(200)),
        b"\x01\x02\x03",
    ],
    ids=["list", "bext", "cut-list", "padded", "zeros", "id3v1", "id3v2", "few"],
)
def test_what_may_follow_the_sound_of_a_wav(tmp_path: Path, after: bytes) -> None:
    assert len(decode(write(tmp_path / "a.wav", wav(ALL, after)))) == len(SAMPLES)


@pytest.mark.parametrize("form", [wav, w64, aiff, caf, au])
def test_another_file_behind_a_file_is_not_left_out_without_a_word(tmp_path: Path, form) -> None:
    assert f"{len(form(ALL))} bytes follow that are no chunk" in str(problem(write(tmp_path / "a.wav", form(ALL) + form(ALL))))


def test_an_odd_chunk_without_its_padding(tmp_path: Path) -> None:
    body = b"WAVE" + chunk(b"fmt ", FORMAT) + chunk(b"data", LITTLE + b"\0") + NOTE + chunk(b"iXML", b"<xml>" * 40)
    assert len(decode(write(tmp_path / "a.wav", chunk(b"RIFF", body)))) == len(SAMPLES)


@pytest.mark.parametrize(("form", "length"), [(wav, 0), (wav, 0x7FFFF000), (wav, 0xFFFFFFFF), (caf, -5), (au, 0xFFFFFFFF)])
def test_a_count_that_was_left_open_is_accepted(tmp_path: Path, form, length: int) -> None:
    assert len(decode(write(tmp_path / "a", form(length)))) == len(SAMPLES)


def test_a_count_that_wrapped_around_at_4_gb(tmp_path: Path) -> None:
    content = wav((2**32 + 1_000) % 2**32)
    assert "its data chunk counts 1000 bytes" in str(problem(write(tmp_path / "a.wav", content)))


def extensible(samples: np.ndarray, valid: int, bits: int, channels: int) -> bytes:
    width = bits // 8 * channels
    form = struct.pack("<HHIIHHHHI", 0xFFFE, channels, SAMPLE_RATE_HZ, width * SAMPLE_RATE_HZ, width, bits, 22, valid, 0)
    form += struct.pack("<H", 1) + bytes.fromhex("000000001000800000aa00389b71")
    content = b"".join(int(value).to_bytes(bits // 8, "little", signed=True) for value in samples.ravel())
    return chunk(b"RIFF", b"WAVE" + chunk(b"JUNK", bytes(5_000)) + chunk(b"fmt ", form) + chunk(b"data", content))


@pytest.mark.parametrize(
    ("valid", "bits"), [(24, 32), (20, 32), (16, 32), (8, 32), (16, 24), (20, 24), (12, 16), (8, 16), (32, 32), (24, 24), (0, 32)]
)
@pytest.mark.parametrize("channels", [1, 2])
def test_valid_bits_are_the_upper_ones_of_the_stored(tmp_path: Path, valid: int, bits: int, channels: int) -> None:
    depth = valid or bits
    values = np.random.default_rng(1).integers(-(2 ** (depth - 1)), 2 ** (depth - 1), (500, channels), dtype=np.int64)
    waveform = decode(write(tmp_path / "a.wav", extensible(values << (bits - depth), valid, bits, channels)))
    np.testing.assert_allclose(waveform, (values / 2 ** (depth - 1)).mean(axis=1), atol=1e-6)


def test_a_file_of_empty_chunks_ends(tmp_path: Path) -> None:
    content = b"RIFF" + bytes(4) + b"WAVE" + chunk(b"fmt ", FORMAT) + bytes(2_000_000)
    assert problem(write(tmp_path / "a.wav", content)).kind == "unreadable"


def test_padding_of_chunks_is_found_by_another_writer(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", SAMPLES)
    path.write_bytes(path.read_bytes() + NOTE)
    np.testing.assert_array_equal(decode(path), (SAMPLES / 2**15).astype(np.float32))
