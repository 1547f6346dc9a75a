"""Digests are stable and differ for different contents; the memo of file digests is fast and never wrong."""

import hashlib
import json
import os
import subprocess
import sys
import time

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data import fingerprint
from data.errors import InputError
from data.fingerprint import KEY_LENGTH, FileDigests, digest, file_digest, table_digest

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def age(path, seconds=10):
    past_ns = time.time_ns() - int(seconds * 1e9)
    os.utime(path, ns=(past_ns, past_ns))


@pytest.fixture
def files(tmp_path):
    paths = [tmp_path / f"{name}.wav" for name in "abc"]
    for path in paths:
        path.write_bytes(path.name.encode() * 1000)
        age(path)
    return paths


@pytest.fixture
def reads(monkeypatch):
    """The paths whose content has been read."""
    read = []

    def counted(path):
        read.append(path.name)
        return file_digest(path)

    monkeypatch.setattr(fingerprint, "file_digest", counted)
    return read


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_digest_is_sha256_of_canonical_json():
    expected = hashlib.sha256(b'{"a":[1,2.5,null,true],"b":"\\u00e9"}').hexdigest()[:12]
    assert digest({"b": "é", "a": (1, 2.5, None, True)}) == expected
    assert KEY_LENGTH == 12


@given(value=JSON)
def test_the_json_of_long_lists_is_written_in_pieces_of_the_same_text(value):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fingerprint, "_PIECE", 1)
        pieces = list(fingerprint._pieces([value, [value] * 3, {"a": [value] * 2}]))
    whole = json.dumps([value, [value] * 3, {"a": [value] * 2}], sort_keys=True, separators=(",", ":"))
    assert "".join(pieces) == whole
    assert len(pieces) > 3
    assert max(map(len, pieces)) < len(whole)


def test_a_long_list_has_the_digest_of_its_whole_json():
    rows = [(f"v{number}", f"{number:x}") for number in range(25_000)]
    text = json.dumps(["key", [list(row) for row in rows]], separators=(",", ":"))
    assert digest(["key", rows]) == hashlib.sha256(text.encode()).hexdigest()[:KEY_LENGTH]


def csv_digest(table):
    return hashlib.sha256(table.to_csv(index=False).encode()).hexdigest()


def test_the_digest_of_a_long_table_is_that_of_its_csv():
    table = pd.DataFrame({"text": ["a, b", 'c "d"', "é\u2028"] * 4_000, "label": [1.5, float("nan"), -3.0] * 4_000})
    assert table_digest(table) == csv_digest(table)


@given(
    rows=st.lists(st.tuples(st.text(), st.none() | st.text(), st.floats(), st.floats(-4, 4), st.integers(-(2**63), 2**63 - 1))),
    piece=st.integers(1, 3),
)
@settings(max_examples=40)
def test_the_digest_of_a_table_is_that_of_the_csv_of_pandas(rows, piece):
    types = {"a": object, "b, c": object, "d": float, "e": float, "f": "int64"}
    table = pd.DataFrame(rows, columns=list(types)).astype(types)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fingerprint, "_PIECE", piece)
        for part in (table, table[["b, c"]], table.iloc[:0]):
            assert table_digest(part) == csv_digest(part)


@given(value=JSON)
def test_a_digest_survives_json_and_the_order_of_keys(value):
    copy = json.loads(json.dumps(value))
    assert digest(copy) == digest(value)
    if isinstance(value, dict):
        assert digest(dict(reversed(value.items()))) == digest(value)


def test_a_digest_is_the_same_in_another_process():
    value = {"nan": float("nan"), "set": ["b", "a"], "inf": float("inf")}
    code = "from data.fingerprint import digest; print(digest({'inf': float('inf'), 'set': ['b', 'a'], 'nan': float('nan')}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"PYTHONHASHSEED": "7"})
    assert run.stdout.strip() == digest(value), run.stderr


def test_values_that_differ_have_different_digests():
    values = [None, "", "None", 0, 0.0, -0.0, False, "0", [], [0], [[0]], {}, {"0": 0}, float("nan"), "NaN", ["a", "b"], ["ab"]]
    assert len({digest(value) for value in values}) == len(values)


@pytest.mark.parametrize("value", [{1, 2}, b"a", object(), {"a": {1: "x"}}, [{None: 1}], {(1, 2): 3}])
def test_what_is_not_json_has_no_digest(value):
    with pytest.raises(TypeError):
        digest(value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"clip\.wav: cannot be read \(No such file or directory\)"):
        file_digest(tmp_path / "clip.wav")
    with pytest.raises(InputError, match=r"clip\.wav: cannot be read \(No such file or directory\)"):
        FileDigests(tmp_path / "memo.json").digests([tmp_path / "clip.wav"])


def test_digests_come_in_order_and_a_file_that_occurs_twice_is_read_once(files, reads, tmp_path):
    done = []
    paths = [files[2], files[0], files[2], files[1]]
    values = FileDigests(tmp_path / "memo.json").digests(paths, workers=2, progress=done.append)
    assert values == [sha256(path) for path in paths]
    assert sorted(reads) == ["a.wav", "b.wav", "c.wav"]
    assert sum(done) == 4


