"""Run folders that are damaged, incomplete or of a newer version: which file, what is wrong with it, and what helps."""

import errno
import re
import signal
from pathlib import Path

import pytest
import torch
from projects import finish, forked
from test_heads_runs_folder import CONTENT

from data.errors import InputError, UnreadableError
from heads.runs.folder import RunFolder

METRICS = {"valid": {"mae": 0.9, "corr": None}, "valid_interval": {"mae": [0.8, 1.0], "corr": [None, None]}}
WHAT_HELPS = r"Remove the run folder \S*run and run the command that made it again\.$"


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run")


@pytest.mark.parametrize("text", ['{"valid": ', "", "\x80"])
def test_what_is_no_json_is_named(folder, text):
    folder.path.mkdir()
    for name, read in (("config.json", folder.config), ("metrics.json", folder.metrics)):
        (folder.path / name).write_text(text, encoding="latin-1")
        with pytest.raises(InputError, match=rf"run/{re.escape(name)}: damaged \(.+\)\. {WHAT_HELPS}"):
            read()


def without(content: dict, name: str) -> dict:
    """The same without what has this dotted name."""
    first, _, rest = name.partition(".")
    return {key: without(value, rest) if key == first else value for key, value in content.items() if rest or key != first}


@pytest.mark.parametrize(
    "name",
    [
        "version",
        "config",
        "config.head",
        "config.corpus",
        "config.data",
        "config.data.modalities",
        "encoders",
        "encoders.text",
        "encoders.text.encoder",
        "encoders.text.identity",
        "encoders.text.dim",
        "made",
        "made.cache",
    ],
)
def test_what_is_missing_in_the_configuration_is_named(folder, name):
    folder.write_json("config.json", without(CONTENT, name))
    with pytest.raises(InputError, match=rf"run/config\.json: damaged \({re.escape(name)} is missing\)\. {WHAT_HELPS}"):
        folder.config()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"version": "1"}, "version is not a whole number"),
        ({"config": []}, "config is not a mapping"),
        ({"config": {"head": 3, "corpus": "mosi"}}, "config.head is not text"),
        ({"config": CONTENT["config"] | {"data": {"modalities": "text"}}}, "config.data.modalities is not a list"),
        ({"config": CONTENT["config"] | {"data": {"modalities": ["text", ["audio"]]}}}, "encoders.['audio'] is missing"),
        ({"encoders": {"text": "roberta-base"}}, "encoders.text is not a mapping"),
        ({"encoders": {"text": {"encoder": None, "identity": None, "dim": "8"}}}, "encoders.text.dim is not a whole number"),
        ({"made": None}, "made is not a mapping"),
        ({"made": {"cache": None}}, "made.cache is not text"),
    ],
)
def test_what_is_of_another_type_in_the_configuration_is_named(folder, change, fault):
    folder.write_json("config.json", CONTENT | change)
    with pytest.raises(InputError, match=rf"run/config\.json: damaged \({re.escape(fault)}\)\. {WHAT_HELPS}"):
        folder.config()


@pytest.mark.parametrize("content", [{**CONTENT, "version": 2}, {"version": 3, "run": {}}])
def test_a_run_of_a_newer_version_is_refused(folder, content):
    folder.write_json("config.json", content)
    known = rf"format {content['version']}, this one reads up to 1"
    message = rf"run/config\.json: written by a newer version of this program \({known}\)\. Install that one\.$"
    for use in (folder.config, lambda: folder.begin(CONTENT)):
        with pytest.raises(InputError, match=message):
            use()


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ([], "the whole is not a mapping"),
        ({}, "valid is missing"),
        ({"valid": {}}, "valid_interval is missing"),
        ({"valid": [1], "valid_interval": {}}, "valid is not a mapping"),
        ({"valid": {}, "valid_interval": None}, "valid_interval is not a mapping"),
        (METRICS | {"valid": {"mae": "low"}}, "valid.mae is not a number"),
        (METRICS | {"valid": {"mae": True}}, "valid.mae is not a number"),
        (METRICS | {"valid_interval": {"mae": 1.0}}, "valid_interval.mae is not two numbers"),
        (METRICS | {"valid_interval": {"mae": [1.0]}}, "valid_interval.mae is not two numbers"),
        (METRICS | {"valid_interval": {"mae": [1.0, "2"]}}, "valid_interval.mae is not two numbers"),
    ],
)
def test_metrics_that_lack_something_are_refused(folder, content, fault):
    folder.write_json("metrics.json", content)
    with pytest.raises(InputError, match=rf"run/metrics\.json: damaged \({re.escape(fault)}\)\. {WHAT_HELPS}"):
        folder.metrics()
    folder.write_json("metrics.json", METRICS)
    assert folder.metrics() == METRICS


