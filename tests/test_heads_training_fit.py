"""Training of one run: the data it reads, the files it writes, the input it refuses."""

import json

import numpy as np
import pandas as pd
import pytest
import small_runs
import torch
from caches import make_cache
from feature_files import replace_values

from data.cache import open_corpus
from data.errors import InputError
from data.labels import EMOTIONS
from data.manifest import read_manifest, write_manifest
from data.targets import load_targets
from heads.evaluation.metrics import emotion_metrics
from heads.runs.folder import run_folder
from heads.training.fit import facts, fit, steps, with_seed

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Corpora: mosi, with emotions and a ledger; bare, with sentiment and a ledger; clips, with no label."""
    folder = make_cache(tmp_path_factory.mktemp("cache"), utterances=24, ledger=True)
    make_cache(folder, corpus="bare", utterances=24, emotions=False, ledger=True)
    return make_cache(folder, corpus="clips", utterances=9, seed=4, labelled=False)


@pytest.fixture(scope="module")
def complete(cache, tmp_path_factory):
    """A complete run of pre-fusion; tests must not change it."""
    return small_runs.run(cache, tmp_path_factory.mktemp("runs"))


@pytest.fixture
def own(cache, tmp_path):
    """A complete run of pre-fusion that a test may change."""
    return small_runs.run(cache, tmp_path / "runs")


def change_manifest(cache, change, corpus="mosi"):
    found = open_corpus(cache, corpus)
    write_manifest(found.manifest, change(read_manifest(found.manifest)), {"corpus": corpus})


@pytest.mark.parametrize(
    ("corpus", "task", "asked", "used"),
    [
        ("mosi", "both", "auto", "annotated"),
        ("bare", "both", "auto", "pseudo"),
        ("bare", "mer", "auto", "pseudo"),
        ("bare", "msa", "auto", "annotated"),
        ("clips", "both", "auto", "annotated"),
        ("mosi", "both", "pseudo", "pseudo"),
        ("bare", "both", "annotated", "annotated"),
    ],
)
def test_emotions_are_those_of_the_corpus_if_it_has_any(cache, corpus, task, asked, used):
    made = small_runs.run_data(cache, changes={"task": task, "data.emotions": asked}, corpus=corpus)
    assert made.config.data.emotions == used
    expected = load_targets(open_corpus(cache, corpus), used).emotions
    np.testing.assert_array_equal(made.tensors.targets.emotions, expected)


def test_where_emotions_come_from_is_decided_on_the_training_split(tmp_path):
    cache = make_cache(tmp_path, ledger=True)
    change_manifest(cache, lambda table: table.assign(**{e: table[e].where(table["split"] == "test") for e in EMOTIONS}))
    assert small_runs.run_data(cache).config.data.emotions == "pseudo"


def test_pseudo_emotions_join_by_name_and_count_from_a_similarity_on(cache, tmp_path):
    changes = {"data.emotions": "pseudo", "data.minimum_similarity": 0.25}
    made = small_runs.run_data(cache, changes=changes)
    ledger = pd.read_parquet(open_corpus(cache, "mosi").pseudo_labels).set_index("utterance_id").loc[list(made.tensors.targets.ids)]
    expected = ledger[list(EMOTIONS)].where(ledger["similarity"] >= 0.25).to_numpy(np.float32)
    np.testing.assert_array_equal(made.tensors.targets.emotions, expected)
    folder = run_folder(made.config, tmp_path)
    fit(made, folder)
    assert folder.config()["config"]["data"]["emotions"] == "pseudo"
    assert folder.config()["pseudo_labels"] == "mosi.parquet"
    table = pd.read_parquet(folder.path / "predictions.parquet").set_index("utterance_id")
    rows = [made.tensors.targets.ids.index(name) for name in table.index]
    np.testing.assert_array_equal(table[[f"{emotion}_true" for emotion in EMOTIONS]], expected[rows])
    known = ~np.isnan(expected[rows]).any(1)
    metrics = emotion_metrics(table[list(EMOTIONS)].to_numpy()[known], expected[rows][known])
    assert folder.metrics()["valid"]["mean_ap"] == pytest.approx(metrics["mean_ap"])


def test_emotions_that_nobody_gave_are_missed_by_name(tmp_path):
    made = small_runs.run_data(make_cache(tmp_path / "cache", emotions=False))
    folder = run_folder(made.config, tmp_path / "runs")
    with pytest.raises(
        InputError,
        match=r"^mosi: none of \d+ utterances of train has annotated emotion labels, which task .* needs\. ",
    ):
        fit(made, folder)
    assert small_runs.run(tmp_path / "cache", tmp_path, changes={"task": "msa"}).metrics()["task"] == "msa"


def test_facts_say_what_is_read(cache):
    made = small_runs.run_data(cache, corpus="bare")
    assert facts(made) == "11 train + 9 valid utterances, pseudo emotions, text + audio features on cpu"
    text = small_runs.run_data(cache, changes={"task": "msa", "data.modalities": ["text"]})
    assert facts(text) == "11 train + 9 valid utterances, text features on cpu"


@pytest.mark.parametrize(("size", "accumulate", "expected"), [(8, 1, 6), (5, 1, 9), (5, 2, 6), (12, 4, 3)])
def test_steps_are_those_of_all_epochs(cache, size, accumulate, expected):
    assert steps(small_runs.run_data(cache, changes={"train.batch_size": size, "train.accumulate": accumulate})) == expected
    assert steps(small_runs.run_data(cache, "median")) == 0


def test_a_complete_run_is_left_as_it_is(cache, own):
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in own.path.iterdir()}
    made = small_runs.run_data(cache)
    assert fit(made, own) == own.metrics()
    assert {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in own.path.iterdir()} == before


def test_a_run_says_what_it_read(cache, complete):
    content = complete.config()
    assert content["config"] == json.loads(json.dumps(small_runs.run_data(cache).config.as_dict()))
    assert (content["manifest"], content["features"]) == ("mosi.parquet", {"text": "mosi-text.h5", "audio": "mosi-audio.h5"})
    assert content["pseudo_labels"] is None
    assert content["encoders"]["text"] == {"encoder": "made up", "identity": {}, "dim": 8}
    assert content["made"]["cache"] == str(cache.resolve())
    assert content["made"]["packages"]["torch"] == torch.__version__
    assert (content["made"]["device"], content["made"]["threads"]) == ("cpu", torch.get_num_threads())


def test_the_chosen_metric_must_be_defined(cache, tmp_path):
    """A corpus whose validation sentiments are all equal has no correlation."""
    made = small_runs.run_data(make_cache(tmp_path / "cache"), changes={"train.select": "corr"})
    made.tensors.targets.sentiment[made.tensors.targets.rows("valid")] = 1.0
    with pytest.raises(InputError) as refused:
        fit(made, run_folder(made.config, tmp_path))
    expected = "train.select is 'corr', which was a number in none of 3 epochs of task 'both'. Choose loss, or a metric of that task."
    assert str(refused.value) == expected


def test_a_simple_baseline_keeps_what_it_chose_and_no_parameters(cache, tmp_path):
    folder = small_runs.run(cache, tmp_path, "ridge")
    assert sorted(path.name for path in folder.path.iterdir()) == ["config.json", "metrics.json", "predictions.parquet"]
    assert set(folder.metrics()["chosen"]) == {"sentiment", *EMOTIONS}
    assert folder.metrics()["valid"]["mae"] < small_runs.run(cache, tmp_path, "median").metrics()["valid"]["mae"]


def test_the_test_split_has_no_part_in_a_simple_baseline(cache, tmp_path):
    other = make_cache(tmp_path / "cache", utterances=24, ledger=True)
    change_manifest(other, lambda table: table.assign(sentiment=table["sentiment"].mask(table["split"] == "test", -3.0)))
    corpus = open_corpus(other, "mosi")
    rows = load_targets(corpus).rows("test")
    replace_values(corpus.features["text"], rows, 9)
    first, second = small_runs.run(cache, tmp_path / "a", "ridge"), small_runs.run(other, tmp_path / "b", "ridge")
    for name in ("metrics.json", "predictions.parquet"):
        assert (first.path / name).read_bytes() == (second.path / name).read_bytes()


def test_another_seed_is_checked(cache):
    made = small_runs.run_data(cache)
    assert with_seed(made, 7).config.seed == 7
    with pytest.raises(InputError, match=r"^--seed: seed is -1, expected 0 to 4294967295\.$"):
        with_seed(made, -1)
