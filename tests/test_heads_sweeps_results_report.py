"""The page and the tables of a sweep: what they say, against the run folders, and that they need nothing else."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
import small_runs
import small_sweeps
from caches import make_cache
from small_sweeps import ERROR, SHORT, make_sweep

from data.errors import InputError
from heads.evaluation.intervals import holm
from heads.runs.folder import RunFolder
from heads.sweeps.results.report import write_report
from heads.sweeps.results.trials import collect, paired, ranked


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """With its report. Not to be changed."""
    made = make_sweep(tmp_path_factory.mktemp("report"))
    assert write_report(made) == made / "report.html"
    return made


@pytest.fixture
def copy(sweep, tmp_path):
    return small_sweeps.copied(sweep, tmp_path / "copy")


def tree(sweep):
    """The page is well-formed XML behind its doctype."""
    return ET.fromstring((sweep / "report.html").read_text(encoding="utf-8").removeprefix("<!DOCTYPE html>"))


@pytest.fixture(scope="module")
def page(sweep):
    return tree(sweep)


def said(element):
    """All text but that of tooltips."""
    parts = [element.text, *(part for child in element for part in (said(child) if child.tag != "title" else "", child.tail))]
    return " ".join(" ".join(filter(None, parts)).split())


def key(row):
    return row["key"].split()[0]


def section(page, name):
    (found,) = page.findall(f".//section[@id='{name}']")
    return found


def rows(table):
    header = [said(cell) for cell in table.findall("thead/tr/th")]
    return [dict(zip(header, [said(cell) for cell in row], strict=True)) for row in table.findall("tbody/tr")]


def tables(page, name):
    return section(page, name).findall(".//table")


def test_the_page_needs_no_network(sweep, page):
    text = (sweep / "report.html").read_text(encoding="utf-8")
    assert not re.search("https?:", text)
    assert "@import" not in text
    assert {element.tag for element in page.iter()} & {"link", "img", "iframe", "object", "use"} <= {"use"}
    assert set(re.findall(r"url\((.)", text)) <= {"#"}
    assert all(element.get("src") is None for element in page.iter())


def test_links_lead_to_sections_of_the_page_and_to_the_run_folders_of_trials(sweep, page):
    links = [element.get("href") for element in page.iter() if element.get("href") and not element.get("href").startswith("#")]
    assert {sweep / link for link in links} == set((sweep / "trials").iterdir())
    for row in section(page, "ranked").findall(".//tbody/tr"):
        cell = row[-1]
        seeds = {link.text: (sweep / link.get("href")).name for link in cell.iter("a")}
        assert all(f"-{cell.text}-" in name and name.endswith(text.replace(" ", "")) for text, name in seeds.items())


def test_ids_are_unique_and_every_reference_leads_to_one(sweep, page):
    ids = [element.get("id") for element in page.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    text = (sweep / "report.html").read_text(encoding="utf-8")
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', text)) <= set(ids)
    assert [link.get("href")[1:] for link in page.findall(".//nav//a")] == [
        "ranked", "effects", "coordinates", "costs", "curves", "paired", "others", "grid",
    ]  # fmt: skip


def test_the_head_counts_trials(page):
    tiles = {said(tile.find("dt")): said(tile.find("dd")) for tile in page.findall(".//dl[@class='tiles']/div")}
    assert {name: tiles[name] for name in ("trials", "complete", "pruned", "failed", "unfinished", "configurations")} == {
        "trials": "9",
        "complete": "6",
        "pruned": "1",
        "failed": "1",
        "unfinished": "1",
        "configurations": "7",
    }


def test_the_page_says_that_features_are_frozen_and_the_test_split_is_sealed(page):
    notes = said(section(page, "notes"))
    assert "The features are frozen" in notes
    assert "another experiment" in notes
    assert "The test split is sealed: no trial of this sweep was evaluated on it." in notes
    assert "Features of made up; trained on cpu." in notes
    assert page.findall(".//section[@id='test']") == []


def test_configurations_are_in_their_order_with_spread_and_interval(page, sweep):
    found, expected = rows(tables(page, "ranked")[0]), ranked(collect(sweep), "mae")
    assert [key(row) for row in found] == expected["key"].tolist()
    assert [row["#"] for row in found] == [str(number + 1) for number in range(len(expected))]
    for row, (_, wanted) in zip(found, expected.iterrows(), strict=True):
        sd = "" if np.isnan(wanted["sd"]) else f" ± {wanted['sd']:.4f}"
        assert row["mae, mean ± sd"] == f"{wanted['mean']:.4f}{sd}"
        assert row["95 % interval"].replace("−", "-") == f"{wanted['low']:.4f} to {wanted['high']:.4f}"
        assert (row["over"], row["seeds"]) == (wanted["over"], str(wanted["seeds"]))
    by_head = {row["head"]: row for row in found}
    assert by_head["ridge"]["train.lr"] == "–"
    assert {row["train.lr"] for row in found} == {"0.001", "0.03", "–"}


def test_further_metrics_are_means_over_seeds(page, sweep):
    table = collect(sweep)
    for row in rows(tables(page, "ranked")[0]):
        values = table.loc[table["key"] == key(row), "valid.corr"]
        assert row["corr"].replace("−", "-").split(" ± ")[0] == f"{values.mean():.4f}"


def test_every_varied_option_has_a_picture_of_its_effect(page):
    labels = [svg.get("aria-label") for svg in section(page, "effects").findall(".//svg")]
    assert labels == ["mae by head, 6 trials", "mae by task, 6 trials", "mae by train.lr, 5 trials"]
    (picture,) = section(page, "coordinates").findall(".//svg")
    assert picture.get("aria-label") == "Options and mae of 4 configurations"
    assert "mae (lower is better)" in said(picture)


def test_learning_curves_are_of_the_best_that_were_trained(page):
    (picture,) = section(page, "curves").findall(".//svg")
    text = said(picture)
    assert picture.get("aria-label") == "Learning curves of 3 configurations"
    assert "training loss" in text
    assert "validation mae" in text
    assert len(re.findall(r"#\d pre-fusion, task \w+, lr 0\.0", text)) == 3


def test_the_best_is_tested_against_the_next_and_any_two_in_a_matrix(page, sweep):
    against, matrix = tables(page, "paired")
    keys = ranked(collect(sweep), "mae")["key"].tolist()
    expected = [paired(sweep, keys[0], other, "mae") for other in keys[1:]]
    found = rows(against)
    assert [row["difference in mae"].replace("−", "-") for row in found] == [f"{one.difference:+.4f}" for one in expected]
    assert [row["p"] for row in found] == [f"{one.p_value:.3f}" for one in expected]
    assert [row["p (Holm)"] for row in found] == [f"{p:.3f}" for p in holm(np.array([one.p_value for one in expected]))]
    assert "note" not in found[0]
    cells = [[said(cell) for cell in row[1:]] for row in matrix.findall("tbody/tr")]
    assert len(cells) == len(keys)
    for a in range(len(keys)):
        assert cells[a][a] == ""
        for b in range(a):
            one = paired(sweep, keys[b], keys[a], "mae")
            assert cells[b][a].replace("−", "-") == f"{one.difference:+.4f} p {one.p_value:.3f}"
            assert cells[a][b].replace("−", "-") == f"{-one.difference:+.4f} p {one.p_value:.3f}"


def test_a_cell_of_the_matrix_is_green_where_the_row_is_better(page):
    for row in tables(page, "paired")[1].findall("tbody/tr"):
        for cell in row[1:]:
            if text := said(cell):
                significant = float(text.rpartition("p ")[2]) < 0.05
                kinds = set(cell.get("class", "").split()) & {"good", "bad"}
                assert kinds == ({"good" if text.startswith("−") else "bad"} if significant else set())


def test_trials_that_are_not_ranked_say_why(page, sweep):
    found = {row["status"]: row for row in rows(tables(page, "others")[0])}
    pruned = collect(sweep).set_index("status").loc["pruned"]
    failed = found["failed"]["trial"]
    assert found["failed"]["why"] == f"{ERROR} To try it again, remove trials/{failed}/failed.json and give the same command."
    assert found["failed"]["train.lr"] == "1000"
    assert found["pruned"]["why"] == f"pruned after 2 epochs at mae {pruned['valid.mae']:.4f}"
    assert found["unfinished"]["why"].startswith("not ended yet")
    assert "# <&>" in said(section(page, "grid"))


def test_an_opened_test_split_is_shown_with_when_it_was_opened(copy):
    (path,) = (copy / "trials").glob("*-ridge-*")
    folder = RunFolder(path)
    folder.write_metrics(folder.metrics() | {"test": {"mae": 0.125, "corr": None}})
    folder.record_opening("test", "checkpoint")
    write_report(copy)
    page = tree(copy)
    (row,) = rows(tables(page, "test")[0])
    assert (row["trial"], row["mae"]) == (path.name, "0.1250")
    assert row["opened"] == pd.read_csv(path / "opened.csv")["when"][0]
    assert "The test split was opened for 1 of the trials" in said(section(page, "notes"))
    assert "sealed" not in said(section(page, "notes"))


def test_tables_are_written_unrounded_as_csv_and_rounded_as_markdown_and_latex(sweep):
    folder, expected = sweep / "tables", ranked(collect(sweep), "mae")
    assert sorted(path.name for path in folder.iterdir()) == [
        "paired.csv", "paired.md", "paired.tex", "ranked.csv", "ranked.md", "ranked.tex", "trials.csv",
    ]  # fmt: skip
    found = pd.read_csv(folder / "ranked.csv", dtype={"key": str})
    assert found["corpus"].tolist() == ["mosi"] * 4
    assert found["key"].tolist() == expected["key"].tolist()
    np.testing.assert_array_equal(found[["mean", "low", "high"]], expected[["mean", "low", "high"]])
    assert len(pd.read_csv(folder / "paired.csv")) == 6
    assert len(pd.read_csv(folder / "trials.csv")) == 9
    lines = (folder / "ranked.md").read_text().splitlines()
    assert lines[0].startswith("| # | head | task | train.lr | seeds | mae, mean ± sd |")
    assert [line.split(" | ")[-1].removesuffix(" |") for line in lines[2:6]] == expected["key"].tolist()
    assert "The features are frozen" in (folder / "ranked.md").read_text()


def test_latex_is_balanced_and_has_the_columns_that_it_declares(sweep):
    for name in ("ranked", "paired"):
        text = (sweep / "tables" / f"{name}.tex").read_text()
        body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
        assert [text.count(rule) for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\begin{tabular}", r"\end{tabular}")] == [
            1
        ] * 5
        columns = re.search(r"\\begin\{tabular\}\{([lr]+)\}", body)[1]
        lines = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert {len(re.findall(r"(?<!\\)&", line)) + 1 for line in lines} == {len(columns)}
        assert not re.search(r"(?<!\\)[_#%]", body)
    assert r"acc2\_non0" in (sweep / "tables" / "ranked.tex").read_text()
    assert r"$\pm$" in (sweep / "tables" / "ranked.tex").read_text()


def test_another_metric_ranks_when_asked(copy):
    write_report(copy, "corr")
    page = tree(copy)
    assert [key(row) for row in rows(tables(page, "ranked")[0])] == ranked(collect(copy), "corr")["key"].tolist()
    assert "Ranked by corr (higher is better)" in said(section(page, "ranked"))
    for name in ("loss", "mea"):
        with pytest.raises(InputError, match=f"Unknown metric '{name}'"):
            write_report(copy, name)


def test_emotions_alone_are_ranked_by_their_mean_f1_and_one_configuration_has_nothing_to_compare(tmp_path):
    cache, trials = make_cache(tmp_path / "cache"), tmp_path / "sweep" / "trials"
    small_runs.run(cache, trials, changes={**SHORT, "task": "mer"})
    write_report(trials.parent)
    page = tree(trials.parent)
    assert [link.get("href") for link in page.findall(".//nav//a")] == ["#ranked", "#curves"]
    assert "Ranked by mean_wf1 (higher is better)" in said(section(page, "ranked"))
    assert (trials.parent / "tables" / "paired.csv").read_text().startswith("corpus,a,b,difference")


def test_corpora_are_ranked_apart(sweep, copy, tmp_path):
    cache = make_cache(tmp_path / "cache", corpus="meld")
    for lr in small_sweeps.RATES:
        small_runs.run(cache, copy / "trials", changes={**SHORT, "train.lr": lr}, corpus="meld")
    write_report(copy)
    page = tree(copy)
    ids = [element.get("id") for element in page.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    assert len(rows(tables(page, "ranked-meld")[0])) == 2
    assert rows(tables(page, "ranked-mosi")[0]) == rows(tables(tree(sweep), "ranked")[0])
    assert pd.read_csv(copy / "tables" / "ranked.csv")["corpus"].tolist() == ["meld"] * 2 + ["mosi"] * 4


def test_a_sweep_in_which_nothing_is_complete_has_a_page_too(copy):
    for path in (copy / "trials").iterdir():
        (path / "metrics.json").unlink(missing_ok=True)
    write_report(copy)
    page = tree(copy)
    assert [link.get("href") for link in page.findall(".//nav//a")] == ["#others", "#grid"]
    assert len(rows(tables(page, "others")[0])) == 9


def test_the_same_sweep_gives_the_same_page(sweep, copy):
    before = (copy / "report.html").read_bytes()
    write_report(copy)
    assert (copy / "report.html").read_bytes() == before.replace(b"sweep_1", b"copy")


def test_a_grid_file_that_is_no_text_is_shown_with_its_bytes(copy):
    (copy / "grid.yaml").write_bytes(b"head: caf\xe9\n")
    write_report(copy)
    assert r"head: caf\xe9" in said(section(tree(copy), "grid"))


def test_what_comes_from_files_is_escaped(copy):
    (path,) = (copy / "trials").glob("*/failed.json")
    RunFolder(path.parent).write_failure("<script>alert('&')</script>")
    write_report(copy)
    found = {row["status"]: row["why"] for row in rows(tables(tree(copy), "others")[0])}
    assert found["failed"].startswith("<script>alert('&')</script> To try it again, ")
