"""`python -m heads compare`: differences and tests of two predictors equal what SciPy and the runs' own metrics say."""

import json

import numpy as np
import pandas as pd
import pytest
import small_runs
from caches import make_cache
from command_line import call, content, printed
from predictions import written
from scipy import stats

from data.errors import InputError
from heads.evaluation.comparison import compare, differing
from heads.evaluation.intervals import holm
from heads.runs.folder import RunFolder


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("cache"), utterances=40)


@pytest.fixture(scope="module")
def runs(cache, tmp_path_factory):
    """Folder with pre-fusion (seeds 1 and 2) and ridge."""
    out = tmp_path_factory.mktemp("runs")
    for seed in (1, 2):
        small_runs.run(cache, out, "pre-fusion", {"seed": seed})
    small_runs.run(cache, out, "ridge")
    return out


def _one(runs, pattern):
    (path,) = runs.glob(pattern)
    return path


def _errors(path):
    table = RunFolder(path).predictions().set_index("utterance_id").sort_index()
    return (table["sentiment"] - table["sentiment_true"]).abs().to_numpy(float)


def test_differences_and_tests_are_those_of_the_runs(capsys, runs):
    a, b = _one(runs, "*pre-fusion*seed1"), _one(runs, "*ridge*seed1")
    before = content(a)
    status, out, err = call(capsys, "compare", a, b, "--json")
    assert (status, err, content(a)) == (0, "", before)
    found = json.loads(out)
    ours, theirs = (RunFolder(path).metrics()["valid"] for path in (a, b))
    for name, one in found["metrics"].items():
        assert one["a"] == pytest.approx(ours[name], abs=1e-12), name
        assert one["difference"] == pytest.approx(ours[name] - theirs[name], abs=1e-12), name
        assert one["low"] <= one["difference"] <= one["high"]
    expected = stats.wilcoxon(_errors(a) - _errors(b), method="approx").pvalue
    assert found["metrics"]["mae"]["p_wilcoxon"] == pytest.approx(expected, abs=1e-9)
    assert found["metrics"]["corr"]["p_wilcoxon"] is None
    p = np.array([one["p_value"] for one in found["metrics"].values()])
    assert [one["p_holm"] for one in found["metrics"].values()] == pytest.approx(list(holm(p)))
    gains = [clip["gain"] for clip in found["clips"]]
    everything = _errors(a) - _errors(b)
    assert np.abs(gains) == pytest.approx(np.sort(np.abs(everything))[::-1][:10], abs=1e-6)


def test_the_terminal_has_the_same_numbers_and_the_asked_metrics(capsys, runs):
    a, b = _one(runs, "*pre-fusion*seed1"), _one(runs, "*ridge*seed1")
    status, out, _ = call(capsys, "compare", a, b, "--metric", "mae", "acc7", "--clips", "2")
    assert status == 0
    rows = printed(out, "metric")
    assert list(rows) == ["mae", "acc7"]
    assert rows["mae"]["A"] == f"{RunFolder(a).metrics()['valid']['mae']:.4f}"
    assert len(printed(out, "differ most")) == 2


def test_emotions_alone_list_no_clips(capsys, runs):
    a, b = _one(runs, "*pre-fusion*seed1"), _one(runs, "*ridge*seed1")
    status, out, _ = call(capsys, "compare", a, b, "--metric", "mean_acc", "anger_acc", "mean_wf1", "--json")
    assert status == 0
    found = json.loads(out)
    assert [name for name, one in found["metrics"].items() if one["p_wilcoxon"] is not None] == ["mean_acc", "anger_acc"]
    assert found["clips"] == []


def test_a_pattern_means_the_seeds_of_a_run(capsys, runs):
    pattern, b = runs / "*pre-fusion*", _one(runs, "*ridge*seed1")
    status, out, _ = call(capsys, "compare", pattern, b, "--json")
    assert status == 0
    found = json.loads(out)
    assert found["seeds"] == [2, 1]
    both = [RunFolder(_one(runs, f"*pre-fusion*seed{seed}")).metrics()["valid"]["mae"] for seed in (1, 2)]
    assert found["metrics"]["mae"]["a"] == pytest.approx(np.mean(both), abs=1e-12)


def test_another_tools_file_with_a_runs_predictions_is_no_different_from_the_run(capsys, runs, tmp_path):
    a = _one(runs, "*pre-fusion*seed1")
    path = written(tmp_path / "theirs.csv", RunFolder(a).predictions().rename(columns={"utterance_id": "id"}))
    status, out, err = call(capsys, "compare", path, a, "--json")
    assert (status, err) == (0, "")
    metrics = json.loads(out)["metrics"]
    assert {name for name, one in metrics.items() if one["difference"] or one["p_value"] != 1} == set()
    assert metrics["mae"]["p_wilcoxon"] == 1
    status, _, err = call(capsys, "compare", path, path)
    assert (status, err.endswith("at least one of the two has to be a run, which says what the labels are.\n")) == (2, True)


def test_test_is_compared_only_where_it_was_opened(capsys, runs):
    a, b = _one(runs, "*pre-fusion*seed2"), _one(runs, "*ridge*seed1")
    status, _, err = call(capsys, "compare", a, b, "--split", "test")
    assert (status, f"Open it first: python -m heads evaluate {a} --split test" in err) == (2, True)
    assert call(capsys, "evaluate", a, b, "--split", "test", "--device", "cpu")[0] == 0
    status, out, _ = call(capsys, "compare", a, b, "--split", "test", "--json")
    assert status == 0
    assert json.loads(out)["metrics"]["mae"]["a"] == pytest.approx(RunFolder(a).metrics()["test"]["mae"], abs=1e-12)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ("nothing", "*ridge*seed1", "is no run folder, no pattern of some, and no CSV file"),
        ("*", "*ridge*seed1", "names runs of 2 configurations"),
    ],
)
def test_what_is_no_predictor_is_refused(capsys, runs, a, b, message):
    status, out, err = call(capsys, "compare", runs / a, _one(runs, b))
    assert (status, out, message in err, err.count("\n")) == (2, "", True, 1)


def _table(generator, count, error):
    truth = np.clip(generator.normal(0, 1.5, count), -3, 3)
    ids = [f"clip{number}" for number in range(count)]
    return pd.DataFrame({"utterance_id": ids, "sentiment": truth + generator.normal(0, error, count), "sentiment_true": truth})


def test_a_clear_difference_is_found_whatever_the_order_and_turns_with_the_sides():
    better, worse = _table(np.random.default_rng(1), 300, 0.3), _table(np.random.default_rng(1), 300, 0.9)
    (there,) = compare([better], [worse.sample(frac=1, random_state=0)], ["mae"])
    (back,) = compare([worse], [better], ["mae"])
    assert there.difference.high < 0
    assert there.difference.difference == pytest.approx(-back.difference.difference)
    assert there.difference.p_value == back.difference.p_value == pytest.approx(2 / 1001)
    assert there.p_wilcoxon < 1e-6
    assert differing([better], [worse])["gain"].mean() == pytest.approx(there.difference.difference)


def test_other_labels_are_no_pair():

    table = _table(np.random.default_rng(1), 30, 0.3)
    with pytest.raises(InputError, match="other labelled utterances, or other labels"):
        compare([table], [table.assign(sentiment_true=0.0)], ["mae"])
    with pytest.raises(InputError, match="does not predict emotions, which mean_acc measures"):
        compare([table], [table], ["mean_acc"])
