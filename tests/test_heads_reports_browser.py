"""Pages of runs in a real browser: on a desk and on a phone, light and dark, nothing is clipped, and their tables sort and search."""

import pytest
import small_runs
from browser import measure, use
from report_runs import SHORT, make_runs

from heads.__main__ import main

pytestmark = pytest.mark.browser

WIDTHS = [390, 1280]
PAGES = ("run", "several", "comparison")


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, str]:
    """A run that routes with layers and all tasks, six runs of long names side by side, and two predictors against each other."""
    folder = tmp_path_factory.mktemp("pages")
    made = make_runs(folder)
    seeds = [str(small_runs.run(made.cache, folder / "runs", "mmolre", {**SHORT, "seed": seed}).path) for seed in (2, 3)]
    runs = {name: str(run.path) for name, run in made.runs.items()}
    commands = {
        "run": ["report", runs["mmolre"]],
        "several": ["report", runs["mmolre"], *seeds, runs["seed 1"], runs["seed 2"], runs["cogmen"]],
        "comparison": ["compare", runs["mmolre"], seeds[0]],
    }
    for name, command in commands.items():
        assert main([*command, "--media=embed", "--media-mb=0.1", f"--out={folder / name}.html"]) == 0
    return {name: (folder / f"{name}.html").read_text(encoding="utf-8") for name in PAGES}


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_clipped_and_all_text_can_be_read(pages, name, is_dark, tmp_path):
    for width, found in measure(pages[name], WIDTHS, tmp_path, is_dark).items():
        assert found["scrollWidth"] <= width
        assert {fault: found[fault] for fault in ("clipped", "outside", "cut", "faint") if found[fault]} == {}, width
        assert (found["unmarked"], found["unreachable"]) == ([], [])


CLIPS = """
const section = page.querySelector("#clips");
const cells = (place) => [...section.querySelectorAll("tbody tr")].map((row) => row.cells[place]);
const head = (name) => [...section.querySelectorAll("thead tr:last-child th")].findIndex((one) => one.textContent === name);
const place = head(ERROR);
const numbers = () => cells(place).map((cell) => Number(cell.querySelector("data").value));
const before = numbers();
section.querySelectorAll("thead tr:last-child button")[place].click();
const sorted = numbers();
const word = cells(0)[2].firstChild.data.trim();
type(section.querySelector("input[type=search]"), word);
const found = cells(0).map((cell) => cell.firstChild.data.trim());
type(section.querySelector("input[type=search]"), "");
const range = [...section.querySelectorAll(".range")].find((one) => one.getAttribute("aria-label") === ERROR);
type(range.querySelector("input"), String(before[1]));
return { before, sorted, word, found, filtered: numbers(), players: section.querySelectorAll("audio").length };
"""


@pytest.mark.parametrize(("name", "error"), [("run", "error"), ("several", "mean error"), ("comparison", "error of A − error of B")])
def test_clips_are_sorted_searched_and_filtered(pages, name, error, tmp_path):
    found = use(pages[name], CLIPS.replace("ERROR", f'"{error}"'), tmp_path)
    before = found["before"]
    assert len(before) > 5
    assert before == sorted(before, key=abs, reverse=True)
    assert found["sorted"] == sorted(before)
    assert found["found"] == [found["word"]]
    assert sorted(found["filtered"]) == [one for one in sorted(before) if one >= before[1]]
    assert found["players"] > 0
