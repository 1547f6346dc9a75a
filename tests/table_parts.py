"""Parts of the paper's tables with results made by hand, for tests of files and pages."""

import numpy as np

from heads.tables.report import Part
from heads.tables.results import Result, Seed
from heads.tables.rows import TABLES, rows

RUN = "{}-{}-seed{}"
"""Name of a run folder: corpus, method, seed."""


def part(table: str, corpus: str, split: str = "valid", failed: str = "") -> Part:
    """All rows of a table, of two seeds each with random metrics; those of the method `failed` have failed."""
    random, found = np.random.default_rng(0), []
    for row in rows(table, corpus, None, None):
        metrics = (*TABLES[table].metrics, *TABLES[table].further)
        seeds = []
        for seed in (1, 2):
            values = {name: float(random.uniform(0.5, 0.9)) for name in metrics}
            name = RUN.format(corpus, row.method.replace(" ", ""), seed)
            broke = row.method == failed
            seeds.append(Seed(seed, name, None if broke else values, "it broke" if broke else None))
        found.append(Result(row, tuple(seeds)))
    return Part(table, corpus, split, tuple(found))
