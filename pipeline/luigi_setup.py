"""Luigi as a build needs it: defaults for its own settings, a worker that waits for the others, errors of one line, quiet threads.

`install` changes the process. The `luigi` command gets it through `pipeline/__init__.py`. A program that starts a build by itself, with
`luigi.build`, calls it first. The settings of a build are in `pipeline.config`, its tasks in `pipeline.tasks`.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable
from typing import Any

import luigi.worker
from luigi.configuration import get_config
from luigi.parameter import ParameterException, UnconsumedParameterWarning
from luigi.rpc import RPCError

from data import stopping
from data.errors import InputError
from pipeline import command_line, config, console, interruption
from pipeline.encoding import devices
from pipeline.luigi_worker import KeepingWorker

_SCHEDULER_KEYS = (
    "default-scheduler-host", "default_scheduler_host", "default-scheduler-url", "default_scheduler_url", "scheduler_host",
)  # fmt: skip
"""Keys of the section [core] that name a central scheduler."""

_MENDABLE = ("InputError", "UnreadableError", "DamagedFileError", "OSError", "PermissionError", "FileNotFoundError", "MemoryError")
"""Exceptions that the user can mend, as in `console.OneLineErrors`."""


def prepare_command() -> None:
    """Prepares Luigi in the process of its own command, and registers the tasks. A mistake ends the process with one line."""
    import pipeline.tasks  # noqa: F401  # Luigi registers a task when its class is made

    command_line.install()
    warnings.simplefilter("ignore", UnconsumedParameterWarning)  # of [DEFAULT]; misspelt keys are refused
    try:
        config.expect_usable_files()
    except InputError as error:
        raise SystemExit(f"error: {error}") from None
    install()
    interruption.install()


def install() -> None:
    """Prepares Luigi in this process for a build; a second call changes nothing.

    Must run before Luigi reads the sections [retcode] and [core], and before torch is imported.
    """
    _set_defaults()
    luigi.worker.Worker = PatientWorker  # the class that the command line instantiates; Luigi has no setting for it
    console.install_one_line_errors("luigi-interface", ParameterException, RPCError)
    # Threads that wait by spinning take the cores from whoever else computes on this machine, and from each other: beside one busy
    # process, encoding was 3 times slower; on a quiet machine it costs 5 %. libgomp reads this once, when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


class PatientWorker(KeepingWorker):
    """A worker that stays until the other workers have finished their tasks, and counts their outputs as done.

    Luigi's own worker leaves when no task is left to take, with an exit status that says that the build failed.
    """

    def _keep_alive(self, response: Any) -> bool:
        return bool(response.running_tasks)

    def _log_complete_error(self, task: Any, tb: str) -> None:
        self._log_scheduling_error(task, tb, super()._log_complete_error)

    def _log_dependency_error(self, task: Any, tb: str) -> None:
        self._log_scheduling_error(task, tb, super()._log_dependency_error)

    def _log_scheduling_error(self, task: Any, tb: str, log: Callable[[Any, str], None]) -> None:
        """Says in one line that an output cannot be looked at; Luigi hands over the text of the traceback, not the exception."""
        kind, _, text = tb.strip().splitlines()[-1].partition(": ")
        if kind.rpartition(".")[2] in _MENDABLE:
            logging.getLogger("luigi-interface").error("%s: %s", task, text or kind)
        else:
            log(task, tb)

    def handle_interrupt(self, signum: int, _: Any) -> None:
        """Asks for no more tasks after USR1; Luigi makes this the handler of the signal."""
        stopping.ask(signum)
        super().handle_interrupt(signum, _)

    def run(self) -> bool:
        succeeded = super().run()
        main = self._add_task_history[0][0]
        if main.complete():
            self._add_task_history += [(task, "DONE", True) for task in self._scheduled_tasks.values()]
        elif stopping.is_asked():
            interruption.end_in_order(signal.SIGUSR1)
        else:
            print(f"error: {main.task_family} has not finished. The next run continues from the files that exist.", file=sys.stderr)
        return succeeded


def _set_defaults() -> None:
    """Sets Luigi's own settings where the user has set nothing."""
    config = get_config()
    defaults = {
        "core": {"log_level": "WARNING", "no_lock": "true"},
        "worker": {"check_complete_on_run": "true", "task_process_context": "pipeline.interruption.QuietEnd"},
        "retcode": {
            "missing_data": "20", "not_run": "25", "task_failed": "30", "scheduling_error": "35", "unhandled_exception": "40",
        },
    }  # fmt: skip
    asked = any(argument.startswith("--scheduler") for argument in sys.argv)
    if not asked and not any(config.has_option("core", name) for name in _SCHEDULER_KEYS):
        defaults["core"]["local_scheduler"] = "true"  # otherwise a build without a central scheduler hangs for a minute, then fails
    if gpus := devices.count_gpus():
        defaults["resources"] = {devices.GPU_RESOURCE: str(gpus)}
    for section, values in defaults.items():
        for name, value in values.items():
            if not config.has_option(section, name) and not config.has_option(section, name.replace("_", "-")):
                config.set(section, name, value)
