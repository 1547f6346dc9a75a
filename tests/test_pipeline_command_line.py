"""The command line of BuildFeatures: --help shows every setting with a sentence, and a mistake is one line with the nearest name."""

import re

import pytest
from luigi.configuration import LuigiConfigParser

import pipeline.tasks  # noqa: F401  # registers the tasks
from pipeline.command_line import build_parser
from pipeline.config import SECTIONS


def test_help_shows_every_setting_with_a_sentence(monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")  # no line is broken inside a word
    text = build_parser("BuildFeatures").format_help()
    assert text.startswith("usage: luigi --module pipeline BuildFeatures [--SECTION-KEY VALUE …]\n")
    for section, settings in SECTIONS.items():
        assert f"[{section}]:\n" in text
        for name, parameter in settings.get_params():
            flag = f"--{section}-{name}".replace("_", "-")
            found = re.search(rf"  {flag}(?: VALUE)?\s+(.*?)(?=\n  --|\n\n|\Z)", text, re.DOTALL)
            assert found, flag
            words = " ".join(found[1].split())
            assert words.startswith(parameter.description), flag
            assert parameter.description.endswith("."), flag
    assert "--workers VALUE" in text
    assert "--email" not in text
    assert "--email" in build_parser("BuildFeatures", help_all=True).format_help()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--text-modle", "x"], "unknown option '--text-modle'. Did you mean '--text-model'?"),
        (["--build-cahce=x"], "unknown option '--build-cahce'. Did you mean '--build-cache'?"),
        (["--zzz"], "unknown option '--zzz'. luigi --module pipeline BuildFeatures --help lists all."),
        (["roberta"], "unknown argument 'roberta': values are given as --SECTION-KEY VALUE."),
        (["--text-model"], "argument --text-model: expected one argument"),
        (["--workers", "many"], "--workers is 'many': invalid literal for int()"),
        (["--workers", "0"], "--workers is '0', expected a whole number from 1."),
        (["--log-level", "LOUD"], "--log-level is 'LOUD': LOUD is not a valid choice"),
    ],
)
def test_a_mistake_is_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        build_parser("BuildFeatures").parse_args(["BuildFeatures", *arguments])
    assert caught.value.code == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"error: {message}")
    assert shown.count("\n") == 1


def test_values_arrive_where_luigi_looks_for_them():
    found = build_parser("BuildFeatures").parse_args(["BuildFeatures", "--text-model", "m", "--workers", "2", "--build-shard-clips=7"])
    assert (found.root_task, found.text_model, found.core_workers, found.build_shard_clips) == ("BuildFeatures", "m", "2", "7")


def test_an_unknown_task_names_the_nearest():
    with pytest.raises(SystemExit) as caught:
        build_parser("BuildFeature")
    assert str(caught.value.code).startswith(
        "error: Unknown task 'BuildFeature'. Did you mean 'BuildFeatures'? Available: AdaptedEncoder, BuildFeatures, "
    )
    assert "_Task" not in str(caught.value.code)


def test_sections_of_further_encoders_have_flags_of_their_own(tmp_path, monkeypatch, capsys):
    (tmp_path / "luigi.cfg").write_text("[text.roberta]\nmodel = roberta-base\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LUIGI_CONFIG_PATH", raising=False)
    monkeypatch.setattr(LuigiConfigParser, "_instance", None)
    parser = build_parser("BuildFeatures")
    assert "[text.roberta]:\n  A further encoder, of this section of luigi.cfg.\n" in parser.format_help()
    found = parser.parse_args(["BuildFeatures", "--text.roberta-max-tokens", "9"])
    assert getattr(found, "text.roberta_max_tokens") == "9"
    with pytest.raises(SystemExit):
        parser.parse_args(["BuildFeatures", "--text.roberta-modle", "x"])
    assert "Did you mean '--text.roberta-model'?" in capsys.readouterr().err
