"""Rows of the paper's tables: their heads, configurations and presets, and what each row is a reproduction of.

The paper's numbers are in `heads.tables.paper`, the points of its figures and of Table III in `heads/grids`. How rows are trained is in
`heads.tables.build`.
"""

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from data.lookup import lookup
from heads.evaluation.metrics import SENTIMENT_METRICS
from heads.models.mmolre import FamilyOptions
from heads.models.own import short_name
from heads.models.registry import HEADS, MEDIAN
from heads.models.tasks import TASKS
from heads.runs.config import PRESETS, RunConfig, make_config, read_yaml
from heads.sweeps.grid import read_grid
from heads.tables import paper

GRIDS = {path.stem: path for path in sorted((Path(__file__).parent.parent / "grids").glob("*.yaml"))}
"""Grid files that come with the program."""

TASK_WORDS = {"msa": "sentiment", "mer": "emotions", "both": "sentiment and emotions"}

GROUPS = {
    "token": "Heads that read one utterance",
    "context": "Heads that read whole videos (a clip is predicted with its neighbours in the same split)",
    "other tools": "Other tools (imported predictions)",
    "simple": "Simple baselines",
}
"""Groups of rows that tables keep apart, in their order; key → heading."""

PRESET_WORDS = {
    "native": "trained as its authors trained it, as far as one loop can",
    "common": "one recipe for all heads, MMoLRE's family at its light size",
    "light": "small and quick, not at its published size",
    "paper-mosi": "the MMoLRE paper's size and training on CMU-MOSI",
    "paper-mosei": "the MMoLRE paper's size and training on CMU-MOSEI",
}


@dataclass(frozen=True)
class Table:
    """One table or figure of the paper."""

    title: str
    task: str  # the task whose metrics it shows
    metrics: tuple[str, ...]  # printed
    further: tuple[str, ...] = ()  # not printed, but in the CSV file
    corpora: tuple[str, ...] = ("mosei",)
    grid: str | None = None  # a key of GRIDS whose points are its rows; None: its rows are heads
    preset: str = "common"  # used unless another is asked for


_SENTIMENT = (paper.SENTIMENT_COLUMNS, tuple(name for name in SENTIMENT_METRICS if name not in paper.SENTIMENT_COLUMNS))
"""The paper's columns, and the metrics of sentiment that it does not have."""

_FURTHER = tuple(f"{name}_{metric}" for name in (*paper.EMOTIONS, "mean") for metric in ("macro_f1", "balanced_acc"))

TABLES = {
    "table1": Table("Table I: sentiment", "msa", *_SENTIMENT, corpora=paper.CORPORA),
    "table2": Table("Table II: emotions", "mer", paper.EMOTION_COLUMNS, _FURTHER),
    "table3": Table("Table III: ranks of the shared experts", "msa", *_SENTIMENT, grid="table3", preset="paper"),
    "fig2": Table("Figure 2: number of experts and top-k", "msa", *_SENTIMENT, grid="fig2", preset="paper"),
    "fig3": Table("Figure 3: ablation", "msa", *_SENTIMENT, grid="fig3", preset="paper"),
}
"""Values of `python -m heads tables --only`."""


class Kind(NamedTuple):
    """The kind of reproduction that a row is, in a word or two and at length."""

    short: str
    long: str


NOTHING: Mapping[str, float] = MappingProxyType({})
"""The paper's numbers for a row that the paper does not have."""


@dataclass(frozen=True, eq=False)
class Row:
    """One row of a table: a configuration with all its seeds."""

    table: str
    method: str
    paper: Mapping[str, float]  # metric → the paper's number
    config: RunConfig  # its seed has no meaning here

    origin = "ours"

    @property
    def facts(self) -> dict[str, str]:
        """The head, its task and its preset."""
        return {"head": short_name(self.config.head), "task": self.config.task, "preset": self.config.preset}

    @property
    def group(self) -> str:
        """A key of `GROUPS`."""
        head = HEADS[self.config.head].head
        return "simple" if head is None else "context" if head.context else "token"

    @property
    def kind(self) -> Kind:
        """The kind of reproduction, and in what it differs from the original."""
        entry, task = HEADS[self.config.head], TABLES[self.table].task
        short = entry.reproduction
        if entry.simple:
            return Kind(short, entry.summary)
        long = f"{'a variant of ' if entry.is_variant else ''}{entry.source}: {entry.summary}"
        if entry.is_variant:
            long += "; cached features leave out a part that makes the method what it is"
        if entry.published is None:
            short += ", transferred"
            long += "; it comes from another field, and stands where the comparison of MMoLRE's paper puts it"
        elif task not in TASKS[entry.published]:
            short += ", extension"
            words = TASK_WORDS[entry.published], TASK_WORDS[task]
            long += "; published on these corpora for {} only, what it does for {} is our extension".format(*words)
        return Kind(short, f"{long}; {preset_words(self.config.preset)}")


@dataclass(frozen=True, eq=False)
class NeverRow:
    """One row of Table II: the classifier that never predicts an emotion, which every other has to beat."""

    table: str

    method, origin, group = "never predicts an emotion", "ours", "simple"
    paper = NOTHING
    facts = MappingProxyType({"head": "", "task": "mer", "preset": ""})
    kind = Kind("simple baseline", "says of every clip that the emotion is absent")


