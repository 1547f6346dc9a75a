"""The commands of `pipeline` as processes of their own: heads never import it, so that they train where transformers is not there."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from data.errors import InputError

_NEEDS = ("av", "soxr", "luigi", "transformers")
"""Packages beyond those that heads need."""


def expect_packages() -> None:
    """Raises InputError if a package is missing that features cannot be computed without."""
    if missing := [name for name in _NEEDS if find_spec(name) is None]:
        raise InputError(
            f"Features of clips cannot be computed here: {', '.join(missing)} not installed. Install this program with its dependencies"
            " (pip install -e .), or build the features elsewhere and use --cache and --corpus."
        )


def run(*arguments: str) -> str | None:
    """Runs `python -m pipeline` with these arguments and returns its standard output; None if it has failed.

    Its standard error, with bar and messages, is that of this process.
    """
    packages = str(Path(__file__).resolve().parent.parent.parent)
    path = os.pathsep.join(filter(None, (packages, os.environ.get("PYTHONPATH"))))
    command = [sys.executable, "-m", "pipeline", *arguments]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, text=True, check=False)
    return done.stdout if done.returncode == 0 else None
