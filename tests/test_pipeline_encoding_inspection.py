"""Encoders are tried while a build is planned, before anything is encoded, once, and outside of the process that plans."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from projects import finish, forked
from tiny_checkpoints import AUDIO, TEXT, write_model

from data.errors import InputError
from pipeline.encoding import encoders, inspection
from pipeline.encoding.checkpoints import locate
from pipeline.encoding.inspection import Candidate
from pipeline.settings import CHECKOUT, EncoderSettings


@pytest.fixture
def candidate(tiny_bert):
    settings = EncoderSettings(str(tiny_bert))
    return Candidate("text", locate("text", settings), settings, {"files": "those of tiny_bert"})


def test_an_encoder_is_tried_once_while_its_key_stays(candidate, tmp_path, monkeypatch):
    tried = tmp_path / "tried"
    monkeypatch.setattr(encoders, "make", lambda modality, *_: tried.open("a").write(f"{modality} {os.getpid()}\n"))
    memo = tmp_path / "cache" / "encoders.json"
    inspection.inspect([candidate], memo)
    inspection.inspect([candidate], memo)
    ((modality, process),) = [line.split() for line in tried.read_text().splitlines()]
    assert modality == "text"
    assert int(process) != os.getpid()
    assert json.loads(memo.read_text()) == [candidate.key]
    monkeypatch.setattr(inspection, "installed_version", lambda name: "another")
    inspection.inspect([candidate], memo)
    assert len(tried.read_text().splitlines()) == 2
    assert len(json.loads(memo.read_text())) == 2


def test_an_encoder_that_was_refused_is_not_remembered(candidate, tmp_path, monkeypatch):
    def refuse(*_):
        raise InputError("the reason")

    monkeypatch.setattr(encoders, "make", refuse)
    for _ in range(2):
        with pytest.raises(InputError, match="the reason"):
            inspection.inspect([candidate], tmp_path / "encoders.json")
    assert not (tmp_path / "encoders.json").exists()


def test_a_process_that_the_system_ends_is_one_message(candidate, tmp_path, monkeypatch):
    monkeypatch.setattr(encoders, "make", lambda *_: os._exit(9))
    with pytest.raises(InputError, match=r"the process that tried this encoder was ended by the system. Is there enough memory\?"):
        inspection.inspect([candidate], tmp_path / "encoders.json")


@pytest.mark.parametrize("content", ["[[1]", "[[1]]", "3", "[" * 100_000], ids=["cut off", "lists", "number", "deep"])
def test_a_damaged_memo_counts_as_none(candidate, tmp_path, monkeypatch, content):
    monkeypatch.setattr(encoders, "make", lambda *_: None)
    memo = tmp_path / "encoders.json"
    memo.write_text(content)
    inspection.inspect([candidate], memo)
    assert json.loads(memo.read_text()) == [candidate.key]


def test_trying_leaves_torch_out_of_the_process_that_plans(tiny_bert, tmp_path):
    code = (
        "import sys; from pathlib import Path; from pipeline.encoding.checkpoints import locate;"
        "from pipeline.encoding.inspection import Candidate, inspect; from pipeline.settings import EncoderSettings;"
        "settings = EncoderSettings(sys.argv[1]); source = locate('text', settings);"
        "inspect([Candidate('text', source, settings, {})], Path(sys.argv[2]));"
        "print(Path(sys.argv[2]).is_file(), sorted({'torch', 'transformers', 'tokenizers'} & set(sys.modules)))"
    )
    arguments = [sys.executable, "-c", code, str(tiny_bert), str(tmp_path / "memo")]
    result = subprocess.run(arguments, cwd=CHECKOUT, capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("True []\n", "")


def test_planning_refuses_what_cannot_be_encoded(project, tiny_bert, tmp_path):
    model = write_model(tmp_path / "roberta", TEXT["roberta"]()).folder
    with pytest.raises(InputError, match=r"roberta: no tokenizer.json \(or vocab.json and merges.txt\): the tokenizer is missing"):
        project.plan(text=EncoderSettings(str(model)))
    speech = write_model(tmp_path / "hubert", AUDIO["hubert"]()).folder
    with pytest.raises(InputError, match=r"preprocessor_config.json: no such file"):
        project.plan(audio=EncoderSettings(str(speech)))
    with pytest.raises(InputError, match=r"a hubert model reads input_values; expected is an encoder of texts"):
        project.plan(text=EncoderSettings(str(speech)))
    with pytest.raises(InputError, match=r"layers is '7', expected 0 \(embeddings\) to 1 for tiny-bert"):
        project.plan(text=EncoderSettings(str(tiny_bert), layers="7"))
    pointer = shutil.copytree(tiny_bert, tmp_path / "pointer") / "model.safetensors"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(InputError, match=r"model.safetensors: a git-lfs pointer"):
        project.plan(sentence=EncoderSettings(str(pointer.parent)))


def test_a_refused_encoder_is_one_line_and_nothing_is_encoded(project, tmp_path):
    model = write_model(tmp_path / "roberta", TEXT["roberta"]()).folder
    project.configure(text={"model": model})
    result = finish(forked("-m", "pipeline", "explain", cwd=project.root))
    assert result.returncode != 0
    assert result.stderr == (
        f"error: {model}: no tokenizer.json (or vocab.json and merges.txt): the tokenizer is missing, and without it all texts look "
        "alike. Copy its files from the original model.\n"
    )
    assert not [path for path in project.cache.rglob("*") if path.suffix in (".h5", ".parquet")]
