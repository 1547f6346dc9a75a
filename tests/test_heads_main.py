"""`python -m heads`: its help, its exit statuses, and the end of a command that is interrupted or has no reader."""

import os
import re
import sys

import pytest
from command_line import call

from heads.__main__ import main
from heads.commands import COMMANDS


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("", "list params fit sweep tables evaluate predict score examples: exit"),
        ("list", "HEAD --preset"),
        ("params", "--help"),
        (
            "fit",
            "--cache --corpus --head --preset --task --emotions --minimum-similarity --modalities --seed --seeds --set --memory-gb"
            " --out --device",
        ),
        ("evaluate", "RUN --split --checkpoint --cache --device"),
        ("predict", "RUN --cache --corpus --out --device"),
        ("tables", "--only --heads --seeds --preset --corpora --split --add --cache --out --dry-run --pack-size --tensorboard"),
        ("score", "FILE --cache --corpus --emotions --split"),
    ],
)
def test_help_names_what_can_be_given(command, names, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code == 0
    assert set(names.split()) <= set(re.findall(r"[\w:-]+", capsys.readouterr().out))


@pytest.mark.parametrize("command", ["list", "params", "fit", "sweep", "tables", "evaluate", "predict", "report", "score"])
def test_every_command_says_what_it_does_in_a_sentence(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert re.match(r"usage: .*?\n\n[A-Z][^\n]+", capsys.readouterr().out, re.S)


@pytest.mark.parametrize("arguments", [[], ["train"], ["fit"], ["fit", "--corpus", "mosi", "--seed", "one"], ["predict", "run"]])
def test_a_command_line_that_cannot_be_understood_shows_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: python -m heads ")


def test_ctrl_c_promises_to_go_on_only_where_something_was_saved(monkeypatch, capsys):
    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    for command, line in (("score", "score a.csv --corpus mosi"), ("fit", "fit --corpus mosi")):
        monkeypatch.setattr(COMMANDS[command], "run", interrupt)
        status, _, err = call(capsys, *line.split())
        assert status == 130
        assert err == ("Interrupted.\n" if command == "score" else "Interrupted. The same command goes on where it was last saved.\n")


def test_a_reader_that_has_seen_enough_is_no_error(monkeypatch, capsys):
    reading, writing = os.pipe()
    os.close(reading)
    with monkeypatch.context() as patch, os.fdopen(writing, "w") as pipe:
        patch.setattr(sys, "stdout", pipe)
        patch.setattr(COMMANDS["params"], "run", lambda args: print("a line") or 0)
        assert main(["params"]) == 1
        pipe.write("what the interpreter flushes when it ends")
        pipe.flush()
    assert capsys.readouterr().err == ""