def test_a_checkpoint_that_is_missing_or_damaged_is_named(folder):
    with pytest.raises(InputError, match=r"best-mae\.safetensors: no such checkpoint\. Available: none\.$"):
        folder.load_checkpoint("best-mae.safetensors")
    folder.save_checkpoint("checkpoint.safetensors", {"a": torch.randn(100)})
    with pytest.raises(InputError, match=r"best-mae\.safetensors: no such checkpoint\. Available: checkpoint\.safetensors\.$"):
        folder.load_checkpoint("best-mae.safetensors")
    path = folder.path / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=r"checkpoint\.safetensors: damaged \(.*\)\. " + WHAT_HELPS):
        folder.load_checkpoint("checkpoint.safetensors")


def test_what_cannot_be_read_now_is_not_called_damaged(folder, monkeypatch):
    folder.write_json("config.json", CONTENT)
    folder.save_checkpoint("checkpoint.safetensors", {"a": torch.randn(3)})

    def fail(*_, **__):
        raise OSError(errno.EMFILE, "Too many open files")

    for name in ("read_bytes", "read_text"):
        monkeypatch.setattr(Path, name, fail)
    for name, read in (
        ("config.json", folder.config),
        ("checkpoint.safetensors", lambda: folder.load_checkpoint("checkpoint.safetensors")),
    ):
        with pytest.raises(UnreadableError, match=rf"run/{re.escape(name)}: cannot be read \(Too many open files\)\. It may be whole"):
            read()


def test_a_checkpoint_on_a_full_disk_is_an_error_that_names_it_and_leaves_nothing(folder, monkeypatch):
    folder.save_checkpoint("checkpoint.safetensors", {"a": torch.zeros(3)})
    before = (folder.path / "checkpoint.safetensors").read_bytes()

    def write_some(path, content):
        with path.open("wb") as file:
            file.write(content[:20])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_some)
    for save in (lambda: folder.save_checkpoint("checkpoint.safetensors", {"a": torch.ones(3)}), lambda: folder.save_state({}, {})):
        with pytest.raises(OSError, match=r"No space left on device: '.*run/(checkpoint|state)\.safetensors'"):
            save()
    assert [path.name for path in folder.path.iterdir()] == ["checkpoint.safetensors"]
    assert (folder.path / "checkpoint.safetensors").read_bytes() == before


def test_a_kill_while_a_checkpoint_is_written_leaves_what_the_next_run_removes(folder):
    folder.write_json("config.json", CONTENT)
    code = f"""
import os, signal, sys, torch
from pathlib import Path
from heads.runs.folder import RunFolder
os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
RunFolder(Path({str(folder.path)!r})).save_checkpoint("checkpoint.safetensors", {{"a": torch.zeros(3)}})
"""
    assert finish(forked("-c", code, cwd=folder.path)).returncode == -signal.SIGKILL
    assert len(list(folder.path.iterdir())) == 2
    folder.begin(CONTENT)
    assert [path.name for path in folder.path.iterdir()] == ["config.json"]


@pytest.mark.parametrize("content", ["[]", "{}", '{"error": 3}'])
def test_a_damaged_reason_of_a_failure_is_said(tmp_path, content):
    (tmp_path / "failed.json").write_text(content)
    with pytest.raises(InputError, match=r"failed\.json: damaged \(no error is in it\)\. Remove the run folder .* and run the command"):
        _ = RunFolder(tmp_path).failure
