"""Charts count every value once, in the right bin, draw what they count, and take the colours of a page or of a file."""

import json
import re
import xml.etree.ElementTree as ET
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.errors import InputError
from data.reporting.charts import (
    MAX_BINS,
    ON_WHITE,
    bar_groups_svg,
    histogram,
    histogram_svg,
    nice_width,
    on_page,
    signed_bars_svg,
    tip,
    tips,
    to_file,
)
from data.reporting.page import TEMPLATES

whole_numbers = st.lists(st.integers(0, 10**6), min_size=1, max_size=60)
numbers = st.lists(st.floats(-1e5, 1e5), min_size=1, max_size=60)


class Bar(NamedTuple):
    """A bar of a chart: its tooltip, colour, lower and upper edge."""

    tip: str
    colour: str
    low: float
    high: float


def bars(svg: str) -> list[Bar]:
    found = []
    for group in ET.fromstring(svg).iter("g"):
        if (title := group.find("title")) is not None:
            path = group.find("path")
            heights = [float(y) for _, y in re.findall(r"([\d.]+) ([\d.]+)", path.get("d"))]
            found.append(Bar(title.text, path.get("style"), max(heights), min(heights)))
    return found


def texts(svg: str) -> list[str]:
    return [text.text for text in ET.fromstring(svg).iter("text")]


@given(whole_numbers)
def test_every_whole_number_is_counted_in_the_bin_that_names_it(values):
    hist = histogram({"a": np.array(values)}, whole=True)
    named = [[int(end) for end in hist.name(index).split(" to ")] for index in range(len(hist.counts["a"]))]
    expected = [sum(ends[0] <= value <= ends[-1] for value in values) for ends in named]
    assert hist.counts["a"].tolist() == expected
    assert hist.total == len(values)


@given(numbers, numbers)
def test_no_value_of_any_series_is_lost_and_there_are_few_bins(first, second):
    hist = histogram({"a": np.array(first), "b": np.array(second)})
    assert (hist.counts["a"].sum(), hist.counts["b"].sum()) == (len(first), len(second))
    assert len(hist.counts["a"]) == len(hist.counts["b"]) <= MAX_BINS + 1


@given(st.floats(0, 1e7), st.booleans())
def test_bins_are_1_2_or_5_times_a_power_of_ten_wide(span, whole):
    width = nice_width(span, whole)
    assert f"{width:e}"[0] in "125"
    assert width * MAX_BINS >= span
    assert width >= 1 or not whole


def test_a_histogram_agrees_with_a_count_by_hand():
    hist = histogram({"a": np.array([0.10, 0.19, 0.20, 0.71])}, width=0.2)
    assert hist.counts["a"].tolist() == [2, 1, 0, 1]
    assert [hist.name(index) for index in range(4)] == ["0 to 0.2", "0.2 to 0.4", "0.4 to 0.6", "0.6 to 0.8"]


def test_the_upper_edge_and_what_rounding_puts_above_it_belong_to_the_last_bin():
    values = np.array([0.97, 1.0, np.nextafter(1.0, 2.0)])
    assert histogram({"a": values}, width=0.05, high=1.0).counts["a"].tolist() == [3]
    assert histogram({"a": np.ones(4)}, width=0.05, high=1.0).counts["a"].tolist() == [4]


def test_centred_bins_put_the_ends_of_the_scale_into_bins_of_their_own():
    hist = histogram({"a": np.array([-3.0, -2.8, 0.0, 0.24, 3.0])}, width=0.5, low=-3.25, high=3.25, centred=True)
    assert len(hist.counts["a"]) == 13
    assert np.flatnonzero(hist.counts["a"]).tolist() == [0, 6, 12]
    assert {"−3", "0", "3", "sentiment"} <= set(texts(histogram_svg(hist, "", "sentiment")))


def test_bars_are_as_high_as_their_shares_and_stack():
    hist = histogram({"kept": np.array([1, 1, 1, 2]), "left": np.array([1])}, whole=True)
    kept_1, kept_2, left_1 = bars(histogram_svg(hist, "lengths", "words"))
    assert kept_1.low - kept_1.high == pytest.approx(3 * (kept_2.low - kept_2.high), rel=0.01)
    assert left_1.low == pytest.approx(kept_1.high, abs=0.02)
    assert [bar.tip for bar in (kept_1, kept_2, left_1)] == [
        "kept: 3 (60.0%) at 1 words",
        "kept: 1 (20.0%) at 2 words",
        "left: 1 (20.0%) at 1 words",
    ]
    assert [bar.colour for bar in (kept_1, kept_2, left_1)] == ["fill: var(--s0)", "fill: var(--s0)", "fill: var(--s1)"]


def test_one_scale_makes_charts_comparable():
    tall = histogram_svg(histogram({"a": np.array([1, 1])}, whole=True), "", "words", top_share=1.0)
    short = histogram_svg(histogram({"a": np.array([1, 2])}, whole=True), "", "words", top_share=1.0)
    heights = [drawn[0].low - drawn[0].high for drawn in (bars(tall), bars(short))]
    assert heights[0] == pytest.approx(2 * heights[1], rel=0.01)


