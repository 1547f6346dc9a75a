"""Context: the utterances before an utterance, which its encoder reads with it, and whose own features are not kept.

`[text] context = N` puts the N previous utterances of the same video before each text, in the tokenizer's own encoding of a pair:

    BERT            [CLS] context [SEP] text [SEP]              token types 0 (context) and 1 (text)
    RoBERTa, MPNet  <s> context </s></s> text </s>
    XLNet           context <sep> text <sep> <cls>

The own tokens are those of the text alone: its words and the special tokens that it has without a context, [CLS] and the last [SEP].
The separators between context and text are not among them. So an utterance has as many rows with a context as without.

`[audio] context_s = S` puts up to S seconds of speech before each clip, as if they were one recording: of a recording that is cut into
clips, the sound before the clip; of a video with one file a clip, the clips before it, joined. The context is a multiple of the hop
long (320 samples, 20 ms), so that the own frames begin where those of the clip alone do and are as many.

`preceding` and `SpeechBefore` tell what the context is. `text_inputs` and `audio_inputs` make the input of the model and say which of
its positions are the own ones. The encoders of `pipeline.encoding.encoders` use them, and so may whoever trains a model on the same
inputs. Nothing here imports torch or transformers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from data.errors import InputError
from data.media import SAMPLE_RATE_HZ
from data.probe import SHORTEST_S

_SAMPLE = "a"
"""A text by which the encoding of pairs is examined. Any text will do that has a token."""


def preceding(table: pd.DataFrame, limit: int) -> Iterator[tuple[int, ...]]:
    """Yields which utterances are the context of each utterance of a table.

    They are those of the same video with a smaller `position`, the nearest ones. Utterances of another speaker are passed over; an
    empty speaker is unknown, and fits to all.

    Args:
        table: The columns `video_id`, `position` and `speaker`.
        limit: Largest number for one utterance.

    Yields:
        For each utterance, places in the table, from 0, in the order of their positions.
    """
    names = table["video_id"].tolist()
    columns = (table[name].tolist() for name in ("position", "speaker"))
    videos: dict[str, list[tuple[int, int, str]]] = {}
    for place, (video, position, speaker) in enumerate(zip(names, *columns, strict=True)):
        videos.setdefault(video, []).append((position, place, speaker))
    found = {video: _preceding_in_video(sorted(utterances), limit) for video, utterances in videos.items()}
    waiting: dict[int, tuple[int, ...]] = {}  # of utterances that stand later in the table than others after them in the video
    for place, video in enumerate(names):
        while place not in waiting:
            waiting.update([next(found[video])])
        yield waiting.pop(place)


def _preceding_in_video(utterances: Sequence[tuple[int, int, str]], limit: int) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yields the place of each utterance (position, place, speaker) of a video and the places of its context, in time O(limit) each."""
    numbers_of: dict[str, list[int]] = {"": []}  # speaker → numbers of the utterances so far
    for number, (_, place, speaker) in enumerate(utterances):
        nearest: Sequence[int] = range(max(number - limit, 0), number)
        if speaker:
            fitting = [*numbers_of.get(speaker, [])[-limit:], *numbers_of[""][-limit:]]
            nearest = sorted(fitting)[-limit:] if limit else ()
        yield place, tuple(utterances[other][1] for other in nearest)
        numbers_of.setdefault(speaker, []).append(number)


def is_same_speaker(one: str, other: str) -> bool:
    """Tells whether two utterances may be of one speaker: the names are equal, or one is unknown (empty)."""
    return one == other or not one or not other


def most_clips(context_s: float) -> int:
    """Returns the largest number of previous clips that so many seconds of context can reach into."""
    return math.ceil(context_s / SHORTEST_S)


def is_segment(start_s: float, end_s: float) -> bool:
    """Tells whether an utterance is cut out of a longer recording; otherwise its file is the utterance."""
    return not (math.isnan(start_s) and math.isnan(end_s))


def expect_whole_videos(table: pd.DataFrame, corpus: str, setting: str) -> None:
    """Checks that every video is in one split, so that no context comes from another split.

    Args:
        table: The columns `video_id` and `split`.
        corpus: Name of the corpus, for the message.
        setting: The key of luigi.cfg that asks for context, for the message.

    Raises:
        InputError: A video is in several splits.
    """
    _expect_one_split(table, "video_id", "video", corpus, setting)


