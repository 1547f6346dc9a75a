"""The `label.csv` of MMSA that MOSI and MOSEI share: its two forms, its errors, and the places of the clips beside it."""

import csv

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.corpora import read_corpus
from data.corpora.mmsa import is_layout, read_labels
from data.errors import InputError

HEADER = "video_id,clip_id,text,label,label_T,label_A,label_V,annotation,mode"
VIDEO_IDS = ("-a_b", "_c--d", "100499")

video_ids = st.text("aZ09-_$ é", min_size=1, max_size=8)


def put(root, path, text=""):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text, encoding="utf-8")


def mmsa(root, *rows, header=HEADER):
    put(root, "label.csv", "\n".join([header, *rows]) + "\n")


def kinds(corpus):
    return [(finding.kind, finding.where) for finding in corpus.findings]


def column(corpus, name):
    return corpus.utterances[name].tolist()


def test_a_table_of_labels_keeps_the_lines_of_the_file(tmp_path):
    mmsa(tmp_path, "v,7,T,1.5,,,,,valid", "", "v,2,U,-3.25,,,,,test")
    table, layout, findings = read_labels(tmp_path)
    assert table.index.tolist() == [2, 4]
    assert table.loc[4].to_dict() == {
        "video_id": "v", "clip_id": "2", "text": "U", "utterance_id": "v[2]", "order": 2, "split": "test",
        "label_source": "label.csv", "sentiment": -3.0,
    }  # fmt: skip
    assert layout == "MMSA label.csv"
    assert [finding.message for finding in findings] == ["sentiment is -3.25, its scale -3 to 3: taken as -3 (label.csv)"]


@pytest.mark.parametrize(
    ("header", "files", "expected"),
    [
        ("video_id,clip_id,text,label,mode", (), True),
        ("id,text,label,mode", (), True),
        ("video_id,clip_id,text,label,mode", ("Raw/v/1.mp4", "v/1.wav"), True),
        ("video_id,clip_id,text,label,mode", ("v/1.wav",), False),
        ("video_id,clip_id,text,sentiment,mode", (), False),
        ("video_id,text,label,mode", (), False),
        ("id,text,label,mode,happiness,sadness,anger,surprise,disgust,fear", (), False),
        ("id,text,label,mode,start_s,end_s", (), False),
    ],
)
def test_the_layout_is_known_by_its_columns_and_its_folders(tmp_path, header, files, expected):
    assert not is_layout(tmp_path)
    mmsa(tmp_path, ",".join("v_1" for _ in header.split(",")), header=header)
    for path in files:
        put(tmp_path, path)
    assert is_layout(tmp_path) is expected


@pytest.mark.parametrize(("ids", "expected"), [(("v_1", "_a_2"), True), (("a", "v_1"), True), (("a", "b"), False)])
def test_ids_without_a_clip_number_are_not_those_of_mmsa(tmp_path, ids, expected):
    mmsa(tmp_path, *(f"{utterance},TEXT,1,train" for utterance in ids), header="id,text,label,mode")
    assert is_layout(tmp_path) is expected


def test_columns_in_another_order_an_index_and_a_split_called_dev_are_read(tmp_path):
    mmsa(tmp_path, "0,dev,0.5,HELLO,1,v", header="index,mode,label,text,clip_id,video_id")
    corpus = read_corpus("mosi", tmp_path, name="reviews")
    assert column(corpus, "split") == ["valid"]
    assert column(corpus, "corpus") == ["reviews"]
    assert corpus.name == "reviews"


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
