"""`python -m heads tables --add`: where rows of other tools go, what they say of themselves, and which are refused."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest
import small_tables
from caches import make_cache
from command_line import call

from data.cache import open_corpus
from data.labels import EMOTIONS
from data.manifest import read_manifest, write_manifest
from heads.evaluation.metrics import emotion_metrics, sentiment_metrics
from heads.tables.rows import TABLES

CORPORA = ("mosi", "mosei")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a cache of both corpora, small settings, and predictions of everything."""
    folder = tmp_path_factory.mktemp("tables")
    for seed, corpus in enumerate(CORPORA):
        make_cache(folder / "cache", corpus=corpus, seed=seed)
        table, rng = manifest(folder, corpus), np.random.default_rng(seed)
        frame = pd.DataFrame({"id": table["video_id"] + "$_$" + table["clip_id"], "sentiment": rng.normal(size=len(table))})
        frame.to_csv(folder / f"{corpus}.csv", index=False)
        frame.assign(**{emotion: rng.random(len(table)) for emotion in EMOTIONS}).to_csv(folder / f"{corpus}-both.csv", index=False)
    (folder / "small.yaml").write_text(small_tables.PRESET)
    return folder


def manifest(place, corpus):
    return read_manifest(open_corpus(place / "cache", corpus).manifest)


def command(place, *more, only="table1,table2", heads="baseline-msa,baseline-mer", out="made"):
    return small_tables.command(place, *more, only=only, heads=heads, out=out, seeds="1")


def expected(place, corpus, split):
    """The metrics of the predictions, from the files alone."""
    table = manifest(place, corpus).set_index("utterance_id")
    frame = pd.read_csv(place / f"{corpus}-both.csv").set_axis(table.index)
    own = table["split"] == split
    truth, probability = table.loc[own, list(EMOTIONS)].to_numpy(), frame.loc[own, list(EMOTIONS)].to_numpy()
    sentiment = sentiment_metrics(frame.loc[own, "sentiment"].to_numpy(), table.loc[own, "sentiment"].to_numpy())
    return sentiment | emotion_metrics(probability, (truth > 0).astype(float))


@pytest.mark.parametrize("split", ["valid", "test"])
def test_rows_are_added_where_their_ids_are_and_have_a_group_of_their_own(place, capsys, split):
    files = [f"MFN={place / 'mosi.csv'}", f"My tool={place / 'mosei-both.csv'}", f"MFN=mosei:{place / 'mosei.csv'}"]
    status, out, err = call(capsys, *command(place, *(part for file in files for part in ("--add", file))), "--split", split)
    assert (status, err) == (0, "")
    suffix = "" if split == "valid" else "-test"
    found = {name: pd.read_csv(place / "made" / f"{name}{suffix}.csv") for name in ("table1", "table2")}
    added = {name: one[one["group"] == "other tools"] for name, one in found.items()}
    rows = {name: list(one[["corpus", "method"]].drop_duplicates().itertuples(index=False, name=None)) for name, one in added.items()}
    assert rows == {"table1": [("mosi", "MFN"), ("mosei", "My tool"), ("mosei", "MFN")], "table2": [("mosei", "My tool")]}
    for name, one in added.items():
        assert {*one["reproduction"]} == {"imported predictions"}
        assert {*one["metric"]} == {*TABLES[name].metrics, *TABLES[name].further}
        assert one[["head", "preset", "seeds", "sd", "paper"]].isna().all().all()
        values = one[one["method"] == "My tool"].set_index("metric")["mean"].to_dict()
        wanted = {metric: expected(place, "mosei", split)[metric] for metric in map(str, values)}
        assert values == pytest.approx(wanted, rel=1e-5, nan_ok=True)
    assert out.count("Rows of other tools are imported predictions, measured as ours are.") == 2
    assert re.search(r"CMU-MOSI, \w+ split: Other tools \(imported predictions\)\n\nmethod +from.*\nMFN +imported +[\d.]+", out)
    assert re.search(r"^My tool +– +mer +– +– +imported predictions$", out, re.M), "of how many seeds is not known"


def test_every_form_of_a_table_has_the_row_before_the_simple_baselines(place, capsys):
    asked = command(place, "--add", f"A_b=mosi:{place / 'mosi.csv'}", only="table1", heads="baseline-msa", out="forms")
    assert call(capsys, *asked)[0] == 0
    texts = {form: (place / "forms" / f"table1{form}").read_text(encoding="utf-8") for form in (".md", ".tex", ".html")}
    headings = re.findall(r"^## (.*)", texts[".md"], re.M)
    assert headings[:3] == ["Heads that read one utterance", "Other tools (imported predictions)", "Simple baselines"]
    assert r"| A\_b | – | msa | – | – | imported predictions | predictions of another tool, read from mosi.csv |" in texts[".md"]
    assert r"A\_b & imported & " in texts[".tex"]
    tree = ET.fromstring(texts[".html"].removeprefix("<!DOCTYPE html>"))
    groups = ["".join(one.itertext()) for one in tree.findall(".//section[@id='mosi']//tr[@class='group']")]
    assert groups == headings[:3]
    assert f"add:\n- A_b=mosi:{place / 'mosi.csv'}\n" in (place / "forms" / "grid.yaml").read_text()


