"""IEMOCAP: acted dialogues of two speakers in five sessions, with an emotion category per turn and no sentiment.

* Turns: `Session<n>/dialog/transcriptions/<dialog>.txt`, `<utterance> [<start>-<end>]: <text>`. Lines without an id (`M: …`) have
  no times and belong to no turn; they are reported and not read. Some bytes are latin-1.
* Categories: `Session<n>/dialog/EmoEvaluation/<dialog>.txt`, the majority of the annotators. The folders beside these files contain
  single votes and are not read. Turns without a category (`…_FXX3`) are kept without labels. Some transcripts have such a turn
  twice: its first line is read, the others are reported. A repeated turn with a category is an error.
* Audio: `Session<n>/sentences/wav/<dialog>/<utterance>.wav`.

The speaker of a turn consists of the session and the letter before the number of the turn. `Ses01F_impro01_M000` is spoken by
`Ses01M`, the man of session 1; the letter in the name of the dialogue tells who wore the motion-capture markers.
IEMOCAP has no official split. As is common, the split is by session, so that no speaker is in two splits: session 5 is test, session 4
valid, the others train. For results of all five folds, each session is test in turn, and the session before it (before 1: 5) is valid.

Source: https://sail.usc.edu/iemocap.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from data.corpora.assemble import assemble
from data.corpora.base import Corpus
from data.corpora.media_files import Place
from data.csv_tables import read_lines
from data.errors import InputError, shown
from data.findings import Finding
from data.label_sets import OPEN, Statement, by_category
from data.labels import CATEGORIES, EMOTIONS, emotions_of_category
from data.lookup import lookup

SESSIONS = (1, 2, 3, 4, 5)
USUAL_TEST_SESSION = 5

_PLACE = Place(
    "{session}/sentences/wav/{video_id}/{utterance_id}",
    ".wav",
    within=tuple(f"Session{number}/sentences/wav" for number in SESSIONS),
)
_TURN = re.compile(r"(?P<id>Ses\S+) \[(?P<start>[\d.]+)-(?P<end>[\d.]+)\]:\s?(?P<text>.*)")
_LABEL = re.compile(r"\[[\d.]+ - [\d.]+\]\t(?P<id>\S+)\t(?P<code>\S+)\t\[.*\]")
_UNLABELLED = re.compile(r"_[FM]XX\d+$")
_SPEAKER = re.compile(r"_([FM])(?:XX)?\d+$")


def read_iemocap(name: str, root: Path, statement: Statement = OPEN, test_session: int = USUAL_TEST_SESSION) -> Corpus:
    """Read IEMOCAP.

    Args:
        name: The corpus name for the manifest.
        root: The folder that contains `Session1` to `Session5`, or some of them.
        statement: What a setting says about the labels: the six emotions if it is open, or such as `iemocap4`.
        test_session: The session that is the test split, 1 to 5.

    Raises:
        InputError: There is no session, or the content of a file is invalid.
    """
    turns, codes, again, findings, sources = [], {}, [], [], []
    splits = splits_of_sessions(test_session)
    for number in SESSIONS:
        dialog = root / f"Session{number}" / "dialog"
        transcripts = _text_files(dialog / "transcriptions")
        evaluations = _text_files(dialog / "EmoEvaluation")
        if not transcripts:
            findings.append(Finding("missing", f"Session{number}", "not read: it has no dialog/transcriptions/*.txt"))
        for path in transcripts:
            found, repeated, stray = _read_transcript(path, number, splits[number])
            turns += found
            again += repeated
            findings += stray
        for path in evaluations:
            codes.update(_read_evaluation(path))
        sources += [*transcripts, *evaluations]
    if not turns:
        raise InputError(f"{root}: no Session<1-5>/dialog/transcriptions/*.txt. Give the folder that holds Session1 to Session5.")
    findings += [_repeat(path, number, utterance, codes) for path, number, utterance in again]
    table = _label(pd.DataFrame(turns), codes)
    findings += [
        Finding("unlabelled", utterance, "no category in EmoEvaluation")
        for utterance in table.loc[table["category"] == "", "utterance_id"]
    ]
    known = set(table["utterance_id"])
    findings += [
        Finding("unmatched", where, f"category of {utterance}, which has no line in the transcriptions")
        for utterance, (_, where) in codes.items()
        if utterance not in known
    ]
    table, labels = by_category(table, statement, str(root))
    return assemble(name, root, "IEMOCAP", table, sources, findings, [_PLACE], labels)


def splits_of_sessions(test_session: int) -> dict[int, str]:
    """Return session → split.

    Raises:
        InputError: There is no such session.
    """
    if test_session not in SESSIONS:
        raise InputError(f"IEMOCAP: the test session is {test_session}, expected one of {', '.join(map(str, SESSIONS))}.")
    valid = SESSIONS[SESSIONS.index(test_session) - 1]
    return {number: {test_session: "test", valid: "valid"}.get(number, "train") for number in SESSIONS}


def has_own_files(root: Path) -> bool:
    """Return True if `root` contains a session with dialogues."""
    return any(root.glob("Session[1-5]/dialog"))


def _text_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.txt") if path.is_file() and not path.name.startswith("."))


def _read_transcript(
    path: Path, session: int, split: str
) -> tuple[list[dict[str, object]], list[tuple[Path, int, str]], list[Finding]]:
    """Return the turns, the places of turns that the file has again, and findings about lines that are no turn."""
    turns, again, stray, seen = [], [], [], set()
    for number, line in read_lines(path, fallback="latin-1"):
        match = _TURN.fullmatch(line.strip())
        if match is None and not line.startswith("Ses"):
            stray.append(Finding("unused", f"{path.name}:{number}", f"line without an utterance id: {line.strip()[:60]!r}"))
            continue
        speaker = None if match is None else _SPEAKER.search(match["id"])
        if match is None or speaker is None or not match["id"].startswith(path.stem + "_"):
            expected = f"'{path.stem}_<F or M><number> [<start>-<end>]: <text>'"
            raise InputError(f"{path}:{number}: line is {line.strip()[:60]!r}, expected {expected}.")
        if match["id"] in seen:
            again.append((path, number, match["id"]))
            continue
        seen.add(match["id"])
        turns.append(
            {
                "utterance_id": match["id"],
                "video_id": path.stem,
                "clip_id": match["id"].removeprefix(path.stem + "_"),
                "session": f"Session{session}",
                "split": split,
                "speaker": f"Ses{session:02d}{speaker[1]}",
                "start_s": _seconds(match["start"], path, number),
                "end_s": _seconds(match["end"], path, number),
                "order": _seconds(match["start"], path, number),
                "text": match["text"],
                "line": f"{path.name}:{number}",
            }
        )
    return turns, again, stray


def _repeat(path: Path, number: int, utterance: str, codes: Mapping[str, tuple[str, str]]) -> Finding:
    """Report a repeated turn that never has a category, or raise InputError for another."""
    if utterance in codes or not _UNLABELLED.search(utterance):
        raise InputError(
            f"{path}:{number}: turn {shown(utterance)} is in the file already, expected each utterance once. Remove one of the lines."
        )
    return Finding("duplicate", f"{path.name}:{number}", f"turn {utterance} again, which has no category: only its first line is read")


def _seconds(text: str, path: Path, number: int) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{path}:{number}: time is {shown(text)}, expected seconds as in 006.2901.") from None


def _read_evaluation(path: Path) -> dict[str, tuple[str, str]]:
    """Return utterance → its category, and the file and line that give it."""
    codes: dict[str, tuple[str, str]] = {}
    for number, line in read_lines(path, fallback="latin-1"):
        if not line.startswith("["):  # header, single votes, comments
            continue
        match = _LABEL.fullmatch(line.strip())
        if match is None or match["id"] in codes:
            expected = "'[<start> - <end>]<tab><utterance><tab><code><tab>[<V>, <A>, <D>]', each utterance once"
            raise InputError(f"{path}:{number}: line is {line.strip()[:60]!r}, expected {expected}.")
        lookup(CATEGORIES, match["code"], f"emotion code in {path}:{number}:")
        codes[match["id"]] = (match["code"], f"{path.name}:{number}")
    return codes


def _label(table: pd.DataFrame, codes: dict[str, tuple[str, str]]) -> pd.DataFrame:
    categories = [codes.get(utterance, ("", ""))[0] for utterance in table["utterance_id"]]
    intensities = {code: emotions_of_category(code) for code in set(categories) - {""}}
    none = dict.fromkeys(EMOTIONS, np.nan)
    emotions = {name: [intensities.get(code, none)[name] for code in categories] for name in EMOTIONS}
    sources = ["EmoEvaluation" if code else "" for code in categories]
    return table.assign(category=categories, label_source=sources, **emotions)
