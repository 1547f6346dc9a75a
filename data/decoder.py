"""A process that decodes files for another one, so that several cores decode ahead of one encoder.

    python -m data.decoder

Each line of its input is the path of a file as a JSON text. The answers come in the same order: the number of samples (int64, little-
endian), then the samples of `data.media.decode` (S,) float32. The number is -1 for a file that cannot be decoded: whoever asked decodes
it again and gets the error. At most one file is in memory. The process ends with its input.
"""

import contextlib
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import numpy as np

from data.media import decode

NUMBER = np.dtype("<i8")
FAILED = -1


def serve(orders: Iterable[bytes], answers: BinaryIO) -> None:
    """Answer every order."""
    for order in orders:
        try:
            samples = decode(Path(json.loads(order)))
        except Exception:  # of any kind: it is raised where the file is decoded again
            answers.write(NUMBER.type(FAILED).tobytes())
        else:
            answers.write(NUMBER.type(len(samples)).tobytes())
            answers.write(samples.data)
        answers.flush()


if __name__ == "__main__":
    output = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library may print is no answer
    with contextlib.suppress(BrokenPipeError):  # whoever asked has ended
        serve(sys.stdin.buffer, output)
