"""Numbers of the build report, against counts by hand."""

import numpy as np
import pytest
from reports import audit_result, ledger, manifest

from data.labels import EMOTIONS
from pipeline.report import counts


def test_counts_are_over_usable_utterances_and_hours_over_those_with_media():
    table = manifest("mosi", excluded=["bad", *[""] * 11], media=["", "", *["a.wav"] * 10], sentiment=1.0)
    table.loc[11, "duration_s"] = np.nan
    assert counts.counts(table) == {
        **{"utterances": 12, "usable": 11, "excluded": 1, "videos": 3, "sentiment": 11, "emotions": 0},
        **{"hours": pytest.approx(9 * 90 / 3600), "unmeasured": 1},
    }
    assert counts.counts(manifest("mosi", media=""))["hours"] is None
    assert counts.excluded(table) == [{"utterance_id": "mosi-00", "split": "train", "excluded": "bad"}]


def test_splits_are_in_their_order_and_those_that_do_not_occur_are_left_out():
    assert [*counts.splits(manifest("mosi", split=["test"] * 6 + [""] * 6))] == ["test", "no split"]


def test_the_95th_percentile_is_a_value_that_occurs():
    assert counts.summary(np.arange(1, 101)) == {"least": 1, "median": 50.5, "p95": 95, "most": 100}


def test_the_corpuss_own_polarity_goes_before_the_sentiment():
    table = manifest("mosi", 4, sentiment=[-1.0, 0.0, 2.0, 2.0], polarity=["", "", "", "negative"], split="train")
    assert counts.polarity_counts(table)["all"] == {"negative": 2, "neutral": 1, "positive": 1}
    assert counts.polarity_counts(manifest("mosi")) == {}


def test_shares_of_emotions_leave_out_groups_without_labels():
    rated = manifest("mosei", 4, **dict.fromkeys(EMOTIONS, 0.0) | {"fear": [1.0, 0.0, 0.0, np.nan]})
    found = counts.emotion_shares({"rated": rated, "none": manifest("mosi")})
    assert found["fear"] == {"rated": (1, 3)}
    assert found[counts.NO_EMOTION] == {"rated": (2, 3)}


def test_examples_are_the_same_in_every_order_of_the_ledger():
    mosi, mosei = manifest("mosi"), manifest("mosei", **dict.fromkeys(EMOTIONS, 1.0))
    table = ledger(mosi, mosei, abstained=["", "no donor", *[""] * 10])
    found = [row["utterance_id"] for row in counts.examples(table, mosi, 5)]
    assert found == [row["utterance_id"] for row in counts.examples(table[::-1], None, 5)]
    assert "mosi-01" not in found
    assert [row["text"] for row in counts.examples(table, None)] == [None] * 11


def test_examples_are_of_every_tenth_of_the_similarities():
    mosi, mosei = manifest("mosi", 200), manifest("mosei", 200, **dict.fromkeys(EMOTIONS, 1.0))
    found = counts.examples(ledger(mosi, mosei, similarity=np.linspace(-1, 1, 200).round(3)), mosi, 3)
    clips = [int(row["utterance_id"].removeprefix("mosi-")) for row in found]
    assert [clip // 20 for clip in clips] == [tenth for tenth in range(10) for _ in range(3)]
    assert (found[0]["tenth"], found[-1]["tenth"]) == ("1: -1.000 to -0.809", "10: 0.809 to 1.000")
    few = counts.examples(ledger(mosi[:4], mosei[:4]), mosi, 3)
    assert [row["utterance_id"] for row in few] == ["mosi-00", "mosi-01", "mosi-02", "mosi-03"]


def test_the_gain_is_that_of_the_nearest_donor_over_a_random_one_where_an_audit_was_possible():
    found = counts.gains({"a": audit_result(), "b": {"possible": False}})
    assert found == {name: {"a": (0.4, 0.3)} for name in (*EMOTIONS, "mean")}
    assert counts.gains({"b": {"possible": False}}) == {}


@pytest.mark.parametrize(("ours", "verdict"), [(0.4, "better than both"), (0.2, "not better than both")])
def test_the_verdict_of_an_audit_compares_mean_f1(ours, verdict):
    said = counts.audit_verdict(audit_result({"ours": ours, "random": 0.3, "majority": 0.1}))
    assert f"Mean F1 of the nearest donor is {ours:.1%}, {verdict}: {100 * (ours - 0.3):+.1f} points against the random donor" in said
