"""The tables and figures of the MMoLRE paper with our numbers beside the paper's: their rows, training the rows, and writing the files.

`paper` has the printed numbers, `rows` our rows, `build` plans and trains them as one sweep, `results` reads their metrics, `imports`
adds rows of other tools, `report` and `plots` write files. Training and ranking trials is in `heads.sweeps`, the command in
`heads.commands.tables`.
"""

from heads.tables.build import TablesPlan, TablesRequest, TrainedTables, plan_tables, train_tables
from heads.tables.report import write

__all__ = ["TablesPlan", "TablesRequest", "TrainedTables", "plan_tables", "train_tables", "write"]
