"""Logs of runs for other tools (`--log`): TensorBoard, Weights & Biases, MLflow, each an optional package.

tensorboard  an event file in the run folder; `tensorboard --logdir OUT` shows it, also while the run is trained
wandb        a run in the run folder, offline unless WANDB_MODE says otherwise; `wandb sync RUN/wandb/offline-run-*` sends it
mlflow       a run in OUT/mlflow.db, or where MLFLOW_TRACKING_URI says; `mlflow ui --backend-store-uri sqlite:///OUT/mlflow.db`

All of them get the columns of history.csv, an epoch a step, under names such as "train_loss" and "valid/mae", and the last two the
options of the run and the metrics of its chosen epoch, "chosen/mae". `fit` logs while it trains (`Logs`); of the trials of a sweep,
which may be trained on other machines, the process that was started logs each when it is over (`log_finished`).
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from data.errors import InputError, reason
from heads.models.options import flat
from heads.models.own import short_name
from heads.runs.config import RunConfig
from heads.runs.folder import RunFolder

PROJECT = "mmolre"
"""Project of W&B and experiment of MLflow, unless WANDB_PROJECT or MLFLOW_EXPERIMENT_NAME says otherwise."""

_LOG = logging.getLogger("heads")

_MLFLOW_URI = "MLFLOW_TRACKING_URI"

_TAG = "mmolre.run"
"""The tag of MLflow's runs that has the name of the run folder."""

_LONGEST_PARAM = 6000
"""Characters of a parameter of MLflow."""


class Log(Protocol):
    """The log of one run in one tool. It is made empty: what an interrupted run has logged before is replaced."""

    def __init__(self, folder: RunFolder, config: RunConfig, out: Path) -> None:
        """Begin the log.

        Args:
            folder: The run's, which exists.
            config: Its configuration.
            out: Folder of what several runs share.
        """
        ...

    @staticmethod
    def is_there(folder: RunFolder, out: Path) -> bool:
        """Return True if a finished run has been logged."""
        ...

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        """Log the numbers of an epoch, counted from 1."""
        ...

    def end(self, chosen: Mapping[str, float]) -> None:
        """End the log with the metrics of the chosen epoch; empty if the run was interrupted."""
        ...


class TensorBoardLog:
    """Event files of TensorBoard in the run folder."""

    def __init__(self, folder: RunFolder, config: RunConfig, out: Path) -> None:
        for path in self._files(folder):
            path.unlink()
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder.path), flush_secs=10)

    @staticmethod
    def _files(folder: RunFolder) -> list[Path]:
        return list(folder.path.glob("events.out.tfevents.*"))

    @staticmethod
    def is_there(folder: RunFolder, out: Path) -> bool:
        return bool(TensorBoardLog._files(folder))

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, number)

    def end(self, chosen: Mapping[str, float]) -> None:
        self._writer.close()


class WandbLog:
    """A run of Weights & Biases in the run folder."""

    def __init__(self, folder: RunFolder, config: RunConfig, out: Path) -> None:
        shutil.rmtree(folder.path / "wandb", ignore_errors=True)
        import wandb  # pyright: ignore[reportMissingImports]

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=folder.path.name,
            dir=str(folder.path),
            mode=os.environ.get("WANDB_MODE", "offline"),  # pyright: ignore[reportArgumentType] - W&B refuses other words
            config=_told(config),
            reinit="create_new",
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True, x_disable_meta=True),
        )

    @staticmethod
    def is_there(folder: RunFolder, out: Path) -> bool:
        return any((folder.path / "wandb").glob("*run-*"))

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=number)

    def end(self, chosen: Mapping[str, float]) -> None:
        self._run.summary.update(dict(chosen))
        self._run.finish()


