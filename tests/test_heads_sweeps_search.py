"""Studies: the trials they hand out and stop, and what is left of them after their process was killed."""

import math
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from data.errors import InputError
from heads.sweeps.grid import Grid, read_grid
from heads.sweeps.search import Search

CHECKOUT = Path(__file__).parents[1]

SPACE = """
    count: 8
    seed: 5
    train.lr: {log_uniform: [1.0e-5, 1.0e-1]}
    train.batch_size: {choice: [4, 8, 16]}
    train.patience: {int_uniform: [2, 6]}
    train.warmup: {uniform: [0.1, 0.3]}
"""


@pytest.fixture
def grid(tmp_path):
    """A grid file of a head with few options; without a text it has eight draws."""
    (tmp_path / "short.yaml").write_text("seed: 3\n")

    def of(text: str = f"random:{SPACE}") -> Grid:
        path = tmp_path / "grid.yaml"
        path.write_text(f"head: ridge\ncorpus: mosi\npreset: {tmp_path / 'short.yaml'}\n{text}")
        return read_grid(path, None)

    return of


@pytest.fixture
def out(tmp_path):
    return tmp_path / "sweep"


def loss(config) -> float:
    """Return the result of a trial of these tests, which is best at a learning rate of 1e-3."""
    return abs(math.log10(config.train.lr) + 3) + 0.01 * config.train.patience


def finish(search: Search, at_a_time: int = 1) -> list:
    """Ask and tell until no trial is left; return the configurations in order."""
    done = []
    while asked := search.ask(at_a_time):
        for number, config in asked:
            search.tell(number, loss(config), "complete")
            done.append(config)
    return done


def values(search: Search) -> dict[int, tuple[str, float | None]]:
    """Map the number of each trial to its state and value in Optuna."""
    return {trial.number: (trial.state.name, trial.value) for trial in search._study.trials}


def test_without_a_search_the_runs_are_the_grids(grid, out):
    asked = grid("grid: {train.lr: [1, 2, 3]}\nseeds: [1, 2]")
    with Search(out, asked, "mae") as search:
        assert (search.total, search.left) == (6, 6)
        first = search.ask(4)
        assert ([number for number, _ in first], search.left) == ([0, 1, 2, 3], 2)
        assert [config for _, config in first + search.ask(4)] == asked.configs()
        assert search.ask(4) == []


def test_a_search_samples_from_what_the_file_says(grid, out):
    with Search(out, grid(), "mae", search="optuna") as search:
        done = finish(search)
    assert len({config.key() for config in done}) == len(done) == 8
    assert all(1e-5 <= config.train.lr <= 1e-1 and 0.1 <= config.train.warmup <= 0.3 for config in done)
    assert {config.train.batch_size for config in done} <= {4, 8, 16}
    assert {config.train.patience for config in done} <= {2, 3, 4, 5, 6}
    assert {config.seed for config in done} == {3}


def test_a_search_is_of_its_seed(grid, tmp_path):
    def of(name: str, seed: int) -> list:
        with Search(tmp_path / name, grid(f"random:{SPACE.replace('seed: 5', f'seed: {seed}')}"), "mae", search="optuna") as search:
            return [config for _, config in search.ask(3)]

    first, again, other = of("a", 5), of("b", 5), of("c", 6)
    assert first == again
    assert first[0] != other[0]


def test_a_search_learns_from_what_it_is_told(grid, out):
    with Search(out, grid(f"random:{SPACE.replace('count: 8', 'count: 25')}"), "mae", search="optuna") as search:
        found = [abs(math.log10(config.train.lr) + 3) for config in finish(search)]
    assert sum(found[10:]) / 15 < 0.8 * sum(found[:10]) / 10, "after ten points at random the others come near 1e-3"


def test_the_direction_is_the_metrics(grid, tmp_path):
    for metric, direction in (("mae", "MINIMIZE"), ("corr", "MAXIMIZE")):
        with Search(tmp_path / metric, grid(), metric) as search:
            assert search._study.direction.name == direction


