"""Parts of a sweep have every trial once, whatever is finished; packs stay whole; a part excludes itself and the whole sweep."""

import itertools
import multiprocessing
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from caches import make_cache
from sweeps import a_sweep, call_sweep, folders, swept, times

from data.errors import InputError
from heads.runs.folder import run_folder
from heads.sweeps import locks
from heads.sweeps.grid import read_grid
from heads.sweeps.parts import Part, configs_of
from heads.sweeps.results.trials import collect
from heads.sweeps.session import pack_trials
from heads.sweeps.sweep import Sweep, open_trials, opened

GRID = {"grid": {"train.lr": [0.01, 0.003], "model.fusion.ffn": [8, 9]}, "seeds": [1, 2]}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """mosi has emotions and a ledger."""
    return make_cache(tmp_path_factory.mktemp("cache"), utterances=30, ledger=True)


@pytest.fixture
def sweep(cache, tmp_path):
    """Makes a sweep of a grid in tmp_path / "sweep"."""
    return partial(a_sweep, cache, tmp_path)


@pytest.fixture
def command(cache, tmp_path, capsys):
    """Calls `sweep` on a grid file of these sections."""
    return partial(call_sweep, capsys, cache, tmp_path)


def names(made: Sweep, part: Part) -> list[str]:
    return [run_folder(config, made.trials).path.name for config in configs_of(made, part)]


def ffn(made: Sweep, count: int) -> list[list[int]]:
    """The value of model.fusion.ffn, which decides about packs, of each trial of each part."""
    return [[config.model.fusion.ffn for config in configs_of(made, Part(number, count))] for number in range(1, count + 1)]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 11])
