"""The rows of a corpus that a run trains on or is evaluated on, and the refusals where there are none."""

import re
from dataclasses import replace

import numpy as np
import pytest
import small_runs
from caches import make_cache

from data.errors import InputError
from data.tensors import CorpusTensors
from heads.runs.rows import labelled_rows
from heads.runs.run_data import RunData

NAN = float("nan")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return make_cache(tmp_path_factory.mktemp("cache"), utterances=48)


def with_labels(made: RunData, sentiment: np.ndarray, emotions: np.ndarray) -> CorpusTensors:
    targets = replace(made.tensors.targets, sentiment=sentiment, emotions=emotions)
    return made.tensors.relabelled(targets)


def test_rows_with_a_label_of_one_task_are_trained_on(cache):
    made = small_runs.run_data(cache)
    targets = made.tensors.targets
    rows = targets.rows("train")
    sentiment, emotions = targets.sentiment.copy(), targets.emotions.copy()
    sentiment[rows[:3]], emotions[rows[2:5], 4] = NAN, NAN
    tensors = with_labels(made, sentiment, emotions)
    assert labelled_rows(made.config, tensors, "train").tolist() == np.delete(rows, 2).tolist()
    msa, mer = (replace(made.config, task=task) for task in ("msa", "mer"))
    assert labelled_rows(msa, tensors, "train").tolist() == rows[3:].tolist()
    assert labelled_rows(mer, tensors, "train").tolist() == np.delete(rows, [2, 3, 4]).tolist()


def test_a_split_that_is_not_there_is_said_to_be_missing(cache):
    made = small_runs.run_data(cache)
    targets = made.tensors.targets
    tensors = made.tensors.relabelled(replace(targets, split=np.where(targets.split == "valid", "", targets.split)))
    with pytest.raises(InputError, match=r"^mosi: no utterance that can be used is in split 'valid', .*\(there are: train, test\)\."):
        labelled_rows(made.config, tensors, "valid")


def test_a_task_without_labels_is_told_which_have_some(cache):
    made = small_runs.run_data(cache)
    targets = made.tensors.targets
    tensors = with_labels(made, targets.sentiment, np.full_like(targets.emotions, NAN))
    with pytest.raises(InputError, match=r"has annotated emotion labels, which task 'both' needs\. Tasks with labels there: msa\.$"):
        labelled_rows(made.config, tensors, "train")


@pytest.mark.parametrize(("task", "label"), [("msa", "sentiment"), ("mer", "annotated emotion"), ("both", "sentiment")])
def test_a_task_without_any_label_is_refused(cache, task, label):
    made = small_runs.run_data(cache, changes={"task": task})
    targets = made.tensors.targets
    sentiment, emotions = (
        np.where(np.isin(np.arange(48), targets.rows("valid")), NAN, v.T).T for v in (targets.sentiment, targets.emotions)
    )
    tensors = with_labels(made, sentiment.astype(np.float32), emotions.astype(np.float32))
    said = f"mosi: none of 12 utterances of valid has {label} labels, which task '{task}' needs. Tasks with labels there: none."
    with pytest.raises(InputError, match=f"^{re.escape(said)}$"):
        labelled_rows(made.config, tensors, "valid")
