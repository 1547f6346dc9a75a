"""Importing the program changes nothing in a process; the luigi command, or one call, prepares Luigi for a build."""

import json
from pathlib import Path
from typing import Any

import pytest
from projects import finish, forked, python

STATE = """
import json, logging, os, sys, warnings
import av, filelock, h5py, jinja2, luigi, luigi.interface, matplotlib, pandas, safetensors, soxr, torch, tqdm, transformers

def state():
    config = luigi.configuration.get_config()
    loggers = {name: one for name, one in logging.root.manager.loggerDict.items() if isinstance(one, logging.Logger)}
    return {
        "environment": dict(os.environ),
        "config": {section: dict(config[section]) for section in config.sections()},
        "worker": luigi.worker.Worker.__name__,
        "filters": {name: [type(known).__name__ for known in one.filters] for name, one in loggers.items() if one.filters},
        "handlers": {name: [str(known) for known in one.handlers] for name, one in loggers.items() if one.handlers},
        "warnings": [str(known) for known in warnings.filters],
        "path": sys.path,
    }

"""


def run(code: str, folder: Path) -> Any:
    """Runs code in an interpreter that has Luigi and all libraries loaded, and returns the JSON that it prints."""
    result = finish(forked("-c", STATE + code, cwd=folder))
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_importing_every_module_changes_nothing_in_the_process(tmp_path):
    before, after, imported = run(
        "import importlib, pkgutil\n"
        "before = state()\n"
        "import pipeline\n"
        "names = [module.name for module in pkgutil.walk_packages(pipeline.__path__, 'pipeline.')]\n"
        "for name in names:\n"
        "    importlib.import_module(name)\n"
        "print(json.dumps([before, state(), names]))\n",
        tmp_path,
    )
    assert {"pipeline.tasks", "pipeline.settings", "pipeline.encoding.encoders", "pipeline.report.page"} <= set(imported)
    assert after == before
    assert list(tmp_path.iterdir()) == []


def test_importing_the_package_imports_neither_luigi_nor_torch(tmp_path):
    code = "import sys, pipeline, pipeline.settings; print(sorted({'luigi', 'torch', 'transformers'} & set(sys.modules)))"
    result = finish(python("-c", code, cwd=tmp_path))
    assert (result.returncode, result.stdout) == (0, "[]\n"), result.stderr


def test_the_task_is_an_attribute_of_the_package_and_others_are_not(tmp_path):
    import pipeline
    from pipeline.tasks import BuildFeatures

    assert pipeline.BuildFeatures is BuildFeatures
    with pytest.raises(AttributeError, match="module 'pipeline' has no attribute 'BuildFeature'"):
        _ = pipeline.BuildFeature


def prepared(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str, gpus: str = "") -> dict[str, Any]:
    """The state of a process in which the luigi command has imported `pipeline`."""
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    return run(f"sys.argv += {list(arguments)}\nimport luigi.cmdline, pipeline\nprint(json.dumps(state()))", folder)


def test_the_luigi_command_gets_all_that_a_build_needs(tmp_path, monkeypatch):
    found = prepared(tmp_path, monkeypatch)
    assert found["config"]["retcode"] == {
        "missing_data": "20", "not_run": "25", "task_failed": "30", "scheduling_error": "35", "unhandled_exception": "40",
    }  # fmt: skip
    assert found["config"]["core"] == {"log_level": "WARNING", "no_lock": "true", "local_scheduler": "true"}
    context = "pipeline.interruption.QuietEnd"
    assert found["config"]["worker"] == {"check_complete_on_run": "true", "task_process_context": context}
    assert "resources" not in found["config"]
    assert found["worker"] == "PatientWorker"
    assert found["filters"]["luigi-interface"] == ["OneLineErrors"]
    assert found["environment"]["OMP_WAIT_POLICY"] == "PASSIVE"


def test_what_the_user_has_set_stays(tmp_path, monkeypatch):
    (tmp_path / "luigi.cfg").write_text(
        "[core]\nlog-level = INFO\n[retcode]\ntask_failed = 3\n[worker]\ncheck_complete_on_run = false\n"
    )
    found = prepared(tmp_path, monkeypatch)
    assert found["config"]["core"] == {"log-level": "INFO", "no_lock": "true", "local_scheduler": "true"}
    assert (found["config"]["retcode"]["task_failed"], found["config"]["retcode"]["not_run"]) == ("3", "25")
    assert found["config"]["worker"]["check_complete_on_run"] == "false"


@pytest.mark.parametrize("key", ["default-scheduler-host", "default_scheduler_url", "scheduler_host"])
def test_a_configured_central_scheduler_is_used(tmp_path, monkeypatch, key):
    (tmp_path / "luigi.cfg").write_text(f"[core]\n{key} = somewhere\n")
    assert "local_scheduler" not in prepared(tmp_path, monkeypatch)["config"]["core"]


def test_a_central_scheduler_on_the_command_line_is_used_and_gpus_are_a_resource(tmp_path, monkeypatch):
    found = prepared(tmp_path, monkeypatch, "--scheduler-host", "somewhere", gpus="0,1")
    assert "local_scheduler" not in found["config"]["core"]
    assert list(found["config"]["resources"].values()) == ["2"]


def test_a_second_call_changes_nothing(tmp_path, monkeypatch):
    once, twice = run(
        "from pipeline.luigi_setup import install\n"
        "install(); once = state()\n"
        "install(); print(json.dumps([once, state()]))\n",
        tmp_path,
    )  # fmt: skip
    assert once == twice
    assert once["worker"] == "PatientWorker"


def test_a_program_that_calls_it_can_start_a_build_by_itself(finished):
    code = (
        "import luigi, pipeline\n"
        "from pipeline.luigi_setup import install\n"
        "install()\n"
        "print('success:', luigi.build([pipeline.BuildFeatures()]))\n"
    )
    result = finish(forked("-c", code, cwd=finished.root))
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.strip().startswith("BuildFeatures: computed nothing; ")
    assert result.stdout.endswith("success: True\n")
