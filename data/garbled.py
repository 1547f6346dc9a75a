"""Traces of a wrong encoding in a text: control characters, replacement characters, and UTF-8 that was read as Windows-1252.

Such texts can be read, so they are findings and not errors; nothing is repaired. `data.csv_tables` refuses bytes that are not UTF-8.
"""

import re

_HIGH = [bytes([code]).decode("cp1252", errors="ignore") or chr(code) for code in range(256)]
"""Byte → its character in Windows-1252. The five bytes without one stand for themselves."""


def _class(first: int, last: int) -> str:
    """Return a character class of the bytes of a range, as Windows-1252 and as Latin-1 read them."""
    found = {*_HIGH[first : last + 1], *map(chr, range(first, last + 1))}
    return "[" + "".join(map(re.escape, sorted(found))) + "]"


_REST = _class(0x80, 0xBF)
_TWO, _THREE, _FOUR = f"{_class(0xC2, 0xDF)}{_REST}", f"{_class(0xE0, 0xEF)}{_REST}{{2}}", f"{_class(0xF0, 0xF4)}{_REST}{{3}}"
_MISREAD = re.compile(
    f"â[€\x80]{_REST}"  # typographic quotes, dashes, ellipsis
    "|Ã[\x80-\x9f\xa0-\xba\xbc-\xbf€‚ƒ„†‡ˆ‰Š‹ŒŽ˜™š›œžŸ]"  # accented letters; not Ã before what can end a word or a quotation
    "|Â[\x80-\x9f\xa0-\xba\xbc-\xbf]"  # signs such as £ and °, and the no-break space
    f"|ð[Ÿ\x9f]{_REST}{{2}}"  # emoji
    f"|(?:{_TWO}|{_THREE}|{_FOUR}){{2,}}"  # other scripts: a single such sequence can be a letter before a quote
)
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd]")


def garbling(text: str) -> str:
    """Describe the first trace of a wrong encoding in a text; empty if there is none.

    Line breaks and tabs are no trace. Accented letters and typographic quotes are none, in any language.
    """
    if text.isascii() and text.isprintable():
        return ""
    for misread in _MISREAD.finditer(text):
        if meant := _read_again(misread[0]):
            return f"{misread[0]!r} is {meant!r} in UTF-8 that was read as Windows-1252"
    if control := _CONTROL.search(text):
        code = f"U+{ord(control[0]):04X}"
        return f"{code} stands for a lost character" if control[0] == "\ufffd" else f"control character {code}"
    return ""


def _read_again(misread: str) -> str:
    """Return the text that was encoded in UTF-8 and read as Windows-1252 or Latin-1; empty if it was not."""
    content = bytes(_HIGH.index(character) if character in _HIGH else ord(character) for character in misread)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return ""
