"""Checkpoints as bytes: they come back, equal ones have equal bytes, and no flipped bit of one is accepted."""

import zlib

import numpy as np
import pytest
import torch
from projects import finish, forked
from safetensors.torch import load, save

from heads.runs.tensor_file import pack, unpack
from pipeline.settings import CHECKOUT

FACTS = {"progress": '{"version":"2 crc32 00000000", "history": [NaN, "é"]}'}


def tensors():
    torch.manual_seed(0)
    kinds = {"half": torch.randn(3).bfloat16(), "whole": torch.arange(3), "true": torch.tensor([True]), "none": torch.zeros(0, 2)}
    return {"weight": torch.randn(5, 3), "one": torch.tensor(1.5), **kinds}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name].dtype, found[name].shape) == (value.dtype, value.shape)
        assert torch.equal(found[name], value)


@pytest.mark.parametrize("facts", [{}, FACTS])
def test_tensors_and_facts_come_back(facts):
    found, said = unpack(pack(tensors(), facts))
    assert_same(found, tensors())
    assert said == facts
    found["weight"] += 1  # they may be changed


def test_the_file_is_safetensors_with_the_checksum_that_is_specified():
    content = pack(tensors(), {})
    assert_same(load(content), tensors())
    place = content.index(b'{"__metadata__":{"version":"2 crc32 ') + 36
    digits = content[place : place + 8]
    assert int(digits, 16) == zlib.crc32(content[:place] + b"00000000" + content[place + 8 :])


def test_equal_tensors_have_equal_bytes_in_every_process():
    made = "pack({'b': torch.ones(3), 'a': torch.ones(2)}, {})"
    code = f"import torch; from heads.runs.tensor_file import pack; print({made}.hex())"
    result = finish(forked("-c", code, cwd=CHECKOUT))
    assert result.stdout.strip() == pack({"a": torch.ones(2), "b": torch.ones(3)}, {}).hex()


def test_every_flipped_bit_is_refused():
    content = pack({"a": torch.randn(3)}, {"progress": "{}"})
    for place in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        with pytest.raises(ValueError, match=r".+"):
            unpack(bytes(damaged))


def test_80_random_flips_of_a_larger_one_are_refused_by_its_checksum():
    content = pack({"a": torch.randn(4000), "b": torch.randn(100, 20)}, {})
    header = 8 + int.from_bytes(content[:8], "little")
    for place in np.random.default_rng(0).integers(8 * header, 8 * len(content), 80).tolist():
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        with pytest.raises(ValueError, match=r"^checksum [0-9a-f]{8}, [0-9a-f]{8} when it was written$"):
            unpack(bytes(damaged))


def test_a_cut_or_zeroed_file_is_refused():
    content = pack(tensors(), {})
    for damaged in (b"", content[:7], content[:100], content[:-1], content + b"\0", content[:-40] + bytes(40)):
        with pytest.raises(ValueError, match=r".+"):
            unpack(damaged)


def test_a_file_of_an_older_program_is_read_as_it_is():
    found, facts = unpack(save(tensors(), {"version": "1", "progress": "{}"}))
    assert_same(found, tensors())
    assert facts == {"progress": "{}"}


@pytest.mark.parametrize(
    ("metadata", "said"), [({"version": "3 crc32 00000000"}, "'3 crc32 00000000'"), ({}, "'none'"), (None, "'none'")]
)
def test_another_version_is_refused(metadata, said):
    with pytest.raises(ValueError, match=rf"^version {said} is unknown: expected '1', or '2 crc32' and a checksum$"):
        unpack(save(tensors(), metadata))
