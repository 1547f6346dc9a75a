"""The command line of `luigi` while `pipeline` is its module: our settings in --help, and one line for each mistake.

Luigi builds its parser in one function, which `install` replaces. The flags and their meaning stay those of Luigi: `--SECTION-KEY` for
every key of luigi.cfg.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import Any, Never

import luigi
from luigi.cmdline_parser import CmdlineParser
from luigi.parameter import ParameterException
from luigi.task_register import Register

from data.errors import InputError, shown
from data.lookup import expect, nearest
from pipeline.config import SECTIONS, set_sections

_LUIGI_FLAGS = ("workers", "local_scheduler", "scheduler_host", "scheduler_port", "log_level", "module", "help", "help_all")
"""Settings of Luigi's section [core] that --help shows."""

_USAGE = "luigi --module pipeline BuildFeatures [--SECTION-KEY VALUE …]"


def install() -> None:
    """Replaces the function that builds Luigi's parser; a second call changes nothing."""
    CmdlineParser._build_parser = staticmethod(build_parser)


def build_parser(root_task: str | None = None, help_all: bool = False) -> argparse.ArgumentParser:
    """Returns a parser of the flags of all registered tasks and settings, as `CmdlineParser._build_parser` of luigi 3.8 does."""
    if root_task:
        _expect_task(root_task)
    parser = _Parser(add_help=False, usage=_USAGE, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root_task", nargs="?", help=argparse.SUPPRESS, metavar="TASK")
    of_luigi = parser.add_argument_group("Luigi")
    groups = {name: parser.add_argument_group(f"[{name}]", section.__doc__) for name, section in SECTIONS.items()}
    for family, is_without_section, name, parameter in Register.get_all_params():
        flag = "--" + (name if is_without_section else f"{family}_{name}").replace("_", "-")
        is_shown = help_all or family in SECTIONS or family == root_task or (family == "core" and name in _LUIGI_FLAGS)
        group = groups.get(family, of_luigi)
        group.add_argument(flag, help=_help(family, parameter) if is_shown else argparse.SUPPRESS, **_options(parameter, name, family))
        if family == root_task:
            group.add_argument("--" + name.replace("_", "-"), help=_help(family, parameter), **_options(parameter, name))
    for section, keys in set_sections().items():
        group = parser.add_argument_group(f"[{section}]", "A further encoder, of this section of luigi.cfg.")
        for name, parameter in keys.get_params():
            words = _help(keys.__name__, parameter)
            group.add_argument(f"--{section}-{name}".replace("_", "-"), help=words, **_options(parameter, name, section))
    return parser


class _Parser(argparse.ArgumentParser):
    """A parser that ends the process with one line for a mistake."""

    def error(self, message: str) -> Never:
        print(f"error: {message}", file=sys.stderr)
        raise SystemExit(2)

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(self._unknown(unknown))
        for family, _, name, parameter in Register.get_all_params():
            given = getattr(found, f"{family}_{name}", None)
            if given and family not in SECTIONS:  # those of SECTIONS are checked with luigi.cfg
                self._expect_type(f"--{name}" if family == "core" else f"--{family}-{name}", parameter, given)
        if getattr(found, "core_workers", None) and int(found.core_workers) < 1:
            self.error(f"--workers is {shown(found.core_workers)}, expected a whole number from 1.")
        return found

    def _unknown(self, arguments: Sequence[str]) -> str:
        flags = [argument.partition("=")[0] for argument in arguments if argument.startswith("-")]
        if not flags:
            return f"unknown argument {shown(arguments[0])}: values are given as --SECTION-KEY VALUE."
        known = [option for action in self._actions for option in action.option_strings if action.help != argparse.SUPPRESS]
        near = nearest(flags[0], known) or nearest(flags[0], self._option_string_actions)
        hint = f" Did you mean {near!r}?" if near else ""
        return f"unknown option {shown(flags[0])}.{hint} luigi --module pipeline BuildFeatures --help lists all."

    def _expect_type(self, flag: str, parameter: luigi.Parameter[Any], given: Any) -> None:
        try:
            parameter.parse(given)
        except (ValueError, TypeError, ParameterException) as error:
            self.error(f"{flag.replace('_', '-')} is {shown(given)}: {' '.join(str(error).split())[:200]}.")


def _expect_task(name: str) -> None:
    try:
        expect(list(_tasks()) if name not in Register.task_names() else [name], name, "task")
    except InputError as error:
        raise SystemExit(f"error: {error}") from None


def _tasks() -> Iterator[str]:
    """Yields the names of the tasks of loaded modules, without those of Luigi and without settings."""
    for name in Register.task_names():
        task = Register._get_reg()[name]
        if (
            isinstance(task, type)
            and not issubclass(task, luigi.Config)
            and not task.__module__.startswith("luigi.")
            and name[0] != "_"
        ):
            yield name


def _help(family: str, parameter: luigi.Parameter[Any]) -> str:
    words = parameter.description or ""
    default = parameter._default
    if family in SECTIONS and default not in (None, "", (), {}):
        text = parameter.serialize(default)
        words += f" Default: {text}"
    return words.replace("%", "%%")


def _options(parameter: luigi.Parameter[Any], name: str, family: str | None = None) -> dict[str, Any]:
    options = parameter._parser_kwargs(name, family) if family else parameter._parser_kwargs(name)
    return options if options["action"] != "store" or "nargs" in options else options | {"metavar": "VALUE"}
