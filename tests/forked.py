"""Runs Python in forks of a process that has imported the large libraries, which takes longer than most commands of the tests.

A fork is a process with a session, an environment, a folder and files of its own. It imports luigi and the packages of this checkout
itself, because they read settings when they are imported.
"""

import atexit
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import types
from pathlib import Path
from typing import IO

import numpy as np

_LIBRARIES = (
    "h5py", "jinja2", "pandas", "pyarrow", "sklearn", "scipy.stats", "torch", "torch._dynamo", "transformers",
    "transformers.conversion_mapping", "transformers.models.bert.modeling_bert",
    "transformers.models.data2vec.modeling_data2vec_audio",
)  # fmt: skip
_INTEGER_BYTES = 4


class ForkedPython:
    """A process that does what `python -m module …` or `python -c code …` does. Its members are those of `subprocess.Popen`."""

    def __init__(self, *arguments: str, cwd: Path, env: dict[str, str], stderr: int = subprocess.PIPE) -> None:
        self.args = arguments
        self.returncode: int | None = None
        self._output, self._errors = (tempfile.TemporaryFile("w+") for _ in range(2))  # noqa: SIM115 - `communicate` closes them
        self._connection, theirs = socket.socketpair()
        files = [theirs.fileno(), self._output.fileno(), self._errors.fileno() if stderr == subprocess.PIPE else stderr]
        with theirs:
            socket.send_fds(_server(), [b"."], files)
        hears = signal.getsignal(signal.SIGINT) is not signal.SIG_IGN  # a process that is started in the background does not
        self._connection.sendall(json.dumps([arguments, str(cwd), env, hears]).encode() + b"\n")
        self.pid = self._receive()

    def poll(self) -> int | None:
        """Returns the exit status if the process has ended."""
        if self.returncode is None and select.select([self._connection], [], [], 0)[0]:
            self.returncode = self._receive()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Waits for the end, for a limited time, and returns the standard output and error."""
        if self.returncode is None and not select.select([self._connection], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        self.poll()
        self._connection.close()
        return _read(self._output), _read(self._errors)

    def send_signal(self, number: int) -> None:
        """Sends a signal, unless the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def _receive(self) -> int:
        received = self._connection.recv(_INTEGER_BYTES, socket.MSG_WAITALL)
        assert len(received) == _INTEGER_BYTES, "the process that is forked has ended; see its message on the standard error"
        return int.from_bytes(received, "little", signed=True)


def _read(file: IO[str]) -> str:
    with file:
        file.seek(0)
        return file.read()


@functools.cache
def _server() -> socket.socket:
    """Starts the process that is forked, once. It ends with this one."""
    ours, theirs = socket.socketpair()
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with theirs:
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())], env=environment, pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    atexit.register(_stop, ours, process)
    return ours


def _stop(control: socket.socket, server: subprocess.Popen[bytes]) -> None:
    control.close()
    server.wait()


def _serve(control: socket.socket) -> None:
    """Forks for each request until the other end is closed. Returns in the forks only, ready to run what `sys.argv` says."""
    while files := socket.recv_fds(control, 1, 3)[1]:
        if os.fork() == 0:
            control.close()
            _supervise(*files)
            return
        for file in files:
            os.close(file)
        while _reaped():
            pass
    os._exit(0)


def _reaped() -> bool:
    try:
        return os.waitpid(-1, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return False


def _supervise(connection: int, output: int, errors: int) -> None:
    """Forks, and tells the exit status of the fork. Returns in the fork."""
    with socket.socket(fileno=connection) as asking:
        arguments, folder, environment, hears = json.loads(asking.makefile().readline())
        if child := os.fork():
            os.close(output)
            os.close(errors)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            _send(asking, status)
            os._exit(0)
        os.setsid()
        _send(asking, os.getpid())
    for source, target in ((output, 1), (errors, 2)):
        os.dup2(source, target)
        os.close(source)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    added = environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:] = dict.fromkeys([folder if arguments[0] == "-m" else "", *filter(None, added), *sys.path[1:]])
    signal.signal(signal.SIGINT, signal.default_int_handler if hears else signal.SIG_IGN)
    sys.argv = arguments
    np.random.seed()  # noqa: NPY002 - otherwise all forks would draw the same numbers, and equal results would prove less


def _send(asking: socket.socket, number: int) -> None:
    asking.sendall(number.to_bytes(_INTEGER_BYTES, "little", signed=True))


def _run(option: str, what: str, *arguments: str) -> None:
    """Runs a module (-m) or code (-c) as the main program."""
    if option == "-m":
        sys.argv = [what, *arguments]
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.argv = ["-c", *arguments]
        sys.modules["__main__"] = main = types.ModuleType("__main__")
        exec(compile(what, "<string>", "exec"), main.__dict__)


if __name__ == "__main__":
    for library in _LIBRARIES:
        importlib.import_module(library)
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))
    _run(*sys.argv)
