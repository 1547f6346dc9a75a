"""File names of corpora of acted speech that say everything about their clips: CREMA-D, RAVDESS and EmoDB.

Each has a published naming scheme, a `Scheme` here: what the parts of a name mean, the sentences that are spoken, and a split by
speakers. None of these corpora has an official split; ours is stated in `Scheme.test` and `Scheme.valid`, and no speaker is in two of
its parts. `data.corpora.tabulate` writes a `label.csv` from file names, which `data.corpora.folder` reads.

Sources: S. R. Livingstone, F. A. Russo, The Ryerson Audio-Visual Database of Emotional Speech and Song, PLoS ONE 13(5), 2018,
https://zenodo.org/records/1188976. H. Cao et al., CREMA-D, IEEE Transactions on Affective Computing 5(4), 2014,
https://github.com/CheyneyComputerScience/CREMA-D. F. Burkhardt et al., A Database of German Emotional Speech, Interspeech 2005,
http://emodb.bilderbar.info.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Clip(NamedTuple):
    """What a file name says."""

    emotion: str
    speaker: str
    text: str
    others: Mapping[str, str]  # further columns, the same for each clip of a scheme
    key: str  # the same for files of one clip, such as a film and its sound


@dataclass(frozen=True)
class Scheme:
    """The naming scheme of a corpus."""

    title: str
    form: str  # of a name without its suffix, for messages
    read: Callable[[str], Clip | str]  # name without suffix → what it says, or why it is not read
    valid: tuple[str, ...]  # speakers of the validation split
    test: tuple[str, ...]  # speakers of the test split; all others train


_RAVDESS_EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
_RAVDESS_SENTENCES = ("Kids are talking by the door", "Dogs are sitting by the door")
_RAVDESS_MODALITIES = {"01": "audio and video", "02": "video", "03": "audio"}
_RAVDESS_CHANNELS = {"01": "speech", "02": "song"}
_RAVDESS_INTENSITIES = {"01": "normal", "02": "strong"}


def read_ravdess(name: str) -> Clip | str:
    """Read a name of RAVDESS, seven numbers: modality, channel, emotion, intensity, sentence, repetition, actor.

    Odd actors are male, even ones female. Neutral has no strong intensity. Song and films without sound are not read.
    """
    parts = name.split("-")
    if len(parts) != 7 or not all(re.fullmatch(r"[0-9]{2}", part) for part in parts):
        return "expected seven numbers of two digits"
    modality, channel, emotion, intensity, sentence, repetition, actor = parts
    numbers = {"emotion": (emotion, 8), "sentence": (sentence, 2), "repetition": (repetition, 2), "actor": (actor, 24)}
    codes = {
        "modality": (modality, _RAVDESS_MODALITIES),
        "channel": (channel, _RAVDESS_CHANNELS),
        "intensity": (intensity, _RAVDESS_INTENSITIES),
    }
    for what, (code, most) in numbers.items():
        if not 1 <= int(code) <= most:
            return f"{what} is {code}, expected 01 to {most:02d}"
    for what, (code, known) in codes.items():
        if code not in known:
            return f"{what} is {code}, expected {' or '.join(known)}"
    if modality == "02":
        return "a film without sound"
    if channel == "02":
        return "song; only speech is read"
    if emotion == "01" and intensity == "02":
        return "strong intensity, which neutral has not"
    others = {
        "intensity": _RAVDESS_INTENSITIES[intensity],
        "statement": sentence,
        "repetition": repetition,
        "sex": "male" if int(actor) % 2 else "female",
    }
    return Clip(
        _RAVDESS_EMOTIONS[int(emotion) - 1], f"actor{actor}", _RAVDESS_SENTENCES[int(sentence) - 1], others, "-".join(parts[1:])
    )


_CREMAD_EMOTIONS = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happiness", "NEU": "neutral", "SAD": "sadness"}
_CREMAD_LEVELS = {"LO": "low", "MD": "medium", "HI": "high", "XX": "unspecified", "X": "unspecified"}
_CREMAD_SENTENCES = {
    "IEO": "It's eleven o'clock",
    "TIE": "That is exactly what happened",
    "IOM": "I'm on my way to the meeting",
    "IWW": "I wonder what this is about",
    "TAI": "The airplane is almost full",
    "MTI": "Maybe tomorrow it will be cold",
    "IWL": "I would like a new alarm clock",
    "ITH": "I think I have a doctor's appointment",
    "DFA": "Don't forget a jacket",
    "ITS": "I think I've seen this before",
    "TSI": "The surface is slick",
    "WSI": "We'll stop in a couple of minutes",
}


def read_cremad(name: str) -> Clip | str:
    """Read a name of CREMA-D: actor (1001 to 1091), sentence, intended emotion, level. One file has the level X for XX."""
    parts = name.split("_")
    if len(parts) != 4:
        return "expected four parts"
    actor, sentence, emotion, level = parts
    if not (re.fullmatch(r"[0-9]{4}", actor) and 1001 <= int(actor) <= 1091):
        return f"actor is {actor}, expected 1001 to 1091"
    for what, code, known in (
        ("sentence", sentence, _CREMAD_SENTENCES),
        ("emotion", emotion, _CREMAD_EMOTIONS),
        ("level", level, _CREMAD_LEVELS),
    ):
        if code not in known:
            return f"{what} is {code}, expected one of {', '.join(known)}"
    others = {"intensity": _CREMAD_LEVELS[level], "statement": sentence}
    return Clip(_CREMAD_EMOTIONS[emotion], actor, _CREMAD_SENTENCES[sentence], others, name)


_EMODB_EMOTIONS = {"W": "anger", "L": "boredom", "E": "disgust", "A": "fear", "F": "happiness", "T": "sadness", "N": "neutral"}
"""First letters of the German words: Wut, Langeweile, Ekel, Angst, Freude, Trauer, neutral."""

_EMODB_SPEAKERS = {
    "03": "male", "08": "female", "09": "female", "10": "male", "11": "male",
    "12": "male", "13": "female", "14": "female", "15": "male", "16": "female",
}  # fmt: skip
_EMODB_SENTENCES = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}


def read_emodb(name: str) -> Clip | str:
    """Read a name of EmoDB: speaker (two digits), sentence (a letter, two digits), emotion (a letter), version (a letter)."""
    match = re.fullmatch(r"([0-9]{2})([ab][0-9]{2})([A-Z])([a-z])", name)
    if match is None:
        return "expected seven characters"
    speaker, sentence, emotion, version = match.groups()
    for what, code, known in (
        ("speaker", speaker, _EMODB_SPEAKERS),
        ("sentence", sentence, _EMODB_SENTENCES),
        ("emotion", emotion, _EMODB_EMOTIONS),
    ):
        if code not in known:
            return f"{what} is {code}, expected one of {', '.join(known)}"
    others = {"statement": sentence, "repetition": version, "sex": _EMODB_SPEAKERS[speaker]}
    return Clip(_EMODB_EMOTIONS[emotion], speaker, _EMODB_SENTENCES[sentence], others, name)


def _actors(form: str, first: int, last: int) -> tuple[str, ...]:
    return tuple(form.format(number) for number in range(first, last + 1))


SCHEMES: Mapping[str, Scheme] = {
    "ravdess": Scheme("RAVDESS", "03-01-06-01-02-01-12", read_ravdess, _actors("actor{:02d}", 17, 20), _actors("actor{:02d}", 21, 24)),
    "crema-d": Scheme("CREMA-D", "1001_DFA_ANG_XX", read_cremad, _actors("{}", 1064, 1077), _actors("{}", 1078, 1091)),
    "emodb": Scheme("EmoDB", "03a01Fa", read_emodb, ("12", "14"), ("15", "16")),
}
"""Name on the command line → naming scheme."""
