"""The rule gives each clip the emotions of its donor, its ledger shows the donor, and its messages tell the user what to do."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from manifests import CALM, JOY, RAGE, manifest, vectors

from data.errors import InputError
from data.labels import EMOTIONS, emotions_of_category
from pipeline.pseudo_labels.rule import LEDGER_COLUMNS, Rule, donor_pool, polarities, transfer

CHECKOUT = Path(__file__).parents[1]
NO_LABELS = dict.fromkeys(EMOTIONS, np.nan)


def label(targets, embeddings, donors, rule=None, **options):
    rule = rule or Rule()
    return transfer(targets, embeddings, donor_pool(donors, rule), rule, **options)


def one_target(similarity_to, rule, donor_rows, sentiment=1.0):
    """The ledger row of a target at (1, 0) and donors at the given cosines to it."""
    donors = vectors(*([s, math.sqrt(1 - s * s)] for s in similarity_to))
    targets = manifest("mosi", [{"sentiment": sentiment}])
    return label(targets, vectors([1, 0]), [(manifest("mosei", donor_rows), donors)], rule).iloc[0]


def test_ledger_says_who_gave_what_and_how_near_the_next_one_was():
    targets = manifest("mosi", [{"sentiment": -2.0}, {"sentiment": 0.0}, {"sentiment": 1.5}])
    mosei = manifest("mosei", [{"sentiment": 0.5, **JOY, "anger": 0.25}, {"sentiment": -1.0, **RAGE, "text": "What a waste."}])
    meld = manifest("meld", [{"polarity": "negative", "category": "sadness", **emotions_of_category("sadness")}])
    ledger = label(targets, vectors([1, 0], [1, 0], [0, 2]), [(mosei, vectors([0, 1], [4, 3])), (meld, vectors([0, 5]))], Rule())
    assert tuple(ledger.columns) == LEDGER_COLUMNS
    assert ledger["utterance_id"].tolist() == ["a", "b", "c"]
    assert ledger["polarity"].tolist() == ["negative", "neutral", "positive"]
    first = ledger.iloc[0]
    assert (first["donor_id"], first["donor_corpus"], first["donor_split"]) == ("b", "mosei", "train")
    assert first["donor_text"] == "What a waste."
    assert (first["similarity"], first["runner_up_similarity"], first["margin"]) == pytest.approx((0.8, 0.0, 0.8))
    assert (first["runner_up_corpus"], first["runner_up_id"]) == ("meld", "a")
    assert first["neighbours"] == ""
    assert ledger["tied"].tolist() == [1, 0, 1]
    assert ledger["abstained"].tolist() == ["", "no donor of this polarity", ""]
    assert set(ledger["rule"]) == {"cosine, same polarity, k=1, min=-1, donors=train, ties within 1e-06 to the smaller (corpus, id)"}
    assert ledger.loc[0, list(EMOTIONS)].tolist() == list(RAGE.values())
    assert ledger.loc[1, list(EMOTIONS)].isna().all()
    assert ledger.loc[1, ["donor_id", "donor_text", "runner_up_id"]].tolist() == ["", "", ""]
    assert ledger.loc[2, ["happiness", "anger", "runner_up_id"]].tolist() == [1.0, 0.25, ""]
    assert np.isnan(ledger.loc[2, "margin"])


def test_transfer_leaves_manifest_and_embeddings_untouched():
    targets, embeddings = manifest("mosi", [{"sentiment": 1.0}]), vectors([1, 2])
    donors, donor_embeddings = manifest("meld", [{"polarity": "positive", "category": "fru", **NO_LABELS}]), vectors([3, 4])
    before = targets.copy(), embeddings.copy(), donors.copy(), donor_embeddings.copy()
    label(targets, embeddings, [(donors, donor_embeddings)], Rule(categories={"fru": "anger"}))
    pd.testing.assert_frame_equal(targets, before[0])
    pd.testing.assert_frame_equal(donors, before[2])
    assert (embeddings == before[1]).all()
    assert (donor_embeddings == before[3]).all()


def test_in_a_tie_the_smaller_corpus_then_the_smaller_id_gives_and_the_ledger_shows_it():
    targets = manifest("mosi", [{"sentiment": 1.0}])
    happy = {"sentiment": 1.0, **JOY}
    mosei = manifest("mosei", [{**happy, "utterance_id": "9"}, {**happy, "utterance_id": "10"}])
    meld = manifest("meld", [{"polarity": "positive", "utterance_id": "z", **CALM}])
    same = vectors([1, 1e-4])
    both = [(mosei, np.concatenate([same, same])), (meld, vectors([1, 0]))]
    row = label(targets, same, both).iloc[0]
    assert (row["donor_corpus"], row["donor_id"], row["tied"]) == ("meld", "z", 3)
    assert -1e-6 < row["margin"] < 0
    assert (row["runner_up_corpus"], row["runner_up_id"]) == ("mosei", "10")
    row = label(targets, same, both, Rule(tie_tolerance=0)).iloc[0]
    assert (row["donor_corpus"], row["donor_id"], row["tied"], row["margin"]) == ("mosei", "10", 2, 0.0)


def test_a_clip_never_gives_to_itself_but_its_namesake_in_another_corpus_may():
    rows = [{"sentiment": 1.0, **JOY}, {"sentiment": 1.0, **CALM}]
    mosei, embeddings = manifest("mosei", rows), vectors([1, 0], [0.6, 0.8])
    ledger = label(mosei, embeddings, [(mosei, embeddings)])
    assert ledger["donor_id"].tolist() == ["b", "a"]
    assert ledger["tied"].tolist() == [1, 1]
    ledger = label(mosei, embeddings, [(mosei, embeddings), (manifest("folder", rows), embeddings)])
    assert list(zip(ledger["donor_corpus"], ledger["donor_id"], strict=True)) == [("folder", "a"), ("folder", "b")]
    alone = label(mosei[:1], embeddings[:1], [(mosei[:1], embeddings[:1])]).iloc[0]
    assert alone["abstained"] == "no donor of this polarity"


def test_only_the_wanted_splits_give():
    rows = [{"sentiment": 1.0, "split": split, **JOY} for split in ("test", "valid", "train")]
    targets, donors = manifest("mosi", [{"sentiment": 1.0}]), (manifest("mosei", rows), vectors([1, 0], [4, 3], [3, 4]))
    assert label(targets, vectors([1, 0]), [donors]).iloc[0]["donor_split"] == "train"
    wider = label(targets, vectors([1, 0]), [donors], Rule(donor_splits=("train", "valid"))).iloc[0]
    assert wider["donor_split"] == "valid"
    assert "donors=train+valid" in wider["rule"]
    pool = donor_pool([donors], Rule())
    assert pool.table["utterance_id"].tolist() == ["c"]
    assert pool.skipped == {"mosei": {"other split": 2}}


def test_below_the_minimum_similarity_a_clip_abstains_and_the_ledger_still_names_the_donor():
    rows = [{"sentiment": 1.0, **JOY}] * 2
    row = one_target([0.8, 0.6], Rule(minimum_similarity=0.9), rows)
    assert row["abstained"] == "similarity below 0.9"
    assert (row["donor_id"], row["runner_up_id"]) == ("a", "b")
    assert row["similarity"] == pytest.approx(0.8)
    assert row[list(EMOTIONS)].isna().all()
    assert one_target([0.8, 0.6], Rule(minimum_similarity=0.75), rows)["abstained"] == ""


def test_a_clip_without_sentiment_abstains():
    row = one_target([0.8], Rule(), [{"sentiment": 1.0, **JOY}], sentiment=np.nan)
    assert (row["polarity"], row["abstained"], row["donor_id"]) == ("", "no polarity", "")
    assert row[list(EMOTIONS)].isna().all()


def test_an_emotion_needs_more_than_half_of_the_votes_and_has_the_mean_of_those_who_have_it():
    rows = [{"sentiment": 1.0, **CALM, **some} for some in ({"happiness": 3.0, "fear": 1.0}, {"happiness": 1.0}, {"anger": 2.0})]
    row = one_target([0.9, 0.8, 0.7], Rule(neighbours=3), rows)
    assert row[list(EMOTIONS)].tolist() == [2.0, 0, 0, 0, 0, 0]
    assert json.loads(row["neighbours"]) == ["mosei/a", "mosei/b", "mosei/c"]
    assert (row["donor_id"], row["runner_up_id"]) == ("a", "b")
    assert row["margin"] == pytest.approx(0.1)
    half = one_target([0.9, 0.8], Rule(neighbours=2), rows[1:])
    assert half[list(EMOTIONS)].tolist() == [0, 0, 0, 0, 0, 0]
    near = one_target([0.9, 0.8, 0.7], Rule(neighbours=3, minimum_similarity=0.85), rows)
    assert json.loads(near["neighbours"]) == ["mosei/a"]
    assert near[["happiness", "fear"]].tolist() == [3.0, 1.0]


def test_polarity_is_the_corpus_own_then_that_of_sentiment_then_that_of_the_category():
    rows = [
        {"polarity": "negative", "category": "joy"},
        {"sentiment": 0.0, "category": "joy"},
        {"sentiment": -0.1},
        *({"category": category} for category in ("exc", "neu", "fea", "sur", "fru", "")),
    ]
    expected = ["negative", "neutral", "negative", "positive", "neutral", "negative", "", "", ""]
    assert polarities(manifest("any", rows), Rule()).tolist() == expected
    told = Rule(surprise_polarity="positive", categories={"fru": "anger"})
    assert polarities(manifest("any", rows), told).tolist() == [*expected[:6], "positive", "negative", ""]


def test_categories_become_donors_as_the_rule_says_and_what_is_skipped_is_counted():
    codes = ("hap", "sur", "fru", "xxx", "neu")
    iemocap = manifest("iemocap", [{"category": code, **emotions_of_category(code)} for code in codes])
    embeddings = np.eye(5, dtype=np.float32)
    pool = donor_pool([(iemocap, embeddings)], Rule())
    assert pool.table["utterance_id"].tolist() == ["a", "e"]
    assert pool.skipped == {"iemocap": {"no emotion labels": 2, "no polarity": 1}}
    pool = donor_pool([(iemocap, embeddings)], Rule(surprise_polarity="negative", categories={"fru": "anger", "hap": "neutral"}))
    assert pool.table["utterance_id"].tolist() == ["a", "b", "c", "e"]
    assert pool.table["polarity"].tolist() == ["neutral", "negative", "negative", "neutral"]
    assert pool.table["anger"].tolist() == [0, 0, 1, 0]
    assert pool.table["happiness"].tolist() == [0, 0, 0, 0]
    assert (pool.embeddings == embeddings[[0, 1, 2, 4]]).all()


def test_an_utterance_with_an_excluded_clip_still_gives():
    row = one_target([0.8], Rule(), [{"sentiment": 1.0, "excluded": "cannot be decoded", **JOY}])
    assert (row["donor_id"], row["happiness"]) == ("a", 1.0)


def test_a_partly_labelled_utterance_gives_nothing():
    mosei = manifest("mosei", [{"sentiment": 1.0, **JOY, "fear": np.nan}])
    assert donor_pool([(mosei, vectors([1, 0]))], Rule()).skipped == {"mosei": {"no emotion labels": 1}}


def test_no_donor_at_all_is_an_error_that_says_what_was_there():
    targets = manifest("mosi", [{"sentiment": 1.0}])
    mosei = manifest("mosei", [{"sentiment": 1.0, "split": "test", **JOY}, {"sentiment": 1.0}, {"sentiment": -1.0}])
    with pytest.raises(InputError) as error:
        label(targets, vectors([1, 0]), [(mosei, vectors([1, 0], [1, 0], [1, 0]))])
    assert str(error.value) == (
        "Pseudo-labels have no donor (mosei: no emotion labels 2; mosei: other split 1). Give a corpus with emotion labels and a "
        "polarity in the split train, or set targets = [] in luigi.cfg, section [pseudo_labels]."
    )
    with pytest.raises(InputError, match="no donor \\(no corpus given\\)"):
        label(targets, vectors([1, 0]), [])


@pytest.mark.parametrize("bad", [[0, 0], [np.nan, 1], [np.inf, 1]])
def test_an_embedding_without_a_direction_is_named(bad):
    rows = [{"sentiment": 1.0, **JOY}] * 2
    good, damaged = vectors([1, 0], [0, 1]), vectors([1, 0], bad)
    expected = "utterance 'b': its sentence embedding is all zero or not finite, so it has no cosine .1 of 2 utterances.. Delete the"
    with pytest.raises(InputError, match=f"mosei {expected}"):
        label(manifest("mosi", rows), good, [(manifest("mosei", rows), damaged)])
    with pytest.raises(InputError, match=f"mosi {expected}"):
        label(manifest("mosi", rows), damaged, [(manifest("mosei", rows), good)])


def test_a_corpus_given_twice_is_an_error():
    mosei = (manifest("mosei", [{"sentiment": 1.0, **JOY}]), vectors([1, 0]))
    with pytest.raises(InputError, match=r"mosei utterance 'a' occurs twice\. Name each corpus once\."):
        donor_pool([mosei, mosei], Rule())


def test_embeddings_that_do_not_fit_the_manifest_are_refused():
    with pytest.raises(ValueError, match=r"Embeddings \(2, 2\) do not match a manifest of 1 rows"):
        donor_pool([(manifest("mosei", [{"sentiment": 1.0, **JOY}]), vectors([1, 0], [0, 1]))], Rule())


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"neighbours": 0}, "neighbours is 0, expected a whole number from 1."),
        ({"neighbours": 1.5}, "neighbours is 1.5, expected a whole number from 1."),
        ({"minimum_similarity": 1.1}, "minimum_similarity is 1.1, expected a cosine from -1 to 1."),
        ({"minimum_similarity": math.nan}, "minimum_similarity is nan, expected a cosine from -1 to 1."),
        ({"tie_tolerance": -1e-9}, "tie_tolerance is -1e-09, expected a difference of cosines from 0 to 1."),
        ({"donor_splits": ()}, "donor_splits is (), expected one or more of train, valid, test."),
        ({"donor_splits": ("train", "dev")}, "donor_splits is ('train', 'dev'), expected one or more of train, valid, test."),
        ({"surprise_polarity": "good"}, "surprise_polarity is 'good', expected one of negative, neutral, positive, or empty."),
        ({"categories": {"furious": "anger"}}, "categories is {'furious': 'anger'}, expected categories of neutral, neu, joy,"),
        ({"categories": {"fru": "rage"}}, "each → one of happiness, sadness, anger, surprise, disgust, fear, neutral."),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(setting, message):
    with pytest.raises(InputError) as error:
        Rule(**setting)
    assert str(error.value).startswith("[pseudo_labels] ")
    assert message in str(error.value)


def test_equal_rules_give_equal_json_and_every_setting_is_in_it():
    one = Rule(donor_splits=("valid", "train"), categories={"oth": "fear", "fru": "anger"})
    other = Rule(donor_splits=("train", "valid"), categories={"fru": "anger", "oth": "fear"})
    assert json.dumps(one.to_dict()) == json.dumps(other.to_dict())
    assert str(one) == str(other)
    assert str(one).endswith("to the smaller (corpus, id), fru→anger, oth→fear")
    assert one.to_dict() == {
        "neighbours": 1,
        "minimum_similarity": -1.0,
        "donor_splits": ["train", "valid"],
        "tie_tolerance": 1e-6,
        "surprise_polarity": "",
        "categories": {"fru": "anger", "oth": "fear"},
    }


def test_importing_the_rule_imports_no_torch():
    code = "import sys, pipeline.pseudo_labels.rule, pipeline.pseudo_labels.audit; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
