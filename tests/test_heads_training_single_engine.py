"""The engine of one run: clipping, the moving average, and the requests of heads: stages, own learning rates, memories."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import small_runs
import torch
from caches import make_cache
from small_heads import small_options
from torch import nn

from heads.runs.config import make_config
from heads.runs.folder import RunFolder
from heads.runs.run_data import open_run_data
from heads.training.loop import Run, train_runs
from heads.training.packed_engine import PackedEngine
from heads.training.single_engine import SingleEngine


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("cache"), utterances=24)


def trained(cache, tmp_path, name: str, epochs: int, spy: Callable[[SingleEngine], None] = lambda engine: None) -> SingleEngine:
    """Train a small head by preset native for some epochs of two batches a pass."""
    changes = {"model": small_options(name), "train": {"batch_size": 8, "accumulate": 1, "max_epochs": epochs, "patience": epochs}}
    made = open_run_data(make_config(name, "mosi", "native", changes), cache, torch.device("cpu"))
    engine = SingleEngine(Run(made.config, made.tensors, RunFolder(tmp_path)))
    spy(engine)
    train_runs([engine.run], engine, lambda run, error: None)
    return engine


def test_self_mm_makes_labels_from_the_second_epoch_on(cache, tmp_path):
    engines = [trained(cache, tmp_path / str(epochs), "self-mm", epochs) for epochs in (1, 3)]
    (one, three), rows = (engine.head.memories for engine in engines), engines[0].run.rows
    assert one["text"].features.any(1).nonzero().flatten().tolist() == rows.tolist()
    for modality in ("text", "audio"):
        assert torch.equal(one[modality].labels[rows], one["fusion"].labels[rows])
        assert ((three[modality].labels - three["fusion"].labels)[rows].abs() > 1e-3).any()
    assert torch.equal(three["fusion"].labels[rows], one["fusion"].labels[rows]), "the fused branch learns what was labelled"


@pytest.mark.parametrize(("name", "option", "factor"), [("self-mm", "audio_lr_factor", 5.0), ("unimse-head", "encoder_lr_factor", 3.0)])
def test_parameters_learn_at_the_rate_that_the_head_asks_for(cache, tmp_path, name, option, factor):
    changes = {"model": {**small_options(name), option: factor}, "train": {"batch_size": 8, "max_epochs": 1}}
    made = open_run_data(make_config(name, "mosi", "native", changes), cache, torch.device("cpu"))
    engine = SingleEngine(Run(made.config, made.tensors, RunFolder(tmp_path)))
    engine.step([0.5])
    names = {parameter: name for name, parameter in engine.head.named_parameters()}
    rates = {names[parameter]: group["lr"] for group in engine.optimizer.param_groups for parameter in group["params"]}
    assert rates == {one: 0.5 * engine.head.lr_factor(one) for one in names.values()}
    assert set(rates.values()) == {0.5, 0.5 * factor}


def test_each_pass_of_mmim_changes_its_own_parameters_and_batches_are_remembered(cache, tmp_path):
    """Between the starts of two passes, only parameters that the first of them trains change."""
    seen = []

    def spy(engine: SingleEngine) -> None:
        begin = engine.begin

        def noted(stage: str, epochs: list[int]) -> None:
            seen.append((stage, [*epochs], {name: value.detach().clone() for name, value in engine.head.named_parameters()}))
            begin(stage, epochs)

        engine.begin = noted

    engine = trained(cache, tmp_path, "mmim", 3, spy)
    stages = engine.head.stages
    assert [(stage, epochs) for stage, epochs, _ in seen] == [(stage, [epoch]) for epoch in (1, 2, 3) for stage in stages]
    for (stage, _, before), (_, _, after) in pairwise(seen):
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        trains = {name for name in before if engine.head.trains(name, stage)}
        assert changed
        assert changed <= trains
        assert {name.startswith("mi_") for name in changed} == {stage == stages[0]}
    assert engine.head.memory, "batches before, for the entropy"


def engine_of(cache, folder, changes) -> SingleEngine:
    made = small_runs.run_data(cache, changes=changes)
    return SingleEngine(Run(made.config, made.tensors, RunFolder(folder)))


def go(one: SingleEngine, advance: Callable[[int, str], None] = lambda steps, note: None) -> None:
    """Train a run to its end and write nothing."""
    train_runs([one.run], one, lambda run, error: None, advance=advance)


def test_gradients_are_clipped(cache, tmp_path):
    def moved(clip_norm: float | None) -> float:
        one = engine_of(cache, tmp_path, {"train.clip_norm": clip_norm, "train.max_epochs": 1, "train.batch_size": 24})
        before = nn.utils.parameters_to_vector(one.head.parameters()).detach().clone()
        one.optimizer = torch.optim.SGD(one.head.parameters(), lr=1.0)
        go(one)
        return float((nn.utils.parameters_to_vector(one.head.parameters()).detach() - before).norm())

    rate = small_runs.config(changes={"train.batch_size": 24}).train.lr
    assert moved(0.25) == pytest.approx(rate * 0.25, rel=1e-3)
    assert moved(None) > 2 * rate * 0.25


def test_the_moving_average_is_what_is_kept(cache, tmp_path):
    one, seen = engine_of(cache, tmp_path, {"train.average": 0.75, "train.max_epochs": 2}), []

    def look(steps: int, note: str) -> None:
        if steps == 1:
            seen.append(nn.utils.parameters_to_vector(one.head.parameters()).detach().clone())

    go(one, look)
    expected = seen[0]
    for parameters in seen[1:]:
        expected = 0.75 * expected + 0.25 * parameters
    torch.testing.assert_close(nn.utils.parameters_to_vector(one.shown.parameters()), expected)
    assert one.shown is not one.head
    assert engine_of(cache, tmp_path, {"train.average": 0}).average is None


@pytest.mark.parametrize("engine", [SingleEngine, lambda run: PackedEngine([run])])
def test_a_state_without_buffers_that_follow_from_the_options_is_gone_on_with(cache, tmp_path, engine):
    """Those that an earlier version saved have no thresholds of dropout."""
    run = engine_of(cache, tmp_path, {"model.output_dropout": 0.25}).run
    saved = {name: value.clone() for name, value in engine(run).state(0).items() if "threshold" not in name and "scale" not in name}
    saved = {name: value + 1 if name.endswith(".weight") else value for name, value in saved.items()}
    other = engine(run)
    other.load(0, saved)
    found = other.state(0)
    assert found.keys() - saved.keys() == {
        name.replace(".rate", f".{part}") for name in saved if ".rate" in name for part in ("threshold", "scale")
    }
    assert all(torch.equal(found[name], value) for name, value in saved.items())
    assert {value.item() for name, value in found.items() if name.endswith("outputs.msa.0.threshold")} == {-(2**14)}
