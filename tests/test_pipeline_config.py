"""luigi.cfg and the command line become settings as they were written, and a mistake in them is named."""

import configparser
import json
import re
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from projects import finish, python

from pipeline.config import SECTIONS
from pipeline.pseudo_labels.rule import Rule
from pipeline.settings import CHECKOUT, SAMPLE

CODE = """
import dataclasses, json, sys
import luigi.cmdline_parser
import pipeline.tasks
from data.errors import InputError
from pipeline.config import read_settings

with luigi.cmdline_parser.CmdlineParser.global_instance(["BuildFeatures", *sys.argv[1:]]):
    try:
        print(json.dumps(dataclasses.asdict(read_settings()), default=str))
    except InputError as error:
        sys.exit(str(error))
"""


def start(folder: Path, *arguments: str) -> CompletedProcess[str]:
    return finish(python("-c", CODE, *arguments, cwd=folder))


def read(folder: Path, *arguments: str) -> dict:
    result = start(folder, *arguments)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_without_a_luigi_cfg_the_bundled_sample_is_built_with_bundled_encoders(tmp_path):
    found = read(tmp_path)
    assert {corpus["name"]: corpus["root"] for corpus in found["corpora"]} == {
        name: str(SAMPLE / name) for name in ("mosi", "mosei", "meld", "iemocap")
    }
    assert [found[modality]["model"] for modality in ("text", "audio", "sentence")] == ["minilm", "tiny-data2vec", "minilm"]
    assert (found["targets"], found["donors"]) == (["mosi"], ["mosei", "meld", "iemocap"])
    assert (found["dtype"], found["precision"], found["on_bad_media"]) == ("float16", "float32", "stop")


def test_luigi_cfg_and_the_command_line_arrive_as_they_were_written(tmp_path):
    (tmp_path / "luigi.cfg").write_text(
        "[corpora]\nmosi = here/mosi\nmeld = here/meld\nfolders = {'mine': 'clips'}\nfeatures = ['mine']\nmodalities = ['audio']\n"
        "[build]\ncache = made\nshard_clips = 7\non_bad_media = exclude\n"
        "[audio]\nlayer = 1\n[text]\nmodel = roberta-base\nmax-tokens = 50\ncase = keep\n"
        "[pseudo_labels]\nneighbours = 5\nminimum_similarity = 0.25\ndonor_splits = ['train', 'valid']\ncategories = {'fru': 'anger'}\n"
        .replace("'", '"')
    )  # fmt: skip
    found = read(tmp_path, "--build-dtype", "float32")
    roots = {corpus["name"]: (corpus["reader"], corpus["root"]) for corpus in found["corpora"]}
    assert roots == {"mosi": ("mosi", "here/mosi"), "meld": ("meld", "here/meld"), "mine": ("folder", "clips")}
    assert (found["features"], found["modalities"]) == (["mine"], ["audio"])
    assert (found["cache"], found["shard_clips"], found["on_bad_media"]) == (str(tmp_path / "made"), 7, "exclude")
    assert found["dtype"] == "float32"
    assert found["audio"]["layer"] == 1
    assert (found["text"]["model"], found["text"]["max_tokens"], found["text"]["case"]) == ("roberta-base", 50, "keep")
    assert (found["targets"], found["donors"]) == (["mosi"], ["meld"])
    rule = Rule(5, 0.25, ("train", "valid"), categories={"fru": "anger"})
    assert found["rule"] | {"donor_splits": sorted(found["rule"]["donor_splits"])} == json.loads(json.dumps(rule.to_dict()))


def test_the_shipped_luigi_cfg_changes_no_setting_and_explains_every_key(tmp_path):
    (tmp_path / "luigi.cfg").write_bytes((CHECKOUT / "luigi.cfg").read_bytes())
    (tmp_path / "empty").mkdir()
    assert read(tmp_path) == read(tmp_path / "empty")
    text = (CHECKOUT / "luigi.cfg").read_text(encoding="utf-8")
    written = re.sub(r"^#(?=[\w-]+ =)", "", text, flags=re.MULTILINE)
    keys = configparser.ConfigParser()
    keys.read_string(written)
    assert {name: set(keys[name]) for name in SECTIONS} == {name: {key for key, _ in SECTIONS[name].get_params()} for name in SECTIONS}
    (tmp_path / "luigi.cfg").write_text(written.replace("/data/", f"{tmp_path}/"), encoding="utf-8")
    assert read(tmp_path)["corpora"][-1]["name"] == "interviews"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[build]\ndtpye = float16\n", "Unknown setting in section [build] of luigi.cfg: 'dtpye'. Did you mean 'dtype'?"),
        (
            "[pseudo_label]\nneighbours = 3\n",
            "luigi.cfg: unknown section [pseudo_label]. Did you mean [pseudo_labels]? Available: corpora,",
        ),
        ("[build]\nshard_clips = many\n", "luigi.cfg, section [build]: shard_clips is 'many': invalid literal for int()"),
        ('[corpora]\nfolders = ["clips"]\n', "luigi.cfg, section [corpora]: folders is ('clips',), expected {"),
        ("[pseudo_labels]\nneighbours = 0\n", "Pseudo-labels: neighbours is 0, expected a whole number from 1."),
    ],
)
def test_a_mistake_is_named_with_its_section(tmp_path, text, message):
    (tmp_path / "luigi.cfg").write_text(text, encoding="utf-8")
    result = start(tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith(message)


def test_sections_of_luigi_and_of_others_are_left_alone(tmp_path):
    (tmp_path / "luigi.cfg").write_text("[core]\nlog_level = INFO\n[somebody]\nx = 1\n", encoding="utf-8")
    assert read(tmp_path)["dtype"] == "float16"