def test_a_second_run_reads_no_file(files, reads, tmp_path):
    memo, done = tmp_path / "cache" / "memo.json", []
    first = FileDigests(memo).digests(files)
    reads.clear()
    assert FileDigests(memo).digests(files, progress=done.append) == first
    assert reads == []
    assert done == [3]


def test_the_memo_is_read_once_however_often_digests_are_asked_for(files, tmp_path, monkeypatch):
    """Each encoder of a build asks; the memo of a large corpus takes seconds to read."""
    FileDigests(tmp_path / "memo.json").digests(files)
    loaded, digests, loads = [], FileDigests(tmp_path / "memo.json"), json.loads
    monkeypatch.setattr(fingerprint.json, "loads", lambda content: loaded.append(len(content)) or loads(content))
    for path in files:
        assert digests.digests([path]) == [sha256(path)]
    assert len(loaded) == 1


def test_only_a_changed_file_is_read_again(files, reads, tmp_path):
    digests = FileDigests(tmp_path / "memo.json")
    digests.digests(files)
    files[1].write_bytes(b"other")
    age(files[1], 5)
    reads.clear()
    assert digests.digests(files) == [sha256(path) for path in files]
    assert reads == ["b.wav"]


def test_a_file_of_the_same_size_and_a_time_set_back_is_read_again(files, tmp_path):
    """What unpacking another release of a corpus leaves: wavs of equal length with the archive's times."""
    digests = FileDigests(tmp_path / "memo.json")
    digests.digests(files)
    before = files[0].stat()
    files[0].write_bytes(files[0].read_bytes()[::-1])
    os.utime(files[0], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert digests.digests(files)[0] == sha256(files[0])


@pytest.mark.parametrize("seconds", [0, 1, -3600])
def test_a_file_that_has_just_changed_is_not_remembered(files, reads, tmp_path, seconds):
    age(files[0], seconds)
    digests = FileDigests(tmp_path / "memo.json")
    digests.digests(files)
    reads.clear()
    digests.digests(files)
    assert reads == ["a.wav"]


def test_two_processes_keep_each_others_entries(files, reads, tmp_path):
    one, two = FileDigests(tmp_path / "memo.json"), FileDigests(tmp_path / "memo.json")
    one.digests(files[:1])
    two.digests(files[1:])
    reads.clear()
    one.digests(files)
    assert reads == []


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"x": [1, 2]}', b"\xff\xfe", b'{"x": [1, 2, 3, null]}', b'{"x":' + b"[" * 100_000]
)
def test_a_damaged_memo_is_ignored_and_written_anew(files, reads, tmp_path, content):
    memo = tmp_path / "memo.json"
    memo.write_bytes(content)
    assert FileDigests(memo).digests(files) == [sha256(path) for path in files]
    reads.clear()
    FileDigests(memo).digests(files)
    assert reads == []


def _cut(entries):
    return {key: [*entry[:3], entry[3][:20], *entry[4:]] for key, entry in entries.items()}


def _with_another_digit(entries):
    return {key: [*entry[:3], entry[3].translate({ord("0"): "1"}), *entry[4:]] for key, entry in entries.items()}


def _exchanged(entries):
    return dict(zip(entries, [*list(entries.values())[1:], *list(entries.values())[:1]], strict=True))


def _without_checksum(entries):
    return {key: entry[:4] for key, entry in entries.items()}


@pytest.mark.parametrize("change", [_cut, _with_another_digit, _exchanged, _without_checksum])
def test_a_damaged_entry_of_a_memo_is_not_believed(files, reads, tmp_path, change):
    for path in files:
        os.utime(path, ns=(10**18, 10**18))
    memo = tmp_path / "memo.json"
    FileDigests(memo).digests(files)
    memo.write_text(json.dumps(change(json.loads(memo.read_text()))))
    reads.clear()
    assert FileDigests(memo).digests(files) == [sha256(path) for path in files]
    assert sorted(reads) == ["a.wav", "b.wav", "c.wav"]


def test_what_was_read_before_an_error_is_remembered(files, reads, tmp_path, monkeypatch):
    def fails_at_c(path):
        if path.name == "c.wav":
            raise InputError(f"{path}: cannot be read (Input/output error).")
        return file_digest(path)

    digests = FileDigests(tmp_path / "memo.json")
    with monkeypatch.context() as patch:
        patch.setattr(fingerprint, "file_digest", fails_at_c)
        with pytest.raises(InputError, match="Input/output error"):
            digests.digests(files, workers=1)
    digests.digests(files)
    assert reads == ["c.wav"]


def test_a_memo_that_cannot_be_kept_costs_only_time(files, tmp_path):
    (tmp_path / "file").write_text("a file where the folder of the memo should be")
    assert FileDigests(tmp_path / "file" / "memo.json").digests(files) == [sha256(path) for path in files]
