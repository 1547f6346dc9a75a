"""Recorded steps: the numbers of eager steps, bit for bit where a recording is replayed on a CPU (`tapes`), whatever the head."""

from collections.abc import Mapping
from functools import partial

import pytest
import torch
from caches import make_cache
from small_packs import TOGETHER, make_cache_for_packs, run, unlike
from sweeps import a_sweep, swept
from tapes import TapeRecorder

from data.errors import InputError
from heads.models.registry import HEADS
from heads.runs.config import make_config
from heads.runs.run_data import LoadedCache
from heads.training import packed_engine, single_engine
from heads.training.graphed_steps import GraphedSteps
from heads.training.loop import Run, train_runs
from heads.training.packed_engine import PackedEngine
from heads.training.single_engine import SingleEngine
from heads.training.steps import expect_steps

FEW_SHAPES = {
    "train.batch_size": 4,
    "train.length_multiple": 64,
    "train.max_epochs": 2,
    "train.patience": 2,
    "train.warmup": 0.0,
    "train.schedule": "constant",
}
EXACT_RATES = [{"train.lr": 2.0**-9}, {"train.lr": 2.0**-7}, {"train.lr": 2.0**-8}]
"""Learning rates that float32 holds, as recorded steps have them on the device."""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return make_cache_for_packs(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def tape(monkeypatch):
    """Recorders on a CPU in the place of CUDA graphs, while `tape` is called."""
    recorders = []

    def make_steps(config, device):
        recorders.append(TapeRecorder())
        return GraphedSteps(recorders[-1], device)

    def record(train):
        with monkeypatch.context() as patch:
            for module in (single_engine, packed_engine):
                patch.setattr(module, "make_steps", make_steps)
            return train(), recorders

    return record


def trained(loaded: LoadedCache, head: str, points: list[Mapping[str, object]]) -> list[Run]:
    """Train one run alone, or several as a pack."""
    runs = [run(loaded, head, {**point, **FEW_SHAPES, **rate}) for point, rate in zip(points, EXACT_RATES, strict=False)]
    engine = PackedEngine(runs) if len(runs) > 1 else SingleEngine(runs[0])
    failed = []
    train_runs(runs, engine, lambda run, error: failed.append(error))
    assert failed == [None] * len(runs)
    return runs


def assert_same(found: list[Run], expected: list[Run]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert [row["train_loss"] for row in one.history] == [row["train_loss"] for row in other.history]
        for name, value in other.best[other.config.train.select].items():
            assert torch.equal(one.best[one.config.train.select][name], value), name


@pytest.mark.parametrize("head", TOGETHER)
def test_recorded_steps_are_those_of_a_run(loaded, head, tape):
    """With dropout, and a learning rate and a random key of its own in every step."""
    train = partial(trained, loaded, head, [unlike(head)[2]])
    found, [recorder] = tape(train)
    assert (recorder.recorded, recorder.warmed_up) == (3, 3), "two shapes of batches, and the change of the parameters"
    assert recorder.replayed > 0
    assert_same(found, train())


@pytest.mark.parametrize("points", [[0, 2], [1, 2]], ids=["different options", "one resets its optimizer"])
def test_recorded_steps_are_those_of_a_pack(loaded, points, tape):
    train = partial(trained, loaded, "pre-fusion", [unlike("pre-fusion")[point] for point in points])
    found, recorders = tape(train)
    assert sum(recorder.replayed for recorder in recorders) > 0
    assert_same(found, train())


def test_gradients_accumulate_over_recorded_batches(loaded, tape):
    train = partial(trained, loaded, "pre-fusion", [{"train.accumulate": 2, "train.reset_optimizer": True}])
    found, _ = tape(train)
    assert_same(found, train())


@pytest.mark.parametrize("head", sorted(set(HEADS) - set(TOGETHER)))
def test_a_head_that_cannot_be_recorded_says_so(head):
    config = make_config(head, "mosi", changes={"train": {"step": "graphed"}})
    if HEADS[head].simple:
        expect_steps(config, "cpu")  # there are no steps
        return
    with pytest.raises(
        InputError, match=rf"^train\.step is graphed, but steps of {head} cannot be recorded: .* Choose train\.step=eager; "
    ):
        expect_steps(config, "cuda")


def test_a_cpu_has_no_graphs_and_a_sweep_says_so_before_it_trains(tmp_path):
    message = r"^train\.step is graphed, which needs a CUDA device, not cpu\. Choose train\.step=eager\.$"
    loaded = make_cache_for_packs(tmp_path / "cache")
    with pytest.raises(InputError, match=message):
        SingleEngine(run(loaded, "pre-fusion", {"train.step": "graphed"}))
    made = a_sweep(make_cache(tmp_path / "other"), tmp_path, grid={"train.step": ["eager", "graphed"]})
    with pytest.raises(InputError, match=message):
        swept(made)
    assert not any(made.trials.iterdir())


def test_eager_is_the_default_and_not_in_the_key():
    assert "step" not in make_config("mmolre", "mosi").as_dict()["train"]
    graphed = make_config("mmolre", "mosi", changes={"train": {"step": "graphed"}})
    assert graphed.as_dict()["train"]["step"] == "graphed"
    assert graphed.key() != make_config("mmolre", "mosi").key()


@pytest.mark.gpu
@pytest.mark.parametrize("head", TOGETHER)
@pytest.mark.parametrize("count", [1, 3])
def test_cuda_graphs_are_the_eager_steps(loaded, head, count):
    there = LoadedCache(loaded.cache, torch.device("cuda"))
    points = [{**point, "train.precision": "float32"} for point in unlike(head)[3 - count :]]
    eager, graphed = (trained(there, head, [{**point, "train.step": step} for point in points]) for step in ("eager", "graphed"))
    for one, other in zip(graphed, eager, strict=True):
        losses = [[row["train_loss"] for row in each.history] for each in (one, other)]
        torch.testing.assert_close(*map(torch.tensor, losses), rtol=1e-4, atol=0)
