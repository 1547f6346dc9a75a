"""Damaged features, labels and checkpoints: every command that reads them refuses in one line and leaves no result."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import small_runs
from caches import make_cache
from command_line import call, content
from feature_files import damage, flip_bit, position_of_values
from sweeps import write_grid

from data.cache import open_corpus
from data.feature_store import FeatureStore


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("cache"), ledger=True, text_dim=32)


@pytest.fixture(scope="module")
def complete(cache, tmp_path_factory) -> Path:
    """A run of pre-fusion. Not to be changed."""
    return small_runs.run(cache, tmp_path_factory.mktemp("runs")).path


@pytest.fixture
def own_cache(cache, tmp_path) -> Path:
    """A copy of the cache, to be damaged."""
    return shutil.copytree(cache, tmp_path / "cache")


def zero(old: np.ndarray) -> np.ndarray:
    return np.zeros_like(old)


def flip_signs(old: np.ndarray) -> np.ndarray:
    """Flip the sign of each float16; `old` begins with the second byte of one."""
    return np.where(np.arange(len(old)) % 2 == 0, old ^ 0x80, old)


DAMAGES = {
    "one bit of an exponent": lambda path: flip_bit(path, 1, 6),  # 2⁻ⁿ becomes 2¹⁶⁻ⁿ, or a value that is not finite
    "a low bit of the last value": lambda path: flip_bit(path, position_of_values(path)[1] - 2),
    "zeroed pages": lambda path: damage(path, 0, 4096, zero),
    "400 signs": lambda path: damage(path, 1, 799, flip_signs),
}


def first_damaged(path: Path) -> str:
    """The first utterance that `verify` names."""
    with FeatureStore.open(path) as store:
        return store.verify()[0].utterance_id


def refusal(capsys, *arguments: object) -> str:
    """Run a command that is refused; its message."""
    status, out, err = call(capsys, *arguments)
    assert (status, out.count("mae")) == (2, 0)
    message = re.fullmatch("error: (.*)\n", err)
    assert message, err
    return message[1]


@pytest.mark.parametrize("damage_of", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("modality", ["text", "audio"])
@pytest.mark.parametrize("head", ["pre-fusion", "ridge"])
def test_nothing_is_fitted_to_damaged_features(capsys, own_cache, tmp_path, head, modality, damage_of):
    path = open_corpus(own_cache, "mosi").features[modality]
    damage_of(path)
    message = refusal(capsys, *small_runs.command(own_cache, tmp_path / "runs", head))
    assert message.startswith(f"{path}: the values of '{first_damaged(path)}' are damaged (checksum ")
    assert message.endswith(f". Delete it and run BuildFeatures again. List all damaged utterances with: python -m data verify {path}")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("damage_of", [DAMAGES["one bit of an exponent"], DAMAGES["zeroed pages"]])
def test_nothing_is_fitted_to_damaged_features_that_are_streamed(capsys, own_cache, tmp_path, damage_of):
    path = open_corpus(own_cache, "mosi").features["text"]
    damage_of(path)
    message = refusal(capsys, *small_runs.command(own_cache, tmp_path / "runs"), "--memory-gb=0")
    assert re.match(rf"{re.escape(str(path))}: the values of 'mosi\d+\[\d\]' are damaged \(checksum ", message)
    assert not list(tmp_path.glob("runs/*/metrics.json"))


@pytest.mark.parametrize("options", [(), ("--memory-gb=0",), ("--pack-size=2",), ("--dry-run",)])
def test_no_trial_of_a_sweep_is_fitted_to_damaged_features(capsys, own_cache, tmp_path, options):
    path = open_corpus(own_cache, "mosi").features["audio"]
    damage(path, 1, 799, flip_signs)
    grid = write_grid(tmp_path / "grid.yaml", grid={"train.lr": [0.01, 0.003]})
    message = refusal(capsys, "sweep", grid, "--cache", own_cache, "--out", tmp_path / "sweep", "--devices", "cpu", *options)
    assert re.match(rf"{re.escape(str(path))}: the values of 'mosi\d+\[\d\]' are damaged \(checksum ", message)
    assert not list(tmp_path.rglob("metrics.json"))


@pytest.mark.parametrize("command", ["evaluate {run} --split=test", "predict {run} --out={tmp}/predictions.parquet"])
@pytest.mark.parametrize("damage_of", DAMAGES.values(), ids=DAMAGES)
def test_nothing_is_predicted_from_damaged_features(capsys, own_cache, complete, tmp_path, damage_of, command):
    path = open_corpus(own_cache, "mosi").features["text"]
    damage_of(path)
    before = content(complete)
    message = refusal(capsys, *command.format(run=complete, tmp=tmp_path).split(), "--cache", own_cache, "--device=cpu")
    assert message.startswith(f"{path}: the values of '{first_damaged(path)}' are damaged (checksum ")
    assert content(complete) == before
    assert not (tmp_path / "predictions.parquet").exists()


@pytest.mark.parametrize("name", ["manifests/mosi.parquet", "pseudo_labels/mosi.parquet"])
def test_nothing_is_fitted_to_damaged_labels(capsys, own_cache, tmp_path, name):
    path = own_cache / name
    whole = path.read_bytes()
    for at in range(20, len(whole) - 20, len(whole) // 12):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x08]) + whole[at + 1 :])
        message = refusal(capsys, *small_runs.command(own_cache, tmp_path / "runs", changes={"data.emotions": "pseudo"}))
        expected = r"truncated or damaged \((checksum \w+, \w+ when it was written|its checksum is none)\)\. Delete it and run"
        assert re.match(f"{re.escape(str(path))}: {expected}", message)
    assert not (tmp_path / "runs").exists()


def test_no_flipped_bit_of_a_checkpoint_is_evaluated(capsys, cache, complete, tmp_path):
    own = shutil.copytree(complete, tmp_path / "run")
    path = own / "checkpoint.safetensors"
    whole = path.read_bytes()
    before = content(complete)["metrics.json"][1]
    for at, bit in np.random.default_rng(0).integers((0, 0), (len(whole), 8), (20, 2)).tolist():
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
        message = refusal(capsys, "predict", own, "--cache", cache, "--device=cpu", f"--out={tmp_path}/predictions.parquet")
        assert message.startswith(f"{path}: damaged (")
    path.write_bytes(whole)
    assert call(capsys, "evaluate", own, "--cache", cache, "--device=cpu")[0] == 0
    assert (own / "metrics.json").read_bytes() == before
