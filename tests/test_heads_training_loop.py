"""The training loop: the influences on a run, and going on after an interruption."""

import itertools
import re
import signal
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import small_runs
import torch
from caches import make_cache
from feature_files import replace_values
from projects import finish, forked

from data import tensors as data_tensors
from data.cache import open_corpus
from data.errors import InputError
from data.labels import EMOTIONS
from data.manifest import read_manifest, write_manifest
from heads.evaluation.predictions import predict, scores
from heads.runs.build import build_head
from heads.runs.folder import RunFolder, run_folder
from heads.runs.run_data import RunData
from heads.training import loop
from heads.training.fit import fit
from heads.training.loop import Run
from heads.training.single_engine import SingleEngine
from pipeline.settings import CHECKOUT

RESULTS = ("metrics.json", "checkpoint.safetensors", "best-mae.safetensors", "predictions.parquet")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("cache"), utterances=48)


@pytest.fixture
def copy(tmp_path):
    """A copy of the cache that a test may change."""
    return make_cache(tmp_path / "copy", utterances=48)


def results(folder: RunFolder) -> dict[str, bytes]:
    return {name: (folder.path / name).read_bytes() for name in RESULTS}


def history(folder: RunFolder) -> pd.DataFrame:
    return pd.read_csv(folder.path / "history.csv").drop(columns="seconds")


def engine(made: RunData, path) -> SingleEngine:
    return SingleEngine(Run(made.config, made.tensors, RunFolder(path)))


def go(one: SingleEngine, advance: Callable[[int, str], None] = lambda steps, note: None) -> None:
    """Train a run to its end and write nothing."""
    loop.train_runs([one.run], one, lambda run, error: None, advance=advance)


@pytest.fixture(scope="module")
def undisturbed(cache, tmp_path_factory):
    """A complete run of pre-fusion; tests must not change it."""
    return small_runs.run(cache, tmp_path_factory.mktemp("runs"))


