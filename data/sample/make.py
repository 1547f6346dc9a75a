"""The script that generates the bundled sample corpora from the tables of sentences: `python -m data.sample.make`.

Developers run it, and it needs espeak-ng; a build never runs it, because its output is in the repository. The sentences and their
labels are in `sentences/`. The script speaks them and writes them in the public layouts. The same versions of espeak-ng and of the
codecs give the same bytes. `pipeline.encoding.tiny_encoder` makes the tiny audio encoder beside the corpora.
"""

import hashlib
import itertools
import math
import shutil
import subprocess
import tempfile
import wave
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from data.csd import Entry, write_csd
from data.labels import EMOTIONS
from data.sample import SAMPLE

SPEECH_RATE_HZ = 22_050  # what espeak-ng writes

VOICES = (
    "en-us+m1", "en-us+m3", "en-us+m7", "en-gb+m2", "en-gb+m4", "en-gb-scotland+m5",
    "en-us+f1", "en-us+f2", "en-us+f4", "en-gb+f3",
)  # fmt: skip


class Recorder(NamedTuple):
    """The codec and the format of a video's "recording"."""

    codec: str
    rate_hz: int
    layout: str
    bits_per_s: int
    suffix: str  # suffix of a recording without pictures
    options: dict[str, str]


_OPUS = Recorder("libopus", 16_000, "mono", 12_000, ".ogg", {"application": "voip", "frame_duration": "60"})
_AAC = Recorder("aac", 44_100, "mono", 24_000, ".m4a", {})
RECORDERS = (_OPUS, _OPUS, _OPUS, _AAC, _OPUS, _OPUS, _OPUS, _OPUS, _AAC._replace(layout="stereo", bits_per_s=32_000), _OPUS)
"""Recorders that the videos of a corpus use in turn. Most give small files; some have the rates and channels of real recordings."""

_LABEL_COLUMNS = {
    "mosi": ["video_id", "clip_id", "text", "label", "label_T", "label_A", "label_V", "annotation", "mode"],
    "mosei": ["video_id", "clip_id", "text", "label", "annotation", "mode", "label_T", "label_A", "label_V"],
}
_DIMENSIONS = ["sentiment", "happy", "sad", "anger", "surprise", "disgust", "fear"]  # CMU's names, in the order of `EMOTIONS`

_VOTES = {
    "neu": "Neutral", "hap": "Happiness", "sad": "Sadness", "ang": "Anger", "exc": "Excited", "fru": "Frustration",
    "sur": "Surprise", "fea": "Fear", "dis": "Disgust", "oth": "Other",
}  # fmt: skip
_NO_MAJORITY = ("Neutral", "Frustration", "Other")
_CONTINUATION = {"Ses05F_impro04_F001": "M: Thirteen, well, well."}
"""Turn → the line after it that belongs to no turn. IEMOCAP has such lines."""


def main() -> None:
    """Write all four corpora beside this file, replacing the old ones."""
    for name, make in (("mosi", make_mosi), ("mosei", make_mosei), ("meld", make_meld), ("iemocap", make_iemocap)):
        root = SAMPLE / name
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        make(root, _read_sentences(name))
        sizes = [path.stat().st_size for path in root.rglob("*") if path.is_file()]
        print(f"{name}: {len(sizes)} files, {sum(sizes) / 1e6:.2f} MB")


def make_mosi(root: Path, table: pd.DataFrame) -> None:
    """Write MOSI in MMSA's layout: `label.csv` and one file per clip."""
    _write_label_csv(root, table)
    for (video, rows), recorder in zip(table.groupby("video_id", sort=False), itertools.cycle(RECORDERS), strict=False):
        for row in rows.itertuples():
            _encode(root / "Raw" / str(video) / f"{row.clip_id}.mp4", _speak(row), recorder)


