"""The picture of an expert X-ray shows every part of the report."""

import numpy as np
import pytest
from test_heads_evaluation_routing import HAPPY_AND_SAD, MER, MSA

from data.errors import InputError
from data.labels import EMOTIONS
from heads.evaluation.routing import xray
from heads.evaluation.routing_chart import draw


@pytest.fixture
def report():
    return xray({"text/block1/msa": MSA, "text/block1/mer": MER, "audio/block1/msa": MSA}, HAPPY_AND_SAD)


def test_a_picture_shows_every_part_of_the_report(report, tmp_path):
    draw(report, tmp_path / "xray.svg")
    text = (tmp_path / "xray.svg").read_text(encoding="utf-8")
    for shown in ("text/block1: load (tasks overlap 0.50)", "audio/block1: load<", "text/block1/mer: gate by emotion", "sadness (1)"):
        assert shown in text
    dead, emotions = 3, len(EMOTIONS)
    assert text.count(">×<") == dead * (1 + emotions)


@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml")])
def test_a_picture_is_a_file_of_its_suffix_and_the_same_every_time(report, tmp_path, suffix, magic):
    for name in ("one", "two"):
        draw(report, tmp_path / f"{name}{suffix}")
    content = (tmp_path / f"one{suffix}").read_bytes()
    assert content.startswith(magic)
    assert content == (tmp_path / f"two{suffix}").read_bytes()


def test_tasks_with_different_numbers_of_experts_and_no_labels_are_drawn(tmp_path):
    gates = {"text/block1/msa": MSA, "audio/block1/msa": MSA[:, :2], "audio/block1/mer": MSA[:, :2]}
    draw(xray(gates, np.full((2, 6), np.nan)), tmp_path / "xray.png")
    assert (tmp_path / "xray.png").stat().st_size > 0


def test_an_unknown_picture_format_is_refused(report, tmp_path):
    with pytest.raises(InputError, match=r"Unknown picture format '\.jpeg'.*Available: \.png, \.svg"):
        draw(report, tmp_path / "xray.jpeg")
