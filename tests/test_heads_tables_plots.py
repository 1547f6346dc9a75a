"""What the panels of the paper's figures show, read off the axes: ours with every seed, the paper's, the simple baseline across."""

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from data.reporting.charts import ON_WHITE, on_page, to_file
from heads.tables import paper
from heads.tables.plots import SIZE, panels
from heads.tables.results import Result, Seed
from heads.tables.rows import rows

METRICS, WORDS = ("mae", "corr"), ("MAE", "Corr")
VALUES = {"n = 15, k = 8": [(0.5, 0.7), (0.6, None)], "n = 15, k = 15": [(0.4, 0.8)], "n = 5, k = 5": []}


def results() -> list[Result]:
    """Three points of Figure 2 (two seeds, one, none) and the simple baseline, which is last."""
    asked = {row.method: row for row in rows("fig2", "mosei", None, None)}
    found = []
    for method, row in asked.items():
        values = VALUES.get(method, [(0.9, 0.0)] if method == "median" else None)
        if values is not None:
            seeds = [Seed(number, f"run{number}", dict(zip(METRICS, one, strict=True))) for number, one in enumerate(values)]
            found.append(Result(row, tuple(seeds)))
    assert len(found) == 4
    return found


@pytest.fixture(scope="module")
def figure():
    """Their picture, and the points in the order in which they stand there."""
    found, drawn = results(), Figure(layout="constrained")
    panels(found, METRICS, WORDS, "Figure 2", "a note")(drawn, ON_WHITE)
    return drawn, [one.row.method for one in found[:-1]]


def test_ours_is_a_diamond_at_the_mean_with_its_deviation(figure):
    drawn, order = figure
    axes = drawn.axes[0]
    (bars,) = axes.containers
    expected = {"n = 15, k = 8": 0.55, "n = 15, k = 15": 0.4, "n = 5, k = 5": np.nan}
    np.testing.assert_allclose(bars[0].get_ydata().astype(float), [expected[method] for method in order])
    (segments,) = bars[2]
    heights = {
        method: np.ptp([y for _, y in points]) for method, points in zip(order, segments.get_segments(), strict=True) if len(points)
    }
    assert heights["n = 15, k = 8"] == pytest.approx(2 * np.std([0.5, 0.6], ddof=1))
    assert heights["n = 15, k = 15"] == 0


def test_every_seed_is_a_dot_but_where_it_has_no_value(figure):
    drawn, order = figure
    for number, axes in enumerate(drawn.axes):
        dots = [dot for one in axes.collections if isinstance(one, PathCollection) for dot in one.get_offsets().tolist()]
        found: dict[str, list[float]] = {order[round(x + 0.22)]: [] for x, _ in dots}
        for x, y in dots:
            found[order[round(x + 0.22)]] += [] if np.isnan(y) else [y]
        wanted = {method: [one[number] for one in VALUES[method] if one[number] is not None] for method in order if VALUES[method]}
        assert found == wanted


def test_the_papers_number_is_a_square_where_it_prints_one(figure):
    drawn, order = figure
    for axes, metric in zip(drawn.axes, METRICS, strict=True):
        (squares,) = [line for line in axes.lines if line.get_marker() == "s"]
        known = {"n = 15, k = 8": {"mae": 0.505, "corr": 0.797}, "n = 15, k = 15": paper.TABLE_3[128].values}
        np.testing.assert_allclose(squares.get_ydata(), [known.get(method, {}).get(metric, np.nan) for method in order])
        assert [text.get_text() for text in axes.get_xticklabels()] == order


def test_the_simple_baseline_is_a_line_across_and_panels_say_which_way_is_better(figure):
    drawn, _ = figure
    for axes, value in zip(drawn.axes, (0.9, 0.0), strict=True):
        (line,) = [one for one in axes.lines if one.get_linestyle() == "--"]
        assert [*line.get_ydata()] == [value, value]
    assert [axes.get_title() for axes in drawn.axes] == ["MAE (lower is better)", "Corr (higher is better)"]


def test_the_same_chart_is_drawn_for_a_file_and_for_a_page():
    draw = panels(results(), METRICS, WORDS, "Figure 2", "a note")
    file, page = to_file(draw, ".svg", SIZE).decode(), on_page(draw, "Figure 2", SIZE)
    assert file == to_file(draw, ".svg", SIZE).decode()
    for words in ("a note", "ours, mean ± sd", "paper, fine-tuned encoders", "MAE (lower is better)", "n = 15, k = 8"):
        assert words in file
        assert words in page
    assert "var(--s0)" in page
    assert "var(--" not in file
