"""`heads.evaluation.metrics` against scikit-learn and SciPy, on random and degenerate predictions, and against figures worked
out by hand."""

import json
import math
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from caches import make_cache
from hypothesis import given, settings
from hypothesis import strategies as st
from projects import finish, forked
from scipy.stats import pearsonr
from sklearn.metrics import accuracy_score, average_precision_score, balanced_accuracy_score, f1_score

from data.errors import InputError
from data.labels import EMOTIONS
from heads.evaluation.metrics import (
    EMOTION_METRICS,
    METRICS,
    SENTIMENT_METRICS,
    default_metric,
    emotion_metrics,
    higher_is_better,
    is_better,
    sentiment_metrics,
)

THIRDS = [value / 3 for value in range(-12, 13)] + [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5]
rows_of_sentiment = st.lists(
    st.tuples(
        st.one_of(st.sampled_from(THIRDS), st.floats(-1e6, 1e6)),
        st.one_of(st.just(math.nan), st.sampled_from([value for value in THIRDS if abs(value) <= 3])),
    ),
    max_size=25,
)
rows_of_emotion = st.lists(
    st.tuples(st.one_of(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.floats(0, 1)), st.sampled_from([0.0, 1.0, 1.0, math.nan])),
    max_size=25,
)


def reference_sentiment(prediction, truth):
    """The same definitions through scikit-learn and SciPy."""
    prediction, truth = prediction[~np.isnan(truth)], truth[~np.isnan(truth)]
    clear = truth != 0
    pairs = {"has0": (truth >= 0, prediction >= 0), "non0": (truth[clear] > 0, prediction[clear] > 0)}
    found = {}
    for name, (true, predicted) in pairs.items():
        found[f"acc2_{name}"] = accuracy_score(true, predicted) if true.size else math.nan
        found[f"f1_{name}"] = f1_score(true, predicted, average="weighted", zero_division=0) if true.size else math.nan
    for name, limit in (("acc5", 2), ("acc7", 3)):
        classes = [np.round(np.clip(values, -limit, limit)) for values in (truth, prediction)]
        found[name] = accuracy_score(*classes) if truth.size else math.nan
    found["mae"] = np.abs(prediction - truth).mean() if truth.size else math.nan
    varies = truth.size > 1 and np.ptp(truth) > 0 and np.ptp(prediction) > 0
    found["corr"] = pearsonr(prediction, truth).statistic if varies else math.nan
    return found


def reference_emotion(probability, truth):
    probability, truth = probability[~np.isnan(truth)], truth[~np.isnan(truth)]
    if not truth.size:
        return dict.fromkeys(EMOTION_METRICS, math.nan)
    true, predicted, never = truth == 1, probability > 0.5, np.zeros(len(truth), bool)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "y_pred contains classes not in y_true|A single label was found")
        balanced = balanced_accuracy_score(true, predicted)
    return {
        "acc": accuracy_score(true, predicted),
        "wf1": f1_score(true, predicted, average="weighted", zero_division=0),
        "balanced_acc": balanced,
        "macro_f1": f1_score(true, predicted, average="macro", zero_division=0),
        "ap": average_precision_score(true, probability) if true.any() else math.nan,
        "never_acc": accuracy_score(true, never),
        "never_wf1": f1_score(true, never, average="weighted", zero_division=0),
    }


def one_emotion(probability, truth, **options):
    """Metrics of happiness alone, the other five without a label."""
    table = np.full((len(truth), 6), np.nan)
    table[:, 0] = truth
    values = emotion_metrics(np.repeat(np.reshape(probability, (-1, 1)), 6, axis=1), table, **options)
    return {name: values[f"happiness_{name}"] for name in EMOTION_METRICS}


@settings(max_examples=300, deadline=None)
@given(rows_of_sentiment)
def test_sentiment_metrics_are_those_of_scikit_learn_and_scipy(rows):
    prediction, truth = np.array(rows, float).reshape(-1, 2).T
    # SciPy itself warns that it is inexact where predictions hardly differ.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "An input array is nearly constant")
        expected = reference_sentiment(prediction, truth)
    assert sentiment_metrics(prediction, truth) == pytest.approx(expected, rel=1e-9, abs=1e-9, nan_ok=True)


@settings(max_examples=200, deadline=None)
@given(rows_of_emotion)
def test_emotion_metrics_are_those_of_scikit_learn(rows):
    probability, truth = np.array(rows, float).reshape(-1, 2).T
    assert one_emotion(probability, truth) == pytest.approx(reference_emotion(probability, truth), rel=1e-12, nan_ok=True)


