"""The page of a build says what was built: every number, every name, every warning, and nothing that needs a network."""

import ast
import itertools
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import reports
from reports import Page, build, cells, corpus, features, manifest, numbers, usual, words

from data.feature_store import FeatureWriter
from data.labels import EMOTIONS
from data.manifest import write_manifest, write_table
from pipeline.report.page import LedgerSummary, render_report


def bar_counts(figure):
    """The counts in the tooltips of a histogram's bars."""
    return [int(re.search(r": (\d+) \(", title.text)[1]) for title in figure.iter("title")]


def test_headline_figures_equal_the_input():
    page = usual()
    shown = {name: numbers(page.one(f".//dd[@id='total-{name}']"))[0] for name in ("corpora", "utterances", "hours", "size")}
    rows = sum(range(3, 15)) * (1 + 90) + 24
    assert shown == {"corpora": 2, "utterances": 24, "hours": pytest.approx(24 * 90 / 3600), "size": rows * 16}
    assert "148.9 kB" in page.section(".//dl[@class='tiles']")
    assert "2 outputs computed and 1 reused in 1 min 15 s, version 1.2.3" in page.section(".//header")


def test_counts_per_split_leave_out_what_is_excluded():
    table = manifest("mosi", excluded=["", "no sound", *[""] * 10], sentiment=[np.nan, *[1.0] * 11], label_source="label.csv")
    page = Page(build(corpora=[corpus(table)], features=[], ledgers=[]))
    assert cells(page.one(".//section[@data-corpus='mosi']/div[@aria-label='mosi: counts per split']/table")) == [
        ["train", "6", "1", "5", "2", "0.12", "4 80.0%", "0 0.0%"],
        ["valid", "3", "0", "3", "2", "0.075", "3", "0 0.0%"],
        ["test", "3", "0", "3", "1", "0.075", "3", "0 0.0%"],
        ["all", "12", "1", "11", "3", "0.28", "10 90.9%", "0 0.0%"],
    ]
    assert "1 utterance is excluded" in page.section(".//section[@id='notes']")


def test_length_charts_count_every_usable_utterance():
    page = usual()
    section = page.one(".//section[@data-corpus='mosi']")
    charts = {figure.get("data-chart"): figure for figure in section.iter("figure")}
    for unit, expected in {
        "Words": "least 1 · median 6.5 · 95% at most 12 · most 12",
        "Seconds": "least 90 · median 90 · 95% at most 90 · most 90",
        "Tokens": "least 3 · median 8.5 · 95% at most 14 · most 14",
        "Frames": "least 270 · median 765 · 95% at most 1260 · most 1260",
    }.items():
        figure = charts[f"{unit} per utterance"]
        assert sum(bar_counts(figure)) == 12
        assert expected in words(figure)


def test_sentiment_is_drawn_per_split_and_counted_by_polarity():
    page = usual()
    charts = {figure.get("data-chart"): figure for figure in page.one(".//section[@data-corpus='mosi']").iter("figure")}
    assert [sum(bar_counts(charts[f"sentiment {split}"])) for split in ("train", "valid", "test")] == [6, 3, 3]
    assert cells(page.one(".//div[@aria-label='mosi: polarity per split']/table")) == [
        ["train", "6", "0 0.0%", "0 0.0%"],
        ["valid", "0 0.0%", "0 0.0%", "3"],
        ["test", "0 0.0%", "0 0.0%", "3"],
        ["all", "6 50.0%", "0 0.0%", "6 50.0%"],
    ]


def test_emotion_rates_are_those_of_the_labelled_utterances():
    section = usual().one(".//section[@data-corpus='mosei']")
    chart = next(svg for svg in section.iter("svg") if svg.get("aria-label").startswith("Emotions"))
    tips = [title.text for title in chart.iter("title")]
    assert tips[:3] == ["train: 1 of 6 (16.7%)", "valid: 0 of 3 (0.0%)", "test: 0 of 3 (0.0%)"]
    assert tips[-3:] == ["train: 0 of 6 (0.0%)", "valid: 3 of 3 (100.0%)", "test: 3 of 3 (100.0%)"]


def test_all_excluded_utterances_are_named_with_their_reason():
    reasons = [f"reason {number}" if number % 2 else "" for number in range(60)]
    page = Page(build(corpora=[corpus(manifest("mosi", 60, excluded=reasons))], features=[], ledgers=[]))
    listed = page.one(".//details[@data-list='excluded']")
    assert [(row[0], row[2]) for row in cells(listed.find("div/table"))] == [
        (f"mosi-{number:02d}", f"reason {number}") for number in range(1, 60, 2)
    ]
    assert listed.get("open") is None


