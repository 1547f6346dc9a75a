"""Training of one pack, whatever stops it: memory that runs out, a trial that fails, is over or was interrupted."""

import json

import pytest
import torch
from caches import make_cache
from small_heads import small_options
from sweeps import SHORT, Seen, a_grid, folders, history, times

from heads.models import options
from heads.runs.config import RunConfig, make_config
from heads.runs.folder import RunFolder, run_folder
from heads.runs.run_data import LoadedCache
from heads.sweeps.grid import read_grid
from heads.sweeps.sweep import Sweep
from heads.sweeps.workers import TrialPack, train_pack, train_pack_alone
from heads.training import loop
from heads.training.fit import describe, fit
from heads.training.loop import Run
from heads.training.packed_engine import PackedEngine
from heads.training.single_engine import SingleEngine


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("cache"), utterances=30)


@pytest.fixture(scope="module")
def loaded(cache):
    return LoadedCache(cache, torch.device("cpu"))


def work(loaded: LoadedCache, folder, **sections) -> TrialPack:
    """Make one pack of all trials of a grid."""
    grid = a_grid(folder, **sections)
    made = Sweep(grid, loaded.cache, folder / "sweep", "mae")
    made.trials.mkdir(parents=True, exist_ok=True)
    return TrialPack(made, tuple(loaded.open(config).config for config in grid.configs()))


def done(loaded: LoadedCache, one: TrialPack) -> Seen:
    seen = Seen()
    train_pack(one, loaded, seen)
    return seen


def by_seed(one: TrialPack) -> dict[int, RunFolder]:
    return {config.seed: run_folder(config, one.sweep.trials) for config in one.configs}


@pytest.fixture
def limit(monkeypatch):
    """Makes memory run out in a step of a pack with more runs than a limit; returns the list of the sizes of packs that were made."""
    sizes: list[int] = []
    accumulate, begin = PackedEngine.accumulate, PackedEngine.__init__

    def of(most: int) -> list[int]:
        def make(self: PackedEngine, runs) -> None:
            sizes.append(len(runs))
            begin(self, runs)

        def step(self: PackedEngine, *arguments) -> torch.Tensor:
            if len(self.runs) > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore words.")
            return accumulate(self, *arguments)

        monkeypatch.setattr(PackedEngine, "__init__", make)
        monkeypatch.setattr(PackedEngine, "accumulate", step)
        return sizes

    return of


def test_trials_of_a_pack_are_run_folders_as_fit_leaves_them(loaded, tmp_path):
    one = work(loaded, tmp_path, seeds=[1, 2, 3])
    seen = done(loaded, one)
    assert sorted(seen.over) == [folder.path.name for folder in folders(one.sweep)]
    for config in one.configs:
        alone = run_folder(config, tmp_path / "alone")
        expected = fit(loaded.open(config), alone)
        folder = run_folder(config, one.sweep.trials)
        assert {path.name for path in folder.path.iterdir()} == {path.name for path in alone.path.iterdir()}
        assert folder.config() == alone.config()
        assert history(folder)["valid_loss"].tolist() == pytest.approx(history(alone)["valid_loss"].tolist(), rel=1e-4)
        assert folder.metrics()["valid"]["mae"] == pytest.approx(expected["valid"]["mae"], rel=1e-4)
        assert folder.metrics().keys() == expected.keys()


def test_progress_is_in_trials(loaded, tmp_path):
    """Epochs that are skipped because patience ran out count as done."""
    stuck = {"train.select": "acc7", "train.lr": 1e-12, "train.max_epochs": 4}
    one = work(loaded, tmp_path, list=[{"train.patience": 1}, {"train.patience": 9}, {"train.patience": 2}], fixed=stuck)
    seen = done(loaded, one)
    assert [folder.metrics()["epochs"] for folder in folders(one.sweep)].count(4) == 1
    assert (seen.count, seen.share) == (3, pytest.approx(3))


def test_what_is_over_is_not_trained_again(loaded, tmp_path):
    first = work(loaded, tmp_path, seeds=[1, 2])
    done(loaded, first)
    before = times(first.sweep)
    more = work(loaded, tmp_path, seeds=[1, 2, 3])
    by_seed(more)[3].begin(describe(loaded.open(more.configs[2])))
    by_seed(more)[3].write_failure("made up")
    seen = done(loaded, more)
    assert (seen.count, len(seen.over)) == (0, 3)
    assert times(more.sweep) == before


def test_simple_baselines_and_heads_that_cannot_be_batched_are_trained_too(loaded, tmp_path, limit):
    made = limit(0)
    small = {f"model.{name}": value for name, value in options.items(small_options("self-mm"))}
    short = {name: value for name, value in SHORT.items() if not name.startswith("model.")}
    path = tmp_path / "grid.yaml"
    path.write_text(json.dumps({"head": "self-mm", "corpus": "mosi", "fixed": short | small, "seeds": [1, 2]}))
    made_sweep = Sweep(read_grid(path, None), loaded.cache, tmp_path / "sweep", "mae")
    made_sweep.trials.mkdir(parents=True)
    configs = [*made_sweep.grid.configs(), make_config("median", "mosi")]
    one = TrialPack(made_sweep, tuple(loaded.open(config).config for config in configs))
    done(loaded, one)
    assert [folder.is_complete for folder in folders(made_sweep)] == [True] * 3
    assert made == [], "no pack was made"


def test_a_pack_that_does_not_fit_is_halved_until_it_does(loaded, tmp_path, limit):
    sizes = limit(2)
    one = work(loaded, tmp_path, seeds=[1, 2, 3, 4, 5])
    seen = done(loaded, one)
    assert sizes == [5, 2, 3, 2], "5 → 2 + 3, and 3 → one alone, without a pack, and 2"
    assert [folder.is_complete for folder in folders(one.sweep)] == [True] * 5
    assert sorted(seen.over) == [folder.path.name for folder in folders(one.sweep)]


