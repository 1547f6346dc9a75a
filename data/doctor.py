"""The command `python -m data doctor`: the contents and the problems of a corpus on disk, before any encoder runs.

| exit status | meaning |
|---|---|
| 0 | nothing stops a build |
| 1 | a finding of a kind in `STOPPING` names an utterance that gets no features, or there are media but none belongs to an utterance |
| 2 | the corpus cannot be read |

All other findings are notes; the corpus can be used as it is. This includes a finding of a stopping kind that names no such utterance
(a missing table, a start that was set to 0).

Corpus readers check tables, and `data.probe` checks media. Here are only the checks that need both, and the printed page. Nothing here
knows a particular corpus: `data.corpora` recognises and reads them.
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

from data.corpora import CORPORA, read_corpus, recognise
from data.corpora.base import Corpus
from data.errors import InputError
from data.findings import FINDING_KINDS, Finding
from data.label_sets import parse
from data.labels import MOSEI_LABELS
from data.probe import by_medium, media_notes, probe
from data.schema import SPLITS, emotions_of

STOPPING = ("missing", "bad-time", "unreadable", "truncated", "silent")
"""Kinds of findings that can leave an utterance without features. They stop a build, unless `on_bad_media = exclude` is set, which
excludes these utterances by name."""

WORDS_PER_S = (0.3, 7.0)
"""Lowest and highest plausible speech rate. The median is 2.6 words per second in MOSEI and in MELD. 99.8 % of MOSEI's segments and
97 % of MELD's are within these bounds; most others have wrong times or the text of another clip."""

_EXAMPLES = 10


@dataclass(frozen=True)
class Diagnosis:
    """A corpus with counts per split and all findings about it."""

    corpus: Corpus
    summary: pd.DataFrame  # one row per split, then "all"; columns as in `_counts`
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
        """Return True if a finding tells why an utterance, or every utterance, gets no features."""
        return finding == self.corpus.no_match or (finding.kind in STOPPING and finding.where in self.unusable)


def examine(corpus: Corpus, workers: int = 1, progress: Callable[[int], object] | None = None) -> Diagnosis:
    """Decode all media of a corpus and collect all findings about it.

    Args:
        corpus: A corpus as its reader returned it.
        workers: Number of decoding threads.
        progress: Called with the number of utterances decoded since the last call.
    """
    utterances = corpus.utterances
    sounds = probe(corpus.root, utterances, workers, progress)
    duration_s = sounds["duration_s"].fillna(utterances["duration_s"]).where(sounds["problem"] == "")
    bad = sounds[sounds["problem"] != ""]
    findings = [
        *corpus.findings,
        *(Finding(*row) for row in bad[["problem", "utterance_id", "message"]].itertuples(index=False)),
        *media_notes(sounds),
        *_speech_rates(utterances, duration_s),
        *_same_media(sounds[sounds["problem"] == ""]),
    ]
    order = list(FINDING_KINDS)
    findings.sort(key=lambda finding: order.index(finding.kind))
    excluded = utterances["utterance_id"][(utterances["excluded"] != "") & corpus.has_media]
    return Diagnosis(corpus, _summarise(utterances, duration_s), tuple(findings), frozenset({*excluded, *bad["utterance_id"]}))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `run` to a parser."""
    parser.add_argument("root", type=Path, metavar="CORPUS_ROOT", help="the folder of the corpus")
    parser.add_argument("--corpus", choices=list(CORPORA), help="layout of the corpus (default: recognised by its files)")
    words = "its label set, as in luigi.cfg: meld7, '[-1, 1]', 'one of calm, happy', … (docs/labels.md)"
    parser.add_argument("--labels", default="", metavar="STATEMENT", help=words)
    parser.add_argument("--json", action="store_true", help="print one JSON object with all findings")
    parser.add_argument(
        "--workers", type=_positive, default=os.cpu_count() or 1, metavar="N", help="number of decoding threads (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> int:
    """Examine a corpus, print the findings, and return the exit status."""
    try:
        corpus = read_corpus(args.corpus or recognise(args.root), args.root, statement=parse(args.labels, "--labels"))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    diagnosis = _examine_with_bar(corpus, args.workers)
    print(json.dumps(as_json(diagnosis), ensure_ascii=False, allow_nan=False) if args.json else as_text(diagnosis))
    return int(bool(diagnosis.problems))


def as_json(diagnosis: Diagnosis) -> dict[str, Any]:
    """Return the diagnosis as a JSON-able dict, with durations in seconds."""
    corpus = diagnosis.corpus
    return {
        "corpus": corpus.name,
        "root": str(corpus.root),
        "layout": corpus.layout,
        **corpus.labels.noted(),
        "sources": [str(path) for path in corpus.sources],
        "has_media": corpus.has_media,
        "stops_build": bool(diagnosis.problems),
        "splits": json.loads(diagnosis.summary.to_json(orient="index")),
        "counts": {kind: len(found) for kind, found in _by_kind(diagnosis.findings).items()},
        "findings": [
            {"kind": f.kind, "where": f.where, "message": f.message, "stops_build": diagnosis.stops_build(f)}
            for f in diagnosis.findings
        ],
    }


def as_text(diagnosis: Diagnosis) -> str:
    """Return the diagnosis as a page of text."""
    corpus = diagnosis.corpus
    table = diagnosis.summary.rename(columns={"speech_s": "speech"}).rename_axis("split").reset_index()
    table["speech"] = table["speech"].map(_clock)
    media = "" if corpus.has_media else "; no media file matches" if corpus.no_match else "; text only, no media"
    labels = "" if corpus.labels == MOSEI_LABELS else f"; labels: {corpus.labels}"
    blocks = [f"{corpus.name} at {corpus.root}\n{corpus.layout}{media}{labels}", table.to_string(index=False)]
    for title, findings in (
        ("Problems (they stop a build, or are left out with on_bad_media = exclude)", diagnosis.problems),
        ("Notes (they do not stop a build)", diagnosis.notes),
    ):
        if findings:
            blocks.append("\n".join([title, *_listed(_by_kind(findings))]))
    blocks.append(_verdict(diagnosis))
    return "\n\n".join(blocks)


def _verdict(diagnosis: Diagnosis) -> str:
    if diagnosis.corpus.no_match:
        return "No utterance has a medium: there would be no audio features."
    count = len(diagnosis.unusable)
    everything = len(diagnosis.corpus.utterances)
    return f"{count:,} of {everything:,} utterances cannot be used." if count else "Nothing found that stops a build."


def _examine_with_bar(corpus: Corpus, workers: int) -> Diagnosis:
    from tqdm import tqdm

    total = sum(map(len, by_medium(corpus.utterances).values()))
    with tqdm(total=total, desc="decoding", unit=" clips", disable=not sys.stderr.isatty(), leave=False) as bar:
        return examine(corpus, workers, bar.update)


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
    """Count utterances and labels per split. `speech_s` does not count excluded utterances and is NaN if no duration is known."""
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
        "emotions": int(part[emotions_of(part)].notna().all(axis=1).sum()),
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
