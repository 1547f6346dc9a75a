"""Pickles that ask for too much are refused while their opcodes are read, before any is interpreted."""

import pytest

from data.errors import InputError
from data.interchange import pickle_opcodes, safe_pickle
from data.interchange.safe_pickle import load


@pytest.fixture
def path(tmp_path):
    return tmp_path / "features.pkl"


@pytest.mark.parametrize(
    ("content", "refused"),
    [
        (b"\x80\x04})" + b"\x85" * 150_000 + b"K\x01s.", "values nested deeper than 100"),  # its hash crashes the interpreter
        (b"\x80\x04})" + b"\x94\x85" * 5_000 + b"K\x01s.", "values nested deeper than 100"),
        (b"\x80\x04})" + b"\x85Nb" * 5_000 + b"K\x01s.", "values nested deeper than 100"),  # BUILD without a state gives its operand
        (b"\x80\x04})" + b"2\x86" * 150_000 + b"K\x01s.", "values nested deeper than 100"),
        (b"\x80\x04})q\x00" + b"(h\x00h\x00tq\x00" * 40_000 + b"K\x01s.", "values nested deeper than 100"),  # 2 ** 40,000 leaves
        (b"\x80\x04(" + b"(" * 200 + b"\x91" * 200 + b"t.", "values nested deeper than 100"),
        (b"\x80\x04K\x01r" + (100_000_000).to_bytes(4, "little") + b".", "a memo entry of number 100,000,000 after 3 parts"),
        (b"\x80\x02K\x01p100000000\n.", "a memo entry of number 100,000,000 after 3 parts"),
        (b"\x80\x04" + b"}" * 20_001 + b".", "more than 20,000 parts"),
        (b"\x80\x02" + b"\x8b" + (1000).to_bytes(4, "little") + b"\x01" * 1000 + b".", "an integer of 1,000 bytes"),
        (b"\x80\x02L" + b"1" * 5000 + b"L\n.", "an integer of 5,001 digits"),
    ],
    ids=["key", "memo", "build", "twice", "laughs", "sets", "put", "put text", "parts", "long", "long text"],
)
def test_what_exhausts_memory_or_stack_is_refused_before_it_is_interpreted(path, content, refused, monkeypatch):
    monkeypatch.setattr(safe_pickle, "_Unpickler", None)
    monkeypatch.setattr(pickle_opcodes, "MOST_PARTS", 20_000)
    path.write_bytes(content)
    with pytest.raises(
        InputError, match=rf"features\.pkl: refused to unpickle {refused}\. Features need less; lists of numbers belong"
    ):
        load(path)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04\x95" + (1 << 30).to_bytes(8, "little") + b"N.",
        b"\x80\x04\x8e" + (1 << 60).to_bytes(8, "little") + b".",
        b"\x80\x04X\x00\x00\x00\x40abc.",
        b"\x80\x02I123",
    ],
    ids=["frame", "bytes", "text", "line"],
)
def test_a_length_beyond_the_end_of_the_file_allocates_nothing(path, content, monkeypatch):
    monkeypatch.setattr(safe_pickle, "_Unpickler", None)
    path.write_bytes(content)
    with pytest.raises(InputError, match="truncated: it ends inside its pickle"):
        load(path)


@pytest.mark.parametrize("content", [b"h\x07", b"gx\n", b"(\x85", b"a", b"(\x94"], ids=["get", "get text", "mark", "append", "memo"])
def test_an_operation_without_its_values_is_damage(path, content):
    path.write_bytes(b"\x80\x02" + content + b".")
    with pytest.raises(InputError, match=r"damaged \(UnpicklingError: .*\)\. Download it again"):
        load(path)
