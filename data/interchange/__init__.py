"""Feature and label files of other tools, exported from a cache and imported into one: one module per format.

Formats: `mmsa` (the pickles of MMSA and Self-MM), `merbench` (MERBench's folders of `.npy` files) and `csd` (CMU's SDK, export only).
`cached` selects the utterances of an export, `imported` writes an imported corpus into a cache, and `commands` is the command line.

Not here: `data.manifest` and `data.feature_store` are this program's own formats, `data.corpora` reads the folders of public corpora,
and `heads.runs.external` reads the predictions of other tools.
"""

from data.interchange.csd import export_csd
from data.interchange.imported import write_corpus
from data.interchange.merbench import export_merbench, read_merbench
from data.interchange.mmsa import export_mmsa, read_mmsa

__all__ = ["export_csd", "export_merbench", "export_mmsa", "read_merbench", "read_mmsa", "write_corpus"]
