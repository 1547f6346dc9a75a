"""Trainable heads on cached features, their metrics, sweeps and tables; knows neither Luigi nor the encoders.

A room imports only itself and those before it: `models`, `evaluation`, `runs`, `reports`, `training`, `sweeps`, `tables`, `api`,
`commands`. From Python: `heads.fit`, `heads.sweep`, `heads.compare` and `heads.Run` (docs/python.md).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heads.api import Run, compare, fit, sweep

__all__ = ["Run", "compare", "fit", "sweep"]


def __getattr__(name: str) -> Any:
    """Import torch with the names above when one is used, not before: `python -m heads --help` answers at once."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import heads.api

    return getattr(heads.api, name)
