"""`python -m heads tables`: what is trained, what is opened, and that every number comes from metrics.json or from the paper."""

import contextlib
import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
import yaml
from caches import make_cache
from command_line import call, content
from small_tables import PRESET, command, make_place

from heads.__main__ import main
from heads.runs.folder import RunFolder
from heads.tables import paper
from heads.tables.rows import TABLES


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a cache of both corpora and small settings."""
    return make_place(tmp_path_factory.mktemp("tables"))


@pytest.fixture(scope="module")
def made(place):
    """Both tables of the validation split, and what was printed."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert main([str(part) for part in command(place)]) == 0
    return place / "made", printed.getvalue()


def table(folder, name):
    return pd.read_csv(folder / f"{name}.csv", keep_default_na=True)


def files(folder):
    """Name → time and bytes of each file that is no folder."""
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.iterdir() if path.is_file()}


def trials(folder):
    return {path.name: content(path) for path in sorted((folder / "trials").iterdir())}


def page(folder, name):
    """The page is well-formed XML behind its doctype."""
    return ET.fromstring((folder / f"{name}.html").read_text(encoding="utf-8").removeprefix("<!DOCTYPE html>"))


def said(element):
    return " ".join(" ".join(element.itertext()).split())


@pytest.mark.parametrize("name", ["table1", "table2"])
def test_numbers_are_mean_and_deviation_of_what_is_in_metrics_json(made, name):
    folder, _ = made
    found = table(folder, name)
    found = found[~found["method"].str.startswith("never")]
    for _, row in found.iterrows():
        runs = [RunFolder(folder / "trials" / run) for run in row["runs"].split()]
        assert len(runs) == row["seeds"] == (1 if row["head"] == "median" else 2)
        values = np.array([run.metrics()["valid"][row["metric"]] for run in runs], float)
        assert row["mean"] == pytest.approx(values.mean(), nan_ok=True, abs=1e-12)
        assert row["sd"] == pytest.approx(values.std(ddof=1) if len(values) > 1 else np.nan, nan_ok=True, abs=1e-12)
    assert {*found["metric"]} == {*TABLES[name].metrics, *TABLES[name].further}


def test_the_paper_stands_beside_ours(made):
    folder, printed = made
    for name in ("table1", "table2"):
        for _, row in table(folder, name).dropna(subset="paper").iterrows():
            assert paper.published(name, row["corpus"])[row["head"]].values[row["metric"]] == row["paper"]
    assert re.search(r"^MMoLRE  ours( +[−\d.]+ ± [\d.]+){8}\n +paper +85\.96 +85\.93 +88\.21 +88\.23 +56\.51 +47\.52 +0\.666 +0\.837$", printed, re.M)  # fmt: skip  # noqa: E501
    ours = table(folder, "table1").query("corpus == 'mosi' and method == 'MMoLRE' and metric == 'mae'").iloc[0]
    assert f"{ours['mean']:.3f} ± {ours['sd']:.3f}" in printed


def test_the_last_row_never_predicts_an_emotion(made):
    folder, _ = made
    found = table(folder, "table2")
    never = found[found["method"] == "never predicts an emotion"].set_index("metric")["mean"]
    metrics = RunFolder(folder / "trials" / found["runs"].iloc[-1]).metrics()["valid"]
    assert found["method"].iloc[-1] == "never predicts an emotion"
    for metric in paper.EMOTION_COLUMNS:
        assert never[metric] == metrics[re.sub(r"_(acc|wf1)$", r"_never_\1", metric)]


def test_tasks_are_those_of_the_paper(made):
    folder, _ = made
    tasks = {}
    for name in ("table1", "table2"):
        known = table(folder, name)[["head", "task"]].fillna({"head": "none"}).drop_duplicates()
        tasks[name] = dict(known.itertuples(index=False))
    assert tasks == {
        "table1": {"mmolre": "both", "cogmen": "msa", "median": "msa"},
        "table2": {"mmolre": "both", "cogmen": "mer", "median": "mer", "none": "mer"},
    }


def test_what_two_tables_have_is_trained_once(made):
    folder, _ = made
    names = [re.sub(r"-small-.{8}-seed.", "", path.name) for path in (folder / "trials").iterdir()]
    assert {name: names.count(name) for name in sorted(names)} == {
        "mosei-cogmen": 4,  # of either task
        "mosei-median": 2,
        "mosei-mmolre": 2,  # of both tasks
        "mosi-cogmen": 2,
        "mosi-median": 1,
        "mosi-mmolre": 2,
    }


def test_what_was_asked_for_is_recorded(made):
    folder, _ = made
    header, _, text = (folder / "grid.yaml").read_text(encoding="utf-8").partition("\n")
    asked = yaml.safe_load(text)
    assert header == "# What `python -m heads tables` was last asked for here. No grid of `heads sweep`."
    assert list(asked) == ["only", "heads", "seeds", "preset", "corpora", "split", "add", "trials"]
    assert asked["only"] == ["table1", "table2"]
    assert (asked["seeds"], asked["corpora"], asked["add"]) == ([1, 2], None, [])
    assert asked["trials"] == sorted(path.name for path in (folder / "trials").iterdir())


