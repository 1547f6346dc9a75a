"""The status of a trial, read from its run folder: complete, pruned, failed or unfinished.

The files behind it are in `heads.runs.folder`; tables of many trials are in `heads.sweeps.results.trials`.
"""

from heads.runs.folder import RunFolder

STATUSES = ("complete", "pruned", "failed", "unfinished")
"""complete: trained to its end; pruned: stopped early because others did better; failed: ended by an error, which failed.json has;
unfinished: not begun, or interrupted. The first three are over."""


def status_of(folder: RunFolder) -> str:
    """Return one of `STATUSES`.

    Raises:
        InputError: metrics.json or failed.json is damaged.
    """
    if folder.is_complete:
        return "pruned" if folder.metrics().get("pruned") else "complete"
    return "unfinished" if folder.failure is None else "failed"


def is_over(folder: RunFolder) -> bool:
    """Return True for a trial that is complete, pruned or failed.

    Raises:
        InputError: metrics.json or failed.json is damaged.
    """
    return status_of(folder) != "unfinished"


def is_final(folder: RunFolder) -> bool:
    """Return True for a trial that is over and stays so: the same command tries a trial again only if memory ran out.

    Raises:
        InputError: metrics.json or failed.json is damaged.
    """
    return is_over(folder) and not folder.lacked_memory
