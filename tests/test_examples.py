"""docs/python.md and examples/ are executed: one session on the bundled sample, in a folder of its own."""

import json
import os
import re
from pathlib import Path

import nbformat
import pytest
from command_line import call
from projects import finish, forked

from data import load_corpus
from pipeline.settings import CHECKOUT

EXAMPLES = CHECKOUT / "examples"
NOTEBOOK = EXAMPLES / "first_look.ipynb"
MOST_BYTES = 60_000


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which the blocks of docs/python.md were executed in order; what they printed is in printed.txt."""
    folder = tmp_path_factory.mktemp("python")
    (folder / "page.py").write_text("\n".join(python_blocks(CHECKOUT / "docs" / "python.md")), encoding="utf-8")
    done = finish(forked("-c", "exec(open('page.py', encoding='utf-8').read())", cwd=folder))
    assert done.returncode == 0, done.stderr
    (folder / "printed.txt").write_text(done.stdout, encoding="utf-8")
    return folder


def test_the_page_on_python_runs_and_prints_what_it_says(folder):
    printed = (folder / "printed.txt").read_text(encoding="utf-8")
    assert "Unknown setting in section [text] of luigi.cfg: 'modell'. Did you mean 'model'?" in printed
    metrics = json.loads(next(folder.glob("runs/mosi-mmolre-*/metrics.json")).read_text(encoding="utf-8"))
    assert f"{metrics['valid']['mae']} ({metrics['valid_interval']['mae'][0]}" in printed
    assert "report.html" in printed
    assert re.search(r"^mae +\d", printed, re.MULTILINE)
    first = load_corpus(folder / "cache", "mosi", split="train", modalities=["text"])[0]
    assert f"{first.id} {first.text} {first.features['text'].shape}" in printed
    assert (folder / "sweeps" / "first" / "report.html").exists()


def test_the_notebook_runs_and_shows_what_is_kept_in_it(folder, monkeypatch):
    from nbclient import NotebookClient

    assert NOTEBOOK.stat().st_size < MOST_BYTES
    kept = nbformat.read(NOTEBOOK, as_version=4)
    fresh = nbformat.read(NOTEBOOK, as_version=4)
    for name in [name for name in os.environ if name.startswith("LUIGI_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
    NotebookClient(fresh, timeout=280, resources={"metadata": {"path": str(folder)}}).execute()
    shown = [[heading(output) for output in cell.get("outputs", [])] for cell in fresh.cells]
    assert shown == [[heading(output) for output in cell.get("outputs", [])] for cell in kept.cells]
    assert ["mae" in " ".join(headings) for headings in shown].count(True) == 1


def heading(output) -> str:
    """The first line of what a cell shows, without numbers: these and the order of rows may differ between machines."""
    return re.sub(r"[0-9a-f]{12}|\d+", "#", output.data["text/plain"].splitlines()[0])


def test_the_baseline_of_ones_own_is_scored_as_the_runs_are(folder, capsys):
    out = folder / "own.csv"
    arguments = [str(EXAMPLES / "own_baseline.py"), str(folder / "cache"), "mosi", str(out)]
    code = f"import sys, runpy; sys.argv = {arguments!r}; runpy.run_path(sys.argv[0], run_name='__main__')"
    done = finish(forked("-c", code, cwd=folder))
    assert done.returncode == 0, done.stderr
    mae = re.fullmatch(r"valid MAE (\d\.\d{4})\n", done.stdout)
    assert mae
    status, scored, _ = call(capsys, "score", out, "--cache", folder / "cache", "--corpus", "mosi")
    assert status == 0
    assert f"{float(mae[1]):.3f}" in scored
