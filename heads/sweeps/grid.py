"""Grid files: the configurations that `python -m heads sweep GRID.yaml` trains.

    head: mmolre                                   # or --head; heads of your own: FILE.py:CLASS, MODULE:CLASS
    corpus: mosi                                   # or --corpus
    preset: light                                  # the default
    fixed: {train.max_epochs: 30}                  # for all configurations; nested mappings work like dotted names
    grid:                                          # every combination
      model.mixture.rank: [8, 16, 32]
      loss.sentiment: [l1, mse]
    list:                                          # values that change together; {} changes nothing
      - {}
      - {model.mixture.experts: 4, model.mixture.top_k: 2}
    random:                                        # `count` draws of all names
      count: 5
      seed: 7
      train.lr: {log_uniform: [1e-5, 1e-3]}
      train.batch_size: {choice: [16, 32]}
      train.warmup: {uniform: [0, 0.2]}
      model.fusion.layers: {int_uniform: [1, 4]}
    seeds: [1, 2, 3]                               # each point once with each seed; the preset's seed if not given

The points are grid × list × random, the last varying fastest: 6 × 2 × 5 = 60 here, in 180 runs. A section that is left out counts as
one point that changes nothing. `head` and `preset` may stand in grid, list and random as well. A name is given in one place only. A
configuration that comes twice is trained once. Each name of random has its own random stream, which follows from `seed` and the name:
neither other names nor more draws change its draws.

Distributions are in `heads.sweeps.distributions`, training in `heads.sweeps.session`, the choice of a search in `heads.sweeps.search`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from data.errors import InputError, shown
from data.lookup import expect
from heads.models import options
from heads.runs.config import RunConfig, change, make_config, read_yaml
from heads.sweeps.distributions import Distribution, read_distribution

KEYS = ("head", "corpus", "preset", "fixed", "grid", "list", "random", "seeds")
"""Keys of a grid file."""

_MOST_RUNS = 100_000
"""Runs of a grid. All are made when the file is read, at 0.5 ms each."""

LIST = "list"
"""Name of the choice among the points of `list` in `Grid.space`."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The content of a grid file, with dotted names."""

    path: Path
    corpus: str
    fixed: Mapping[str, Any]  # with head and preset, where the file gives them for all
    grid: Mapping[str, tuple[Any, ...]]
    list: tuple[Mapping[str, Any], ...]  # one empty point if there is none
    random: Mapping[str, Distribution]
    count: int  # draws; 1 if there is no random
    seed: int  # of the draws
    seeds: tuple[int, ...]  # of each point; empty: the preset's seed

    def configs(self) -> list[RunConfig]:
        """Return every configuration once, all seeds of a point together."""
        return [*self._configs]

    @property
    def dropped(self) -> int:
        """Number of configurations that were left out because they had come before."""
        return self.size - len(self._configs)

    @property
    def size(self) -> int:
        """Number of points times the number of seeds."""
        return math.prod(map(len, self.grid.values())) * len(self.list) * self.count * max(1, len(self.seeds))

    @property
    def varied(self) -> list[str]:
        """Names that the file varies and that differ between the configurations that have them."""
        found = [dict(options.flat(config)) for config in self._configs]
        asked = dict.fromkeys(name for values in self._varying() for name, _ in options.items(values))
        return [name for name in asked if len({values[name] for values in found if name in values}) > 1]

    @property
    def space(self) -> dict[str, Distribution]:
        """All choices with their values: the names of grid and random, and the points of list under `LIST`."""
        chosen = {name: Distribution("choice", values) for name, values in self.grid.items()}
        listed = {LIST: Distribution("choice", self.list)} if len(self.list) > 1 else {}
        return chosen | listed | dict(self.random)

    def at(self, chosen: Mapping[str, Any]) -> RunConfig:
        """Return the configuration of one point of `space`, with the preset's seed.

        Raises:
            InputError: A name is unknown to its head or given twice, or a value is not allowed.
        """
        listed = chosen.get(LIST, self.list[0])
        drawn = [("grid", _only(chosen, self.grid)), ("list", listed), ("random", _only(chosen, self.random))]
        try:
            return self._config(_merged([("the fixed values", self.fixed), *drawn]))
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from error

    def with_seeds(self, config: RunConfig) -> list[RunConfig]:
        """Return a configuration once with each seed.

        Raises:
            InputError: A seed is out of range.
        """
        return [change(config, {"seed": seed}, f"{self.path}: seeds") for seed in self.seeds] or [config]

    @cached_property
    def _configs(self) -> tuple[RunConfig, ...]:
        runs = [run for point in self._points() for run in self.with_seeds(self.at(point))]
        return tuple({(run.key(), run.seed): run for run in runs}.values())

    def _points(self) -> Iterator[dict[str, Any]]:
        grid = [dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())]
        for combination, listed, drawn in itertools.product(grid, self.list, self._draws()):
            yield {**combination, LIST: listed, **drawn}

    def _draws(self) -> list[dict[str, Any]]:
        columns = [distribution.draws(name, self.seed, self.count) for name, distribution in self.random.items()]
        return [dict(zip(self.random, row, strict=True)) for row in zip(*columns, strict=True)] or [{}]

    def _varying(self) -> Iterator[Mapping[str, Any]]:
        for name, distribution in self.space.items():
            yield from distribution.values if name == LIST else [{name: value} for value in distribution.values]

    def _config(self, values: dict[str, Any]) -> RunConfig:
        head, preset = values.pop("head", None), values.pop("preset", None)
        if head is None:
            raise InputError("which head? Give head: NAME, or several in grid.")
        for name, value in (("head", head), ("preset", preset)):
            if not isinstance(value, str | None):
                raise InputError(f"{name} is {shown(value)}, expected text.")
        if "seed" in values:
            raise InputError("seed cannot be set here. Give seeds: [1, 2].")
        return make_config(head, self.corpus, preset, options.nested(values), f"head {shown(head)}")


