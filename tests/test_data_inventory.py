"""`python -m data ls` and `gc`: what lies in a cache that a build has made, what of it is used, and what is removed."""

import json
import os
import shutil

import pytest
from caches import make_cache

from data.__main__ import main
from data.cache import read_cache
from data.errors import InputError
from data.inventory import SPARE, UNUSED, USED, expect_no_build, list_cache, removable
from pipeline import outputs

LONG_AGO_S = 1_600_000_000


@pytest.fixture
def cache(built):
    """A cache with features of other settings, an old report, an adapted encoder that nothing uses, and a file of the user's."""
    index = read_cache(built.cache)
    shutil.copy(index["clips"].features["text"], built.cache / "features" / "clips-text-older-0123456789ab.h5")
    (built.cache / "reports" / "report-0123456789ab.html").write_text("an older report")
    encoder = built.cache / "encoders" / "tiny-bert-adapted-0123456789ab"
    encoder.mkdir(parents=True)
    (encoder / "adapt.json").write_text("{}")
    (built.cache / "notes.txt").write_text("mine")
    (built.cache / "predict").mkdir()
    (built.cache / "predict" / "transcripts-0123.csv").write_text("corrected")
    for path in built.cache.rglob("*"):
        os.utime(path, (LONG_AGO_S, LONG_AGO_S))
    return built.cache


OLD = {"features/clips-text-older-0123456789ab.h5", "reports/report-0123456789ab.html", "encoders/tiny-bert-adapted-0123456789ab"}


def names(entries, cache):
    return {entry.path.relative_to(cache).as_posix() for entry in entries}


def files(cache):
    return {path.relative_to(cache).as_posix() for path in cache.rglob("*") if path.is_file()}


def test_every_file_of_the_index_is_used_and_what_it_does_not_name_is_not(cache):
    entries = list_cache(cache)
    indexed = {path for corpus in read_cache(cache).values() for _, path in corpus.files()}
    used = {entry.path for entry in entries if entry.state == USED and entry.kind not in ("report", "clips of predict")}
    assert used == indexed
    assert names([entry for entry in entries if entry.state == UNUSED], cache) == OLD
    spare = [entry for entry in entries if entry.state == SPARE]
    assert {entry.path for entry in spare} == set((cache / "shards").glob("*/*"))
    assert all(entry.used_by == (entry.path.parent.name,) for entry in spare)
    assert sum(entry.size_bytes for entry in spare) == sum(path.stat().st_size for path in (cache / "shards").rglob("*.h5"))


def test_shards_of_damaged_features_are_used_and_stay(cache):
    read_cache(cache)["clips"].features["text"].write_bytes(b"damaged")
    states = {entry.path.parent.name: entry.state for entry in list_cache(cache) if entry.kind == "shards"}
    assert states == {"clips": USED, "donors": SPARE}


def test_shards_of_an_encoder_that_the_index_does_not_know_are_unused(cache):
    shutil.rmtree(cache / "features")
    (cache / "features").mkdir()
    index = json.loads((cache / "index.json").read_text())
    index["corpora"]["clips"]["features"].clear()
    (cache / "index.json").write_text(json.dumps(index))
    states = {entry.path.parent.name: entry.state for entry in list_cache(cache) if entry.kind == "shards"}
    assert states == {"clips": UNUSED, "donors": USED}


