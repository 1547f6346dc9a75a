"""Requirements of the bundled sample, checked through the corpus readers and the decoder as for any corpus."""

from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
import torch
import transformers

from data.corpora import read_corpus
from data.corpora.base import Corpus
from data.labels import EMOTIONS
from data.media import SAMPLE_RATE_HZ, cut, decode
from data.sample.make import SAMPLE, make_iemocap, make_meld

CORPORA = ("mosi", "mosei", "meld", "iemocap")
SPOKEN = ("mosi", "mosei")
MOSEI_RECORDINGS = ("48213.ogg", "kT4wqLm8ZsE.ogg")


@pytest.fixture(scope="module")
def corpora() -> dict[str, Corpus]:
    return {name: read_corpus(name, SAMPLE / name) for name in CORPORA}


def sentences(name: str) -> pd.DataFrame:
    return pd.read_csv(SAMPLE / "sentences" / f"{name}.csv", dtype=str, keep_default_na=False)


@pytest.mark.parametrize(
    ("name", "utterances", "videos"), [("mosi", 240, 24), ("mosei", 240, 1), ("meld", 150, 1), ("iemocap", 150, 1)]
)
def test_corpus_is_as_large_as_required(corpora, name, utterances, videos):
    table = corpora[name].utterances
    assert len(table) == len(sentences(name)) >= utterances
    assert table["video_id"].nunique() >= videos
    assert set(table["split"]) == {"train", "valid", "test"}
    assert set(table["excluded"]) == {""}
    assert (table.groupby("video_id")["split"].nunique() == 1).all()


@pytest.mark.parametrize("name", ["mosi", "mosei", "meld"])
def test_reader_finds_nothing_to_report(corpora, name):
    assert corpora[name].findings == ()


def test_iemocap_reader_reports_the_oddities_and_nothing_else(corpora):
    table = sentences("iemocap")
    kinds = {(finding.kind, finding.where.partition(":")[0]) for finding in corpora["iemocap"].findings}
    unlabelled = {("unlabelled", turn) for turn in table.loc[table["code"] == "", "turn"]}
    assert len(unlabelled) == 4
    assert kinds == unlabelled | {("unused", "Ses05F_impro04.txt")}


@pytest.mark.parametrize("name", SPOKEN)
def test_sentiments_splits_and_texts_are_those_of_the_sentence_table(corpora, name):
    expected = sentences(name).set_index(["video_id", "clip_id"])
    found = corpora[name].utterances.set_index(["video_id", "clip_id"]).loc[expected.index]
    assert found["text"].tolist() == expected["text"].tolist()
    assert found["split"].tolist() == expected["mode"].tolist()
    assert found["sentiment"].tolist() == expected["label"].astype(float).tolist()


def test_mosei_emotions_are_those_of_the_sentence_table(corpora):
    expected = sentences("mosei").set_index(["video_id", "clip_id"])
    found = corpora["mosei"].utterances.set_index(["video_id", "clip_id"]).loc[expected.index]
    np.testing.assert_allclose(found[list(EMOTIONS)], expected[list(EMOTIONS)].astype(float), atol=1e-6)
    present = found.assign(**(found[list(EMOTIONS)] > 0)).groupby("split")[list(EMOTIONS)].sum()
    assert (present > 0).all(axis=None)


def test_mosei_joins_the_other_way_too(corpora, tmp_path):
    for name in ("Raw", "CMU_MOSEI_Labels.csd"):
        (tmp_path / name).symlink_to(SAMPLE / "mosei" / name)
    raw = read_corpus("mosei", tmp_path)
    assert {finding.kind for finding in raw.findings} == {"unsplit"}
    columns = ["text", "start_s", "end_s", *EMOTIONS]
    expected = corpora["mosei"].utterances.set_index("utterance_id")
    found = raw.utterances.set_index("utterance_id").loc[expected.index]
    pd.testing.assert_frame_equal(found[columns], expected[columns])
    np.testing.assert_allclose(found["sentiment"], expected["sentiment"], atol=1e-6)


def test_meld_is_the_sentence_table(corpora):
    expected = sentences("meld")
    split = expected["split"].replace("dev", "valid")
    ids = split + "/dia" + expected["dialogue"] + "_utt" + expected["utterance"]
    found = corpora["meld"].utterances.set_index("utterance_id").loc[ids]
    for column, source in {"text": "text", "speaker": "speaker", "category": "emotion", "polarity": "sentiment"}.items():
        assert found[column].tolist() == expected[source].tolist()


def test_iemocap_is_the_sentence_table(corpora):
    expected = sentences("iemocap")
    found = corpora["iemocap"].utterances.set_index("utterance_id").loc[expected["turn"]]
    for column, source in {"text": "text", "category": "code", "video_id": "dialog"}.items():
        assert found[column].tolist() == expected[source].tolist()
    assert found["speaker"].tolist() == (expected["dialog"].str[:5] + expected["speaker"]).tolist()


