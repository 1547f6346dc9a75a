"""MELD: dialogues of a television series, with an emotion category and a polarity per utterance, and no sentiment score.

Tables: `{train,dev,test}_sent_emo.csv` in the root or in the folders `train`, `dev`, `test`; all tables that exist are read. Dialogues
and utterances are numbered from 0 in every split, so each id contains the split: `valid/dia0_utt0` of video `valid/dia0`.
`StartTime` and `EndTime` refer to the episode, not to the clip; they are only used to find repeated rows.

Clips: `dia<D>_utt<U>.mp4` in `train_splits/`, `dev_splits_complete/`, `output_repeated_splits_test/`, each in the root or below
`train/`, `dev/`, `test/`; or directly in these three folders. Audio: in `wav/train/`, `train/wav/` (and so on), or directly in `wav/`
if only one split has a clip of that name.

Source: https://github.com/declare-lab/MELD.
"""

import dataclasses
from pathlib import Path

import pandas as pd

from data.corpora.assemble import assemble
from data.corpora.base import Corpus, holds
from data.corpora.media_files import Place, list_media
from data.csv_tables import SPLIT_NAMES, line_names, read_table, unique, whole_numbers
from data.errors import InputError, shown
from data.findings import Finding
from data.label_sets import OPEN, Statement, by_category
from data.labels import CATEGORIES, EMOTIONS, POLARITIES, emotions_of_category
from data.lookup import lookup

FOLDERS = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}
"""MELD's splits and the folders of their clips."""

KNOWN_BAD = {
    "train/dia125_utt3": "cannot be decoded in the public release",
    "valid/dia110_utt7": "has no clip in the public release",
}

_COLUMNS = ("Utterance", "Speaker", "Emotion", "Sentiment", "Dialogue_ID", "Utterance_ID")

_PLACES = (
    Place("wav/{part}/{clip}", ".wav", within=tuple(f"wav/{part}" for part in FOLDERS)),
    Place("wav/{folder}/{clip}", ".wav", within=tuple(f"wav/{folder}" for folder in FOLDERS.values())),
    Place("{part}/wav/{clip}", ".wav", within=tuple(f"{part}/wav" for part in FOLDERS)),
    Place("wav/{only_clip}", ".wav"),
    Place("{folder}/{clip}", ".mp4", within=tuple(FOLDERS.values())),
    Place("{part}/{folder}/{clip}", ".mp4", within=tuple(f"{part}/{folder}" for part, folder in FOLDERS.items())),
    Place("{part}/{clip}", ".mp4", within=tuple(FOLDERS)),
)


def read_meld(name: str, root: Path, statement: Statement = OPEN) -> Corpus:
    """Read MELD.

    Args:
        name: The corpus name for the manifest.
        root: The folder that contains the three tables, or some of them.
        statement: What a setting says about the labels: the six emotions if it is open, or such as `meld7`.

    Raises:
        InputError: There is no table, or the content of one is invalid.
    """
    paths = {part: _table_path(root, part) for part in FOLDERS}
    there = {part: path for part, path in paths.items() if path.exists()}
    if not there:
        raise InputError(f"{root}: no {', '.join(path.name for path in paths.values())}. Give the folder that holds them.")
    parts = [_read_part(part, path) for part, path in there.items()]
    table = pd.concat([part for part, _ in parts], ignore_index=True)
    several = table.duplicated("clip", keep=False)
    table["only_clip"] = table["clip"].mask(several, "")
    findings = [finding for _, found in parts for finding in found]
    findings += [
        Finding("missing", path.name, f"not there: split {SPLIT_NAMES[part]} has no utterance")
        for part, path in paths.items()
        if part not in there
    ]
    findings += _ambiguous(root, set(table.loc[several, "clip"]))
    table, labels = by_category(table, statement, str(root))
    corpus = assemble(name, root, "MELD", table, list(there.values()), findings, _PLACES, labels)
    return dataclasses.replace(corpus, findings=(*corpus.findings, *_known_bad(corpus)))


def has_own_files(root: Path) -> bool:
    """Return True if one of MELD's tables is in `root` or in an immediate folder."""
    return any(holds(root, f"{part}_sent_emo.csv") for part in FOLDERS)


def _table_path(root: Path, part: str) -> Path:
    direct = root / f"{part}_sent_emo.csv"
    below = root / part / direct.name
    return below if below.exists() and not direct.exists() else direct


def _read_part(part: str, path: Path) -> tuple[pd.DataFrame, list[Finding]]:
    rows = read_table(path, _COLUMNS)
    dialogue, number = (whole_numbers(rows[column], path) for column in ("Dialogue_ID", "Utterance_ID"))
    table = pd.DataFrame({"order": number, "text": rows["Utterance"], "speaker": rows["Speaker"]})
    table["split"], table["part"], table["folder"] = SPLIT_NAMES[part], part, FOLDERS[part]
    table["clip_id"] = number.astype(str)
    table["clip"] = "dia" + dialogue.astype(str) + "_utt" + table["clip_id"]
    table["video_id"] = table["split"] + "/dia" + dialogue.astype(str)
    table["utterance_id"] = unique(table["split"] + "/" + table["clip"], path)
    table["category"], table["polarity"] = _category(rows, path), _polarity(rows, path)
    intensities = {category: emotions_of_category(category) for category in set(table["category"])}
    for emotion in EMOTIONS:
        table[emotion] = table["category"].map({category: six[emotion] for category, six in intensities.items()})
    table["label_source"], table["line"] = path.name, line_names(rows, path)
    return table, _repeated(rows, table["utterance_id"])


def _category(rows: pd.DataFrame, path: Path) -> pd.Series:
    for line, value in rows["Emotion"].drop_duplicates().items():
        lookup(CATEGORIES, value, f"emotion in {path}:{line}:")
    return rows["Emotion"]


def _polarity(rows: pd.DataFrame, path: Path) -> pd.Series:
    for line, value in rows["Sentiment"].drop_duplicates().items():
        if value not in POLARITIES:
            raise InputError(f"{path}:{line}: Sentiment is {shown(value)}, expected one of {', '.join(POLARITIES)}.")
    return rows["Sentiment"]


def _repeated(rows: pd.DataFrame, ids: pd.Series) -> list[Finding]:
    """Report rows of a dialogue that have the same text and the same times."""
    keys = [column for column in ("Dialogue_ID", "Utterance", "StartTime", "EndTime") if column in rows]
    if len(keys) < 4:
        return []
    again = rows.duplicated(keys)
    first = ids.groupby([rows[key] for key in keys]).transform("first")
    return [Finding("duplicate", ids[line], f"same text and times as {first[line]}") for line in rows.index[again]]


def _ambiguous(root: Path, several: set[str]) -> list[Finding]:
    found = [path for path in list_media(root, "wav", depth=0) if path.stem in several]
    if not found:
        return []
    said = f"{len(found)} files like {found[0].name} could be of several splits: put them into wav/train, wav/dev and wav/test"
    return [Finding("unused", "wav", said)]


def _known_bad(corpus: Corpus) -> list[Finding]:
    if not corpus.has_media:
        return []
    there = corpus.utterances["utterance_id"]
    return [Finding("known-bad", utterance, KNOWN_BAD[utterance]) for utterance in there[there.isin(KNOWN_BAD)]]
