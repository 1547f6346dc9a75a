"""Tries the encoders of a build while it is planned, in a process of its own, and remembers which of them can be used.

The process keeps torch, CUDA and their threads out of this one, whose copies are Luigi's workers. What is tried is the constructor of
each encoder, see `pipeline.encoding.encoders`: it loads the checkpoint, checks it and runs it on small inputs.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.atomic import atomic_path
from data.errors import InputError
from data.fingerprint import digest
from data.packages import installed_version
from pipeline.encoding.checkpoints import Source
from pipeline.settings import EncoderSettings

_REVISION = 2
"""Revision of the checks. Increase it when they refuse more."""
_PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "sentencepiece")


@dataclass(frozen=True)
class Candidate:
    """An encoder that a build wants to use."""

    modality: str
    source: Source
    settings: EncoderSettings
    identity: Mapping[str, Any]

    @property
    def key(self) -> str:
        """Identifies what the verdict depends on: the encoder and the software that runs it."""
        return digest([_REVISION, self.identity, {name: installed_version(name) for name in _PACKAGES}])


def inspect(candidates: Sequence[Candidate], memo: Path) -> None:
    """Tries the encoders that the memo file does not know, and adds them to it.

    Raises:
        InputError: An encoder cannot be used.
    """
    known = _read(memo)
    unknown = [candidate for candidate in candidates if candidate.key not in known]
    if not unknown:
        return
    context = multiprocessing.get_context("fork")
    try:
        with ProcessPoolExecutor(1, mp_context=context, initializer=_prepare_process) as process:
            for candidate in unknown:
                process.submit(_try, candidate.modality, candidate.source, candidate.settings).result()
    except BrokenProcessPool as error:
        raise InputError(
            f"{candidate.source.folder}: the process that tried this encoder was ended by the system. Is there enough memory?"
        ) from error
    _write(memo, known | {candidate.key for candidate in unknown})


def _prepare_process() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is answered by the process that waits
    import torch

    torch.set_num_threads(1)


def _try(modality: str, source: Source, settings: EncoderSettings) -> None:
    from pipeline.encoding import encoders

    try:
        encoders.make(modality, source, settings)
    except InputError as error:
        raise InputError(str(error)) from None  # its cause may not be picklable


def _read(memo: Path) -> set[str]:
    try:
        return set(json.loads(memo.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):  # RecursionError: nested too deeply
        return set()


def _write(memo: Path, keys: set[str]) -> None:
    with contextlib.suppress(OSError), atomic_path(memo) as temporary:  # without the memo, encoders are only tried again
        temporary.write_text(json.dumps(sorted(keys), indent=0), encoding="utf-8")
