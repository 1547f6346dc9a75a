"""The command `luigi` of this environment: it checks the files of settings, then hands over to Luigi.

Luigi's own command reads luigi.cfg while it is imported; a line there that is no setting is a traceback before any module is loaded.
"""

import argparse
import importlib.util
import sys

from data.errors import InputError
from data.lookup import nearest


def main() -> int | None:
    """Runs the command line of `luigi` and returns the exit status."""
    from pipeline.config_file import expect_readable_files

    try:
        expect_readable_files()
        module = _module(sys.argv[1:])
        if module and not _exists(module):
            near = nearest(module, ["pipeline"])
            hint = f" Did you mean {near!r}?" if near else ""
            raise InputError(f"--module is {module!r}, but there is no such module.{hint}")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    from luigi.cmdline import luigi_run

    if module.partition(".")[0] == "pipeline":
        from pipeline.luigi_setup import prepare_command

        prepare_command()
    from luigi.task_register import TaskClassNotFoundException

    try:
        return luigi_run()
    except TaskClassNotFoundException as error:
        print(
            f"error: {str(error).partition('.')[0]}. Those of this program are in a module: luigi --module pipeline …", file=sys.stderr
        )
        return 1


def _module(arguments: list[str]) -> str:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--module", default="")
    return parser.parse_known_args(arguments)[0].module or ""


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False
