"""Finds out which outputs of a plan exist and are whole. A truncated file or a damaged shard counts as missing.

The outputs themselves are listed by `pipeline.plan.Plan.outputs`. Why an output is missing is in `pipeline.explain`.
"""

import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from data.errors import InputError, UnreadableError
from data.feature_store import FeatureStore, is_intact
from data.fingerprint import RACY_NS
from data.manifest import read_attributes
from pipeline.adaptation.checkpoint import RECORD, is_whole
from pipeline.plan import Output, Plan


def needed(plan: Plan) -> Iterator[Output]:
    """Yields all outputs that a build looks for.

    Shards are needed only while their feature file is missing, an adapted encoder only while one of these shards is.
    """
    merged = {features.path for features in plan.features.values() if exists(features.path)}
    open_shards = _open_shards(plan, merged)
    for output in plan.outputs():
        if output.serves and open_shards.isdisjoint(output.serves):
            continue
        if output.part_of not in merged:
            yield output


def _open_shards(plan: Plan, merged: set[Path]) -> set[Path]:
    """Returns the shards that have to be computed, if any adapted encoder waits for that."""
    if not plan.adaptations:
        return set()
    shards = [(output.part_of, output.path) for output in plan.outputs() if output.part_of is not None]
    return {path for features, path in shards if features not in merged and not shard_is_sound(path)}


def survey(plan: Plan) -> tuple[list[Output], list[Output]]:
    """Returns the outputs that a build has to make and those that exist."""
    absent, present = [], []
    for output in needed(plan):
        is_there = exists(output.path) if output.part_of is None else shard_is_sound(output.path)
        (present if is_there else absent).append(output)
    return absent, present


def missing(plan: Plan) -> list[Output]:
    """Returns the outputs that a build has to make."""
    return survey(plan)[0]


def exists(path: Path) -> bool:
    """Tells whether an output exists and is whole, without reading the values of feature files.

    Raises:
        UnreadableError: It exists and cannot be read now; it must not be made again for that.
    """
    if not path.is_file():
        return False
    if path.name == RECORD:
        return is_whole(path.parent)
    if path.suffix == ".h5":
        return _is_intact(path)
    if path.suffix == ".parquet":
        try:
            read_attributes(path)
        except UnreadableError:
            raise
        except InputError:
            return False
    return True


def _is_intact(path: Path) -> bool:
    """Tells the same as `is_intact`, and opens a file once a process unless it changes: a build asks again and again."""
    state = path.stat()
    if time.time_ns() - max(state.st_mtime_ns, state.st_ctime_ns) < RACY_NS:
        return is_intact(path)
    return _intact_in_state(path, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)


@cache
def _intact_in_state(path: Path, *_state: int) -> bool:
    return is_intact(path)


def shard_is_sound(path: Path) -> bool:
    """Tells whether a shard may be merged: it exists, is whole, and all its checksums match."""
    if not exists(path):
        return False
    state = path.stat()
    return _checksums_match(path, state.st_mtime_ns, state.st_size)


@cache
def _checksums_match(path: Path, _mtime_ns: int, _size: int) -> bool:
    with FeatureStore.open(path) as store:
        return not store.verify()
