"""Files of settings as text: checked (encoding, sections, keys, lines), and written.

Luigi reads luigi.cfg as soon as it is imported, and a mistake there is a traceback before any code of ours runs. This module therefore
imports nothing of Luigi; `pipeline.luigi_command` and `pipeline.__main__` call it first. The values are checked in `pipeline.config`.
"""

import configparser
import os
import re
from collections.abc import Mapping
from pathlib import Path

from data.errors import InputError, shown

_PLACES = ("/etc/luigi/client.cfg", "/etc/luigi/luigi.cfg", "client.cfg", "luigi.cfg")
"""Files that Luigi reads, in its order; a later one wins (luigi 3.8, `LuigiConfigParser._config_paths`)."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_PARSERS = ("cfg", "conf", "ini")
_LONGEST_LINE = 10_000
"""Characters. Python's parser needs time in proportion to the square of a run of spaces: 0.5 s for so many, an hour for a million."""


def written(sections: Mapping[str, Mapping[str, str]]) -> str:
    """Writes sections of keys with values as a luigi.cfg; a percent sign has a meaning there and is doubled."""
    return "\n".join(
        line
        for name, values in sections.items()
        for line in (f"[{name}]", *(f"{key} = {value.replace('%', '%%')}" for key, value in values.items()), "")
    )


def expect_readable_files() -> None:
    """Reads every file of settings that Luigi will read.

    Raises:
        InputError: A file cannot be read, or a line of it is neither a section, a key nor a comment.
    """
    kind, named = os.environ.get("LUIGI_CONFIG_PARSER", "cfg"), os.environ.get("LUIGI_CONFIG_PATH")
    if kind not in _PARSERS:
        raise InputError(f"LUIGI_CONFIG_PARSER is {shown(kind)}, but the settings are read from luigi.cfg only. Unset it.")
    if named is not None and not os.path.exists(named):
        raise InputError(f"LUIGI_CONFIG_PATH is {shown(named)}, but there is no such file. Correct it, or unset it to use luigi.cfg.")
    for place in (*_PLACES, *([named] if named is not None else [])):
        if os.path.lexists(place):
            _expect_readable(Path(place))


def _expect_readable(path: Path) -> None:
    text = _text(path)
    for number, line in enumerate(text.split("\n"), 1):
        if len(line) > _LONGEST_LINE:
            raise InputError(
                f"{path}, line {number}: {shown(line)} has {len(line):,} characters, expected at most {_LONGEST_LINE:,}."
                " Continue it on the next lines, which begin with spaces."
            )
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # pyright: ignore[reportAttributeAccessIssue]  # as Luigi: keys keep their case
    try:
        parser.read_string(text)
    except configparser.Error as error:
        problem = _problem(error, text.split("\n"))
        raise InputError(f"{path}, {problem}") from None
    except AttributeError:  # CPython 3.11: an indented line below a line that is no key
        raise InputError(f"{path}: an indented line continues the line above, which is no 'key = value'. Remove the spaces.") from None


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}), expected a file of settings.") from None
    if content.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{path}: begins with a byte order mark. Save it as plain UTF-8 (in Notepad: UTF-8, not UTF-8 with BOM).")
    try:
        text = content.decode().replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        line = content.split(b"\n")[number - 1]
        raise InputError(f"{path}, line {number}: {shown(line)} is not UTF-8. Save the file as UTF-8.") from None
    if found := _CONTROL.search(text):
        number = text.count("\n", 0, found.start()) + 1
        raise InputError(f"{path}, line {number}: a control character, {shown(found[0])}. Remove it.")
    return text


def _problem(error: configparser.Error, lines: list[str]) -> str:
    """Describes what the parser has found: line, section and key, and what to do."""
    if isinstance(error, configparser.DuplicateSectionError):
        return f"line {error.lineno}: section [{error.section}] a second time. Join the two sections."
    if isinstance(error, configparser.DuplicateOptionError):
        return f"line {error.lineno}, section [{error.section}]: {shown(error.option)} a second time. Remove one of the two."
    if isinstance(error, configparser.MissingSectionHeaderError):
        return f"line {error.lineno}: {shown(lines[error.lineno - 1])} stands before the first [section]. Put it below its section."
    if isinstance(error, configparser.ParsingError) and error.errors:
        number = error.errors[0][0]
        headers = [header for line in lines[:number] if (header := configparser.ConfigParser.SECTCRE.match(line.strip()))]
        where = f", section [{headers[-1]['header']}]" if headers else ""
        return f"line {number}{where}: {shown(lines[number - 1])} is neither a [section] nor 'key = value'. Correct or remove it."
    return shown(str(error))
