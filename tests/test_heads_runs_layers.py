"""Runs on several cached layers: mixed, picked, side by side, or one chosen by a simple baseline."""

import json

import numpy as np
import pytest
import small_runs
import torch
from caches import make_cache
from command_line import call, printed

from data.cache import open_corpus
from data.errors import InputError
from data.feature_store import FeatureStore, FeatureWriter
from heads.evaluation.console import layer_notes
from heads.models.simple import fit_simple
from heads.runs.config import make_config
from heads.runs.folder import RunFolder
from heads.runs.run_data import LoadedCache, open_run_data
from heads.sweeps.grid import read_grid
from heads.training.packed_engine import signature

LAYERS = {"text": (6, 9, 12)}
MIX = {"model.adapter": "mix"}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = make_cache(tmp_path_factory.mktemp("cache"), utterances=48, layers=LAYERS, averaged=4)
    return make_cache(folder, corpus="plain", utterances=24)


def test_a_run_with_mixed_layers_says_what_it_learned(capsys, cache, tmp_path):
    status, out, err = call(capsys, *small_runs.command(cache, tmp_path, changes=MIX))
    assert (status, err) == (0, "")
    (folder,) = tmp_path.iterdir()
    assert out.splitlines()[0].endswith("text (layers 6, 9, 12: mixed) + audio (means of 4 frames) features on cpu")
    weights = RunFolder(folder).metrics()["layer_weights"]
    logits = RunFolder(folder).load_checkpoint("checkpoint.safetensors")["mixes.text.logits"]
    assert list(weights) == ["text"]
    np.testing.assert_allclose([weights["text"][name] for name in ("6", "9", "12")], logits.softmax(0).numpy(), rtol=1e-6)
    assert printed(out, f"text layers mixed: {folder.name}") == {
        "weight": {name: f"{weight:.3f}" for name, weight in weights["text"].items()}
    }
    again = call(capsys, *small_runs.command(cache, tmp_path, changes=MIX))[1]
    assert again.splitlines()[1:] == out.splitlines()[1:]
    assert call(capsys, "evaluate", folder, "--split", "test", "--device", "cpu")[0] == 0
    found = RunFolder(folder).metrics()
    assert found["layer_weights"] == weights
    assert found["test"]["mae"] > 0


def test_a_damaged_weight_is_named(cache, tmp_path):
    folder = small_runs.run(cache, tmp_path, changes=MIX)
    content = json.loads((folder.path / "metrics.json").read_text())
    for part, value in (("layer_weights", {"text": [1]}), ("layer_weights", {"text": {"6": "much"}}), ("chosen", {"sentiment": 3})):
        (folder.path / "metrics.json").write_text(json.dumps(content | {part: value}))
        name = next(iter(value))
        with pytest.raises(InputError, match=rf"metrics.json: damaged \({part}.{name} is not names with numbers\)"):
            folder.metrics()


@pytest.mark.parametrize("head", ["pre-fusion", "mult", "ridge"])
def test_picked_layers_are_read_as_if_they_were_the_only_ones(cache, tmp_path, head):
    """A cache that holds layer 9 alone gives the same run."""
    own = make_cache(tmp_path / "own", utterances=48, layers=LAYERS, averaged=4)
    path = open_corpus(own, "mosi").features["text"]
    with FeatureStore.open(path) as store:
        parts, facts, sources = [store[name][:, 8:16] for name in store.ids], dict(store.attrs), store.sources
        ids = store.ids
    with FeatureWriter(path, ids, [len(part) for part in parts], 8, "float16", facts | {"identity": {"layer": 9}}, sources) as writer:
        for index, part in enumerate(parts):
            writer.write(index, part)
    picked = small_runs.run(cache, tmp_path / "picked", head, {"data.layers.text": [9]})
    alone = small_runs.run(own, tmp_path / "alone", head)
    assert picked.metrics()["valid"] == alone.metrics()["valid"]
    assert picked.path.name != alone.path.name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"data.layers.text": [7]},
            "error: data.layers.text is [7], but {cache}/features/mosi-text.h5 holds layers 6, 9, 12, not",
        ),
        ({"data.layers.text": [9, 9]}, "error: data.layers.text is [9, 9], expected one layer or more, each of them once."),
        ({"data.layers.text": []}, "error: data.layers.text is [], expected one layer or more, each of them once."),
        (
            {"data.layers.audio": [0]},
            "error: data.layers.audio is [0], but {cache}/features/mosi-audio.h5 holds one layer of unknown",
        ),
        ({"data.layers.text": [-2]}, "error: --set: data.layers.text is (-2,), expected -1 or more."),
        ({"data.layers": [9]}, "error: --set: data.layers is [9], expected names with values: text, audio."),
        ({"model.audio_pool": 3}, "error: model.audio_pool is 3 frames, but the audio features are means of 4 frames each: expected a"),
    ],
)
def test_layers_and_frames_that_are_not_cached_are_refused(capsys, cache, tmp_path, changes, message):
    status, out, err = call(capsys, *small_runs.command(cache, tmp_path, changes=changes))
    assert (status, len(out.splitlines())) == (2, int("audio_pool" in message))
    assert err.startswith(message.format(cache=cache))
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_mix_of_one_layer_is_refused_unless_it_was_picked(capsys, cache, tmp_path):
    status, _, err = call(capsys, *small_runs.command(cache, tmp_path, changes=MIX, corpus="plain"))
    assert status == 2
    assert err.startswith("error: model.adapter is 'mix', but the features of plain hold one layer of each modality. Set layers")
    made = small_runs.run(cache, tmp_path, changes=MIX | {"data.layers.text": [9]}).metrics()
    assert "layer_weights" not in made


