"""Random batches for tests of heads, and changes of them that a head must or must not notice: those of the contract's checks."""

from heads.models.trial_batches import DIMS, LENGTHS, pad, random_batch, select, trim

__all__ = ["DIMS", "LENGTHS", "pad", "random_batch", "select", "trim"]