def make_mosei(root: Path, table: pd.DataFrame) -> None:
    """Write MOSEI: `label.csv` without emotions, transcripts with times, a `.csd` with emotions and times, and one file per video."""
    _write_label_csv(root, table)
    entries = []
    for (video, rows), recorder in zip(table.groupby("video_id", sort=False), itertools.cycle(RECORDERS), strict=False):
        recording, times_ms = _record([_speak(row) for row in rows.itertuples()], str(video))
        _encode(root / "Raw" / "Audio" / "Full" / "WAV_16000" / f"{video}{recorder.suffix}", recording, recorder)
        times_s = [(start / 1000, end / 1000) for start, end in times_ms]
        lines = (
            f"{video}___{row.clip_id}___{start}___{end}___{row.text}"
            for row, (start, end) in zip(rows.itertuples(), times_s, strict=True)
        )
        _write_lines(root / "Raw" / "Transcript" / "Segmented" / "Combined" / f"{video}.txt", lines)
        features = rows[["label", *EMOTIONS]].to_numpy("float32")
        entries.append((str(video), Entry(features, np.array(times_s, dtype="float32"))))
    video, entry = entries[0]
    entries[0] = (video, Entry(entry.features[::-1], entry.intervals[::-1]))  # a .csd has no fixed order: only times join the tables
    write_csd(root / "CMU_MOSEI_Labels.csd", "All Labels", entries, {"dimension names": _DIMENSIONS})


def make_meld(root: Path, table: pd.DataFrame) -> None:
    """Write MELD: three tables, no media."""
    for split, rows in table.groupby("split", sort=False):
        records = []
        for dialogue, turns in rows.groupby("dialogue", sort=False):
            draw = _draw(f"{split} {dialogue}")
            times_s = _turn_times(turns["text"], start_s=60 + draw[0] * 4)
            for turn, (start_s, end_s) in zip(turns.itertuples(), times_s, strict=True):
                records.append(
                    {
                        "Sr No.": len(records) + 1,
                        "Utterance": turn.text,
                        "Speaker": turn.speaker,
                        "Emotion": turn.emotion,
                        "Sentiment": turn.sentiment,
                        "Dialogue_ID": dialogue,
                        "Utterance_ID": turn.utterance,
                        "Season": 1 + draw[1] % 3,
                        "Episode": 1 + draw[2] % 20,
                        "StartTime": _clock(start_s),
                        "EndTime": _clock(end_s),
                    }
                )
        _write_csv(root / f"{split}_sent_emo.csv", pd.DataFrame(records))


def make_iemocap(root: Path, table: pd.DataFrame) -> None:
    """Write IEMOCAP: transcriptions and evaluations of five sessions, no media."""
    for (session, dialog), turns in table.groupby(["session", "dialog"], sort=False):
        transcript, evaluation = [], ["% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]", ""]
        turn: Any
        for turn, (start_s, end_s) in zip(turns.itertuples(), _turn_times(turns["text"], start_s=4), strict=True):
            transcript.append(f"{turn.turn} [{start_s:08.4f}-{end_s:08.4f}]: {turn.text}")
            transcript += [_CONTINUATION[turn.turn]] if turn.turn in _CONTINUATION else []
            evaluation += _evaluate(turn, start_s, end_s) if turn.code else []
        folder = root / f"Session{session}" / "dialog"
        _write_lines(folder / "transcriptions" / f"{dialog}.txt", transcript, encoding="latin-1")
        _write_lines(folder / "EmoEvaluation" / f"{dialog}.txt", evaluation)


def _evaluate(turn: Any, start_s: float, end_s: float) -> list[str]:
    """Return the lines of a labelled turn: its category, three votes for it, and two ratings with the mean that the table has."""
    ratings = np.array([turn.valence, turn.activation, turn.dominance], dtype=float)
    names = _NO_MAJORITY if turn.code == "xxx" else (_VOTES[turn.code],) * 3
    mean = ", ".join(f"{rating:.4f}" for rating in ratings)
    lines = [f"[{start_s:.4f} - {end_s:.4f}]\t{turn.turn}\t{turn.code}\t[{mean}]"]
    lines += [f"C-{judge}:\t{name};\t()" for judge, name in zip(("E2", "E3", "E4"), names, strict=True)]
    for judge, rounded in (("E3", np.floor(ratings)), ("E4", np.ceil(ratings))):
        valence, activation, dominance = rounded.astype(int)
        lines.append(f"A-{judge}:\tval {valence}; act {activation}; dom  {dominance};\t()")
    return [*lines, ""]


def _turn_times(texts: Iterable[str], start_s: float) -> list[tuple[float, float]]:
    """Return invented times for turns without audio: about 2.8 words per second, with pauses."""
    times, clock_s = [], start_s
    for text in texts:
        end_s = clock_s + 0.4 + len(text.split()) / 2.8
        times.append((clock_s, end_s))
        clock_s = end_s + 0.2 + _draw(text)[0] / 256
    return times


