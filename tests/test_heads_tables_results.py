"""Results of rows: values over seeds, reasons why numbers are missing, and trials of another cache."""

import numpy as np
import pytest
from caches import make_cache
from sweeps import a_grid

from data.errors import InputError
from data.labels import EMOTIONS
from heads.sweeps.execution import Execution, train_trials
from heads.sweeps.sweep import Sweep, opened
from heads.tables.results import Result, Seed, long_table, never_predicting, result
from heads.tables.rows import ImportedRow, rows


@pytest.fixture(scope="module")
def row():
    """A row of Table I."""
    return rows("table1", "mosi", "light", ["mmolre"])[0]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("cache"), utterances=30)


def seeds(*values):
    return tuple(Seed(number, f"run{number}", {"mae": value}) for number, value in enumerate(values))


def test_a_value_is_mean_and_sample_deviation_of_the_seeds_that_have_one(row):
    failed = Seed(7, "run7", None, "Why.")
    found = Result(row, (*seeds(1.0, 2.0), failed))
    assert found.value("mae") == pytest.approx((1.5, np.sqrt(0.5)))
    assert np.isnan(found.value("corr")).all()
    assert np.isnan(Result(row, (failed,)).value("mae")).all()
    assert np.isnan(Result(row, seeds(None)).value("mae").mean)
    assert ([seed.seed for seed in found.done], found.count) == ([0, 1], "2")
    assert Result(row, (Seed(None, "a.csv", {}),)).count == "", "whose seed nobody knows"


def test_missing_numbers_have_a_reason(row):
    assert Result(row, seeds(1.0)).faults == []
    assert Result(row, (*seeds(1.0), Seed(7, "run7", None, "Why."))).faults == ["MMoLRE: seed 7: Why."]
    assert Result(row, (), "No labels.").faults == ["MMoLRE: No labels."]


def test_never_predicting_has_the_values_that_every_run_has_of_it():
    median = rows("table2", "mosei", None, ["mmolre"])[-1]
    known = {f"{name}_never_{metric}": n + len(metric) / 10 for n, name in enumerate((*EMOTIONS, "mean")) for metric in ("acc", "wf1")}
    found = never_predicting(Result(median, (Seed(1, "run1", None, "Why."), Seed(2, "run2", known), Seed(3, "run3", {}))))
    (seed,) = found.seeds
    assert (seed.seed, seed.folder, found.row.table) == (2, "run2", "table2")
    assert seed.values == {name.replace("_never", ""): value for name, value in known.items()}
    assert never_predicting(Result(median, ())).seeds == ()


def test_a_long_table_has_a_line_for_each_metric(row, tmp_path):
    imported = ImportedRow("table1", "theirs", tmp_path / "a.csv")
    table = long_table("mosi", [Result(row, seeds(1.0, 2.0)), Result(imported, (Seed(None, "a.csv", {"mae": 3.0}),))], "test")
    lines = table[table["metric"] == "mae"].set_index("method")
    assert lines["mean"].to_dict() == {"MMoLRE": 1.5, "theirs": 3.0}
    assert lines["paper"].to_dict() == pytest.approx({"MMoLRE": 0.666, "theirs": np.nan}, nan_ok=True)
    assert lines["runs"].to_dict() == {"MMoLRE": "run0 run1", "theirs": "a.csv"}
    assert set(table["split"]) == {"test"}


def test_a_trial_is_evaluated_once_and_one_of_another_cache_is_refused(row, cache, tmp_path):
    sweep = Sweep(a_grid(tmp_path, fixed={"train.max_epochs": 1}, seeds=[1, 2]), cache, tmp_path / "sweep", "mae")
    configs = sweep.grid.configs()
    with opened(sweep):
        train_trials(sweep, configs[:1], Execution(devices=("cpu",)), lambda line: None)
    trials = [sweep.open_trial(config) for config in configs]
    for _ in range(2):
        first, second = result(sweep, row, trials, "test", "cpu").seeds
        assert first.values == trials[0].folder.metrics()["test"]
        assert (second.values, second.failure) == (None, "was not trained")
    assert (trials[0].folder.path / "opened.csv").read_text().count("test,") == 1
    other = Sweep(sweep.grid, make_cache(tmp_path / "other", utterances=30, text_dim=9), sweep.folder, "mae")
    with pytest.raises(InputError, match=r"holds a run of another configuration: encoders\.text\.dim is 8, not 9\."):
        result(other, row, [other.open_trial(configs[0])], "valid", "cpu")
