"""`python -m data export` and `import`: what they print, the exit status, and that heads train on what was imported."""

import pytest
import torch
from caches import make_cache
from small_runs import run

from data.__main__ import main
from data.cache import open_corpus
from data.errors import InputError
from heads.evaluation import reopen


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


@pytest.mark.parametrize("name", ["mmsa", "merbench"])
def test_imported_features_are_known_by_what_is_in_their_files_not_by_their_name(cache, tmp_path, name):
    def into(cache_name, path):
        assert main(["import", str(path), "--format", name, "--cache", str(tmp_path / cache_name), "--corpus", "mosi"]) == 0
        return tmp_path / cache_name

    def export(of, out):
        assert main(["export", str(of), "mosi", "--format", name, "--out", str(out)]) == 0
        return out

    device = torch.device("cpu")
    path = export(cache, tmp_path / "mosi.pkl")
    folder = run(into("first", path), tmp_path / "runs", changes={"task": "msa"})
    moved = path.rename(tmp_path / "moved.pkl")
    if name == "merbench":
        (moved / "made-up-text-FRA").rename(moved / "roberta-FRA")
        (moved / "features.json").write_text('{"text": "roberta-FRA", "audio": "made-up-audio-FRA"}')
    assert len(reopen(folder, into("second", moved), device).tensors.targets) == 24
    export(make_cache(tmp_path / "noise", seed=1), path)  # under the old name
    with pytest.raises(
        InputError, match=r"not made as the text features that .* was trained on: identity\.origin is '[0-9a-f]{12}', not '"
    ):
        reopen(folder, into("third", path), device)
