"""Manifests and other tables on disk: Parquet, one row per utterance, with attributes in the file's metadata.

`data.schema` defines the columns of a manifest and their rules; `data.corpora` reads the corpora that manifests are made of.
"""

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from data.atomic import atomic_path
from data.errors import InputError, UnreadableError
from data.files import read_head
from data.hdf5 import system_failure
from data.schema import validate

PARQUET_SIGNATURE = b"PAR1"

_ATTRIBUTES = b"mmolre"


def write_manifest(path: Path, table: pd.DataFrame, attributes: dict[str, Any]) -> None:
    """Validate and write a manifest.

    Args:
        path: The file, which appears complete or not at all.
        table: A table of `schema.COLUMNS`, one row per utterance, in the order that feature files follow.
        attributes: JSON-able facts about the corpus (its name, layout, findings, parts of its key).

    Raises:
        InputError: The table is not valid (see `data.schema.validate`).
    """
    write_table(path, validate(table, str(path)), attributes)


def write_table(path: Path, table: pd.DataFrame, attributes: dict[str, Any]) -> None:
    """Write a table (a manifest or a ledger, the table of pseudo-labels) with its attributes; it appears complete or not at all."""
    frame = pa.Table.from_pandas(table, preserve_index=False)
    frame = frame.replace_schema_metadata({_ATTRIBUTES: json.dumps(attributes, sort_keys=True)})
    with atomic_path(path) as temporary:
        pq.write_table(frame, temporary, compression="zstd", write_page_checksum=True)


def read_manifest(path: Path) -> pd.DataFrame:
    """Read and validate a manifest.

    Raises:
        InputError: The file is missing, is not a manifest or is damaged.
    """
    return validate(read_table(path), str(path))


def read_table(path: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a table that `write_table` wrote, or some of its columns.

    Raises:
        InputError: The file is missing, is not Parquet, is damaged or lacks a column.
    """
    with _opened(path) as file:
        missing = set(columns or ()) - set(file.schema_arrow.names)
        if missing:
            raise InputError(f"{path}: no column {', '.join(sorted(missing))} in this table. Run BuildFeatures again.")
        return file.read(columns=columns and list(columns)).to_pandas()


class Summary(NamedTuple):
    """Size, columns and attributes of a table on disk."""

    rows: int
    columns: tuple[str, ...]
    attributes: dict[str, Any]  # empty if another program wrote the table


def summarise(path: Path) -> Summary:
    """Read only the metadata of a manifest or of another Parquet table.

    Raises:
        InputError: The file is missing, is not Parquet or is damaged.
    """
    with _opened(path) as file:
        attributes = json.loads((file.schema_arrow.metadata or {}).get(_ATTRIBUTES, b"{}"))
        return Summary(file.metadata.num_rows, tuple(file.schema_arrow.names), attributes)


def read_attributes(path: Path) -> dict[str, Any]:
    """Read only the attributes of a table that `write_table` wrote; empty if another program wrote it.

    Raises:
        InputError: The file is missing, is not Parquet or is damaged.
    """
    return summarise(path).attributes


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    if not read_head(path).startswith(PARQUET_SIGNATURE):
        raise InputError(f"{path}: not a Parquet file. If it should be one: delete it and run BuildFeatures again.")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield file
    except InputError:
        raise
    except MemoryError as error:
        raise UnreadableError(f"{path}: cannot be read (not enough memory).") from error
    except (OSError, ValueError, RecursionError, pa.ArrowException) as error:
        if reason := system_failure(error):
            raise UnreadableError(f"{path}: cannot be read ({reason}).") from error
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(f"{path}: truncated or damaged ({reason}). Delete it and run BuildFeatures again.") from error
