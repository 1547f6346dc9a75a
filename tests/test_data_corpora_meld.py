"""MELD: keys that carry the split, clips in every public place, the known damage."""

import numpy as np
import pytest

from data.corpora import read_corpus
from data.errors import InputError
from data.labels import EMOTIONS

HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime"


def put(root, path, text=""):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text, encoding="utf-8")


def row(dialogue, utterance, emotion="neutral", sentiment="neutral", text=None, start="00:16:16,059"):
    text = text or f"Words {utterance}."
    return f'1,"{text}",Ada,{emotion},{sentiment},{dialogue},{utterance},8,21,"{start}","00:16:21,731"'


def part(root, name, *rows, folder=""):
    put(root, f"{folder}{name}_sent_emo.csv", "\n".join([HEADER, *rows]) + "\n")


def three(root):
    part(root, "train", row(0, 1), row(0, 0), row(10, 0), row(2, 0))
    part(root, "dev", row(0, 0), row(3, 0))
    part(root, "test", row(0, 0), row(10, 0))


def column(corpus, name):
    return corpus.utterances[name].tolist()


def kinds(corpus):
    return [(finding.kind, finding.where) for finding in corpus.findings]


def test_keys_carry_the_split_because_numbers_begin_anew(tmp_path):
    three(tmp_path)
    corpus = read_corpus("meld", tmp_path)
    assert column(corpus, "utterance_id") == [
        *("train/dia0_utt0", "train/dia0_utt1", "train/dia10_utt0", "train/dia2_utt0"),
        *("valid/dia0_utt0", "valid/dia3_utt0", "test/dia0_utt0", "test/dia10_utt0"),
    ]
    assert column(corpus, "video_id")[:3] == ["train/dia0", "train/dia0", "train/dia10"]
    assert column(corpus, "position")[:3] == [0, 1, 0]
    assert column(corpus, "clip_id")[:3] == ["0", "1", "0"]
    assert column(corpus, "split") == ["train"] * 4 + ["valid"] * 2 + ["test"] * 2
    assert corpus.findings == ()
    assert not corpus.has_media
    assert corpus.sources == tuple(tmp_path / f"{name}_sent_emo.csv" for name in ("train", "dev", "test"))


def test_categories_polarities_and_typographic_quotes_are_kept_and_times_of_the_episode_are_not(tmp_path):
    part(tmp_path, "train", row(0, 0, "joy", "positive", "It’s “fine”, isn’t it?"), row(0, 1, "surprise", "negative"), row(0, 2))
    table = read_corpus("meld", tmp_path).utterances
    assert table["text"][0] == "It’s “fine”, isn’t it?"
    assert table["category"].tolist() == ["joy", "surprise", "neutral"]
    assert table["polarity"].tolist() == ["positive", "negative", "neutral"]
    assert table["speaker"].tolist() == ["Ada"] * 3
    assert table[list(EMOTIONS)].to_numpy().tolist() == [[1, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0], [0] * 6]
    assert table[["sentiment", "start_s", "end_s", "duration_s"]].isna().all(axis=None)
    assert table["label_source"].tolist() == ["train_sent_emo.csv"] * 3


@pytest.mark.parametrize(
    "places",
    [
        ("train_splits", "dev_splits_complete", "output_repeated_splits_test"),
        ("train/train_splits", "dev/dev_splits_complete", "test/output_repeated_splits_test"),
        ("train", "dev", "test"),
        ("wav/train", "wav/dev", "wav/test"),
        ("train/wav", "dev/wav", "test/wav"),
        ("wav/train_splits", "wav/dev_splits_complete", "wav/output_repeated_splits_test"),
    ],
)
def test_clips_are_found_in_every_public_folder(tmp_path, places):
    part(tmp_path, "train", row(0, 1), row(0, 0), row(10, 0), row(2, 0), folder="train/")
    part(tmp_path, "dev", row(0, 0), row(3, 0))
    part(tmp_path, "test", row(0, 0), row(10, 0), folder="test/")
    media = []
    for place, dialogues in zip(places, ((0, 10, 2), (0, 3), (0, 10)), strict=True):
        put(tmp_path, f"{place}/._dia0_utt0.mp4")
        media += [f"{place}/dia{dialogue}_utt0.mp4" for dialogue in dialogues]
    for path in media:
        put(tmp_path, path)
    corpus = read_corpus("meld", tmp_path)
    assert [path for path in column(corpus, "media") if path] == media
    assert kinds(corpus) == [("missing", "train/dia0_utt1")]
    assert column(corpus, "excluded")[1].startswith(f"missing media: expected {places[0]}/dia0_utt1.")