class MLflowLog:
    """A run of MLflow, by its tag `mmolre.run`."""

    def __init__(self, folder: RunFolder, config: RunConfig, out: Path) -> None:
        self._client = self._connected(out)
        experiment = self._experiment(self._client)
        for found in self._runs(self._client, folder):
            self._client.delete_run(found.info.run_id)
        made = self._client.create_run(experiment, run_name=folder.path.name, tags={_TAG: folder.path.name})
        self._id = made.info.run_id
        for name, value in _told(config).items():
            self._client.log_param(self._id, name, str(value)[:_LONGEST_PARAM])

    @staticmethod
    def _connected(out: Path) -> Any:
        from mlflow import MlflowClient  # pyright: ignore[reportMissingImports]

        logging.getLogger("mlflow").setLevel(logging.WARNING)  # of a new database it says a line for each of its tables
        logging.getLogger("alembic").setLevel(logging.WARNING)
        return MlflowClient(os.environ.get(_MLFLOW_URI) or f"sqlite:///{(out / 'mlflow.db').resolve()}")

    @staticmethod
    def _experiment(client: Any) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = client.get_experiment_by_name(name)
        return client.create_experiment(name) if found is None else found.experiment_id

    @staticmethod
    def _runs(client: Any, folder: RunFolder, more: str = "") -> list[Any]:
        wanted = f"tags.`{_TAG}` = '{folder.path.name}'{more}"
        return list(client.search_runs([MLflowLog._experiment(client)], wanted))

    @staticmethod
    def is_there(folder: RunFolder, out: Path) -> bool:
        return bool(MLflowLog._runs(MLflowLog._connected(out), folder, " and attributes.status = 'FINISHED'"))

    def epoch(self, number: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._client.log_metric(self._id, name, value, step=number)

    def end(self, chosen: Mapping[str, float]) -> None:
        for name, value in chosen.items():
            self._client.log_metric(self._id, name, value)
        self._client.set_terminated(self._id, "FINISHED" if chosen else "KILLED")


LOGS: Mapping[str, type[Log]] = {"tensorboard": TensorBoardLog, "wandb": WandbLog, "mlflow": MLflowLog}
"""Name of a log, a choice of --log → what writes it."""


def expect_installed(names: Sequence[str]) -> None:
    """Import what some logs need.

    Raises:
        InputError: A package is not installed; the message says how to install it.
    """
    for name in names:
        try:
            _IMPORTS[name]()
        except ImportError as error:
            missing = f"which is not installed ({reason(error)}). Install it: pip install '.[{name}]'"
            raise InputError(f"--log {name} needs the package {name}, {missing}") from error


def _import_tensorboard() -> None:
    import torch.utils.tensorboard  # noqa: F401


def _import_wandb() -> None:
    import wandb  # pyright: ignore[reportMissingImports]  # noqa: F401


def _import_mlflow() -> None:
    import mlflow  # pyright: ignore[reportMissingImports]  # noqa: F401

    if not os.environ.get(_MLFLOW_URI):
        import sqlalchemy  # noqa: F401  # for mlflow.db; mlflow-skinny comes without it


_IMPORTS: Mapping[str, Callable[[], None]] = {
    "tensorboard": _import_tensorboard,
    "wandb": _import_wandb,
    "mlflow": _import_mlflow,
}


class Logs:
    """The logs of a run while it is trained. A log that fails is given up with a line; the run goes on."""

    def __init__(self, names: Sequence[str], folder: RunFolder, config: RunConfig, out: Path) -> None:
        """Begin the logs; arguments as for `Log`."""
        self._written = 0
        self._logs: dict[str, Log] = {}
        self._folder = folder
        for name in names:
            with self._giving_up(name):
                self._logs[name] = LOGS[name](folder, config, out)

    def update(self, history: Sequence[Mapping[str, float]]) -> None:
        """Log the epochs of a history that have not been logged, those before an interruption among them."""
        for row in history[self._written :]:
            for name, log in [*self._logs.items()]:
                with self._giving_up(name):
                    log.epoch(int(row["epoch"]), _scalars(row))
        self._written = len(history)

    def end(self) -> None:
        """End the logs, with the metrics of the run if it is complete."""
        chosen = _chosen(self._folder) if self._folder.is_complete else {}
        for name, log in [*self._logs.items()]:
            with self._giving_up(name):
                log.end(chosen)

    @contextlib.contextmanager
    def _giving_up(self, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._logs.pop(name, None)
            _say_failed(name, self._folder, error)


@contextlib.contextmanager
def logging_to(names: Sequence[str], folder: RunFolder, config: RunConfig, out: Path) -> Iterator[Logs]:
    """Log a run that is trained inside; its logs are ended however that ends."""
    logs = Logs(names, folder, config, out)
    try:
        yield logs
    finally:
        logs.end()


def log_finished(names: Sequence[str], folder: RunFolder, out: Path) -> None:
    """Log a run that is over, where it is not logged yet.

    Args:
        names: Keys of `LOGS`.
        folder: A run that is complete; nothing is logged of others.
        out: Folder of what several runs share.
    """
    if not names or not folder.is_complete:
        return
    config, history = folder.run_config(), folder.history()
    left = [name for name in names if not _is_there(name, folder, out)]
    with logging_to(left, folder, config, out) as logs:
        if history is not None:
            logs.update(history.to_dict("records"))  # pyright: ignore[reportArgumentType] - columns of history.csv are texts


def _is_there(name: str, folder: RunFolder, out: Path) -> bool:
    """Return True if a run need not be logged: it has been, or the tool cannot be asked, which a line says."""
    try:
        return LOGS[name].is_there(folder, out)
    except Exception as error:
        _say_failed(name, folder, error)
        return True


def _say_failed(name: str, folder: RunFolder, error: Exception) -> None:
    _LOG.warning("%s: --log %s failed, and the run goes on without it (%s).", folder.path, name, reason(error))


def _scalars(row: Mapping[str, float]) -> dict[str, float]:
    """Return the numbers of an epoch under the names that logs have."""
    return {
        name.replace("valid_", "valid/", 1): float(value)
        for name, value in row.items()
        if name != "epoch" and value is not None and not math.isnan(value)
    }


def _chosen(folder: RunFolder) -> dict[str, float]:
    return {f"chosen/{name}": value for name, value in folder.metrics()["valid"].items() if value is not None}


def _told(config: RunConfig) -> dict[str, Any]:
    """Return the options of a run, by dotted names."""
    told = {name: list(value) if isinstance(value, tuple) else value for name, value in flat(config)}
    return told | {"head": short_name(config.head)}