def test_every_seed_of_a_point_is_a_run_with_its_values(grid, out):
    with Search(out, grid(f"random:{SPACE.replace('count: 8', 'count: 4')}\nseeds: [1, 2, 4]"), "mae", search="optuna") as search:
        assert search.total == 12
        done = finish(search, at_a_time=5)
    assert [config.seed for config in done] == [1, 2, 4] * 4
    assert [config.key() for config in done[::3]] == [config.key() for config in done[1::3]] == [config.key() for config in done[2::3]]
    assert len({config.key() for config in done}) == 4


def test_grid_and_list_are_choices_of_a_search(grid, out):
    choices = "grid: {loss.sentiment: [l1, mse], data.modalities: [[text], [text, audio]]}\nlist: [{}, {train.average: 0.5}]"
    asked = grid(f"{choices}\nrandom:{SPACE}")
    with Search(out, asked, "mae", search="optuna") as search:
        done = finish(search)
    assert {config.loss.sentiment for config in done} == {"l1", "mse"}
    assert {config.data.modalities for config in done} == {("text",), ("text", "audio")}
    assert {config.train.average for config in done} == {0.0, 0.5}


def test_a_point_that_comes_again_is_run_once(grid, out):
    with Search(out, grid("random: {count: 12, train.patience: {int_uniform: [1, 2]}}"), "mae", search="optuna") as search:
        done = finish(search)
        assert sorted(config.train.patience for config in done) == [1, 2]
        assert search.left == 0


def test_poorly_performing_trials_are_stopped_at_the_rungs(grid, out):
    with Search(out, grid("grid: {train.lr: [1, 2, 3, 4, 5, 6]}"), "mae", prune="asha") as search:
        stopped = {}
        for number, config in search.ask(6):
            stops = (epoch for epoch in range(1, 31) if search.report(number, epoch, config.train.lr))
            stopped[config.train.lr] = next(stops, None)
    assert stopped == {1.0: None, 2.0: 3, 3.0: 3, 4.0: 3, 5.0: 3, 6.0: 3}


def test_a_better_run_goes_on_and_a_run_without_a_number_does_not(grid, out):
    with Search(out, grid("grid: {train.lr: [1, 2, 3]}"), "corr", prune="asha") as search:
        (first, _), (second, _), (third, _) = search.ask(3)
        assert [search.report(first, epoch, 0.1) for epoch in (1, 2, 3)] == [False, False, False]
        assert [search.report(second, epoch, 0.2) for epoch in (1, 2, 3, 8, 9)] == [False] * 5
        assert [search.report(first, epoch, 0.1) for epoch in (8, 9)] == [False, True]
        assert [search.report(third, epoch, math.nan) for epoch in (1, 3)] == [False, True]


def test_nothing_is_stopped_unless_asked_for(grid, out):
    with Search(out, grid("grid: {train.lr: [1, 2]}"), "mae") as search:
        assert not any(search.report(number, epoch, 9.0 + number) for number, _ in search.ask(2) for epoch in range(1, 30))


def test_ends_are_noted(grid, out):
    with Search(out, grid(), "mae", search="optuna") as search:
        for (number, _), (value, state) in zip(
            search.ask(4), [(0.5, "complete"), (None, "failed"), (0.7, "pruned"), (math.nan, "complete")], strict=True
        ):
            search.report(number, 1, 0.9)
            search.tell(number, value, state)
        search.tell(0, 0.1, "complete")
        assert values(search) == {0: ("COMPLETE", 0.5), 1: ("FAIL", None), 2: ("PRUNED", 0.9), 3: ("FAIL", None)}
        with pytest.raises(
            InputError, match=r"^Unknown status of a trial 'faild'\. Did you mean 'failed'\? Available: complete, pruned, failed\.$"
        ):
            search.tell(0, None, "faild")


