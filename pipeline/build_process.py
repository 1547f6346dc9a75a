"""A build from Python, as `pipeline.build(settings)`: the `luigi` command in a process of its own, with settings from Python values.

A process of its own, because Luigi reads its settings once a process, while it is imported. What the settings mean is in
`pipeline.config`; luigi.cfg lists all of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data.errors import InputError, shown
from pipeline.config_file import written

_CACHE = re.compile(r"^  cache +(.+)$", re.MULTILINE)
"""The line of the summary that names the cache, see `pipeline.console`."""

_LAST_LINES = 5


def build(settings: Mapping[str, Mapping[str, Any]] | Path | str, *, workers: int = 1, quiet: bool = False) -> Path:
    """Makes what is missing in a cache, as `luigi --module pipeline BuildFeatures` does, and returns the folder of the cache.

    Args:
        settings: A luigi.cfg, which is read as if the build was started in its folder; or sections of one as Python values:
            `{"corpora": {"mosi": "/data/MOSI"}, "text": {"model": "roberta-base"}}`. Their paths are relative to the current folder,
            where the cache is `cache` by default; a luigi.cfg there is not read.
        workers: Number of processes that make features.
        quiet: Whether what the build says is not printed.

    Raises:
        InputError: The settings, a corpus or an encoder cannot be used; the message is that of the build.
    """
    with _folder(settings) as folder:
        process = subprocess.Popen(
            [sys.executable, "-m", "mmolre", "build", "--workers", str(workers)],
            cwd=folder,
            env=_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # an interrupt reaches it once: from `_lines`, not from the terminal too
        )
        said = "".join(_lines(process, quiet))
    if process.returncode:
        raise InputError(_reason(said, process.returncode))
    found = _CACHE.findall(said)
    if not found:
        raise InputError(f"The build did not say where its cache is. It said: {_end(said)}")
    return Path(found[-1])


@contextlib.contextmanager
def _folder(settings: Mapping[str, Mapping[str, Any]] | Path | str) -> Iterator[Path]:
    """Yields the folder to build in, which has a luigi.cfg."""
    if not isinstance(settings, Mapping):
        path = Path(settings)
        if path.name != "luigi.cfg" or not path.is_file():
            raise InputError(f"{path}: expected a file luigi.cfg, or a mapping of its sections.")
        yield path.parent
        return
    with tempfile.TemporaryDirectory(prefix="mmolre-build-") as folder:
        (Path(folder) / "luigi.cfg").write_text(_config(settings), encoding="utf-8")
        yield Path(folder)


def _config(settings: Mapping[str, Mapping[str, Any]]) -> str:
    sections = {name: dict(_section(name, values)) for name, values in settings.items()}
    sections["build"] = {"cache": "cache"} | sections.get("build", {})
    _make_paths_absolute(sections)
    return written({name: {key: _text(value) for key, value in values.items()} for name, values in sections.items()})


def _make_paths_absolute(sections: Mapping[str, dict[str, Any]]) -> None:
    """Makes the paths of settings those of the current folder: cache, corpora, and models that are folders."""
    for name, values in sections.items():
        if name == "build":
            values["cache"] = _absolute(values["cache"])
        elif name == "corpora":
            roots = {key: _absolute(value) for key, value in values.items() if isinstance(value, str | Path)}
            folders = values.get("folders")
            values |= roots | (
                {"folders": {key: _absolute(root) for key, root in folders.items()}} if isinstance(folders, Mapping) else {}
            )
        elif isinstance(model := values.get("model"), str | Path) and str(model) and Path(model).expanduser().is_dir():
            values["model"] = _absolute(model)


def _section(name: str, values: Any) -> Mapping[str, Any]:
    if not isinstance(values, Mapping):
        raise InputError(f"settings: section {shown(name)} is {shown(values)}, expected a mapping of keys to values.")
    return values


def _absolute(path: Any) -> str:
    return str(Path(path).expanduser().absolute())


def _text(value: Any) -> str:
    """Writes a value as luigi.cfg has it: text and paths plain, lists and mappings as JSON."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, str | Path | int | float) else json.dumps(value, ensure_ascii=False, default=str)


def _environment() -> dict[str, str]:
    """Returns the environment of the build: it imports this checkout, and reads no other luigi.cfg than that of its folder."""
    checkout = str(Path(__file__).parent.parent)
    kept = {name: value for name, value in os.environ.items() if name not in ("LUIGI_CONFIG_PATH", "LUIGI_CONFIG_PARSER")}
    return kept | {"PYTHONPATH": os.pathsep.join(filter(None, [checkout, kept.get("PYTHONPATH")])), "PYTHONIOENCODING": "utf-8"}


def _lines(process: subprocess.Popen[str], quiet: bool) -> Iterator[str]:
    """Yields, and prints, what a process says until it ends. An interrupt reaches it, and is raised when it has ended."""
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if not quiet:
                print(line, end="", flush=True)
            yield line
        process.wait()
    except BaseException:
        process.send_signal(signal.SIGINT)
        process.wait()
        raise
    finally:
        process.stdout.close()


def _reason(said: str, status: int) -> str:
    errors = re.findall(r"^error: (.+)$", said, re.MULTILINE)
    return errors[0] if errors else f"The build ended with status {status}. It said: {_end(said)}"


def _end(said: str) -> str:
    return " | ".join(line.strip() for line in said.splitlines()[-_LAST_LINES:]) or "nothing"