def test_again_nothing_is_trained_and_more_seeds_train_what_is_new(made, place, capsys):
    folder, _ = made
    before = trials(folder)
    status, out, err = call(capsys, *command(place))
    assert (status, err) == (0, "")
    assert out.startswith(f"{folder}: 13 trials, 13 of them over\n")
    assert trials(folder) == before
    status, out, _ = call(capsys, *command(place, only="table2", heads="mmolre"), "--seeds", "1", "2", "3")
    assert f"{folder}: 4 trials, 3 of them over" in out
    assert trials(folder) == before | {name: found for name, found in trials(folder).items() if name.endswith("seed3")}
    assert len(trials(folder)) == len(before) + 1
    assert table(folder, "table2").set_index("head")["seeds"]["mmolre"].unique() == [3]
    assert call(capsys, *command(place))[0] == 0


def test_context_models_stand_apart_and_simple_baselines_behind(made):
    folder, printed = made
    groups = ["Heads that read one utterance", "Heads that read whole videos", "Simple baselines"]
    for name, corpora in (("table1", ("mosi", "mosei")), ("table2", ("mosei",))):
        headings = [f"CMU-{corpus.upper()}, validation split: {group}" for corpus in corpora for group in groups]
        places = [printed.index(f"{TABLES[name].title}, {heading}") for heading in headings]
        assert places == sorted(places)
        lines = (folder / f"{name}.md").read_text().splitlines()
        found = [line[3:].partition(" (")[0] for line in lines if line.startswith("## ")]
        assert found == [*[*groups, "What each row is"] * len(corpora), "Notes"]
    for part in page(folder, "table1").findall(".//table"):
        titled = {said(group[0]): said(group[1]) for group in part.findall("tbody") if group[0].get("class") == "group"}
        if titled:
            (context,) = [text for title, text in titled.items() if "whole videos" in title]
            assert context.startswith("COGMEN")
            assert titled["Simple baselines"].startswith("median")


def test_a_row_says_what_it_is_a_reproduction_of(made):
    folder, _ = made
    text = (folder / "table1.md").read_text()
    assert "| COGMEN | cogmen | msa | small | 2 | faithful | Joshi et al., NAACL 2022" in text
    assert "utterance transformer and relational graph; settings of small.yaml |" in text
    for name in ("table1.md", "table1.tex", "table1.html"):
        content = " ".join((folder / name).read_text().split())
        assert "The features are frozen" in content
        assert "Features of made up." in content


def test_latex_has_the_columns_that_it_declares(made):
    folder, _ = made
    for name, width, tabulars in (("table1", 10, 8), ("table2", 16, 4)):
        text = (folder / f"{name}.tex").read_text()
        bodies = re.findall(r"\\begin\{tabular\}\{([lr]+)\}(.*?)\\end\{tabular\}", text, re.S)
        assert len(bodies) == tabulars
        for sides, body in bodies:
            assert len(sides) in (width, 7)
            lines = [line for line in body.splitlines() if line.endswith(r"\\")]
            assert {len(re.findall(r"(?<!\\)&", line)) + 1 for line in lines} == {len(sides)}
            assert not re.search(r"(?<!\\)[_#%]", body)
        assert r"$\pm$" in text
    assert "& paper & 85.96 & 85.93" in (folder / "table1.tex").read_text()


def test_the_page_needs_nothing_else_and_has_the_paper_below_ours(made):
    folder, _ = made
    text = (folder / "table1.html").read_text(encoding="utf-8")
    assert re.findall("http[^w-]|<script[^>]*>|src=", text) == ["<script>"], "the page's own script alone, and no address"
    tree = page(folder, "table1")
    (row,) = [row for row in tree.findall(".//section[@id='mosi']//tr") if said(row).startswith("MMoLRE")]
    assert [said(cell.find("small")) for cell in row[1:3]] == ["paper 85.96", "paper 85.93"]
    assert [link.get("href") for link in tree.findall(".//nav//a")] == ["#mosi", "#rows-mosi", "#mosei", "#rows-mosei", "#paper"]
    assert "may be the wrong way round" in said(tree.find(".//section[@id='paper']"))
    ids = [element.get("id") for element in tree.iter() if element.get("id")]
    assert len(ids) == len(set(ids))


def test_the_test_split_is_opened_once_for_each_run_and_written_down(place, capsys):
    asked = command(place, heads="baseline-msa", only="table1", out="opened")
    assert call(capsys, *asked)[0] == 0
    folder = place / "opened"
    before = files(folder)
    assert not list((folder / "trials").glob("*/opened.csv"))
    for _ in range(2):
        status, out, _ = call(capsys, *asked, "--split", "test")
        assert status == 0
        assert "Our results are on the test split" in out
        logs = [pd.read_csv(path)["split"].tolist() for path in (folder / "trials").glob("*/opened.csv")]
        assert logs == [["test"]] * 6
    found = table(folder, "table1-test")
    row = found.query("corpus == 'mosei' and head == 'baseline-msa' and metric == 'corr'").iloc[0]
    values = [RunFolder(folder / "trials" / run).metrics()["test"]["corr"] for run in row["runs"].split()]
    assert row["mean"] == pytest.approx(np.mean(values), abs=1e-12)
    assert {*found["split"]} == {"test"}
    after = files(folder)
    assert all(after[name] == before[name] for name in before if name.startswith("table1."))


