"""Truncated files are distinguished from whole ones, in every container that states its length."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from tones import encode, problem, shorten, write_wav

from data.containers import MEDIA_SUFFIXES
from data.media import SAMPLE_RATE_HZ, decode


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.wav", "pcm_s16le", None),
        ("a.avi", "libmp3lame", None),
        ("a.flac", "flac", None),
        ("a.mp3", "libmp3lame", None),
        ("a.ogg", "libopus", None),
        ("a.mp4", "aac", None),
        ("fast.mp4", "aac", {"movflags": "faststart"}),
        ("a.mkv", "aac", None),
        ("a.webm", "libopus", None),
        ("a.aac", "aac", None),
        ("a.w64", "pcm_s16le", None),
        ("a.aiff", "pcm_s16be", None),
        ("a.au", "pcm_s16be", None),
        ("a.caf", "pcm_s16be", None),
        ("a.flv", "libmp3lame", None),
        ("a.wma", "wmav2", None),
        ("a.mov", "pcm_s16le", None),
    ],
)
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_cut_files_are_truncated(tmp_path: Path, name: str, codec: str, options: dict | None, part: float) -> None:
    path = encode(tmp_path / name, codec, 44_100 if name.endswith("flv") else 48_000, 2, options=options)
    decode(path)
    assert problem(shorten(path, part)).kind == "truncated"


def test_cut_message_says_how_much_is_missing(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", np.full(32_000, 1_000))
    os.truncate(path, 44 + 40_000)
    assert str(problem(path)) == f"{path}: cut off, its data chunk ends 24000 bytes after the file. Get the file again."


def test_mp3_is_compared_with_its_header_behind_a_large_tag(tmp_path: Path) -> None:
    path = shorten(encode(tmp_path / "a.mp3", "libmp3lame", 44_100, 2))
    content = path.read_bytes()
    tag = b"ID3\x04\x00\x00" + bytes([0, 1, 0, 0]) + bytes(1 << 14)
    path.write_bytes(tag + content[content.index(b"\xff\xfb") :])
    error = problem(path)
    assert error.kind == "truncated"
    assert "its header says 2.00 s" in str(error)


def test_mp3_without_a_header_is_taken_as_it_is(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp3", "libmp3lame", 44_100, 2, options={"write_xing": "0"})
    assert len(decode(path)) / SAMPLE_RATE_HZ == pytest.approx(2.0, abs=0.06)


def test_wav_written_into_a_pipe_has_no_length_and_decodes(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", np.full(20_000, 1_000))
    content = path.read_bytes()
    for length in (0, 0x7FFFF000, 0xFFFFFFFF):
        path.write_bytes(content[:40] + length.to_bytes(4, "little") + content[44:])
        assert len(decode(path)) == 20_000


def test_a_wma_whose_data_object_counts_less_than_there_is(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.wma", "wmav2", 44_100, 2)
    content = bytearray(path.read_bytes())
    at = content.index(bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")) + 16
    length = int.from_bytes(content[at : at + 8], "little")
    content[at : at + 8] = (50 + (length - 50) // 2).to_bytes(8, "little")
    path.write_bytes(content)
    assert "its data object counts" in str(problem(path))
    assert "bytes follow that are no index" in str(problem(path))


def test_an_avi_whose_list_counts_less_than_there_is(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.avi", "pcm_s16le", 16_000, 1)
    content = bytearray(path.read_bytes())
    at = content.index(b"movi") - 4
    length = int.from_bytes(content[at : at + 4], "little")
    content[at : at + 4] = (length // 2).to_bytes(4, "little")
    path.write_bytes(content)
    assert "its movi list counts" in str(problem(path))


def test_a_transport_stream_cut_within_a_packet_is_truncated(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.ts", "mp2", 48_000, 2)
    os.truncate(path, path.stat().st_size // 2 // 188 * 188 + 100)
    assert "its last packet ends 88 bytes after the file" in str(problem(path))


def test_readme_names_the_suffixes_that_are_read() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    (sentence,) = re.findall(r"Media are files with one of these suffixes: (.*?)\. ", readme.replace("\n", " "))
    assert sentence.replace("`", "").split() == list(MEDIA_SUFFIXES)
