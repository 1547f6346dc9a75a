"""Runs: their configuration, the data that they read, their folders, and finished runs opened again to be evaluated.

`config` says what a run is, `run_data` loads what it reads, `folder` is what it leaves on disk, `evaluate` predicts and measures with a
finished run, `external` measures the predictions of another tool. A run is trained in `heads.training`; metrics are in
`heads.evaluation`.

Names below come without torch.
"""

from heads.runs.config import DEFAULT_PRESET, PRESETS, RunConfig, change, from_mapping, make_config

__all__ = ["DEFAULT_PRESET", "PRESETS", "RunConfig", "change", "from_mapping", "make_config"]
