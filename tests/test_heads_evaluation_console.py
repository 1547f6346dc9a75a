"""Metrics of runs on a terminal: side by side, with spread over seeds and intervals, and one progress bar."""

import re
import time
from typing import Any

import pytest

from data.labels import EMOTIONS
from heads.evaluation import console
from heads.evaluation.console import results, training_bar
from heads.evaluation.metrics import EMOTION_METRICS, SENTIMENT_METRICS


def sentiment(mae: float | None) -> dict[str, float | None]:
    return dict.fromkeys(SENTIMENT_METRICS, 0.5) | {"mae": mae}


def run(mae: float | None = 1.0, **more: Any) -> dict[str, Any]:
    return {"valid": sentiment(mae), **more}


def lines(text: str) -> list[list[str]]:
    return [[cell for cell in line.split("  ") if cell.strip()] for line in text.splitlines()]


def test_runs_stand_side_by_side_and_a_missing_value_is_a_dash():
    header, first, second = lines(results({"a-seed1": run(0.25), "b-seed1": run(None)}, "valid"))
    assert [cell.strip() for cell in header] == ["sentiment, valid", *SENTIMENT_METRICS]
    place = 1 + SENTIMENT_METRICS.index("mae")
    assert (first[0], first[place].strip()) == ("a-seed1", "0.250")
    assert (second[0], second[place].strip()) == ("b-seed1", "–")


def test_seeds_of_one_configuration_have_a_row_of_mean_and_deviation():
    *_, last = lines(results({"a-seed1": run(1.0), "a-seed2": run(2.0), "b-seed1": run()}, "valid"))
    assert last[0] == "a, mean ± sd of 2"
    assert last[1 + SENTIMENT_METRICS.index("mae")].strip() == "1.500 ± 0.707"


@pytest.mark.parametrize(
    ("names", "has_all", "titles"),
    [
        (["a-seed1"], False, ["95 % interval"]),
        (["a-seed1", "b-seed1"], False, []),
        (["a-seed1", "b-seed1"], True, ["a-seed1, 95 % interval", "b-seed1, 95 % interval"]),
    ],
)
def test_intervals_are_shown_for_one_run_or_when_asked_for(names, has_all, titles):
    runs = {name: run(valid_interval={"mae": [0.5, 1.5], "corr": [None, 1.0]}) for name in names}
    shown = [line for line in lines(results(runs, "valid", has_all_intervals=has_all)) if "interval" in line[0]]
    assert [line[0].strip() for line in shown] == titles
    for line in shown:
        assert line[1 + SENTIMENT_METRICS.index("mae")].strip() == "0.500–1.500"
        assert line[1 + SENTIMENT_METRICS.index("corr")].strip() == "–"


def test_emotions_have_a_table_for_each_run_and_name_their_source():
    emotions = {f"{emotion}_{metric}": 0.75 for emotion in (*EMOTIONS, "mean") for metric in EMOTION_METRICS}
    text = results({"a-seed1": {"test": emotions}, "a-seed2": {"test": emotions}}, "test", emotions="pseudo-labels")
    first, second, spread = text.split("\n\n")
    assert lines(first)[0][0] == "pseudo-labels, test: a-seed1"
    assert [line[0].strip() for line in lines(second)[1:]] == [*EMOTIONS, "mean"]
    assert [cell.strip() for cell in lines(spread)[1]] == ["a, mean ± sd of 2", *["0.750 ± 0.000"] * len(EMOTION_METRICS)]
    assert "sentiment" not in text


def test_no_bar_is_drawn_where_there_is_no_terminal(capsys):
    with training_bar("run", 10) as advance:
        advance(5, "best epoch 1")
    assert capsys.readouterr().err == ""


def test_without_a_terminal_a_run_prints_lines_with_rate_and_time_left(monkeypatch, capsys):
    monkeypatch.setattr(console, "LINE_EVERY_S", 0.01)
    with training_bar("run", 10) as advance:
        for done in (4, 2):
            time.sleep(0.02)
            advance(done, "best loss 0.5 (epoch 1)")
    first, second = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"run:  40% \(4 of 10 steps\), 00:00 so far, 00:00 left, \s*[\d.]+step/s, best loss 0\.5 \(epoch 1\)", first)
    assert second.startswith("run:  60% (6 of 10 steps), ")
