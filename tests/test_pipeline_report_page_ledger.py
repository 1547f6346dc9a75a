"""The report's account of pseudo-labels: coverage, ties, donors, examples and the audit."""

import dataclasses
import re

import numpy as np
import pandas as pd
from reports import METHODS, Page, audit_result, build, cells, corpus, ledger, manifest, numbers, words

from data.labels import EMOTIONS
from data.reporting.audio import Players
from pipeline.report.page import LedgerSummary

SECTION = ".//section[@data-ledger='mosi']"


def donors(**columns):
    return manifest("mosei", **(dict.fromkeys(EMOTIONS, 0.0) | columns))


def page_of(table: pd.DataFrame, *manifests: pd.DataFrame, audit=None) -> Page:
    return Page(build(corpora=[corpus(m) for m in manifests], ledgers=[LedgerSummary("mosi", table, "mosi.parquet", audit or {})]))


def test_coverage_and_abstentions_are_counted_with_their_reasons():
    reasons = [""] * 7 + ["similarity below 0.8"] * 3 + ["no polarity"] * 2
    mosi, mosei = manifest("mosi"), donors()
    similarity = [*np.linspace(0.81, 0.99, 7), 0.5, 0.6, 0.7, np.nan, np.nan]
    page = page_of(ledger(mosi, mosei, abstained=reasons, similarity=similarity), mosi, mosei)
    text = page.section(SECTION)
    assert "7 of 12 clips (58.3%) took the emotions of 7 different donor sentences" in text
    assert "No labels for 5: similarity below 0.8 (3); no polarity (2)." in text
    assert "5 clips got no pseudo-labels" in page.section(".//section[@id='notes']")
    figure = page.one(f"{SECTION}//figure[@data-chart='similarity']")
    drawn = [title.text.split(" (")[0] for title in figure.iter("title")]
    counted = {name: sum(int(tip.split(": ")[1]) for tip in drawn if tip.startswith(name)) for name in ("labelled", "abstained")}
    assert counted == {"labelled": 7, "abstained": 3}
    assert "10 clips: least 0.500" in words(figure)


def test_ties_say_who_gave_and_whether_it_mattered():
    mosi, mosei = manifest("mosi"), donors(happiness=[1.0, 1.0, 2.0, 0.0, *[0.0] * 8])
    mosei.loc[7, list(EMOTIONS)] = np.nan
    tied = [2, 1, 3, 1, 1, 1, 2, 1, 1, 1, 1, 0]
    page = page_of(ledger(mosi, mosei, tied=tied, similarity=0.75), mosi, mosei)
    rows = cells(page.one(f"{SECTION}//details[@data-list='ties']//table"))
    assert rows == [
        ["mosi-00", "2", "0.750000", "mosei/mosei-00", "mosei/mosei-01", "the same"],
        ["mosi-02", "3", "0.750000", "mosei/mosei-02", "mosei/mosei-03", "differ"],
        ["mosi-06", "2", "0.750000", "mosei/mosei-06", "mosei/mosei-07", "not known"],
    ]
    text = page.section(SECTION)
    assert "3 clips have several nearest donors" in text
    assert "In 1 of them the runner-up has other emotions, so that the tie rule decides the labels; in 1 its emotions" in text
    assert "None: every labelled clip has one nearest donor." in page_of(ledger(mosi, mosei), mosi, mosei).section(SECTION)


def test_emotions_given_stand_beside_those_of_the_donors():
    mosi, mosei = manifest("mosi"), donors(fear=[1.0] * 3 + [0.0] * 9)
    given = ledger(mosi, mosei, donor_split="train", fear=[2.0] * 9 + [0.0] * 3)
    page = page_of(given, mosi, mosei)
    chart = next(svg for svg in page.one(SECTION).iter("svg") if svg.get("aria-label").startswith("Emotions given"))
    tips = [title.text for title in chart.iter("title")]
    fear = 2 * EMOTIONS.index("fear")
    assert tips[fear : fear + 2] == ["pseudo-labels: 9 of 12 (75.0%)", "donors: 3 of 6 (50.0%)"]
    alone = page_of(given, mosi)
    assert "donors' own rates are not shown" in alone.section(SECTION)
    assert not re.search(r">donors: \d", alone.html)


def test_donors_most_used_come_first():
    mosi, mosei = manifest("mosi"), donors()
    used = ["mosei-05"] * 6 + ["mosei-01"] * 4 + ["mosei-09"] * 2
    table = ledger(mosi, mosei, donor_id=used, donor_text=[f"said by {name}" for name in used], donor_split="train")
    section = page_of(table, mosi, mosei).one(SECTION)
    where, most = (cells(box.find("table")) for box in section.findall("div[@role='region']")[:2])
    assert where == [["mosei", "train", "12"]]
    assert most == [[f"mosei/{name}", f"said by {name}", n] for name, n in (("mosei-05", "6"), ("mosei-01", "4"), ("mosei-09", "2"))]


EXAMPLES = f"{SECTION}//div[@aria-label='mosi: examples']"


