"""Manifests and tables on disk: a written table is read back; damage anywhere is an error that names the file."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from manifests import manifest

from data.errors import InputError
from data.manifest import Summary, read_attributes, read_manifest, summarise, write_manifest, write_table
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


def test_damage_is_an_error_or_without_effect(path):
    content, table = path.read_bytes(), read_manifest(path)
    found = 0
    for at in range(0, len(content), 23):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x41]) + content[at + 1 :])
        try:
            pd.testing.assert_frame_equal(read_manifest(path), table)
        except InputError:
            found += 1
    assert found > len(content) / 23 / 2


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
