"""MOSI in its three layouts, with the traps of each; the reading of `label.csv` that MOSEI shares is tested here too."""

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.corpora import CORPORA, read_corpus
from data.csd import Entry, write_csd
from data.errors import InputError
from data.findings import FINDING_KINDS
from data.schema import validate

HEADER = "video_id,clip_id,text,label,label_T,label_A,label_V,annotation,mode"
VIDEO_IDS = ("-a_b", "_c--d", "100499")


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


def test_columns_in_another_order_an_index_and_a_split_called_dev_are_read(tmp_path):
    mmsa(tmp_path, "0,dev,0.5,HELLO,1,v", header="index,mode,label,text,clip_id,video_id")
    corpus = read_corpus("mosi", tmp_path, name="reviews")
    assert column(corpus, "split") == ["valid"]
    assert column(corpus, "corpus") == ["reviews"]
    assert corpus.name == "reviews"


video_ids = st.text("aZ09-_$ é", min_size=1, max_size=8)


@settings(max_examples=40, deadline=None)
@given(
    clips=st.lists(
        st.tuples(
            video_ids,
            st.integers(0, 40),
            st.text(st.characters(exclude_categories=["Cs"])),
            st.floats(-3, 3),
            st.sampled_from(["train", "valid", "test"]),
        ),
        min_size=1,
        max_size=8,
        unique_by=lambda clip: clip[:2],
    ),
    columns=st.permutations(["id", "text", "label", "mode"]),
    reduced=st.booleans(),
)
def test_any_label_file_comes_back_whole(tmp_path_factory, clips, columns, reduced):
    root = tmp_path_factory.mktemp("mosi")
    if not reduced:
        columns = ["video_id", *columns[:2], "clip_id", *columns[2:]]
        columns.remove("id")
    with (root / "label.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        for video, clip, text, label, mode in clips:
            row = {"id": f"{video}_{clip}", "video_id": video, "clip_id": clip}
            writer.writerow({**row, "text": text, "label": repr(label), "mode": mode})
    table = read_corpus("mosi", root).utterances
    videos = list(dict.fromkeys(clip[0] for clip in clips))
    expected = sorted(clips, key=lambda clip: (videos.index(clip[0]), clip[1]))
    got = zip(table["video_id"], table["clip_id"].astype(int), table["text"], table["sentiment"], table["split"], strict=True)
    assert list(got) == expected
    assert table["utterance_id"].tolist() == [f"{video}[{clip}]" for video, clip, *_ in expected]
    assert table.groupby("video_id")["position"].apply(list).map(lambda p: p == list(range(len(p)))).all()


def test_reduced_ids_are_split_at_the_last_underscore(tmp_path):
    mmsa(tmp_path, *(f"{video}_{n},WORDS,1.0,train" for n, video in enumerate(VIDEO_IDS)), header="id,text,label,mode")
    corpus = read_corpus("mosi", tmp_path)
    assert column(corpus, "video_id") == list(VIDEO_IDS)
    assert column(corpus, "clip_id") == ["0", "1", "2"]
    assert corpus.layout.startswith("reduced label.csv")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("v,2,T,much,,,,,train", r"label\.csv:3: label is 'much', expected a number"),
        ("v,2,T,,,,,,train", r"label\.csv:3: label is '', expected a number"),
        ("v,2,T,1,,,,,tran", r"label\.csv:3: mode is 'tran', expected one of train, valid"),
        ("v,2,T,1,,,,,", r"label\.csv:3: mode is '', expected one of"),
        ("v,two,T,1,,,,,train", r"label\.csv:3: clip_id is 'two', expected a whole number"),
        ("v,1,T,1,,,,,train", r"label\.csv:3: id 'v\[1\]' is already on line 2"),
        ("v,2,T,40,,,,,train", r"label\.csv: v\[2\]: sentiment is 40, its scale -3 to 3\. Is the label on another scale"),
        ("v,2,T,1,,,,train", r"label\.csv:3: 8 fields, expected 9"),
    ],
)
def test_a_bad_row_names_file_line_value_and_what_was_expected(tmp_path, row, message):
    mmsa(tmp_path, "v,1,T,1,,,,,train", row)
    with pytest.raises(InputError, match=message):
        read_corpus("mosi", tmp_path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("video_id,clip_id,text,labl,mode", "no column 'label'. Did you mean 'labl'"),
        ("videoid,clip_id,text,label,mode", "no column 'video_id'. Did you mean 'videoid'"),
        ("id,clip,text,label,mode", "expected '<video_id>_<clip_id>'"),
    ],
)
def test_a_missing_column_is_named_with_the_nearest(tmp_path, header, message):
    mmsa(tmp_path, "v,1,T,1,train", header=header)
    with pytest.raises(InputError, match=message):
        read_corpus("mosi", tmp_path)


def test_labels_a_little_outside_are_reported(tmp_path):
    mmsa(tmp_path, "v,1,T,-3.1,,,,,train")
    corpus = read_corpus("mosi", tmp_path)
    assert column(corpus, "sentiment") == [-3.0]
    assert kinds(corpus) == [("out-of-range", "v[1]")]


