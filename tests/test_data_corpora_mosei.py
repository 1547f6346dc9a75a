"""MOSEI: emotions are joined and all rows without a match reported; whole recordings are cut at times that may be wrong."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.corpora import read_corpus
from data.csd import Entry, write_csd
from data.errors import InputError
from data.labels import EMOTIONS

SIX = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
"""In the order of the `.csd`: happy, sad, anger, surprise, disgust, fear."""


def put(root, path, text=""):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text, encoding="utf-8")


def labels(root, *rows):
    put(root, "label.csv", "\n".join(["video_id,clip_id,text,label,annotation,mode,label_T,label_A,label_V", *rows]) + "\n")


def transcripts(root, folder="Raw/Transcript/Segmented/Combined", **videos):
    for video, lines in videos.items():
        put(root, f"{folder}/{video}.txt", "".join(f"{video}___{line}\n" for line in lines))


def csd(root, metadata=None, **videos):
    """Video → rows (start, end, sentiment, six emotions)."""
    entries = []
    for video, rows in videos.items():
        values = np.array([[sentiment, *six] for _, _, sentiment, six in rows], dtype="float32")
        entries.append((video, Entry(values, np.array([row[:2] for row in rows], dtype="float32"))))
    write_csd(root / "CMU_MOSEI_Labels.csd", "All Labels", entries, metadata)


def column(corpus, name):
    return corpus.utterances[name].tolist()


def reported(corpus, kind):
    return [finding.where for finding in corpus.findings if finding.kind == kind]


def test_emotions_are_joined_by_times_then_by_sentiment_and_the_rest_is_listed(tmp_path):
    labels(
        tmp_path,
        "100499,5,first,1.0,Positive,valid,,,",
        "100499,11,second,-0.33333334,Negative,valid,,,",
        "100499,12,third,0.0,Neutral,valid,,,",
        "-a_,0,fourth,2.0,Positive,train,,,",
        "lost,3,fifth,2.0,Positive,test,,,",
    )
    transcripts(tmp_path, **{"100499": ["5___1.5___3.25___first", "12___9.0___9.5___third", "20___30.0___31.0___spare ___ words"]})
    third = (9.0001, 9.5, 0.0, (0.0,) * 6)
    csd(
        tmp_path,
        {"dimension names": ["sentiment", "happy", "sad", "anger", "surprise", "disgust", "fear"]},
        **{
            "100499": [third, (1.5, 3.25, 1.0, SIX), (5.0, 6.0, -1 / 3, (3.0, 0, 0, 0, 0, 0)), (50.0, 51.0, 3.0, SIX)],
            "-a_": [(0.0, 1.0, 2.0, SIX)],
            "extra": [(0.0, 2.5, 1.0, SIX)],
        },
    )
    corpus = read_corpus("mosei", tmp_path)
    table = corpus.utterances.set_index("utterance_id")
    assert list(table.index) == ["100499[5]", "100499[11]", "100499[12]", "-a_[0]", "lost[3]"]
    assert table.loc["100499[5]", list(EMOTIONS)].tolist() == [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    assert EMOTIONS == ("happiness", "sadness", "anger", "surprise", "disgust", "fear")
    assert table["happiness"].tolist()[:4] == [0.5, 3.0, 0.0, 0.5]
    assert table.loc["lost[3]", list(EMOTIONS)].isna().all()
    np.testing.assert_allclose(table["sentiment"], [1.0, -1 / 3, 0.0, 2.0, 2.0], atol=1e-7)
    np.testing.assert_allclose(table["duration_s"], [1.75, 1.0, 0.5, 1.0, np.nan])
    assert table["label_source"].tolist() == [*["label.csv + CMU_MOSEI_Labels.csd"] * 4, "label.csv"]
    assert corpus.layout == ("MMSA label.csv + CMU_MOSEI_Labels.csd: emotions for 4 of 5 clips (2 by times, 2 by sentiment)")
    assert reported(corpus, "unlabelled") == ["lost[3]"]
    assert reported(corpus, "unmatched") == [
        "100499 interval 3 (50.000 to 51.000 s)",
        "extra interval 0 (0.000 to 2.500 s)",
    ]
    assert reported(corpus, "unused") == ["100499.txt:3"]
    assert reported(corpus, "conflict") == []


def test_label_files_that_disagree_are_reported(tmp_path):
    labels(tmp_path, "v,1,words,1.0,Positive,train,,,", "v,2,words,0.33,Positive,train,,,")
    transcripts(tmp_path, v=["1___0.0___1.0___words", "2___2.0___3.0___words"])
    csd(tmp_path, v=[(0.0, 1.0, -2.0, SIX), (2.0, 3.0, 1 / 3, SIX)])
    corpus = read_corpus("mosei", tmp_path)
    assert [(f.where, f.message) for f in corpus.findings] == [
        ("v[1]", "sentiment 1 in label.csv, -2 in CMU_MOSEI_Labels.csd"),
    ]


def test_without_csd_there_are_no_emotions_and_one_finding_says_so(tmp_path):
    labels(tmp_path, "v,1,words,1.0,Positive,train,,,")
    transcripts(tmp_path, folder="Transcript/Segmented/Combined", v=["1___0.0___1.5___words"])
    corpus = read_corpus("mosei", tmp_path)
    assert corpus.utterances[list(EMOTIONS)].isna().all(axis=None)
    assert column(corpus, "duration_s") == [1.5]
    assert column(corpus, "label_source") == ["label.csv"]
    assert reported(corpus, "unlabelled") == ["label.csv"]
    assert len(corpus.sources) == 2


def test_whole_recordings_are_cut_and_bad_times_reported(tmp_path):
    texts = ["early", "empty", "long before", "reversed", "fine", "overlaps", "again", "again"]
    lines = [(-0.4, 2.0), (3.0, 3.0), (-7.0, 1.0), (9.0, 8.0), (10.0, 12.0), (11.5, 14.0), (20.0, 21.0), (20.0, 21.0)]
    labels(tmp_path, *(f"v,{n},{text},1.0,Positive,train,,," for n, text in enumerate(texts)), "v,8,no line,0.5,Positive,train,,,")
    transcripts(tmp_path, v=[f"{n}___{a}___{b}___{texts[n]}" for n, (a, b) in enumerate(lines)])
    put(tmp_path, "Raw/Audio/Full/WAV_16000/v.wav")
    corpus = read_corpus("mosei", tmp_path)
    assert set(column(corpus, "media")) == {"Raw/Audio/Full/WAV_16000/v.wav"}
    assert column(corpus, "excluded") == [
        "",
        "bad time: the segment has no length (3.000 to 3.000 s)",
        "bad time: the segment starts long before its recording (-7.000 to 1.000 s)",
        "bad time: the segment has no length (9.000 to 8.000 s)",
        *[""] * 4,
        "no times: no table says where in Raw/Audio/Full/WAV_16000/v.wav it is",
    ]
    np.testing.assert_array_equal(column(corpus, "start_s"), [0.0, 3.0, -7.0, 9.0, 10.0, 11.5, 20.0, 20.0, np.nan])
    np.testing.assert_array_equal(column(corpus, "end_s"), [2.0, 3.0, 1.0, 8.0, 12.0, 14.0, 21.0, 21.0, np.nan])
    assert reported(corpus, "bad-time") == ["v[0]", "v[1]", "v[2]", "v[3]", "v[8]"]
    assert "starts at -0.400 s: taken as 0" in [finding.message for finding in corpus.findings]
    assert reported(corpus, "duplicate") == ["v[7]"]
    overlap = [finding for finding in corpus.findings if finding.kind == "overlap"]
    assert [(f.where, f.message) for f in overlap] == [
        ("v", "2 segments begin before an earlier one ends, by up to 1.00 s (v[7])"),
    ]


def test_a_clip_of_its_own_is_not_cut_and_comes_before_the_recording(tmp_path):
    labels(tmp_path, "v,1,words,1.0,Positive,train,,,", "v,2,words,1.0,Positive,train,,,", "w,1,words,1.0,Positive,train,,,")
    transcripts(tmp_path, v=["1___0.0___1.5___words", "2___2.0___3.0___words"], w=["1___0.0___1.0___words"])
    for path in ("Raw/v/1.mp4", "Raw/Audio/Full/WAV_16000/v.wav"):
        put(tmp_path, path)
    corpus = read_corpus("mosei", tmp_path)
    assert column(corpus, "media") == ["Raw/v/1.mp4", "Raw/Audio/Full/WAV_16000/v.wav", ""]
    np.testing.assert_array_equal(column(corpus, "start_s"), [np.nan, 2.0, np.nan])
    np.testing.assert_array_equal(column(corpus, "duration_s"), [1.5, 1.0, 1.0])
    assert column(corpus, "excluded")[2].startswith("missing media: expected Raw/")


def test_cmu_raw_lines_take_the_labels_of_their_times(tmp_path):
    transcripts(tmp_path, **{"-v": ["0___-0.2___2.0___one", "4___2.5___4.0___two"], "a___b": ["1___0.0___1.0___three"]})
    csd(
        tmp_path,
        **{"-v": [(2.5, 4.0, -3.2, SIX), (7.0, 8.0, 1.0, SIX)], "a___b": [(0.0, 1.0, 0.5, SIX)]},
    )
    put(tmp_path, "splits.csv", "video_id,split\n-v,train\na___b,test\n")
    put(tmp_path, "Audio/Full/WAV_16000/-v.ogg")
    corpus = read_corpus("mosei", tmp_path)
    assert corpus.layout == "CMU raw"
    assert column(corpus, "utterance_id") == ["-v[0]", "-v[4]", "a___b[1]"]
    assert column(corpus, "text") == ["one", "two", "three"]
    np.testing.assert_array_equal(column(corpus, "sentiment"), [np.nan, -3.0, 0.5])
    np.testing.assert_array_equal(column(corpus, "fear"), [np.nan, 3.0, 3.0])
    assert column(corpus, "split") == ["train", "train", "test"]
    assert column(corpus, "label_source") == ["", "CMU_MOSEI_Labels.csd", "CMU_MOSEI_Labels.csd"]
    np.testing.assert_array_equal(column(corpus, "start_s"), [0.0, 2.5, np.nan])
    assert reported(corpus, "unlabelled") == ["-v[0]"]
    assert reported(corpus, "unmatched") == ["-v interval 1 (7.000 to 8.000 s)"]
    assert reported(corpus, "out-of-range") == ["-v interval 0 (2.500 to 4.000 s)"]
    assert reported(corpus, "missing") == ["a___b[1]"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("v___1___0.0___words", r"v\.txt:2: line is 'v___1___0.0___words', expected '<video>___<n>___<start>"),
        ("v___x___0.0___1.0___words", r"v\.txt:2: line is"),
        ("v___1___zero___1.0___words", r"v\.txt:2: line is"),
        ("v___1___nan___1.0___words", r"v\.txt:2: line is"),
        (f"v___{'1' * 5000}___1.0___2.0___words", r"v\.txt:2: line is 'v___1{56}', expected"),
        ("v___01___5.0___6.0___words", r"v\.txt:2: segment 1 of 'v' is already at v\.txt:1"),
    ],
    ids=["fields", "letter", "word", "nan", "digits", "twice"],
)
def test_a_bad_transcript_line_is_named(tmp_path, line, message):
    csd(tmp_path, v=[(0.0, 1.0, 1.0, SIX)])
    put(tmp_path, "Transcript/Segmented/Combined/v.txt", f"v___1___0.0___1.0___words\n{line}\n")
    with pytest.raises(InputError, match=message):
        read_corpus("mosei", tmp_path)


def test_an_empty_folder_says_what_was_looked_for(tmp_path):
    with pytest.raises(InputError, match=r"Combined/\*\.txt: 0 found; CMU_MOSEI_Labels\.csd: not found\)"):
        read_corpus("mosei", tmp_path)


labelled = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 5), st.sampled_from([-1, 0, 1])), unique_by=lambda row: row[:2], min_size=1
)


@settings(max_examples=25, deadline=None)
@given(clips=labelled, lines=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 5)), unique=True), intervals=labelled)
def test_every_clip_and_every_interval_is_matched_or_listed(tmp_path_factory, clips, lines, intervals):
    root = tmp_path_factory.mktemp("mosei")  # labels of 0 and 1 alone would be refused as two classes
    labels(root, *(f"{video},{n},words,{3 * label},x,train,,," for video, n, label in clips))
    for name in {video for video, _ in lines}:
        transcripts(root, **{name: [f"{n}___{n}.0___{n}.5___words" for video, n in lines if video == name]})
    present = {video for video, _, _ in intervals}
    csd(root, **{name: [(n, n + 0.5, label, SIX) for video, n, label in intervals if video == name] for name in present})
    corpus = read_corpus("mosei", root)
    found = corpus.utterances["happiness"].notna()
    assert sorted(reported(corpus, "unlabelled")) == sorted(corpus.utterances["utterance_id"][~found])
    assert found.sum() + len(reported(corpus, "unmatched")) == len(intervals)
