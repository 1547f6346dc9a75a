"""Tables of trials, compared with the run folders."""

import json

import numpy as np
import pandas as pd
import pytest
import small_sweeps
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from small_sweeps import ERROR, folders, make_sweep

from data.errors import InputError
from heads.sweeps.results.trials import applies, collect, ranked, remedy, varied, write_trials


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A sweep that tests must not change."""
    return make_sweep(tmp_path_factory.mktemp("trials"))


@pytest.fixture(scope="module")
def table(sweep):
    return collect(sweep)


def made_up(values):
    """Make a table of trials from (lr, seed, status, mae)."""
    rows = [
        {"name": f"{lr}-{seed}", "status": status, "key": f"k{lr}", "head": "pre-fusion", "corpus": "mosi", "preset": "light"}
        | {"task": "msa", "seed": seed, "train.lr": lr, "valid.mae": mae, "valid.corr": mae}
        | {"valid_low.mae": mae - 0.1, "valid_high.mae": mae + 0.2, "parameters": 10, "epochs": seed, "seconds": 2.0 * seed}
        for lr, seed, status, mae in values
    ]
    return pd.DataFrame(rows)


def test_there_is_one_row_a_trial_with_its_status_and_error(table, sweep):
    assert table["name"].tolist() == sorted(path.name for path in (sweep / "trials").iterdir())
    assert table["status"].value_counts().to_dict() == {"complete": 6, "pruned": 1, "failed": 1, "unfinished": 1}
    assert table.loc[table["status"] == "failed", "error"].tolist() == [ERROR]
    assert table.loc[table["status"] != "failed", "error"].isna().all()
    assert table.loc[table["status"] == "pruned", "train.lr"].tolist() == [0.3]
    assert table.loc[table["status"] == "unfinished", "train.lr"].tolist() == [0.0003]


def test_the_key_is_that_of_the_folder_and_of_the_configuration_without_its_seed(table):
    assert [f"-{key}-seed{seed}" in name for key, seed, name in zip(table["key"], table["seed"], table["name"], strict=True)] == [
        True
    ] * 9
    assert table["key"].nunique() == 7
    twice = table[table["train.lr"].isin(small_sweeps.RATES) & (table["head"] == "pre-fusion") & (table["task"] == "both")]
    assert twice.groupby("key")["seed"].apply(sorted).tolist() == [[1, 2], [1, 2]]


def test_every_option_is_a_column_and_lists_are_json(table, sweep):
    (folder,) = folders(sweep, task="msa")
    row = table.set_index("name").loc[folder.path.name]
    config = folder.config()["config"]
    assert row["corpus"] == "mosi"
    assert row["train.max_epochs"] == config["train"]["max_epochs"] == 2
    assert row["model.fusion.ffn"] == config["model"]["fusion"]["ffn"] == 8
    assert json.loads(row["model.output"]) == config["model"]["output"] == [8]
    assert json.loads(row["train.keep"]) == []
    assert (row["encoder.text"], row["device"]) == ("made up", "cpu")


def test_metrics_and_facts_are_those_of_the_run(table, sweep):
    (folder,) = folders(sweep, train__lr=0.03, seed=2, task="both")
    row, metrics = table.set_index("name").loc[folder.path.name], folder.metrics()
    history = pd.read_csv(folder.path / "history.csv")
    assert {name: row[f"valid.{name}"] for name in metrics["valid"]} == pytest.approx(metrics["valid"], nan_ok=True)
    assert [row["valid_low.mae"], row["valid_high.mae"]] == metrics["valid_interval"]["mae"]
    assert (row["parameters"], row["epochs"]) == (metrics["parameters"], 2)
    assert row["seconds"] == pytest.approx(history["seconds"].sum())
    assert row["valid.loss"] == history["valid_loss"].min() == metrics["selected"]["loss"]["value"]


def test_what_a_trial_does_not_have_is_missing(table):
    rows = table.set_index("head")
    assert rows.loc["ridge", ["seconds", "epochs", "model.dim", "valid.loss"]].isna().all()
    assert rows.loc["ridge", "valid.mae"] > 0
    assert table.loc[table["task"] == "msa", "valid.mean_wf1"].isna().all()
    assert table.loc[table["status"].isin(["failed", "unfinished"]), "valid.mae"].isna().all()
    assert not [name for name in table if name.startswith("test.")]


def test_test_metrics_are_there_once_the_split_was_opened(sweep, tmp_path):
    copy = small_sweeps.copied(sweep, tmp_path / "copy")
    (folder,) = folders(copy, head="ridge")
    folder.write_metrics(folder.metrics() | {"test": {"mae": 0.75, "corr": None}})
    found = collect(copy).set_index("head")
    assert found["test.mae"].dropna().to_dict() == {"ridge": 0.75}
    assert ranked(collect(copy), "mae").equals(ranked(collect(sweep), "mae"))


def test_what_lets_a_failed_trial_be_tried_again_is_said(sweep, tmp_path):
    copy = small_sweeps.copied(sweep, tmp_path / "copy")
    (failed,) = folders(copy, status="failed")
    name = failed.path.name
    assert remedy(copy, name) == f"To try it again, remove trials/{name}/failed.json and give the same command."
    failed.write_failure("cpu: out of memory", lacked_memory=True)
    assert remedy(copy, name) == "The same command tries it again."
    (copy / "study.log").touch()
    assert remedy(copy, name) == "A search trains no trial twice; it begins anew in another --out."


def test_a_failed_trial_that_was_repeated_is_complete(sweep, tmp_path):
    copy = small_sweeps.copied(sweep, tmp_path / "copy")
    folders(copy, task="msa")[0].write_failure("out of memory")
    assert collect(copy).set_index("task").loc["msa", ["status", "error"]].tolist() == ["complete", None]


def test_a_folder_without_a_configuration_is_unfinished(sweep, tmp_path):
    copy = small_sweeps.copied(sweep, tmp_path / "copy")
    (copy / "trials" / "mosi-mmolre-light-00000000-seed1").mkdir()
    found = collect(copy).set_index("name").loc["mosi-mmolre-light-00000000-seed1"]
    assert (found["status"], found["key"]) == ("unfinished", None)
    assert varied(collect(copy)) == varied(collect(sweep))


def test_trials_are_written_as_parquet(sweep, tmp_path):
    copy = small_sweeps.copied(sweep, tmp_path / "copy")
    written = write_trials(copy)
    found = pd.read_parquet(copy / "trials.parquet").astype(object)
    pd.testing.assert_frame_equal(found.where(found.notna(), None), written.astype(object).where(written.notna(), None))
    assert [path.name for path in copy.iterdir() if path.name.startswith(".")] == []


def test_an_encoder_is_named_and_a_device_is_text(sweep, tmp_path):
    copy = small_sweeps.copied(sweep, tmp_path / "copy")
    path = folders(copy, task="msa")[0].path / "config.json"
    content = json.loads(path.read_text())
    content["encoders"]["text"]["encoder"] = {"name": "small-bert", "trained": False}
    content["made"]["device"] = 3
    path.write_text(json.dumps(content))
    found = write_trials(copy).set_index("task").loc["msa"]
    assert (found["encoder.text"], found["device"]) == ("small-bert (untrained)", "3")
    assert set(pd.read_parquet(copy / "trials.parquet")["device"]) == {"cpu", "3"}


def test_a_folder_without_trials_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"trials: holds no trials\. Give the folder that a sweep wrote to\.$"):
        collect(tmp_path)


def test_what_varies_is_an_option_and_not_the_seed(table):
    assert varied(table) == ["head", "task", "train.lr"]
    assert varied(table[table["head"] == "ridge"]) == []


def test_an_option_that_is_set_and_not_set_varies():
    trials = made_up([(0.1, 1, "complete", 1.0), (0.1, 2, "complete", 2.0)])
    assert varied(trials.assign(**{"train.clip_norm": [None, 1.0]})) == ["train.clip_norm"]


def test_options_of_other_heads_and_of_simple_baselines_do_not_vary(table):
    trials = made_up([(0.1, 1, "complete", 1.0), (0.1, 2, "complete", 2.0), (0.5, 1, "complete", 3.0)])
    trials = trials.assign(head=["mmolre", "pre-fusion", "ridge"], **{"model.rank": [4, None, None]})
    assert varied(trials) == ["head"]
    assert applies(trials, "model.rank").tolist() == [True, False, False]
    assert applies(trials, "train.lr").tolist() == [True, True, False]
    assert varied(trials.assign(**{"model.rank": [4, 8, None]})) == ["head", "model.rank"]


def test_configurations_are_ranked_with_t_intervals_over_seeds(table):
    found = ranked(table, "mae")
    complete = table[table["status"] == "complete"]
    means = complete.groupby("key")["valid.mae"].mean().sort_values()
    assert found["key"].tolist() == means.index.tolist()
    np.testing.assert_allclose(found["mean"], means)
    for _, row in found.iterrows():
        seeds = complete.loc[complete["key"] == row["key"], "valid.mae"]
        assert row["seeds"] == len(seeds)
        if len(seeds) == 2:
            interval = stats.t.interval(0.95, 1, loc=seeds.mean(), scale=stats.sem(seeds))
            assert (row["low"], row["high"]) == pytest.approx(interval)
            assert (row["sd"], row["over"]) == (pytest.approx(np.std(seeds, ddof=1)), "seeds")


def test_a_single_seed_has_the_interval_of_its_run(table, sweep):
    (folder,) = folders(sweep, head="ridge")
    row = ranked(table, "corr").set_index("head").loc["ridge"]
    assert [row["low"], row["high"]] == folder.metrics()["valid_interval"]["corr"]
    assert (row["seeds"], row["over"]) == (1, "utterances")
    assert np.isnan(row["sd"])
    assert np.isnan(row["train.lr"])


def test_ranking_follows_the_direction_of_the_metric_and_leaves_out_what_is_not_complete():
    trials = made_up([(1, 1, "complete", 0.5), (2, 1, "complete", 0.7), (3, 1, "pruned", 0.1), (4, 1, "complete", np.nan)])
    assert ranked(trials, "mae")["key"].tolist() == ["k1", "k2", "k4"]
    assert ranked(trials, "corr")["key"].tolist() == ["k2", "k1", "k4"]


def test_parameters_epochs_and_seconds_are_means_over_seeds():
    trials = made_up([(1, 1, "complete", 0.5), (1, 2, "complete", 0.7)])
    row = ranked(trials, "mae").iloc[0]
    assert (row["parameters"], row["epochs"], row["seconds"]) == (10, 1.5, 3.0)


@given(st.lists(st.tuples(st.integers(1, 4), st.floats(0, 3)), min_size=1, max_size=12))
def test_every_complete_configuration_has_one_row_and_better_ones_come_first(values):
    trials = made_up([(lr, number, "complete", mae) for number, (lr, mae) in enumerate(values)])
    found = ranked(trials, "mae")
    assert sorted(found["key"]) == sorted(trials["key"].unique())
    assert found["mean"].is_monotonic_increasing
    assert found["seeds"].sum() == len(values)
    assert ((found["low"] <= found["mean"]) & (found["mean"] <= found["high"])).all()


@pytest.mark.parametrize(
    ("metric", "message"), [("maee", r"Unknown metric 'maee'\. Did you mean 'mae'"), ("acc2_non0", r"No complete trial")]
)
def test_an_unknown_metric_or_one_that_nothing_has_is_refused(metric, message):
    with pytest.raises(InputError, match=message):
        ranked(made_up([(1, 1, "complete", 0.5)]), metric)