def test_gc_removes_what_is_unused_and_a_build_still_has_nothing_to_do(cache, built, capsys):
    before = files(cache)
    assert main(["gc", str(cache), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in OLD)
    assert "3 would be removed" in out
    assert files(cache) == before

    assert main(["gc", str(cache), "--yes"]) == 0
    gone = before - files(cache)
    assert gone == {name if "encoders" not in name else f"{name}/adapt.json" for name in OLD}
    assert "removed 3" in capsys.readouterr().out

    assert main(["gc", str(cache), "--yes", "--shards"]) == 0
    assert not list((cache / "shards").rglob("*.h5"))
    assert (cache / "notes.txt").read_text() == "mine"
    assert (cache / "predict" / "transcripts-0123.csv").read_text() == "corrected"
    assert outputs.missing(built.plan()) == []
    capsys.readouterr()
    assert main(["gc", str(cache), "--yes", "--shards"]) == 0
    assert capsys.readouterr().out == f"{cache}: nothing to remove.\n"


def test_young_files_stay_as_a_stopped_build_goes_on_with_them(cache, capsys):
    entries = list_cache(cache)
    day_s = 24 * 3600
    assert names(removable(entries, False, 2.0, now=lambda: LONG_AGO_S + 2 * day_s), cache) == OLD
    assert removable(entries, False, 2.0, now=lambda: LONG_AGO_S + 2 * day_s - 1) == []

    shard = next((cache / "features").glob("*older*"))
    os.utime(shard)
    assert main(["gc", str(cache), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert shard.name not in out
    assert "2 would be removed" in out
    assert "1 younger than 1 days stay (--older-than)." in out


def test_gc_asks_and_refuses_without_a_terminal(cache, capsys, monkeypatch):
    before = files(cache)
    assert main(["gc", str(cache)]) == 2
    assert "Give --yes, or --dry-run to see the list." in capsys.readouterr().err

    class Terminal:
        def isatty(self):
            return True

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("builtins.input", lambda question: "n")
    assert main(["gc", str(cache)]) == 1
    assert files(cache) == before
    monkeypatch.setattr("builtins.input", lambda question: "y")
    assert main(["gc", str(cache)]) == 0
    assert len(files(cache)) == len(before) - 3


def test_gc_waits_for_no_build_but_says_what_it_makes(cache):
    expect_no_build(cache)
    (cache / "locks").mkdir()
    (cache / "locks" / "features~x.h5.lock").write_text("pid=1")
    with pytest.raises(InputError, match=r"a build is making features/x\.h5\. Wait until it has ended\."):
        expect_no_build(cache)


@pytest.mark.parametrize("given", ["-1", "nan", "inf", "soon"])
def test_an_age_is_a_number_of_days(cache, given, capsys):
    with pytest.raises(SystemExit):
        main(["gc", str(cache), "--older-than", given])
    assert f"'{given}', expected a number of days from 0" in capsys.readouterr().err


def test_ls_prints_sizes_states_and_users(cache, capsys):
    assert main(["ls", str(cache)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines[:2]] == ["clips", "donors"]
    text = read_cache(cache)["clips"].features["text"].relative_to(cache).as_posix()
    assert next(line.split()[0] for line in lines if f"{text}  (clips)" in line) == "used"
    assert [line.partition(":")[0] for line in lines[-3:]] == ["used", "spare", "unused"]

    assert main(["ls", str(cache), "--json"]) == 0
    found = {entry["path"]: entry for entry in map(json.loads, capsys.readouterr().out.splitlines())}
    assert found[text]["size_bytes"] == (cache / text).stat().st_size
    assert (found[text]["state"], found[text]["used_by"], found[text]["kind"]) == ("used", ["clips"], "text features")
    assert found[text]["written"] == "2020-09-13T12:26:40+00:00"


def test_a_copy_of_the_listed_paths_is_a_cache_with_this_corpus(tmp_path, capsys):
    cache = make_cache(make_cache(tmp_path / "cache", ledger=True), corpus="meld")
    assert main(["ls", str(cache), "--paths", "mosi"]) == 0
    for path in capsys.readouterr().out.splitlines():
        target = tmp_path / "copy" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(cache / path, target)

    from command_line import call

    fit = ("fit", "--corpus", "mosi", "--head", "ridge", "--cache")
    for name in ("cache", "copy"):
        assert call(capsys, *fit, tmp_path / name, "--out", tmp_path / f"runs-{name}")[0] == 0
    metrics = [next(tmp_path.glob(f"runs-{name}/*/metrics.json")).read_bytes() for name in ("cache", "copy")]
    assert metrics[0] == metrics[1]
    assert not list((tmp_path / "copy" / "features").glob("meld*"))


def test_a_copied_cache_has_nothing_to_build(built, tmp_path):
    shutil.copytree(built.cache, tmp_path / "elsewhere" / "cache", copy_function=shutil.copy)  # other times and inodes
    assert outputs.missing(built.plan(cache=tmp_path / "elsewhere" / "cache")) == []