def test_iemocap_has_bytes_of_latin_1():
    transcript = SAMPLE / "iemocap" / "Session2" / "dialog" / "transcriptions" / "Ses02F_impro02.txt"
    assert "naïve".encode("latin-1") in transcript.read_bytes()


@pytest.mark.parametrize("name", ["meld", "iemocap"])
def test_the_script_gives_the_bundled_text_corpora(tmp_path, name):
    root = tmp_path / name
    root.mkdir()
    {"meld": make_meld, "iemocap": make_iemocap}[name](root, sentences(name))
    assert contents(root) == contents(SAMPLE / name)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", SPOKEN)
def test_every_utterance_has_its_medium(corpora, name):
    table = corpora[name].utterances
    assert all((SAMPLE / name / medium).is_file() for medium in table["media"])
    assert table["media"].nunique() == (len(table) if name == "mosi" else table["video_id"].nunique())


def test_mosi_has_several_rates_and_channels():
    forms = set()
    for path in (SAMPLE / "mosi" / "Raw").glob("*/1.mp4"):
        with av.open(str(path)) as container:
            stream = container.streams.audio[0]
            forms.add((stream.codec_context.name, stream.rate, stream.layout.name))
    assert {("aac", 44_100, "mono"), ("aac", 44_100, "stereo"), ("opus", 48_000, "mono")} == forms


def test_clips_are_as_long_as_their_words_take_to_speak(corpora):
    for row in corpora["mosi"].utterances.iloc[::10].itertuples():
        waveform = decode(SAMPLE / "mosi" / row.media)
        assert 1.5 < len(row.text.split()) / (len(waveform) / SAMPLE_RATE_HZ) < 5.5, row.utterance_id
        assert np.sqrt(np.mean(waveform**2)) > 0.03, row.utterance_id


@pytest.mark.parametrize("recording", MOSEI_RECORDINGS)
def test_segments_hold_the_speech_of_a_recording(corpora, recording):
    table = corpora["mosei"].utterances
    rows = table[table["media"].str.endswith(f"/{recording}")].sort_values("start_s")
    waveform = decode(SAMPLE / "mosei" / rows["media"].iloc[0])
    assert 0.3 <= len(waveform) / SAMPLE_RATE_HZ - rows["end_s"].iloc[-1] <= 0.81
    bounds = [0.0, *rows[["start_s", "end_s"]].to_numpy().ravel(), len(waveform) / SAMPLE_RATE_HZ]
    pauses = list(zip(bounds[0::2], bounds[1::2], strict=True))
    assert all(0.299 <= end_s - start_s <= 0.81 for start_s, end_s in pauses)
    edge_s = 0.03  # a codec smears a sound over its frame
    assert all(np.abs(cut(waveform, start_s + edge_s, end_s - edge_s, "pause")).max() < 0.005 for start_s, end_s in pauses)
    segments = [cut(waveform, row.start_s, row.end_s, row.utterance_id) for row in rows.itertuples()]
    assert all(np.sqrt(np.mean(segment**2)) > 0.03 for segment in segments)
    assert all(np.abs(segment[: SAMPLE_RATE_HZ // 10]).max() > 0.02 for segment in segments)


def test_positive_clips_are_spoken_faster(corpora):
    table = corpora["mosei"].utterances
    letters_per_s = table["text"].str.count(r"\w") / table["duration_s"]
    within_video = [np.corrcoef(letters_per_s[rows.index], rows["sentiment"])[0, 1] for _, rows in table.groupby("video_id")]
    assert np.mean(within_video) > 0.1


def test_sample_is_small():
    parts = [*CORPORA, "sentences", "tiny-data2vec"]
    sizes = [path.stat().st_size for part in parts for path in (SAMPLE / part).rglob("*") if path.is_file()]
    assert sum(sizes) <= 12e6
    assert sum(path.stat().st_size for path in (SAMPLE / "tiny-data2vec").iterdir()) < 400e3


def test_tiny_encoder_gives_varied_frames_at_the_rate_of_data2vec():
    model = transformers.AutoModel.from_pretrained(SAMPLE / "tiny-data2vec", dtype=torch.float32).eval()
    extractor = transformers.AutoFeatureExtractor.from_pretrained(SAMPLE / "tiny-data2vec")
    recording = decode(SAMPLE / "mosei" / "Raw" / "Audio" / "Full" / "WAV_16000" / MOSEI_RECORDINGS[0])[:96_000]
    inputs = extractor(recording, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt")
    assert abs(inputs["input_values"].std() - 1) < 1e-3
    assert inputs["attention_mask"].shape == (1, 96_000)
    with torch.inference_mode():
        features = model(**inputs).last_hidden_state
    assert features.shape == (1, 299, 64)
    assert features.isfinite().all()
    assert features.std(dim=1).min() > 0.1
