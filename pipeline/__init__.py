"""How features and pseudo labels are computed, once. `luigi --module pipeline BuildFeatures` finds its task here."""

from pipeline.tasks import BuildFeatures

__all__ = ["BuildFeatures"]