@dataclass(frozen=True, eq=False)
class ImportedRow:
    """One row of a table: predictions that another tool made."""

    table: str
    method: str
    file: Path

    origin, group = "imported", "other tools"
    paper = NOTHING

    @property
    def facts(self) -> dict[str, str]:
        """The task of its table; it has no head of ours and no preset."""
        return {"head": "", "task": TABLES[self.table].task, "preset": ""}

    @property
    def kind(self) -> Kind:
        """The file that it is from."""
        return Kind("imported predictions", f"predictions of another tool, read from {self.file.name}")


@dataclass(frozen=True)
class TableSection:
    """The rows of one table on one corpus."""

    table: str
    corpus: str
    rows: tuple[Row, ...]

    @property
    def simple(self) -> Row:
        """The row of the simple baseline, the last one."""
        return self.rows[-1]


def rows(table: str, corpus: str, preset: str | None, heads: Sequence[str] | None) -> list[Row]:
    """Return the rows of a table on a corpus: the paper's in its order, then rows that the paper does not have, then the median.

    Args:
        table: A key of `TABLES`.
        corpus: A corpus of the table.
        preset: native or paper (as published, see `preset_for`), any other key of PRESETS, or a YAML file, for all rows; None: the
            preset of the table.
        heads: Only these heads; None: all. In Tables I and II they may be heads that the paper does not have there.

    Returns:
        Only the median if no head of `heads` can be in the table.

    Raises:
        InputError: There is no such preset, or a configuration is not valid.
    """
    preset = preset or TABLES[table].preset
    configs = _points(table, corpus, preset, heads) if TABLES[table].grid else _heads(table, corpus, preset, heads)
    known = paper.published(table, corpus)
    found = {}
    for config in [*configs, _config(table, MEDIAN, corpus, preset)]:
        key = _key(table, config)
        found[key] = Row(table, *(known[key] if key in known else paper.Published(_method(key), {})), config)
    return list(found.values())


def preset_words(preset: str) -> str:
    """Describe the preset, or the file of settings, of a row."""
    return f"preset {preset}: {PRESET_WORDS[preset]}" if preset in PRESET_WORDS else f"settings of {Path(preset).name}"


def preset_for(preset: str, head: str, corpus: str) -> str:
    """Return the preset of one head.

    "native" and "paper" mean "as published": native for heads with settings of their own in native.yaml and for heads outside MMoLRE's
    family, paper-<corpus> for the rest of the family. Any other preset, or a YAML file, is returned as it is.

    Raises:
        InputError: There is no such preset.
    """
    if preset.endswith((".yaml", ".yml")):
        return preset
    if lookup({**PRESETS, "paper": None}, preset, "preset") is not None and preset != "native":
        return preset
    is_native = head in read_yaml(PRESETS["native"])["heads"] or not issubclass(HEADS[head].options, FamilyOptions)
    return "native" if is_native else f"paper-{corpus}"


def _heads(table: str, corpus: str, preset: str, heads: Sequence[str] | None) -> list[RunConfig]:
    """Return the heads of the paper's table, or those of `heads` that can learn its task."""
    known, task = [str(key) for key in paper.published(table, corpus)], TABLES[table].task
    asked = known if heads is None else [*(head for head in known if head in heads), *(head for head in heads if head not in known)]
    return [_config(table, head, corpus, preset) for head in asked if head != MEDIAN and task in TASKS[HEADS[head].task or "both"]]


def _config(table: str, head: str, corpus: str, preset: str) -> RunConfig:
    """Return a head's configuration: on both tasks if it is one of `paper.JOINT`, else on the table's task."""
    task = HEADS[head].task or ("both" if head in paper.JOINT else TABLES[table].task)
    return make_config(head, corpus, preset_for(preset, head, corpus), {"task": task}, f"{table}, head {head}")


def _points(table: str, corpus: str, preset: str, heads: Sequence[str] | None) -> list[RunConfig]:
    """Return the points of the table's grid file, which are all of MMoLRE's family, with another preset."""
    grid = read_grid(GRIDS[str(TABLES[table].grid)], corpus)
    grid = dataclasses.replace(grid, fixed={**grid.fixed, "preset": preset_for(preset, "mmolre", corpus)}, seeds=())
    return [config for config in grid.configs() if heads is None or config.head in heads]


def _key(table: str, config: RunConfig) -> Hashable:
    """Return the key of a row in `paper.published`."""
    mixture = getattr(config.model, "mixture", None)
    if table == "table3" and mixture is not None:
        return mixture.rank
    return (mixture.experts, mixture.top_k) if table == "fig2" and mixture is not None else config.head


def _method(key: Hashable) -> str:
    """Name a row that the paper does not have in this table, as the paper names it elsewhere if it does."""
    if isinstance(key, tuple):
        return f"n = {key[0]}, k = {key[1]}"
    elsewhere = {**paper.FIGURE_3, **paper.TABLE_2, **paper.TABLE_1["mosei"]}
    return elsewhere[key].method if key in elsewhere else short_name(str(key))
