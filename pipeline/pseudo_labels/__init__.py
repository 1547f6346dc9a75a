"""Gives a corpus without emotion labels the emotions of similar sentences: pseudo-labels.

Here: the rule and the transfer (`rule`), the search (`neighbours`) and the test where the truth is known (`audit`). Not here: sentence
embeddings are computed in `pipeline.encoding`, and `pipeline.steps` writes the ledger, the table of pseudo-labels with their donors.

Importing this room imports no torch: a search imports it when it runs.
"""

from pipeline.pseudo_labels.rule import LEDGER_COLUMNS, Pool, Rule, donor_pool, transfer

__all__ = ["LEDGER_COLUMNS", "Pool", "Rule", "donor_pool", "transfer"]
