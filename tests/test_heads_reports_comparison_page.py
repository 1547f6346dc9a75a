"""The page of two predictors: the tests and the clips of `compare`, also against a CSV of another tool."""

import json
import xml.etree.ElementTree as ET

import pytest
import small_runs
from caches import make_cache
from command_line import call
from report_runs import SHORT, with_media
from reports import words

from data.labels import EMOTIONS


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A cache with media, a run of both tasks, and one of sentiment. Not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    cache = with_media(make_cache(folder / "cache", ledger=True), folder / "media")
    return cache, small_runs.run(cache, folder / "runs", changes=SHORT), small_runs.run(cache, folder / "runs", "ridge")


def table(page, number):
    found = page.findall(".//main//table")[number]
    header = [words(cell) for cell in found.findall("thead/tr")[-1]]
    return header, [dict(zip(range(len(header)), row, strict=True)) for row in found.findall("tbody/tr")]


def value(cell):
    return float(cell.find("data").get("value"))


def test_it_says_what_the_terminal_says_and_lists_every_clip(made, capsys, tmp_path):
    _, a, b = made
    status, out, _ = call(capsys, "compare", a.path, b.path, "--json", "--clips", 99, "--out", tmp_path / "page.html")
    assert status == 0
    found, page = json.loads(out), ET.fromstring((tmp_path / "page.html").read_text(encoding="utf-8").removeprefix("<!DOCTYPE html>"))
    _, tests = table(page, 0)
    assert [words(row[0].find("small")) for row in tests][:2] == ["lower is better", "higher is better"]
    for row, (name, one) in zip(tests, found["metrics"].items(), strict=True):
        assert row[0].text == name
        assert [value(row[1]), value(row[2])] == pytest.approx([one["a"], one["b"]])
        assert value(row[3]) == pytest.approx(one["difference"])
        assert value(row[6]) == pytest.approx(one["p_holm"])
    header, clips = table(page, 1)
    assert header[:7] == ["clip", "text", "true", "A", "B", "error of A − error of B", "closer"]
    assert [words(row[0]) for row in clips] == [clip["utterance_id"] for clip in found["clips"]]
    for row, clip in zip(clips, found["clips"], strict=True):
        assert [value(row[place]) for place in range(2, 6)] == pytest.approx([clip[name] for name in ("true", "a", "b", "gain")])
        assert words(row[6]) == ("B" if clip["gain"] > 0 else "A")
        assert row[0].find(".//audio").get("src").startswith("file://")
    wrong = header.index("A", header.index("emotions") + 3)
    table_of_a = a.predictions().set_index("utterance_id")
    for row in clips:
        one = table_of_a.loc[words(row[0])]
        assert value(row[wrong]) == sum((one[emotion] > 0.5) != (one[f"{emotion}_true"] > 0) for emotion in EMOTIONS)


def test_it_compares_with_another_tool_and_sounds_can_be_embedded(made, capsys, tmp_path):
    cache, _, b = made
    theirs = b.predictions()[["utterance_id", "sentiment"]].rename(columns={"utterance_id": "id"})
    theirs.to_csv(tmp_path / "theirs.csv", index=False)
    one = small_runs.run(cache, tmp_path, "median", {"task": "msa"})
    out = tmp_path / "page.html"
    status, printed, err = call(
        capsys, "compare", one.path, tmp_path / "theirs.csv", "--out", out, "--media", "embed", "--media-mb", 0.01
    )
    assert (status, err) == (0, "")
    assert printed.splitlines()[-1] == str(out)
    page = ET.fromstring(out.read_text(encoding="utf-8").removeprefix("<!DOCTYPE html>"))
    assert f"B is {tmp_path / 'theirs.csv'}." in words(page.find(".//header"))
    sounds = [audio.get("src") for audio in page.iter("audio")]
    assert 0 < sum(map(len, sounds)) <= 10_000
    assert all(sound.startswith("data:audio/ogg;base64,") for sound in sounds)
    assert len(sounds) < len(table(page, 1)[1])
    assert f"Players of {len(sounds)} of " in printed
