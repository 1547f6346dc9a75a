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
from data.targets import load_targets
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


@pytest.mark.parametrize("name", ["mmsa", "merbench", "csd", "npz", "parquet", "webdataset"])
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

    command = ["export", str(cache), "mosi", "--format", name, "--out", str(tmp_path / ("mosi.npz" if name == "npz" else "mosi"))]
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


@pytest.mark.parametrize("name", ["npz", "parquet", "webdataset"])
def test_a_general_format_is_written_from_the_same_options_as_an_import_takes(cache, tmp_path, monkeypatch, name):
    outs = [tmp_path / f"one.{name}", tmp_path / f"two.{name}"]
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(cache), "mosi", "--format", name, "--out", str(outs[0])]) == 0
    assert main(["export", "--corpus", "mosi", "--format", name, "--out", str(outs[1])]) == 0, "cache is the default of --cache"
    found = [
        {path.relative_to(out).as_posix(): path.read_bytes() for path in out.rglob("*") if path.is_file()} or {"": out.read_bytes()}
        for out in outs
    ]
    assert found[0].keys() == found[1].keys()
    assert {name for name in found[0] if found[0][name] != found[1][name]} == set()


def test_pseudo_labels_are_exported_where_the_format_has_emotions_and_come_back(tmp_path, capsys):
    made = make_cache(tmp_path / "cache", utterances=12, emotions=False, ledger=True)
    given = ["export", str(made), "mosi", "--emotions", "pseudo"]
    assert main([*given, "--format", "merbench", "--out", str(tmp_path / "mer")]) == 0
    assert "emotions: pseudo-labels, which no person has annotated; " in capsys.readouterr().out
    assert main(["import", str(tmp_path / "mer"), "--format", "merbench", "--cache", str(tmp_path / "back"), "--corpus", "mosi"]) == 0
    found, expected = load_targets(open_corpus(tmp_path / "back", "mosi")), load_targets(open_corpus(made, "mosi"), "pseudo")
    np.testing.assert_allclose(found.emotions, expected.emotions, rtol=1e-6)
    capsys.readouterr()
    refused = {
        (*given, "--format", "mmsa", "--out", "x.pkl"): "--emotions is pseudo, but the format mmsa has no emotions. Leave it out.",
        ("export", str(made), "mosi", "--minimum-similarity", "0.5", "--format", "npz", "--out", "x.npz"): (
            "--minimum-similarity is about --emotions pseudo, which is not given."
        ),
        (
            "export",
            str(made),
            "--format",
            "npz",
            "--out",
            "x.npz",
        ): f"{made}: expected CACHE CORPUS, or --cache DIR --corpus NAME instead.",
        ("export", "--format", "npz", "--out", "x.npz"): "Which corpus? Give --corpus NAME.",
        (
            "export",
            str(made),
            "mosi",
            "--modality",
            "visoin",
            "--format",
            "npz",
            "--out",
            "x.npz",
        ): "Unknown features of mosi 'visoin'.",
        ("export", str(made), "mosi", "--modality", "vision", "--format", "merbench", "--out", "x"): (
            "--modality is 'vision', but the format merbench holds text, audio only."
        ),
    }
    for command, message in refused.items():
        assert main([*command]) == 2
        assert message in capsys.readouterr().err


def test_features_of_another_tool_are_exported_by_their_name(cache, tmp_path, capsys):
    utterances = read_manifest(open_corpus(cache, "mosi").manifest)["utterance_id"]
    (tmp_path / "faces").mkdir()
    for number, utterance in enumerate(utterances[1:]):
        np.save(tmp_path / "faces" / f"{utterance}.npy", np.full((2, 3), number, np.float32))
    joined = ["--cache", str(cache), "--corpus", "mosi", "--modality", "vision", "--missing", "exclude"]
    assert main(["import", str(tmp_path / "faces"), "--format", "npy", *joined]) == 0
    given = ["export", str(cache), "mosi", "--modality", "text", "vision"]
    assert main([*given, "--format", "npz", "--out", str(tmp_path / "mosi.npz")]) == 0
    assert "left out: 1 without vision features" in capsys.readouterr().out
    with np.load(tmp_path / "mosi.npz") as found:
        assert found["utterance_id"].tolist() == utterances[1:].tolist()
        assert found["vision_features"][::2, 0].tolist() == list(range(23))
        assert "audio_features" not in found
    assert main([*given, "--format", "mmsa", "--out", str(tmp_path / "mosi.pkl")]) == 0
    assert "one step of zeros: audio" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "path"), [("mmsa", "mosi-mmsa.pkl"), ("npz", "mosi-npz.npz"), ("webdataset", "mosi-webdataset")])
def test_an_export_has_a_place_without_out(cache, tmp_path, capsys, monkeypatch, name, path):
    monkeypatch.chdir(tmp_path)
    for status in (0, 2):  # what exists is never written over
        assert main(["export", str(cache), "mosi", "--format", name]) == status
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == f"wrote exports/{path}"
    assert f"exports/{path}" in err
    assert (tmp_path / "exports" / path).exists()