def test_an_added_row_changes_no_other(place, capsys):
    asked = command(place, only="table1", heads="baseline-msa", out="twice")
    found, tiles = [], []
    for more in ([], ["--add", f"MFN={place / 'mosei.csv'}"]):
        assert call(capsys, *asked, *more)[0] == 0
        found.append(pd.read_csv(place / "twice" / "table1.csv"))
        page = (place / "twice" / "table1.html").read_text(encoding="utf-8")
        tiles.append(dict(re.findall("<dt>(rows|runs)</dt><dd>(.*?)</dd>", page)))
    alone, beside = found
    pd.testing.assert_frame_equal(beside[beside["group"] != "other tools"].reset_index(drop=True), alone, check_dtype=False)
    assert len(beside) == len(alone) + len(TABLES["table1"].metrics)
    assert tiles == [{"rows": "4", "runs": "4"}, {"rows": "5", "runs": "4"}]


REFUSED = {
    "no name": (["={mosi}"], "={mosi}', expected NAME=FILE or NAME=CORPUS:FILE."),
    "a name of blanks": ([" ={mosi}"], "the name of its row is ' ', expected letters, digits and signs on one line."),
    "a name of two lines": (["a\nb={mosi}"], "the name of its row is 'a\\nb', expected"),
    "a name that rings": (["a\x07={mosi}"], "the name of its row is 'a\\x07', expected"),
    "no file": (["MFN"], "--add is 'MFN', expected NAME=FILE"),
    "a corpus without a file": (["MFN=mosi:"], "--add is 'MFN=mosi:', expected NAME=FILE"),
    "a file that is not there": (["MFN=nowhere.csv"], "nowhere.csv: cannot be read (No such file or directory)."),
    "ids of another corpus": (["MFN=mosei:{mosi}"], "mosi.csv:2: id is 'mosi0$_$1', which names no utterance, or several, of mosei"),
    "ids of none": (["MFN={none}"], "of mosi. {none}:2: id is 'mosi0$_$1', which names no utterance, or several, of mosei (23"),
    "a row that is missing": (["MFN={few}"], "labelled utterances of mosi, valid, are not in it, first"),
    "the name of a row": (["median={mosi}"], "--add: there would be two rows called 'median' on mosi."),
    "a name twice": (["MFN={mosi}", "MFN=mosi:{both}"], "--add: there would be two rows called 'MFN' on mosi."),
}


@pytest.mark.parametrize(("given", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_added_is_refused_before_anything_is_trained(place, capsys, given, message):
    frame = pd.read_csv(place / "mosi.csv")
    frame.assign(id=["mosi0$_$1", "clip", *frame["id"][2:]]).to_csv(place / "none.csv", index=False)
    frame[:3].to_csv(place / "few.csv", index=False)
    names = {name: str(place / f"{name}.csv") for name in ("mosi", "none", "few")} | {"both": str(place / "mosi-both.csv")}
    more = [part for one in given for part in ("--add", one.format(**names))]
    status, out, err = call(capsys, *command(place, *more, out="refused"))
    assert (status, out) == (2, "")
    assert message.format(**names) in err
    assert err.count("\n") == 1
    assert not (place / "refused").exists()


PLACES = {
    "emotions that it lacks": ("table2", "MFN={mosei}", "has a place for MFN, which predicts sentiment only, on mosei. Make another"),
    "a corpus that the table lacks": ("table2", "MFN=mosi:{mosi}", "which predicts sentiment only, on mosi. Make another with --only"),
    "a figure": ("fig3", "MFN={mosei}", "--add is for table1 and table2, of which none is made here."),
}


@pytest.mark.parametrize(("only", "given", "message"), PLACES.values(), ids=PLACES)
def test_a_row_that_no_table_has_a_place_for_is_refused(place, capsys, only, given, message):
    names = {corpus: place / f"{corpus}.csv" for corpus in CORPORA}
    head = {"table2": "baseline-mer", "fig3": "baseline-msa"}[only]
    status, _, err = call(capsys, *command(place, "--add", given.format(**names), only=only, heads=head, out="refused"))
    assert (status, message in err) == (2, True)
    assert not (place / "refused").exists()


def test_ids_that_two_corpora_have_need_the_corpus(place, tmp_path, capsys):
    for corpus in CORPORA:
        make_cache(tmp_path / "cache", corpus=corpus)
    own = open_corpus(tmp_path / "cache", "mosei").manifest
    names = {name: read_manifest(open_corpus(tmp_path / "cache", "mosi").manifest)[name] for name in ("video_id", "clip_id")}
    write_manifest(own, read_manifest(own).assign(**names), {})
    asked = command(place, "--cache", tmp_path / "cache", only="table1", heads="baseline-msa", out="two")
    file = place / "mosi.csv"
    status, _, err = call(capsys, *asked, "--add", f"MFN={file}")
    assert (status, err) == (2, f"error: {file}: its ids are those of mosi and mosei. Say which: --add MFN=mosi:{file}\n")
    assert call(capsys, *asked, "--add", f"MFN=mosei:{file}", "--add", f"MFN=mosi:{file}")[0] == 0
    found = pd.read_csv(place / "two" / "table1.csv").query("method == 'MFN'")
    assert [*dict.fromkeys(found["corpus"])] == ["mosi", "mosei"]
