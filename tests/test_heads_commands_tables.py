"""`python -m heads tables` without training: dry runs and refusals. What it trains and writes is in test_heads_tables_build."""

import re

import pytest
from caches import make_cache
from command_line import call
from small_tables import command, make_place


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a cache of both corpora and small settings."""
    return make_place(tmp_path_factory.mktemp("tables"))


def test_a_dry_run_says_what_would_be_trained_and_writes_nothing(place, capsys):
    status, out, err = call(capsys, *command(place, "--dry-run", out="dry"))
    assert (status, err) == (0, "")
    assert "13 trials, 0 of them over\n3 simple baselines, seconds each\n" in out
    assert re.findall(r"^mmolre +(\w+) .*  2  +2  +1 .*\d:\d\d:\d\d$", out, re.M) == ["mosi", "mosei"], "two seeds each"
    assert not (place / "dry").exists()
    status, _, err = call(capsys, *command(place, "--dry-run", "--executor", "ray", out="dry"))
    assert status == 2
    assert "--dry-run times a few steps on this machine and knows nothing of a Ray cluster. Leave out --executor ray." in err


REFUSED = {
    "an unknown head": (["--heads", "mmolr"], "Unknown head 'mmolr'. Did you mean 'mmolre'?"),
    "an unknown table": (["--only", "table4"], "Unknown table 'table4'. Did you mean"),
    "an unknown corpus": (["--corpora", "meld"], "Unknown corpus of the paper 'meld'. Available: mosi, mosei."),
    "an unknown preset": (["--preset", "papr"], "Unknown preset 'papr'. Did you mean 'paper'?"),
    "a seed that no table can hold": (
        ["--seeds", "99999999999999999999999"],
        "--seeds: seed is 99999999999999999999999, expected a whole number of at most 64 bits.",
    ),
    "a pack of none": (["--pack-size", "0"], "--pack-size is 0, expected 1 or more."),
    "heads without a row": (["--heads", "baseline-mer", "--only", "table1"], "none of baseline-mer has a row there"),
    "a corpus that the table lacks": (["--corpora", "mosi", "--only", "table2"], "the paper has it on mosei"),
}


@pytest.mark.parametrize(("given", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_refused_in_a_line(place, capsys, given, message):
    status, out, err = call(capsys, *command(place, out="refused"), *given)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
    assert not (place / "refused").exists()


def test_a_cache_without_the_corpora_and_rows_that_cannot_be_trained_are_refused(place, capsys):
    make_cache(place / "other", corpus="clips")
    make_cache(place / "none", emotions=False)
    messages = {"other": "nothing to make a table of. mosi is not in the cache", "none": "No row of the tables can be trained"}
    for cache, message in messages.items():
        status, _, err = call(capsys, *command(place, cache=cache, out="refused", heads="mmolre"))
        assert (status, message in err) == (2, True)
