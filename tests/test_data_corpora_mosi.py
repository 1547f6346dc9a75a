"""MOSI in MMSA's layout and in CMU's raw layout, with the pitfalls of each."""

import numpy as np
import pytest

from data.corpora import read_corpus
from data.csd import Entry, write_csd
from data.errors import InputError
from data.findings import FINDING_KINDS
from data.schema import validate

HEADER = "video_id,clip_id,text,label,label_T,label_A,label_V,annotation,mode"


def put(root, path, text=""):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text, encoding="utf-8")


def mmsa(root, *rows, header=HEADER):
    put(root, "label.csv", "\n".join([header, *rows]) + "\n")


def kinds(corpus):
    return [(finding.kind, finding.where) for finding in corpus.findings]


def column(corpus, name):
    return corpus.utterances[name].tolist()


def raw(root, videos, sentiments):
    """A CMU raw release: video → its numbered lines, and video → sentiments by k."""
    for video, lines in videos.items():
        text = "\n".join(f"{n}_DELIM_{words}" for n, words in lines.items())
        put(root, f"Raw/Transcript/Segmented/{video}.annotprocessed", text + "\n")
    entries = []
    for video, values in sentiments.items():
        times = [[2.0 * k, 2 * k + 1.5] for k in range(len(values))]
        entries.append((video, Entry(np.array(values, dtype="float32").reshape(-1, 1), np.array(times))))
    write_csd(root / "CMU_MOSI_Opinion_Labels.csd", "Opinion Segment Labels", entries)


def test_mmsa_rows_become_utterances_in_the_order_of_videos_and_clip_numbers(tmp_path):
    mmsa(
        tmp_path,
        "100499,10,LAST,0.0,,,,Neutral,test",
        '-a_b,1,"ONE, TWO",-1.5,,,,Negative,train',
        "100499,9,FIRST,2.4,,,,Positive,test",
    )
    corpus = read_corpus("mosi", tmp_path)
    assert column(corpus, "utterance_id") == ["100499[9]", "100499[10]", "-a_b[1]"]
    assert column(corpus, "video_id") == ["100499", "100499", "-a_b"]
    assert column(corpus, "position") == [0, 1, 0]
    assert column(corpus, "text") == ["FIRST", "LAST", "ONE, TWO"]
    assert column(corpus, "sentiment") == [2.4, 0.0, -1.5]
    assert column(corpus, "split") == ["test", "test", "train"]
    assert set(column(corpus, "label_source")) == {"label.csv"}
    assert corpus.utterances[["happiness", "fear", "start_s", "duration_s"]].isna().all(axis=None)
    assert corpus.layout == "MMSA label.csv"
    assert corpus.sources == (tmp_path / "label.csv",)
    assert corpus.findings == ()
    assert not corpus.has_media


def test_a_clip_without_media_is_excluded_with_the_path_expected_and_a_stranger_reported(tmp_path):
    mmsa(tmp_path, "v,1,T,1,,,,,train", "v,2,T,1,,,,,train", "v,3,T,1,,,,,train")
    put(tmp_path, "Raw/v/1.mp4")
    put(tmp_path, "Raw/v/3.mp4")
    put(tmp_path, "Raw/v/8.mp4")
    corpus = read_corpus("mosi", tmp_path)
    assert column(corpus, "excluded") == ["", "missing media: expected Raw/v/2.mp4", ""]
    assert kinds(corpus) == [("missing", "v[2]"), ("unused", "Raw/v/8.mp4")]
    assert corpus.findings[0].message == "expected Raw/v/2.mp4: excluded"


