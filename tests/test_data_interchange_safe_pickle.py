"""Untrusted pickles: arrays and plain values are read, everything else is refused by name and never executed."""

import collections
import datetime
import io
import os
import pickle
import subprocess
import sys
from types import SimpleNamespace

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import InputError
from data.interchange import safe_pickle
from data.interchange.safe_pickle import dump, load


@pytest.fixture
def path(tmp_path):
    return tmp_path / "features.pkl"


plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8) | st.binary(max_size=8)
arrays = hnp.arrays(
    st.sampled_from(["float16", "float32", "float64", "int64", "uint8", "bool", "U3", "S2"]),
    hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)
trees = st.recursive(
    plain | arrays, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=8
)


def assert_same(found, expected):
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        for key in expected:
            assert_same(found[key], expected[key])
    elif isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    else:
        assert found == expected


@settings(max_examples=60, deadline=None)
@given(tree=trees, protocol=st.sampled_from([None, 2, 3, 4, 5]))
def test_what_python_or_we_pickle_is_read_back(tmp_path_factory, tree, protocol):
    path = tmp_path_factory.mktemp("pickle") / "x.pkl"
    with path.open("wb") as file:
        dump(tree, file) if protocol is None else pickle.dump(tree, file, protocol)
    assert_same(load(path), tree)
    if protocol is None:
        assert_same(pickle.loads(path.read_bytes()), tree)


