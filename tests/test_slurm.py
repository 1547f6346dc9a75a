"""The scripts of docs/slurm do on a real Slurm what docs/slurm.md says: `pytest -m slurm`.

Builds by srun and by array end with the cache of a plain build. The parts of a sweep are trained once each and make the table of a
plain sweep. A job that gets USR1 saves, queues again and goes on.
"""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import slurm as slurms
from caches import make_cache
from crash import content
from projects import Project
from sweeps import a_grid, folders, history, swept, times

from heads.runs.folder import run_folder
from heads.sweeps.parts import Part, configs_of
from heads.sweeps.results.trials import collect
from heads.sweeps.sweep import Sweep

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(3 * slurms.LIMIT_S)]

GRID = {"grid": {"train.lr": [0.01, 0.003], "model.fusion.ffn": [8, 9]}, "seeds": [1, 2]}
LONG = {"fixed": {"train.max_epochs": 300, "train.patience": 300}, "seeds": [1]}
"""One trial that takes some seconds."""

SMALL_JOB = ("--cpus-per-task=1", "--time=30")


@pytest.fixture(scope="module")
def slurm() -> Iterator[slurms.Slurm]:
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)
    started = slurms.Slurm(folder)
    yield started
    started.stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("cache"), utterances=30)


def logs(folder: Path) -> str:
    return "\n".join(path.read_text() for path in sorted(folder.glob("*.log")))


def made_sweep(folder: Path, cache: Path, **sections: object) -> Sweep:
    return Sweep(a_grid(folder, **sections), cache, folder / "sweep", "mae")


def sweep_arguments(made: Sweep) -> tuple[object, ...]:
    return made.grid.path, "--cache", made.cache, "--out", made.folder, "--devices", "cpu"


def test_a_build_with_luigid_that_is_queued_again_ends_like_a_plain_build(slurm, project: Project, finished: Project):
    job = slurm.submit("build.sbatch", "--workers", 2, folder=project.root, options=("--nodes=1", *SMALL_JOB))
    shards = project.cache / "shards"
    slurm.until(lambda: list(shards.rglob("*.h5")))
    slurm.signal(job, "USR1")
    assert slurm.go_on(job), logs(project.root)
    assert "interrupted (SIGUSR1): what was in hand is finished; the same command goes on." in logs(project.root)
    assert slurm.ended(job) == ["COMPLETED"], logs(project.root)
    assert slurm.restarts(job) == 1
    assert "BuildFeatures: computed" in logs(project.root)
    assert content(project.cache) == content(finished.cache)


def test_an_array_without_a_scheduler_ends_like_a_plain_build(slurm, project: Project, finished: Project):
    job = slurm.submit("build_array.sbatch", folder=project.root, options=("--array=1-3", *SMALL_JOB))
    assert slurm.ended(job) == ["COMPLETED"] * 3, logs(project.root)
    assert content(project.cache) == content(finished.cache)


def test_the_parts_of_a_sweep_are_trained_once_and_merged_and_only_the_one_with_usr1_queues_again(slurm, cache, tmp_path):
    """It is the last part that is stopped: its job has the number of the whole array."""
    made = made_sweep(tmp_path, cache, fixed={"train.max_epochs": 100, "train.patience": 100}, **GRID)
    parts = slurm.submit("sweep_array.sbatch", *sweep_arguments(made), folder=tmp_path, options=("--array=1-3", *SMALL_JOB), PARTS="3")
    options = (f"--dependency=afterany:{parts}", *SMALL_JOB)
    merging = slurm.submit("sweep.sbatch", *sweep_arguments(made), folder=tmp_path, options=options)
    last = [run_folder(config, made.trials) for config in configs_of(made, Part(3, 3))]
    slurm.until((last[0].path / "config.json").exists)
    slurm.signal(f"{parts}_3", "USR1")
    assert slurm.go_on(f"{parts}_3"), logs(tmp_path)
    assert slurm.ended(parts) == ["COMPLETED"] * 3, logs(tmp_path)
    assert [slurm.restarts(f"{parts}_{number}") for number in (1, 2, 3)] == [0, 0, 1]
    trained = times(made)
    assert len(trained) == 8
    assert slurm.ended(merging) == ["COMPLETED"], logs(tmp_path)
    assert times(made) == trained, "nothing is trained twice"
    said = logs(tmp_path)
    begun = {line.partition(", part ")[2] for line in said.splitlines() if ", part " in line}
    assert begun >= {"1/3: 2 trials, 0 of them over", "2/3: 3 trials, 0 of them over", "3/3: 3 trials, 0 of them over"}
    assert f"{made.folder}: 8 trials, 8 of them over\n" in said
    table = pd.read_parquet(made.folder / "trials.parquet")
    assert (table["status"].tolist(), (made.folder / "report.html").is_file()) == (["complete"] * 8, True)
    alone = Sweep(made.grid, cache, tmp_path / "alone", "mae")
    swept(alone, size=None)
    pd.testing.assert_series_equal(table["valid.mae"], collect(alone.folder)["valid.mae"])


def test_a_sweep_that_gets_usr1_saves_queues_again_and_goes_on(slurm, cache, tmp_path):
    made = made_sweep(tmp_path, cache, **LONG)
    job = slurm.submit("sweep.sbatch", *sweep_arguments(made), folder=tmp_path, options=SMALL_JOB)
    slurm.until(lambda: list(made.folder.glob("trials/*/config.json")))
    slurm.signal(job, "USR1")
    assert slurm.go_on(job), logs(tmp_path)
    [folder] = folders(made)
    saved = folder.saved_epochs
    assert 0 < saved < 300
    assert "Stopped by SIGUSR1. The same command goes on where it was saved." in logs(tmp_path)
    assert slurm.ended(job) == ["COMPLETED"], logs(tmp_path)
    assert slurm.restarts(job) == 1
    alone = Sweep(made.grid, cache, tmp_path / "alone", "mae")
    swept(alone, size=None)
    [undisturbed] = folders(alone)
    assert (folder.path / "metrics.json").read_bytes() == (undisturbed.path / "metrics.json").read_bytes()
    pd.testing.assert_frame_equal(history(folder), history(undisturbed))


def test_a_sweep_on_ray_trains_every_trial(slurm, cache, tmp_path):
    made = made_sweep(tmp_path, cache, seeds=[1, 2])
    options = ("--nodes=1", "--cpus-per-task=2", "--time=30")
    job = slurm.submit("sweep_ray.sbatch", *sweep_arguments(made), folder=tmp_path, options=options)
    assert slurm.ended(job) == ["COMPLETED"], logs(tmp_path)
    assert "Ray: 2 × cpu" in logs(tmp_path)
    assert [folder.is_complete for folder in folders(made)] == [True, True]
