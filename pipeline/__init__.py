"""Computes features and pseudo-labels once and stores them in the cache.

Here: the settings of a build, the plan of its files, the steps that make them, and the Luigi tasks that put the steps in order. Not
here: how a corpus, a manifest or a feature file looks on disk (`data`), and what is trained on the features (`heads`).

`import pipeline`, and the import of any module of it, changes nothing in a process, with one exception: in the process of the `luigi`
command it prepares Luigi and registers the tasks. `luigi --module pipeline BuildFeatures` imports this package, then looks up the task
and reads the section [retcode], before it calls any code of ours (luigi 3.8, `retcodes.run_with_retcodes`); later would be too late.
"""

import sys
from typing import TYPE_CHECKING, Any

from pipeline.build_process import build

if TYPE_CHECKING:
    from pipeline.tasks import BuildFeatures

__all__ = ["BuildFeatures", "build"]


def __getattr__(name: str) -> Any:
    """Imports the task, and Luigi with it, when `pipeline.BuildFeatures` is used."""
    if name != "BuildFeatures":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pipeline.tasks import BuildFeatures

    return BuildFeatures


if "luigi.cmdline" in sys.modules:  # imported by `luigi` and `python -m luigi`, and by nothing else: `import luigi` leaves it alone
    import pipeline.luigi_setup

    pipeline.luigi_setup.prepare_command()
