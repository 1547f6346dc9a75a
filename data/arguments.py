"""The parser of the command lines of `data`, `pipeline` and `heads`. What a command takes is said where the command is."""

import argparse
import re
from typing import Never

from data.errors import shown
from data.lookup import nearest


class Parser(argparse.ArgumentParser):
    """A parser that suggests the nearest of the values that a command or an option may have, when another one was given."""

    def error(self, message: str) -> Never:
        given = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)$", message)
        near = nearest(given[1], re.findall(r"[^\s',]+", given[2])) if given else None
        super().error(message + (f". Did you mean {near!r}?" if near else ""))


def days(given: str) -> float:
    """The type of an option that takes a number of days from 0."""
    try:
        value = float(given)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{shown(given)}, expected a number of days from 0")
    return value
