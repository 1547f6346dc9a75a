"""Distributions of a grid file: their quantiles, their draws, and the values they refuse."""

import hashlib

import numpy as np
import pytest

from data.errors import InputError
from heads.sweeps.distributions import Distribution, read_distribution


@pytest.mark.parametrize(
    ("kind", "values", "shares", "expected"),
    [
        ("choice", ("a", None, 3), (0, 0.34, 0.999999), ["a", None, 3]),
        ("uniform", (-1.0, 3.0), (0, 0.25, 0.5), [-1.0, 0.0, 1.0]),
        ("log_uniform", (0.01, 100.0), (0, 0.25, 0.5), [pytest.approx(0.01), pytest.approx(0.1), pytest.approx(1.0)]),
        ("int_uniform", (-1, 2), (0, 0.25, 0.5, 0.999999), [-1, 0, 1, 2]),
    ],
)
def test_a_distribution_has_quantiles(kind, values, shares, expected):
    assert [Distribution(kind, values).at(share) for share in shares] == expected


def test_draws_follow_from_the_seed_and_the_name_alone():
    """The reference is numpy's generator, seeded by a SHA-256 of the two."""
    uniform = Distribution("uniform", (2.0, 4.0))
    digest = hashlib.sha256(b"7 train.lr").digest()
    expected = 2 + 2 * np.random.default_rng(int.from_bytes(digest)).random(5)
    assert uniform.draws("train.lr", 7, 5) == pytest.approx(expected.tolist(), rel=1e-12)
    assert uniform.draws("train.lr", 7, 3) == uniform.draws("train.lr", 7, 5)[:3]
    assert uniform.draws("train.lr", 8, 3) != uniform.draws("train.lr", 7, 3) != uniform.draws("train.warmup", 7, 3)


@pytest.mark.parametrize("share", [0.0, 0.3, 1 - 2**-53])
def test_draws_never_leave_their_bounds(share):
    """Rounding in the logarithm could step over them."""
    for low, high in ((0.1, 0.3), (1e-5, 1e-1), (3.0, 3.0000000000000004)):
        assert low <= Distribution("uniform", (low, high)).at(share) <= high
        assert low <= Distribution("log_uniform", (low, high)).at(share) <= high


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"choice": [1, "a", [2]]}, Distribution("choice", (1, "a", [2]))),
        ({"uniform": [0, 1]}, Distribution("uniform", (0.0, 1.0))),
        ({"log_uniform": ["1e-5", 0.1]}, Distribution("log_uniform", (1e-5, 0.1))),
        ({"int_uniform": [1, 4]}, Distribution("int_uniform", (1, 4))),
    ],
)
def test_a_distribution_is_read_with_its_values(given, expected):
    assert read_distribution(given, "here") == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"log_uniform": [0, 1]}, "here: log_uniform is [0, 1], expected [lowest, highest], above 0."),
        ({"uniform": [1, 1]}, "here: uniform is [1, 1], expected [lowest, highest]."),
        ({"choice": []}, "here: choice is [], expected a list of values."),
        ([1, 2], "here is [1, 2], expected one of choice, uniform, log_uniform, int_uniform, as in {uniform: [0, 0.5]}."),
    ],
)
def test_values_that_are_not_allowed_are_refused(given, message):
    with pytest.raises(InputError) as refused:
        read_distribution(given, "here")
    assert str(refused.value) == message
