"""From a run to results: what is read, what is written, what is refused."""

import numpy as np
import pandas as pd
import pytest
import small_runs
import torch
from caches import make_cache

from data.cache import open_corpus
from data.errors import InputError
from data.labels import EMOTIONS
from data.manifest import read_manifest
from data.targets import load_targets
from data.tensors import CorpusTensors
from heads.evaluation.metrics import emotion_metrics, sentiment_metrics
from heads.runs.evaluate import FinishedRuns, evaluate, predict, reopen
from heads.runs.folder import RunFolder, run_folder
from heads.training.fit import fit

CPU = torch.device("cpu")


def predictions_of(folder, cache, corpus):
    """The predictions of a run for a corpus of a cache; None: its own."""
    return predict(reopen(folder, cache, CPU, corpus), folder, cache)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Corpora: mosi, with emotions; clips, with no label."""
    folder = make_cache(tmp_path_factory.mktemp("cache"), utterances=24)
    return make_cache(folder, corpus="clips", utterances=9, seed=4, labelled=False)


@pytest.fixture(scope="module")
def complete(cache, tmp_path_factory):
    """A run of pre-fusion. Not to be changed."""
    return small_runs.run(cache, tmp_path_factory.mktemp("runs"))


@pytest.fixture
def own(cache, tmp_path):
    """A run of pre-fusion, to be changed."""
    return small_runs.run(cache, tmp_path / "runs")


@pytest.mark.parametrize("head", ["pre-fusion", "median"])
def test_evaluation_of_test_is_recorded_and_can_be_recomputed(cache, tmp_path, head):
    folder = small_runs.run(cache, tmp_path, head)
    before = folder.metrics()
    metrics = evaluate(reopen(folder, None, CPU), folder, "test")
    assert metrics == folder.metrics()
    assert {name: metrics[name] for name in before} == before
    table = pd.read_parquet(folder.path / "predictions-test.parquet")
    manifest = read_manifest(open_corpus(cache, "mosi").manifest).set_index("utterance_id")
    assert table["utterance_id"].tolist() == manifest.index[manifest["split"] == "test"].tolist()
    true = manifest.loc[table["utterance_id"]]
    expected = sentiment_metrics(table["sentiment"].to_numpy(float), true["sentiment"].to_numpy(np.float32).astype(float))
    expected |= emotion_metrics(table[list(EMOTIONS)].to_numpy(), true[list(EMOTIONS)].to_numpy())
    found = {name: np.nan if value is None else value for name, value in metrics["test"].items()}
    assert found == pytest.approx(expected, nan_ok=True, rel=1e-12)
    assert pd.read_csv(folder.path / "opened.csv")[["split", "checkpoint"]].to_numpy().tolist() == [["test", "checkpoint"]]


def test_runs_that_read_the_same_share_their_features(cache, tmp_path, monkeypatch):
    """Features of other data are let go; labels may differ."""
    changes = [{}, {"seed": 2}, {"data.emotions": "annotated"}, {"data.text_limit": 3}, {"data.text_limit": 3, "seed": 2}]
    folders = [small_runs.run(cache, tmp_path, changes={**one, "train.max_epochs": 1}) for one in changes]
    alone = [evaluate(reopen(folder, None, CPU), folder, "valid")["valid"] for folder in folders]
    loads, load = [], CorpusTensors.load

    def noted(*arguments: object, **options: object) -> CorpusTensors:
        loads.append(options["limits"])
        return load(*arguments, **options)

    monkeypatch.setattr(CorpusTensors, "load", noted)
    finished = FinishedRuns(None, CPU)
    assert [evaluate(finished.reopen(folder), folder, "valid")["valid"] for folder in folders] == alone
    assert [limits["text"] for limits in loads] == [96, 3]


def test_evaluation_of_valid_gives_what_training_gave(own):
    before = own.metrics()
    metrics = evaluate(reopen(own, None, CPU), own, "valid")
    assert metrics["valid"] == pytest.approx(before["valid"], rel=1e-6)


def test_every_checkpoint_has_results_of_its_own(own):
    made = reopen(own, None, CPU)
    parameters = {name: torch.zeros_like(value) for name, value in own.load_checkpoint("checkpoint.safetensors").items()}
    own.save_checkpoint("best-mae.safetensors", parameters)
    evaluate(made, own, "test")
    metrics = evaluate(made, own, "test", "best-mae")
    assert metrics["test-best-mae"]["mae"] == pytest.approx(
        np.abs(made.tensors.targets.sentiment[made.tensors.targets.rows("test")]).mean()
    )
    assert metrics["test-best-mae"] != metrics["test"]
    assert (own.path / "predictions-test-best-mae.parquet").exists()
    assert pd.read_csv(own.path / "opened.csv")["checkpoint"].tolist() == ["checkpoint", "best-mae"]


def test_a_checkpoint_of_another_head_is_refused(own):
    own.save_checkpoint("best-mae.safetensors", {"weight": torch.zeros(3)})
    with pytest.raises(InputError, match=r"best-mae\.safetensors: not of this head \("):
        evaluate(reopen(own, None, CPU), own, "test", "best-mae")
    assert not (own.path / "opened.csv").exists()


def test_a_floor_has_one_checkpoint(cache, tmp_path):
    folder = small_runs.run(cache, tmp_path, "median")
    with pytest.raises(InputError, match=r"a simple baseline has no checkpoint 'best-mae'\. Leave out --checkpoint\.$"):
        evaluate(reopen(folder, None, CPU), folder, "test", "best-mae")


def test_a_cache_that_was_moved_is_given(cache, own, tmp_path):
    elsewhere = cache.rename(tmp_path / "elsewhere")
    try:
        with pytest.raises(InputError, match="no such folder, expected a cache"):
            reopen(own, None, CPU)
        assert reopen(own, elsewhere, CPU).tensors.dims == {"text": 8, "audio": 6}
    finally:
        elsewhere.rename(cache)


def test_predictions_for_an_unlabelled_corpus(cache, complete):
    table = predictions_of(complete, None, "clips")
    assert table["utterance_id"].tolist() == list(load_targets(open_corpus(cache, "clips")).ids)
    assert table["sentiment"].notna().all()
    assert table["sentiment_true"].isna().all()
    assert ((table[list(EMOTIONS)] > 0) & (table[list(EMOTIONS)] < 1)).all(axis=None)


def test_predictions_for_another_cache_are_those_of_its_features(cache, complete, tmp_path):
    other = make_cache(tmp_path, corpus="clips", utterances=9, seed=4, labelled=False)
    pd.testing.assert_frame_equal(predictions_of(complete, other, "clips"), predictions_of(complete, None, "clips"))
    third = make_cache(tmp_path / "third", corpus="clips", utterances=9, seed=5, labelled=False)
    assert not np.allclose(predictions_of(complete, third, "clips")["sentiment"], predictions_of(complete, None, "clips")["sentiment"])


def test_predictions_for_the_runs_own_corpus_cover_all_splits(complete):
    table = predictions_of(complete, None, None).set_index("utterance_id")
    assert len(table) == 24
    valid = pd.read_parquet(complete.path / "predictions.parquet").set_index("utterance_id")
    np.testing.assert_allclose(table.loc[valid.index, "sentiment"], valid["sentiment"], atol=1e-5)


def test_predictions_do_not_bring_the_labels_of_the_test_split_with_them(cache, complete):
    """Only what opens that split and says so shows them."""
    targets, table = load_targets(open_corpus(cache, "mosi")), predictions_of(complete, None, None)
    is_test = targets.split == "test"
    truths = [name for name in table if name.endswith("_true")]
    assert truths == [f"{name}_true" for name in ("sentiment", *EMOTIONS)]
    assert table.loc[is_test, truths].isna().all(axis=None)
    assert np.array_equal(table.loc[~is_test, "sentiment_true"], targets.sentiment[~is_test])
    assert np.array_equal(table.loc[~is_test, "fear_true"], targets.emotions[~is_test, -1])


def test_a_floor_predicts_another_corpus_by_what_it_learned_from_its_own(cache, tmp_path):
    folder = small_runs.run(cache, tmp_path, "median")
    targets = load_targets(open_corpus(cache, "mosi"))
    table = predictions_of(folder, None, "clips")
    assert table["sentiment"].tolist() == pytest.approx([np.median(targets.sentiment[targets.rows("train")])] * 9)


def test_features_of_another_width_are_refused(complete, tmp_path):
    other = make_cache(tmp_path, corpus="clips", audio_dim=5)
    with pytest.raises(InputError) as refused:
        predictions_of(complete, other, "clips")
    expected = (
        f"clips-audio.h5: not made as the audio features that {complete.path} was trained on: dim is 5, not 6. Build the cache with"
    )
    assert expected in str(refused.value)


def test_features_of_another_encoder_are_refused(complete, tmp_path):
    other = make_cache(tmp_path, corpus="clips")
    content = complete.config()
    content["encoders"]["text"] |= {"encoder": {"name": "roberta-base"}, "identity": {"layer": -1, "case": "sentence"}}
    folder = RunFolder(tmp_path / "run")
    folder.begin(content)
    with pytest.raises(InputError) as refused:
        reopen(folder, other, CPU, "clips")
    assert "clips-text.h5: not made as the text features that" in str(refused.value)
    assert "encoder is 'made up', not None; encoder.name is None, not 'roberta-base'; identity.layer is None, not -1. " in str(
        refused.value
    )


def test_an_unfinished_run_has_no_results(cache, tmp_path):
    made = small_runs.run_data(cache)
    folder = run_folder(made.config, tmp_path)

    def stop(steps: int, note: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(made, folder, stop)
    for use in (lambda: evaluate(reopen(folder, None, CPU), folder, "test"), lambda: predictions_of(folder, None, None)):
        with pytest.raises(InputError, match="this run is not complete"):
            use()
    assert [path.name for path in folder.path.iterdir()] == ["config.json"]