def expect_whole_recordings(table: pd.DataFrame, corpus: str, setting: str) -> None:
    """Checks the same of recordings that are cut into utterances, whatever their videos are.

    Args:
        table: The columns `media`, `start_s`, `end_s` and `split`.
        corpus: Name of the corpus, for the message.
        setting: The key of luigi.cfg that asks for context, for the message.

    Raises:
        InputError: A recording is in several splits.
    """
    is_cut = table["start_s"].notna() | table["end_s"].notna()
    _expect_one_split(table[is_cut], "media", "recording", corpus, setting)


def _expect_one_split(table: pd.DataFrame, column: str, kind: str, corpus: str, setting: str) -> None:
    pairs = table[[column, "split"]].drop_duplicates()
    several = pairs[pairs.duplicated(column, keep=False)]
    if len(several):
        name = several[column].iloc[0]
        names = ", ".join(split or "none" for split in several.loc[several[column] == name, "split"])
        raise InputError(
            f"{corpus}: {kind} {name!r} is in several splits ({names}), so context would bring utterances of one split into another."
            f" Put each {kind} into one split, or set {setting} = 0 in luigi.cfg."
        )


class PairLayout(NamedTuple):
    """A tokenizer's layout of two texts: `lead` special tokens, the first text, `between` separators, the second text, the rest."""

    lead: int
    between: int


def pair_layout(tokenizer: Any, name: str) -> PairLayout:
    """Finds out how a tokenizer encodes a pair of texts.

    Args:
        tokenizer: A tokenizer of transformers.
        name: The model, for the message.

    Raises:
        InputError: The tokenizer has no encoding of pairs that begins and ends as that of one text does.
    """
    words = _encode(tokenizer, _SAMPLE, add_special_tokens=False)[0]
    alone, pair = _encode(tokenizer, _SAMPLE)[0], _encode(tokenizer, _SAMPLE, _SAMPLE)[0]
    lead = next((place for place in range(len(alone)) if alone[place:][: len(words)] == words), 0)
    between = len(pair) - len(alone) - len(words)
    first = alone[:lead] + words
    separators = pair[len(first) : len(first) + between]
    if not words or between < 0 or alone[: len(first)] != first or pair != first + separators + alone[lead:]:
        raise InputError(
            f"{name}: its tokenizer does not encode two texts as one with something between them, so no context can be given. Set"
            " context = 0 in luigi.cfg, section [text], or use another model."
        )
    return PairLayout(lead, between)


@dataclass(frozen=True)
class TextInputs:
    """The input of a text model for one utterance and its context."""

    ids: np.ndarray  # (S,) int64 token ids
    types: np.ndarray  # (S,) int64 token types, for models that have them
    own: np.ndarray  # (T,) int64 positions of the own tokens among the S
    is_cut: bool  # the text has more tokens than the model takes; its end is missing
    is_context_cut: bool  # the same of its context, the beginning of which is missing


def text_inputs(tokenizer: Any, layout: PairLayout, text: str, context: Sequence[str], max_tokens: int) -> TextInputs:
    """Makes the input of a text model from an utterance and the utterances before it.

    The own text comes first: it is cut only if it is too long by itself. The context gets the rest of the length, and loses the tokens
    that are farthest from the text. A text without context has the encoding of a single text, and so has an empty one. The result is
    what transformers gives for `tokenizer(" ".join(context), text, truncation="only_first")` with `truncation_side = "left"`.

    Args:
        tokenizer: A tokenizer of transformers.
        layout: Its `pair_layout`.
        text: The utterance, cased as the model expects.
        context: The utterances before it, likewise, the nearest one last.
        max_tokens: Largest number of tokens, S.

    Raises:
        InputError: The tokenizer makes other tokens of a text behind a context than of the same text alone.
    """
    alone, types = _encode(tokenizer, text)
    before = " ".join(one for one in context if one) if text else ""
    if len(alone) > max_tokens:
        ids, types = _encode(tokenizer, text, truncation=True, max_length=max_tokens)
        return TextInputs(_whole(ids), _whole(types), np.arange(len(ids)), True, bool(before))
    room = max_tokens - len(alone) - layout.between
    if not before or room < 1:
        return TextInputs(_whole(alone), _whole(types), np.arange(len(alone)), False, bool(before))
    ids, types = _encode(tokenizer, before, text)
    excess = max(len(ids) - max_tokens, 0)
    keep = np.r_[: layout.lead, layout.lead + excess : len(ids)]
    size = len(keep)
    own = np.r_[: layout.lead, size - (len(alone) - layout.lead) : size]
    found = TextInputs(_whole(ids)[keep], _whole(types)[keep], own, False, excess > 0)
    if found.ids[own].tolist() != alone:
        raise InputError("the tokenizer makes other tokens of this text behind a context than of the text alone")
    return found


