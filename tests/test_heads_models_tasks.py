"""The tasks of heads, and the options of losses, which have no torch: they must name the functions that do."""

import dataclasses

from data.labels import EMOTIONS, LabelSet
from heads.models import losses
from heads.models.options import walk
from heads.models.tasks import TASKS, WIDTHS, LossOptions


def test_every_task_that_can_be_asked_for_is_made_of_those_with_a_width():
    assert TASKS == {"msa": ("msa",), "mer": ("mer",), "both": ("msa", "mer")}
    assert {"msa": 1, "mer": len(EMOTIONS)} == WIDTHS == LabelSet().widths


def test_the_choices_of_losses_are_the_losses_that_there_are():
    choices = {name: declared.choices for name, _, declared in walk(LossOptions()) if declared.choices}
    assert choices == {
        "sentiment": tuple(losses.SENTIMENT_LOSSES),
        "emotion": tuple(losses.EMOTION_LOSSES),
        "emotion_reduction": tuple(losses.REDUCTIONS),
    }


def test_weights_are_told_by_task():
    assert dataclasses.replace(LossOptions(), emotion_weight=0.5).weights() == {"msa": 1.0, "mer": 0.5}
