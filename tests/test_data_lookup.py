"""A name is found, or the message helps to find it."""

import pytest

from data.errors import InputError
from data.lookup import expect, lookup

TABLE = {"mosi": 1, "mosei": 2, "meld": 3}


def test_lookup_returns_what_the_table_holds():
    assert lookup(TABLE, "mosei", "corpus") == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mozi", "Unknown corpus 'mozi'. Did you mean 'mosi'? Available: mosi, mosei, meld."),
        ("MELD", "Unknown corpus 'MELD'. Did you mean 'meld'? Available: mosi, mosei, meld."),
        ("xyz", "Unknown corpus 'xyz'. Available: mosi, mosei, meld."),
        ("", "Unknown corpus ''. Available: mosi, mosei, meld."),
    ],
)
def test_a_miss_names_the_nearest_and_lists_all(name, message):
    with pytest.raises(InputError) as error:
        lookup(TABLE, name, "corpus")
    assert str(error.value) == message


def test_the_nearest_is_named_as_the_table_spells_it():
    with pytest.raises(InputError, match="Did you mean 'RoBERTa'"):
        lookup({"RoBERTa": 0}, "roberta", "encoder")


def test_a_choice_needs_no_table():
    expect(("adam", "adamw"), "adam", "optimizer")
    with pytest.raises(InputError, match=r"^Unknown optimizer 'adem'\. Did you mean 'adam'\? Available: adam, adamw\.$"):
        expect(iter(("adam", "adamw")), "adem", "optimizer")
