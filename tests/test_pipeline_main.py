"""`python -m pipeline explain` prints what a build would compute; a mistake is one line."""

import pytest
from projects import finish, forked, states

from pipeline.__main__ import main
from pipeline.explain import explain


def test_explain_prints_what_a_build_would_compute(built):
    built.edit("video1_1", text="Nobody cried.")
    before = states(built.cache)
    result = finish(forked("-m", "pipeline", "explain", cwd=built.root))
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == explain(built.plan())
    assert states(built.cache) == before


def test_a_mistake_in_luigi_cfg_is_one_line_and_a_failure(project):
    project.configure(build={"dtype": "float17"})
    result = finish(forked("-m", "pipeline", "explain", cwd=project.root))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == "error: Unknown [build] dtype 'float17'. Did you mean 'float16'? Available: float16, float32.\n"


@pytest.mark.parametrize("arguments", [[], ["explian"]])
def test_a_command_is_needed(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "explain" in capsys.readouterr().err
