"""`data.layers`: what luigi.cfg names, which layers of a model that is, and what a feature file says of it."""

import pytest

from data.errors import InputError
from data.layers import LayerChoice, described, positions, stored_layers

BLOCKS = 12


@pytest.mark.parametrize(
    ("text", "numbers", "facts"),
    [
        ("-1", [12], {"layer": -1}),
        ("8", [8], {"layer": 8}),
        ("0", [0], {"layer": 0}),
        ("-2", [11], {"layer": 11}),
        ("12", [12], {"layer": 12}),
        ("6,9,12", [6, 9, 12], {"layers": [6, 9, 12]}),
        (" 12 , 6,-4 ", [6, 9, 12], {"layers": [6, 9, 12]}),
        ("1..3,-1", [1, 2, 3, 12], {"layers": [1, 2, 3, 12]}),
        ("all", list(range(13)), {"layers": list(range(13))}),
        ("mean(-4..-1)", [9, 10, 11, 12], {"mean_of_layers": [9, 10, 11, 12]}),
        ("mean(all)", list(range(13)), {"mean_of_layers": list(range(13))}),
        ("mean( 3 )", [3], {"layer": 3}),
        ("5..5", [5], {"layer": 5}),
    ],
)
def test_layers_are_read_and_stated(text, numbers, facts):
    choice = LayerChoice.parse(text)
    found = choice.numbers(BLOCKS, "x")
    assert list(found) == numbers
    assert choice.facts(found) == facts


@pytest.mark.parametrize(
    "text", ["", "last", "1;2", "1,,2", "1.5", "mean(", "mean()", "mean(1", "mean(mean(1))", "1...3", "1..", "all,1", "9999999"]
)
def test_what_is_no_layer_is_refused_in_one_line(text):
    with pytest.raises(
        InputError, match=r"expected a layer such as -1 or 8, several such as 6,9,12 or 6..12, all, or their mean"
    ) as caught:
        LayerChoice.parse(text)
    assert str(caught.value).startswith(f"layers is {text!r}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("13", r"layers is '13', expected 0 \(embeddings\) to 12 for roberta, or -1 \(the last\) to -13"),
        ("6,-14", r"layers is '6,-14', expected 0"),
        ("0..13", r"layers is '0..13', expected 0"),
        ("-1..-4", r"layers is '-1..-4': the range -1..-4 is empty for roberta, with 12 blocks"),
        ("12,-1", r"layers is '12,-1': layer 12 is named twice"),
    ],
)
def test_what_the_model_does_not_have_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        LayerChoice.parse(text).numbers(BLOCKS, "roberta")


def test_only_numbers_from_the_end_and_all_need_the_number_of_blocks():
    needs = {text: LayerChoice.parse(text).needs_blocks for text in ("-1", "8", "6,9", "all", "-2", "mean(-4..-1)", "mean(1,2)")}
    assert needs == {"-1": False, "8": False, "6,9": False, "all": True, "-2": True, "mean(-4..-1)": True, "mean(1,2)": False}


@pytest.mark.parametrize(
    ("identity", "layers", "words"),
    [
        ({"layer": -1}, (-1,), "the last layer"),
        ({"layer": 8}, (8,), "layer 8"),
        ({"layers": [6, 9]}, (6, 9), "layers 6, 9"),
        ({"mean_of_layers": [6, 9]}, (), "the mean of layers 6, 9"),
        ({}, (), ""),
        (None, (), ""),
        ({"layers": "all", "layer": "x"}, (), ""),
        ({"layers": []}, (), ""),
    ],
)
def test_what_a_file_holds(identity, layers, words):
    assert (stored_layers(identity), described(identity)) == (layers, words)


def test_picked_layers_are_found_or_refused():
    assert positions((6, 9, 12), [12, 6], "data.layers.text", "f.h5", "layers 6, 9, 12") == (2, 0)
    with pytest.raises(
        InputError, match=r"data.layers.text is \[7\], but f.h5 holds layers 6, 9, not layer 7. Pick among these, or add it"
    ):
        positions((6, 9), [7], "data.layers.text", "f.h5", "layers 6, 9")
    with pytest.raises(InputError, match=r"but f.h5 holds one layer of unknown number, not layer 7"):
        positions((), [7], "data.layers.text", "f.h5", "")
    for picked in ([], [6, 6]):
        with pytest.raises(InputError, match="expected one layer or more, each of them once"):
            positions((6, 9), picked, "data.layers.text", "f.h5", "layers 6, 9")