def test_trials_that_were_over_before_memory_ran_out_stay_so(loaded, tmp_path, limit, monkeypatch):
    one = work(loaded, tmp_path, list=[{"train.max_epochs": 1}, {"train.max_epochs": 3}, {"train.max_epochs": 4}])
    sizes, step = limit(9), PackedEngine.accumulate
    calls = []

    def late(self: PackedEngine, *arguments) -> torch.Tensor:
        calls.append(len(self.runs))
        if len(self.runs) == 2 and calls.count(2) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return step(self, *arguments)

    monkeypatch.setattr(PackedEngine, "accumulate", late)
    seen = done(loaded, one)
    assert sizes == [3], "the two that are left go on one by one"
    assert [folder.metrics()["epochs"] for folder in by_epochs(one)] == [1, 3, 4]
    assert len(seen.over) == len(set(seen.over)) == 3


def by_epochs(one: TrialPack) -> list[RunFolder]:
    return [run_folder(config, one.sweep.trials) for config in sorted(one.configs, key=lambda config: config.train.max_epochs)]


def test_a_trial_that_does_not_fit_alone_fails_and_the_others_go_on(loaded, tmp_path, limit, monkeypatch):
    limit(1)
    accumulate = SingleEngine.accumulate

    def step(self: SingleEngine, *arguments) -> torch.Tensor:
        if self.run.config.seed == 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore words.")
        return accumulate(self, *arguments)

    monkeypatch.setattr(SingleEngine, "accumulate", step)
    one = work(loaded, tmp_path, seeds=[1, 2, 3])
    seen = done(loaded, one)
    found = by_seed(one)
    assert {seed: folder.is_complete for seed, folder in found.items()} == {1: True, 2: False, 3: True}
    assert found[2].failure == (
        "cpu: out of memory (CUDA out of memory. Tried to allocate 2 GiB.). Make the head smaller by its model options, lower"
        " train.batch_size or --memory-gb, or choose a device with more memory."
    )
    assert found[2].lacked_memory
    assert len(seen.over) == 3


def test_a_processor_without_memory_is_no_other_case(loaded, tmp_path, monkeypatch):
    def step(self: SingleEngine, *_) -> torch.Tensor:
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes."
        )

    with monkeypatch.context() as patch:
        patch.setattr(SingleEngine, "accumulate", step)
        one = work(loaded, tmp_path, seeds=[1])
        done(loaded, one)
        (folder,) = folders(one.sweep)
        assert folder.failure.startswith("cpu: out of memory ([enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate ")
        patch.setattr(SingleEngine, "accumulate", lambda *_: torch.zeros(3) + torch.zeros(2))
        with pytest.raises(RuntimeError, match="The size of tensor a"):  # of the program, not of its user
            done(loaded, work(loaded, tmp_path / "other", seeds=[1]))


def test_a_trial_that_diverges_is_written_down_and_the_others_go_on(loaded, tmp_path):
    one = work(loaded, tmp_path, grid={"train.lr": [0.01, 1e30, 0.003]})
    done(loaded, one)
    failures = {config.train.lr: run_folder(config, one.sweep.trials).failure for config in one.configs}
    assert failures[0.01] is failures[0.003] is None
    assert failures[1e30].endswith("the validation loss is not finite. Lower train.lr (1e+30).")
    complete = {config.train.lr: run_folder(config, one.sweep.trials).is_complete for config in one.configs}
    assert complete == {0.01: True, 0.003: True, 1e30: False}


def test_trials_saved_after_unlike_epochs_go_on_apart(loaded, tmp_path, monkeypatch):
    """The place of the short batch differs between epochs, so batches of different epochs cannot be stacked."""
    one = work(loaded, tmp_path, seeds=[1, 2, 3], fixed={"train.max_epochs": 4})
    for config, epochs in zip(one.configs, (1, 2, 1), strict=True):
        save_after(loaded, one, config, epochs, monkeypatch)
    made: list[list[int]] = []
    begin = PackedEngine.__init__
    monkeypatch.setattr(
        PackedEngine, "__init__", lambda self, runs: (made.append([run.config.seed for run in runs]), begin(self, runs))[1]
    )
    done(loaded, one)
    assert made == [[1, 3]]
    for config in one.configs:
        alone = run_folder(config, tmp_path / "alone")
        fit(loaded.open(config), alone)
        found = history(run_folder(config, one.sweep.trials))
        assert found["valid_loss"].tolist() == pytest.approx(history(alone)["valid_loss"].tolist(), rel=1e-4)


def save_after(loaded: LoadedCache, one: TrialPack, config: RunConfig, epochs: int, monkeypatch) -> None:
    """Leave a trial as a process does that is killed after some epochs."""
    run_data, folder = loaded.open(config), run_folder(config, one.sweep.trials)
    folder.begin(describe(run_data))
    run = Run(run_data.config, run_data.tensors, folder)

    def advance(steps: int, note: str) -> None:
        if steps and run.epoch == epochs:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "SAVE_EVERY_S", 0.0)
        with pytest.raises(KeyboardInterrupt):
            loop.train_runs([run], SingleEngine(run), lambda run, error: None, advance=advance)
    assert folder.saved_epochs == epochs


def test_a_process_of_its_own_is_told_the_same_and_returns_the_folders(loaded, tmp_path):
    one = work(loaded, tmp_path, seeds=[1, 2])
    assert sorted(train_pack_alone(one, "cpu")) == [folder.path for folder in folders(one.sweep)]
    assert all(folder.is_complete for folder in folders(one.sweep))
