"""The status of a trial, read from its run folder: complete, pruned, failed, damaged or unfinished.

The files behind it are in `heads.runs.folder`; tables of many trials are in `heads.sweeps.results.trials`.
"""

from data.errors import InputError
from heads.runs.folder import RunFolder

STATUSES = ("complete", "pruned", "failed", "damaged", "unfinished")
"""complete: trained to its end; pruned: stopped early because others did better; failed: ended by an error, which failed.json has;
damaged: a file of it cannot be used; unfinished: not begun, or interrupted. All but the last are over."""


def damage(folder: RunFolder) -> str | None:
    """Say which file of a trial cannot be used, why, and what to do; None if all can. Tensors and predictions are not read."""
    try:
        if (folder.path / "config.json").is_file():
            folder.run_config()
        if folder.is_complete:
            _check_results(folder)
        elif folder.failure is None:
            _ = folder.lacked_memory, folder.saved_epochs
    except InputError as error:
        return str(error)
    return None


def _check_results(folder: RunFolder) -> None:
    metrics, history = folder.metrics(), folder.history()
    folder.routing("xray")
    chosen = [one["epoch"] for one in metrics.get("selected", {}).values()]
    if history is not None and not set(chosen) <= set(history["epoch"]):
        raise InputError(
            f"{folder.path / 'metrics.json'}: damaged (a selected epoch is not in history.csv)."
            f" Remove the run folder {folder.path} and run the command that made it again."
        )


def status_of(folder: RunFolder) -> str:
    """Return one of `STATUSES`."""
    if damage(folder) is not None:
        return "damaged"
    if folder.is_complete:
        return "pruned" if folder.metrics().get("pruned") else "complete"
    return "unfinished" if folder.failure is None else "failed"


def is_over(folder: RunFolder) -> bool:
    """Return True for a trial that is complete, pruned, failed or damaged."""
    return status_of(folder) != "unfinished"


def is_final(folder: RunFolder) -> bool:
    """Return True for a trial that is over and stays so: the same command tries a trial again only if memory ran out."""
    status = status_of(folder)
    return status != "unfinished" and not (status == "failed" and folder.lacked_memory)
