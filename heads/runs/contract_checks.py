"""Checks of configured heads by `heads.models.contract`: of one head (`python -m heads check`), and of heads of one's own before
they are trained."""

from collections.abc import Iterable, Iterator, Sequence

from data.errors import InputError
from heads.models.contract import Outcome, Subject, checked, expect_kept, subject_of
from heads.models.options import nested, parse_assignments
from heads.models.own import short_name
from heads.models.registry import HEADS
from heads.runs.config import RunConfig, make_config


def outcomes(head: str, preset: str | None, assignments: Sequence[str]) -> Iterator[Outcome]:
    """Check a head with the options of a preset and of --set.

    Raises:
        InputError: There is no such head, it is a simple baseline, or an option is out of its range.
    """
    config = make_config(head, "CORPUS", preset, nested(parse_assignments([*assignments])))
    if HEADS[config.head].simple:
        raise InputError(f"{config.head} is a simple baseline of scikit-learn: the contract is of heads that are trained by gradients.")
    return checked(_subject(config))


def expect_own_heads_kept(configs: Iterable[RunConfig]) -> None:
    """Check every head of one's own among some configurations, once each, with the options of the first.

    Raises:
        InputError: One breaks the contract.
    """
    first = {config.head: config for config in reversed([*configs]) if config.head_source is not None}
    for name, config in first.items():
        expect_kept(_subject(config), f"python -m heads check {name}")


def _subject(config: RunConfig) -> Subject:
    entry = HEADS[config.head]
    if entry.head is None:
        raise TypeError(f"{config.head} is a simple baseline.")
    return subject_of(short_name(config.head), entry.head, config.model, entry.task)