def test_cmu_labels_count_from_0_and_lines_from_1(tmp_path):
    raw(
        tmp_path,
        {"v": {1: "ONE", 2: "TWO_DELIM_TWO", 10: "TEN"}, "_w": {1: "W"}},
        {"v": [0.5, -1.0], "_w": [3.0, 1.0], "x": [2.0]},
    )
    put(tmp_path, "splits.csv", "split,video_id\ndev,v\ntrain,_w\ntest,z\n")
    put(tmp_path, "Raw/Transcript/Segmented/._v.annotprocessed", "\x00")
    corpus = read_corpus("mosi", tmp_path)
    assert corpus.layout == "CMU raw"
    assert column(corpus, "utterance_id") == ["_w[1]", "v[1]", "v[2]", "v[10]"]
    assert column(corpus, "text") == ["W", "ONE", "TWO_DELIM_TWO", "TEN"]
    np.testing.assert_array_equal(column(corpus, "sentiment"), [3.0, 0.5, -1.0, np.nan])
    assert column(corpus, "split") == ["train", "valid", "valid", "valid"]
    np.testing.assert_array_equal(column(corpus, "duration_s"), [1.5, 1.5, 1.5, np.nan])
    assert column(corpus, "label_source") == [*["CMU_MOSI_Opinion_Labels.csd"] * 3, ""]
    assert kinds(corpus) == [
        ("unmatched", "_w interval 1 (2.000 to 3.500 s)"),
        ("unmatched", "x interval 0 (0.000 to 1.500 s)"),
        ("unlabelled", "v[10]"),
        ("unused", "splits.csv:4"),
    ]
    assert tmp_path / "splits.csv" in corpus.sources
    assert len(corpus.sources) == 4


def test_cmu_without_splits_says_so_and_finds_segmented_media_without_raw(tmp_path):
    raw(tmp_path, {"v": {1: "ONE"}}, {"v": [0.5]})
    (tmp_path / "Raw/Transcript").rename(tmp_path / "Transcript")
    put(tmp_path, "Audio/WAV_16000/Segmented/v_1.wav")
    corpus = read_corpus("mosi", tmp_path)
    assert column(corpus, "split") == [""]
    assert kinds(corpus) == [("unsplit", "splits.csv")]
    assert column(corpus, "media") == ["Audio/WAV_16000/Segmented/v_1.wav"]
    assert np.isnan(column(corpus, "start_s")[0])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2 ONE", r"v\.annotprocessed:3: line is '2 ONE', expected '<n>_DELIM_<TEXT>'"),
        ("01_DELIM_AGAIN", r"v\.annotprocessed:3: id 'v\[1\]' is already on line 1"),
        ("٣_DELIM_THREE", r"v\.annotprocessed:3: line is '٣_DELIM_THREE', expected"),
        (f"{'1' * 30}_DELIM_ONE", r"v\.annotprocessed:3: line is '1{30}_DELIM_ONE', expected"),
        ("1_DELIM_AGAIN", r"v\.annotprocessed:3: id 'v\[1\]' is already on line 1"),
    ],
)
def test_a_bad_transcript_line_is_named(tmp_path, line, message):
    raw(tmp_path, {"v": {1: "ONE"}}, {"v": [0.5]})
    put(tmp_path, "Raw/Transcript/Segmented/v.annotprocessed", f"1_DELIM_ONE\n\n{line}\n")
    with pytest.raises(InputError, match=message):
        read_corpus("mosi", tmp_path)


def test_an_empty_folder_says_what_was_looked_for(tmp_path):
    with pytest.raises(InputError, match=r"neither label.csv nor the CMU raw layout \(Raw/Transcript/Segmented/\*.annotprocessed: 0"):
        read_corpus("mosi", tmp_path)


def test_findings_are_of_the_known_kinds_and_tables_valid(tmp_path):
    raw(tmp_path, {"v": {1: "ONE", 2: "..."}}, {"v": [3.2], "w": [1.0]})
    corpus = read_corpus("mosi", tmp_path)
    assert {finding.kind for finding in corpus.findings} <= set(FINDING_KINDS)
    assert {"out-of-range", "empty-text", "unmatched", "unlabelled", "unsplit"} == {finding.kind for finding in corpus.findings}
    assert validate(corpus.utterances, "here").equals(corpus.utterances)
