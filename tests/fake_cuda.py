"""A CUDA device that is not there: it makes a CPU-only build of torch believe in one.

    PYTHONPATH=tests python -m fake_cuda LIBRARY MODULE …

runs `python -m MODULE …` with the device. `fake_cuda.cpp` registers it; it has to be loaded before torch is imported, so in a process
of its own. Only FakeTensors can be on it (`watch.py`).
"""

import ctypes
import hashlib
import importlib.util
import os
import runpy
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".cpp")


def compiled(compiler: str, folder: Path) -> Path:
    """Compile the device, unless the folder has it for this torch, and return the library."""
    found = importlib.util.find_spec("torch")
    assert found is not None
    assert found.origin is not None
    torch = Path(found.origin).parent
    facts = SOURCE.read_bytes() + (torch / "version.py").read_bytes()
    library = folder / f"fake_cuda-{hashlib.sha256(facts).hexdigest()[:16]}.so"
    if not library.exists():
        unfinished = folder / f"{library.name}.{os.getpid()}"
        needs = f"-L{torch / 'lib'}", "-lc10", "-ltorch_cpu", f"-Wl,-rpath,{torch / 'lib'}"
        flags = "-O0", "-std=c++20", "-shared", "-fPIC", f"-I{torch / 'include'}"
        subprocess.run([compiler, *flags, str(SOURCE), "-o", str(unfinished), *needs], check=True)
        unfinished.replace(library)
    return library


def load(library: Path) -> None:
    """Load the device into this process.

    Raises:
        RuntimeError: torch has been imported, so that it has already asked for its devices.
    """
    if "torch" in sys.modules:
        raise RuntimeError("The device has to be loaded before torch is imported.")
    ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)


if __name__ == "__main__":
    load(Path(sys.argv[1]))
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
