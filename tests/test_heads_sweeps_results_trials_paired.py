"""Paired tests of two configurations of a sweep, against the predictions of their runs."""

import numpy as np
import pandas as pd
import pytest
import small_sweeps
from small_sweeps import folders, key_of, make_sweep

from data.errors import InputError
from data.labels import EMOTIONS
from heads.evaluation.intervals import difference, resampled
from heads.evaluation.metrics import emotion_metrics, sentiment_metrics
from heads.sweeps.results.trials import collect, paired, pairs


def compared(metrics, prediction, other, truth, **options):
    """Metric → by how much one prediction differs from another, both on the same drawn rows."""
    first, second = (resampled(metrics, side, truth, **options) for side in (prediction, other))
    return {name: difference(first[name], second[name]) for name in first}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A sweep that tests must not change."""
    return make_sweep(tmp_path_factory.mktemp("paired"))


@pytest.fixture(scope="module")
def table(sweep):
    return collect(sweep)


def predictions(sweep, key, seed):
    (path,) = (sweep / "trials").glob(f"*-{key}-seed{seed}")
    return pd.read_parquet(path / "predictions.parquet")


def test_a_paired_test_of_one_seed_is_that_of_its_predictions(sweep):
    a, b = key_of(sweep, head="ridge"), key_of(sweep, task="msa")
    first, second = predictions(sweep, a, 1), predictions(sweep, b, 1)
    expected = compared(
        sentiment_metrics, *(one["sentiment"].to_numpy(float) for one in (first, second)), first["sentiment_true"].to_numpy(float)
    )["mae"]
    assert paired(sweep, a, b, "mae") == (*expected, (1,), len(first))


@pytest.mark.parametrize("metric", ["corr", "mean_wf1", "fear_acc"])
def test_a_paired_test_of_several_seeds_is_of_their_mean(sweep, metric, table):
    a, b = (key_of(sweep, train__lr=lr, seed=1, task="both", head="pre-fusion") for lr in small_sweeps.RATES)
    found = paired(sweep, a, b, metric)
    values = table[table["status"] == "complete"].groupby("key")[f"valid.{metric}"].mean()
    assert found.difference == pytest.approx(values[a] - values[b])
    assert found.seeds == (1, 2)
    assert found.low <= found.high
    turned = paired(sweep, b, a, metric)
    assert (turned.difference, turned.p_value) == (pytest.approx(-found.difference), found.p_value)
    assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))


def test_resamples_are_drawn_for_all_seeds_together(sweep):
    a, b = (key_of(sweep, train__lr=lr, seed=1, task="both", head="pre-fusion") for lr in small_sweeps.RATES)
    tables = [[predictions(sweep, key, seed) for seed in (1, 2)] for key in (a, b)]
    truth = tables[0][0][[f"{emotion}_true" for emotion in EMOTIONS]].to_numpy(float)

    def mean(values, truth, weights):
        found = [emotion_metrics(one, truth, weights=weights)["mean_acc"] for one in values.transpose(1, 0, 2)]
        return {"mean_acc": (found[0] + found[1]) / 2}

    stacked = [np.stack([one[list(EMOTIONS)].to_numpy(float) for one in side], 1) for side in tables]
    assert paired(sweep, a, b, "mean_acc")[:4] == pytest.approx(tuple(compared(mean, *stacked, truth)["mean_acc"]))


def test_a_configuration_does_not_differ_from_itself(sweep):
    key = key_of(sweep, head="ridge")
    assert paired(sweep, key, key, "mae")[:4] == (0.0, 0.0, 0.0, 1.0)


def test_pairs_that_cannot_be_tested_say_why(sweep):
    ridge, msa, pruned = (key_of(sweep, **wanted) for wanted in ({"head": "ridge"}, {"task": "msa"}, {"status": "pruned"}))
    found = pairs(sweep, [ridge, msa, pruned], "mean_wf1")
    assert found[["a", "b"]].to_numpy().tolist() == [[ridge, msa], [ridge, pruned], [msa, pruned]]
    assert found["note"][0] == f"Configuration {msa} predicts no emotions."
    assert (
        found["note"][1]
        == f"{sweep}: configurations {ridge} and {pruned} have no complete trial of the same seed, so they cannot be paired."
    )
    assert found["difference"].isna().all()


def test_utterances_and_labels_must_be_the_same(sweep, tmp_path):
    copy = small_sweeps.copied(sweep, tmp_path / "copy")
    (folder,) = folders(copy, head="ridge")
    path = folder.path / "predictions.parquet"
    table, (a, b) = pd.read_parquet(path), (key_of(copy, head="ridge"), key_of(copy, task="msa"))
    before = paired(copy, a, b, "mae")
    table.iloc[::-1].to_parquet(path)
    assert paired(copy, a, b, "mae").difference == pytest.approx(before.difference)
    for other in (table.assign(sentiment_true=table["sentiment_true"] + 1), table.iloc[1:]):
        other.to_parquet(path)
        with pytest.raises(InputError, match=r"were validated on other utterances or labels, so they are no pair\.$"):
            paired(copy, a, b, "mae")


def test_unknown_keys_and_metrics_are_refused(sweep):
    key = key_of(sweep, head="ridge")
    with pytest.raises(InputError, match=r"no trial of configuration '\*'\. Keys are in the column key of trials\.parquet\.$"):
        paired(sweep, key, "*", "mae")
    with pytest.raises(InputError, match=r"Unknown metric 'loss'"):
        paired(sweep, key, key, "loss")


def test_utterances_without_a_label_of_what_is_compared_do_not_matter(sweep, tmp_path):
    copy = small_sweeps.copied(sweep, tmp_path / "copy")
    a, b = key_of(copy, head="ridge"), key_of(copy, task="msa")
    before = paired(copy, a, b, "mae")
    path = folders(copy, head="ridge")[0].path / "predictions.parquet"
    table = pd.read_parquet(path)
    unlabelled = table.iloc[:1].assign(utterance_id="more", sentiment_true=np.float32(np.nan))
    pd.concat([table, unlabelled]).to_parquet(path)
    assert paired(copy, a, b, "mae") == before
