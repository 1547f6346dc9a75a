"""Folders of `.npy` files, one for each utterance."""

import numpy as np
import pytest

from data.errors import InputError
from data.interchange.npy import read_npy


def test_files_are_named_by_their_path_and_read_when_asked(tmp_path):
    folder = tmp_path / "openface"
    (folder / "dev").mkdir(parents=True)
    np.save(folder / "a.b.npy", np.arange(6).reshape(3, 2))
    np.save(folder / "dev" / "one.npy", np.array([0.5, 1.5]))
    np.save(folder / ".hidden.npy", np.zeros(7))
    found = read_npy(folder, "vision")
    assert (found.encoder, found.dim, dict(found.lengths)) == ("vision of openface", 2, {"a.b": 3, "dev/one": 1})
    np.testing.assert_array_equal(found.read("a.b"), [[0, 1], [2, 3], [4, 5]])
    np.testing.assert_array_equal(found.read("dev/one"), [[0.5, 1.5]])
    assert found.intervals is None
    before = found.origin
    np.save(folder / "a.b.npy", np.arange(6).reshape(3, 2) + 1)
    assert read_npy(folder, "vision").origin != before


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, r"openface: no \.npy file in this folder or below it, expected one for each utterance\.$"),
        ({"a": np.zeros((2, 3)), "b": np.zeros((2, 4))}, r"openface: a\.npy is 3 wide and b\.npy is 4 wide; expected one width\.$"),
        ({"a": np.zeros((2, 3, 4))}, r"a\.npy: float64 \(2, 3, 4\), expected numbers of shape \(steps, width\)\.$"),
        ({"a": np.array(["x"])}, r"a\.npy: <?U?str32 \(1, 1\), expected numbers|a\.npy: str32 \(1, 1\), expected numbers"),
        ({"a": np.array([{}], object)}, r"a\.npy: truncated, damaged, or not an array of numbers \(.*Python objects.*\)\.$"),
    ],
)
def test_other_files_are_refused(tmp_path, arrays, message):
    (tmp_path / "openface").mkdir()
    for name, values in arrays.items():
        np.save(tmp_path / "openface" / f"{name}.npy", values, allow_pickle=True)
    with pytest.raises(InputError, match=message):
        read_npy(tmp_path / "openface", "vision")


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"none: no such folder, expected one with \.npy files, one for each utterance\.$"):
        read_npy(tmp_path / "none", "vision")