def test_a_text_without_a_word_is_reported(tmp_path):
    mmsa(tmp_path, "v,1, ...,1,,,,,train", "v,2,,1,,,,,train", "v,3,NA,1,,,,,train")
    corpus = read_corpus("mosi", tmp_path)
    assert kinds(corpus) == [("empty-text", "v[1]"), ("empty-text", "v[2]")]
    assert column(corpus, "text")[2] == "NA"


def test_media_prefer_extracted_audio_and_edited_clips(tmp_path):
    mmsa(tmp_path, *(f"-v,{n},T,1,,,,,train" for n in range(1, 6)))
    for path in ("Raw/-v/1.mp4", "Raw/-v/1-edited.mp4", "Raw/-v/2.mp4", "Raw/-v/._2-edited.mp4", "wav/-v/2.wav"):
        put(tmp_path, path)
    for path in ("Raw/-v/3.mkv", "Raw/Audio/WAV_16000/Segmented/-v_4.flac", "Raw/Video/Segmented/-v_5.mp4"):
        put(tmp_path, path)
    corpus = read_corpus("mosi", tmp_path)
    assert column(corpus, "media") == [
        "Raw/-v/1-edited.mp4",
        "wav/-v/2.wav",
        "Raw/-v/3.mkv",
        "Raw/Audio/WAV_16000/Segmented/-v_4.flac",
        "Raw/Video/Segmented/-v_5.mp4",
    ]
    assert corpus.findings == ()
    assert corpus.has_media


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


def test_videos_outside_the_splits_file_are_reported(tmp_path):
    raw(tmp_path, {"v": {1: "ONE"}}, {"v": [0.5]})
    put(tmp_path, "splits.csv", "video_id,split\nw,train\n")
    assert kinds(read_corpus("mosi", tmp_path)) == [("unsplit", "v"), ("unused", "splits.csv:2")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2 ONE", r"v\.annotprocessed:3: line is '2 ONE', expected '<n>_DELIM_<TEXT>'"),
        ("1_DELIM_AGAIN", r"v\.annotprocessed:3: id 'v\[1\]' is already on line 1"),
    ],
)
def test_a_bad_transcript_line_is_named(tmp_path, line, message):
    raw(tmp_path, {"v": {1: "ONE"}}, {"v": [0.5]})
    put(tmp_path, "Raw/Transcript/Segmented/v.annotprocessed", f"1_DELIM_ONE\n\n{line}\n")
    with pytest.raises(InputError, match=message):
        read_corpus("mosi", tmp_path)


def test_several_label_files_are_for_the_user_to_choose_from(tmp_path):
    raw(tmp_path, {"v": {1: "ONE"}}, {"v": [0.5]})
    (tmp_path / "CMU_MOSI_Opinion_Labels.csd").rename(tmp_path / "old_labels.csd")
    (tmp_path / "COVAREP.csd").write_text("features, not labels")
    assert len(read_corpus("mosi", tmp_path).utterances) == 1
    (tmp_path / "new_Labels.csd").write_bytes((tmp_path / "old_labels.csd").read_bytes())
    with pytest.raises(InputError, match=r"several label files: new_Labels.csd, old_labels.csd. Keep one, named CMU_MOSI"):
        read_corpus("mosi", tmp_path)
    (tmp_path / "CMU_MOSI_Opinion_Labels.csd").write_bytes((tmp_path / "old_labels.csd").read_bytes())
    assert read_corpus("mosi", tmp_path).sources[0].name == "CMU_MOSI_Opinion_Labels.csd"


def test_an_empty_folder_says_what_was_looked_for(tmp_path):
    with pytest.raises(InputError, match=r"neither label.csv nor the CMU raw layout \(Raw/Transcript/Segmented/\*.annotprocessed: 0"):
        read_corpus("mosi", tmp_path)
    with pytest.raises(InputError, match="none: does not exist; expected the folder of a mosi corpus"):
        read_corpus("mosi", tmp_path / "none")
    put(tmp_path, "file")
    with pytest.raises(InputError, match="file: is not a folder"):
        read_corpus("mosi", tmp_path / "file")
    with pytest.raises(InputError, match=r"Unknown corpus 'mosie'\. Did you mean 'mos.*Available: mosi, mosei, meld, "):
        read_corpus("mosie", tmp_path)


def test_findings_are_of_the_known_kinds_and_tables_valid(tmp_path):
    assert set(CORPORA) == {"mosi", "mosei", "meld", "iemocap", "folder"}
    raw(tmp_path, {"v": {1: "ONE", 2: "..."}}, {"v": [3.2], "w": [1.0]})
    corpus = read_corpus("mosi", tmp_path)
    assert {finding.kind for finding in corpus.findings} <= set(FINDING_KINDS)
    assert {"out-of-range", "empty-text", "unmatched", "unlabelled", "unsplit"} == {finding.kind for finding in corpus.findings}
    assert validate(corpus.utterances, "here").equals(corpus.utterances)
