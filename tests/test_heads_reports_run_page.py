"""The page of runs: what it says against run folders and cache, for heads of all kinds, and where a cache is missing."""

import re
import shutil
import statistics
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small_runs
from caches import make_cache
from command_line import call
from report_runs import DONOR, make_runs
from reports import words

from data.cache import open_corpus
from data.errors import InputError
from data.labels import EMOTIONS
from data.manifest import read_manifest
from heads.__main__ import main
from heads.reports.gathering import Sources, gather
from heads.runs.folder import RunFolder
from heads.runs.run_data import choose_device


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Not to be changed."""
    return make_runs(tmp_path_factory.mktemp("made"))


def tree(path: Path) -> ET.Element:
    return ET.fromstring(path.read_text(encoding="utf-8").removeprefix("<!DOCTYPE html>"))


def written(capsys, out: Path, *arguments: object) -> tuple[ET.Element, str]:
    """Make a page; it as a tree, and what was printed."""
    status, printed, err = call(capsys, "report", *arguments, "--out", out, "--device", "cpu")
    assert (status, err) == (0, "")
    return tree(out), printed


@pytest.fixture(scope="module")
def page(made, tmp_path_factory):
    """The page of mmolre, beside a copy of the media."""
    out = tmp_path_factory.mktemp("page") / "page.html"
    shutil.copytree(made.root, out.parent / "clips")
    run = made.runs["mmolre"].path
    assert main(["report", str(run), f"--out={out}", f"--media-folder={out.parent / 'clips'}", "--device=cpu"]) == 0
    return tree(out)


def sections(page: ET.Element) -> list[str]:
    return [link.get("href")[1:] for link in page.findall(".//nav//a") if link.get("href") != "#notes"]


def section(page: ET.Element, name: str) -> ET.Element:
    (found,) = page.findall(f".//section[@id='{name}']")
    return found


def notes(page: ET.Element) -> str:
    return words(section(page, "notes"))


def table(page: ET.Element, name: str, number: int = 0) -> list[dict[str, ET.Element]]:
    """The rows of a table of a section, by the headings of their columns, without titles of groups."""
    found = section(page, name).findall(".//table")[number]
    header = [words(cell) for cell in found.findall("thead/tr")[-1]]
    return [dict(zip(header, row, strict=True)) for row in found.findall("tbody/tr") if len(row) == len(header)]


def value(cell: ET.Element) -> float:
    return float(cell.find("data").get("value"))


def chips(cell: ET.Element) -> list[str]:
    return [chip.get("data-name") for chip in cell.findall("span")]


def test_it_needs_no_network_and_its_ids_are_unique(page):
    text = ET.tostring(page, encoding="unicode")
    assert not re.search(r"https?://|@import", text)
    assert {element.tag for element in page.iter()} & {"link", "img", "iframe", "object"} == set()
    ids = [element.get("id") for element in page.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', text)) <= set(ids)


def test_it_has_all_sections_and_every_metric_with_its_interval(page, made):
    assert sections(page) == [
        "metrics", "curves", "sentiment", "emotions", "calibration", "clips", "errors", "modalities", "routing", "runs",
    ]  # fmt: skip
    content = made.runs["mmolre"].metrics()
    for row in table(page, "metrics"):
        name = words(row["metric"])
        assert value(row["value"]) == content["valid"][name]
        low, high = (f"{number:.4f}".replace("-", "−") for number in content["valid_interval"][name])
        assert words(row["95 % interval"]) == f"{low} to {high}"
    assert "All figures are of the validation split" in notes(page)
    assert "The features are frozen" in notes(page)
    assert "pseudo-labels" not in notes(page)
    assert len(list(section(page, "curves").iter("svg"))) == 4
    epoch, loss = content["selected"]["loss"]["epoch"], content["selected"]["loss"]["value"]
    assert f"mmolre: epoch {epoch} was chosen, {loss:.4f}" in [title.text for title in section(page, "curves").iter("title")]


def test_every_clip_is_there_with_its_text_values_donor_and_sound_the_largest_error_first(page, made):
    predicted = made.runs["mmolre"].predictions().set_index("utterance_id")
    manifest = read_manifest(open_corpus(made.cache, "mosi").manifest).set_index("utterance_id")
    rows = table(page, "clips")
    names = [words(row["clip"]) for row in rows]
    errors = (predicted["sentiment"].astype(float) - predicted["sentiment_true"].astype(float)).abs()
    assert names == errors.sort_values(ascending=False).index.tolist()
    for name, row in zip(names, rows, strict=True):
        one, known = predicted.loc[name], manifest.loc[name]
        assert words(row["text"]) == known["text"]
        assert value(row["true"]) == pytest.approx(one["sentiment_true"])
        assert value(row["predicted"]) == pytest.approx(one["sentiment"])
        assert value(row["error"]) == pytest.approx(errors[name])
        assert chips(row["emotions"]) == [emotion for emotion in EMOTIONS if one[f"{emotion}_true"] > 0]
        assert chips(row["predicted emotions"]) == [emotion for emotion in EMOTIONS if one[emotion] > 0.5]
        wrong = sum((one[emotion] > 0.5) != (one[f"{emotion}_true"] > 0) for emotion in EMOTIONS)
        assert value(row["wrong emotions"]) == wrong
        donor = row["donor of pseudo-labels"]
        assert (donor.text, words(donor.find("small"))) == (DONOR, "meld d1")
        assert (words(row["video"]), words(row["speaker"])) == (known["video_id"], known["speaker"])
        assert value(row["words"]) == len(known["text"].split())
        (sound,) = row["clip"].iter("audio")
        assert sound.get("src") == f"clips/{known['video_id']}.wav#t={known['start_s']:g},{known['end_s']:g}"
        routers = [name.rpartition(" ")[0] for name in chips(row["experts"])]
        assert routers == ["text/block1/msa", "text/block1/mer", "audio/block1/msa", "audio/block1/mer"]


def test_confusion_and_calibration_count_the_clips(page, made):
    predicted = made.runs["mmolre"].predictions()
    charts = {svg.get("aria-label"): svg for svg in section(page, "sentiment").iter("svg")}
    for name, expected in (("seven classes", len(predicted)), ("polarity", len(predicted))):
        tips = [title.text for title in charts[f"{name}: true and predicted classes"].iter("title")]
        assert sum(int(tip.partition(": ")[2].split()[0]) for tip in tips if "clips," in tip) == expected
    for emotion in EMOTIONS:
        (chart,) = [
            svg for svg in section(page, "calibration").iter("svg") if svg.get("aria-label").endswith(f"probabilities of {emotion}")
        ]
        assert sum(int(title.text.split()[-2]) for title in chart.iter("title")) == len(predicted)
    for row in table(page, "emotions"):
        name = words(row["emotion"])
        assert value(row["base rate"]) == pytest.approx((predicted[f"{name}_true"] > 0).mean())
        assert value(row["ap"]) == made.runs["mmolre"].metrics()["valid"][f"{name}_ap"]


def test_errors_of_speakers_and_videos_are_means_over_their_clips(page, made):
    predicted = made.runs["mmolre"].predictions().set_index("utterance_id")
    manifest = read_manifest(open_corpus(made.cache, "mosi").manifest).set_index("utterance_id").loc[predicted.index]
    errors = (predicted["sentiment"].astype(float) - predicted["sentiment_true"].astype(float)).abs()
    by_video = errors.groupby(manifest["video_id"]).mean()
    found = {words(row["video"]): value(row["absolute error of sentiment"]) for row in table(page, "errors")}
    assert found == pytest.approx(by_video.to_dict())
    (chart,) = [svg for svg in section(page, "errors").iter("svg") if svg.get("aria-label") == "Sentiment by speaker"]
    for name, mean in errors.groupby(manifest["speaker"]).mean().items():
        assert any(title.text.startswith(f"mmolre, {name}: {mean:.3f}, ") for title in chart.iter("title"))


def test_modalities_and_experts_are_those_of_the_run_asked_again(page, made):
    rows = {words(row["without"]): row for row in table(page, "modalities")}
    assert [*rows] == ["text zeroed", "text shuffled", "audio zeroed", "audio shuffled"]
    before = made.runs["mmolre"].metrics()["valid"]
    for row in rows.values():
        change = row["mae"].find("small").text.split()[0].replace("−", "-")
        assert float(change) == pytest.approx(value(row["mae"]) - before["mae"], abs=6e-4)
    experts = table(page, "routing")
    report = made.runs["mmolre"].routing("xray")["experts"]
    alive = {f"{key} {number}": load for key, part in report.items() for number, load in enumerate(part["load"]) if load}
    assert {words(row["expert"]): value(row["mean gate"]) for row in experts} == pytest.approx(alive, abs=1e-6)
    effects = [abs(value(row["effect"])) for row in experts]
    assert effects == sorted(effects, reverse=True)
    assert all(("pale" in row["clips"].get("class")) == (value(row["clips"]) < 20) for row in experts)


def test_seeds_stand_side_by_side_with_mean_and_deviation(made, capsys, tmp_path):
    runs = [made.runs["seed 1"], made.runs["seed 2"], made.runs["ridge"]]
    page, _ = written(capsys, tmp_path / "page.html", *(run.path for run in runs), "--media=none")
    assert sections(page) == ["metrics", "curves", "sentiment", "calibration", "clips", "errors", "modalities", "runs"]
    values = [run.metrics()["valid"]["mae"] for run in runs]
    rows = {words(row["run"]): row["mae"] for row in table(page, "metrics")}
    names = ["baseline-msa, seed 1", "baseline-msa, seed 2", "ridge, seed 1"]
    assert {name: value(rows[name]) for name in names} == dict(zip(names, values, strict=True))
    spread = f"{statistics.mean(values[:2]):.3f} ± {statistics.stdev(values[:2]):.3f}"
    assert words(rows["mean ± sd of 2 seeds"]) == spread
    assert "best" in rows[names[int(np.argmin(values))]].get("class")
    tables = [run.predictions().set_index("utterance_id") for run in runs]
    for row in table(page, "clips"):
        clip = words(row["clip"])
        assert [value(row[name]) for name in names] == pytest.approx([one.loc[clip, "sentiment"] for one in tables])
        errors = [abs(float(one.loc[clip, "sentiment"]) - float(one.loc[clip, "sentiment_true"])) for one in tables]
        assert value(row["mean error"]) == pytest.approx(np.mean(errors))
        assert not list(row["clip"].iter("audio"))
    assert [words(entry) for entry in section(page, "curves").findall(".//ul[@class='legend']/li")] == names[:2]


def test_without_its_cache_a_page_says_what_is_missing(made, capsys, tmp_path):
    run = shutil.copytree(made.runs["cogmen"].path, tmp_path / "run")
    config = (run / "config.json").read_text(encoding="utf-8")
    (run / "config.json").write_text(config.replace(str(made.cache), "/nowhere"), encoding="utf-8")
    page, printed = written(capsys, tmp_path / "page.html", run)
    assert sections(page) == ["metrics", "curves", "emotions", "calibration", "clips", "runs"]
    for text in (notes(page), printed):
        assert "Texts, lengths, speakers, donors of pseudo-labels and sounds are missing: /nowhere: no such folder" in text
        assert "cogmen: what each modality adds and the experts of each clip are missing: /nowhere: no such folder" in text
    predicted = RunFolder(run).predictions().set_index("utterance_id")
    given, true = predicted[list(EMOTIONS)].to_numpy(), predicted[[f"{name}_true" for name in EMOTIONS]].to_numpy() > 0
    wrong, distance = ((given > 0.5) != true).sum(1), np.abs(given - true).sum(1)
    ranked = sorted(zip(-wrong, -distance, predicted.index, strict=True))
    assert [words(row["clip"]) for row in table(page, "clips")] == [name for _, _, name in ranked]
    status, out, err = call(capsys, "report", run, "--cache", tmp_path / "none")
    assert (status, out, err.count("\n")) == (2, "", 1)
    status, _, err = call(capsys, "report", run, "--cache", made.cache, "--no-cache")
    assert (status, err) == (2, "error: --cache and --no-cache exclude each other. Give one of them.\n")


def test_a_cache_that_lacks_clips_of_the_run_is_not_used(made, tmp_path):
    other, run, cpu = make_cache(tmp_path / "cache", utterances=9), made.runs["seed 1"], choose_device("cpu")
    with pytest.raises(InputError, match="4 of 9 utterances of the run are not in its corpus mosi"):
        gather([run], "valid", Sources(other), cpu)
    own = RunFolder(shutil.copytree(run.path, tmp_path / "run"))
    config = (own.path / "config.json").read_text(encoding="utf-8")
    (own.path / "config.json").write_text(config.replace(str(made.cache), str(other)), encoding="utf-8")
    content = gather([own], "valid", Sources(), cpu)
    assert (content.probes, content.facts.has("text")) == ({}, False)
    assert ["4 of 9 utterances" in note or "which " + str(own.path) + " has predicted" in note for note in content.notes] == [
        True,
        True,
    ]


def test_heads_that_read_whole_videos_are_asked_again_like_the_others(made):
    content = gather([made.runs["cogmen"]], "valid", Sources(), choose_device("cpu"))
    probe = content.probes["cogmen"]
    assert (content.notes, probe.doubt) == ([], "")
    assert sorted(probe.ids) == sorted(made.runs["cogmen"].predictions()["utterance_id"])
    before = made.runs["cogmen"].metrics()["valid"]["mean_ap"]
    assert any(loss.values["mean_ap"] != before for loss in probe.losses)


def test_fit_ends_with_a_page_unless_told_otherwise(made, capsys, tmp_path):
    command = small_runs.command(made.cache, tmp_path / "runs", "ridge", {"task": "msa"})
    assert call(capsys, *command)[0] == 0
    (run,) = (tmp_path / "runs").iterdir()
    assert not (run / "report.html").exists()
    status, out, _ = call(capsys, *(part for part in command if part != "--no-report"))
    assert (status, out.splitlines()[-1]) == (0, f"pages: {run / 'report.html'}")
    page = tree(run / "report.html")
    assert (
        f"What each modality adds is missing: a simple baseline is fitted again to find it. To do so: python -m heads report {run}"
        in notes(page)
    )
    assert table(page, "clips")[0]["clip"].find(".//audio").get("src").startswith((made.root / "mosi").as_uri())


def test_a_damaged_checkpoint_is_refused(made, capsys, tmp_path):
    run = shutil.copytree(made.runs["mmolre"].path, tmp_path / "run")
    (run / "checkpoint.safetensors").write_bytes(b"")
    status, out, err = call(capsys, "report", run, "--device", "cpu")
    assert (status, out) == (2, "")
    assert err.startswith(f"error: {run / 'checkpoint.safetensors'}: damaged (")
    assert not (run / "report.html").exists()


def test_the_test_split_is_shown_only_where_it_was_opened(made, capsys, tmp_path):
    run = RunFolder(shutil.copytree(made.runs["ridge"].path, tmp_path / "run"))
    status, out, err = call(capsys, "report", run.path, "--split", "test")
    assert (status, out) == (2, "")
    assert err.endswith(f"has no predictions of the test split. Open it first: python -m heads evaluate {run.path} --split test\n")
    assert call(capsys, "evaluate", run.path, "--split", "test", "--device", "cpu")[0] == 0
    (opened,) = pd.read_csv(run.path / "opened.csv")["when"]
    status, out, _ = call(capsys, "report", run.path, "--split", "test", "--device", "cpu")
    assert (status, out.splitlines()[-1]) == (0, str(run.path / "report-test.html"))
    page = tree(run.path / "report-test.html")
    assert f"All figures are of the test split, except the learning curves. It was opened: ridge: {opened}" in notes(page)
    assert value(table(page, "metrics")[6]["value"]) == run.metrics()["test"]["mae"]
    assert {words(row["clip"]) for row in table(page, "clips")} == set(run.predictions("test")["utterance_id"])
    assert run.openings()["split"].tolist() == ["test", "test"]  # what a modality adds was measured on it


def test_runs_that_do_not_belong_together_and_files_that_are_no_pages_are_refused(made, capsys, tmp_path):
    other = shutil.copytree(made.runs["ridge"].path, tmp_path / "run")
    config = (other / "config.json").read_text(encoding="utf-8")
    (other / "config.json").write_text(config.replace('"corpus": "mosi"', '"corpus": "mosei"'), encoding="utf-8")
    for arguments, message in (
        ([made.runs["ridge"].path, other], "The runs are of 2 corpora (mosei, mosi), expected one. Make a page for each."),
        ([other, "--out", tmp_path / "page.pdf"], f"--out is {tmp_path / 'page.pdf'}, expected a name that ends in .html."),
        ([other, "--media-mb", "nan"], "--media-mb is nan, expected a number of 0 or more."),
        ([made.runs["ridge"].path, "--media-folder", "none"], "--media-folder: none is no folder, expected that of the corpus"),
    ):
        status, out, err = call(capsys, "report", *arguments)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert message in err
    assert not list(tmp_path.glob("*.html"))