def test_a_search_that_goes_on_is_as_one_that_was_never_interrupted(grid, tmp_path):
    with Search(tmp_path / "whole", grid(), "mae", search="optuna") as search:
        whole = finish(search)
    parts = []
    for _ in range(4):
        with Search(tmp_path / "parts", grid(), "mae", search="optuna") as search:
            for _ in range(2):
                [(number, config)] = search.ask(1)
                search.tell(number, loss(config), "complete")
                parts.append(config)
    assert parts == whole


def test_a_search_may_go_on_with_a_larger_count(grid, out):
    with Search(out, grid(), "mae", search="optuna") as search:
        finish(search)
    with Search(out, grid(f"random:{SPACE.replace('count: 8', 'count: 10')}"), "mae", search="optuna") as search:
        assert (search.left, len(finish(search)), search.left) == (2, 2, 0)


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from heads.sweeps.grid import read_grid
    from heads.sweeps.search import Search

    search = Search(Path(sys.argv[1]), read_grid(Path(sys.argv[2]), None), "mae", search=sys.argv[3] or None, prune="asha")
    asked = search.ask(3)
    search.tell(asked[0][0], 0.5, "complete")
    search.report(asked[1][0], 1, 0.25)
    print(*[f"{number} {config.key()} {config.seed}" for number, config in asked], sep="\\n", flush=True)
    if sys.argv[4] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
