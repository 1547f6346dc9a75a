"""Tables of tiny runs: a cache of both corpora, a small preset, and the command line."""

from pathlib import Path

from caches import make_cache

PRESET = """
train: {batch_size: 16, lr: 1.0e-2, max_epochs: 1, patience: 2, keep: []}
model: {dim: 8, output: [8], fusion: {layers: 1, heads: 2, ffn: 8}}
heads:
  mmolre: {model: {mixture: {blocks: 1, rank: 2, task_rank: 2, experts: 3, top_k: 2}}}
"""


def make_place(folder: Path) -> Path:
    """Writes cache/, with mosi (pseudo-labels) and mosei (annotated), and small.yaml into a folder, and returns it."""
    make_cache(folder / "cache", emotions=False, ledger=True)
    make_cache(folder / "cache", corpus="mosei", seed=1)
    (folder / "small.yaml").write_text(PRESET)
    return folder


def command(
    place: Path,
    *more: object,
    heads: str = "mmolre,cogmen",
    only: str = "table1,table2",
    cache: str = "cache",
    out: str = "made",
    seeds: str = "1,2",
) -> list[object]:
    """The command line of `python -m heads tables` for a folder of `make_place`."""
    folders = {"--preset": place / "small.yaml", "--cache": place / cache, "--out": place / out}
    given = {"--only": only, "--heads": heads, "--seeds": seeds, "--devices": "cpu", **folders}
    return ["tables", *(part for pair in given.items() for part in pair), *more]
