"""`pipeline.build`: a build from Python."""

import os
import subprocess
import sys

import pytest
from projects import Project

import pipeline
from data.errors import InputError
from pipeline.build_process import _config, _lines


def settings_of(project: Project, **build: object) -> dict[str, dict[str, object]]:
    return {
        "corpora": {"folders": {"clips": "clips", "donors": "donors"}, "features": ["clips"]},
        "build": {"dtype": "float32", "shard_clips": 6, "device": "cpu", **build},
        "text": {"model": project.encoder},
        "sentence": {"model": project.encoder},
        "pseudo_labels": {"targets": ["clips"], "donors": ["donors"]},
    }


def test_python_values_build_what_luigi_cfg_builds(built, monkeypatch, capsys):
    """The cache of `built` was made by the command with a luigi.cfg; the same settings from Python find nothing to do."""
    monkeypatch.chdir(built.root)
    (built.root / "luigi.cfg").write_text("[text]\nmodel = a-file-that-is-not-read\n")
    assert pipeline.build(settings_of(built)) == built.cache
    assert "BuildFeatures: computed nothing; reused 2 manifests, 4 features, 1 pseudo labels, 1 report" in capsys.readouterr().out


def test_a_file_is_read_as_if_the_build_was_started_in_its_folder(built, capsys):
    assert pipeline.build(built.root / "luigi.cfg", quiet=True) == built.cache
    assert capsys.readouterr().out == ""
    with pytest.raises(InputError, match=r"settings\.cfg: expected a file luigi\.cfg, or a mapping of its sections\."):
        pipeline.build(built.root / "settings.cfg")


def test_what_the_build_refuses_is_raised_with_its_message(built, monkeypatch):
    monkeypatch.chdir(built.root)
    with pytest.raises(InputError, match=r"Unknown setting in section \[build\] of luigi\.cfg: 'shard_clip'\. Did you mean"):
        pipeline.build(settings_of(built, shard_clip=3), quiet=True)
    with pytest.raises(InputError, match=r"settings: section 'text' is 'minilm', expected a mapping of keys to values\."):
        pipeline.build({"text": "minilm"})


def test_values_are_written_as_luigi_reads_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my model").mkdir()
    text = _config(
        {
            "corpora": {"mosi": "~/MOSI", "folders": {"mine": "clips 100%"}, "features": ["mosi"]},
            "text.second": {"model": "my model", "layers": "all"},
            "audio": {"model": "no-folder", "front_end": True, "context_s": 1.5},
        }
    )
    assert [line for line in text.splitlines() if line] == [
        "[corpora]",
        f"mosi = {os.path.expanduser('~/MOSI')}",
        f'folders = {{"mine": "{tmp_path}/clips 100%%"}}',
        'features = ["mosi"]',
        "[text.second]",
        f"model = {tmp_path}/my model",
        "layers = all",
        "[audio]",
        "model = no-folder",
        "front_end = true",
        "context_s = 1.5",
        "[build]",
        f"cache = {tmp_path}/cache",
    ]


def test_an_interrupt_reaches_the_build_which_ends_in_its_own_way(tmp_path):
    """As in a notebook, the process that waits is interrupted, and the build is another one, in a session of its own."""
    build = "import sys, time\ntry:\n    print('begun', flush=True); time.sleep(60)\nexcept KeyboardInterrupt:\n    open('ended', 'w')"
    process = subprocess.Popen(
        [sys.executable, "-c", f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n{build}"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    lines = _lines(process, quiet=True)
    assert next(lines) == "begun\n"
    with pytest.raises(KeyboardInterrupt):
        lines.throw(KeyboardInterrupt())
    assert process.returncode == 0
    assert (tmp_path / "ended").exists()