def test_parts_have_every_trial_once_in_equal_shares(sweep, count):
    made = sweep(**GRID)
    parts = [names(made, Part(number, count)) for number in range(1, count + 1)]
    assert sorted(itertools.chain(*parts)) == sorted(trial.folder.path.name for trial in open_trials(made, made.grid.configs()))
    assert {len(part) for part in parts} <= {8 // count, -(-8 // count)}


def test_trials_that_can_be_trained_together_are_in_one_part(sweep):
    made = sweep(**GRID)
    assert [config.model.fusion.ffn for config in made.grid.configs()] == [8, 8, 9, 9] * 2, "not side by side in the grid"
    assert ffn(made, 2) == [[8] * 4, [9] * 4]
    assert ffn(made, 4) == [[8] * 2, [8] * 2, [9] * 2, [9] * 2]
    groups = pack_trials(open_trials(made, configs_of(made, Part(2, 2))), None, 8)
    assert [[len(pack) for pack in group.packs] for group in groups] == [[4]]


def test_a_cut_moves_to_a_border_that_is_near_and_to_no_other(sweep):
    def divided(first: int, second: int) -> list[list[int]]:
        numbers = [*((8, number) for number in range(first)), *((9, number) for number in range(second))]
        return ffn(sweep(list=[{"model.fusion.ffn": width, "train.lr": 0.001 * (number + 1)} for width, number in numbers]), 2)

    assert divided(9, 11) == [[8] * 9, [9] * 11], "10 and 10 would make a pack of one"
    assert divided(9, 13) == [[8] * 9 + [9] * 2, [9] * 11]


def test_parts_do_not_depend_on_what_is_finished(sweep):
    made = sweep(**GRID)
    before = [names(made, Part(number, 3)) for number in (1, 2, 3)]
    swept(made)
    assert [names(made, Part(number, 3)) for number in (1, 2, 3)] == before


def test_simple_baselines_are_dealt_out_and_equal_trials_are_one(cache, tmp_path):
    path = tmp_path / "grid.yaml"
    path.write_text("corpus: mosi\ngrid: {head: [median, ridge, svr, logistic], data.emotions: [auto, annotated]}\n")
    made = Sweep(read_grid(path, None), cache, tmp_path / "sweep", "mae")
    assert [[config.head for config in configs_of(made, Part(number, 2))] for number in (1, 2)] == [
        ["median", "svr"],
        ["ridge", "logistic"],
    ]


def run_part(part: str, grid: Path, cache: Path, out: Path, statuses) -> None:
    from heads.__main__ import main

    options = ["--cache", cache, "--out", out, "--devices", "cpu", "--part", part]
    statuses.put(main(["sweep", str(grid), *map(str, options)]))


def test_parts_train_at_the_same_time_and_a_later_call_makes_the_tables(command, sweep, cache, tmp_path):
    made, context = sweep(**GRID), multiprocessing.get_context("fork")
    statuses = context.Queue()
    workers = [
        context.Process(target=run_part, args=(f"{number}/3", made.grid.path, cache, made.folder, statuses)) for number in (1, 2, 3)
    ]
    for worker in workers:
        worker.start()
    assert [statuses.get(timeout=290) for _ in workers] == [0, 0, 0]
    for worker in workers:
        worker.join()
    before = times(made)
    assert len(before) == 8
    assert not (made.folder / "trials.parquet").exists()
    status, out, _ = command(**GRID)
    assert status == 0
    assert out.startswith(f"{made.folder}: 8 trials, 8 of them over\n")
    assert times(made) == before, "nothing is trained twice"
    table = pd.read_parquet(made.folder / "trials.parquet")
    assert (table["status"].tolist(), (made.folder / "report.html").is_file()) == (["complete"] * 8, True)
    assert not (made.folder / "parts").exists()
    alone = Sweep(made.grid, cache, tmp_path / "alone", "mae")
    swept(alone, size=None)
    pd.testing.assert_series_equal(collect(made.folder)["valid.mae"], collect(alone.folder)["valid.mae"])


def test_a_part_trains_its_trials_alone_and_says_so(command, sweep, tmp_path):
    made = sweep(**GRID)
    own = names(made, Part(2, 3))
    status, out, _ = command("--part", "2/3", **GRID)
    assert status == 0
    assert [folder.path.name for folder in folders(made)] == sorted(own)
    assert out == (
        f"{made.folder}, part 2/3: {len(own)} trials, 0 of them over\n"
        "Part 2/3 is over. When all are, the same command without --part writes the report and the tables.\n"
    )
    assert command("--part", "2/3", **GRID)[1].startswith(f"{made.folder}, part 2/3: {len(own)} trials, {len(own)} of them over\n")
    assert command("--part", "2/3", "--dry-run", **GRID)[1].endswith(f"\n{len(own)} trials, {len(own)} of them over\n")
    assert command("--part", "1/9", **GRID)[:2] == (0, f"{made.folder}, part 1/9: there are so few trials that none is in this part.\n")


def test_a_failed_trial_of_a_part_is_its_status_and_no_concern_of_the_others(command):
    bad = {"grid": {"train.lr": [1e30, 0.01]}}
    status, out, _ = command("--part", "1/2", **bad)
    assert status == 1
    assert "1 of 1 trials failed; mosi-pre-fusion-light-" in out
    assert command("--part", "2/2", **bad)[0] == 0


def test_files_that_a_killed_process_of_another_machine_was_writing_are_removed(command, sweep):
    made = sweep(seeds=[1])
    [config] = configs_of(made, Part(1, 1))
    stray = run_folder(config, made.trials).path / ".config.json.tmp~elsewhere~7"
    stray.parent.mkdir(parents=True)
    stray.write_text("{")
    assert command("--part", "1/1", seeds=[1])[0] == 0
    assert not stray.exists()


@pytest.mark.parametrize("part", ["0/3", "4/3", "3", "1/0", "-1/3", "a/b", "1/2/3", "1.0/2", "²/3"])
def test_no_part_is_refused(command, part):
    status, _, err = command(f"--part={part}", seeds=[1])
    assert (status, err) == (2, f"error: --part is '{part}', expected K/N with K from 1 to N, for example 3/20.\n")


def test_a_study_cannot_be_divided(command):
    space = {"count": 2, "seed": 3, "train.lr": {"log_uniform": [1e-4, 1e-2]}}
    for options in (("--search", "optuna"), ("--prune", "asha")):
        status, _, err = command("--part", "1/2", *options, random=space)
        assert (status, err.count("\n")) == (2, 1)
        assert err.startswith(
            f"error: --part does not go with {' '.join(options)}: its study chooses or stops trials by the results of "
        )


def hold(folder: Path, part: Part | None, connection) -> None:
    with locks.whole(folder) if part is None else locks.part(folder, part.number, part.count, lambda: None):
        connection.send("held")
        connection.recv()


@pytest.fixture
def holding(tmp_path):
    """Starts a process that holds a part, or the whole."""
    context, begun = multiprocessing.get_context("fork"), []

    def start(part: Part | None) -> Path:
        folder = tmp_path / "sweep"
        folder.mkdir()
        ours, theirs = context.Pipe()
        begun.append(context.Process(target=hold, args=(folder, part, theirs)))
        begun[-1].start()
        assert ours.recv() == "held"
        return folder

    yield start
    for process in begun:
        process.kill()
        process.join()


def test_a_part_that_is_being_trained_excludes_itself_other_divisions_and_the_whole(command, holding, sweep):
    folder = holding(Part(2, 3))
    for options, message in [
        (["--part", "2/3"], "another process trains part 2/3. Choose another part."),
        (["--part", "1/2"], "--part is 1/2, but part 2/3 is being trained. Divide into as many parts, or wait for it."),
        ([], "part 2/3 of this sweep is being trained. Wait for it, or choose another --out."),
    ]:
        status, _, err = command(*options, seeds=[1, 2, 3])
        assert (status, err) == (2, f"error: {folder}: {message}\n")
    assert not list((folder / "trials").iterdir())
    assert command("--part", "1/3", seeds=[1, 2, 3])[0] == 0


def test_the_whole_sweep_excludes_parts(command, holding, monkeypatch):
    folder = holding(None)
    monkeypatch.setattr(locks, "ENTRY_S", 0.1)
    status, _, err = command("--part", "1/3", seeds=[1, 2, 3])
    assert (status, err) == (
        2,
        f"error: {folder}: another sweep, without --part, is at work there. Wait for it, or choose another --out.\n",
    )


def test_locks_of_a_process_that_has_ended_do_not_count(holding, sweep):
    folder = holding(Part(2, 3))
    with pytest.raises(InputError, match=r"part 2/3 of this sweep is being trained"), opened(sweep(seeds=[1])):
        pass
    assert locks.is_held(folder / "parts" / "2-of-3.lock")


def test_parts_of_another_grid_are_refused(command):
    assert command("--part", "1/2", seeds=[1, 2])[0] == 0
    status, _, err = command("--part", "2/2", seeds=[1, 3])
    assert (status, err.count("\n")) == (2, 1)
    assert "this folder is of another grid than" in err
