"""One damaged run folder is a trial with a reason; the tables and the report of the sweep show the others."""

import json

import pytest
import small_sweeps
from small_sweeps import folders, make_sweep

from heads.sweeps.execution import failures
from heads.sweeps.results.report import write_report
from heads.sweeps.results.trials import ranked, write_trials

DEEP = "[" * 100_000 + "]" * 100_000


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A sweep that tests must not change."""
    return make_sweep(tmp_path_factory.mktemp("damaged"))


@pytest.fixture
def copy(sweep, tmp_path):
    return small_sweeps.copied(sweep, tmp_path / "copy")


def changed(content: str, **values: object) -> str:
    return json.dumps(json.loads(content) | values)


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("metrics.json", lambda text: text[: len(text) // 2], "metrics.json: damaged ("),
        ("metrics.json", lambda text: DEEP, "metrics.json: damaged (nested too deeply)"),
        ("metrics.json", lambda text: changed(text, parameters=10**70), "is a whole number of more than 64 bits"),
        ("metrics.json", lambda text: changed(text, selected=0.5), "metrics.json: damaged (selected is not a mapping)"),
        ("metrics.json", lambda text: changed(text, selected={"loss": {"epoch": 9, "value": 1.0}}), "is not in history.csv"),
        ("config.json", lambda text: changed(text, encoders="\ud800"), "config.json: damaged ('utf-8' codec can't encode"),
        ("config.json", lambda text: text.replace('"batch_size": ', '"batch_size": ' + "9" * 5_000), "more than 64 bits"),
        ("history.csv", lambda text: text.replace("\n1,", "\nx,", 1), "history.csv: damaged (column epoch is not all numbers)"),
        ("history.csv", lambda text: text.replace(",", "," * 1_000_000, 1), "damaged (a line of more than 20,000 characters)"),
        ("history.csv", lambda text: "", "history.csv: damaged (No columns to parse from file)"),
        ("history.csv", lambda text: "\x00" * 300, "history.csv: damaged ("),
        ("xray.json", lambda text: "{}", "xray.json: damaged (utterances is missing)"),
    ],
)
def test_a_damaged_trial_is_one_row_with_its_reason(copy, name, change, reason):
    folder = folders(copy, head="pre-fusion", status="complete", seed=1)[0]
    path = folder.path / name
    path.write_text(change(path.read_text() if path.exists() else ""))
    trials = write_trials(copy).set_index("name")
    assert len(trials) == 9
    assert trials.loc[folder.path.name, "status"] == "damaged"
    assert reason in trials.loc[folder.path.name, "error"]
    assert "\n" not in trials.loc[folder.path.name, "error"]
    assert (trials["status"] == "complete").sum() == 5
    table = trials.reset_index()
    assert len(ranked(table, "mae")) >= 3
    page = write_report(copy, table=table).read_text(encoding="utf-8")
    assert folder.path.name in page
    assert "1 of 9 trials failed; " in failures(copy, table)
    assert f"1 of 9 trials are damaged; {folder.path.name}: {trials.loc[folder.path.name, 'error']}" in failures(copy, table)


def test_a_damaged_reason_of_a_failure_is_a_reason(copy):
    folder = folders(copy, status="failed")[0]
    (folder.path / "failed.json").write_text('{"error": "\\ud800", "lacked_memory": false}')
    table = write_trials(copy)
    error = table.set_index("name").loc[folder.path.name, "error"]
    assert error.startswith(f"{folder.path / 'failed.json'}: damaged (")
    write_report(copy, table=table)


def test_a_sweep_of_damaged_trials_alone_has_a_page(copy):
    for path in (copy / "trials").iterdir():
        (path / "config.json").write_text("{")
    table = write_trials(copy)
    assert set(table["status"]) == {"damaged"}
    assert "not the configuration" not in write_report(copy, table=table).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["opened.csv", "predictions.parquet"])
def test_other_damaged_files_leave_the_page_as_it_is_but_for_a_note(copy, name):
    folder = folders(copy, head="pre-fusion", status="complete", seed=1)[0]
    folder.write_metrics(folder.metrics() | {"test": folder.metrics()["valid"]})
    (folder.path / name).write_bytes(b"\x80\x00")
    table = write_trials(copy)
    assert table.set_index("name").loc[folder.path.name, "status"] == "complete"
    page = write_report(copy, table=table).read_text(encoding="utf-8")
    assert f"{name}: " in page
