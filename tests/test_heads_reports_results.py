"""Short names of runs, and what run folders say about a split."""

from pathlib import Path

from heads.reports.results import short_names
from heads.runs.folder import RunFolder


def names(*runs: str) -> list[str]:
    """Names of runs that are given as "<head> <key> <seed>"."""
    parts = [run.split() for run in runs]
    folders = [RunFolder(Path(f"runs/mosi-{head}-light-{key}-seed{seed}")) for head, key, seed in parts]
    return short_names(folders, [{"config": {"head": head, "seed": int(seed)}} for head, _, seed in parts])


def test_runs_are_named_by_what_tells_them_apart():
    assert names("mmolre aa 1") == ["mmolre"]
    assert names("mmolre aa 1", "mmolre aa 11") == ["seed 1", "seed 11"]
    assert names("mmolre aa 1", "ridge bb 1") == ["mmolre, seed 1", "ridge, seed 1"]
    assert names("mmolre aa 1", "mmolre bb 1", "ridge cc 1") == ["mmolre aa, seed 1", "mmolre bb, seed 1", "ridge cc, seed 1"]
    assert names("mmolre aa 1", "mmolre aa 1") == ["runs/mosi-mmolre-light-aa-seed1"] * 2