def test_a_hand_example_of_sentiment():
    #                    hit   0 as positive  wrong sign  0 as negative  above the range
    truth = np.array([2.0, 0.0, -1.0, 0.0, 3.0])
    prediction = np.array([1.6, 0.4, 0.2, -0.6, 4.0])
    values = sentiment_metrics(prediction, truth)
    assert list(values) == ["acc2_has0", "f1_has0", "acc2_non0", "f1_non0", "acc5", "acc7", "mae", "corr"]
    assert values["acc2_has0"] == 3 / 5  # rows 1, 2, 5
    assert values["f1_has0"] == pytest.approx(4 / 5 * 6 / 8)  # F1 of "≥ 0" is 6 / 8 with support 4 of 5, of "< 0" it is 0
    assert values["acc2_non0"] == 2 / 3  # rows 1, 5 of 1, 3, 5
    assert values["f1_non0"] == pytest.approx(2 / 3 * 4 / 5)
    assert values["acc5"] == values["acc7"] == 3 / 5
    assert values["mae"] == pytest.approx((0.4 + 0.4 + 1.2 + 0.6 + 1.0) / 5)
    assert values["corr"] == pytest.approx(10.52 / math.sqrt(10.8 * 12.848))  # deviations from the means .8 and 1.12
    assert all(type(value) is float for value in values.values())