def test_layers_are_an_axis_of_a_grid(cache, tmp_path):
    axes = "{data.layers.text: [null, [9], [6, 12]], model.adapter: [norm, mix]}"
    (tmp_path / "layers.yaml").write_text(f"corpus: mosi\nhead: pre-fusion\ngrid: {axes}\n")
    loaded = LoadedCache(cache, torch.device("cpu"))
    opened = [loaded.open(config) for config in read_grid(tmp_path / "layers.yaml", None).configs()]
    assert [(one.tensors.layers["text"], one.tensors.dims["text"], one.config.model.adapter) for one in opened] == [
        (layers, 8 * len(layers), adapter) for layers in ((6, 9, 12), (9,), (6, 12)) for adapter in ("norm", "mix")
    ]
    assert len({one.config.key() for one in opened}) == len({signature(one.config, one.tensors) for one in opened}) == 6


def test_a_simple_baseline_chooses_a_layer_on_the_validation_rows_and_says_which(capsys, cache, tmp_path):
    status, out, err = call(capsys, *small_runs.command(cache, tmp_path, "ridge"))
    assert (status, err) == (0, "")
    (folder,) = tmp_path.iterdir()
    assert "text (layers 6, 9, 12: one of them chosen on valid)" in out
    chosen = RunFolder(folder).metrics()["chosen"]
    assert chosen["sentiment"]["text_layer"] == 9
    assert printed(out, f"chosen on valid: {folder.name}") == {
        target: {"text layer": str(setting["text_layer"])} for target, setting in chosen.items()
    }
    picked = small_runs.run(cache, tmp_path / "picked", "ridge", {"data.layers.text": [9]}).metrics()
    assert picked["valid"]["mae"] == pytest.approx(RunFolder(folder).metrics()["valid"]["mae"], rel=1e-6)
    assert layer_notes({"picked": picked}) == ""


def test_the_chosen_layer_is_the_one_that_is_best_alone():
    generator = np.random.default_rng(3)
    rows, signal = 120, generator.normal(size=120)
    train, valid = np.arange(rows) < 80, np.arange(rows) >= 80
    noise, audio = generator.normal(size=(rows, 4)), generator.normal(size=(rows, 2))
    features = np.column_stack([noise, signal, signal + generator.normal(size=rows), audio])
    layers = {"text": {3: slice(0, 4), 5: slice(4, 5), 7: slice(5, 6)}}
    emotions = np.full((rows, 6), np.nan)
    for name in ("ridge", "svr", "logistic"):
        found = fit_simple(name, features, signal.clip(-3, 3), emotions, train, valid, layers)
        assert found.chosen["sentiment"]["text_layer"] == 5
        expected = fit_simple(name, features[:, [4, 6, 7]], signal.clip(-3, 3), emotions, train, valid)
        np.testing.assert_array_equal(found.sentiment, expected.sentiment)
        assert {k: v for k, v in found.chosen["sentiment"].items() if k != "text_layer"} == expected.chosen["sentiment"]
    misleading = np.where(valid, features[:, 0], signal)
    assert fit_simple("ridge", features, misleading.clip(-3, 3), emotions, train, valid, layers).chosen["sentiment"]["text_layer"] != 5


def test_a_run_without_layers_is_described_as_before(cache):
    made = open_run_data(make_config("pre-fusion", "plain"), cache, torch.device("cpu"))
    assert made.tensors.layers == {"text": (), "audio": ()}
