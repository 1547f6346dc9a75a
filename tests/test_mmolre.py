"""`mmolre`, the one front door: every command of the packages, each called as it is called by its prescribed name."""

import sys

import pytest
from projects import finish, forked, python

import data.__main__
import heads.__main__
import mmolre
import pipeline.__main__
from pipeline.settings import CHECKOUT


@pytest.fixture(autouse=True)
def own_arguments(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["pytest"])


def commands_of(main, capsys):
    """The commands that a package names when it is given none that it knows."""
    with pytest.raises(SystemExit):
        main(["no-such-command"])
    return [name.strip("' ") for name in capsys.readouterr().err.partition("(choose from ")[2].partition(")")[0].split(",")]


MAINS = [("data", data.__main__.main), ("heads", heads.__main__.main), ("pipeline", pipeline.__main__.main)]


@pytest.mark.parametrize(("package", "main"), MAINS)
def test_the_front_door_knows_every_command_of_a_package(package, main, capsys):
    assert sorted(set(mmolre.COMMANDS[package]) - {"build"}) == sorted(commands_of(main, capsys))


def test_no_two_packages_have_a_command_of_one_name():
    names = [name for commands in mmolre.COMMANDS.values() for name in commands]
    assert len(names) == len(set(names))


def test_without_a_command_it_lists_all_of_them(capsys):
    assert mmolre.main([]) == 2
    without = capsys.readouterr().out
    assert mmolre.main(["--help"]) == 0
    assert capsys.readouterr().out == without
    assert all(f"  {name} " in without for commands in mmolre.COMMANDS.values() for name in commands)


def test_a_mistyped_command_has_a_suggestion(capsys):
    assert mmolre.main(["evalate", "x"]) == 2
    assert capsys.readouterr().err == "error: unknown command 'evalate'. Did you mean 'evaluate'? mmolre --help lists all.\n"


def test_arguments_and_exit_status_are_those_of_the_command(capsys, tmp_path):
    assert mmolre.main(["ls", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}: not a cache")
    assert mmolre.main(["list"]) == 0
    assert "mmolre" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["doctor", "fit", "explain"])
def test_help_names_the_command_as_it_was_called(command, capsys):
    with pytest.raises(SystemExit, match="0"):
        mmolre.main([command, "--help"])
    assert capsys.readouterr().out.startswith(f"usage: mmolre {command} ")


def test_a_build_is_the_luigi_command(built):
    done = finish(forked("-m", "mmolre", "build", "--build-dtype", "float16", "--text-model", "nowhere", cwd=built.root))
    assert done.returncode != 0
    assert "nowhere" in done.stderr

    done = finish(forked("-m", "mmolre", "build", cwd=built.root))
    assert done.returncode == 0
    assert "BuildFeatures: computed nothing; reused 2 manifests, 4 features, 1 pseudo labels, 1 report" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "others"),
    [(["info", "no.h5"], {"heads", "pipeline", "luigi", "torch"}), (["score", "no.csv", "--corpus", "x"], {"pipeline", "luigi"})],
)
def test_it_imports_only_the_package_of_the_command(arguments, others):
    code = f"import mmolre, sys; mmolre.main({arguments!r}); print(sorted({others!r} & set(sys.modules)))"
    assert finish(python("-c", code, cwd=CHECKOUT)).stdout == "[]\n"
