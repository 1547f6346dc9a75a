"""README and docs are true: paths and links exist, commands parse, the picture of the rooms shows the rooms."""

import argparse
import configparser
import importlib
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_layers import DATA_ROOMS, NEVER, ROOMS

from data.feature_sets import modality_of
from pipeline.settings import CHECKOUT

PAGES = [
    CHECKOUT / "README.md",
    CHECKOUT / "CHANGELOG.md",
    CHECKOUT / "data" / "sample" / "README.md",
    *sorted((CHECKOUT / "docs").glob("*.md")),
]
ARCHITECTURE = CHECKOUT / "docs" / "architecture.md"
CURRENT = [page for page in PAGES if page.name != "CHANGELOG.md"]
"""Pages that name only what exists; the changelog also names modules by their old names."""
LUIGI_FLAGS = {"--help", "--module", "--workers", "--scheduler-host", "--local-scheduler"}
PLACEHOLDERS = re.compile(r"[|…]")
"""In a command that stands in a sentence: alternatives, or words left out."""


class _Parsed(Exception):
    """The parser knows the arguments. Raised before the command runs."""


def text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path) -> str:
    """The indented and fenced code of a page."""
    fenced = re.findall(r"^```\w*\n(.*?)^```", text(page), re.MULTILINE | re.DOTALL)
    return "\n".join(fenced + re.findall(r"^ {4}(\S.*)$", text(page), re.MULTILINE))


def commands(page: Path) -> Iterator[str]:
    """Commands in code blocks, without their comments, and complete ones in sentences; `python -m x y` alone counts as its --help."""
    for line in blocks(page).splitlines():
        yield from (part for part in re.split(r"&&", line.partition(" #")[0].strip()) if part)
    for inline in re.findall(r"`((?:python -m|luigi) [^`]+)`", text(page)):
        if not PLACEHOLDERS.search(inline):
            yield inline if len(inline.split()) > 4 else f"{inline} --help"


def named(pages: list[Path], pattern: str) -> list[tuple[str, str]]:
    """(page, name) of each name in the pages that a pattern with one group finds."""
    found = {(page.relative_to(CHECKOUT).as_posix(), name) for page in pages for name in re.findall(pattern, text(page))}
    return sorted(found)


def test_paths_exist():
    pattern = r"(?<![\w/.<>-])((?:data|pipeline|heads|tests|docs|\.ci)/[\w./*-]*[\w/])"
    paths = named(CURRENT, pattern)
    assert len(paths) > 50
    assert [(page, path) for page, path in paths if not list(CHECKOUT.glob(path.rstrip("/")))] == []


def test_benchmarks_exist():
    benchmarks = named(PAGES, r"\b(bench_\w+\.py)")
    assert benchmarks
    assert [(page, name) for page, name in benchmarks if not (CHECKOUT / "tests" / "benchmarks" / name).is_file()] == []


def test_modules_exist():
    modules = named(CURRENT, r"`((?:heads|pipeline)(?:\.\w+)+)`")
    assert [(page, name) for page, name in modules if not _is_module_or_attribute(name)] == []


def _is_module_or_attribute(name: str) -> bool:
    path = CHECKOUT / name.replace(".", "/")
    owners = [owner for owner in (path.parent.with_suffix(".py"), path.parent / "__init__.py") if owner.is_file()]
    return path.is_dir() or path.with_suffix(".py").is_file() or any(re.search(rf"\b{path.name}\b", text(owner)) for owner in owners)


