"""The status of a trial: complete, pruned, failed or unfinished; over, and over for good."""

import pytest

from data.errors import InputError
from heads.runs.folder import RunFolder
from heads.sweeps.status import STATUSES, is_final, is_over, status_of

METRICS = {"valid": {"mae": 0.5}, "valid_interval": {}}


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    return RunFolder(tmp_path)


@pytest.mark.parametrize(
    ("files", "status", "over", "final"),
    [
        ({}, "unfinished", False, False),
        ({"config.json": {}, "state.safetensors": {}}, "unfinished", False, False),
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


@pytest.mark.parametrize("name", ["metrics.json", "failed.json"])
def test_a_damaged_file_is_refused(folder, name):
    (folder.path / name).write_text("{")
    with pytest.raises(InputError, match=rf"{name}: damaged \(.*\)\. Remove the run folder "):
        is_final(folder)
