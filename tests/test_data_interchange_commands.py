"""`python -m data export` and `import`: their output and exit status; heads train on imported features."""

import os
import re
import resource
import subprocess
import sys

import numpy as np
import pytest
import torch
from caches import make_cache
from small_runs import run

from data.__main__ import main
from data.cache import open_corpus
from data.errors import InputError
from data.interchange.cached import Selection
from data.manifest import read_manifest, write_manifest
from heads.runs.evaluate import predict, reopen


@pytest.fixture
def cache(tmp_path):
    return make_cache(tmp_path / "cache", utterances=24)


def test_a_corpus_goes_out_and_comes_back_and_is_trained_on(cache, tmp_path, capsys):
    small = {"task": "msa", "data.text_limit": 6}
    expected = run(cache, tmp_path / "runs", changes=small).metrics()["valid"]
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
        assert run(tmp_path / "back", tmp_path / "runs", changes=small, corpus=name).metrics()["valid"] == expected


def test_a_mistake_is_one_line_and_status_2(cache, tmp_path, capsys):
    assert main(["export", str(cache), "mozi", "--format", "csd", "--out", str(tmp_path / "x")]) == 2
    assert capsys.readouterr().err.startswith("error: Unknown corpus 'mozi'. Did you mean 'mosi'? Available: mosi (built ")
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
    second = into("second", moved)
    assert len(reopen(folder, second, device).tensors.targets) == 24
    assert run(second, tmp_path / "runs", changes={"task": "msa"}).path == folder.path, "the run is complete, and no other"
    export(make_cache(tmp_path / "noise", seed=1), path)  # under the old name
    with pytest.raises(
        InputError, match=r"not made as the text features that .* was trained on: identity\.origin is '[0-9a-f]{12}', not '"
    ):
        reopen(folder, into("third", path), device)
    with pytest.raises(InputError, match=r"holds a run of another configuration: manifest is 'mosi-\w+\.parquet', not 'mosi-"):
        run(tmp_path / "third", tmp_path / "runs", changes={"task": "msa"})


@pytest.mark.parametrize("name", ["mmsa", "merbench"])
def test_imports_by_encoders_of_one_name_can_be_predicted_by_one_head(cache, tmp_path, name):
    def imported(seed, corpus, encoders):
        made, out = make_cache(tmp_path / corpus / "cache", seed=seed), tmp_path / corpus / "mosi.pkl"
        assert main(["export", str(made), "mosi", "--format", name, "--out", str(out)]) == 0
        into = ["--cache", str(tmp_path / "back"), "--corpus", corpus, "--encoders", encoders]
        assert main(["import", str(out), "--format", name, *into]) == 0

    for seed, (corpus, encoders) in enumerate({"one": "roberta", "two": "roberta", "three": "bert"}.items()):
        imported(seed, corpus, encoders)
    folder = run(tmp_path / "back", tmp_path / "runs", changes={"task": "msa"}, corpus="one")
    assert len(predict(reopen(folder, None, torch.device("cpu"), "two"), folder, None)) == 24
    with pytest.raises(InputError, match=r"encoder\.name is 'text of bert', not 'text of roberta'"):
        predict(reopen(folder, None, torch.device("cpu"), "three"), folder, None)


@pytest.fixture
def timed(tmp_path):
    """A cache of a corpus of some MB whose durations are known."""
    folder = make_cache(tmp_path / "timed", utterances=40, text_dim=4000, audio_dim=1000)
    path = open_corpus(folder, "mosi").manifest
    write_manifest(path, read_manifest(path).assign(duration_s=1.5), {})
    return folder


@pytest.mark.parametrize("name", ["mmsa", "merbench", "csd"])
@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "Interrupted. No incomplete file is left behind.\n"),
        (MemoryError("Unable to allocate 3 GiB"), 2, "error: not enough memory. Unable to allocate 3 GiB\n"),
        (MemoryError(), 2, "error: not enough memory.\n"),
        (OSError(5, "Input/output error", "text.h5"), 2, "error: [Errno 5] Input/output error: 'text.h5'\n"),
    ],
    ids=["interrupt", "memory", "memory without a word", "device"],
)
def test_an_export_that_is_cut_short_leaves_nothing(cache, tmp_path, capsys, monkeypatch, name, error, status, said):
    path, read, calls = open_corpus(cache, "mosi").manifest, Selection.features, []
    write_manifest(path, read_manifest(path).assign(duration_s=1.5), {})

    def features(self, modality, utterance_id):
        calls.append(modality)
        if len(calls) > 30:
            raise error
        return read(self, modality, utterance_id)

    command = ["export", str(cache), "mosi", "--format", name, "--out", str(tmp_path / "mosi")]
    with monkeypatch.context() as patched:
        patched.setattr(Selection, "features", features)
        assert main(command) == status
    assert capsys.readouterr().err == said
    assert os.listdir(tmp_path) == ["cache"]
    assert main(command) == 0


def python_m_data_on_a_small_disk(size, *arguments):
    limits = (size, resource.RLIM_INFINITY)
    return subprocess.run(
        [sys.executable, "-m", "data", *map(str, arguments)],
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits),
    )


@pytest.mark.parametrize(("name", "file"), [("mmsa", "out"), ("merbench", "out"), ("csd", r".*text\.csd")])
def test_an_export_onto_a_full_disk_is_one_line_and_leaves_nothing(timed, tmp_path, name, file):
    size = 10_000 if name == "merbench" else 1_000_000
    made = python_m_data_on_a_small_disk(size, "export", timed, "mosi", "--format", name, "--out", tmp_path / "new" / "out")
    assert (made.returncode, made.stdout) == (2, "")
    assert re.fullmatch(rf"error: \[Errno 27\] File too large: '{tmp_path}/new/{file}'\n", made.stderr)
    assert os.listdir(tmp_path / "new") == []


def test_an_import_onto_a_full_disk_is_one_line_and_leaves_nothing(timed, tmp_path):
    assert main(["export", str(timed), "mosi", "--format", "mmsa", "--out", str(tmp_path / "mosi.pkl")]) == 0
    back = ["import", tmp_path / "mosi.pkl", "--format", "mmsa", "--cache", tmp_path / "back", "--corpus", "x"]
    made = python_m_data_on_a_small_disk(1_000_000, *back)
    assert (made.returncode, made.stdout) == (2, "")
    assert re.fullmatch(r"error: \[Errno 27\] File too large: '.*/x-text-imported-[0-9a-f]{12}\.h5'\n", made.stderr)
    assert list((tmp_path / "back").iterdir()) == []


def test_a_refused_import_leaves_no_features(cache, tmp_path, capsys):
    assert main(["export", str(cache), "mosi", "--format", "merbench", "--out", str(tmp_path / "mer")]) == 0
    np.save(tmp_path / "mer" / "made-up-audio-FRA" / "mosi0_1.npy", np.full((2, 6), np.nan))
    command = ["import", str(tmp_path / "mer"), "--format", "merbench", "--cache", str(tmp_path / "back"), "--corpus", "x"]
    assert main(command) == 2
    assert "audio features of 'mosi0[1]': 12 of 12 values are not finite" in capsys.readouterr().err
    assert list((tmp_path / "back").iterdir()) == []
