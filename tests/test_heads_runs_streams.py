"""Runs choose among several feature sets of a modality, and read modalities of any name."""

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small_runs
from caches import make_cache
from command_line import call
from feature_sets import BERT, add_set

from data.cache import merge_corpora, open_corpus
from data.errors import InputError
from data.feature_store import FeatureStore
from data.interchange.joined import join
from data.interchange.npy import read_npy
from data.manifest import read_manifest, write_manifest
from heads.runs.run_data import LoadedCache, choose_device
from heads.runs.streams import sets_of, told
from heads.sweeps.results.trials import collect, encoder_names, varied

OTHER = BERT | {"files": {"config.json": "d", "tokenizer.json": "gpt"}}


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Sets of text: default, bert, wide (tokens as bert), gpt (other tokens); and vision, which lacks the last two utterances."""
    folder = make_cache(tmp_path_factory.mktemp("cache"), utterances=24)
    add_set(folder, "text.bert", dim=5, seed=1)
    add_set(folder, "text.wide", dim=9, identity=BERT | {"layer": 3}, seed=2)
    add_set(folder, "text.gpt", dim=4, identity=OTHER, seed=3)
    return with_vision(folder, folder.parent / "openface")


def with_vision(cache: Path, source: Path) -> Path:
    source.mkdir()
    with FeatureStore.open(open_corpus(cache, "mosi").features["text"]) as store:
        for name in store.ids[:-2]:
            np.save(source / f"{name}.npy", np.random.default_rng(len(store[name])).standard_normal((3, 2)))
    join(cache, "mosi", "vision", read_npy(source, "vision"), source, "exclude")
    return cache


def streams(cache, head="pre-fusion", **data):
    changes = {f"data.{name}": value for name, value in data.items()}
    made = small_runs.run_data(cache, head, changes)
    return dict(made.streams), made.tensors.dims


@pytest.mark.parametrize(
    ("data", "expected", "words"),
    [
        ({"modalities": ["text", "audio"]}, {"text": ("text",), "audio": ("audio",)}, None),
        ({"modalities": ["audio"], "text": None}, {"audio": ("audio",)}, None),
        ({"modalities": ["text", "vision"]}, {"text": ("text",), "vision": ("vision",)}, "text + vision"),
        ({"modalities": ["text"], "text": "a"}, {"text": ("text.a",)}, "text.a"),
        ({"modalities": ["text"], "text": ["a", "default"], "audio": None}, {"text": ("text.a", "text")}, "text.a & text"),
    ],
)  # fmt: skip
def test_a_configuration_names_sets(data, expected, words):
    assert sets_of(data) == expected
    assert told(data) == words


def test_a_set_takes_the_place_of_the_usual_one(cache):
    assert streams(cache, text="wide") == ({"text": ("text.wide",), "audio": ("audio",)}, {"text": 9, "audio": 6})


def test_sets_of_the_same_tokens_are_joined_by_width_for_every_head(cache):
    for head in ("pre-fusion", "misa", "ridge"):
        assert streams(cache, head, text=["wide", "bert"])[1] == {"text": 14, "audio": 6}


def test_other_sets_become_streams_for_heads_that_take_any_number(cache):
    expected = {"text-bert": ("text.bert",), "text-gpt": ("text.gpt",), "audio": ("audio",)}
    for head in ("mmolre", "ridge"):
        assert streams(cache, head, text=["bert", "gpt"]) == (expected, {"text-bert": 5, "text-gpt": 4, "audio": 6})


def test_heads_that_read_one_stream_of_a_modality_refuse_other_sets(cache):
    with pytest.raises(InputError) as error:
        streams(cache, "misa", text=["bert", "gpt"])
    assert str(error.value).startswith(
        "mosi: text.bert, text.gpt cannot be joined by width: the tokenizers of text.bert and text.gpt differ. Head 'misa' reads one"
        " stream of text: give it one set (data.text), or choose a head that takes any number of streams: mmolre, pre-fusion, "
    )


def test_limits_hold_for_every_stream_of_a_modality(cache):
    tensors = small_runs.run_data(cache, changes={"data.text": ["bert", "gpt"], "data.text_limit": 3}).tensors
    assert {name: int(lengths.max()) for name, lengths in tensors.lengths.items()} == {"text-bert": 3, "text-gpt": 3, "audio": 30}


def test_a_set_gives_the_numbers_that_it_gives_as_the_usual_one(cache, tmp_path):
    corpus = open_corpus(cache, "mosi")
    moved = dataclasses.replace(corpus, features={"text": corpus.features["text.wide"], "audio": corpus.features["audio"]}, joined=())
    own = make_cache(tmp_path / "own", utterances=24)
    for path in (corpus.manifest, *moved.features.values()):
        (own / path.relative_to(cache)).write_bytes(path.read_bytes())
    moved = dataclasses.replace(
        moved,
        manifest=own / moved.manifest.relative_to(cache),
        features={name: own / path.relative_to(cache) for name, path in moved.features.items()},
    )
    merge_corpora(own, [moved], own / "report.html")
    one = small_runs.run(cache, tmp_path / "runs", "mmolre", {"data.text": "wide"})
    other = small_runs.run(own, tmp_path / "runs", "mmolre")
    assert one.metrics() == other.metrics()
    assert one.path != other.path
    assert set(one.config()["encoders"]) == {"text.wide", "audio"}
    assert one.config()["features"]["text.wide"] == "mosi-text.wide.h5"


def test_utterances_without_joined_features_are_left_out_of_runs_that_read_them(cache, tmp_path, capsys):
    command = small_runs.command(cache, tmp_path / "runs", "mmolre", {"data.modalities": ["text", "audio", "vision"]})
    status, out, _ = call(capsys, *command)
    assert status == 0
    assert "text + audio + vision features on cpu (2 others lack some of these features)" in out
    loaded = LoadedCache(cache, choose_device("cpu"))
    with_vision = loaded.open(small_runs.config(changes={"data.modalities": ["text", "vision"]}))
    without = loaded.open(small_runs.config(changes={"data.modalities": ["text"]}))
    assert with_vision.tensors.targets.ids == without.tensors.targets.ids[:-2]
    assert (with_vision.left_out, without.left_out) == (2, 0)
    table = pd.read_parquet(next((tmp_path / "runs").glob("*/predictions.parquet")))
    assert set(table["utterance_id"]) <= set(with_vision.tensors.targets.ids)


@pytest.mark.parametrize("head", ["mmolre", "post-fusion", "ridge", "mult"])
def test_heads_learn_from_a_third_modality(cache, tmp_path, head):
    small = {"model.width": 6, "model.layers": 1, "model.heads": 2} if head == "mult" else {}
    changes = {"data.modalities": ["text", "audio", "vision"], **small}
    folder = small_runs.run(cache, tmp_path / "runs", head, changes)
    assert list(folder.config()["encoders"]) == ["text", "audio", "vision"]
    assert folder.metrics()["valid"] != small_runs.run(cache, tmp_path / "runs", head, small).metrics()["valid"]


def test_a_head_of_two_modalities_refuses_a_third_in_one_line(cache, tmp_path, capsys):
    command = small_runs.command(cache, tmp_path / "runs", "misa", {"data.modalities": ["text", "audio", "vision"]})
    message = "error: misa reads text and audio only, got text and audio and vision. Use --modalities text audio.\n"
    assert call(capsys, *command)[::2] == (2, message)
    assert not list((tmp_path / "runs").glob("*"))


def test_a_set_that_is_not_there_is_missed_with_those_that_are(cache):
    with pytest.raises(InputError) as error:
        streams(cache, text="roberta")
    assert "corpus mosi has no text.roberta features (there are: text, audio, text.bert, " in str(error.value)
    assert str(error.value).endswith(" Sets of text that are there (data.text): default, bert, wide, gpt.")


def test_evaluate_and_predict_name_the_sets_and_refuse_other_encoders(cache, tmp_path, capsys):
    folder = small_runs.run(cache, tmp_path / "runs", changes={"data.text": ["bert", "gpt"], "task": "msa"})
    out = tmp_path / "predictions.csv"
    printed = f"{out}: 24 utterances, from text.bert & text.gpt + audio features\n"
    assert call(capsys, "predict", folder.path, "--out", out, "--device", "cpu") == (0, printed, "")
    status, lines, _ = call(capsys, "evaluate", folder.path, "--device", "cpu")
    assert (status, lines.splitlines()[0]) == (0, f"{folder.path.name}: text.bert & text.gpt + audio features")
    other = make_cache(tmp_path / "other", utterances=24)
    add_set(other, "text.bert", dim=5, identity=BERT | {"layer": 3})
    add_set(other, "text.gpt", dim=4, identity=OTHER)
    status, _, error = call(capsys, "predict", folder.path, "--out", out, "--device", "cpu", "--cache", other)
    assert status == 2
    assert "mosi-text.bert.h5: not made as the text.bert features that" in error
    assert error.endswith("identity.layer is 3, not None. Build the cache with the same encoder and settings.\n")


def test_tables_name_the_sets():
    table = pd.DataFrame({"encoder.text": ["minilm", None], "encoder.text.l3": [None, "minilm"], "encoder.audio": ["tiny", "tiny"]})
    assert encoder_names(table) == ["minilm", "minilm (text.l3)", "tiny"]


def test_one_run_folder_that_reads_another_set_is_another_run(cache, tmp_path):
    paths = {small_runs.run_data(cache, changes={"data.text": name}).config.key() for name in ("default", "bert", "wide")}
    assert len(paths) == 3


def test_evaluate_and_predict_count_the_utterances_that_they_leave_out(cache, tmp_path, capsys):
    folder = small_runs.run(cache, tmp_path / "runs", changes={"data.modalities": ["text", "vision"], "task": "msa"})
    out = tmp_path / "predictions.csv"
    printed = f"{out}: 22 utterances, from text + vision features; 2 others lack some of them\n"
    assert call(capsys, "predict", folder.path, "--out", out, "--device", "cpu") == (0, printed, "")
    _, lines, _ = call(capsys, "evaluate", folder.path, "--device", "cpu")
    assert lines.startswith(f"{folder.path.name}: text + vision features (2 utterances lack some of them and are left out)\n")


def test_a_sweep_over_sets_names_the_usual_one_in_the_words_of_its_grid(cache, tmp_path):
    sets = ["default", "bert", ["bert", "wide"]]
    for chosen in sets:
        small_runs.run(cache, tmp_path / "trials", changes={"data.text": chosen, "task": "msa"})
    table = collect(tmp_path)
    assert sorted(table["data.text"]) == ['["bert", "wide"]', "bert", "default"]
    assert sorted(varied(table)) == ["data.text"]
    assert set(encoder_names(table)) == {"bert (text.bert)", "wide (text.wide)", "made up"}


def test_joined_features_that_lack_new_utterances_ask_for_a_new_import(cache, tmp_path):
    own = shutil.copytree(cache, tmp_path / "own")
    corpus = open_corpus(own, "mosi")
    table = read_manifest(corpus.manifest)
    write_manifest(corpus.manifest, table.assign(utterance_id=["new", *table["utterance_id"][1:]]), {"corpus": "mosi"})
    with pytest.raises(InputError, match=r"first 'new'\. Forget these features and import them again\.$"):
        streams(own, modalities=["vision"])
