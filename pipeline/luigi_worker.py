"""A worker of Luigi whose tasks run in processes that stay, see `pipeline.worker_processes`.

Luigi's own worker forks a process for every task; each would import torch and load an encoder, 4 to 5 s a shard. With one worker, tasks
run in the process of the build, here as there.
"""

from __future__ import annotations

import signal
import sys
from typing import Any

import luigi
import luigi.worker
from luigi.task_register import load_task

from pipeline.worker_processes import WorkerProcess, WorkerProcesses

_Order = tuple[str, str, dict[str, str]]
"""Module, name and parameters of a task."""


class KeepingWorker(luigi.worker.Worker):
    """A worker that keeps its processes, and with them their encoders, from task to task."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._task_result_queue.close()
        processes: Any = WorkerProcesses(self._do, self._lost)
        self._task_result_queue = processes  # Luigi takes the results from it and closes it at the end

    def _create_task_process(self, task: luigi.Task) -> Any:
        made = super()._create_task_process(task)
        return _Handle(made, self._task_result_queue) if made.use_multiprocessing else made

    def _do(self, order: _Order) -> Any:
        """Runs a task in one of the processes as Luigi does, and returns the result for its queue."""
        made = super()._create_task_process(load_task(*order))
        made.result_queue = luigi.worker.DequeQueue()
        made.run()
        return made.result_queue.get()

    def _lost(self, order: _Order, status: int) -> Any:
        """Says in one line that the process of a task was ended from outside, and returns the result: the task has failed."""
        task = load_task(*order)
        message = f"its process was ended ({_cause(status)})"
        print(f"error: {task}: {message}.", file=sys.stderr, flush=True)
        task.trigger_event(luigi.Event.PROCESS_FAILURE, task, message)
        return task.task_id, "FAILED", message, [], []


def _cause(status: int) -> str:
    if status == -signal.SIGKILL:
        return "SIGKILL; by the system if memory is short: use fewer --workers or a smaller shard_clips"
    return signal.Signals(-status).name if status < 0 else f"exit status {status}"


class _Handle:
    """A task in one of the processes: what Luigi's worker asks of the process that it would have forked."""

    use_multiprocessing = True
    exitcode = None  # `WorkerProcesses` notices a process that has ended

    def __init__(self, made: luigi.worker.TaskProcess, processes: WorkerProcesses) -> None:
        self.task, self.status_reporter = made.task, made.status_reporter
        self.worker_timeout, self.timeout_time = made.worker_timeout, made.timeout_time
        self._processes = processes
        self._process: WorkerProcess | None = None

    def start(self) -> None:
        order = (self.task.task_module, self.task.task_family, self.task.to_str_params())
        self._process = self._processes.start(order, getattr(self.task, "encoder", ""))

    def is_alive(self) -> bool:
        return self._process is not None and self._process.is_alive()

    def terminate(self) -> None:
        if self._process is not None:
            self._process.terminate()