def test_a_run_again_gives_the_same_bytes(cache, tmp_path, undisturbed):
    torch.manual_seed(99)
    before = torch.get_rng_state()
    again, other = (small_runs.run(cache, tmp_path, changes={"seed": seed}) for seed in (1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert results(again) == results(undisturbed)
    assert history(again).equals(history(undisturbed))
    assert not set(results(other).values()) & set(results(again).values())


def interrupt(after: int) -> Callable[[int, str], None]:
    """Stop a run at its progress call of this number, from 0; there is one call at the start, one a step and one an epoch."""
    calls = itertools.count()

    def advance(steps: int, note: str) -> None:
        if next(calls) == after:
            raise KeyboardInterrupt

    return advance


@pytest.mark.parametrize(
    ("head", "changes"),
    [("pre-fusion", {}), ("mmolre", {"train.accumulate": 2, "train.average": 0.5, "model.share_modalities": True})],
)
def test_an_interrupted_run_ends_as_if_it_had_not_been(cache, tmp_path, monkeypatch, head, changes):
    monkeypatch.setattr(loop, "SAVE_EVERY_S", 0.0)
    expected = small_runs.run(cache, tmp_path / "whole", head, changes)
    made = small_runs.run_data(cache, head, changes)
    folder, seen = run_folder(made.config, tmp_path / "parts"), []
    steps = 2 if changes else 3
    for calls in (0, 2, steps + 2, steps + 2):  # at the start, in epoch 1, at the end of epochs 1 and 2: what was resumed, too
        with pytest.raises(KeyboardInterrupt):
            fit(made, folder, interrupt(calls))
        assert not folder.is_complete
    fit(made, folder, lambda steps, note: seen.append(steps))
    assert (seen[0], sum(seen)) == (2 * steps, 3 * steps)
    assert results(folder) == results(expected)
    assert history(folder).equals(history(expected))
    assert not (folder.path / "state.safetensors").exists()


KILLED = """
import os, signal, sys
from pathlib import Path
from heads.training import loop
from heads.__main__ import main

saves, write_bytes = [], Path.write_bytes

def write_and_die(path, content):
    saves.append(path)
    if len(saves) == 2:
        write_bytes(path, content[:1000])
        os.kill(os.getpid(), signal.SIGKILL)
    write_bytes(path, content)

loop.SAVE_EVERY_S, Path.write_bytes = 0.0, write_and_die
sys.exit(main(sys.argv[1:]))
"""
"""Dies while it writes down where it stands after the second epoch."""


def test_a_killed_run_goes_on(cache, tmp_path, undisturbed):
    killed = finish(forked("-c", KILLED, *small_runs.command(cache, tmp_path), cwd=CHECKOUT))
    assert killed.returncode == -signal.SIGKILL
    (path,) = tmp_path.iterdir()
    left = sorted(re.sub("~.*", "", name.name) for name in path.iterdir())
    assert left == [".state.safetensors.tmp", "config.json", "state.safetensors"]
    made, seen = small_runs.run_data(cache), []
    fit(made, RunFolder(path), lambda steps, note: seen.append(steps))
    assert (seen[0], sum(seen)) == (3, 9)
    assert results(RunFolder(path)) == results(undisturbed)
    assert sorted(name.name for name in path.iterdir()) == sorted(name.name for name in undisturbed.path.iterdir())


def test_streamed_features_give_the_same_bytes(cache, tmp_path, monkeypatch, undisturbed):
    monkeypatch.setattr(data_tensors, "free_bytes", lambda device: 1000)
    made = small_runs.run_data(cache)
    assert made.tensors.is_streamed
    folder = run_folder(made.config, tmp_path)
    fit(made, folder)
    assert results(folder) == results(undisturbed)


@pytest.mark.parametrize("count", [24, 22, 19])
def test_accumulated_batches_are_one_large_batch(cache, tmp_path, count):
    """24 utterances are whole steps; 22 end in batches of 4 and 2, 19 in one of 3."""
    still = {"model.output_dropout": 0, "model.fusion.dropout": 0, "model.fusion.attention_dropout": 0, "model.input_dropout": 0}
    still |= {"data.like_lengths": False, "train.max_epochs": 1, "model.adapter": "norm"}
    found = {}
    for size, accumulate in ((8, 1), (4, 2)):
        made = small_runs.run_data(cache, changes={**still, "train.batch_size": size, "train.accumulate": accumulate})
        one = engine(made, tmp_path / str(size))
        one.run.rows, one.run.steps_per_epoch = one.run.rows[:count], 3
        one.optimizer = torch.optim.SGD(one.head.parameters())  # Adam's first step is the sign of a gradient, rounding errors included
        go(one)
        found[size] = one
    start = build_head(made.config, made.tensors).state_dict()
    for (name, large), (_, small) in zip(found[8].head.state_dict().items(), found[4].head.state_dict().items(), strict=True):
        torch.testing.assert_close(small, large, rtol=1e-4, atol=1e-6, msg=name)
    assert not torch.equal(start["fusions.msa.cls.text"], found[8].head.state_dict()["fusions.msa.cls.text"])
    assert found[4].run.history[0]["train_loss"] == pytest.approx(found[8].run.history[0]["train_loss"], rel=1e-5)


def change_test_split(cache) -> None:
    """Replace the labels and features of every utterance of the test split."""
    corpus = open_corpus(cache, "mosi")
    table = read_manifest(corpus.manifest)
    is_test = table["split"] == "test"
    table.loc[is_test, ["sentiment", *EMOTIONS]] = [-3.0, 3.0, 0.0, 3.0, 0.0, 3.0, 3.0]
    write_manifest(corpus.manifest, table, {"corpus": "mosi"})
    for path in corpus.features.values():
        replace_values(path, np.flatnonzero(is_test), 7)


def test_the_test_split_has_no_part_in_a_fit(cache, copy, tmp_path, undisturbed):
    change_test_split(copy)
    assert results(small_runs.run(copy, tmp_path)) == results(undisturbed)


def test_the_validation_split_has_a_part_in_a_fit(cache, copy, tmp_path, undisturbed):
    corpus = open_corpus(copy, "mosi")
    table = read_manifest(corpus.manifest)
    table.loc[table["split"] == "valid", "sentiment"] *= -1
    write_manifest(corpus.manifest, table, {"corpus": "mosi"})
    assert results(small_runs.run(copy, tmp_path))["metrics.json"] != results(undisturbed)["metrics.json"]


def test_a_head_learns_what_is_there_to_learn(tmp_path):
    cache = make_cache(tmp_path / "cache", utterances=120)
    changes = {"model.dim": 16, "model.adapter": "norm", "train.max_epochs": 12, "train.patience": 12, "train.select": "mae"}
    changes |= {"model.fusion.dropout": 0.1, "model.output_dropout": 0.1}
    learned = small_runs.run(cache, tmp_path, "mmolre", changes).metrics()
    simple = small_runs.run(cache, tmp_path, "median").metrics()
    assert learned["valid"]["mae"] < 0.6 * simple["valid"]["mae"]
    assert learned["valid"]["mean_ap"] > 1.3 * simple["valid"]["mean_ap"]


def test_a_run_stops_when_patience_is_exhausted(cache, tmp_path):
    changes = {"train.lr": 1e-12, "train.select": "acc7", "train.patience": 2, "train.max_epochs": 9}
    metrics = small_runs.run(cache, tmp_path, changes=changes).metrics()
    assert (metrics["epochs"], metrics["selected"]["acc7"]["epoch"]) == (3, 1)


def test_the_checkpoint_is_of_the_chosen_epoch(cache, tmp_path):
    made = small_runs.run_data(cache, changes={"train.max_epochs": 8, "train.patience": 8, "train.lr": 0.05})
    folder = run_folder(made.config, tmp_path)
    selected = fit(made, folder)["selected"]
    values = history(folder)
    for criterion, name in (("loss", "checkpoint"), ("mae", "best-mae"), ("mean_wf1", "best-mean_wf1")):
        head = build_head(made.config, made.tensors)
        head.load_state_dict(folder.load_checkpoint(f"{name}.safetensors"))
        rows = made.tensors.targets.rows("valid")
        value = scores(predict(head, made.tensors, rows, 8), made.tensors, made.config.loss)[criterion]
        best = values[f"valid_{criterion}"].max() if criterion == "mean_wf1" else values[f"valid_{criterion}"].min()
        assert value == pytest.approx(best, rel=1e-5)
        assert selected[criterion]["value"] == best
        assert values["epoch"][values[f"valid_{criterion}"].eq(best).idxmax()] == selected[criterion]["epoch"]


def test_a_run_that_diverges_ends_with_an_error_and_no_results(cache, tmp_path):
    made = small_runs.run_data(cache, changes={"train.lr": 1e30})
    folder = run_folder(made.config, tmp_path / "runs")
    for _ in range(2):
        with pytest.raises(InputError, match=r"^Epoch 1: the validation loss is not finite\. "):
            fit(made, folder)
        assert [path.name for path in folder.path.iterdir()] == ["config.json"]


def test_the_warm_up_is_over_the_steps_of_all_epochs(cache, tmp_path):
    made = small_runs.run_data(cache, changes={"train.max_epochs": 4, "train.warmup": 0.5, "train.lr": 0.12})
    one, seen = engine(made, tmp_path), []
    go(one, lambda steps, note: seen.extend(group["lr"] for group in one.optimizer.param_groups if steps == 1))
    assert seen == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1, *[0.12] * 7])


