"""Training on cached features: one run, or several runs of the same shape at once.

`fit` turns a configuration and a cache into a run folder. `loop` trains runs epoch by epoch with an engine: `single_engine` holds
one run, `packed_engine` several. `plan` fixes an epoch in advance (batches, random keys, learning rates); `selection` chooses the
best epoch and decides when to stop.

Heads and losses are in `heads.models`; the layout of run folders, and the evaluation of finished runs, in `heads.runs`; the
choice of the runs that are trained together in `heads.sweeps`.
"""

from heads.training.fit import describe, finish
from heads.training.loop import Run, train_runs
from heads.training.packed_engine import PackedEngine, signature
from heads.training.single_engine import SingleEngine

__all__ = ["PackedEngine", "Run", "SingleEngine", "describe", "finish", "signature", "train_runs"]