def _encode(tokenizer: Any, *texts: str, **options: Any) -> tuple[list[int], list[int]]:
    """Returns the token ids of one text or of a pair, and their types."""
    found = tokenizer(*texts, return_token_type_ids=True, verbose=False, **options)
    return found["input_ids"], found["token_type_ids"]


def _whole(numbers: Sequence[int]) -> np.ndarray:
    return np.asarray(numbers, dtype=np.int64)


class SpeechBefore:
    """Finds the speech before each clip, while the clips pass by in the order of their videos and positions.

    Of each speaker of the present video, it holds less than twice the seconds of a context.
    """

    def __init__(self, context_s: float) -> None:
        """Begin without any speech.

        Args:
            context_s: Longest context in seconds.
        """
        self._limit = round(context_s * SAMPLE_RATE_HZ)
        self._video = ""
        self._clips: list[tuple[str, np.ndarray]] = []  # speaker and the end of the clip, at most `_limit` samples

    def __call__(self, utterance: Any, recording: np.ndarray, clip: np.ndarray) -> np.ndarray:
        """Returns the samples before a clip, (C,) with C ≤ context_s × 16,000, and remembers the clip for those that follow.

        Args:
            utterance: The fields `video_id`, `speaker`, `start_s` and `end_s`.
            recording: (R,) samples of its medium.
            clip: (S,) samples of the utterance.
        """
        if utterance.video_id != self._video:
            self._video, self._clips = utterance.video_id, []
        if is_segment(utterance.start_s, utterance.end_s):
            start = 0 if math.isnan(utterance.start_s) else round(max(utterance.start_s, 0) * SAMPLE_RATE_HZ)
            before = recording[max(start - self._limit, 0) : start]
        else:
            before = self._joined(utterance.speaker)
        self._remember(utterance.speaker, clip)
        return before

    def _joined(self, speaker: str) -> np.ndarray:
        pieces, missing = [np.zeros(0, np.float32)], self._limit
        for by, piece in reversed(self._clips):
            if missing and is_same_speaker(by, speaker):
                pieces.append(piece[max(len(piece) - missing, 0) :])
                missing -= len(pieces[-1])
        return np.concatenate(pieces[::-1])

    def _remember(self, speaker: str, clip: np.ndarray) -> None:
        """Adds a clip, and drops what no later clip can reach: enough speech of the same speaker lies behind it."""
        self._clips.append((speaker, clip[max(len(clip) - self._limit, 0) :].copy()))
        behind, kept = 0, []
        for by, piece in reversed(self._clips):
            if by != speaker or behind < self._limit:
                kept.append((by, piece))
            behind += len(piece) if by == speaker else 0
        self._clips = kept[::-1]


@dataclass(frozen=True)
class AudioInputs:
    """The input of a speech model for one clip and the speech before it."""

    samples: np.ndarray  # (C + S,) float32; not yet normalised
    own: np.ndarray  # (T,) int64 positions of the own frames among those of the model


def audio_inputs(waveform: np.ndarray, before: np.ndarray, frames: Callable[[int], int], hop: int) -> AudioInputs:
    """Joins a clip to the speech before it.

    A front end of convolutions without padding makes floor((n - field) / hop) + 1 frames of n samples. With a context of C = k · hop
    samples, it makes k frames more, and own frame j reads the samples that frame j of the clip alone reads. So T = frames(S).

    Args:
        waveform: (S,) samples of the clip.
        before: (C',) samples before it; its beginning is cut, so that C is a multiple of the hop.
        frames: Returns the frames that the front end makes of so many samples.
        hop: Samples from one frame to the next, the product of the strides of the convolutions.
    """
    first = len(before) // hop
    samples = np.concatenate([before[len(before) - first * hop :], waveform])
    return AudioInputs(samples, np.arange(first, first + frames(len(waveform))))
