"""Transcripts by a local Whisper: those of transformers for each window alone, kept with the corrections of the user."""

import csv
import warnings

import numpy as np
import pytest
import torch
from projects import write_rows, write_wav
from tiny_checkpoints import write_text_checkpoint, write_whisper
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from data.errors import InputError
from data.media import SAMPLE_RATE_HZ, decode
from pipeline.__main__ import main
from pipeline.transcription import WINDOW_S, transcribe, windows


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whisper")
    write_whisper(folder)
    return folder


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Two clips of a recording, one of 31 s, and one that has a text."""
    folder = tmp_path_factory.mktemp("clips")
    random = np.random.default_rng(0)
    for name, seconds in (("a", 3), ("b", 31), ("c", 1)):
        write_wav(
            folder / f"{name}.wav", random.normal(0, 0.1, seconds * SAMPLE_RATE_HZ) * np.sin(np.arange(seconds * SAMPLE_RATE_HZ) / 900)
        )
    rows = [("a1", "", "a.wav", 0, 1.5), ("a2", " ", "a.wav", 1.5, 3), ("b", "", "b.wav", "", ""), ("c", "Known.", "c.wav", "", "")]
    write_rows(folder / "label.csv", [dict(zip(("id", "text", "media", "start_s", "end_s"), row, strict=True)) for row in rows])
    return folder


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def alone(whisper, samples, language):
    """The text of one window as transformers gives it, without a batch."""
    processor, model = (kind.from_pretrained(whisper) for kind in (WhisperProcessor, WhisperForConditionalGeneration))
    inputs = processor.feature_extractor(samples, sampling_rate=SAMPLE_RATE_HZ, return_tensors="pt", return_attention_mask=True)
    with torch.inference_mode(), warnings.catch_warnings():
        tokens = model.generate(inputs.input_features, attention_mask=inputs.attention_mask, task="transcribe", language=language)
    return processor.decode(tokens[0], skip_special_tokens=True).strip()


def test_every_clip_without_a_text_gets_that_of_its_windows_and_corrections_stay(clips, whisper, capsys):
    path = transcribe(clips, whisper, "de", "cpu")
    rows = {row["id"]: row for row in read(path)}
    assert list(rows) == ["a1", "a2", "b"]
    assert (rows["a2"]["media"], rows["a2"]["start_s"], rows["b"]["end_s"]) == (str(clips / "a.wav"), "1.5", "")
    first, second = (decode(clips / f"{name}.wav") for name in "ab")
    size = round(1.5 * SAMPLE_RATE_HZ)
    expected = {"a1": [first[:size]], "a2": [first[size:]], "b": list(windows(second))}
    for name, parts in expected.items():
        said = " ".join(filter(None, (alone(whisper, part, "de") for part in parts)))
        assert rows[name]["text"].removeprefix("'") == said
    assert len({row["text"] for row in rows.values()}) == 3
    path.write_text(path.read_text(encoding="utf-8").replace(rows["b"]["text"], "corrected"), encoding="utf-8")
    assert main(["transcribe", str(clips), "--model", str(whisper), "--language", "de", "--device", "cpu"]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    assert read(path)[2]["text"] == "corrected"


def test_windows_are_whole_and_cut_where_it_is_quiet():
    samples = np.random.default_rng(1).normal(0, 0.1, 70 * SAMPLE_RATE_HZ).astype(np.float32)
    quiet = [27 * SAMPLE_RATE_HZ, 55 * SAMPLE_RATE_HZ]
    for place in quiet:
        samples[place - 1600 : place + 1600] *= 0.01
    parts = list(windows(samples))
    assert all(len(part) <= WINDOW_S * SAMPLE_RATE_HZ for part in parts)
    np.testing.assert_array_equal(np.concatenate(parts), samples)
    cuts = np.cumsum([len(part) for part in parts])[:2]
    np.testing.assert_allclose(cuts, quiet, atol=1600)
    assert len(list(windows(samples[: 30 * SAMPLE_RATE_HZ]))) == 1


def test_what_is_no_whisper_and_a_language_that_it_does_not_know_are_refused(clips, whisper, tmp_path):
    write_text_checkpoint(tmp_path / "bert", "bert")
    (tmp_path / "bert" / "generation_config.json").write_text("{}")
    (tmp_path / "bert" / "preprocessor_config.json").write_text("{}")
    for model, language, said in (
        (tmp_path / "nowhere", None, r"nowhere: no such folder; the folder of a Whisper checkpoint is expected\."),
        (tmp_path, None, r": no config.json; the folder of a Whisper checkpoint is expected, complete as the hub has it\."),
        (tmp_path / "bert", None, r"config.json: a model of type 'bert'; a Whisper checkpoint is expected\."),
        (whisper, "fr", r": --language is 'fr', expected one of de, en\."),
    ):
        with pytest.raises(InputError, match=said):
            transcribe(clips, model, language, "cpu")
    assert not list(clips.glob("*.tmp*"))
