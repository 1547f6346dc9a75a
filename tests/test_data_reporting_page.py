"""Pages and their parts: text is escaped, sections are in the navigation, and a table shows what its cells hold."""

import base64
import hashlib
import html
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from data.reporting import page
from data.reporting.characters import visible
from data.reporting.page import Section, Tile
from data.reporting.tables import HIGHER, Cell, Chip, Column, Link, Table


def said(element: ET.Element) -> str:
    return " ".join(" ".join(element.itertext()).split())


def tree(table: Table) -> ET.Element:
    return ET.fromstring(page.table(table))


def whole(*sections: Section, **more) -> str:
    tiles = [Tile("runs", "3"), Tile("bytes", Cell("1.0 kB", 1000), "total")]
    return page.render_page("kind", "A <title>", tiles, sections, ["a <note>", Markup("<b>b</b>")], warning="First", maker="me", **more)


@pytest.mark.parametrize(("count", "classes"), [(3, "scroll"), (40, "scroll"), (41, "scroll tall")])
def test_only_a_long_table_has_a_scroll_bar_of_its_own(count, classes):
    made = tree(Table.of([Column("row")], [[str(number)] for number in range(count)], caption="A & B"))
    assert made.get("class") == classes
    assert (made.get("aria-label"), made.get("tabindex")) == ("A & B", "0")
    assert [said(cell) for cell in made.findall(".//tbody/tr/th")] == [str(number) for number in range(count)]


def test_a_cell_shows_its_number_its_warning_what_stands_beside_and_below_and_its_links():
    cells = [
        Cell("x & y", badge="untrained"),
        Cell("1,000", 1000, kind="good", beside="5%", below="<2>"),
        Cell("run", href="trials/a%20b/"),
        Cell("key", links=(Link("seed 1", "a/"), Link("seed 2", "b/"))),
        "a/path",
    ]
    columns = [Column("a<b", "words"), Column("n"), Column("run", "words"), Column("key", "words"), Column("file", "code")]
    made = tree(Table.of(columns, [cells]))
    first, (number, run, key, file) = made.find(".//tbody/tr/th"), made.findall(".//tbody/tr/td")
    assert [head.text for head in made.findall(".//thead/tr/th")] == ["a<b", "n", "run", "key", "file"]
    assert (said(first), first.get("scope"), first.find("span").get("class")) == ("x & y untrained", "row", "badge")
    assert (number.get("class"), number.find("data").get("value"), said(number)) == ("number good", "1000", "1,000 5% <2>")
    assert (run.find("a").get("href"), run.find("a").text) == ("trials/a%20b/", "run")
    assert [(link.text, link.get("href")) for link in key.iter("a")] == [("seed 1", "a/"), ("seed 2", "b/")]
    assert file.find("code").text == "a/path"


def test_groups_are_parts_of_one_table_with_titles_and_the_best_of_a_column_stands_out():
    groups = {"one": [["a", Cell("1", 1)]], "two": [["b", Cell("3", 3)], ["c", Cell("2", 2)]]}
    made = tree(Table([Column("row", "words"), Column("value", best=HIGHER)], groups, total=["all", Cell("9", 9)]))
    assert [said(title) for title in made.findall(".//tr[@class='group']")] == ["one", "two"]
    assert [said(cell) for cell in made.iter("td") if "best" in cell.get("class")] == ["3"]
    assert said(made.find(".//tr[@class='total']")) == "all 9"
    assert len(made.findall("table")) == 1


def test_neighbouring_columns_share_a_heading():
    columns = [Column("row", "words"), Column("acc", over="ours"), Column("F1", over="ours"), Column("acc", over="theirs")]
    made = tree(Table.of(columns, [["a", "1", "2", "3"]]))
    assert [(head.text, head.get("colspan")) for head in made.findall(".//thead/tr[1]/th")] == [("ours", "2"), ("theirs", "1")]
    assert len(made.findall(".//thead/tr[1]/td")) == 1


def test_a_page_has_every_section_in_its_navigation_and_its_text_is_escaped():
    first = Section("one", "First & last", page.paragraph("a < b"), data={"corpus": "<c>"})
    root = ET.fromstring(whole(first, Section("two", "Second", Markup(), "2nd")).removeprefix("<!DOCTYPE html>"))
    assert [(link.get("href"), link.text) for link in root.findall(".//nav//a")] == [("#one", "First & last"), ("#two", "2nd")]
    assert root.find(".//section[@id='one']/p").text == "a < b"
    assert root.find(".//section[@id='one']").get("data-corpus") == "<c>"
    assert root.find(".//h1").text == "A <title>"
    assert [said(note) for note in root.findall(".//section[@id='notes']//li")] == ["a <note>", "b"]
    assert root.find(".//dd[@id='total']/data").get("value") == "1000"
    assert root.find(".//header/p[2]") is None
    assert "needs no network" in said(root.find(".//footer"))


