"""Names of feature sets. A feature set is one modality of a corpus as one encoder gives it; a corpus may have several of a modality.

The set without a name of its own is called as its modality, "text"; the set `roberta` of text is "text.roberta". The sections of
luigi.cfg and the index of a cache name sets in this way. Where the modality is known, as in the run option `data.text`, a set is given
by its own name, "roberta", and the set without one by "default".
"""

import re

from data.errors import InputError, shown

DEFAULT = "default"
"""The own name of the set that has none."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")


def modality_of(feature_set: str) -> str:
    """Return the modality of a set: "text" for "text" and for "text.roberta"."""
    return feature_set.partition(".")[0]


def set_of(modality: str, own_name: str) -> str:
    """Return the set of a modality that has this name of its own: "text.roberta" for "roberta", "text" for "default"."""
    return modality if own_name == DEFAULT else f"{modality}.{own_name}"


def expect_own_name(own_name: str, where: str) -> None:
    """Raise InputError if a set cannot have this name of its own; `where` is the place of the name, for the message."""
    if own_name == DEFAULT:
        raise InputError(f"{where}: {DEFAULT!r} is the set without a name of its own. Choose another name.")
    if not _NAME.fullmatch(own_name):
        raise InputError(f"{where}: {shown(own_name)} cannot name a set of features: expected letters, digits and '-'.")
