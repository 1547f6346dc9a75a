"""luigi.cfg and the command line become settings as they were written, and a mistake in them is named."""

import configparser
import json
import random
import re
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from luigi.configuration import LuigiConfigParser
from projects import finish, forked

from pipeline import this_build
from pipeline.config import SECTIONS
from pipeline.pseudo_labels.rule import Rule
from pipeline.settings import CHECKOUT, SAMPLE

CODE = """
import dataclasses, json, sys
import luigi.cmdline_parser
import pipeline.tasks
from data.errors import InputError
from pipeline import command_line
from pipeline.config import read_settings

command_line.install()
with luigi.cmdline_parser.CmdlineParser.global_instance(["BuildFeatures", *sys.argv[1:]]):
    try:
        print(json.dumps(dataclasses.asdict(read_settings()), default=str))
    except InputError as error:
        sys.exit(str(error))
"""

VALUES = (
    "",
    "%",
    "%(x)s",
    "${NOPE}",
    "null",
    "[1]",
    "{}",
    '["mosi", 3]',
    "[" * 5000 + "]" * 5000,
    "9" * 5000,
    "nan",
    "1e400",
    "~nosuch/x",
)
VALUES += (
    "x" * 5000,
    '{"a/b": "x"}',
    '{"a": 1}',
    '{"a": "x", "a": "y"}',
    '["\\ud800"]',
    '{"a": "\\n"}',
    "a\n  b",
    "\0",
    "\ufeff",
    "true",
    " ",
)
PIECES = ("\n", "\n ", "[", "]", "=", ":", "%", "$", "{", '"', "\t", "\r", "\0", "\x85", "ü")


def start(folder: Path, *arguments: str) -> CompletedProcess[str]:
    return finish(forked("-c", CODE, *arguments, cwd=folder))


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
        "[audio]\nlayers = 1\nframe_rate_hz = 12.5\ncontext-s = 1.5\n[text]\nlayers = mean(-4..-1)\nmodel = roberta-base\n"
        "max-tokens = 50\ncase = keep\ncontext = 2\n"
        "[pseudo_labels]\nneighbours = 5\nminimum_similarity = 0.25\ndonor_splits = ['train', 'valid']\ncategories = {'fru': 'anger'}\n"
        .replace("'", '"')
    )  # fmt: skip
    found = read(tmp_path, "--build-dtype", "float32")
    roots = {corpus["name"]: (corpus["reader"], corpus["root"]) for corpus in found["corpora"]}
    assert roots == {"mosi": ("mosi", "here/mosi"), "meld": ("meld", "here/meld"), "mine": ("folder", "clips")}
    assert (found["features"], found["modalities"]) == (["mine"], ["audio"])
    assert (found["cache"], found["shard_clips"], found["on_bad_media"]) == (str(tmp_path / "made"), 7, "exclude")
    assert found["dtype"] == "float32"
    assert (found["audio"]["layers"], found["audio"]["frame_rate_hz"], found["audio"]["context_s"]) == ("1", 12.5, 1.5)
    assert found["text"]["layers"] == "mean(-4..-1)"
    assert (found["text"]["model"], found["text"]["max_tokens"], found["text"]["case"]) == ("roberta-base", 50, "keep")
    assert (found["text"]["context"], found["sentence"]["context"]) == (2, 0)
    assert (found["targets"], found["donors"]) == (["mosi"], ["meld"])
    rule = Rule(5, 0.25, ("train", "valid"), categories={"fru": "anger"})
    assert found["rule"] | {"donor_splits": sorted(found["rule"]["donor_splits"])} == json.loads(json.dumps(rule.to_dict()))


def test_labels_and_the_fold_of_iemocap_are_stated_by_corpus(tmp_path):
    (tmp_path / "luigi.cfg").write_text(
        '[corpora]\nmosi = a\nmeld = b\niemocap = c\nfolders = {"sims": "d"}\niemocap_test_session = 2\n'
        'labels = {"meld": "meld7", "sims": "[-1, 1]"}\n'
    )
    found = read(tmp_path)
    labels = {corpus["name"]: (corpus["labels"]["name"], corpus["labels"]["scale"]) for corpus in found["corpora"]}
    assert labels == {"mosi": ("", None), "meld": ("meld7", None), "iemocap": ("", None), "sims": ("", [-1, 1])}
    assert [corpus["test_session"] for corpus in found["corpora"]] == [None, None, 2, None]
    assert found["donors"] == ["iemocap"]  # meld has other emotions


