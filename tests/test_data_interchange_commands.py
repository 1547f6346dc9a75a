"""`python -m data export` and `import`: what they print, the exit status, and that heads train on what was imported."""

import pytest
from caches import make_cache
from small_runs import run

from data.__main__ import main
from data.cache import open_corpus


@pytest.fixture
def cache(tmp_path):
    return make_cache(tmp_path / "cache", utterances=24)


def test_a_corpus_goes_out_and_comes_back_and_is_trained_on(cache, tmp_path, capsys):
    for name, out in (("mmsa", tmp_path / "mosi.pkl"), ("merbench", tmp_path / "mer")):
        assert main(["export", str(cache), "mosi", "--format", name, "--out", str(out), "--text-limit", "6"]) == 0
        first, second, *_ = capsys.readouterr().out.splitlines()
        assert (first, second) == (f"wrote {out}", "24 of 24 utterances of mosi: 11 train, 9 valid, 4 test")
        assert main(["import", str(out), "--format", name, "--cache", str(tmp_path / "back"), "--corpus", name]) == 0
        first, second, *_ = capsys.readouterr().out.splitlines()
        assert first == f"imported {out} into {tmp_path / 'back'}"
        assert second == f"24 utterances as {name}: 11 train, 9 valid, 4 test"
        assert main(["verify", str(open_corpus(tmp_path / "back", name).features["text"])]) == 0
        assert capsys.readouterr().out.startswith("ok ")
        folder = run(tmp_path / "back", tmp_path / "runs", changes={"task": "msa"}, corpus=name)
        assert folder.metrics()["valid"]["mae"] > 0


def test_a_mistake_is_one_line_and_status_2(cache, tmp_path, capsys):
    assert main(["export", str(cache), "mozi", "--format", "csd", "--out", str(tmp_path / "x")]) == 2
    assert capsys.readouterr().err == "error: Unknown corpus 'mozi'. Did you mean 'mosi'? Available: mosi.\n"
    assert main(["import", str(tmp_path / "x.pkl"), "--format", "mmsa", "--cache", str(cache), "--corpus", "x"]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'x.pkl'}: cannot be read (No such file or directory).\n"


def test_an_import_into_a_cache_keeps_its_other_corpora(cache, tmp_path):
    before = open_corpus(cache, "mosi")
    main(["export", str(cache), "mosi", "--format", "mmsa", "--out", str(tmp_path / "mosi.pkl")])
    assert main(["import", str(tmp_path / "mosi.pkl"), "--format", "mmsa", "--cache", str(cache), "--corpus", "again"]) == 0
    assert open_corpus(cache, "mosi") == before
    assert '"report": "report.html"' in (cache / "index.json").read_text()
