"""Plans a build: names every output before anything runs.

A name carries a short hash (the key) of exactly the inputs and settings that determine the bytes of the output, so an output that
exists is up to date. `pipeline.outputs` finds out which outputs exist, the tasks of `pipeline.tasks` make the missing ones, and
`pipeline.explain` gives the reasons. Nothing here decodes, encodes or imports torch or luigi; `pipeline.encoding.inspection` tries
encoders that it has not seen in a process of its own.
"""

from pipeline.plan.features import cut_shards
from pipeline.plan.planner import make_plan
from pipeline.plan.records import CONTEXT_MARK, AdaptationPlan, CorpusPlan, FeaturePlan, LedgerPlan, Output, Plan, ShardPlan

__all__ = [
    "CONTEXT_MARK",
    "AdaptationPlan",
    "CorpusPlan",
    "FeaturePlan",
    "LedgerPlan",
    "Output",
    "Plan",
    "ShardPlan",
    "cut_shards",
    "make_plan",
]
