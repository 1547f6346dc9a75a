"""The status of a trial: complete, pruned, failed or unfinished; over, and over for good."""

import re

import pytest

from heads.runs.folder import RunFolder
from heads.sweeps.status import STATUSES, damage, is_final, is_over, status_of

METRICS = {"valid": {"mae": 0.5}, "valid_interval": {}}


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    return RunFolder(tmp_path)


@pytest.mark.parametrize(
    ("files", "status", "over", "final"),
    [
        ({}, "unfinished", False, False),
        ({"other.json": {}}, "unfinished", False, False),
        ({"metrics.json": METRICS}, "complete", True, True),
        ({"metrics.json": METRICS | {"pruned": True}}, "pruned", True, True),
        ({"metrics.json": METRICS, "failed.json": {"error": "an older attempt"}}, "complete", True, True),
        ({"failed.json": {"error": "made up"}}, "failed", True, True),
        ({"failed.json": {"error": "out of memory", "lacked_memory": True}}, "failed", True, False),
    ],
)
def test_a_status_follows_from_the_files_of_a_trial(folder, files, status, over, final):
    for name, content in files.items():
        folder.write_json(name, content)
    assert status in STATUSES
    assert (status_of(folder), is_over(folder), is_final(folder)) == (status, over, final)


@pytest.mark.parametrize("name", ["metrics.json", "failed.json", "config.json"])
def test_a_trial_with_a_damaged_file_is_over_and_not_trained_again(folder, name):
    (folder.path / name).write_text("{")
    assert (status_of(folder), is_over(folder), is_final(folder)) == ("damaged", True, True)
    assert re.search(rf"{name}: damaged \(.*\)\. Remove the run folder ", str(damage(folder)))


def test_a_selected_epoch_that_is_not_in_the_history_is_damage(folder):
    folder.write_history([{"epoch": 1, "train_loss": 1.0, "seconds": 1.0, "valid_loss": 1.0}])
    folder.write_json("metrics.json", METRICS | {"selected": {"loss": {"epoch": 1, "value": 1.0}}})
    assert status_of(folder) == "complete"
    folder.write_json("metrics.json", METRICS | {"selected": {"loss": {"epoch": 2, "value": 1.0}}})
    assert "a selected epoch is not in history.csv" in str(damage(folder))