"""


def other_process(out: Path, search: str, end: str) -> subprocess.Popen:
    command = [sys.executable, "-c", textwrap.dedent(KILLED), str(out), str(out.parent / "grid.yaml"), search, end]
    return subprocess.Popen(command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("kind", ["optuna", ""])
def test_runs_of_a_killed_process_are_asked_again(grid, out, kind):
    asked = grid(f"random:{SPACE}\nseeds: [1, 2]")
    process = other_process(out, kind, "kill")
    printed, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL
    with Search(out, asked, "mae", search=kind or None, prune="asha") as search:
        again = [f"{number} {config.key()} {config.seed}" for number, config in search.ask(2)]
        assert again == printed.splitlines()[1:], "with the numbers and values that they had, before anything new"
        assert values(search) == {0: ("COMPLETE", 0.5), 1: ("RUNNING", None), 2: ("RUNNING", None)}
        assert search._study.trials[1].intermediate_values == {1: 0.25}
        assert [number for number, _ in search.ask(2)] == [3, 4]
        assert len(finish(search)) == search.total - 5


def test_runs_of_a_process_that_lives_are_left_to_it(grid, out):
    asked = grid()
    with other_process(out, "optuna", "wait") as process:
        theirs = [int(process.stdout.readline().split()[0]) for _ in range(3)]
        with Search(out, asked, "mae", search="optuna", prune="asha") as search:
            ours = [number for number, _ in search.ask(8)]
            assert (theirs, ours) == ([0, 1, 2], [3, 4, 5, 6, 7])
            assert not search.report(theirs[2], 1, 0.5), "results may come from any process"
            search.tell(theirs[2], 0.5, "complete")
            process.kill()
            process.communicate()
            assert [number for number, _ in search.ask(8)] == theirs[1:2]


def test_what_is_given_up_is_asked_again_as_far_as_is_wanted(grid, out):
    with Search(out, grid(), "mae", search="optuna") as search:
        given_up = search.ask(3)
    with Search(out, grid(), "mae", search="optuna") as search:
        assert search.ask(2) == given_up[:2]
        assert search.ask(1) == given_up[2:]
    assert not any((out / "study.owners").iterdir())


def test_a_trial_that_was_never_handed_out_is_not_counted(grid, out):
    with Search(out, grid(), "mae", search="optuna") as search:
        search._study.ask()
        search._study.enqueue_trial({})
        assert [number for number, _ in search.ask(2)] == [1, 2]
        assert search.left == 6
        assert values(search)[0] == ("FAIL", None)


def test_a_line_that_was_cut_off_is_removed(grid, out):
    with Search(out, grid(), "mae", search="optuna") as search:
        [(number, config)] = search.ask(1)
    journal = out / "study.log"
    whole = journal.read_bytes()
    journal.write_bytes(whole + whole.splitlines()[-1][:20])
    for _ in range(2):
        with Search(out, grid(), "mae", search="optuna") as search:
            assert search.ask(1) == [(number, config)]
    assert journal.read_bytes().startswith(whole + b"{")


@pytest.mark.parametrize(
    "content", [b"no study\n", b"{}\n", b"[]\n", b"\xff\n", b"[" * 100_000 + b"\n", b'{"op_code": 77}\n'], ids=range(6)
)
def test_what_is_no_study_is_refused(grid, out, content):
    out.mkdir()
    (out / "study.log").write_bytes(content * 2)
    with pytest.raises(InputError, match=r"study\.log: damaged, or not a study of Optuna \(.*\)\. Remove it to begin again\.$"):
        Search(out, grid(), "mae")


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ('"place":1', '"place":0', "the places of its trials are not 0, 1, 2, …"),
        ('"place":1', '"place":[]', "asked.place is not a whole number"),
        ('"run":', '"run_":', "asked.run is missing"),
        ('"owner":"', '"owner":"../', "trial 0 is not as this program notes it"),
        ('low\\": 1e-05', 'low\\": 1e-07', "trial 0 is not as this program notes it"),
        ('"train.warmup"', '"train.warnup"', "trial 0 is not as this program notes it"),
        ('"intermediate_value":0.5', '"intermediate_value":"0.5"', "trial 0 is not as this program notes it"),
        ('"completed_rung_0":0.5', '"completed_rung_0":{}', "trial 0 is not as this program notes it"),
        ('"metric":', '"metrics":', "what it was begun with is not in it"),
    ],
)
def test_a_study_with_trials_that_no_search_notes_is_refused(grid, out, old, new, why):
    with Search(out, grid(), "mae", search="optuna", prune="asha") as search:
        search.ask(3)
        search.report(0, 3, 0.5)
    journal = out / "study.log"
    content = journal.read_text()
    assert old in content
    journal.write_text(content.replace(old, new))
    with pytest.raises(InputError) as caught:
        Search(out, grid(), "mae", search="optuna", prune="asha")
    assert str(caught.value) == f"{journal}: damaged, or not a study of Optuna ({why}). Remove it to begin again."


@pytest.mark.parametrize(
    ("text", "metric", "search", "prune", "what"),
    [
        (f"random:{SPACE}", "corr", "optuna", None, "metric"),
        (f"random:{SPACE}", "mae", None, None, "--search"),
        (f"random:{SPACE}", "mae", "optuna", "asha", "--prune"),
        (f"fixed: {{train.average: 0.5}}\nrandom:{SPACE}", "mae", "optuna", None, "grid file"),
    ],
)
def test_a_study_of_another_sweep_is_refused(grid, out, text, metric, search, prune, what):
    with Search(out, grid(), "mae", search="optuna") as begun:
        begun.ask(1)
    with pytest.raises(InputError, match=rf"study\.log: was begun with another {what}\. Choose another --out\.$"):
        Search(out, grid(text), metric, search=search, prune=prune)


def test_what_cannot_be_searched_is_refused(grid, out, monkeypatch):
    with pytest.raises(InputError, match=r"grid\.yaml: --search optuna needs random: with a count and what to sample from\.$"):
        Search(out, grid("grid: {train.lr: [1, 2]}"), "mae", search="optuna")
    with pytest.raises(InputError, match=r"^Unknown search 'optun'\. Did you mean 'optuna'\? Available: optuna\.$"):
        Search(out, grid(), "mae", search="optun")
    with pytest.raises(InputError, match=r"^Unknown pruner 'ahsa'\. Did you mean 'asha'\? Available: asha\.$"):
        Search(out, grid(), "mae", prune="ahsa")
    with pytest.raises(InputError, match=r"^Unknown metric 'maee'\. Did you mean 'mae'\? "):
        Search(out, grid(), "maee")
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"^--search and --prune need Optuna, .*Install it: pip install '\.\[search\]'$"):
        Search(out, grid(), "mae")
    assert not out.exists()