def test_the_old_name_of_layers_is_read_with_one_line(tmp_path):
    (tmp_path / "luigi.cfg").write_text("[text]\nlayer = 4\n[audio]\nlayer = -1\n")
    result = start(tmp_path)
    assert (result.returncode, result.stderr.splitlines()) == (
        0,
        [
            "luigi.cfg, section [text]: layer = 4 is read as layers = 4; rename it.",
            "luigi.cfg, section [audio]: layer = -1 is read as layers = -1; rename it.",
        ],
    )
    found = json.loads(result.stdout)
    assert (found["text"]["layers"], found["audio"]["layers"]) == ("4", "-1")
    assert read(tmp_path / "..", "--text-layer", "3")["text"]["layers"] == "3"


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
        (
            '[corpora]\nfolders = ["clips"]\n',
            "luigi.cfg, section [corpora]: folders is '[\"clips\"]': expected names with their values",
        ),
        ("[pseudo_labels]\nneighbours = 0\n", "[pseudo_labels] neighbours is 0, expected a whole number from 1."),
    ],
)
def test_a_mistake_is_named_with_its_section(tmp_path, text, message):
    (tmp_path / "luigi.cfg").write_text(text, encoding="utf-8")
    result = start(tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith(message)


def test_sections_with_a_name_are_further_encoders_with_the_defaults_of_their_keys(tmp_path):
    (tmp_path / "luigi.cfg").write_text(
        "[text]\ncase = keep\n[text.roberta]\nmodel = roberta-base\nmax-tokens = 50\n[audio.8]\nlayers = 8\n"
    )
    found = read(tmp_path, "--text.roberta-case", "lower", "--audio.8-model", "data2vec-audio-base")
    assert list(found["sets"]) == ["text.roberta", "audio.8"]
    text, audio = found["sets"].values()
    assert (text["model"], text["max_tokens"], text["case"], text["layers"]) == ("roberta-base", 50, "lower", "-1")
    assert (audio["model"], audio["layers"]) == ("data2vec-audio-base", "8")
    assert (found["text"]["case"], found["text"]["max_tokens"], found["audio"]["layers"]) == ("keep", 0, "-1")


def test_sections_of_luigi_and_of_others_are_left_alone(tmp_path):
    (tmp_path / "luigi.cfg").write_text("[core]\nlog_level = INFO\n[somebody]\nx = 1\n", encoding="utf-8")
    assert read(tmp_path)["dtype"] == "float16"


@pytest.fixture
def outcome(tmp_path, monkeypatch):
    """A function that reads the settings of a luigi.cfg in this process, and returns how that ended: "" or the message."""

    def plan(settings, _progress):
        assert not any(corpus.root.is_file() for corpus in (*settings.corpora,))
        raise SystemExit("")

    def read(content: bytes) -> str:
        (tmp_path / "luigi.cfg").write_bytes(content)
        monkeypatch.setattr(LuigiConfigParser, "_instance", None)
        this_build.current_build.cache_clear()
        with pytest.raises(SystemExit) as caught:
            this_build.current_build()
        return str(caught.value.code)

    monkeypatch.chdir(tmp_path)
    for name in ("LUIGI_CONFIG_PATH", "LUIGI_CONFIG_PARSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(this_build, "make_plan", plan)
    yield read
    this_build.current_build.cache_clear()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[build]\ncache = /data/50%off\n", "[build]: cache is '/data/50%off': '%' has a meaning there: write %% for a percent sign."),
        (
            "[text]\nmodel = %(home)s/m\n",
            "[text]: model is '%(home)s/m': %(name)s stands for another key, and there is none",
        ),
        ("[text]\nmodel = %(model)s\n", "[text]: model is '%(model)s': it refers to itself"),
        ("[text]\nmodel = ${NOPE}/m\n", "[text]: model is '${NOPE}/m': ${NAME} stands for an environment variable, and there is none"),
        ("[corpora]\nmodalities = [1]\n", "[corpora]: modalities is '[1]': expected a list of names, such as"),
        ("[corpora]\nfeatures = mosi\n", "[corpora]: features is 'mosi': not JSON (Expecting value at character 1)"),
        ('[corpora]\nfolders = {"a": "x", "a": "y"}\n', "a name occurs twice"),
        ("[pseudo_labels]\ncategories = [1]\n", "[pseudo_labels]: categories is '[1]': expected names with their values"),
        ("[build]\ncache =\n", "[build]: cache is empty, expected a folder."),
        ("[text]\nmodel =\n", "[text]: model is empty, expected a name or a folder."),
        ("[text]\ncase = Keep\n", "[text]: Unknown text case 'Keep'. Did you mean 'keep'?"),
        ("[corpora]\nmosi = ~nosuchuser/x\n", "[corpora]: mosi is '~nosuchuser/x': there is no user of this name here."),
        ("[corpora]\nmosi = a\n  meld = b\n", "[corpora]: mosi is 'a\\nmeld = b': expected one line"),
        ("[audio]\nlayers = 99999999999\n", "[audio]: layers is '99999999999', expected a layer such as -1 or 8, several such as"),
        (
            "[text]\nlayers = 6;9\n",
            "[text]: layers is '6;9', expected a layer such as -1 or 8, several such as 6,9,12 or 6..12, all, or",
        ),
        ("[text]\nlayers = 6\nlayer = 9\n", "[text]: layers and its old name layer are both set. Keep layers."),
        ("[audio]\nframe_rate_hz = nan\n", "[audio]: frame_rate_hz is nan, expected frames a second, or 0 for as many as the"),
        ("[adapt]\nmethod = lorra\n", "luigi.cfg: Unknown [adapt] method 'lorra'. Did you mean 'lora'?"),
        ("[adapt]\nlr = nan\n", "luigi.cfg: [adapt] lr is nan, expected a number above 0 and up to 1, or 0 for the default."),
        ("[adapt]\nepochs = many\n", "luigi.cfg, section [adapt]: epochs is 'many': invalid literal for int()"),
        ("[adapt]\ngradient_checkpointing = perhaps\n", "section [adapt]: gradient_checkpointing is 'perhaps'"),
        ("[worker]\nwait_interval = soon\n", "[worker]: wait_interval is 'soon': could not convert string to float"),
        ("[resources]\ngpu = one\n", "[resources]: gpu is 'one', expected a whole number."),
        ("[wroker]\nwait_interval = 1\n", "unknown section [wroker]. Did you mean [worker]?"),
        ("[BuildFeatures]\ncache = x\n", "section [BuildFeatures]: 'cache' is a setting of [build]. Put it there."),
        ("[encoders]\nmax-tokens = 9\n", "section [encoders]: 'max-tokens' is a setting of [text], [sentence]. Put it there."),
        ("[DEFAULT]\ncache = x\n", "section [DEFAULT]: 'cache' is a setting of [build]. Put it there."),
        ("[txt.roberta]\nmodel = x\n", "unknown section [txt.roberta]. Did you mean [text.roberta]?"),
        ("[text.roberta]\nmodle = x\n", "Unknown setting in section [text.roberta] of luigi.cfg: 'modle'. Did you mean 'model'?"),
        ("[text.a b]\nmodel = x\n", "section [text.a b]: 'a b' cannot name a set of features: expected letters, digits and '-'."),
        ("[text.]\nmodel = x\n", "section [text.]: '' cannot name a set of features"),
        ("[audio.default]\n", "section [audio.default]: 'default' is the set without a name of its own. Choose another name."),
        ("[sentence.b]\n", "unknown section [sentence.b]: only text and audio have sets with names of their own."),
        ("[text.b]\ncase = Keep\n", "section [text.b]: Unknown text case 'Keep'. Did you mean 'keep'?"),
        ("[text.b]\nlayers = last\n", "section [text.b]: layers is 'last'"),
        ("[text.b]\nmodel =\n", "section [text.b]: model is empty, expected a name or a folder."),
        ("[text.b]\nmodel = %(home)s/m\n", "[text.b]: model is '%(home)s/m': %(name)s stands for another key, and there is none"),
        (
            '[text.b]\n[corpora]\nmodalities = ["text.c"]\n',
            "Unknown modality in [corpora] modalities: 'text.c'. Did you mean 'text.b'? Available: text, audio, text.b.",
        ),
    ],
)
def test_a_value_that_cannot_be_read_is_named_with_section_and_key(outcome, text, message):
    assert message in outcome(text.encode())
    assert outcome(text.encode()).startswith(("error: luigi.cfg", "error: Unknown"))


