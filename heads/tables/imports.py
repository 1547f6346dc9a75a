"""Rows of other tools in Tables I and II, from the files that `python -m heads tables --add` names: their corpus, sections and metrics.

Files of predictions are read in `heads.runs.external`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from data.cache import open_corpus
from data.errors import InputError, shown
from heads.evaluation.predictions import scores
from heads.models.tasks import TASKS
from heads.runs.external import PredictionFile, read_predictions
from heads.sweeps.sweep import loaded_cache
from heads.tables import paper
from heads.tables.results import Result, Seed
from heads.tables.rows import TABLES, ImportedRow, NeverRow, TableSection

_PREDICTS = {"msa": "sentiment only", "mer": "emotions only", "both": "sentiment and emotions"}


class _Addition(NamedTuple):
    """One value of --add, its file read."""

    method: str  # name of the row
    corpus: str
    file: PredictionFile


def imported(given: Sequence[str], sections: Sequence[TableSection], cache: Path, split: str) -> dict[TableSection, tuple[Result, ...]]:
    """Read predictions of other tools and return section → the rows that are added to it; only Tables I and II get any.

    Args:
        given: NAME=FILE or NAME=CORPUS:FILE each.
        sections: All sections of the tables.
        cache: A cache with their corpora.
        split: valid or test.

    Raises:
        InputError: A file cannot be read, lacks utterances, belongs to none of the sections' corpora or to several, or fits into no
            table; a name is given twice for a corpus, or another row has it already.
    """
    places = [section for section in sections if TABLES[section.table].grid is None]
    corpora = list(dict.fromkeys(section.corpus for section in places))
    if given and not corpora:
        raise InputError("--add is for table1 and table2, of which none is made here. Leave it out, or name one of them with --only.")
    additions = [_addition(text, corpora, cache) for text in given]
    _check_names(additions, places)
    found: dict[TableSection, list[Result]] = {section: [] for section in sections}
    for one in additions:
        fitting = [place for place in places if place.corpus == one.corpus and TABLES[place.table].task in TASKS[one.file.task]]
        if not fitting:
            raise InputError(
                f"{one.file.path}: no table that is made here has a place for {one.method}, which predicts {_PREDICTS[one.file.task]},"
                f" on {one.corpus}. Make another with --only and --corpora, or leave it out."
            )
        for section in fitting:
            found[section].append(_result(one, section, cache, split))
    return {section: tuple(results) for section, results in found.items()}


def _addition(text: str, corpora: Sequence[str], cache: Path) -> _Addition:
    """Parse one value of --add and read its file."""
    method, _, rest = text.partition("=")
    named, colon, place = rest.partition(":")
    corpus, path = (named, place) if colon and named in paper.CORPORA else (None, rest)
    if not method or not path:
        raise InputError(f"--add is {shown(text)}, expected NAME=FILE or NAME=CORPUS:FILE.")
    if not method.strip() or not method.isprintable():
        raise InputError(
            f"--add is {shown(text)}: the name of its row is {shown(method)}, expected letters, digits and signs on one line."
        )
    file = read_predictions(Path(path))
    return _Addition(method, corpus or _corpus(file, method, corpora, cache), file)


def _corpus(file: PredictionFile, method: str, corpora: Sequence[str], cache: Path) -> str:
    """Return the only corpus that has every id of the file.

    Raises:
        InputError: No corpus has them, or several have.
    """
    strangers = {corpus: file.stranger(open_corpus(cache, corpus)) for corpus in corpora}
    fitting = [corpus for corpus, stranger in strangers.items() if stranger is None]
    if not fitting:
        raise InputError(
            f"{' '.join(f'{stranger}.' for stranger in strangers.values())} Each id has to be of one corpus of the tables."
        )
    if len(fitting) > 1:
        raise InputError(
            f"{file.path}: its ids are those of {' and '.join(fitting)}. Say which: --add {method}={fitting[0]}:{file.path}"
        )
    return fitting[0]


def _check_names(additions: Sequence[_Addition], places: Sequence[TableSection]) -> None:
    """Raise InputError if two rows on a corpus would have the same name."""
    known = {(row.method, place.corpus) for place in places for row in (*place.rows, NeverRow(place.table))}
    for one in additions:
        if (one.method, one.corpus) in known:
            raise InputError(
                f"--add: there would be two rows called {shown(one.method)} on {one.corpus}. Give each row a name of its own."
            )
        known.add((one.method, one.corpus))


def _result(one: _Addition, section: TableSection, cache: Path, split: str) -> Result:
    """Compute the metrics on the utterances that the section's simple baseline is evaluated on."""
    run_data = loaded_cache(cache, "cpu", 0).open(section.simple.config)
    values: Mapping[str, float] = scores(one.file.predictions(run_data, split), run_data.tensors)
    return Result(ImportedRow(section.table, one.method, one.file.path), (Seed(None, one.file.path.name, values),))