def test_findings_are_counted_by_kind_with_three_examples():
    found = [("missing", f"clip {number}", f"no file {number}") for number in range(5)] + [("odd", "row 3", "never seen")]
    page = Page(build(corpora=[corpus(manifest("mosi"), *found)], features=[], ledgers=[]))
    missing = page.section(".//li[@data-finding='missing']")
    assert missing.startswith("missing 5 labelled clips whose media file is not there clip 0: no file 0")
    assert "clip 2: no file 2" in missing
    assert "clip 3" not in missing
    assert "and 2 more" in missing
    assert page.section(".//li[@data-finding='odd']") == "odd 1 row 3: never seen"


def test_feature_files_show_their_figures_and_how_they_were_made():
    page = usual()
    rows = cells(page.one(".//div[@aria-label='Feature files']/table"))
    assert rows[0] == ["mosi", "text", "text-encoder", "12", "102", "8", "float16", "1.6 kB", "features/mosi-text.h5"]
    assert rows[1][2:6] == ["audio-encoder untrained", "12", "9,180", "8"]
    assert "device two cores identity.layer -1 identity.weights 5eed" in page.section(".//section[@id='features']")


def test_an_untrained_encoder_is_called_untrained_wherever_it_is_named():
    page = usual()
    text = words(page.root) + " ".join(svg.get("aria-label") for svg in page.root.iter("svg"))
    named = re.findall(r"audio-encoder(.{12})", text)
    assert len(named) == 6  # note, chart, table, provenance, snippet, the chart's label for screen readers
    assert all("untrained" in after for after in named), named
    assert "# audio-encoder, untrained" in page.section(".//pre")
    assert not re.search(r"(text|sentence)-encoder.{0,4}untrained", text)


def test_a_trained_build_has_no_untrained_badge():
    assert "untrained" not in words(Page(build(features=[features("mosi", "text", [3] * 12)])).root)


def test_contexts_that_were_cut_are_counted():
    page = Page(build(features=[features("mosi", "text", [3] * 12, context_cut=["mosi-03"])]))
    said = "mosi, text: the context of 1 utterance was longer than the encoder takes, and lost its beginning."
    assert said in page.section(".//section[@id='notes']")


def test_truncated_utterances_and_the_error_of_bfloat16_are_stated():
    error = {"max_abs": 0.03125, "relative_l2": 0.0041}
    made = features("mosi", "text", [3] * 12, truncated=["mosi-03", "mosi-11"], precision_error=error)
    page = Page(build(features=[made]))
    assert page.section(".//details[@data-list='truncated']") == "mosi, text: 2 of 12 mosi-03, mosi-11"
    assert "max_abs 0.03125 relative_l2 0.0041" in page.section(".//section[@id='features']")
    notes = page.section(".//section[@id='notes']")
    assert "computed in bfloat16" in notes
    assert "2 utterances were longer than the encoder takes" in notes


def test_text_from_users_is_escaped_everywhere():
    evil = "<script>alert('&')</script>"
    table = manifest("mosi", text=evil, excluded=["", *[evil] * 11], label_source=evil, category=evil, sentiment=1.0)
    table["utterance_id"] = [evil + str(number) for number in range(12)]
    donors = manifest("mosei", text=evil, **dict.fromkeys(EMOTIONS, 1.0))
    report = build(
        title=evil,
        corpora=[corpus(table, ("missing", evil, evil))],
        features=[features("mosi", "text", [3], encoder=evil, path=evil, provenance={evil: evil}, truncated=[evil])],
        ledgers=[LedgerSummary("mosi", reports.ledger(table, donors, tied=2, rule=evil), evil, {evil: reports.audit_result()})],
        settings={evil: evil},
        computed=[evil],
        cache_dir=evil,
    )
    page = Page(report)
    assert words(page.root).count(evil) > 20
    assert [script.text.startswith("//") for script in page.root.iter("script")] == [True]  # that of the kit


