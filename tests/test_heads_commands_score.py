"""`python -m heads score`: another tool's predictions are measured as our own are."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import small_runs
from caches import make_cache
from command_line import call, content, emotion_rows, interval_row, printed, sentiment_row
from predictions import made_up, written

from data.cache import open_corpus
from data.labels import EMOTIONS
from data.manifest import read_manifest
from heads.evaluation.metrics import SENTIMENT_METRICS
from heads.runs.folder import RunFolder


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("cache"), utterances=24)


@pytest.fixture(scope="module")
def table(cache):
    """The manifest of the corpus."""
    return read_manifest(open_corpus(cache, "mosi").manifest)


@pytest.mark.parametrize("split", ["valid", "test"])
@pytest.mark.parametrize("head", ["pre-fusion", "ridge"])
def test_our_own_predictions_score_as_evaluate_says(capsys, cache, tmp_path, head, split):
    folder = small_runs.run(cache, tmp_path / "runs", head).path
    assert call(capsys, "evaluate", folder, "--split", split, "--device", "cpu")[0] == 0
    frame = pd.read_parquet(folder / f"predictions-{split}.parquet").rename(columns={"utterance_id": "id"})
    path = written(tmp_path / "theirs.csv", frame)
    before = content(folder)
    status, out, err = call(capsys, "score", path, "--cache", cache, "--corpus", "mosi", "--split", split)
    assert (status, err) == (0, "")
    metrics = RunFolder(folder).metrics()
    rows = {"theirs": sentiment_row(metrics[split]), "95 % interval": interval_row(metrics[f"{split}_interval"])}
    assert printed(out, f"sentiment, {split}") == rows
    assert printed(out, f"emotions, {split}: theirs") == emotion_rows(metrics[split])
    assert content(folder) == before


def test_several_files_stand_side_by_side_each_with_its_interval(capsys, cache, table, tmp_path):
    paths = [tmp_path / "mfn-seed1.csv", tmp_path / "mfn-seed2.csv"]
    for seed, path in enumerate(paths):
        written(path, made_up(table, seed)[["id", "sentiment"]])
    status, out, _ = call(capsys, "score", *paths, paths[0], "--cache", cache, "--corpus", "mosi")
    assert status == 0
    rows = printed(out, "sentiment, valid")
    assert list(rows) == [
        "mfn-seed1",
        "mfn-seed2",
        "mfn, mean ± sd of 2",
        "mfn-seed1, 95 % interval",
        "mfn-seed2, 95 % interval",
    ]
    assert "emotions" not in out
    for seed, path in enumerate(paths):
        frame = made_up(table, seed).sort_index()[table["split"] == "valid"]
        mae = np.abs(frame["sentiment"] - table.loc[frame.index, "sentiment"]).mean()
        assert rows[path.stem]["mae"] == f"{mae:.3f}"
        alone = printed(call(capsys, "score", path, "--cache", cache, "--corpus", "mosi")[1], "sentiment, valid")
        assert alone == {path.stem: rows[path.stem], "95 % interval": rows[f"{path.stem}, 95 % interval"]}


def test_files_of_one_name_are_shown_by_their_paths(capsys, cache, table, tmp_path):
    paths = [tmp_path / name / "predictions.csv" for name in ("mfn", "tfn")]
    for path in paths:
        path.parent.mkdir()
        written(path, made_up(table))
    out = call(capsys, "score", *paths, "--cache", cache, "--corpus", "mosi")[1]
    assert list(printed(out, "sentiment, valid"))[:2] == [*map(str, paths)]


def test_pseudo_emotions_count_where_there_are_no_others(capsys, table, tmp_path):
    own = make_cache(tmp_path / "cache", emotions=False, ledger=True)
    path = open_corpus(own, "mosi").pseudo_labels
    assert path is not None
    ledger = pd.read_parquet(path).set_index("utterance_id").loc[table["utterance_id"]]
    truth = (ledger[list(EMOTIONS)] > 0).astype(float).reset_index(names="id")
    out = call(capsys, "score", written(tmp_path / "a.csv", truth), "--cache", own, "--corpus", "mosi")[1]
    assert "sentiment" not in out
    assert {row["acc"] for row in printed(out, "emotions (pseudo-labels), valid: a").values()} == {"1.000"}


def test_the_labels_of_emotions_can_be_chosen(capsys, table, tmp_path):
    own = make_cache(tmp_path / "cache", ledger=True)
    truth = (table.set_index("utterance_id")[list(EMOTIONS)] > 0).astype(float).reset_index(names="id")
    command = ["score", written(tmp_path / "a.csv", truth), "--cache", own, "--corpus", "mosi"]
    for chosen in ([], ["--emotions", "annotated"]):
        assert {row["acc"] for row in printed(call(capsys, *command, *chosen)[1], "emotions, valid: a").values()} == {"1.000"}
    rows = printed(call(capsys, *command, "--emotions", "pseudo")[1], "emotions (pseudo-labels), valid: a")
    assert {row["acc"] for row in rows.values()} != {"1.000"}
    assert call(capsys, *command[:3], make_cache(tmp_path / "none"), *command[4:], "--emotions", "pseudo")[0] == 2


def test_labels_are_enough(capsys, table, tmp_path):
    own = make_cache(tmp_path / "cache")
    path = written(tmp_path / "a.csv", made_up(table))
    command = ["score", path, "--cache", own, "--corpus", "mosi"]
    expected = call(capsys, *command)
    index = json.loads((own / "index.json").read_text())
    index["corpora"]["mosi"]["features"] = {}
    (own / "index.json").write_text(json.dumps(index))
    assert call(capsys, *command) == expected
    assert expected[0] == 0


def test_constant_predictions_have_a_dash_for_their_correlation(capsys, cache, table, tmp_path):
    path = written(tmp_path / "zero.csv", made_up(table)[["id"]].assign(sentiment=0))
    rows = printed(call(capsys, "score", path, "--cache", cache, "--corpus", "mosi")[1], "sentiment, valid")
    assert [rows[name]["corr"] for name in ("zero", "95 % interval")] == ["–", "–"]
    assert set(rows["zero"]) == set(SENTIMENT_METRICS)


def test_a_corpus_with_text_only_and_files_that_are_none(capsys, table, tmp_path):
    own = make_cache(tmp_path / "cache")
    index = own / "index.json"
    index.write_text(re.sub(r', "audio": "[^"]*"', "", index.read_text()))
    path = written(tmp_path / "a.csv", made_up(table))
    assert call(capsys, "score", path, "--cache", own, "--corpus", "mosi")[0] == 0
    for wrong, message in {tmp_path / "b.csv": "cannot be read (No such file", own / "features" / "mosi-text.h5": "not UTF-8"}.items():
        status, out, err = call(capsys, "score", wrong, "--cache", own, "--corpus", "mosi")
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert message in err


def test_the_help_says_who_answers_for_the_test_split(capsys):
    with pytest.raises(SystemExit):
        call(capsys, "score", "--help")
    said = " ".join(capsys.readouterr().out.split())
    assert "the tool that made the predictions is responsible for what its epoch and settings were chosen on" in said
    assert "<video_id>$_$<clip_id>" in said
