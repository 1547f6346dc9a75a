"""The heads: MMoLRE and its family, the published baselines, the simple baselines, and what they are made of.

`base` is the contract of a head, `registry` the table of all heads. `options` declares and checks their options; `tasks` and `losses`
say what is learned. `parts` holds modules that heads share, `mixtures` the mixture designs, `baselines` one published method each.
Configurations of runs are in `heads.runs`, the training loop in `heads.training`.

Names below come without torch; the heads themselves are imported when they are used.
"""

from heads.models.options import option
from heads.models.registry import HEADS, MEDIAN, Entry
from heads.models.tasks import TASKS, WIDTHS, LossOptions

__all__ = ["HEADS", "MEDIAN", "TASKS", "WIDTHS", "Entry", "LossOptions", "option"]
