"""`python -m data doctor`: what a corpus on disk holds and what is wrong with it, before any encoder runs.

| exit status | |
|---|---|
| 0 | nothing that stops a build |
| 1 | utterances that cannot be used: findings of the kinds in `STOPPING` that name an utterance left without features |
| 2 | the corpus cannot be read at all |

Everything else in `data.corpora.base.FINDING_KINDS` is a note: worth knowing, the corpus can be used as it is. So is a finding of a
stopping kind about something else (a table that is not there, a start that was set to 0).

Readers find what tables tell, `data.probe` what media tell; here are only the checks that need both, and the printed page.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from data.corpora import CORPORA, mmsa, mosei, mosi, read_corpus
from data.corpora.base import FINDING_KINDS, Corpus, Finding
from data.corpora.cmu import find_files
from data.corpora.media_files import list_media
from data.corpora.meld import FOLDERS
from data.csv_tables import read_table
from data.errors import InputError
from data.labels import EMOTIONS
from data.probe import by_medium, probe
from data.schema import SPLITS

STOPPING = ("missing", "bad-time", "unreadable", "truncated", "silent")
"""Kinds that can leave an utterance without features: that stops a build, or with `on_bad_media = exclude` leaves it out by name."""

WORDS_PER_S = (0.3, 7.0)
"""Speech has 2.6 words a second (median of MOSEI and of MELD). 99.8 % of MOSEI's segments and 97 % of MELD's are within these bounds;
most outside have wrong times or another clip's text."""

_EXAMPLES = 10


@dataclass(frozen=True)
class Diagnosis:
    """What the doctor found."""

    corpus: Corpus
    summary: pd.DataFrame  # one row a split, then "all"; the columns of `_summarise`
    findings: tuple[Finding, ...]  # the reader's and the media's, in the order of FINDING_KINDS
    unusable: frozenset[str]  # utterances that get no features

    @property
    def problems(self) -> tuple[Finding, ...]:
        """The findings that stop a build."""
        return tuple(finding for finding in self.findings if self.stops_build(finding))

    @property
    def notes(self) -> tuple[Finding, ...]:
        """The other findings."""
        return tuple(finding for finding in self.findings if not self.stops_build(finding))

    def stops_build(self, finding: Finding) -> bool:
        """Whether a finding says why an utterance gets no features."""
        return finding.kind in STOPPING and finding.where in self.unusable


def examine(corpus: Corpus, workers: int = 1, progress: Callable[[int], object] | None = None) -> Diagnosis:
    """Decodes all media of a corpus and puts together what is to be said about it.

    Args:
        corpus: As its reader found it.
        workers: Threads that decode.
        progress: Called with the number of utterances decoded since its last call.
    """
    utterances = corpus.utterances
    sounds = probe(corpus.root, utterances, workers, progress)
    duration_s = sounds["duration_s"].fillna(utterances["duration_s"]).where(sounds["problem"] == "")
    bad = sounds[sounds["problem"] != ""]
    findings = [
        *corpus.findings,
        *(Finding(*row) for row in bad[["problem", "utterance_id", "message"]].itertuples(index=False)),
        *_speech_rates(utterances, duration_s),
        *_same_media(sounds[sounds["problem"] == ""]),
    ]
    order = list(FINDING_KINDS)
    findings.sort(key=lambda finding: order.index(finding.kind))
    excluded = utterances["utterance_id"][(utterances["excluded"] != "") & corpus.has_media]
    return Diagnosis(corpus, _summarise(utterances, duration_s), tuple(findings), frozenset({*excluded, *bad["utterance_id"]}))


def recognise(root: Path) -> str:
    """Which reader fits a folder, by the files that are there.

    A `label.csv` with MMSA's columns is MOSI's unless MOSEI's other files are there; with other columns, or with media in other
    folders than MMSA's, it is anybody's.

    Returns:
        A key of `CORPORA`.

    Raises:
        InputError: There is no such folder, or nothing in it is known.
    """
    if not root.is_dir():
        state = "is not a folder" if root.exists() else "does not exist"
        raise InputError(f"{root}: {state}; expected the folder of a corpus.")
    if any(_holds(root, f"{part}_sent_emo.csv") for part in FOLDERS):
        return "meld"
    if any(root.glob("Session[1-5]/dialog")):
        return "iemocap"
    if find_files(root, "Transcript/Segmented/Combined", ".txt") or _holds(root, mosei.LABELS):
        return "mosei"
    if find_files(root, "Transcript/Segmented", ".annotprocessed") or _holds(root, mosi.LABELS):
        return "mosi"
    if (root / mmsa.LABEL_FILE).exists():
        return "mosi" if _is_mmsa(root) else "folder"
    raise InputError(f"{root}: no corpus recognised in it. Say what it is with --corpus: {', '.join(CORPORA)}.")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command line of `run`."""
    parser.add_argument("root", type=Path, metavar="CORPUS_ROOT", help="the folder of the corpus")
    parser.add_argument("--corpus", choices=list(CORPORA), help="which reader to use (default: by the files that are there)")
    parser.add_argument("--json", action="store_true", help="print one JSON object with everything found")
    parser.add_argument(
        "--workers", type=_positive, default=os.cpu_count() or 1, metavar="N", help="threads that decode (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Examines a corpus and prints what was found; returns the exit status."""
    try:
        corpus = read_corpus(args.corpus or recognise(args.root), args.root)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    diagnosis = _examine_with_bar(corpus, args.workers)
    print(json.dumps(as_json(diagnosis), ensure_ascii=False, allow_nan=False) if args.json else as_text(diagnosis))
    return int(bool(diagnosis.unusable))


