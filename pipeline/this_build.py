"""The build of this process: its plan, the outputs that existed when it began, its progress bar and its clock.

It is made once and inherited by the processes that Luigi forks. The tasks are in `pipeline.tasks`, the plan in `pipeline.plan`.
"""

from __future__ import annotations

import time
from functools import cached_property, lru_cache
from pathlib import Path

from data.atomic import remove_strays
from data.cache import expect_not_imported, expect_not_joined
from data.errors import InputError, shown
from pipeline import config, console, outputs
from pipeline.encoding import devices
from pipeline.one_maker import remove_stale
from pipeline.plan import Output, Plan, make_plan

_LONG_BUILD = 2_000
"""Clips to encode from which a faster precision is worth a line."""

_FASTER_WAY = (
    "This processor has instructions for bfloat16 (AMX): precision = bfloat16 in luigi.cfg, section [build], encodes about four times"
    " as fast, with a relative error of 1e-2 to 2e-2 in the features (docs/measurements.md)."
)


class Build:
    """A build, planned from luigi.cfg and the command line."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        settings = config.read_settings()
        expect_not_imported(settings.cache, [corpus.name for corpus in settings.corpora])
        remove_strays(settings.cache)
        remove_stale(settings.cache)
        with console.file_bar() as progress:
            self.plan: Plan = make_plan(settings, progress)
        expect_not_joined(settings.cache, self.plan.cached())
        _make_folder(settings.cache)
        self.bar = console.BuildBar()

    @cached_property
    def at_start(self) -> tuple[list[Output], list[Output]]:
        """The outputs that were missing and those that existed when this was first read: before the first task runs."""
        return outputs.survey(self.plan)

    def advice(self) -> str:
        """Returns a line about a faster precision if a long build on this processor would have one, else ""."""
        settings, (missing, _) = self.plan.settings, self.at_start
        clips = sum(one.utterances for one in missing if one.kind == "shard")
        if settings.precision != "float32" or clips < _LONG_BUILD or devices.wants_gpu(settings.device):
            return ""
        return _FASTER_WAY if devices.multiplies_bfloat16() else ""

    def seconds(self) -> float:
        """Returns the seconds since the build began."""
        return time.monotonic() - self._began


def _make_folder(cache: Path) -> None:
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        said = f"this folder cannot be made ({error.strerror}). Give another one."
        raise InputError(f"luigi.cfg, section [build]: cache is {shown(str(cache))}: {said}") from None


@lru_cache(maxsize=1)
def current_build() -> Build:
    """Returns the build of this process. A mistake in the settings ends the process with one line."""
    try:
        return Build()
    except (InputError, OSError) as error:
        raise SystemExit(f"error: {error}") from None
