"""Numbers as a reader writes them: separators, signs, shares, sizes and durations. A missing number is a dash."""

import math

DASH = "–"
MINUS = "\N{MINUS SIGN}"


def number(value: float, digits: int) -> str:
    """Formats a number with thousands separators, at most `digits` decimals, and none for whole numbers ("3", not "3.0")."""
    if value is None or math.isnan(value):
        return DASH
    return f"{value:,.{0 if float(value).is_integer() else digits}f}"


def signed(value: float, digits: int = 4, plus: str = "+") -> str:
    """Formats a number with an explicit sign, using U+2212 for minus."""
    return DASH if math.isnan(value) else f"{MINUS if value < 0 else plus}{abs(value):.{digits}f}"


def share(part: float, whole: float) -> str:
    """Formats a share in percent; a dash where the whole is 0."""
    return f"{part / whole:.1%}" if whole else DASH


def size(size_bytes: int) -> str:
    """Formats a number of bytes in powers of 1000."""
    amount = float(size_bytes)
    for unit in ("B", "kB", "MB"):
        if amount < 1000:
            return f"{amount:.0f} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def duration(seconds: float) -> str:
    """Formats a duration: "12.5 s", "1 min 15 s", "1,000 h 5 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"