def test_a_page_loads_nothing_and_its_policy_allows_its_one_script_alone():
    text = whole(Section("one", "One", Markup()), lead="x")
    assert not re.search(r"https?:|url\(|@import|<link|<img|<iframe", text)
    (script,) = re.findall(r"<script>(.*?)</script>", text, flags=re.S)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert {"default-src 'none'", f"script-src 'sha256-{digest}'"} <= set(html.unescape(policy).split("; "))


@given(st.text(min_size=1, max_size=30) | st.text(alphabet="</>&\"'script!-[]\x00\x1b\u202e\ud800\uffff\t ", min_size=1, max_size=30))
def test_any_text_is_shown_as_itself(text):
    """Characters that XML cannot hold have their picture; white space is that of HTML."""
    cell = Cell(text, badge=text, beside=text, below=text, chips=(), links=(Link(text, text),))
    table = Table.of(
        [Column(text, "words"), Column("x", "long")], [[cell, Cell("", chips=(Chip(text, text),))]], caption=text, explored=True
    )
    root = ET.fromstring(whole(Section("one", text, page.table(table))).removeprefix("<!DOCTYPE html>"))
    kept = " ".join(visible(text).split())
    assert said(root.find(".//section[@id='one']/h2")) == said(root.find(".//caption")) == said(root.find(".//thead//th")) == kept
    head, chips = root.find(".//tbody//th"), root.find(".//tbody//td/span")
    assert [" ".join(part.text.split()) for part in head if part.text and part.text.split()] == [kept] * (3 if kept else 0)
    assert (said(head.find(".//a")), said(chips), chips.get("data-name").split()) == (
        kept,
        f"{kept} {kept}".strip(),
        visible(text).split(),
    )
    assert visible(text).encode()  # nothing that UTF-8 cannot hold


def test_a_table_that_is_explored_says_what_can_be_filtered_and_has_all_rows_and_players_without_the_script():
    columns = [Column("clip", "words"), Column("error", filter="range"), Column("emotions", "words", filter="choice", is_hidden=True)]
    rows = [
        [Cell(f"c{number}", audio="a.wav#t=1,2"), Cell("0.5", 0.5), Cell("joy", chips=(Chip("joy", "0.7"),))] for number in range(120)
    ]
    made = tree(Table.of(columns, rows, "Clips", explored=True))
    assert made.get("data-explored") == str(page.PAGE_ROWS)
    assert [(head.get("data-filter"), head.get("data-hidden")) for head in made.findall(".//thead/tr/th")] == [
        (None, None),
        ("range", None),
        ("choice", ""),
    ]
    assert len(made.findall(".//tbody/tr")) == 120
    assert {(audio.get("src"), audio.get("preload")) for audio in made.findall(".//noscript/audio")} == {("a.wav#t=1,2", "none")}
    assert said(made.find(".//tbody/tr/td[2]")) == "joy 0.7"


def test_figures_have_captions_and_wide_ones_a_box_that_scrolls():
    svg = Markup("<svg></svg>")
    assert page.figure(svg) == "<figure><svg></svg></figure>"
    wide = ET.fromstring(page.figure(svg, "a < b", is_wide=True))
    assert (wide.find("div").get("class"), wide.find("figcaption").text) == ("scroll wide", "a < b")
    assert len(ET.fromstring(page.charts([page.figure(svg)] * 2)).findall("figure")) == 2


def test_the_content_of_a_file_is_folded_away():
    made = ET.fromstring(page.listing("a: <b>\n  c", "grid.yaml"))
    assert (made.find("summary").text, made.find("pre/code").text) == ("grid.yaml", "a: <b>\n  c")


def test_templates_of_a_report_use_the_parts_of_the_kit(tmp_path):
    (tmp_path / "mine.html").write_text('{% import "parts.html" as show %}{{ show.plural(n, "run", "runs") }} {{ show.facts(facts) }}')
    made = page.fragment(tmp_path, "mine.html", n=1000, facts={"a": {"b": 0.12345678}, "c": [{"d": []}], "e": None, "f": ["x", 1]})
    assert made.startswith('<data value="1000">1,000</data> runs')
    found = ET.fromstring(made[made.index("<dl") :])
    assert [name.text for name in found.iter("dt")] == ["a.b", "c.1.d", "e", "f"]
    assert [value.text for value in found.iter("dd")] == ["0.1235", "–", "–", "x, 1"]