def test_the_page_loads_nothing_and_its_links_lead_somewhere():
    page = usual()
    assert not re.search(r"https?:|url\(|@import|<link|<img|<iframe", page.html)
    assert not any(element.get("src") for element in page.root.iter())
    ids = [element.get("id") for element in page.root.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    links = [link.get("href") for link in page.root.iter("a")]
    assert links
    assert {link.removeprefix("#") for link in links} <= set(ids)


def test_the_page_can_be_read_without_seeing_it():
    page = usual()
    assert page.root.get("lang") == "en"
    assert all(svg.get("role") == "img" and svg.get("aria-label") for svg in page.root.iter("svg"))
    levels = [int(element.tag[1]) for element in page.root.iter() if re.fullmatch("h[1-6]", element.tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    assert all(table.findall(".//th[@scope]") for table in page.root.iter("table"))


def luminance(colour):
    full = colour[1:] if len(colour) == 7 else "".join(digit * 2 for digit in colour[1:])
    parts = np.array([int(full[at : at + 2], 16) for at in (0, 2, 4)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_have_the_contrast_of_wcag_aa(scheme):
    """Source: WCAG 2.2, 1.4.3 (text 4.5:1) and 1.4.11 (graphics 3:1)."""
    colours = dict(re.findall(r"--([\w-]+): (#\w+);", re.findall(r":root \{(.*?)\}", usual().html, re.S)[scheme]))

    def contrast(a, b):
        low, high = sorted((luminance(colours[a]), luminance(colours[b])))
        return (high + 0.05) / (low + 0.05)

    text = [("ink", "page"), ("ink", "card"), ("ink", "soft"), ("ink", "warn-bg"), ("warn-ink", "warn-bg"), ("accent", "warn-bg")]
    text += [(name, ground) for name in ("muted", "accent") for ground in ("page", "card", "soft")]
    assert {pair: contrast(*pair) for pair in text if contrast(*pair) < 4.5} == {}
    assert {name: contrast(name, "card") for name in ("s0", "s1", "s2", "s3") if contrast(name, "card") < 3} == {}


def test_the_same_build_gives_the_same_page():
    assert render_report(build()) == render_report(build())


@pytest.mark.parametrize(
    ("changes", "expected", "absent"),
    [
        ({"ledgers": []}, "How to use the features", "Pseudo-labels of emotions"),
        ({"features": []}, "This build made no feature file.", "How each was made"),
        ({"corpora": [corpus(manifest("mosi", media="", duration_s=np.nan))]}, "text only", "Seconds per utterance"),
        ({"corpora": [corpus(manifest("mosi"))]}, "No utterance of this corpus has a label.", "Polarity"),
        ({"corpora": [corpus(manifest("mosi"))]}, "Nothing unusual.", "python -m data doctor"),
        ({"corpora": [corpus(manifest("mosi"))]}, "None: every utterance can be used.", "by name"),
        ({"corpora": [corpus(manifest("mosi", excluded="bad"))], "features": []}, "No utterance is usable.", "Words per"),
        ({"corpora": [corpus(manifest("mosi", split=""))], "ledgers": []}, "no split 12", "train 6"),
        (
            {"corpora": [], "features": [], "ledgers": []},
            "hours of usable media 0.00 in 0 feature files 0 B",
            "Counts per split",
        ),
        ({"computed": []}, "Computed by this build: 0 nothing", "shard"),
    ],
)
def test_what_is_not_there_is_said_in_words(changes, expected, absent):
    text = words(Page(build(**changes)).root)
    assert expected in text
    assert absent not in text


def test_own_polarities_and_categories_are_counted_where_there_is_no_sentiment():
    table = manifest("meld", polarity=["negative"] * 9 + ["neutral"] * 3, category=["anger"] * 9 + ["neutral"] * 3)
    page = Page(build(corpora=[corpus(table)], features=[], ledgers=[]))
    assert cells(page.one(".//div[@aria-label='meld: polarity per split']/table"))[-1] == ["all", "9 75.0%", "3 25.0%", "0 0.0%"]
    assert "as the corpus writes them: anger 9, neutral 3." in page.section(".//section[@data-corpus='meld']")


def write_build(cache, report):
    """The files that the snippet of the report opens."""
    mosi, ledger = report.corpora[0], report.ledgers[0]
    write_manifest(cache / mosi.manifest_path, mosi.manifest, {})
    write_table(cache / ledger.path, ledger.ledger, {})
    for made in report.features[:2]:
        ids = list(mosi.manifest["utterance_id"])
        with FeatureWriter(cache / made.path, ids, made.lengths.tolist(), made.dim, made.dtype, {}, ["0"] * len(ids)) as writer:
            for index, length in enumerate(made.lengths):
                writer.write(index, np.full((length, made.dim), index, np.float32))


def test_the_snippet_runs_as_it_stands(tmp_path):
    report = build(cache_dir=str(tmp_path / "it's a <cache>"))
    write_build(Path(report.cache_dir), report)
    snippet = "".join(Page(report).one(".//pre/code").itertext())
    assert len(ast.parse(snippet).body) == 13
    names = {}
    exec(snippet, names)
    assert names["features"].shape == (270, 8)
    assert names["everything"].shape == (9180, 8)
    pd.testing.assert_frame_equal(names["manifest"], report.corpora[0].manifest)
    assert list(names["ledger"]["utterance_id"]) == list(names["manifest"]["utterance_id"])


def test_the_page_says_what_frozen_features_are_not():
    page = usual()
    assert "frozen" in page.section(".//section[@id='notes']")
    assert "The paper fine-tunes its encoders" in page.section(".//section[@id='notes']")
    assert "not accuracy" in page.section(".//section[@id='use']")


def test_settings_are_all_shown():
    section = usual().section(".//section[@id='settings']")
    assert "dtype float16 text.layer -1 corpora.1.name mosi corpora.2.name mosei" in section
    assert "Computed by this build: 2 shard mosi text 00 features mosi text" in section