def as_json(diagnosis: Diagnosis) -> dict[str, Any]:
    """Everything found, JSON-able; durations in seconds."""
    corpus = diagnosis.corpus
    return {
        "corpus": corpus.name,
        "root": str(corpus.root),
        "layout": corpus.layout,
        "sources": [str(path) for path in corpus.sources],
        "has_media": corpus.has_media,
        "stops_build": bool(diagnosis.unusable),
        "splits": json.loads(diagnosis.summary.to_json(orient="index")),
        "counts": {kind: len(found) for kind, found in _by_kind(diagnosis.findings).items()},
        "findings": [
            {"kind": f.kind, "where": f.where, "message": f.message, "stops_build": f.kind in STOPPING} for f in diagnosis.findings
        ],
    }


def as_text(diagnosis: Diagnosis) -> str:
    """The page for people."""
    corpus = diagnosis.corpus
    table = diagnosis.summary.rename(columns={"speech_s": "speech"}).rename_axis("split").reset_index()
    table["speech"] = table["speech"].map(_clock)
    media = "" if corpus.has_media else "; text only, no media"
    blocks = [f"{corpus.name} at {corpus.root}\n{corpus.layout}{media}", table.to_string(index=False)]
    for title, findings in (
        ("Problems (these stop a build, or are left out with on_bad_media = exclude)", diagnosis.problems),
        ("Notes (nothing that stops a build)", diagnosis.notes),
    ):
        if findings:
            blocks.append("\n".join([title, *_listed(_by_kind(findings))]))
    count = len(diagnosis.unusable)
    blocks.append(
        f"{count:,} of {len(corpus.utterances):,} utterances cannot be used." if count else "Nothing found that stops a build."
    )
    return "\n\n".join(blocks)


def _examine_with_bar(corpus: Corpus, workers: int) -> Diagnosis:
    from tqdm import tqdm

    total = sum(map(len, by_medium(corpus.utterances).values()))
    with tqdm(total=total, desc="decoding", unit=" clips", disable=not sys.stderr.isatty(), leave=False) as bar:
        return examine(corpus, workers, bar.update)


def _holds(root: Path, name: str) -> bool:
    return (root / name).exists() or any(root.glob(f"*/{name}"))


def _is_mmsa(root: Path) -> bool:
    columns = set(read_table(root / mmsa.LABEL_FILE, ()))
    has_columns = {"text", "label", "mode"} <= columns and ({"video_id", "clip_id"} <= columns or "id" in columns)
    in_place = any((root / folder).is_dir() for folder in ("Raw", "wav"))
    return has_columns and (in_place or next(list_media(root, ""), None) is None)


def _speech_rates(utterances: pd.DataFrame, duration_s: pd.Series) -> Iterator[Finding]:
    low, high = WORDS_PER_S
    words = utterances["text"].str.count(r"\w+(?:['’]\w+)*")
    wrong = (duration_s > 0) & (words > 0) & ~(words / duration_s).between(low, high)
    for row in utterances.index[wrong]:
        said = f"{words[row]} words in {duration_s[row]:.2f} s; expected {low:g} to {high:g} words per second"
        yield Finding("speech-rate", utterances["utterance_id"][row], said)


def _same_media(sounds: pd.DataFrame) -> Iterator[Finding]:
    heard = sounds[sounds["content"] != ""]
    first = heard.groupby("content")["utterance_id"].transform("first")
    for again, once in zip(heard["utterance_id"], first, strict=True):
        if again != once:
            yield Finding("same-media", again, f"the same samples as {once}")


def _summarise(utterances: pd.DataFrame, duration_s: pd.Series) -> pd.DataFrame:
    """Counts per split; `speech_s` leaves out what is excluded, and is NaN where no length is known."""
    names = [name for name in (*SPLITS, "") if (utterances["split"] == name).any()]
    rows = {name or "(none)": utterances["split"] == name for name in names}
    rows["all"] = pd.Series(True, index=utterances.index)
    return pd.DataFrame.from_dict(
        {name: _counts(utterances[chosen], duration_s[chosen]) for name, chosen in rows.items()}, orient="index"
    )


def _counts(part: pd.DataFrame, duration_s: pd.Series) -> dict[str, float]:
    return {
        "utterances": len(part),
        "videos": part["video_id"].nunique(),
        "speakers": part.loc[part["speaker"] != "", "speaker"].nunique(),
        "speech_s": float(duration_s[part["excluded"] == ""].sum(min_count=1)),
        "sentiment": int(part["sentiment"].notna().sum()),
        "emotions": int(part[list(EMOTIONS)].notna().all(axis=1).sum()),
        "category": int((part["category"] != "").sum()),
        "excluded": int((part["excluded"] != "").sum()),
    }


def _by_kind(findings: Iterable[Finding]) -> dict[str, list[Finding]]:
    kinds: dict[str, list[Finding]] = {}
    for finding in findings:
        kinds.setdefault(finding.kind, []).append(finding)
    return kinds


def _listed(kinds: dict[str, list[Finding]]) -> Iterator[str]:
    for kind, found in kinds.items():
        yield f"  {kind:<12} {len(found):>7,}  {FINDING_KINDS[kind]}"
        for finding in found[:_EXAMPLES]:
            yield f"      {finding.where}: {finding.message}"
        if len(found) > _EXAMPLES:
            yield f"      … and {len(found) - _EXAMPLES:,} more (--json lists all)"


def _clock(seconds: float) -> str:
    if pd.isna(seconds):
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)
