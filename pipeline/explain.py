"""Explains what a build would compute, and why: compares the key of each missing output with that of the newest file of its name.

Which outputs are missing is found out in `pipeline.outputs`. Nothing is written here.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data.errors import InputError
from data.feature_store import FeatureStore
from data.manifest import read_attributes
from pipeline import outputs
from pipeline.adaptation.checkpoint import read_record
from pipeline.plan import CONTEXT_MARK, FeaturePlan, Output, Plan


def explain(plan: Plan) -> list[str]:
    """Returns lines that say what would be computed, with the reason for each file but the shards."""
    absent = outputs.missing(plan)
    if not absent:
        return ["Everything exists; BuildFeatures would run no task."]
    total = len(list(outputs.needed(plan)))
    lines = [f"BuildFeatures would make {len(absent):,} of {total:,} outputs in {plan.settings.cache}:"]
    for output in absent:
        if output.kind != "shard":
            size = f", {output.utterances:,} utterances" if output.utterances else ""
            lines.append(f"  {output.kind:<13} {output.name}{size}: {_reason(plan, output)}")
        if output.kind == "features":
            lines += _shard_lines(plan, output, absent)
    return lines


def _shard_lines(plan: Plan, features: Output, absent: Sequence[Output]) -> list[str]:
    shards = [output for output in plan.outputs() if output.part_of == features.path]
    to_do = [output for output in absent if output.part_of == features.path]
    if not to_do:
        return [f"    all {len(shards):,} shards exist: merging only"]
    damaged = [output.path.name for output in to_do if output.path.is_file()]
    clips = sum(output.utterances for output in to_do)
    found = f"; {len(damaged):,} of them damaged ({_some(damaged)})" if damaged else ""
    return [f"    {len(to_do):,} of {len(shards):,} shards, {clips:,} utterances to encode{found}"]


def _reason(plan: Plan, output: Output) -> str:
    if output.path.is_file():
        return "the file is damaged"
    if output.kind == "encoder":
        base = output.path.parent.name.rpartition("-adapted-")[0]
        return _difference(_newest(output.path.parent, f"{base}-adapted-*/{output.path.name}", _encoder_parts), output.parts)
    if output.kind == "features":
        name, feature_set = output.name.split()
        return _features_reason(plan, plan.features[name, feature_set], output.path)
    if output.parts:
        return _difference(_newest(output.path, f"{output.name}-*{output.path.suffix}", _table_parts), output.parts)
    return "an output that it shows is new"


def _features_reason(plan: Plan, features: FeaturePlan, path: Path) -> str:
    others = [one.path for one in plan.features.values()]  # of this build, so that they are no older state of these features
    old = _newest(path, f"{features.corpus.settings.name}-{features.modality}-*.h5", _feature_parts, others)
    if old is None:
        return "never computed"
    changes = []
    identity = _difference(old["identity"], features.identity)
    if identity != _SAME:
        changes.append(f"encoder: {identity}")
    ids = features.corpus.corpus.utterances["utterance_id"].to_numpy()
    new = {ids[row]: source for row, source in zip(features.rows, features.sources, strict=True)}
    changed, in_context = _changed(old["sources"], new)
    for word, names in (
        ("new", [i for i in new if i not in old["sources"]]),
        ("gone", [i for i in old["sources"] if i not in new]),
        ("changed", changed),
        ("with other previous utterances as context", in_context if _context(old["identity"]) == _context(features.identity) else []),
    ):
        if names:
            changes.append(f"{len(names):,} of {len(new):,} utterances {word} ({_some(names)})")
    return "; ".join(changes) or "the order of the utterances changed"


def _changed(old: Mapping[str, str], new: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Returns the utterances that changed themselves, and those of which only the context changed."""
    by_context: dict[bool, list[str]] = {False: [], True: []}
    for name in new:
        if old.get(name, new[name]) != new[name]:
            by_context[old[name].partition(CONTEXT_MARK)[0] == new[name].partition(CONTEXT_MARK)[0]].append(name)
    return by_context[False], by_context[True]


def _context(identity: Mapping[str, Any]) -> Any:
    return identity.get("context"), identity.get("context_s")


_SAME = "no part of its key"


def _difference(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> str:
    if old is None:
        return "never computed"
    old, new = _flat(old), _flat(new)
    changed = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    parts = [f"{name} {_short(old.get(name))} → {_short(new.get(name))}" for name in changed]
    return "; ".join(parts) or _SAME


def _flat(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Joins nested names, {"files": {"config.json": …}} → {"files config.json": …}, so that a difference names the file."""
    flat: dict[str, Any] = {}
    for name, value in parts.items():
        flat |= {f"{name} {inner}": one for inner, one in value.items()} if isinstance(value, Mapping) else {name: value}
    return flat


def _some(names: Sequence[str]) -> str:
    return ", ".join([*names[:3], "…"] if len(names) > 3 else names)


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else text[:37] + "…"


def _newest(path: Path, pattern: str, read: Callable[[Path], Any], others: Sequence[Path] = ()) -> Any:
    """Returns what `read` finds in the newest readable file beside `path` that is none of `others`, or None."""
    found = (other for other in path.parent.glob(pattern) if other not in others)
    candidates = sorted(found, key=lambda other: other.stat().st_mtime, reverse=True)
    for candidate in candidates:
        try:
            return read(candidate)
        except (InputError, KeyError):
            continue
    return None


def _table_parts(path: Path) -> Any:
    return read_attributes(path)["parts"]


def _encoder_parts(path: Path) -> Any:
    return read_record(path.parent)["parts"]


def _feature_parts(path: Path) -> Any:
    with FeatureStore.open(path) as store:
        sources = dict(zip(store.ids, store.sources, strict=True)) | store.attrs["excluded"]
        return {"identity": store.attrs["identity"], "sources": sources}
