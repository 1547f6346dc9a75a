"""Manifests and other tables on disk: Parquet, one row per utterance, with attributes in the file's metadata.

Parquet has checksums of its pages only, not of the footer with the schema, the positions of the pages and the attributes. A table is
therefore written with a CRC-32 (as in zlib) of the whole file in its metadata: `mmolre-checksum`, "crc32 " and eight hexadecimal
digits, which count as zeros in the checksum itself. It is compared whenever a part of the file is read. Tables without it, from older
versions and from other programs, are read as they are, with the checksums of their pages if they have any.

`data.schema` defines the columns of a manifest and their rules; `data.corpora` reads the corpora that manifests are made of.
"""

import contextlib
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from data.atomic import atomic_path
from data.errors import InputError, reason
from data.files import read_head, unreadable
from data.labels import MOSEI_LABELS, LabelSet
from data.schema import validate

PARQUET_SIGNATURE = b"PAR1"

_ATTRIBUTES = b"mmolre"
_CHECKSUM = b"mmolre-checksum"
_NO_CHECKSUM = b"crc32 00000000"
_CHECKSUM_PLACE = re.compile(_CHECKSUM + b"\x18\x0ecrc32 ([0-9a-f]{8})")
"""The metadata as they are in a file, in Thrift's compact protocol: \\x18 and \\x0e begin a text of 14 bytes."""


def write_manifest(path: Path, table: pd.DataFrame, attributes: dict[str, Any], labels: LabelSet = MOSEI_LABELS) -> None:
    """Validate and write a manifest.

    Args:
        path: The file, which appears complete or not at all.
        table: A table of `schema.columns`, one row per utterance, in the order that feature files follow.
        attributes: JSON-able facts about the corpus (its name, layout, findings, parts of its key).
        labels: What its utterances are labelled with; an attribute of the file unless it is the usual set.

    Raises:
        InputError: The table is not valid (see `data.schema.validate`).
    """
    write_table(path, validate(table, str(path), labels), attributes | labels.noted())


def write_table(path: Path, table: pd.DataFrame, attributes: dict[str, Any]) -> None:
    """Write a table (a manifest or a ledger, the table of pseudo-labels) with its attributes; it appears complete or not at all."""
    frame = pa.Table.from_pandas(table, preserve_index=False)
    frame = frame.replace_schema_metadata({_ATTRIBUTES: json.dumps(attributes, sort_keys=True)})
    buffer = pa.BufferOutputStream()
    with pq.ParquetWriter(buffer, frame.schema, compression="zstd", write_page_checksum=True) as writer:
        writer.write_table(frame)
        writer.add_key_value_metadata({_CHECKSUM: _NO_CHECKSUM})
    content = bytearray(buffer.getvalue())
    first, stop = _place_of_checksum(content) or (0, 0)  # it is there
    content[first:stop] = b"%08x" % zlib.crc32(content)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def read_manifest(path: Path) -> pd.DataFrame:
    """Read and validate a manifest.

    Raises:
        InputError: The file is missing, is not a manifest or is damaged.
    """
    return read_labelled(path)[0]


def read_labelled(path: Path) -> tuple[pd.DataFrame, LabelSet]:
    """Read and validate a manifest, and return it with what its utterances are labelled with; errors as for `read_manifest`."""
    with _opened(path) as file:
        table, labels = file.read().to_pandas(), LabelSet.of(_attributes(file), str(path))
    return validate(table, str(path), labels), labels


def read_labels(path: Path) -> LabelSet:
    """Read only what the utterances of a manifest are labelled with; errors as for `read_manifest`."""
    return LabelSet.of(read_attributes(path), str(path))


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
        return Summary(file.metadata.num_rows, tuple(file.schema_arrow.names), _attributes(file))


def _attributes(file: pq.ParquetFile) -> dict[str, Any]:
    found = json.loads((file.schema_arrow.metadata or {}).get(_ATTRIBUTES, b"{}"))
    if not isinstance(found, dict):
        raise ValueError("its attributes are no mapping")
    return found


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
        content = path.read_bytes()
        if (difference := _difference(content)) is not None:
            raise _damaged(path, difference)
        with pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True) as file:
            if _CHECKSUM in (file.metadata.metadata or {}) and _place_of_checksum(content) is None:
                raise _damaged(path, "its checksum is none")
            yield file
    except InputError:
        raise
    except (OSError, ValueError, MemoryError, pa.ArrowException) as error:
        raise unreadable(path, error) or _damaged(path, reason(error).rstrip(".")) from error


def _damaged(path: Path, why: str) -> InputError:
    return InputError(f"{path}: truncated or damaged ({why}). Delete it and run BuildFeatures again.")


def _place_of_checksum(content: bytes | bytearray) -> tuple[int, int] | None:
    """Return the positions where the digits of the checksum begin and end; None if the file has no checksum."""
    places = [match.span(1) for match in _CHECKSUM_PLACE.finditer(content)]
    return places[-1] if places else None


def _difference(content: bytes) -> str | None:
    """Return what is wrong with the checksum of a file, in words; None if it is right or there is none."""
    if (place := _place_of_checksum(content)) is None:
        return None
    first, stop = place
    found = zlib.crc32(content[stop:], zlib.crc32(b"0" * (stop - first), zlib.crc32(memoryview(content)[:first])))
    written = content[first:stop].decode()
    return None if f"{found:08x}" == written else f"checksum {found:08x}, {written} when it was written"
