"""Packs: each run of a pack gives the result that it gives alone, whatever the others do, and goes on from where it was saved."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_packs import TOGETHER, UNLIKE, make_cache_for_packs, run, signature_of, unlike
from torch import Tensor

from data.errors import InputError
from heads.evaluation.predictions import Predictions, predict
from heads.models import options
from heads.runs.build import build_head
from heads.runs.run_data import LoadedCache
from heads.training import loop
from heads.training.loop import Engine, Run
from heads.training.packed_engine import PackedEngine
from heads.training.single_engine import SingleEngine


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return make_cache_for_packs(tmp_path_factory.mktemp("cache"))


def go(runs: Sequence[Run], engine: Engine, advance: Callable[[int, str], None] = lambda steps, note: None) -> dict[int, str]:
    """Train runs to their ends; return the seeds and errors of those that failed."""
    failed = {}

    def on_end(run: Run, error: InputError | None) -> None:
        if error is not None:
            failed[run.config.seed] = str(error)

    loop.train_runs(runs, engine, on_end, advance=advance)
    return failed


def alone(runs: Sequence[Run]) -> list[Run]:
    """Train the same runs again, each by itself."""
    again = [Run(run.config, run.tensors, run.folder) for run in runs]
    for one in again:
        assert go([one], SingleEngine(one)) == {}
    return again


def predicted(run: Run) -> Predictions:
    """Predict the validation rows by the chosen epoch."""
    head = build_head(run.config, run.tensors)
    head.load_state_dict(run.best[run.config.train.select])
    return predict(head, run.tensors, run.valid_rows, 8)


def assert_equal(found: Sequence[Run], expected: Sequence[Run]) -> None:
    """Check that runs gave the same values in every epoch, the same predictions, and the same parameters with a gradient."""
    for one, other in zip(found, expected, strict=True):
        assert one.selection.best.keys() == other.selection.best.keys()
        columns = [name for name in ("train_loss", "valid_loss", "valid_mae") if name in other.history[0]]
        values = [[[row[name] for name in columns] for row in each.history] for each in (one, other)]
        np.testing.assert_allclose(*values, rtol=1e-4)
        for field in ("sentiment", "emotion_logits"):
            if (wanted := getattr(predicted(other), field)) is not None:
                np.testing.assert_allclose(getattr(predicted(one), field), wanted, rtol=1e-4, atol=1e-4)
        for criterion, parameters in other.best.items():
            assert_parameters_equal(one.best[criterion], parameters)


def assert_parameters_equal(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Check parameters, but for those whose gradient is zero or nearly so, because Adam takes full steps for them too: softmax cancels
    the bias of keys, and a router that keeps one expert and makes its gate 1 has nothing to learn."""
    assert found.keys() == expected.keys()
    for name, wanted in expected.items():
        if "routers." not in name and not name.endswith("key.bias"):
            torch.testing.assert_close(found[name], wanted, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("head", TOGETHER)
def test_a_run_of_a_pack_comes_to_what_it_comes_to_alone(loaded, head):
    runs = [run(loaded, head, changes) for changes in unlike(head)]
    assert len({signature_of(one) for one in runs}) == 1
    pack = PackedEngine(runs)
    assert any(rate > 0 for name, rate in options.flat(runs[0].config.model) if name.endswith("dropout"))
    assert go(runs, pack) == {}
    assert_equal(runs, alone(runs))
    assert [one.epoch for one in runs] == [1, 2, 2]


def test_finished_runs_leave_the_pack(loaded):
    """One run stops because its patience ends, another has fewer epochs; the pack shrinks."""
    stuck = {"train.lr": 1e-12, "train.patience": 1, "train.select": "acc7"}
    points = [{"seed": 1, **stuck}, {"seed": 2, "train.max_epochs": 3}, {"seed": 3, "train.max_epochs": 5}]
    runs = [run(loaded, changes={"train.max_epochs": 5, **point}) for point in points]
    pack, sizes = PackedEngine(runs), []
    go(runs, pack, lambda steps, note: sizes.append((len(pack.flat), len(pack.runs), len(pack.emotions))) if steps else None)
    per_epoch = runs[0].steps_per_epoch
    assert [len(one.history) for one in runs] == [2, 3, 5]
    assert sizes == [(size,) * 3 for size in (3, 3, 2, 1, 1) for _ in range(per_epoch)]
    assert_equal(runs, alone(runs))


def test_progress_counts_the_steps_of_all_runs(loaded):
    runs = [run(loaded, changes={"seed": seed, "train.max_epochs": epochs}) for seed, epochs in ((1, 1), (2, 3))]
    steps = []
    go(runs, PackedEngine(runs), lambda done, note: steps.append(done))
    assert sum(steps) == 4 * runs[0].steps_per_epoch


def test_a_share_of_modules_is_kept(loaded):
    """A module that a head has under two names is one in a pack, too, and has two names in its checkpoint."""
    shared = {"model.share_modalities": True, "model.fusion.share_directions": True, "train.average": 0.5}
    runs = [run(loaded, "mmolre", {**shared, "seed": seed}) for seed in (1, 2)]
    pack = PackedEngine(runs)
    assert len(pack.shapes) < len(build_head(runs[0].config, runs[0].tensors).state_dict())
    go(runs, pack)
    expected = alone(runs)
    assert_equal(runs, expected)
    for one, other in zip(runs, expected, strict=True):
        assert one.best["loss"].keys() == other.best["loss"].keys()
        twice = [name for name in one.best["loss"] if name.startswith("mixtures.text.")]
        assert twice
        assert all(torch.equal(one.best["loss"][name], one.best["loss"][name.replace(".text.", ".audio.")]) for name in twice)


def test_what_all_runs_have_is_what_it_is_alone(loaded):
    """There are enough epochs for learning rates to fall and patience to run out."""
    same = {"train.accumulate": 2, "train.optimizer": "adam", "data.like_lengths": False, "train.max_epochs": 6, "train.patience": 3}
    runs = [run(loaded, changes={**point, **same, "train.lr": 0.05}) for point in UNLIKE]
    go(runs, PackedEngine(runs))
    assert_equal(runs, alone(runs))


class Stop(Exception):
    """Stands for whatever ends a process."""


def stop_after(epochs: int, runs: Sequence[Run]) -> Callable[[int, str], None]:
    """End training in the epoch after this one."""

    def advance(steps: int, note: str) -> None:
        if steps and runs[0].epoch == epochs:
            raise Stop

    return advance


def interrupted(loaded: LoadedCache, tmp_path) -> list[Run]:
    """Make three unlike runs of mmolre with folders, none of them short."""
    points = [{**point, "train.max_epochs": 3} for point in unlike("mmolre")]
    return [run(loaded, "mmolre", point, tmp_path / str(number)) for number, point in enumerate(points)]


def stopped_after_one_epoch(runs: Sequence[Run], engine: Engine, monkeypatch) -> None:
    """Train runs for one epoch and stop after they were saved."""
    with monkeypatch.context() as patch:
        patch.setattr(loop, "SAVE_EVERY_S", 0.0)
        with pytest.raises(Stop):
            go(runs, engine, stop_after(1, runs))


@pytest.fixture(scope="module")
def undisturbed(loaded) -> list[Run]:
    """The same runs, each trained by itself without an interruption."""
    return alone([run(loaded, "mmolre", {**point, "train.max_epochs": 3}) for point in unlike("mmolre")])


def test_what_a_pack_saved_goes_on_alone(loaded, tmp_path, monkeypatch, undisturbed):
    runs = interrupted(loaded, tmp_path)
    stopped_after_one_epoch(runs, PackedEngine(runs), monkeypatch)
    again = [Run(one.config, one.tensors, one.folder) for one in runs]
    for one in again:
        seen: list[int] = []
        go([one], SingleEngine(one), lambda steps, note, seen=seen: seen.append(steps))
        assert (seen[0], sum(seen)) == (one.steps_per_epoch, one.epoch * one.steps_per_epoch), "the first epoch was there"
    assert_equal(again, undisturbed)


def test_what_was_saved_alone_goes_on_in_a_pack(loaded, tmp_path, monkeypatch, undisturbed):
    runs = interrupted(loaded, tmp_path)
    for one in runs:
        stopped_after_one_epoch([one], SingleEngine(one), monkeypatch)
    again = [Run(one.config, one.tensors, one.folder) for one in runs]
    assert [one.folder.saved_epochs for one in again] == [1, 1, 1]
    seen: list[int] = []
    assert go(again, PackedEngine(again), lambda steps, note: seen.append(steps)) == {}
    assert seen[0] == 3 * runs[0].steps_per_epoch
    assert_equal(again, undisturbed)


def test_all_runs_of_a_pack_are_saved_after_the_same_epoch(loaded, tmp_path):
    """One run that is due for saving is enough."""
    runs = interrupted(loaded, tmp_path)
    runs[1].saved_at -= loop.SAVE_EVERY_S
    with pytest.raises(Stop):
        go(runs, PackedEngine(runs), stop_after(1, runs))
    assert [one.folder.saved_epochs for one in runs] == [1, 1, 1]


def test_a_run_that_diverges_fails_by_itself(loaded):
    points = [{"seed": 1, "train.lr": 0.003}, {"seed": 2, "train.lr": 1e30, "train.average": 0.5}, {"seed": 3, "train.average": 0.5}]
    runs = [run(loaded, changes=point) for point in points]
    failed = go(runs, PackedEngine(runs))
    assert failed.keys() == {2}
    assert re.match(r"^Epoch \d: the validation loss is not finite\. Lower train\.lr \(1e\+30\)", failed[2])
    well = [runs[0], runs[2]]
    assert_equal(well, alone(well))


def test_training_a_pack_in_bfloat16_is_near_training_it_in_float32(loaded):
    losses = []
    for precision in ("float32", "bfloat16"):
        runs = [run(loaded, changes={"seed": seed, "train.precision": precision, "train.lr": 0.002}) for seed in (1, 2)]
        go(runs, PackedEngine(runs))
        losses.append([[row["valid_loss"] for row in one.history] for one in runs])
        assert {str(value.dtype) for one in runs for value in one.best["loss"].values()} == {"torch.float32"}
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.05)
    assert not np.array_equal(losses[1], losses[0])


def test_a_pack_starts_from_the_seeds_of_its_runs(loaded):
    first = run(loaded, "mmolre", {"seed": 4})
    runs = [first, Run(replace(first.config, seed=5), first.tensors, first.folder)]
    torch.manual_seed(99)
    pack = PackedEngine(runs)
    for number, one in enumerate(runs):
        expected = build_head(one.config, one.tensors).state_dict()
        found = pack.parameters(number)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
