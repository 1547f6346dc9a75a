"""How trials share the cores: the choice that follows from given measurements, its words, what is kept, and one real measurement."""

import contextlib
import json
import multiprocessing
from typing import Any

import pytest
from caches import make_cache
from command_line import call
from sweeps import a_grid, a_sweep, assert_equal_to_fit, write_grid

from data.errors import InputError
from data.stopping import Stopped
from heads.runs.config import make_config
from heads.runs.devices import OutOfMemory
from heads.sweeps import cores, dry_run, execution
from heads.sweeps.cores import Choice, choose, counts, keep
from heads.sweeps.execution import Execution, choose_cores
from heads.sweeps.parts import Part
from heads.sweeps.sweep import Sweep, open_trials

LONG = {"train.max_epochs": 1000}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("cache"), utterances=30)


@pytest.fixture
def machine(monkeypatch):
    """Makes a machine of so many cores, on which so many trials at a time train so many steps a second; returns what is tried."""

    def of(rates, number_of_cores=8, free=1e15, steps_per_epoch=5):
        tried = []

        class Steps:
            def __init__(self, sweep, configs, device):
                self.total = configs[0].train.max_epochs * steps_per_epoch

            def seconds(self, number):
                if isinstance(rates[1], Exception):
                    raise rates[1]

            def per_second(self, seconds):
                return rates[1]

        @contextlib.contextmanager
        def together(sweep, config):
            def rate(count, threads):
                tried.append((count, threads))
                if isinstance(rates[count], BaseException):
                    raise rates[count]
                return rates[count]

            yield rate

        monkeypatch.setattr(cores, "available_cores", lambda: number_of_cores)
        monkeypatch.setattr(execution, "available_cores", lambda: number_of_cores)
        monkeypatch.setattr(cores, "free_bytes", lambda device: free)
        monkeypatch.setattr(cores, "TimedSteps", Steps)
        monkeypatch.setattr(cores, "together", together)
        return tried

    return of


@pytest.fixture
def chosen(cache, tmp_path):
    """Chooses for so many trials of one kind, and for others."""

    def of(trials, *others, **sections):
        sections = {"fixed": LONG, "seeds": [*range(1, trials + 1)]} | sections
        sweep = Sweep(a_grid(tmp_path, **sections), cache, tmp_path / "sweep", "mae")
        return choose(sweep, open_trials(sweep, [*others, *sweep.grid.configs()]), tmp_path / "cores.json")

    return of


@pytest.mark.parametrize(
    ("number", "most", "expected"),
    [(1, 9, [1]), (2, 9, [1, 2]), (8, 100, [1, 2, 4, 8]), (8, 3, [1, 2, 3]), (6, 9, [1, 2, 6]), (64, 5, [1, 2, 4, 5]), (8, 1, [1])],
)
def test_threads_are_halved_from_all_cores_to_one(number, most, expected):
    assert counts(number, most) == expected


def test_more_at_a_time_are_tried_as_long_as_they_are_faster(machine, chosen):
    tried = machine({1: 10.0, 2: 16.0, 4: 21.0, 8: 20.0})
    found = chosen(16)
    assert tried == [(2, 4), (4, 2), (8, 1)]
    assert (found.workers, found.threads, found.speed, found.shares) == (4, 2, 2.1, True)
    assert found.words == (
        "Trials at a time: 4 with 2 threads each, 2.10 × as fast as 1 with 8 threads (steps/s of all: 10 with 1, 16 with 2, 21 with 4,"
        " 20 with 8)."
    )


def test_one_trial_has_all_cores_if_that_is_as_fast(machine, chosen):
    tried = machine({1: 10.0, 2: 10.4})
    found = chosen(16)
    assert tried == [(2, 4)], "a few per cent are not worth a second process"
    assert (found.workers, found.threads, found.speed, found.shares) == (1, 8, 1.0, False)
    assert found.words == "Trials at a time: 1 with 8 threads; more were not faster (steps/s of all: 10 with 1, 10.4 with 2)."


def test_the_last_trials_count_that_leave_cores_without_work(machine, chosen):
    """Three trials, two at a time, take as long as four."""
    tried = machine({1: 10.0, 2: 13.0, 3: 18.0})
    found = chosen(3)
    assert tried == [(2, 4)]
    assert (found.workers, found.threads) == (1, 8)
    machine({1: 10.0, 2: 16.0, 3: 21.0})
    found = chosen(3)
    assert (found.workers, found.threads, found.speed) == (3, 2, pytest.approx(2.1))


