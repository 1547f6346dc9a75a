"""What a build would compute, and why: which outputs are missing and which part of their key differs from the one that exists."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from data.errors import InputError
from data.feature_store import FeatureStore, is_intact
from data.manifest import read_attributes
from pipeline.plan import FeaturePlan, Plan


@dataclass(frozen=True)
class Output:
    """One file of a build."""

    kind: str  # "manifest", "shard", "features", "pseudo labels", "report"
    name: str
    path: Path
    utterances: int


def outputs(plan: Plan) -> Iterator[Output]:
    """All outputs that the tasks look for; shards only of feature files that are missing."""
    for name, corpus in plan.corpora.items():
        yield Output("manifest", name, corpus.manifest, len(corpus.corpus.utterances))
    for (name, modality), features in plan.features.items():
        if not exists(features.path):
            for shard in features.shards:
                yield Output("shard", f"{name} {modality} {shard.name or 'all'}", shard.path, len(shard.rows))
        yield Output("features", f"{name} {modality}", features.path, len(features.rows))
    for name, ledger in plan.ledgers.items():
        yield Output("pseudo labels", name, ledger.path, len(ledger.target.corpus.utterances))
    yield Output("report", "report", plan.report, 0)


def survey(plan: Plan) -> tuple[list[Output], list[Output]]:
    """The outputs that a build has to make, and those that are there."""
    missing, present = [], []
    for output in outputs(plan):
        is_there = (shard_is_sound if output.kind == "shard" else exists)(output.path)
        (present if is_there else missing).append(output)
    return missing, present


def missing(plan: Plan) -> list[Output]:
    """The outputs that a build has to make."""
    return survey(plan)[0]


def exists(path: Path) -> bool:
    """Whether an output is there and whole, judged without reading all of it: a truncated file counts as absent."""
    if not path.is_file():
        return False
    if path.suffix == ".h5":
        return is_intact(path)
    if path.suffix == ".parquet":
        try:
            read_attributes(path)
        except InputError:
            return False
    return True


def shard_is_sound(path: Path) -> bool:
    """Whether a shard may be merged: its structure and every checksum hold."""
    if not exists(path):
        return False
    state = path.stat()
    return _checksums_hold(path, state.st_mtime_ns, state.st_size)


@cache
def _checksums_hold(path: Path, _mtime_ns: int, _size: int) -> bool:
    with FeatureStore.open(path) as store:
        return not store.verify()


def explain(plan: Plan) -> list[str]:
    """Lines that say what would be computed, with the reason for each feature file and manifest."""
    absent = missing(plan)
    if not absent:
        return ["Everything exists; BuildFeatures would run no task."]
    total = len(list(outputs(plan)))
    lines = [f"BuildFeatures would make {len(absent):,} of {total:,} outputs in {plan.settings.cache}:"]
    for output in absent:
        if output.kind != "shard":
            size = f", {output.utterances:,} utterances" if output.utterances else ""
            lines.append(f"  {output.kind:<13} {output.name}{size}: {_reason(plan, output)}")
        if output.kind == "features":
            lines += _shard_lines(plan, output, absent)
    return lines


def _shard_lines(plan: Plan, features: Output, absent: Sequence[Output]) -> list[str]:
    name, modality = features.name.split()
    shards = plan.features[name, modality].shards
    paths = {shard.path for shard in shards}
    to_do = [output for output in absent if output.path in paths]
    if not to_do:
        return [f"    all {len(shards):,} shards exist: merging only"]
    damaged = [output.path.name for output in to_do if output.path.is_file()]
    clips = sum(output.utterances for output in to_do)
    found = f"; {len(damaged):,} of them damaged ({_some(damaged)})" if damaged else ""
    return [f"    {len(to_do):,} of {len(shards):,} shards, {clips:,} utterances to encode{found}"]


def _reason(plan: Plan, output: Output) -> str:
    if output.path.is_file():
        return "the file is damaged"
    if output.kind == "manifest":
        corpus = plan.corpora[output.name]
        return _difference(_newest(output.path, f"{output.name}-*.parquet", _manifest_parts), corpus.parts)
    if output.kind == "features":
        name, modality = output.name.split()
        return _features_reason(plan.features[name, modality], output.path)
    if output.kind == "pseudo labels":
        return _difference(_newest(output.path, f"{output.name}-*.parquet", _manifest_parts), plan.ledgers[output.name].parts)
    return "something that it shows is new"


def _features_reason(features: FeaturePlan, path: Path) -> str:
    old = _newest(path, f"{features.corpus.settings.name}-{features.modality}-*.h5", _feature_parts)
    if old is None:
        return "never computed"
    changes = []
    identity = _difference(old["identity"], features.identity)
    if identity != _SAME:
        changes.append(f"encoder: {identity}")
    ids = features.corpus.corpus.utterances["utterance_id"].to_numpy()
    new = {ids[row]: source for row, source in zip(features.rows, features.sources, strict=True)}
    for word, names in (
        ("new", [i for i in new if i not in old["sources"]]),
        ("gone", [i for i in old["sources"] if i not in new]),
        ("changed", [i for i in new if old["sources"].get(i, new[i]) != new[i]]),
    ):
        if names:
            changes.append(f"{len(names):,} of {len(new):,} utterances {word} ({_some(names)})")
    return "; ".join(changes) or "the order of the utterances changed"


_SAME = "nothing that its key holds"


def _difference(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> str:
    if old is None:
        return "never computed"
    old, new = _flat(old), _flat(new)
    changed = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    parts = [f"{name} {_short(old.get(name))} → {_short(new.get(name))}" for name in changed]
    return "; ".join(parts) or _SAME


def _flat(parts: Mapping[str, Any]) -> dict[str, Any]:
    """{"files": {"config.json": …}} → {"files config.json": …}, so that a difference says which of them."""
    flat: dict[str, Any] = {}
    for name, value in parts.items():
        flat |= {f"{name} {inner}": of for inner, of in value.items()} if isinstance(value, Mapping) else {name: value}
    return flat


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names[:3], "…"] if len(names) > 3 else names)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 40 else text[:37] + "…"


def _newest(path: Path, pattern: str, read: Any) -> Any:
    candidates = sorted(path.parent.glob(pattern), key=lambda other: other.stat().st_mtime, reverse=True)
    for candidate in candidates:
        try:
            return read(candidate)
        except (InputError, KeyError):
            continue
    return None


def _manifest_parts(path: Path) -> Any:
    return read_attributes(path)["parts"]


def _feature_parts(path: Path) -> Any:
    with FeatureStore.open(path) as store:
        sources = dict(zip(store.ids, store.sources, strict=True)) | store.attrs["excluded"]
        return {"identity": store.attrs["identity"], "sources": sources}
