"""Every check of a head's contract finds what it is for: the example of docs/heads.md keeps the contract, and changes of it do not.

`tests/test_heads_models_registry.py` runs the same checks on every head of the program.
"""

import re

import pytest
from own_heads import write

from heads.models.contract import CHECKS, Subject, checked, subject_of
from heads.models.registry import HEADS, find

_MEAN = "masked_mean(batch.features[name], batch.masks[name])"
_MIXED = "        mixed = self.dropout(gate * text + (1 - gate) * audio)\n"
_RETURNED = "return predictions({name: layer(mixed) for name, layer in self.outputs.items()})"

BREAKS = {
    "an undeclared dropout rate": ("options", {"dropout_rate(0.1)": "0.1"}, r"^option dropout: a dropout rate is declared by"),
    "a column too many": (
        "outputs, task msa",
        {"layer(mixed)": "layer(mixed).unsqueeze(-1)"},
        r"^for task msa, sentiment has the shape \(5, 1\), expected \(5,\)\.$",
    ),
    "no named output": ("outputs, task both", {_RETURNED: "return mixed"}, r"^forward returns Tensor, expected a HeadOutput"),
    "a layer that nothing uses": (
        "gradients, task both",
        {"        self.gate, ": "        self.spare = nn.Linear(2, 2)\n        self.gate, "},
        r"^for task both, 2 of 12 parameters get no gradient: spare.weight, spare.bias\.$",
    ),
    "a deviation over the batch": (
        "smallest batch, task mer",
        {_MIXED: f"{_MIXED}        mixed = (mixed - mixed.mean(0)) / mixed.std(0, correction=0) if self.training else mixed\n"},
        r"^for task mer, the loss of a batch of 1 is nan\.$",
    ),
    "a mean over the padding": (
        "padding",
        {_MEAN: "batch.features[name].nan_to_num().mean(1)"},
        r"^padding of 0 changes predictions by up to 0\.\d+, allowed are 1e-05\.$",
    ),
    "dropout on steps of all clips in a row": (
        "padding in training",
        {_MEAN: "masked_mean(self.dropout(batch.features[name].flatten(0, 1)).view_as(batch.features[name]), batch.masks[name])"},
        r"^padding of 0 changes the loss of training from .* heads\.models\.parts\.randomness\.Dropout",
    ),
    "a batch norm by hand": (
        "other clips in a batch",
        {_MIXED: f"{_MIXED}        mixed = mixed - mixed.mean(0)\n"},
        r"^the other clips in a batch change predictions by up to 0\.\d+, allowed",
    ),
    "a leak of labels": (
        "labels in evaluation",
        {"layer(mixed)": "layer(mixed) + batch.sentiment.nan_to_num()[:, None]"},
        "^predictions depend on the labels of the batch.$",
    ),
    "a loss of its own that knows no missing label": (
        "missing labels",
        {_RETURNED: f"{_RETURNED}._replace(aux=Aux({{'own': batch.sentiment.square().mean()}}))", "import Head": "import Aux, Head"},
        r"^where 2 of 5 clips lack sentiment, the loss is nan\. NaN means unlabelled\.$",
    ),
    "a modality that is not read": (
        "modalities",
        {"[text, audio]": "[text, text]", "(1 - gate) * audio": "(1 - gate) * text"},
        r"^other audio changes nothing for 5 of 5 clips\.$",
    ),
    "more modalities than are read": (
        "number of modalities",
        {"    Options = GatedOptions": "    takes_more = True\n    Options = GatedOptions"},
        r"^takes_more is True, but predictions depend on 0% of the rows of a third modality\.$",
    ),
    "control flow by values": (
        "packs",
        {_MIXED: f"{_MIXED}        mixed = 2 * mixed if mixed.sum() > 0 else mixed\n"},
        r"^it cannot be trained in a pack by torch\.func\.vmap .* Say packable = False",
    ),
    "torch's dropout": (
        "seed",
        {"Dropout(options.dropout)": "nn.Dropout(options.dropout)"},
        r"^the same seed gives the loss \S+ and then \S+\. Random numbers have to come from heads\.models\.parts\.randomness",
    ),
    "an error in the file": (
        "outputs, task msa",
        {"text, audio], -1": "text, audio], 7"},
        r"gated\.py:35: IndexError: Dimension out of",
    ),
}


def own_subject(folder, changes) -> Subject:
    name = find(write(folder, changes))
    return subject_of("gated.Gated", HEADS[name].head, HEADS[name].options(), None)


def test_the_example_keeps_the_contract(tmp_path):
    found = dict(checked(own_subject(tmp_path, {})))
    assert {name.partition(",")[0] for name in found} == set(CHECKS)
    assert {name: fault for name, fault in found.items() if fault} == {}


@pytest.mark.parametrize(("check", "changes", "message"), BREAKS.values(), ids=BREAKS)
def test_a_check_finds_what_it_is_for(tmp_path, check, changes, message):
    fault = dict(checked(own_subject(tmp_path, changes)))[check]
    assert fault is not None
    assert re.search(message, fault)


def test_every_check_is_shown_to_find_something():
    assert {check.partition(",")[0] for check, *_ in BREAKS.values()} == set(CHECKS)
