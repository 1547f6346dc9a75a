"""The grid files of the program: all can be read, and have the settings of the paper."""

import configparser
from pathlib import Path

import pytest

import heads
from heads.runs.config import read_yaml
from heads.sweeps.grid import read_grid
from heads.tables import paper
from heads.tables.rows import GRIDS

MIXTURES = ["mmolre", "moe", "mmoe", "ple", "mod-squad", "mlore", "demt"]
POINTS = {
    "fig2": 9,
    "fig3": 4,
    "table2": 4,
    "table3": 4,
    "ablations-mosi": 5,
    "mixtures-mosi": len(MIXTURES),
    "mixtures-mosei": len(MIXTURES),
}


def configs(name):
    return read_grid(GRIDS[name], None).configs()


@pytest.mark.parametrize("name", sorted(POINTS))
def test_a_grid_has_its_points_with_the_seeds_and_the_preset_of_the_paper(name):
    found, corpus = configs(name), "mosi" if name.endswith("-mosi") else "mosei"
    assert read_grid(GRIDS[name], None).dropped == 0
    assert len(found) == POINTS[name] * 3
    assert {config.seed for config in found} == set(paper.SEEDS)
    assert {(config.corpus, config.preset) for config in found} == {(corpus, f"paper-{corpus}")}


@pytest.mark.parametrize("name", sorted(GRIDS))
def test_a_grid_that_comes_with_the_program_can_be_read(name):
    given = None if "corpus" in read_yaml(GRIDS[name]) else "mosi"
    assert read_grid(GRIDS[name], given).configs()


def test_experts_grow_with_all_active_and_then_fewer_are_active():
    mixtures = [config.model.mixture for config in configs("fig2") if config.seed == 1]
    points = [(mixture.experts, mixture.top_k) for mixture in mixtures]
    assert points == [(1, 1), (5, 5), (10, 10), (15, 15), (20, 20), (15, 11), (15, 8), (15, 4), (15, 1)]
    assert {mixture.rank for mixture in mixtures} == {128}
    assert set(paper.FIGURE_2) <= set(points)


def test_ranks_are_those_of_the_paper_with_all_experts_active():
    mixtures = [config.model.mixture for config in configs("table3") if config.seed == 1]
    assert [mixture.rank for mixture in mixtures] == list(paper.TABLE_3)
    assert {(mixture.experts, mixture.top_k, mixture.task_rank) for mixture in mixtures} == {(15, 15, 128)}
    assert mixtures[-1].ranks() == (16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 120, 128)


@pytest.mark.parametrize(("name", "single"), [("fig3", "baseline-msa"), ("table2", "baseline-mer")])
def test_ablations_leave_out_one_part_after_the_other(name, single):
    found = [(config.head, config.task) for config in configs(name) if config.seed == 1]
    assert found == [(single, single.removeprefix("baseline-")), ("pre-fusion", "both"), ("post-fusion", "both"), ("mmolre", "both")]


@pytest.mark.parametrize("corpus", paper.CORPORA)
def test_mixtures_are_all_those_that_can_take_the_place_of_unitse(corpus):
    assert [config.head for config in configs(f"mixtures-{corpus}") if config.seed == 11] == MIXTURES


@pytest.mark.parametrize("name", sorted(POINTS))
def test_a_grid_says_how_it_is_run_at_a_size_for_a_cpu(name):
    comment = [line for line in GRIDS[name].read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert any("light" in line for line in comment)
    assert any(f"grids/{name}.yaml" in line for line in comment)


def test_grids_and_presets_are_installed_with_the_program():
    root = Path(heads.__file__).parents[1]
    setup = configparser.ConfigParser()
    setup.read(root / "setup.cfg", encoding="utf-8")
    patterns = setup["options.package_data"]["heads"].split()
    installed = {path for pattern in patterns for path in (root / "heads").glob(pattern)}
    assert installed == {*(root / "heads").rglob("*.yaml")}
