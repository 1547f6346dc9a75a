"""The raw releases of CMU: the label file is found, its intervals are read by name, and splits come from `splits.csv`."""

import numpy as np
import pandas as pd
import pytest

from data.corpora.cmu import find_files, find_label_csd, read_intervals, segment_names, split_by_video
from data.csd import Entry, write_csd
from data.errors import InputError


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def labels(path, features, names=None, video="v"):
    features = np.array(features, dtype="float32")
    times = np.arange(2 * len(features), dtype="float32").reshape(-1, 2)
    write_csd(path, "All Labels", [(video, Entry(features, times))], {} if names is None else {"dimension names": names})
    return path


def test_files_in_raw_come_before_those_beside_it_and_dot_files_are_skipped(tmp_path):
    touch(tmp_path, "Transcript/b.txt", "Transcript/a.txt", "Transcript/c.csv", "Transcript/._d.txt")
    assert [path.name for path in find_files(tmp_path, "Transcript", ".txt")] == ["a.txt", "b.txt"]
    touch(tmp_path, "Raw/Transcript/e.txt")
    assert find_files(tmp_path, "Transcript", ".txt") == [tmp_path / "Raw/Transcript/e.txt"]
    assert find_files(tmp_path, "Audio", ".wav") == []


def test_several_label_files_are_for_the_user_to_choose_from(tmp_path):
    touch(tmp_path, "COVAREP.csd", "._labels.csd")
    assert find_label_csd(tmp_path, "Usual_Labels.csd") is None
    touch(tmp_path, "labels/old_labels.csd")
    assert find_label_csd(tmp_path, "Usual_Labels.csd") == tmp_path / "labels/old_labels.csd"
    touch(tmp_path, "new_Labels.csd")
    with pytest.raises(
        InputError, match=r"several label files: labels/old_labels\.csd, new_Labels\.csd\. Keep one, named Usual_Labels\.csd\.$"
    ):
        find_label_csd(tmp_path, "Usual_Labels.csd")
    touch(tmp_path, "labels/Usual_Labels.csd")
    assert find_label_csd(tmp_path, "Usual_Labels.csd") == tmp_path / "labels/Usual_Labels.csd"
    touch(tmp_path, "Usual_Labels.csd")
    with pytest.raises(InputError, match=r"several label files: Usual_Labels\.csd, labels/Usual_Labels\.csd\."):
        find_label_csd(tmp_path, "Usual_Labels.csd")


def test_intervals_have_our_names_whatever_the_order_of_the_columns(tmp_path):
    path = labels(tmp_path / "x.csd", [[1, 0, 2, 3, 0.5, -2, 0]], ["fear", "disgust", "anger", "sad", "happy", "sentiment", "surprise"])
    table, findings = read_intervals(path, emotions=True)
    assert table.loc[0].to_dict() == {
        "video_id": "v", "number": 0, "start_s": 0.0, "end_s": 1.0, "sentiment": -2.0,
        "happiness": 0.5, "sadness": 3.0, "anger": 2.0, "surprise": 0.0, "disgust": 0.0, "fear": 1.0,
    }  # fmt: skip
    assert findings == []


def test_labels_outside_their_scale_are_set_to_its_end_and_reported_by_interval(tmp_path):
    table, findings = read_intervals(labels(tmp_path / "x.csd", [[0.5], [3.25]]), emotions=False)
    assert table["sentiment"].tolist() == [0.5, 3.0]
    assert segment_names(table) == ["v interval 0 (0.000 to 1.000 s)", "v interval 1 (2.000 to 3.000 s)"]
    assert [(finding.kind, finding.where, finding.message) for finding in findings] == [
        ("out-of-range", "v interval 1 (2.000 to 3.000 s)", "sentiment is 3.25, its scale -3 to 3: taken as 3 (x.csd)")
    ]


@pytest.mark.parametrize(
    ("features", "names", "emotions", "message"),
    [
        ([[1.0, 2.0]], None, False, r"x\.csd: features have 2 columns named None; expected labels \(sentiment\)\.$"),
        ([[1.0]], None, True, r"features have 1 columns named None; expected labels \(sentiment, happy, sad, anger, "),
        ([[1.0] * 74], None, True, "features have 74 columns named None; expected labels"),
        ([[1.0] * 7], ["a"] * 7, True, r"features have 7 columns named \['a', .*expected labels \(sentiment, happy, sad"),
        (
            [[1.0] * 7],
            ["sentiment", "happy", *["x"] * 5],
            True,
            r"features have 7 columns named .*expected labels \(sentiment, happy, sad",
        ),
        ([[np.nan] * 7], None, True, r"v interval 0 \(0\.000 to 1\.000 s\): sentiment is nan, expected a number"),
        ([[np.inf]], None, False, r"x\.csd: v interval 0 \(0\.000 to 1\.000 s\): sentiment is inf, expected a number\.$"),
        ([[9.0]], None, False, r"sentiment is 9, its scale -3 to 3\. Is the label on another scale"),
    ],
)
def test_features_that_are_no_labels_are_refused(tmp_path, features, names, emotions, message):
    with pytest.raises(InputError, match=message):
        read_intervals(labels(tmp_path / "x.csd", features, names), emotions)


def test_a_file_without_entries_is_refused(tmp_path):
    write_csd(tmp_path / "x.csd", "All Labels", [])
    with pytest.raises(InputError, match=r"x\.csd: no entry in it\. Download it again\."):
        read_intervals(tmp_path / "x.csd", emotions=False)


def test_splits_are_those_of_the_file_and_what_is_on_one_side_only_is_reported(tmp_path):
    table = pd.DataFrame({"video_id": ["v", "w", "v"]})
    empty, sources, findings = split_by_video(table, tmp_path)
    assert (empty["split"].tolist(), sources) == (["", "", ""], [])
    assert [(finding.kind, finding.where) for finding in findings] == [("unsplit", "splits.csv")]
    (tmp_path / "splits.csv").write_text("split,video_id\ndev,v\ntrain,x\n")
    filled, sources, findings = split_by_video(table, tmp_path)
    assert (filled["split"].tolist(), sources) == (["valid", "", "valid"], [tmp_path / "splits.csv"])
    assert [(finding.kind, finding.where, finding.message) for finding in findings] == [
        ("unsplit", "w", "not in splits.csv: its split is empty"),
        ("unused", "splits.csv:3", "video 'x' has no utterance"),
    ]
    (tmp_path / "splits.csv").write_text("video_id,split\nv,train\nv,test\n")
    with pytest.raises(InputError, match=r"splits\.csv:3: id 'v' is already on line 2; expected unique ids"):
        split_by_video(table, tmp_path)
