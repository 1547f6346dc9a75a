"""The process that decodes for another one: an answer to every order, in order."""

import io
import json

import numpy as np
from projects import write_wav

from data.decoder import serve
from data.media import decode


def test_every_order_is_answered_by_the_samples_or_by_minus_one(tmp_path):
    paths = [tmp_path / name for name in ("a\n'\u00e4\udcff.wav", "missing.wav", "b.wav")]
    for path, length in ((paths[0], 4_000), (paths[2], 10)):
        write_wav(path, np.linspace(-0.5, 0.5, length))
    answers = io.BytesIO()
    serve([json.dumps(str(path)).encode() + b"\n" for path in paths], answers)
    first, last = decode(paths[0]), decode(paths[2])
    numbers = [np.int64(number).tobytes() for number in (4_000, -1, 10)]
    assert answers.getvalue() == numbers[0] + first.tobytes() + numbers[1] + numbers[2] + last.tobytes()