def read_grid(path: Path, corpus: str | None, head: str | None = None) -> Grid:
    """Read a grid file and check every configuration of it.

    Args:
        path: A YAML file.
        corpus: The value of --corpus; None if it is not given.
        head: The same of --head.

    Raises:
        InputError: The file is missing, is not YAML, or has a wrong key or value; the message names the file.
    """
    values = read_yaml(path)
    for name in values:
        expect(KEYS, str(name), f"key in {path}")
    top = options.build(_Top, {name: values[name] for name in ("head", "corpus", "preset", "seeds") if name in values}, str(path))
    if "seeds" in values and not top.seeds:
        raise InputError(f"{path}: seeds is {shown(values['seeds'])}, expected one whole number or more.")
    if top.head and head and top.head != head:
        raise InputError(f"{path}: head is {shown(top.head)}, but --head says {shown(head)}. Give one of the two.")
    everywhere = {name: value for name, value in (("head", top.head or head), ("preset", top.preset)) if value is not None}
    draws = _section(values, "random", path)
    grid = Grid(
        path=path,
        corpus=_corpus(top.corpus, corpus, path),
        fixed=_once(everywhere, _flat(_section(values, "fixed", path), f"{path}: fixed"), f"{path}: fixed"),
        grid=_grid(_section(values, "grid", path), path),
        list=_list(values.get("list"), path),
        random=_random(draws, path),
        seeds=top.seeds,
        **_count_and_seed(draws, path),
    )
    if grid.size > _MOST_RUNS:
        many = f"asks for {grid.size:,} runs, expected at most {_MOST_RUNS:,}"
        raise InputError(f"{path}: {many}. Lower the count of random, or split the file.")
    grid.configs()
    return grid


@dataclass(frozen=True, kw_only=True)
class _Top:
    """The single values at the top of a grid file."""

    head: str | None = None
    corpus: str | None = None
    preset: str | None = None
    seeds: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Draws:
    count: int = 0
    seed: int = 0


def _corpus(written: str | None, given: str | None, path: Path) -> str:
    if written and given and written != given:
        raise InputError(f"{path}: corpus is {shown(written)}, but --corpus says {shown(given)}. Give one of the two.")
    corpus = given or written
    if not corpus:
        raise InputError(f"{path}: which corpus? Give --corpus, or corpus: NAME in the file.")
    return corpus


def _section(values: Mapping[str, Any], name: str, path: Path) -> Mapping[str, Any]:
    section = values.get(name)
    if section is not None and not isinstance(section, Mapping):
        raise InputError(f"{path}: {name} is {shown(section)}, expected names with values.")
    return section or {}


def _grid(section: Mapping[str, Any], path: Path) -> dict[str, tuple[Any, ...]]:
    found = _flat(section, f"{path}: grid")
    for name, values in found.items():
        if not isinstance(values, list) or not values:
            raise InputError(f"{path}: grid: {name} is {shown(values)}, expected a list of values.")
    return {name: tuple(values) for name, values in found.items()}


def _list(section: Any, path: Path) -> tuple[dict[str, Any], ...]:
    if section is None:
        return ({},)
    if not isinstance(section, list) or not section:
        raise InputError(f"{path}: list is {shown(section)}, expected a list of points, each of them names with values.")
    if wrong := [point for point in section if not isinstance(point, Mapping)]:
        raise InputError(f"{path}: list: a point is {shown(wrong[0])}, expected names with values.")
    return tuple(_flat(point, f"{path}: list") for point in section)


def _count_and_seed(section: Mapping[str, Any], path: Path) -> dict[str, int]:
    given = {name: section[name] for name in ("count", "seed") if name in section}
    draws = options.build(_Draws, given, f"{path}: random")
    if section and draws.count < 1:
        raise InputError(f"{path}: random: count is {shown(section.get('count'))}, expected how many points to draw, 1 or more.")
    if draws.seed < 0:
        raise InputError(f"{path}: random: seed is {draws.seed}, expected 0 or more.")
    return {"count": draws.count or 1, "seed": draws.seed}


def _random(section: Mapping[str, Any], path: Path) -> dict[str, Distribution]:
    named = {str(name): values for name, values in section.items() if name not in ("count", "seed")}
    if section and not named:
        raise InputError(f"{path}: random draws nothing. Give a name, for example train.lr: {{log_uniform: [1e-5, 1e-3]}}.")
    return {name: read_distribution(values, f"{path}: random: {name}") for name, values in named.items()}


def _flat(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Flatten nested mappings to dotted names, and refuse a name that is given twice."""
    found: dict[str, Any] = {}
    for item in options.items(values):
        found = _once(found, dict([item]), where)
    return found


def _once(first: Mapping[str, Any], second: Mapping[str, Any], where: str) -> dict[str, Any]:
    if twice := [name for name in second if name in first]:
        raise InputError(f"{where}: {twice[0]} is given twice. Give it once.")
    return {**first, **second}


def _merged(sections: list[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for section, values in sections:
        for name, value in _flat(values, section).items():
            if name in merged:
                raise InputError(f"{name} is in {origin[name]} and in {section}. Give it in one place.")
            merged[name], origin[name] = value, section
    return merged


def _only(values: Mapping[str, Any], names: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in names if name in values}