def test_points_of_a_grid_have_a_picture_with_ours_and_the_paper(place, capsys):
    (place / "family.yaml").write_text("\n".join(PRESET.splitlines()[:3]))  # the grid file says the rest
    asked = command(place, heads="mmolre", only="table3", out="figures")
    status, out, err = call(capsys, *asked, "--preset", place / "family.yaml", "--seeds", "1")
    assert (status, err) == (0, "")
    folder = place / "figures"
    assert (folder / "table3.png").read_bytes().startswith(b"\x89PNG")
    svg = (folder / "table3.svg").read_text()
    assert all(words in svg for words in ("paper, fine-tuned encoders", "ours, mean ± sd", "frozen features", "MAE (lower is better)"))
    (chart,) = page(folder, "table3").findall(".//svg")
    assert "ours, mean ± sd" in said(chart)
    assert "rank 16 has the best Has0 accuracy" in out
    ranks = table(folder, "table3").query("metric == 'acc7'")
    assert ranks["method"].tolist() == ["{16}^15", "{64}^15", "{128}^15", "{16+8n|n=0,…,14}", "median"]
    assert ranks["paper"].tolist()[:4] == [0.5523, 0.543, 0.5581, 0.5626]
    configs = [RunFolder(folder / "trials" / run).config()["config"]["model"]["mixture"] for run in ranks["runs"][:4]]
    assert [config["rank"] for config in configs] == [16, 64, 128, list(paper.MIXED_RANKS)]
    assert {(config["experts"], config["top_k"]) for config in configs} == {(15, 15)}


def test_a_corpus_that_is_not_in_the_cache_is_left_out(place, capsys):
    make_cache(place / "alone", corpus="mosei", seed=1)
    status, out, _ = call(capsys, *command(place, cache="alone", out="alone_made", heads="mmolre", only="table1"), "--seeds", "1")
    assert status == 0
    assert f"mosi is not in the cache {place / 'alone'}: what the tables have on it is left out." in out
    assert "one seed says nothing about the spread over seeds." in out
    assert {*table(place / "alone_made", "table1")["corpus"]} == {"mosei"}


def test_a_row_that_cannot_be_trained_says_why_and_the_others_are(place, capsys):
    make_cache(place / "bare", emotions=False)
    status, out, _ = call(capsys, *command(place, cache="bare", out="bare_made", heads="mmolre,baseline-msa", only="table1"))
    assert status == 0
    assert re.search(r"- Missing: mosi, MMoLRE: mosi: none of \d+ utterances of train has annotated emotion labels", out)
    counts = table(place / "bare_made", "table1").set_index("head")["seeds"]
    assert counts.to_dict() == {"mmolre": 0, "baseline-msa": 2, "median": 1}


def test_a_folder_of_another_sweep_or_cache_is_refused(made, place, capsys):
    (place / "sweep").mkdir()
    for written in (b"head: mmolre\n", b"\xff\xfe"):
        (place / "sweep" / "grid.yaml").write_bytes(written)
        status, _, err = call(capsys, *command(place, out="sweep"))
        assert (status, err) == (2, f"error: {place / 'sweep'}: holds another sweep. Choose another --out.\n")
    make_cache(place / "wider", corpus="mosei", seed=1, text_dim=9)
    status, _, err = call(capsys, *command(place, cache="wider", only="table2"))
    assert (status, "holds a run of another configuration: encoders.text.dim is 8, not 9. Choose" in err) == (2, True)


def test_trials_that_fail_are_counted_said_to_be_missing_and_the_status(place, capsys):
    """Of what is asked for: others of the folder count no more."""
    (place / "fails.yaml").write_text(PRESET.replace("lr: 1.0e-2", "lr: 1.0e+30"))
    given = command(place, "--preset", place / "fails.yaml", "--corpora", "mosi", out="fails", heads="baseline-msa", only="table1")
    status, out, _ = call(capsys, *given)
    assert status == 1
    name = next(path.name for path in (place / "fails" / "trials").iterdir() if "baseline-msa" in path.name and "seed1" in path.name)
    helps = f"To try it again, remove trials/{name}/failed.json and give the same command."
    assert re.search(rf"^2 of 3 trials failed; {name}: Epoch 1: the validation loss is not finite\. .* {re.escape(helps)}$", out, re.M)
    assert re.search(rf"^- Missing: mosi, .*: seed 1: Epoch 1: the validation loss .* {re.escape(helps)}$", out, re.M)
    path = place / "fails" / "trials" / name / "config.json"
    path.write_text(path.read_text().replace("made up", "another encoder"))
    status, out, _ = call(capsys, *command(place, "--corpora", "mosi", out="fails", heads="baseline-msa", only="table1"))
    assert (status, "failed" in out) == (0, False)
    assert "- Features of made up.\n" in out
