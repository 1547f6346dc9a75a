"""The copy of a head of one's own that a run folder keeps, so that a run can be opened again after its file has changed.

Heads of one's own are loaded in `heads.models.own`. A head that was named by its module has no copy: one file of a package says little.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.atomic import atomic_path
from heads.models import own

_LOG = logging.getLogger("heads")


def keep_copy(config: Mapping[str, Any], folder: Path) -> None:
    """Writes a copy of the file of a head of one's own into a run folder, if it has none; nothing for other heads.

    Args:
        config: The part `config` of config.json.
        folder: The run's.
    """
    name = str(config["head"])
    if config.get("head_source") is None or (copy := _copy_of(name, folder)) is None or copy.exists():
        return
    with atomic_path(copy) as temporary:
        temporary.write_bytes(own.loaded(name).text)


def as_trained(config: Mapping[str, Any], folder: Path) -> Mapping[str, Any]:
    """Returns the part `config` of config.json with the head that the run was trained with.

    If the file of a head of one's own has changed or is gone, that is the copy in the run folder, and one line on the standard error
    says so.

    Raises:
        InputError: The head cannot be loaded.
    """
    name, source = str(config["head"]), config.get("head_source")
    if source is None or (copy := _copy_of(name, folder)) is None:
        return config
    found = own.source_of(name)
    if found == source or not copy.exists():
        own.load(name)
        return config
    kept = f"{copy.resolve()}:{name.rpartition(':')[2]}"
    own.load(kept)
    _say(name, source, found, kept)
    return {**config, "head": kept}


def _copy_of(name: str, folder: Path) -> Path | None:
    return folder / Path(name.rpartition(":")[0]).name if own.is_file(name) else None


_SAID: set[tuple[str, str]] = set()
"""Heads, with their sources, of which the line was written: runs that share a head need it once."""


def _say(name: str, source: str, found: str | None, kept: str) -> None:
    if (name, source) in _SAID:
        return
    _SAID.add((name, source))
    what = "is gone" if found is None else f"has changed since the run was trained (source {source}, now {found})"
    file, copy = name.rpartition(":")[0], kept.rpartition(":")[0]
    _LOG.warning("%s, the file of head %s, %s. The copy that the run has is used: %s.", file, own.short_name(name), what, copy)