def test_keys_of_the_default_section_may_be_referred_to(outcome):
    assert outcome(b"[DEFAULT]\nroot = /data\n[corpora]\nmosi = %(root)s/mosi\n[build]\ncache = %(root)s/100%%\n") == ""


@pytest.mark.parametrize("seed", range(60))
def test_a_damaged_luigi_cfg_is_read_or_named_in_one_line(outcome, seed):
    said = outcome(damaged(random.Random(seed)))
    assert said == "" or said.startswith("error: ")
    assert "\n" not in said
    assert len(said) < 600
    assert said.isprintable()


def damaged(chance: random.Random) -> bytes:
    """The shipped luigi.cfg with all keys set, and one value, line, byte or piece of it replaced, repeated, cut out or added."""
    written = re.sub(r"^#(?=[\w-]+ =)", "", (CHECKOUT / "luigi.cfg").read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = [line for line in written.splitlines() if line and not line.startswith("#")]
    text = "\n".join(lines).encode()
    at = chance.randrange(len(text))
    kind = chance.choice(["value", "value", "value", "line", "byte", "cut", "end", "piece"])
    if kind == "value":
        number = chance.choice([number for number, line in enumerate(lines) if "=" in line])
        lines[number] = f"{lines[number].split('=')[0]}= {chance.choice(VALUES)}"
    elif kind == "line":
        lines.insert(chance.randrange(len(lines)), chance.choice(lines))
    if kind in ("value", "line"):
        return "\n".join(lines).encode()
    return {
        "byte": text[:at] + bytes([chance.randrange(256)]) + text[at + 1 :],
        "cut": text[:at] + text[at + chance.randrange(1, 60) :],
        "end": text[:at],
        "piece": text[:at] + chance.choice(PIECES).encode() + text[at:],
    }[kind]
