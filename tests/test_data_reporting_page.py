"""Pages and their parts: text is escaped, sections are in the navigation, and a table shows what its cells hold."""

import re
import xml.etree.ElementTree as ET

import pytest
from markupsafe import Markup

from data.reporting import page
from data.reporting.page import Section, Tile
from data.reporting.tables import HIGHER, Cell, Column, Link, Table


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
    assert "runs no script" in said(root.find(".//footer"))


def test_a_page_needs_neither_network_nor_script():
    assert not re.search(r"https?:|url\(|@import|<link|<img|<script|<iframe", whole(Section("one", "One", Markup()), lead="x"))


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
