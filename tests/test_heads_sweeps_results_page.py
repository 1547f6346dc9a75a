"""Parts of a page: what is text is escaped, and a table is whole where a reader can take it in."""

import xml.etree.ElementTree as ET

import pytest

from heads.sweeps.results import page


@pytest.mark.parametrize(("count", "classes"), [(3, "scroll"), (40, "scroll"), (41, "scroll tall")])
def test_only_a_long_table_has_a_scroll_bar_of_its_own(count, classes):
    made = ET.fromstring(page.table(["row"], [[str(number)] for number in range(count)], caption="A & B"))
    assert made.get("class") == classes
    assert made.get("aria-label") == "A & B"
    assert ["".join(cell.itertext()) for cell in made.iter("td")] == [str(number) for number in range(count)]


def test_text_is_escaped_and_a_cell_has_its_kind_and_what_stands_below():
    made = ET.fromstring(page.table(["a<b", "n"], [["x & y", page.Cell("1", "good", "<2>")]], ("a<b",), best=0))
    assert [head.text for head in made.iter("th")] == ["a<b", "n"]
    first, second = made.iter("td")
    assert (first.text, first.get("class")) == ("x & y", "l")
    assert (second.text, second.get("class"), second.find("small").text) == ("1", "good", "<2>")
    assert made.find(".//tbody/tr").get("class") == "best"


def test_a_page_has_every_section_in_its_navigation():
    made = page.page("kind", "A <title>", {"runs": "3"}, {"one": ("First", page.paragraph("a < b"))}, ["a note"])
    tree = ET.fromstring(made.removeprefix("<!DOCTYPE html>"))
    assert [(link.get("href"), link.text) for link in tree.iter("a")] == [("#one", "First")]
    assert tree.find(".//section[@id='one']/p").text == "a < b"
    assert tree.find(".//h1").text == "A <title>"
    assert "".join(tree.find(".//section[@id='notes']/ul").itertext()) == "a note"