def test_a_short_sweep_is_not_measured(machine, chosen):
    tried = machine({1: 1000.0})
    found = chosen(16, fixed={"train.max_epochs": 2})
    assert (tried, found.workers, found.rates) == ([], 1, {})
    assert found.words == "Trials at a time: 1 with 8 threads; all take about 0 s at most, too little to measure."


def test_memory_and_time_are_limits_and_said(machine, chosen, monkeypatch):
    used = cores.resource.getrusage(cores.resource.RUSAGE_SELF).ru_maxrss * 1024
    rates = {1: 10.0, 2: 19.0, 4: 36.0, 8: 70.0}
    tried = machine(rates, free=2.5 * used / 0.8)
    found = chosen(16)
    assert (tried, found.workers) == ([(2, 4)], 2)
    assert found.words.endswith("with 2). Memory has no room for more than 2.")
    machine(rates | {4: None})
    found = chosen(16)
    assert (found.workers, found.words.endswith("with 2). 4 did not fit into memory.")) == (2, True)
    tried = machine(rates)
    monkeypatch.setattr(cores, "SHARE", 0.0)
    found = chosen(16)
    assert (tried, found.workers) == ([], 1)
    assert found.words.endswith("with 1). 2 were not tried: measuring takes at most 0 % of the time of the sweep.")


def test_memory_that_runs_out_while_one_is_timed_leaves_all_cores_to_one(machine, chosen):
    machine({1: OutOfMemory("cpu: out of memory")})
    assert chosen(16).words == "Trials at a time: 1 with 8 threads; memory ran out while one was timed."


def test_trials_of_the_most_work_are_measured(machine, chosen, monkeypatch):
    timed = []
    machine({1: 10.0, 2: 5.0})
    steps = cores.TimedSteps
    monkeypatch.setattr(cores, "TimedSteps", lambda sweep, configs, device: timed.append(configs[0]) or steps(sweep, configs, device))
    chosen(2, grid={"model.fusion.ffn": [8, 512, 9]})
    assert [config.model.fusion.ffn for config in timed] == [512]


def test_there_is_no_choice_with_one_core_or_trial(machine, chosen):
    machine({1: 10.0}, number_of_cores=1)
    assert chosen(16) is None
    machine({1: 10.0})
    assert chosen(1) is None
    assert chosen(1, make_config("median", "mosi"), make_config("ridge", "mosi")) is None, "simple baselines take seconds"


def test_a_sweep_that_goes_on_keeps_its_choice_on_as_many_cores(machine, chosen, tmp_path):
    tried, record = machine({1: 10.0, 2: 16.0, 4: 30.0, 8: 29.0}), tmp_path / "cores.json"
    keep(chosen(16), record)
    rates = {"1": 10.0, "2": 16.0, "4": 30.0, "8": 29.0}
    assert json.loads(record.read_text()) == {"cores": 8, "workers": 4, "threads": 2, "speed": 3.0, "steps_per_s": rates}
    tried.clear()
    assert chosen(16) == Choice(8, 4, 2, f"Trials at a time: 4 with 2 threads each, as measured before ({record}).", 3.0)
    last = chosen(1)
    assert (last.workers, last.threads, last.shares) == (1, 2, True), "the last one has as many threads as the others"
    assert last.words == f"Trials at a time: 1 with 2 threads, as measured before ({record})."
    assert tried == []
    tried = machine({1: 10.0, 2: 16.0}, number_of_cores=2)
    assert (chosen(16).workers, tried) == (2, [(2, 1)]), "other cores"
    before = record.read_bytes()
    keep(last, record)
    assert record.read_bytes() == before, "only what was measured is kept"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("{", "Expecting property name"),
        ("[]", "the whole is not a mapping"),
        ('{"cores": 8, "workers": 0, "threads": 2, "speed": 3.0}', "a number is not above 0"),
        ('{"cores": 8, "workers": 2, "threads": 2}', "speed is missing"),
    ],
)
def test_a_damaged_record_is_refused(machine, chosen, tmp_path, content, fault):
    machine({1: 10.0})
    (tmp_path / "cores.json").write_text(content)
    with pytest.raises(InputError) as refused:
        chosen(16)
    assert str(refused.value).startswith(f"{tmp_path / 'cores.json'}: damaged ({fault}")
    assert str(refused.value).endswith("). Remove it: the same command measures again how trials share the cores.")


def chosen_by(sweep: Sweep, part: Part | None = None, **execution: Any) -> Any:
    return choose_cores(sweep, sweep.grid.configs(), Execution(**execution), part)