def test_training_in_bfloat16_is_near_training_in_float32(cache, tmp_path):
    exact, rounded = (
        small_runs.run(cache, tmp_path, changes={"train.precision": precision, "train.max_epochs": 2})
        for precision in ("float32", "bfloat16")
    )
    losses = [history(folder)["valid_loss"].to_numpy() for folder in (exact, rounded)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.05)
    assert not np.array_equal(losses[1], losses[0])
    assert {str(value.dtype) for value in rounded.load_checkpoint("checkpoint.safetensors").values()} == {"torch.float32"}


def test_a_head_starts_from_its_seed_alone(cache):
    made = small_runs.run_data(cache)
    torch.manual_seed(1)
    first = build_head(made.config, made.tensors).state_dict()
    torch.manual_seed(2)
    again = build_head(made.config, made.tensors).state_dict()
    other = build_head(replace(made.config, seed=5), made.tensors).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["fusions.msa.cls.text"], other["fusions.msa.cls.text"])


def test_progress_counts_steps_and_names_the_best_epoch(cache, tmp_path):
    seen = []
    go(engine(small_runs.run_data(cache), tmp_path), lambda steps, note: seen.append((steps, note)))
    assert sum(steps for steps, _ in seen) == 3 * 3
    assert seen[0] == (0, "")
    assert seen[-1][1].startswith("best loss ")
    assert seen[-1][1].endswith(")")
    assert list(tmp_path.iterdir()) == []
