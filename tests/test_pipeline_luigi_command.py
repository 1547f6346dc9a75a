"""The command `luigi` of this environment names a mistake in luigi.cfg in one line, and is Luigi's own otherwise."""

from subprocess import CompletedProcess

import pytest
from projects import Project, finish, forked

from pipeline.luigi_command import main

CODE = "import sys; from pipeline.luigi_command import main; sys.argv[0] = 'luigi'; sys.exit(main())"


def luigi(project: Project, *arguments: str) -> CompletedProcess[str]:
    return finish(forked("-c", CODE, *arguments, cwd=project.root))


def test_it_builds(finished):
    result = luigi(finished, "--module", "pipeline", "BuildFeatures")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.strip().startswith("BuildFeatures: computed nothing; ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[build]\ndevice\n", "error: luigi.cfg, line 2, section [build]: 'device' is neither a [section] nor 'key = value'."),
        (
            "[build]\ncache = /data/7%\n",
            "error: luigi.cfg, section [build]: cache is '/data/7%': '%' has a meaning there: write %% for a percent sign.",
        ),
        ("[retcode]\ntask_failed = often\n", "error: luigi.cfg, section [retcode]: task_failed is 'often': invalid literal for int()"),
    ],
)
def test_a_mistake_in_luigi_cfg_is_one_line_and_a_failure(tmp_path, text, message):
    (tmp_path / "luigi.cfg").write_text(text, encoding="utf-8")
    result = finish(forked("-c", CODE, "--module", "pipeline", "BuildFeatures", cwd=tmp_path))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1


def test_a_module_that_is_not_there_names_the_nearest(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["luigi", "--module", "pipelin", "BuildFeatures"])
    assert main() == 1
    assert capsys.readouterr().err == "error: --module is 'pipelin', but there is no such module. Did you mean 'pipeline'?\n"


def test_a_task_without_its_module_is_one_line(tmp_path):
    result = finish(forked("-c", CODE, "BuildFeatures", cwd=tmp_path))
    message = "error: No task BuildFeatures. Those of this program are in a module: luigi --module pipeline …\n"
    assert (result.returncode, result.stdout, result.stderr) == (1, "", message)


def test_tasks_of_others_run_as_with_luigi_itself(tmp_path):
    (tmp_path / "mine.py").write_text("import luigi\nclass Mine(luigi.Task):\n    def complete(self):\n        return True\n")
    result = finish(forked("-c", CODE, "--module", "mine", "Mine", "--local-scheduler", cwd=tmp_path))
    assert result.returncode == 0, result.stderr
    assert "Scheduled 1 tasks" in result.stderr
