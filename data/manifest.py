"""The manifest on disk: Parquet, one row an utterance, with what its reader found in the file's metadata.

The columns and their rules are in `data.schema`; what a corpus looks like before it is a manifest is in `data.corpora`.
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from data.atomic import atomic_path
from data.errors import InputError
from data.schema import validate

_ATTRIBUTES = b"mmolre"


def write_manifest(path: Path, table: pd.DataFrame, attributes: dict[str, Any]) -> None:
    """Validates and writes a manifest.

    Args:
        path: Where to; appears complete or not at all.
        table: `schema.COLUMNS`, one row an utterance, in the order that feature files follow.
        attributes: JSON-able facts about the whole (corpus, layout, findings, key parts).

    Raises:
        InputError: The table is not valid (see `data.schema.validate`).
    """
    write_table(path, validate(table, str(path)), attributes)


def write_table(path: Path, table: pd.DataFrame, attributes: dict[str, Any]) -> None:
    """Writes any table of ours (a manifest, a ledger of pseudo labels) with its attributes; complete or not at all."""
    frame = pa.Table.from_pandas(table, preserve_index=False)
    frame = frame.replace_schema_metadata({**(frame.schema.metadata or {}), _ATTRIBUTES: json.dumps(attributes, sort_keys=True)})
    with atomic_path(path) as temporary:
        pq.write_table(frame, temporary, compression="zstd")


def read_manifest(path: Path) -> pd.DataFrame:
    """Reads and validates a manifest.

    Raises:
        InputError: The file is missing, is not a manifest or is damaged.
    """
    try:
        return validate(pq.read_table(path).to_pandas(), str(path))
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: not a readable manifest ({error}). Delete it and run BuildFeatures again.") from error


def read_attributes(path: Path) -> dict[str, Any]:
    """Reads only the attributes of a manifest or of another Parquet file of ours; empty if it has none."""
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: not a readable Parquet file ({error}). Delete it and run BuildFeatures again.") from error
    return json.loads(metadata.get(_ATTRIBUTES, b"{}"))
