"""Rows of other tools in Tables I and II: what `python -m heads tables --add` names, on which corpus, and what it is worth there.

How a file of predictions is read is in `heads.runs.external`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from data.cache import open_corpus
from data.errors import InputError
from heads.evaluation.predictions import scores
from heads.models.base import TASKS
from heads.runs.external import PredictionFile, read_predictions
from heads.sweeps.sweep import loaded_cache
from heads.tables import paper
from heads.tables.results import Result, Seed
from heads.tables.rows import TABLES, ImportedRow, NeverRow, TableSection

_PREDICTS = {"msa": "sentiment only", "mer": "emotions only", "both": "sentiment and emotions"}


class _Addition(NamedTuple):
    method: str
    corpus: str
    file: PredictionFile


def imported(given: Sequence[str], groups: Sequence[TableSection], cache: Path, split: str) -> dict[TableSection, tuple[Result, ...]]:
    """The rows that are added to each group; none to those of other tables than I and II.

    Args:
        given: NAME=FILE or NAME=CORPUS:FILE each.
        groups: All that there are.
        cache: With their corpora.
        split: valid or test.

    Raises:
        InputError: One cannot be read, is of no corpus of the groups or of several, has no place in a table, or is not complete; a
            name is given twice for a corpus, or is that of a row that is there already.
    """
    places = [group for group in groups if TABLES[group.table].grid is None]
    corpora = list(dict.fromkeys(group.corpus for group in places))
    if given and not corpora:
        raise InputError("--add is for table1 and table2, of which none is made here. Leave it out, or name one of them with --only.")
    additions = [_addition(text, corpora, cache) for text in given]
    _check_names(additions, places)
    found: dict[TableSection, list[Result]] = {group: [] for group in groups}
    for one in additions:
        having = [group for group in places if group.corpus == one.corpus and TABLES[group.table].task in TASKS[one.file.task]]
        if not having:
            raise InputError(
                f"{one.file.path}: no table that is made here has a place for {one.method}, which predicts {_PREDICTS[one.file.task]},"
                f" on {one.corpus}. Make another with --only and --corpora, or leave it out."
            )
        for group in having:
            found[group].append(_result(one, group, cache, split))
    return {group: tuple(results) for group, results in found.items()}


def _addition(text: str, corpora: Sequence[str], cache: Path) -> _Addition:
    method, _, rest = text.partition("=")
    named, colon, place = rest.partition(":")
    corpus, path = (named, place) if colon and named in paper.CORPORA else (None, rest)
    if not method or not path:
        raise InputError(f"--add is {text!r}, expected NAME=FILE or NAME=CORPUS:FILE.")
    if not method.strip() or not method.isprintable():
        raise InputError(f"--add is {text!r}: the name of its row is {method!r}, expected letters, digits and signs on one line.")
    file = read_predictions(Path(path))
    return _Addition(method, corpus or _corpus(file, method, corpora, cache), file)


def _corpus(file: PredictionFile, method: str, corpora: Sequence[str], cache: Path) -> str:
    """The only corpus that has every id of the file."""
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
    known = {(row.method, group.corpus) for group in places for row in (*group.rows, NeverRow(group.table))}
    for one in additions:
        if (one.method, one.corpus) in known:
            raise InputError(f"--add: there would be two rows called {one.method!r} on {one.corpus}. Give each row a name of its own.")
        known.add((one.method, one.corpus))


def _result(one: _Addition, group: TableSection, cache: Path, split: str) -> Result:
    """On the utterances that the group's simple baseline is measured on."""
    run_data = loaded_cache(cache, "cpu", 0).open(group.simple.config)
    values: Mapping[str, float] = scores(one.file.predictions(run_data, split), run_data.tensors)
    return Result(ImportedRow(group.table, one.method, one.file.path), (Seed(None, one.file.path.name, values),))
