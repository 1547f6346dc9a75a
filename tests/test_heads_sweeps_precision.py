"""The precision of a sweep's trials: tf32 on CUDA, noted in the folder, so that later calls on any machine mean the same trials."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from caches import make_cache
from sweeps import a_sweep, call_sweep, folders, swept

from data.errors import InputError
from heads.sweeps import precision
from heads.sweeps.parts import Part, configs_of, opened_part
from heads.sweeps.sweep import open_trials, opened


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("cache"), utterances=24)


@pytest.fixture
def on_cuda(monkeypatch):
    """A machine with a GPU, as far as the choice of a device goes."""
    monkeypatch.setattr(precision, "choose_device", lambda name: torch.device("cuda" if name == "auto" else name))


def test_it_follows_from_the_device_of_the_first_call(tmp_path, on_cuda):
    of_sweep = partial(precision.of_sweep, tmp_path / "sweep")
    found = [of_sweep(*asked) for asked in (("local", "auto"), ("local", "cuda:1"), ("local", "cpu"), ("ray", "cuda"), ("ray", "cpu"))]
    assert found == ["tf32", "tf32", "float32", "tf32", "float32"]


def test_a_cluster_with_gpus_needs_none_here(tmp_path):
    assert precision.of_sweep(tmp_path, "ray", "cuda") == "tf32"


def test_later_calls_on_another_machine_mean_the_trials_of_the_first(cache, tmp_path, on_cuda):
    made = a_sweep(cache, tmp_path, seeds=[1, 2], grid={"train.precision": ["auto", "bfloat16", "tf32"]})
    begun = replace(made, precision="tf32")
    swept(begun, size=1)
    assert precision.of_sweep(begun.folder, "local", "cpu") == "tf32"
    configs = [folder.config()["config"]["train"]["precision"] for folder in folders(begun)]
    assert sorted(configs) == ["bfloat16", "bfloat16", "tf32", "tf32"], "auto is tf32 here"
    assert all(trial.folder.is_complete for trial in open_trials(begun, made.grid.configs()))
    assert not all(trial.folder.is_complete for trial in open_trials(made, made.grid.configs())), "float32 would be other trials"


def test_trials_without_a_note_are_in_float32(cache, tmp_path, on_cuda):
    """They are of a CPU, or of a program that had no other default."""
    made = a_sweep(cache, tmp_path, seeds=[1])
    swept(made)
    assert precision.of_sweep(made.folder, "local", "auto") == "float32"
    assert not (made.folder / precision.NOTE).exists()


def test_the_command_trains_and_records_it(cache, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(precision, "default_precision", lambda device: "tf32")
    assert call_sweep(capsys, cache, tmp_path, seeds=[1])[0] == 0
    monkeypatch.undo()
    status, output, _ = call_sweep(capsys, cache, tmp_path, seeds=[1])
    assert (status, "1 trials, 1 of them over" in output) == (0, True)
    [path] = (tmp_path / "sweep" / "trials").iterdir()
    assert '"precision": "tf32"' in (path / "config.json").read_text()


def test_two_first_calls_that_differ_do_not_mix(cache, tmp_path):
    made = a_sweep(cache, tmp_path, seeds=[1, 2])
    with opened(replace(made, precision="tf32")):
        pass
    part = Part(1, 2)
    with pytest.raises(InputError) as error, opened_part(made, part, configs_of(made, part)):
        pass
    assert str(error.value) == (
        f"{made.folder}: another process has begun this sweep in tf32, not float32. Run the same command again."
    )


@pytest.mark.parametrize(("content", "message"), [(b"half\n", "holds 'half', expected one of "), (b"\xff", "damaged. It has to hold ")])
def test_a_damaged_note_is_refused(tmp_path, content, message):
    (tmp_path / precision.NOTE).write_bytes(content)
    with pytest.raises(InputError) as error:
        precision.of_sweep(tmp_path, "local", "cpu")
    assert str(error.value).startswith(f"{tmp_path / precision.NOTE}: {message}")