def test_examples_show_both_sentences_from_every_tenth():
    mosi, mosei = manifest("mosi", 241), donors(count=241, anger=1.5)
    table = ledger(mosi, mosei, abstained=["no polarity", *[""] * 240])
    rows = cells(page_of(table, mosi, mosei).one(f"{EXAMPLES}/table"))
    assert len(rows) == 100
    for name, text, donor, similarity, chips, polarity, tenth in rows:
        clip = int(name.removeprefix("mosi-"))
        assert text == mosi["text"][clip]
        assert donor == f"{mosei['text'][clip]}mosei/mosei-{clip:02d}"
        assert (similarity, polarity, chips) == (f"{table['similarity'][clip]:.3f}", "positive", "anger 1.5")
        number = (clip - 1) // 24  # 24 clips a tenth, in the order of their similarities
        least, most = table["similarity"][1 + 24 * number], table["similarity"][24 * (number + 1)]
        assert tenth == f"{number + 1}: {least:.3f} to {most:.3f}"
    assert [row[0] for row in rows] != sorted(row[0] for row in rows)


def test_examples_can_be_filtered_and_have_players_where_there_are_sounds():
    mosi, mosei = manifest("mosi"), donors()
    sounds = {"mosi/mosi-03": "a.wav#t=1,2", "mosei/mosei-07": "b.wav"}
    summary = LedgerSummary("mosi", ledger(mosi, mosei), "mosi.parquet", players=Players(sounds, "Players of 2 of 24 clips: why."))
    page = Page(build(corpora=[corpus(mosi), corpus(mosei)], ledgers=[summary]))
    box = page.one(EXAMPLES)
    filters = [head.text for head in box.findall(".//thead/tr/th") if head.get("data-filter") == "choice"]
    assert filters == ["emotions", "polarity", "tenth"]
    played = {words(row[0]): [sound.get("src") for sound in row.iter("audio")] for row in box.findall(".//tbody/tr")}
    assert {clip: found for clip, found in played.items() if found} == {"mosi-03": ["a.wav#t=1,2"], "mosi-07": ["b.wav"]}
    assert "Players of 2 of 24 clips: why." in page.section(SECTION)


def test_the_audit_stands_beside_random_donor_and_majority_class():
    mosi, mosei = manifest("mosi"), donors()
    page = page_of(ledger(mosi, mosei), mosi, mosei, audit={"mosei": audit_result()})
    table = page.one(f"{SECTION}//div[@aria-label='mosi: audit on mosei']/table")
    rows = [numbers(row) for row in table.findall("tbody/tr")]
    scores = [value for f1 in METHODS.values() for value in (f1 + 0.25, f1)]
    assert rows == [[positives, *scores] for positives in range(9, 3, -1)] + [scores]
    assert words(table.find("caption")) == "mosei, 70 test utterances as if unlabelled; 3 more abstained"
    chart = page.one(f"{SECTION}//figure[@data-chart='gains']")
    tips = [title.text for title in chart.iter("title")]
    assert tips == [f"mosei, {name}: F1 40.0% of the nearest donor, 30.0% of a random one" for name in (*EMOTIONS, "mean")]
    assert "".join(chart.itertext()).count("+10.0") == 7
    expected = "Mean F1 of the nearest donor is 40.0%, better than both: +10.0 points against the random donor, +30.0 points"
    assert expected in page.section(SECTION)


def test_an_audit_that_the_rule_fails_is_not_dressed_up():
    mosi, mosei = manifest("mosi"), donors()
    worse = audit_result({"ours": 0.2, "random": 0.25, "majority": 0.1})
    text = page_of(ledger(mosi, mosei), mosi, mosei, audit={"mosei": worse}).section(SECTION)
    assert "is 20.0%, not better than both: -5.0 points against the random donor, +10.0 points" in text


def test_a_missing_audit_says_why():
    mosi, mosei = manifest("mosi"), donors()
    impossible = {"possible": False, "reason": "no donor from any other corpus"}
    text = page_of(ledger(mosi, mosei), mosi, mosei, audit={"mosei": impossible}).section(SECTION)
    assert "mosei: not possible, no donor from any other corpus." in text
    assert "the quality of these labels is not known" in page_of(ledger(mosi, mosei), mosi, mosei).section(SECTION)


def test_a_ledger_without_any_label_is_shown_as_such():
    mosi, mosei = manifest("mosi"), donors()
    nothing = ledger(mosi, mosei, abstained="no polarity", similarity=np.nan, margin=np.nan, **dict.fromkeys(EMOTIONS, np.nan))
    text = page_of(nothing, mosi, mosei).section(SECTION)
    assert "0 of 12 clips (0.0%)" in text
    assert "Examples" not in text


def test_labels_from_an_untrained_sentence_encoder_are_called_meaningless():
    report = build()
    assert "mean nothing" not in Page(report).section(SECTION)
    untrained = [dataclasses.replace(made, trained=made.modality != "sentence") for made in report.features]
    text = Page(build(features=untrained)).section(SECTION)
    assert "sentence encoder is untrained: similarities, and so the labels, mean nothing" in text