def test_a_hand_example_of_an_emotion():
    values = one_emotion([0.9, 0.8, 0.7, 0.2, 0.1], [1, 0, 1, 1, 0])
    assert values["acc"] == 3 / 5
    assert values["wf1"] == pytest.approx(3 / 5 * 4 / 6 + 2 / 5 * 2 / 4)
    assert values["balanced_acc"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert values["macro_f1"] == pytest.approx((4 / 6 + 2 / 4) / 2)
    assert values["ap"] == pytest.approx((1 / 1 + 2 / 3 + 3 / 4) / 3)
    assert values["never_acc"] == 2 / 5


def test_halves_are_rounded_to_the_even_class():
    truth = np.array([0.0, 2.0, 2.0, -2.0])
    prediction = np.array([0.5, 1.5, 2.5, -2.5])
    assert sentiment_metrics(prediction, truth)["acc7"] == 1
    assert sentiment_metrics(prediction, np.array([1.0, 1.0, 3.0, -3.0]))["acc7"] == 0


@pytest.mark.parametrize(("share", "weighted_f1"), [(0.917, 0.8773), (0.905, 0.8599)])
def test_never_predicting_an_emotion_scores_the_cells_of_the_paper(share, weighted_f1):
    truth = np.arange(1000) >= 1000 * share
    values = one_emotion(np.zeros(1000), truth)
    assert values["acc"] == values["never_acc"] == share
    assert values["wf1"] == values["never_wf1"] == pytest.approx(2 * share**2 / (1 + share), rel=1e-12)
    assert values["never_wf1"] == pytest.approx(weighted_f1, abs=5e-5)
    assert values["balanced_acc"] == 0.5


def test_the_never_row_does_not_depend_on_the_probabilities():
    truth = [1, 0, 0, 0]
    loud, quiet = one_emotion([0.9] * 4, truth), one_emotion([0.1] * 4, truth)
    assert loud["never_wf1"] == quiet["never_wf1"] == pytest.approx(2 * 0.75**2 / 1.75)
    assert loud["never_acc"] == quiet["never_acc"] == 0.75


@pytest.mark.parametrize("constant", [0.0, 0.1, -2.7, 1e-300, 1e300])
@pytest.mark.parametrize("count", [1, 3, 7, 1000])
def test_correlation_of_a_constant_is_not_a_number(constant, count):
    varied, same = np.linspace(-3, 3, count), np.full(count, constant)
    assert math.isnan(sentiment_metrics(same, varied)["corr"])
    assert math.isnan(sentiment_metrics(varied, np.full(count, 0.1))["corr"])


@pytest.mark.parametrize(("offset", "scale"), [(0.0, 1e-200), (0.0, 1e200), (1e6, 1e-3), (1.0, 1e-10)])
def test_correlation_holds_for_predictions_of_any_size(offset, scale):
    truth = np.linspace(-3, 3, 61)
    prediction = offset + scale * truth
    assert sentiment_metrics(prediction, truth)["corr"] == pytest.approx(1, abs=1e-6)
    assert sentiment_metrics(-prediction, truth)["corr"] == pytest.approx(-1, abs=1e-6)


def test_rows_without_a_label_are_left_out():
    prediction, truth = np.array([1.0, -2.0, 3.0, 0.5]), np.array([1.5, np.nan, 2.0, -0.5])
    known = ~np.isnan(truth)
    assert sentiment_metrics(prediction, truth) == pytest.approx(sentiment_metrics(prediction[known], truth[known]), rel=1e-12)


@pytest.mark.parametrize("count", [0, 3])
def test_without_a_labelled_row_every_metric_is_not_a_number(count):
    sentiment = sentiment_metrics(np.zeros(count), np.full(count, np.nan))
    emotions = emotion_metrics(np.zeros((count, 6)), np.full((count, 6), np.nan))
    assert all(math.isnan(value) for value in (sentiment | emotions).values())
    assert (len(sentiment), len(emotions)) == (8, 49)


def test_only_zeros_leave_non0_undefined_and_has0_defined():
    values = sentiment_metrics(np.array([0.0, -0.1]), np.zeros(2))
    assert (values["acc2_has0"], values["acc7"]) == (0.5, 1.0)
    assert math.isnan(values["acc2_non0"])
    assert math.isnan(values["f1_non0"])


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_prediction_that_is_not_finite_leaves_nothing_to_report(broken):
    sentiment = sentiment_metrics(np.array([1.0, broken, -1.0]), np.array([1.0, 0.0, -1.0]))
    assert all(math.isnan(value) for value in sentiment.values())
    probability = np.full((3, 6), 0.5)
    probability[1, EMOTIONS.index("anger")] = broken
    emotions = emotion_metrics(probability, np.eye(3, 6))
    assert {name for name, value in emotions.items() if math.isnan(value) and name.startswith("anger")} >= {"anger_acc", "anger_ap"}
    assert emotions["sadness_acc"] == 2 / 3


def test_an_absent_emotion_has_no_average_precision_and_one_class():
    quiet = one_emotion([0.1, 0.2, 0.3], [0, 0, 0])
    assert math.isnan(quiet.pop("ap"))
    assert quiet == dict.fromkeys(quiet, 1.0)
    loud = one_emotion([0.9, 0.2, 0.3, 0.4], [0, 0, 0, 0])
    assert (loud["balanced_acc"], loud["wf1"], loud["macro_f1"]) == pytest.approx((3 / 4, 6 / 7, 3 / 7))


def test_means_are_over_the_emotions_that_have_a_value():
    truth = np.full((4, 6), np.nan)
    truth[:, 0], truth[:, 5] = [1, 1, 0, 0], [0, 0, 0, 0]
    probability = np.tile([[0.9], [0.4], [0.6], [0.1]], 6)
    values = emotion_metrics(probability, truth)
    assert values["mean_acc"] == (values["happiness_acc"] + values["fear_acc"]) / 2 == 0.5
    assert values["mean_ap"] == values["happiness_ap"] == pytest.approx((1 + 2 / 3) / 2)
    names = [f"{prefix}_{name}" for prefix in (*EMOTIONS, "mean") for name in EMOTION_METRICS]
    assert list(values) == names


def test_the_threshold_moves_what_is_predicted_and_not_the_average_precision():
    probability, truth = [0.3, 0.2, 0.1], [1, 0, 0]
    low, usual = one_emotion(probability, truth, threshold=0.25), one_emotion(probability, truth)
    assert (low["acc"], usual["acc"]) == (1.0, 2 / 3)
    assert low["ap"] == usual["ap"] == 1
    assert one_emotion([0.5], [1])["acc"] == 0  # present means above


def test_weights_count_rows_as_repeating_them_does():
    generator = np.random.default_rng(3)
    truth = np.append(generator.integers(-9, 10, 39) / 3, np.nan)
    prediction = np.round(np.nan_to_num(truth) + generator.normal(size=40), 1)
    emotions = (generator.random((40, 6)) < 0.3) * 1.0
    probability = np.round(generator.random((40, 6)), 1)
    counts = generator.integers(0, 3, (2, 5, 40))
    together = sentiment_metrics(prediction, truth, weights=counts) | emotion_metrics(probability, emotions, weights=counts)
    for place in np.ndindex(2, 5):
        rows = np.repeat(np.arange(40), counts[place])
        alone = sentiment_metrics(prediction[rows], truth[rows]) | emotion_metrics(probability[rows], emotions[rows])
        assert {name: values[place] for name, values in together.items()} == pytest.approx(alone, rel=1e-12, nan_ok=True)


def test_weights_that_draw_one_value_only_have_no_correlation():
    weights = np.array([[3, 0, 0], [0, 0, 7], [1, 1, 0]])
    values = sentiment_metrics(np.array([0.1, 0.2, 0.7]), np.array([-1.0, 0.3, 2.1]), weights=weights)
    assert np.isnan(values["corr"]).tolist() == [True, True, False]


def test_shapes_that_do_not_fit_are_refused_instead_of_broadcast():
    with pytest.raises(ValueError, match=r"predictions \(3, 1\) and truths \(3,\), expected \(3,\) of both"):
        sentiment_metrics(np.zeros((3, 1)), np.zeros(3))
    with pytest.raises(ValueError, match=r"predictions \(3, 5\) and truths \(3, 6\)"):
        emotion_metrics(np.zeros((3, 5)), np.zeros((3, 6)))
    with pytest.raises(ValueError, match=r"weights \(4,\) for 3 rows"):
        sentiment_metrics(np.zeros(3), np.zeros(3), weights=np.ones(4))


def test_a_record_stands_under_its_name_and_says_its_task_and_label():
    assert all(name == metric.name for name, metric in METRICS.items())
    assert [*METRICS][:9] == [*SENTIMENT_METRICS, "happiness_acc"]
    assert {name for name, metric in METRICS.items() if metric.task == "msa"} == set(SENTIMENT_METRICS)
    assert (METRICS["acc2_has0"].label, METRICS["fear_wf1"].label, METRICS["mean_acc"].label) == ("Has0 Acc2", "fear WF1", "mean Acc")
    assert len({metric.label for metric in METRICS.values()}) == len(METRICS)


@pytest.mark.parametrize(
    ("name", "value", "printed"),
    [
        ("acc7", 0.47525, "47.52"),
        ("mean_wf1", 0.795, "79.5"),
        ("mae", 0.6664, "0.666"),
        ("corr", -0.0312, "−0.031"),
        ("corr", math.nan, "–"),
    ],
)
def test_values_are_printed_as_the_paper_prints_them(name, value, printed):
    assert METRICS[name].printed(value) == printed


@pytest.mark.parametrize(("tasks", "metric"), [(["msa"], "mae"), (["mer"], "mean_wf1"), (["mer", "msa"], "mae"), ([], "mean_wf1")])
def test_runs_are_compared_by_mae_where_all_learn_sentiment(tasks, metric):
    assert default_metric(tasks) == metric


SOURCE = Path(__file__).parent.parent / "heads" / "evaluation" / "metrics.py"
RECORD = """\
    Metric("rmse", "msa", "RMSE", lambda rows: rows.mean((rows.prediction - rows.truth) ** 2) ** 0.5, higher_is_better=False, digits=3),
)
\"""The metrics of sentiment, functions"""
WITH_RECORD = """
import json, sys, types
module = types.ModuleType("heads.evaluation.metrics")
sys.modules[module.__name__] = module
exec(compile(sys.argv[2], "metrics.py", "exec"), module.__dict__)
from heads.__main__ import main
sys.exit(max(main(command) for command in json.loads(sys.argv[1])))
"""


def test_a_new_metric_is_one_record(tmp_path):
    """Tables, reports and options have it, although no other module was touched."""
    end = ')\n"""The metrics of sentiment, functions'
    source = SOURCE.read_text(encoding="utf-8")
    assert source.count(end) == 1
    cache, tables, sweep = make_cache(tmp_path / "cache"), tmp_path / "tables", tmp_path / "sweep"
    grid = tmp_path / "grid.yaml"
    grid.write_text("grid: {head: [ridge], task: [msa]}", encoding="utf-8")
    commands = [
        f"tables --only table1 --heads ridge --corpora mosi --cache {cache} --out {tables} --devices cpu",
        f"sweep {grid} --corpus mosi --cache {cache} --out {sweep} --metric rmse --devices cpu",
    ]
    arguments = [json.dumps([command.split() for command in commands]), source.replace(end, RECORD)]
    result = finish(forked("-c", WITH_RECORD, *arguments, cwd=SOURCE.parents[2]))
    assert result.returncode == 0, result.stderr
    table = pd.read_csv(tables / "table1.csv")
    means = table[table["head"] == "ridge"].set_index("metric")["mean"]
    assert list(means.index) == [*SENTIMENT_METRICS, "rmse"]
    assert means["rmse"] > means["mae"] > 0
    assert pd.read_parquet(sweep / "trials.parquet")["valid.rmse"].tolist() == [pytest.approx(means["rmse"], rel=1e-12)]
    assert "Ranked by rmse (lower is better)" in (sweep / "report.html").read_text(encoding="utf-8")


def test_every_metric_has_a_direction():
    names = [*sentiment_metrics(np.zeros(1), np.zeros(1)), *emotion_metrics(np.zeros((1, 6)), np.zeros((1, 6)))]
    assert list(METRICS) == names
    assert set(SENTIMENT_METRICS) < set(names)
    assert [name for name in ("loss", *names) if not higher_is_better(name)] == ["loss", "mae"]


def test_better_is_lower_for_errors_and_any_number_beats_none():
    assert is_better("mae", 0.8, 0.9)
    assert not is_better("mae", 0.9, 0.9)
    assert is_better("mean_wf1", 0.9, 0.8)
    assert not is_better("corr", 0.1, 0.2)
    assert is_better("corr", -0.5, math.nan)
    assert not is_better("corr", math.nan, -0.5)
    assert not is_better("loss", math.nan, math.nan)


def test_an_unknown_metric_is_named_with_its_neighbour():
    with pytest.raises(InputError, match=r"Unknown metric 'acc2_non'\. Did you mean 'acc2_non0'\? Available: loss, "):
        is_better("acc2_non", 1, 0)
