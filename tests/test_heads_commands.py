"""The commands of `python -m heads` as modules: where their arguments end, and that choices are those of the data."""

import ast
from pathlib import Path

import pytest
from projects import finish, python

from data import schema
from data.reporting import audio
from data.targets import EMOTION_SOURCES
from heads import commands
from heads.commands import COMMANDS, _flags, evaluate
from pipeline.settings import CHECKOUT

FOLDER = Path(commands.__file__).parent


def test_every_module_without_an_underscore_is_a_command():
    assert sorted(COMMANDS) == sorted(path.stem for path in FOLDER.glob("[!_]*.py"))


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_the_namespace_ends_at_the_command(path):
    """Nothing below gets the `args` of a `run`: they are only asked for their attributes, or given to a helper of this package."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    attributes = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    bare = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == "args" and id(node) not in attributes]
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and any(part in bare for part in node.args)]
    assert {ast.unparse(node.func) for node in calls} <= {"changes", "_trials.execution"}


def test_commands_are_imported_without_torch_and_pandas():
    code = "import sys, heads.__main__; print(*sorted({'torch', 'pandas', 'transformers'} & set(sys.modules)))"
    result = finish(python("-c", code, cwd=CHECKOUT))
    assert (result.returncode, result.stdout) == (0, "\n"), result.stderr


def test_choices_are_those_of_the_data():
    assert evaluate.SPLITS == schema.SPLITS
    assert tuple(EMOTION_SOURCES) == _flags.EMOTION_SOURCES
    assert (_flags.MEDIA, _flags.media_bytes(_flags.MEDIA_MB)) == (tuple(audio.SOURCES), audio.LIMIT_BYTES)
