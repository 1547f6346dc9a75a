"""Selection: the best epoch, and the end of patience."""

import json

import pytest

from data.errors import InputError
from heads.training.selection import Selection

NAN = float("nan")


def after(values: list[float], criterion: str = "loss", patience: int = 2) -> Selection:
    selection = Selection((criterion,), patience)
    for epoch, value in enumerate(values, 1):
        selection.update(epoch, {criterion: value})
    return selection


@pytest.mark.parametrize(
    ("criterion", "values", "best"),
    [
        ("loss", [3.0, 1.0, 2.0], (2, 1.0)),
        ("mae", [3.0, 1.0, 2.0], (2, 1.0)),
        ("corr", [0.1, 0.3, 0.2], (2, 0.3)),
        ("mean_wf1", [0.1, 0.3, 0.2], (2, 0.3)),
        ("loss", [1.0, 1.0, 1.0], (1, 1.0)),
        ("corr", [NAN, -0.5, NAN], (2, -0.5)),
    ],
)
def test_the_best_epoch_is_by_the_direction_of_the_value_and_the_first_of_equals(criterion, values, best):
    assert after(values, criterion).best == {criterion: best}


def test_update_names_what_became_better():
    selection = Selection(("loss", "mae", "corr"), 5)
    assert selection.update(1, {"loss": 1.0, "mae": 1.0, "corr": 0.1}) == ["loss", "mae", "corr"]
    assert selection.update(2, {"loss": 1.5, "mae": 0.9, "corr": 0.1}) == ["mae"]
    assert selection.update(3, {"loss": 0.5, "mae": 0.9, "corr": 0.2}) == ["loss", "corr"]
    assert selection.best == {"loss": (3, 0.5), "mae": (2, 0.9), "corr": (3, 0.2)}


@pytest.mark.parametrize(
    ("values", "is_exhausted"),
    [([1.0], False), ([1.0, 2.0], False), ([1.0, 2.0, 2.0], True), ([1.0, 2.0, 0.5, 2.0], False), ([1.0, 1.0, 1.0], True)],
)
def test_patience_counts_epochs_without_a_better_value(values, is_exhausted):
    assert after(values).is_exhausted == is_exhausted


def test_a_value_that_is_not_defined_is_no_better_one():
    assert after([NAN, NAN], "corr").is_exhausted
    assert after([NAN, NAN], "corr").best == {}


def test_the_first_criterion_alone_decides_when_to_stop():
    selection = Selection(("loss", "mae"), 2)
    for epoch in range(1, 4):
        selection.update(epoch, {"loss": float(epoch), "mae": -float(epoch)})
    assert selection.is_exhausted
    assert selection.best["mae"] == (3, -3.0)


def test_a_value_that_the_task_does_not_have_is_passed_over():
    selection = Selection(("loss", "mean_wf1"), 2)
    assert selection.update(1, {"loss": 1.0}) == ["loss"]


def test_a_criterion_named_twice_is_one():
    assert Selection(("mae", "loss", "mae"), 2).criteria == ("mae", "loss")


def test_an_unknown_value_is_refused():
    selection = Selection(("maee",), 2)
    selection.update(1, {"maee": 1.0})
    with pytest.raises(InputError, match=r"^Unknown metric 'maee'\. Did you mean 'mae'\?"):
        selection.update(2, {"maee": 0.5})


def test_a_selection_goes_on_from_its_state():
    values = [0.3, 0.1 + 0.2, 0.25, 0.26, 0.27]
    for cut in range(len(values)):
        first = after(values[:cut], patience=3)
        second = Selection(("loss",), 3)
        second.restore(json.loads(json.dumps(first.state())))
        for epoch, value in enumerate(values[cut:], cut + 1):
            second.update(epoch, {"loss": value})
        assert (second.best, second.waited) == ({"loss": (3, 0.25)}, 2)