@pytest.mark.parametrize(
    ("chosen_by_user", "study"),
    [({"devices": ("cpu",)}, {}), ({"devices": ("cpu", "cpu")}, {}), ({"pack_size": 1}, {}), ({"executor": "ray"}, {}), ({}, "asha")],
)
def test_what_the_user_chooses_is_not_measured_nor_is_a_study(machine, cache, tmp_path, chosen_by_user, study):
    tried = machine({1: 10.0, 2: 16.0, 4: 15.0})
    sweep = a_sweep(cache, tmp_path, prune=study or None, fixed=LONG, seeds=[1, 2, 3, 4])
    assert chosen_by(sweep, **chosen_by_user) is None
    assert tried == []
    if not study:
        assert chosen_by(sweep).workers == 2


def test_each_part_keeps_its_own_choice(machine, cache, tmp_path):
    machine({1: 10.0, 2: 16.0, 4: 15.0})
    sweep, part = a_sweep(cache, tmp_path, fixed=LONG, seeds=[1, 2, 3, 4]), Part(1, 2)
    (sweep.folder / "parts").mkdir(parents=True)
    keep(chosen_by(sweep, part), sweep.folder / "parts" / "1-of-2.cores.json")
    assert "as measured before" in chosen_by(sweep, part).words
    assert "as measured before" not in chosen_by(sweep, Part(2, 2)).words


@pytest.fixture
def command(capsys, cache, tmp_path):
    """Calls `sweep` without --devices on a grid of these sections."""

    def of(*options, **sections):
        grid = write_grid(tmp_path / "grid.yaml", **sections)
        return call(capsys, "sweep", grid, "--cache", cache, "--out", tmp_path / "sweep", *options)

    return of


def test_a_dry_run_says_the_choice_and_counts_on_it(machine, command, tmp_path, monkeypatch):
    machine({1: 10.0, 2: 20.0, 4: 19.0})
    monkeypatch.setattr(dry_run, "_seconds", lambda sweep, group, device: 7200.0)
    status, out, err = command("--dry-run", fixed=LONG, seeds=[1, 2, 3, 4])
    assert (status, err) == (0, "")
    measured = "2.00 × as fast as 1 with 8 threads (steps/s of all: 10 with 1, 20 with 2, 19 with 4)"
    assert out.splitlines()[-2:] == [
        f"Trials at a time: 2 with 4 threads each, {measured}.",
        "at most 1:00:00 on auto, if no trial stops early",
    ]
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), 130), (Stopped(15), 143)])
def test_an_interruption_while_measuring_leaves_nothing(machine, command, tmp_path, error, status):
    machine({1: 10.0, 2: error})
    found, out, err = command(fixed=LONG, seeds=[1, 2])
    assert (found, out, err.count("\n")) == (status, f"{tmp_path / 'sweep'}: 2 trials, 0 of them over\n", 1)
    assert not (tmp_path / "sweep" / "cores.json").exists()
    assert not any((tmp_path / "sweep" / "trials").iterdir())


def test_a_process_is_timed_for_real_and_ends(cache, tmp_path):
    sweep = a_sweep(cache, tmp_path, seeds=[1])
    before = multiprocessing.active_children()
    with cores.together(sweep, sweep.grid.configs()[0]) as rate:
        found = rate(1, 1)
        assert found is not None
        assert found > 0
        assert len(multiprocessing.active_children()) == len(before) + 1
    assert multiprocessing.active_children() == before
    assert not sweep.folder.exists()


def test_trials_share_the_cores_as_chosen_with_the_same_results(machine, command, cache, tmp_path, monkeypatch):
    machine({1: 10.0, 2: 19.0}, number_of_cores=2)
    monkeypatch.setattr(cores, "WORTH_S", 0.0)
    sections = {"grid": {"train.lr": [0.01, 0.003]}, "seeds": [1]}
    status, out, _ = command(**sections)
    folder = tmp_path / "sweep"
    assert status == 0
    assert out.splitlines()[1] == (
        "Trials at a time: 2 with 1 thread each, 1.90 × as fast as 1 with 2 threads (steps/s of all: 10 with 1, 19 with 2)."
    )
    kept = json.loads((folder / "cores.json").read_text())
    assert {name: kept[name] for name in ("cores", "workers", "threads")} == {"cores": 2, "workers": 2, "threads": 1}
    assert_equal_to_fit(a_sweep(cache, tmp_path, **sections), tmp_path)
    assert {json.loads(path.read_text())["made"]["threads"] for path in folder.glob("trials/*/config.json")} == {1}
    assert "Trials at a time" not in command(**sections)[1], "nothing is left"
