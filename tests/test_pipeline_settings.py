"""Every setting is checked once, with a message that says what is allowed; luigi.cfg arrives as it was written."""

import json
from pathlib import Path

import pytest
from projects import finish, python

from data.errors import InputError
from pipeline.pseudo_labels.rule import Rule
from pipeline.settings import SAMPLE, CorpusSettings, EncoderSettings, Settings

CLIPS = CorpusSettings("clips", "folder", Path("clips"))


def settings(**changed) -> Settings:
    encoder = EncoderSettings("some-model")
    usual = {"cache": Path("cache"), "corpora": (CLIPS,), "text": encoder, "audio": encoder, "sentence": encoder}
    return Settings(**usual | changed)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"dtype": "bfloat16"}, "Unknown feature dtype 'bfloat16'. Did you mean 'float16'? Available: float16, float32."),
        ({"precision": "float16"}, "Unknown precision 'float16'. Did you mean 'bfloat16'? Available: float32, bfloat16."),
        ({"on_bad_media": "skip"}, "Unknown on_bad_media 'skip'."),
        ({"device": "gpu"}, "Unknown device 'gpu'."),
        ({"modalities": ("text", "video")}, "Unknown modality 'video'."),
        ({"shard_clips": 0}, "shard_clips is 0, expected at least 1."),
        ({"corpora": ()}, "No corpus is configured."),
        ({"corpora": (CLIPS, CLIPS)}, "Corpus name 'clips' is used twice; every corpus needs a name of its own."),
        ({"features": ("clip",)}, "Unknown corpus in 'features' 'clip'. Did you mean 'clips'? Available: clips."),
        ({"donors": ("mosei",)}, "Unknown corpus in 'donors' 'mosei'."),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(changed, message):
    with pytest.raises(InputError) as caught:
        settings(**changed)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"case": "Lower"}, "Unknown text case 'Lower'. Did you mean 'lower'? Available: sentence, lower, keep."),
        ({"pooling": "max"}, "Unknown pooling 'max'. Available: auto, mean, cls, pooler."),
        ({"max_tokens": 2}, "max_tokens is 2, expected 0 (as many as the model takes) or at least 3."),
        ({"max_tokens": -1}, "max_tokens is -1, expected 0"),
    ],
)
def test_an_encoder_setting_that_is_not_allowed_is_refused(changed, message):
    with pytest.raises(InputError) as caught:
        EncoderSettings("some-model", **changed)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("name", ["my clips", "a/b", "..", "", ".hidden"])
def test_a_corpus_name_that_cannot_name_a_file_is_refused(name):
    with pytest.raises(InputError, match="names files: expected letters, digits"):
        CorpusSettings(name, "folder", Path("clips"))


def test_an_unknown_reader_is_refused():
    with pytest.raises(InputError, match=r"Unknown corpus reader 'mossi'\. Did you mean 'mosi'\?"):
        CorpusSettings("mine", "mossi", Path("clips"))


def test_each_modality_has_its_own_encoder():
    chosen = {modality: EncoderSettings(modality) for modality in ("text", "audio", "sentence")}
    assert {modality: settings(**chosen).encoder(modality) for modality in chosen} == chosen


def read(folder: Path, *arguments: str) -> dict:
    code = (
        "import dataclasses, json, pipeline.tasks, pipeline.config as config, luigi.cmdline_parser as parser, sys\n"
        "with parser.CmdlineParser.global_instance(['--module', 'pipeline', 'BuildFeatures', *sys.argv[1:]]):\n"
        "    print(json.dumps(dataclasses.asdict(config.read_settings()), default=str))"
    )
    result = finish(python("-c", code, *arguments, cwd=folder))
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
