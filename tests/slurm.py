"""A Slurm of one node in a folder of its own: munged, slurmctld and slurmd of Debian's packages, without cgroups, for any user.

    apt-get install -y slurmctld slurmd munge slurm-client

Jobs run in the environment of the tests, one thread each and without network.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.settings import CHECKOUT

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel")
LIMIT_S = float(os.environ.get("SLURM_TEST_LIMIT_S", "600"))
"""Longest time in seconds that a test waits for something."""

POLL_S = 0.2
CPUS = 4
"""Processors that the node claims, whatever it has: jobs of an array run at the same time."""

_CONFIGURATION = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
MailProg=/bin/true
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
SlurmdParameters=config_overrides
KillWait=30
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus}
PartitionName=main Nodes={host} Default=YES MaxTime=60
"""

_ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE"}


class Slurm:
    """The daemons, and commands to them."""

    def __init__(self, folder: Path) -> None:
        """Start the daemons.

        Args:
            folder: A new folder with a short path that everybody may enter, as munge demands.
        """
        self.folder = folder
        self._daemons: list[subprocess.Popen[bytes]] = []
        for name in ("state", "spool"):
            (folder / name).mkdir()
        key = folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        host = socket.gethostname().partition(".")[0]
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        text = _CONFIGURATION.format(host=host, ports=(_free_port(), _free_port()), user=user, folder=folder, cpus=CPUS)
        (folder / "slurm.conf").write_text(text)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "LUIGI_", "SBATCH_"))},
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(CHECKOUT),
            "HF_HUB_OFFLINE": "1",
        }
        files = {
            "key-file": key,
            "socket": "munge.socket",
            "pid-file": "munged.pid",
            "log-file": "munged.log",
            "seed-file": "munged.seed",
        }
        self._start("munged", "--foreground", *(f"--{name}={folder / file}" for name, file in files.items()))
        self.until((folder / "munge.socket").exists)
        self._start("slurmctld", "-D", "-c")
        self._start("slurmd", "-D", "-c")
        self.until(lambda: self._command("sinfo", "-h", "-o", "%T", check=False) == "idle")

    def _start(self, program: str, *arguments: str) -> None:
        path = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        assert path, f"{program} is missing: apt-get install -y slurmctld slurmd munge slurm-client"
        with (self.folder / f"{program}.out").open("wb") as log:
            self._daemons.append(subprocess.Popen([path, *arguments], env=self.environment, stdout=log, stderr=log))

    def stop(self) -> None:
        """End all jobs and the daemons."""
        subprocess.run(["scancel", f"--user={os.getuid()}"], env=self.environment, capture_output=True, check=False)
        end = time.monotonic() + 60
        while self._command("squeue", "-h", check=False) and time.monotonic() < end:
            time.sleep(POLL_S)
        for daemon in reversed(self._daemons):
            daemon.send_signal(signal.SIGTERM)
            daemon.wait(60)

    def submit(self, script: str, *arguments: object, folder: Path, options: tuple[str, ...] = (), **variables: str) -> str:
        """Submit a script of docs/slurm with options of sbatch, and return the id of the job."""
        command = ["sbatch", "--parsable", *options, str(CHECKOUT / "docs" / "slurm" / script), *map(str, arguments)]
        return self._command(*command, folder=folder, **variables)

    def signal(self, job: str, name: str) -> None:
        """Send a signal to the batch script of a job, as `--signal=B:…` does."""
        self._command("scancel", "--batch", f"--signal={name}", job)

    def go_on(self, job: str) -> bool:
        """Wait until a job is in the queue again, and let it start at once, as Slurm does after two minutes; False if it has ended."""
        self.until(lambda: _ENDED.issuperset(self.states(job)) or set(self.states(job)) == {"PENDING"})
        if _ENDED.issuperset(self.states(job)):
            return False
        self._command("scontrol", "update", f"JobId={job}", "StartTime=now")
        return True

    def states(self, job: str) -> list[str]:
        """Return the state of each job of an array, or of one job."""
        return re.findall(r"\bJobState=(\S+)", self._command("scontrol", "-o", "show", "job", job))

    def restarts(self, job: str) -> int:
        """Return how often a job was queued again."""
        return int(re.findall(r"\bRestarts=(\d+)", self._command("scontrol", "-o", "show", "job", job))[0])

    def ended(self, job: str) -> list[str]:
        """Wait until a job, or all of an array, have ended, and return their states."""
        self.until(lambda: _ENDED.issuperset(self.states(job)))
        return self.states(job)

    def until(self, is_so: Callable[[], object]) -> None:
        """Wait until something is so."""
        end = time.monotonic() + LIMIT_S
        while not is_so():
            assert time.monotonic() < end, "this takes too long"
            for daemon in self._daemons:
                assert daemon.poll() is None, f"{daemon.args} has ended: see {self.folder}"
            time.sleep(POLL_S)

    def _command(self, *command: str, folder: Path | None = None, check: bool = True, **variables: str) -> str:
        done = subprocess.run(command, env=self.environment | variables, cwd=folder, capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout.strip()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
