"""Every kind of finding that a module of data/ makes has a description."""

import ast
from pathlib import Path

import data
from data.findings import FINDING_KINDS

FOLDER = Path(data.__file__).parent


def kinds_made(path):
    """The first arguments of all calls of `Finding` and `MediaError`, where they are written out."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("Finding", "MediaError"):
            yield from (part.value for part in ast.walk(node.args[0]) if isinstance(part, ast.Constant) and isinstance(part.value, str))


def test_kinds_are_made_and_described():
    made = {kind for path in FOLDER.rglob("*.py") for kind in kinds_made(path)}
    assert {"missing", "conflict", "overlap", "speech-rate", "truncated"} <= made
    assert made <= set(FINDING_KINDS)
    assert set(FINDING_KINDS) - made == {"silent"}, "made by data.probe, which returns it as a text"
