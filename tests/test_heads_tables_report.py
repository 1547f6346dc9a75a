"""Files of the paper's tables, of results made by hand: what stands beside what, links, and what a page needs."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from table_parts import RUN, part

from heads.evaluation.metrics import METRICS
from heads.tables import paper
from heads.tables.report import Part, about, ours, theirs, write


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Path, str, Part]:
    """The files of Table I on MOSI and of Figure 2, what was printed, and the part of Table I."""
    folder, one = tmp_path_factory.mktemp("tables"), part("table1", "mosi")
    return folder, write(folder, [one, part("fig2", "mosei")], ["A note <of> ours."]), one


def page(folder: Path, name: str) -> ET.Element:
    return ET.fromstring((folder / f"{name}.html").read_text(encoding="utf-8").removeprefix("<!DOCTYPE html>"))


def said(element: ET.Element) -> str:
    return " ".join(" ".join(element.itertext()).split())


def test_every_table_has_its_files_and_a_figure_has_pictures(written):
    folder, printed, _ = written
    table = {f"table1{suffix}" for suffix in (".csv", ".md", ".tex", ".html")}
    figure = {f"fig2{suffix}" for suffix in (".csv", ".md", ".tex", ".html", ".svg", ".png")}
    assert {path.name for path in folder.iterdir()} == table | figure
    assert f"{folder / 'table1'}.*: CSV, Markdown, LaTeX, HTML" in printed
    assert "- A note <of> ours." in printed


def test_csv_is_unrounded(written):
    folder, _, one = written
    found = pd.read_csv(folder / "table1.csv")
    for result in one.results:
        row = found[(found["method"] == result.row.method) & (found["metric"] == "mae")].iloc[0]
        assert (row["mean"], row["sd"]) == tuple(pytest.approx(value, abs=1e-15, nan_ok=True) for value in result.value("mae"))


def test_numbers_are_printed_as_the_paper_prints_them(written):
    _, _, one = written
    (first,) = [result for result in one.results if result.row.method == "MMoLRE"]
    mean, sd = first.value("acc7")
    assert ours("acc7", first) == f"{100 * mean:.2f} ± {100 * sd:.2f}"
    assert theirs("acc7", first) == f"{100 * paper.published('table1', 'mosi')['mmolre'].values['acc7']:.2f}"


def test_groups_share_the_columns_of_one_table_and_the_papers_number_stands_below(written):
    folder, _, _ = written
    tree = page(folder, "table1")
    (table,) = tree.findall(".//section[@id='mosi']//table")
    titles = [said(title) for title in table.findall(".//tr[@class='group']")]
    assert [title.partition(" (")[0] for title in titles] == [
        "Heads that read one utterance",
        "Heads that read whole videos",
        "Simple baselines",
    ]
    (row,) = [row for row in table.iter("tr") if said(row).startswith("MMoLRE")]
    assert [said(cell.find("small")) for cell in row[1:3]] == ["paper 85.96", "paper 85.93"]
    assert [said(head) for head in table.findall("thead/tr/th")][1:] == [METRICS[name].label for name in paper.SENTIMENT_COLUMNS]


def test_the_best_of_ours_is_bold_in_every_column_in_its_direction(written):
    folder, _, one = written
    (table,) = page(folder, "table1").findall(".//section[@id='mosi']//table")
    rows = {said(row[0]): row for row in table.iter("tr") if len(row) > 1 and row[0].tag == "th"}
    for place, name in enumerate(paper.SENTIMENT_COLUMNS, 1):
        means = {result.row.method: result.value(name).mean for result in one.results if not np.isnan(result.value(name).mean)}
        best = max(means, key=means.__getitem__) if METRICS[name].higher_is_better else min(means, key=means.__getitem__)
        assert [method for method, row in rows.items() if "best" in (row[place].get("class") or "")] == [best]


def test_each_row_links_to_its_run_folders(written):
    folder, _, one = written
    links = page(folder, "table1").findall(".//section[@id='rows-mosi']//a")
    expected = [seed.folder for result in one.results for seed in result.done]
    assert sorted(link.get("href") for link in links) == sorted(f"trials/{name}/" for name in expected)
    assert {link.text for link in links} == {"seed 1", "seed 2"}


def test_a_row_says_what_it_is_a_reproduction_of(written):
    _, _, one = written
    table = about(one)
    assert [column.name for column in table.columns] == ["method", "head", "task", "preset", "seeds", "reproduction", "of what"]
    (row,) = [row for row in table.texts if row[0] == "MMoLRE"]
    assert row[1:6] == ["mmolre", "both", "common", "2", "faithful"]


def test_a_page_needs_nothing_else_and_its_ids_are_unique(written):
    folder, _, _ = written
    for name in ("table1", "fig2"):
        assert not re.search("https?:|<img|@import|url\\(", (folder / f"{name}.html").read_text(encoding="utf-8"))
        ids = [element.get("id") for element in page(folder, name).iter() if element.get("id")]
        assert len(ids) == len(set(ids))
    assert "A note <of> ours." in said(page(folder, "table1").find(".//section[@id='notes']"))


def test_a_figure_is_on_its_page_in_the_colours_of_the_page(written):
    folder, _, _ = written
    (chart,) = page(folder, "fig2").findall(".//svg")
    assert chart.get("aria-label") == "Figure 2: number of experts and top-k, CMU-MOSEI, validation split"
    assert "var(--s0)" in ET.tostring(chart).decode()
    assert "var(--" not in (folder / "fig2.svg").read_text()


def test_missing_rows_say_why(tmp_path):
    one = part("table1", "mosi", failed="MISA")
    printed = write(tmp_path, [one], [])
    assert "- Missing: mosi, MISA: seed 1: it broke" in printed
    assert RUN.format("mosi", "MISA", 1) not in (tmp_path / "table1.html").read_text()


def test_notes_and_pictures_say_which_features_are_adapted(tmp_path):
    words = ["minilm-adapted-1 (adapted on mosi)", "tiny-data2vec (untrained)"]
    printed = write(tmp_path, [part("fig2", "mosei")], [], words)
    assert "The features of tiny-data2vec (untrained) are frozen: the encoders ran once" in printed
    assert "The features of minilm-adapted-1 are adapted on mosi: the encoder learned the task once" in printed
    assert "Ours: frozen, adapted on mosi features." in (tmp_path / "fig2.svg").read_text(encoding="utf-8")
