"""Out-of-memory errors: PyTorch's and NumPy's exceptions become one error, which a command can print and a sweep can act on.

Devices are chosen in `heads.runs.run_data`.
"""

import contextlib
from collections.abc import Iterator

import torch

from data.errors import InputError

_ON_CPU = ("can't allocate memory", "Storage size calculation overflowed")
"""Messages of PyTorch for memory on a CPU, where its exception is a bare RuntimeError."""


class OutOfMemory(InputError):
    """A device has less memory than was asked for."""


@contextlib.contextmanager
def watched(device: torch.device) -> Iterator[None]:
    """Raises OutOfMemory if memory runs out inside."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if not (isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(words in str(error) for words in _ON_CPU)):
            raise
        reason = (str(error).splitlines() or ["no more is known"])[0]
        raise OutOfMemory(
            f"{device}: out of memory ({reason}). Make the head smaller by its model options, lower train.batch_size or --memory-gb, or"
            " choose a device with more memory."
        ) from error