def test_relative_links_lead_somewhere():
    prose = {page: re.sub(r"^```.*?^```", "", text(page), flags=re.MULTILINE | re.DOTALL) for page in PAGES}
    links = [(page, link) for page in PAGES for link in re.findall(r"\]\((?!https?:)([^)#\s]+)", prose[page])]
    assert links
    assert [(page.name, link) for page, link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("package", ["heads", "data", "pipeline"])
def test_commands_are_known_to_their_parsers(package, monkeypatch, capsys):
    parse = argparse.ArgumentParser.parse_args

    def only_parse(self, args=None, namespace=None):
        parse(self, args, namespace)
        raise _Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", only_parse)
    main = importlib.import_module(f"{package}.__main__").main
    prefix = f"python -m {package} "
    found = [line for page in PAGES for line in commands(page) if line.startswith(prefix)]
    assert found
    refused = []
    for command in found:
        try:
            main(shlex.split(command.removeprefix(prefix)))
        except _Parsed:
            continue
        except SystemExit as end:
            if end.code == 0:
                continue
            refused.append(f"{command}: {capsys.readouterr().err.splitlines()[-1]}")
    assert refused == []


@pytest.mark.parametrize("script", sorted((CHECKOUT / "docs" / "slurm").glob("*.sbatch")), ids=lambda path: path.name)
def test_scripts_for_slurm_are_explained_and_sound(script):
    """`pytest -m slurm` runs them."""
    assert f"](slurm/{script.name})" in text(CHECKOUT / "docs" / "slurm.md")
    assert subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False).stderr == ""
    found = text(script)
    signals = found.partition("\n# Some minutes before the end")[2]
    assert signals == text(script.with_name("sweep.sbatch")).partition("\n# Some minutes before the end")[2] != ""
    assert {"--requeue", "--open-mode=append", "--signal=B:USR1@300"} <= set(re.findall(r"^#SBATCH (\S+)", found, re.MULTILINE))


def test_flags_of_luigi_are_settings_of_a_build():
    settings = _settings()
    flags = LUIGI_FLAGS | {f"--{section}-{name}".replace("_", "-") for section, names in settings.items() for name in names}
    found = [line for page in PAGES for line in commands(page) if line.startswith("luigi ")]
    assert found
    assert [line for line in found if not flags.issuperset(re.findall(r"--[\w-]+", line))] == []


def test_settings_of_luigi_exist():
    settings, found = _settings(), 0
    for page in PAGES:
        for block in re.findall(r"^```ini\n(.*?)^```", text(page), re.MULTILINE | re.DOTALL):
            given = configparser.ConfigParser()
            given.read_string(block)
            for section in given.sections():
                assert set(given[section]) <= settings[modality_of(section)]
                found += 1
    assert found


def _settings() -> dict[str, set[str]]:
    """Section → keys of the shipped luigi.cfg, which documents every setting; most are commented out."""
    settings = configparser.ConfigParser(allow_no_value=True)
    settings.read_string(re.sub(r"^#(?=\w+ =)", "", text(CHECKOUT / "luigi.cfg"), flags=re.MULTILINE))
    return {section: set(settings[section]) for section in settings.sections()}


@pytest.mark.parametrize("layer", NEVER)
def test_the_picture_shows_the_rooms(layer):
    picture = re.findall(r"^```mermaid\n(.*?)^```", text(ARCHITECTURE), re.MULTILINE | re.DOTALL)
    assert len(picture) == 1
    box = re.findall(rf"subgraph {layer}\[.*?\]\n(.*?)^ +end", picture[0], re.MULTILINE | re.DOTALL)
    rooms = {path.parent.name for path in (CHECKOUT / layer).glob("*/__init__.py")}
    assert set(re.findall(r'\["(\w+)/"\]', box[0])) == rooms


@pytest.mark.parametrize("layer", NEVER)
def test_every_room_and_module_of_a_layer_has_its_row(layer):
    table = text(ARCHITECTURE).partition(f"| `{layer}/` | holds |")[2].partition("\n\n")[0]
    assert table
    rooms = {path.parent.name for path in (CHECKOUT / layer).glob("*/__init__.py")}
    assert set(re.findall(r"^\| `(\w+)/` \|", table, re.MULTILINE)) == rooms
    modules = {path.stem for path in (CHECKOUT / layer).glob("*.py")} - {"__init__", "__main__"}
    assert modules <= set(re.findall(r"`(\w+)`", table))


@pytest.mark.parametrize(("layer", "order"), [("data", ("other modules", *DATA_ROOMS)), *ROOMS.items()])
def test_the_import_order_is_the_one_that_is_enforced(layer, order):
    line = re.search(rf"^ +{layer} +(\S.* < .*)$", text(ARCHITECTURE), re.MULTILINE)
    assert line is not None
    assert tuple(line[1].split(" < ")) == order
