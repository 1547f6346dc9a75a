"""Charts of the build report: one scale for what is compared, and labels that say what is drawn."""

import numpy as np
from reports import features, manifest

from data.labels import EMOTIONS
from pipeline.report import charts, counts


def test_lengths_have_a_chart_for_words_seconds_and_each_feature_file():
    made = features("mosi", "audio", list(range(3, 15)), trained=False)
    found = charts.length_charts("mosi", manifest("mosi"), [made])
    assert [chart["title"] for chart in found] == ["Words per utterance", "Seconds per utterance", "Frames per utterance"]
    assert 'aria-label="mosi: frames per utterance by audio-encoder (untrained), 12 utterances"' in found[-1]["svg"]
    assert (found[0]["summary"]["most"], found[-1]["summary"]["least"]) == (12, 3)
    assert charts.length_charts("mosi", manifest("mosi")[:0], []) == []


def test_rows_that_are_means_of_frames_are_called_so():
    made = features("mosi", "audio", list(range(3, 15)), provenance={"identity": {"frames_averaged": 4, "layers": [6, 9]}})
    assert charts.length_charts("mosi", manifest("mosi"), [made])[-1]["title"] == "Means of 4 frames per utterance"
    assert (made.rows, made.columns) == ("means of 4 frames", "2 layers × 4")
    assert (features("mosi", "text", [1]).rows, features("mosi", "text", [1]).columns) == ("tokens", "8")


def test_sentiment_charts_of_all_splits_share_a_scale_and_differ_in_colour():
    table = manifest("mosi", sentiment=[1.0] * 6 + [-1.0, 0.0, 1.0] * 2)
    train, valid, _ = charts.sentiment_charts("mosi", counts.splits(table))
    assert "100%" in train["svg"]
    assert "100%" in valid["svg"]
    assert ("var(--s0)" in train["svg"], "var(--s1)" in valid["svg"]) == (True, True)
    assert (valid["num"], valid["mean"]) == (3, 0.0)


def test_emotions_have_no_chart_where_nothing_is_labelled():
    assert charts.emotion_chart("Emotions", {"all": manifest("mosi")}) is None
    found = charts.emotion_chart("Emotions", {"all": manifest("mosei", **dict.fromkeys(EMOTIONS, 1.0))})
    assert found is not None
    assert found["totals"] == {"all": 12}


def test_similarities_of_clips_that_abstained_have_a_colour_of_their_own():
    found = charts.similarity_chart("mosi", {"labelled": np.array([0.9]), "abstained": np.array([0.1])})
    alone = charts.similarity_chart("mosi", {"labelled": np.array([]), "abstained": np.array([0.1])})
    assert found is not None
    assert alone is not None
    assert (found["num"], found["abstained"]) == (2, 1)
    assert "var(--s1)" in alone["svg"]
    assert "var(--s0)" not in alone["svg"]
    assert charts.similarity_chart("mosi", {"labelled": np.array([]), "abstained": np.array([])}) is None