def test_files_directly_in_wav_serve_only_numbers_of_one_split(tmp_path):
    three(tmp_path)
    for clip in ("dia0_utt0", "dia0_utt1", "dia10_utt0", "dia2_utt0", "dia3_utt0"):
        put(tmp_path, f"wav/{clip}.wav")
    corpus = read_corpus("meld", tmp_path)
    assert column(corpus, "media") == ["", "wav/dia0_utt1.wav", "", "wav/dia2_utt0.wav", "", "wav/dia3_utt0.wav", "", ""]
    assert ("unused", "wav") in kinds(corpus)
    message = next(finding.message for finding in corpus.findings if finding.where == "wav")
    assert message == "2 files like dia0_utt0.wav could be of several splits: put them into wav/train, wav/dev and wav/test"
    assert [where for kind, where in kinds(corpus) if kind == "missing"] == [
        *("train/dia0_utt0", "train/dia10_utt0", "valid/dia0_utt0", "test/dia0_utt0", "test/dia10_utt0"),
    ]


def test_files_directly_in_wav_serve_a_single_split_wholly(tmp_path):
    part(tmp_path, "train", row(0, 0), row(0, 1))
    put(tmp_path, "wav/dia0_utt0.wav")
    put(tmp_path, "wav/dia0_utt1.wav")
    corpus = read_corpus("meld", tmp_path)
    assert column(corpus, "media") == ["wav/dia0_utt0.wav", "wav/dia0_utt1.wav"]
    assert kinds(corpus) == [("missing", "dev_sent_emo.csv"), ("missing", "test_sent_emo.csv")]


def test_known_damage_and_extra_clips_are_reported_where_there_are_media(tmp_path):
    part(tmp_path, "train", row(125, 3))
    part(tmp_path, "dev", row(110, 7))
    part(tmp_path, "test", row(0, 0))
    assert read_corpus("meld", tmp_path).findings == ()
    for path in ("train_splits/dia125_utt3.mp4", "output_repeated_splits_test/dia0_utt0.mp4"):
        put(tmp_path, path)
    put(tmp_path, "output_repeated_splits_test/final_videos_testdia0_utt0.mp4")
    corpus = read_corpus("meld", tmp_path)
    assert kinds(corpus) == [
        ("missing", "valid/dia110_utt7"),
        ("unused", "output_repeated_splits_test/final_videos_testdia0_utt0.mp4"),
        ("known-bad", "train/dia125_utt3"),
        ("known-bad", "valid/dia110_utt7"),
    ]
    assert column(corpus, "excluded") == ["", "missing media: expected dev_splits_complete/dia110_utt7.mp4", ""]


def test_repeated_rows_are_reported(tmp_path):
    later = row(0, 2, text="Hey.", start="00:16:17,000")
    part(tmp_path, "train", row(0, 0, text="Hey."), row(0, 1, text="Hey."), later, row(1, 0, text="Hey."))
    corpus = read_corpus("meld", tmp_path)
    assert [(f.where, f.message) for f in corpus.findings if f.kind == "duplicate"] == [
        ("train/dia0_utt1", "same text and times as train/dia0_utt0"),
    ]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (row(0, 0), r"train_sent_emo\.csv:3: id 'train/dia0_utt0' is already on line 2"),
        (row("x", 1), r"train_sent_emo\.csv:3: Dialogue_ID is 'x', expected a whole number"),
        (row(0, 1, emotion="joi"), r"Unknown emotion in .*train_sent_emo\.csv:3: 'joi'\. Did you mean 'joy'\?"),
        (row(0, 1, sentiment="bad"), r"train_sent_emo\.csv:3: Sentiment is 'bad', expected one of negative, neutral, positive"),
    ],
)
def test_a_bad_row_names_file_line_value_and_what_was_expected(tmp_path, bad, message):
    part(tmp_path, "train", row(0, 0), bad)
    with pytest.raises(InputError, match=message):
        read_corpus("meld", tmp_path)


def test_a_folder_without_tables_says_which_were_expected(tmp_path):
    with pytest.raises(InputError, match=r"no train_sent_emo\.csv, dev_sent_emo\.csv, test_sent_emo\.csv"):
        read_corpus("meld", tmp_path)
    part(tmp_path, "train", row(0, 0))
    (tmp_path / "train_sent_emo.csv").write_text(HEADER.replace("Emotion", "Emotions") + "\n" + row(0, 0))
    with pytest.raises(InputError, match=r"no column 'Emotion'\. Did you mean 'Emotions'\?"):
        read_corpus("meld", tmp_path)


def test_all_float_labels_are_numbers(tmp_path):
    three(tmp_path)
    assert all(read_corpus("meld", tmp_path).utterances[emotion].dtype == np.float64 for emotion in EMOTIONS)
