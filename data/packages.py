"""Versions of installed packages, as files and run folders record them."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache  # each shard asks for seven, and each answer takes some milliseconds
def installed_version(package: str) -> str | None:
    """Return the version of an installed package, or None if the package is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