def peak_rss_mb(code, *arguments):
    """What a process that runs `code` comes to hold on top of what it holds with NumPy alone."""
    lines = "import resource, sys, numpy as np", "from pathlib import Path", "from data.interchange import safe_pickle"
    peak = "resource.getrusage(resource.RUSAGE_SELF).ru_maxrss"
    script = "\n".join([*lines, f"before = {peak}", code, f"print(({peak} - before) / 1024)"])
    made = subprocess.run([sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True, check=True)
    return float(made.stdout)


def test_reading_takes_the_memory_of_the_file_and_writing_that_of_the_largest_array_more(path):
    arrays = "{i: np.ones((10, 1 << 18), np.float32) for i in range(6)}"  # of 10 MiB each
    assert peak_rss_mb(f"safe_pickle.dump({arrays}, open(sys.argv[1], 'wb'))", path) < 60 + 10 + 15
    assert path.stat().st_size > 60 << 20
    assert peak_rss_mb("kept = safe_pickle.load(Path(sys.argv[1]))", path) < 60 + 15


def test_arrays_share_the_memory_of_what_was_read_and_are_read_only(path):
    for protocol in (2, 4, 5):
        path.write_bytes(pickle.dumps([np.ones((2, 3)), np.ones(())], protocol))
        assert not any(array.flags.writeable for array in load(path))


def test_want_of_memory_has_a_message_of_its_own(path, monkeypatch):
    def load_more_than_there_is(_):
        raise MemoryError

    monkeypatch.setattr(safe_pickle, "_Unpickler", lambda file: SimpleNamespace(load=lambda: load_more_than_there_is(file)))
    path.write_bytes(pickle.dumps("twelve b")[:2] + b"]" * 9 + b".")
    with pytest.raises(InputError) as error:
        load(path)
    assert str(error.value) == (
        f"{path}: not enough memory. A pickle is read as a whole, and this one has 12 bytes. If there is more memory,"
        " the file is damaged: download it again."
    )


def test_other_orders_scalars_objects_and_sharing_are_read(path):
    turned = np.arange(24.0).reshape(2, 3, 4)
    shared = [np.float32(1.5)]
    tree = {"f": turned.T, "k": turned.transpose(1, 2, 0), "o": np.array([[1, "x"], [None, 2.5]], object), "twice": [shared, shared]}
    tree["big-endian"] = np.array([1.5, -2.0], ">f8")
    for protocol in (2, 5):
        path.write_bytes(pickle.dumps(tree, protocol))
        found = load(path)
        np.testing.assert_array_equal(found["f"], tree["f"])
        np.testing.assert_array_equal(found["k"], tree["k"])
        assert found["o"].tolist() == [[1, "x"], [None, 2.5]]
        assert found["big-endian"].tolist() == [1.5, -2.0]
        assert found["twice"] == [[1.5], [1.5]]
        assert found["twice"][0] is found["twice"][1]


def test_a_pickle_that_holds_itself_is_read(path):
    cycle = [np.ones(2)]
    cycle.append(cycle)
    path.write_bytes(pickle.dumps(cycle))
    found = load(path)
    assert found[1] is found
    assert found[0].tolist() == [1, 1]


def test_arrays_are_written_by_a_name_that_every_numpy_has(path):
    with path.open("wb") as file:
        dump({"a": np.ones((2, 3), np.float32), "o": np.array(["x"], object)}, file)
    assert b"_core" in pickle.dumps(np.ones(2))
    assert b"core" not in path.read_bytes()
    assert pickle.loads(path.read_bytes())["a"].tolist() == [[1, 1, 1], [1, 1, 1]]


class Command:
    """What an attacker sends: a pickle that runs a command when it is opened."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_a_command_is_refused_by_name_and_does_not_run(path, tmp_path):
    path.write_bytes(pickle.dumps({"text": np.ones(2), "audio": Command(f"touch {tmp_path / 'ran'}")}))
    with pytest.raises(InputError, match=r"features\.pkl: refused to unpickle posix\.system\. Files from others may hold numpy arrays"):
        load(path)
    assert not (tmp_path / "ran").exists()


def code(*parts):
    """A pickle of protocol 2 from opcodes."""
    return b"\x80\x02" + b"".join(parts) + b"."


DTYPE_OF_OBJECTS = b"cnumpy\ndtype\n(X\x01\x00\x00\x00OtR"


@pytest.mark.parametrize(
    ("content", "refused"),
    [
        (pickle.dumps(collections.OrderedDict(a=1)), r"collections\.OrderedDict"),
        (pickle.dumps({1, 2}, 2), r"__builtin__\.set"),
        (pickle.dumps({1, 2}), "set"),
        (pickle.dumps((1, 2)), "tuple"),
        (pickle.dumps({"a": [frozenset()]}), "frozenset"),
        (pickle.dumps({(1, 2): 3}), "tuple as a key"),
        (pickle.dumps(np.array([{"a": {1}}], object)), "set"),
        (pickle.dumps(bytearray(b"x"), 5), "bytearray"),
        (pickle.dumps(datetime.date(2024, 1, 1)), r"datetime\.date"),
        (pickle.dumps(np.zeros(1, [("a", "f4")])), r"numpy\.dtype\('V4'\)"),
        (pickle.dumps(np.zeros(1, "M8[s]")), r"numpy\.dtype\('M8'\)"),
        (pickle.dumps(np.zeros(1, complex)), r"numpy\.dtype\('c16'\)"),
        (code(b"cnumpy\nload\n"), r"numpy\.load"),
        (code(b"cnumpy.core\nmultiarray.scalar\n"), r"numpy\.core\.multiarray\.scalar"),
        (code(b"cbuiltins\neval\n"), r"builtins\.eval"),
        (code(b"cnumpy\nndarray\n)R"), "an array without values"),
        (code(b"cnumpy\nndarray\n"), "_Function"),
        (code(DTYPE_OF_OBJECTS), "_Dtype"),
        # numpy.ndarray((1,), object, bytes) itself crashes the interpreter
        (code(b"cnumpy\nndarray\n(K\x01\x85", DTYPE_OF_OBJECTS, b"X\x08\x00\x00\x00abcdefghtR"), "an array without values"),
        (code(b"cnumpy\nndarray\n)R(K\x01K\x01\x85", DTYPE_OF_OBJECTS, b"\x89X\x01\x00\x00\x00atb"), "an array of object from str"),
    ],
)
def test_whatever_is_not_plain_is_refused_by_name(path, content, refused):
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"refused to unpickle {refused}\. Files from others may hold"):
        load(path)


def test_a_type_that_lies_about_itself_is_refused(path):
    function, arguments, _ = np.dtype("f4").__reduce__()
    file = io.BytesIO()

    class Liar:
        def __reduce__(self):
            return function, arguments, (3, "<", None, ("a",), {"a": (np.dtype("f8"), 4096)}, 4, 4, 0)

    pickle.dump(Liar(), file, 2)
    path.write_bytes(file.getvalue())
    with pytest.raises(InputError, match=r"refused to unpickle numpy\.dtype with fields"):
        load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n", "git-lfs pointer.*git lfs pull"),
        (b"\n <!DOCTYPE html>\n<html><body>Sign in</body></html>", "an HTML page, not the file itself"),
        (b"", "the file is empty"),
        (b"PK\x03\x04 something zipped", r"not a pickle \(of protocol 2 or newer\)"),
        (pickle.dumps({"a": np.ones(3000)})[:-500], "truncated: it ends inside its pickle. Download it again"),
        (pickle.dumps({"a": "some words"})[:-1], "truncated: it ends inside its pickle"),
        (code(b"\xff"), r"damaged \(UnpicklingError: unknown opcode ff\)"),
        (code(b"0"), r"damaged \("),
    ],
    ids=["lfs", "html", "empty", "zip", "truncated array", "no end", "no opcode", "empty stack"],
)
def test_a_broken_file_gets_its_own_message(path, content, message):
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        load(path)


def test_a_missing_file_is_named(path):
    with pytest.raises(InputError, match=r"features\.pkl: cannot be read \(No such file"):
        load(path)


def test_more_bytes_than_its_shape_holds_is_damage(path):
    function, arguments, state = np.zeros(4, "f4").__reduce__()

    class Short:
        def __reduce__(self):
            return function, arguments, (*state[:-1], b"\0\0\0\0")

    path.write_bytes(pickle.dumps(Short()))
    with pytest.raises(InputError, match=r"damaged \(ValueError: cannot reshape"):
        load(path)


@pytest.mark.parametrize("state", [b"}X\x01\x00\x00\x00aK\x01s", b"N}X\x0c\x00\x00\x00__defaults__)s\x86"], ids=["dict", "slots"])
def test_a_pickle_cannot_set_attributes_of_the_functions_that_stand_in(path, state):
    """Without a refusal, an attribute would stay for every file that the process reads afterwards."""
    path.write_bytes(code(b"c_codecs\nencode\n", state, b"b"))
    with pytest.raises(InputError, match=r"refused to unpickle attributes of a function\."):
        load(path)
    assert not safe_pickle._encode.__dict__
    assert safe_pickle._encode.__defaults__ is None


def test_a_name_in_a_message_is_one_short_line(path):
    path.write_bytes(b"\x80\x04X\x04\x00\x00\x00a\nb\x07X\xd0\x07\x00\x00" + b"x" * 2000 + b"\x93.")
    with pytest.raises(InputError, match=r"refused to unpickle a\\nb\\x07\.x{60,80}…\. Files") as error:
        load(path)
    assert "\n" not in str(error.value)


def test_nesting_and_numbers_of_ordinary_pickles_are_read(path):
    tree = 1
    for _ in range(90):
        tree = [tree]
    for protocol in (2, 4):
        path.write_bytes(pickle.dumps([tree, 2**63, -(2**64), *map(str, range(3000))], protocol))
        found = load(path)
        assert found[0] == tree
        assert found[1:3] == [2**63, -(2**64)]
        assert found[-1] == "2999"