def _speak(row: Any) -> np.ndarray:
    """Speak a sentence in the voice of its video. More positive sentences are slightly higher and faster.

    Returns:
        (S,) int16 at `SPEECH_RATE_HZ`, from just before the first sound to just after the last.
    """
    draw, sentiment = _draw(row.video_id), float(row.label)
    pitch, words_per_minute = 32 + draw[1] % 30 + 5 * sentiment, 160 + draw[2] % 35 + 6 * sentiment
    with tempfile.TemporaryDirectory() as folder:
        spoken = Path(folder) / "spoken.wav"
        voice = ["-v", VOICES[draw[0] % len(VOICES)], "-p", str(round(pitch)), "-s", str(round(words_per_minute))]
        # Lower case, because espeak-ng would spell some words in capitals letter by letter.
        subprocess.run(["espeak-ng", *voice, "-w", str(spoken), "--stdin"], input=row.text.lower().encode(), check=True)
        with wave.open(str(spoken)) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
    loud = np.flatnonzero(np.abs(samples.astype("int32")) > 200)
    margin = SPEECH_RATE_HZ // 16
    return samples[max(0, loud[0] - margin) : loud[-1] + margin]


def _record(clips: Sequence[np.ndarray], video: str) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Join several clips to one recording, with 0.3 to 0.8 s of silence around each.

    Returns:
        The samples, and the start and end of each clip in whole milliseconds.
    """
    pauses_ms = [300 + number * 500 // 255 for number in _draw(video)[: len(clips) + 1]]
    times_ms, clock_ms = [], 0
    for pause_ms, clip in zip(pauses_ms, clips, strict=False):
        start_ms = clock_ms + pause_ms
        clock_ms = start_ms + math.ceil(len(clip) * 1000 / SPEECH_RATE_HZ)
        times_ms.append((start_ms, clock_ms))
    recording = np.zeros(_samples_of(clock_ms + pauses_ms[-1]), dtype="int16")
    for (start_ms, _), clip in zip(times_ms, clips, strict=True):
        start = _samples_of(start_ms)
        recording[start : start + len(clip)] = clip
    return recording, times_ms


def _samples_of(milliseconds: int) -> int:
    return milliseconds * SPEECH_RATE_HZ // 1000


def _encode(path: Path, samples: np.ndarray, recorder: Recorder) -> None:
    """Write (S,) int16 samples in the format of `recorder`, with one thread and without dates or names of programs."""
    import av  # imported here, as in data.media, because no other module of data needs it

    path.parent.mkdir(parents=True, exist_ok=True)
    frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
    frame.sample_rate, frame.pts = SPEECH_RATE_HZ, 0
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        options = {**recorder.options, "flags": "+bitexact"}
        stream: Any = container.add_stream(recorder.codec, rate=recorder.rate_hz, layout=recorder.layout, options=options)
        stream.bit_rate = recorder.bits_per_s
        stream.codec_context.thread_count = 1
        resampler = av.AudioResampler(stream.codec_context.format, recorder.layout, recorder.rate_hz)
        for resampled in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(stream.encode(resampled))
        container.mux(stream.encode(None))


def _read_sentences(corpus: str) -> pd.DataFrame:
    return pd.read_csv(SAMPLE / "sentences" / f"{corpus}.csv", dtype=str, keep_default_na=False)


def _write_label_csv(root: Path, table: pd.DataFrame) -> None:
    sign = table["label"].astype(float).map(np.sign).astype(int)
    annotation = sign.map({-1: "Negative", 0: "Neutral", 1: "Positive"})
    table = table.assign(label_T="", label_A="", label_V="", annotation=annotation)
    _write_csv(root / "label.csv", table[_LABEL_COLUMNS[root.name]])


def _write_csv(path: Path, table: pd.DataFrame) -> None:
    table.to_csv(path, index=False, lineterminator="\n", encoding="utf-8")


def _write_lines(path: Path, lines: Iterable[str], encoding: str = "utf-8") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding=encoding, newline="\n")


def _draw(key: str) -> bytes:
    """Return 32 numbers from 0 to 255 that depend only on the key."""
    return hashlib.sha256(key.encode()).digest()


def _clock(seconds: float) -> str:
    """Format a time as in subtitles: 00:20:57,256."""
    minutes, milliseconds = divmod(round(seconds * 1000), 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{milliseconds // 1000:02d},{milliseconds % 1000:03d}"


if __name__ == "__main__":
    main()
