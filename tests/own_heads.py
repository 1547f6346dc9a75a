"""A head of one's own for tests: the example of docs/heads.md, as it is and with changes."""

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from pipeline.settings import CHECKOUT

_SECTION = "## A head of your own, without a fork\n"


def example() -> str:
    """Return the Python file that docs/heads.md shows."""
    page = (CHECKOUT / "docs" / "heads.md").read_text(encoding="utf-8").partition(_SECTION)[2]
    return re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[0]


def write(folder: Path, changes: Mapping[str, str] = MappingProxyType({}), name: str = "gated.py") -> str:
    """Write the example into a folder, with some texts replaced, each of which is there once; return FILE.py:Gated."""
    text = example()
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (folder / name).write_text(text, encoding="utf-8")
    return f"{folder / name}:Gated"
