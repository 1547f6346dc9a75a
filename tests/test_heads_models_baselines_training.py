"""Every head of the registry trains by the presets written for it; a head with a memory resumes after an interruption unchanged."""

import math
from collections.abc import Callable

import pytest
import torch
from caches import make_cache
from safetensors.torch import load_file
from small_heads import TRAINED, ZOO, small_options

from heads.models.base import TASKS
from heads.models.registry import HEADS
from heads.runs.build import build_head
from heads.runs.config import PRESETS, make_config, read_yaml
from heads.runs.folder import RunFolder, run_folder
from heads.runs.run_data import RunData, open_run_data
from heads.training import loop
from heads.training.fit import fit

_COMMON = read_yaml(PRESETS["common"])["heads"]
CASES = [
    *((name, "native") for name in ZOO),
    *((name, "light") for name in TRAINED if name not in ZOO),
    *((name, "common") for name in ("mmolre", *ZOO) if "model" in _COMMON.get(name, {})),
    ("mmim", "light"),
]
"""Each head by the preset written for it, and by preset common where that changes its model. Elsewhere light and common change only the
optimizer, which knows no head. Light averages the parameters; one head with buffers and stages trains by it, too."""

METRICS = {"msa": "mae", "mer": "mean_wf1"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("cache"), utterances=24)


def run_data(cache, name: str, preset: str, epochs: int) -> RunData:
    """A run of a small head, with two batches in a pass."""
    size = 2 if HEADS[name].head.context else 8
    changes = {"model": small_options(name), "train": {"batch_size": size, "max_epochs": epochs, "patience": epochs}}
    return open_run_data(make_config(name, "mosi", preset, changes), cache, torch.device("cpu"))


def after(steps: int) -> Callable[[int, str], None]:
    """A report of progress that interrupts after so many steps."""
    done = 0

    def advance(more: int, note: str) -> None:
        nonlocal done
        done += more
        if done >= steps:
            raise KeyboardInterrupt

    return advance


@pytest.mark.parametrize(("name", "preset"), CASES)
def test_a_head_trains_by_a_preset(name, preset, cache, tmp_path, monkeypatch):
    monkeypatch.setattr(RunFolder, "draw_routing", lambda folder, name: None)  # figures take longer than the training
    made = run_data(cache, name, preset, epochs=2)
    folder = run_folder(made.config, tmp_path)
    metrics = fit(made, folder)
    assert metrics["epochs"] == 2
    assert all(math.isfinite(metrics["valid"][METRICS[task]]) for task in TASKS[made.config.task])
    before, trained = build_head(made.config, made.tensors), load_file(folder.path / "checkpoint.safetensors")
    assert metrics["parameters"] == sum(parameter.numel() for parameter in before.parameters())
    still = [key for key, value in before.named_parameters() if torch.equal(value, trained[key]) and not key.endswith("key.bias")]
    assert still == []


@pytest.mark.parametrize(("name", "preset"), [("self-mm", "native"), ("mmim", "native"), ("cogmen", "light")])
def test_a_head_with_a_memory_goes_on_as_if_nothing_had_been(name, preset, cache, tmp_path, monkeypatch):
    """Made labels and centres, the memory of batches, running statistics and a moving average of the parameters."""
    made = run_data(cache, name, preset, epochs=4)
    whole, parts = (run_folder(made.config, tmp_path / part) for part in ("whole", "parts"))
    fit(made, whole)
    monkeypatch.setattr(loop, "SAVE_EVERY_S", 0.0)
    steps_an_epoch = loop.Run(made.config, made.tensors, parts).steps_per_epoch
    with pytest.raises(KeyboardInterrupt):
        fit(made, parts, after(3 * steps_an_epoch + 1))
    assert not parts.is_complete
    fit(made, parts)
    for file in ("metrics.json", "checkpoint.safetensors", "predictions.parquet"):
        assert (parts.path / file).read_bytes() == (whole.path / file).read_bytes()
