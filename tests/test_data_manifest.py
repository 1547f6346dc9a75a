"""Manifests and tables on disk: a written table is read back; damage anywhere is an error that names the file."""

import errno
import re
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manifests import manifest

from data.errors import InputError, UnreadableError
from data.manifest import Summary, read_attributes, read_manifest, read_table, summarise, write_manifest, write_table
from data.schema import COLUMNS

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ROW = st.fixed_dictionaries(
    {"text": TEXT, "speaker": TEXT, "sentiment": st.floats(-3, 3) | st.just(np.nan), "fear": st.floats(0, 3) | st.just(np.nan)}
)


@pytest.fixture
def path(tmp_path):
    rows = [{"sentiment": 1.0}, {"sentiment": -2.2, "text": "höchst „seltsam“"}, {"start_s": 0.5, "end_s": 1.5}]
    write_manifest(tmp_path / "mosi.parquet", manifest("mosi", rows), {"layout": "MMSA", "found": [1, None]})
    return tmp_path / "mosi.parquet"


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(ROW, max_size=5))
def test_what_is_written_is_read(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("manifest") / "m.parquet"
    table = manifest("mosi", rows)
    write_manifest(path, table, {"corpus": "mosi"})
    pd.testing.assert_frame_equal(read_manifest(path), table, check_exact=True)


def test_the_head_says_rows_columns_and_attributes(path):
    assert summarise(path) == Summary(3, COLUMNS, {"layout": "MMSA", "found": [1, None]})
    assert read_attributes(path) == {"layout": "MMSA", "found": [1, None]}


def test_other_tables_have_their_columns_and_attributes(tmp_path):
    ledger = pd.DataFrame({"utterance_id": ["a"], "similarity": [0.5], "abstained": [False]})
    write_table(tmp_path / "ledger.parquet", ledger, {"rule": {"neighbours": 1}})
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "ledger.parquet"), ledger, check_dtype=False)
    assert read_attributes(tmp_path / "ledger.parquet") == {"rule": {"neighbours": 1}}


def test_a_foreign_table_has_no_attributes(tmp_path):
    pq.write_table(pa.table({"x": [1]}), tmp_path / "x.parquet")
    assert summarise(tmp_path / "x.parquet") == Summary(1, ("x",), {})
    with pytest.raises(InputError, match=r"x\.parquet: columns missing .*'utterance_id'.* unknown \['x'\]"):
        read_manifest(tmp_path / "x.parquet")


def test_the_same_table_gives_the_same_bytes(tmp_path, path):
    write_manifest(tmp_path / "again.parquet", read_manifest(path), {"found": [1, None], "layout": "MMSA"})
    assert (tmp_path / "again.parquet").read_bytes() == path.read_bytes()


def test_an_invalid_table_is_not_written(tmp_path):
    table = manifest("mosi", [{}]).assign(split="dev")
    with pytest.raises(InputError, match=r"m\.parquet: utterance 'a': split is 'dev'"):
        write_manifest(tmp_path / "m.parquet", table, {})
    assert list(tmp_path.iterdir()) == []


def test_a_cut_manifest_is_an_error(path):
    content = path.read_bytes()
    for size in [0, 1, 4, 100, len(content) // 2, len(content) - 1]:
        path.write_bytes(content[:size])
        for read in (read_manifest, summarise):
            with pytest.raises(InputError, match=r"mosi\.parquet: "):
                read(path)


def flipped(content, place):
    return content[: place // 8] + bytes([content[place // 8] ^ 1 << place % 8]) + content[place // 8 + 1 :]


def test_every_flipped_bit_is_an_error_but_in_the_name_of_the_checksum(path):
    content, table, facts = path.read_bytes(), read_manifest(path), summarise(path)
    name = content.index(b"mmolre-checksum")
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    assert content.index(b'"layout"') > footer  # where Parquet has no checksums of its own
    for place in range(0, 8 * len(content), 7):
        path.write_bytes(flipped(content, place))
        if name <= place // 8 < name + len("mmolre-checksum"):
            pd.testing.assert_frame_equal(read_manifest(path), table)
            assert summarise(path) == facts
            continue
        for read in (read_manifest, summarise, read_attributes):
            with pytest.raises(InputError, match=r"mosi\.parquet: (truncated or damaged \(|not a Parquet file)"):
                read(path)


def test_the_checksum_is_the_one_that_is_specified(path):
    content = path.read_bytes()
    written = pq.read_metadata(path).metadata[b"mmolre-checksum"]
    assert re.fullmatch(rb"crc32 [0-9a-f]{8}", written)
    assert content.count(written) == 1
    assert int(written[6:], 16) == zlib.crc32(content.replace(written, b"crc32 00000000"))


def test_a_text_like_the_checksum_is_not_taken_for_it(tmp_path):
    like = "mmolre-checksum\x18\x0ecrc32 0123abcd"
    write_table(tmp_path / "x.parquet", pd.DataFrame({"text": [like]}), {like: like})
    assert read_table(tmp_path / "x.parquet")["text"].tolist() == [like]
    assert read_attributes(tmp_path / "x.parquet") == {like: like}


def test_a_table_of_an_older_version_is_read_without_a_checksum(tmp_path):
    old = pa.table({"x": [1, 2]}).replace_schema_metadata({b"mmolre": b'{"rule": 1}'})
    pq.write_table(old, tmp_path / "x.parquet", compression="zstd", write_page_checksum=True)
    assert read_table(tmp_path / "x.parquet")["x"].tolist() == [1, 2]
    assert read_attributes(tmp_path / "x.parquet") == {"rule": 1}


def test_a_table_that_cannot_be_read_now_is_not_called_damaged(path, monkeypatch):
    def fail(_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(UnreadableError, match=r"mosi\.parquet: cannot be read \(Input/output error\)\. It may be whole: keep it"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read (No such file or directory)"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a git-lfs pointer"),
        (b"utterance_id,text\n", "not a Parquet file. If it should be one: delete it and run BuildFeatures again."),
        (b"PAR1 and nothing more", "truncated or damaged ("),
    ],
)
def test_what_is_no_table_is_named(tmp_path, content, message):
    path = tmp_path / "m.parquet"
    if content is not None:
        path.write_bytes(content)
    for read in (read_manifest, read_attributes):
        with pytest.raises(InputError) as error:
            read(path)
        assert str(error.value).startswith(f"{path}: {message}")