def test_an_empty_histogram_is_drawn_without_bars():
    assert bars(histogram_svg(histogram({"a": np.array([])}), "nothing", "words")) == []


def test_grouped_bars_show_shares_beside_them():
    drawn = bar_groups_svg({"fear": {"train": (1, 4), "test": (0, 0)}}, "Emotions")
    svg = ET.fromstring(drawn)
    assert (svg.get("aria-label"), svg.get("role")) == ("Emotions", "img")
    assert [bar.tip for bar in bars(drawn)] == ["train: 1 of 4 (25.0%)", "test: 0 of 0 (0.0%)"]
    assert texts(drawn) == ["fear", "25.0%", "0.0%"]


def test_names_in_charts_are_escaped():
    svg = histogram_svg(histogram({"<b>": np.array([1.0])}), '"><script>', "<i> $x$ $")
    assert not re.search("<(b|script|i)>", svg)
    assert ET.fromstring(svg).get("aria-label") == '"><script>'
    assert "<i> $x$ $" in texts(svg)


def draw(figure, colours):
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], "o-", color=colours.series[4])
    tip(axes.scatter([0.5], [0.5], color=colours.accent), 'a & "b"')
    tips(axes.scatter([0, 1, 1], [1, 0, 0.2], color=colours.ink), ["<a>", 'b "&"', "c\x07"], "special")
    axes.set_title("a < b")


def test_a_chart_on_a_page_has_its_colours_and_font_from_the_page():
    svg = on_page(draw, "label", (300, 200), name="one two")
    assert {"var(--s4)", "var(--accent)", "var(--ink)", "var(--muted)", "var(--line)"} <= set(re.findall(r"var\(--\w+\)", svg))
    assert not re.search(r"#0103?0|font-family|xmlns|url\(|<style|<metadata", svg)
    root = ET.fromstring(svg)
    assert (root.get("width"), root.get("height"), root.get("viewBox")) == ("300", "200", "0 0 300 200")
    assert [title.text for title in root.iter("title")] == ['a & "b"']
    special = root.find(".//g[@class='special']")
    assert json.loads(special.get("data-tips")) == ["<a>", 'b "&"', "c\a"]
    assert len(list(special.iter("use"))) == 3  # of one shape


def test_signed_bars_stand_on_both_sides_of_zero_with_their_values():
    svg = ET.fromstring(
        signed_bars_svg({"joy": {"a": (10.0, "a: ten"), "b": (-5.0, "b: minus five")}, "fear": {"a": (0.0, "")}}, "gain")
    )
    assert [title.text for title in svg.iter("title")][:2] == ["a: ten", "b: minus five"]
    assert ["".join(text.itertext()) for text in svg.iter("text")] == ["joy", "+10.0", "−5.0", "fear", "+0.0"]
    ends = [
        [float(x) for x in re.findall(r"[ML] ([\d.]+)", path.get("d"))]
        for path in svg.iter("path")
        if "fill: var(--s" in path.get("style", "")
    ]
    zero = ends[0][0]
    assert max(ends[0]) - zero == pytest.approx(2 * (zero - min(ends[1])), abs=0.1)


def test_ids_of_charts_on_one_page_differ_and_every_reference_leads_to_one():
    first, second = (ET.fromstring(on_page(draw, label, (300, 200))) for label in ("one", "two"))
    ids = [[element.get("id") for element in chart.iter() if element.get("id")] for chart in (first, second)]
    assert ids[0]
    assert not set(ids[0]) & set(ids[1])
    assert {use.get("href")[1:] for use in first.iter("use")} == set(ids[0])


@pytest.mark.parametrize(("suffix", "magic"), [(".png", b"\x89PNG"), (".svg", b"<?xml")])
def test_a_file_is_drawn_on_white_in_fixed_colours_and_is_the_same_every_time(suffix, magic):
    first, second = (to_file(draw, suffix, (300, 200)) for _ in range(2))
    assert first == second
    assert first.startswith(magic)
    if suffix == ".svg":
        assert {ON_WHITE.series[4], ON_WHITE.accent, ON_WHITE.ground} <= set(re.findall("#[0-9a-f]{6}", first.decode()))


def test_colours_of_files_are_the_light_ones_of_the_style_sheet():
    light = dict(re.findall(r"--(\w+): (#\w+);", (TEMPLATES / "style.css").read_text().split("}")[0]))
    assert ON_WHITE.series == tuple(light[f"s{number}"] for number in range(5))
    assert [getattr(ON_WHITE, name) for name in ("ink", "muted", "line", "accent")] == [
        light[name] for name in ("ink", "muted", "line", "accent")
    ]


def test_another_format_of_files_is_refused():
    with pytest.raises(InputError, match=r"Unknown picture format '\.jpeg'.*Available: \.png, \.svg"):
        to_file(draw, ".jpeg", (300, 200))
