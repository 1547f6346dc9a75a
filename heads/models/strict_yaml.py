"""YAML text of users, parsed: everything that PyYAML answers with another exception, a crash or endless work is refused in one way.

Files are read in `heads.runs.config`, values of `--set` in `heads.models.options`.
"""

from typing import Any

import yaml
from yaml.composer import ComposerError

from data.errors import reason

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The loader written in C where PyYAML has it: some ten times as fast."""

_DEEPEST = 50
"""Levels of nesting. Deeper text overruns the stack of the loader, which is written in C and ends the process."""

_MOST_VALUES = 100_000
"""Values after aliases are replaced by what they stand for: a few lines of aliases can stand for billions."""

_UNREADABLE = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, ArithmeticError)
"""What PyYAML raises. All but the first come from values that do not fit their tags, such as `!!int ""` or 2001-99-99."""


def parse_yaml(text: str) -> Any:
    """Parse YAML. A name that is given twice in a mapping, of which YAML takes the last, is refused.

    Raises:
        ValueError: The text is no YAML, is nested too deeply, or stands for too many values. Its text is one line.
    """
    try:
        _refuse_deep(text)
        loader = _LOADER(text)
        try:
            node = loader.get_single_node()
            if _count(node, {}) > _MOST_VALUES:
                raise ComposerError(problem=f"more than {_MOST_VALUES:,} values")
            return None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except _UNREADABLE as error:
        raise ValueError(reason(error)) from error


def _refuse_deep(text: str) -> None:
    loader, depth = _LOADER(text), 0
    try:
        while loader.check_event():
            event = loader.get_event()
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise ComposerError(problem=f"nested more than {_DEEPEST} levels deep", problem_mark=event.start_mark)
    finally:
        loader.dispose()


def _count(node: yaml.Node | None, known: dict[int, int]) -> int:
    """Count the values below a node, with those of aliases; `known` has the counts of nodes that were seen, 0 for those in progress.

    Raises:
        ComposerError: A name is given twice in a mapping, or a value contains itself.
    """
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) in known:  # an alias is the node of its anchor
        if not known[id(node)]:
            raise ComposerError(problem="a value contains itself", problem_mark=node.start_mark)
        return known[id(node)]
    known[id(node)] = 0
    names, count = set(), 1
    for part in node.value:
        key, value = part if isinstance(node, yaml.MappingNode) else (None, part)
        if isinstance(key, yaml.ScalarNode):
            if key.value in names:
                raise ComposerError(problem=f"{key.value} is given twice", problem_mark=key.start_mark)
            names.add(key.value)
        count += _count(key, known) + _count(value, known)
    known[id(node)] = count
    return count
