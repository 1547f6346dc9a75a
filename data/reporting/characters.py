"""Characters that a page cannot hold, and what stands for them."""

import re
from typing import Any

from markupsafe import Markup

_UNFIT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
"""Characters that XML 1.0 excludes (its production 2), and DEL, which cannot be seen. Surrogates stand for bytes of a path that are no
UTF-8."""


def visible(value: Any) -> Any:
    """Shows control characters as their Unicode pictures (U+2400 to U+2421), and other unfit characters as U+FFFD.

    Args:
        value: Text or `Markup`, which stays `Markup`; anything else is returned as it is.
    """
    if not isinstance(value, str) or not _UNFIT.search(value):
        return value
    shown = _UNFIT.sub(lambda found: _picture(ord(found[0])), value)
    return Markup(shown) if isinstance(value, Markup) else shown


def _picture(code: int) -> str:
    return "\u2421" if code == 0x7F else chr(0x2400 + code) if code < 0x20 else "\ufffd"
