"""Every page of the program in a real browser: on a desk and on a phone, light and dark, nothing is clipped or hard to read."""

import re

import pytest
import small_sweeps
from browser import measure, use
from reports import audit_result, build, corpus, features, ledger, manifest
from table_parts import part

from data.labels import EMOTIONS
from heads.sweeps.results.report import write_report
from heads.tables.report import write
from pipeline.report.page import BuildReport, LedgerSummary, render_report

pytestmark = pytest.mark.browser

WIDTHS = [360, 390, 1280]


def crowded() -> BuildReport:
    """Ids, paths and sentences without a blank, as long as they get, in every place that shows them."""
    long = "-3g5yACwYnA_" * 12
    mosi = manifest("mosi", 60, sentiment=1.0, excluded=["", *[f"cannot be decoded: {long}"] * 4, *[""] * 55], label_source=long)
    mosi["utterance_id"] = [f"{long}{number}" for number in range(60)]
    mosei = manifest("mosei", 60, text=long, **dict.fromkeys(EMOTIONS, 1.0))
    ids = list(mosi["utterance_id"])
    return build(
        title=f"Features of {long}",
        corpora=[corpus(mosi, ("missing", long, long)), corpus(mosei)],
        features=[features("mosi", m, [5] * 60, encoder=long, path=long, trained=False, truncated=ids) for m in ("text", "audio")],
        ledgers=[LedgerSummary("mosi", ledger(mosi, mosei, tied=2), long, {"mosei": audit_result()})],
        settings={"cache": long, long: "x"},
        computed=ids,
        cache_dir=long,
    )


PAGES = ("build report", "crowded build report", "sweep report", "table1", "table2", "fig2")


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("pages")
    sweep = write_report(small_sweeps.make_sweep(folder))
    write(folder, [part("table1", "mosi"), part("table1", "mosei"), part("table2", "mosei"), part("fig2", "mosei")], ["A note."])
    made = {name: (folder / f"{name}.html").read_text(encoding="utf-8") for name in ("table1", "table2", "fig2")}
    made |= {"build report": render_report(build()), "crowded build report": render_report(crowded())}
    return made | {"sweep report": sweep.read_text(encoding="utf-8")}


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_clipped_and_all_text_can_be_read(pages, name, is_dark, tmp_path):
    """The contrast is that of WCAG AA for text, 4.5 to 1."""
    for width, found in measure(pages[name], WIDTHS, tmp_path, is_dark).items():
        assert found["scrollWidth"] <= width
        assert {fault: found[fault] for fault in ("clipped", "outside", "cut", "faint") if found[fault]} == {}, width
        assert found["texts"] > 100


@pytest.mark.parametrize("name", PAGES)
def test_boxes_that_scroll_show_it_and_can_be_reached_by_keyboard(pages, name, tmp_path):
    (found,) = measure(pages[name], [390], tmp_path).values()
    assert found["scrolling"] > 0
    assert (found["unmarked"], found["unreachable"]) == ([], [])


def test_examples_of_the_build_report_are_filtered_and_sections_are_marked_while_they_are_read(pages, tmp_path):
    found = use(
        pages["build report"],
        """
        const box = page.querySelector("[aria-label='mosi: examples']");
        const clips = () => [...box.querySelectorAll("tbody tr")].map((row) => row.cells[0].innerText);
        const fold = box.previousElementSibling.previousElementSibling;
        const choice = fold.querySelector("select");
        const seen = [clips().length, [...choice.options].map((option) => option.text)];
        type(choice, 2);
        seen.push(clips());
        type(choice, 0);
        const similarity = box.querySelectorAll("thead button")[3];
        similarity.click(); similarity.click();
        seen.push(clips().slice(0, 2));
        page.documentElement.style.scrollBehavior = "auto";
        page.querySelector("#features").scrollIntoView();
        window.dispatchEvent(new window.Event("scroll"));
        const [nav, features] = ["nav", "#features"].map((name) => page.querySelector(name).getBoundingClientRect());
        seen.push(page.querySelector("nav [aria-current]").hash, nav.top, nav.bottom <= features.top);
        return seen;""",
        tmp_path,
    )
    options = sorted([*(f"{name} (1)" for name in EMOTIONS), "no emotion (6)"])
    assert found[:2] == [12, ["all", *options]]
    assert len(found[2]) == 1
    assert found[3:] == [["mosi-11", "mosi-10"], "#features", 0, True]


def test_rows_of_the_sweep_report_are_sorted_searched_and_shown_by_head(pages, tmp_path):
    found = use(
        pages["sweep report"],
        """
        const box = page.querySelector("[aria-label='Configurations']");
        const column = (place) => [...box.querySelectorAll("tbody tr")].map((row) => row.cells[place].innerText);
        const heads = [...box.querySelectorAll("thead button")].map((one) => one.innerText);
        const metric = heads.findIndex((name) => name.startsWith("mae"));
        const before = column(metric);
        const sort = box.querySelectorAll("thead button")[metric];
        sort.click(); const up = column(metric);
        sort.click(); const down = column(metric);
        const tip = page.querySelector(".tip");
        const tips = [...page.querySelectorAll("svg")].filter((chart) => chart.tabIndex === 0).map((chart) => {
          press(chart, "Home");
          return tip.textContent;
        });
        return [before, up, down, tips];""",
        tmp_path,
    )
    before, up, down, tips = found
    assert before == up  # the best first, and a smaller error is better
    assert down == up[::-1]
    assert len(set(up)) > 2
    assert len(tips) == 7  # three effects, coordinates, two costs, curves
    assert all(tip.startswith("#") for tip in tips)
    assert re.fullmatch(r"#\d, seed \d: head pre-fusion, mae \d\.\d{4}", tips[0])
    assert re.fullmatch(r"#\d pre-fusion, task \w+, lr [\d.]+: mae \d\.\d{4}, [\d,]+ parameters", tips[4])


def test_pages_and_their_charts_follow_the_colour_scheme(pages, tmp_path):
    light, dark = (measure(pages["build report"], [390], tmp_path, is_dark)[390] for is_dark in (False, True))
    assert (light["background"], light["ink"], light["series"]) == ("rgb(245, 246, 248)", "rgb(26, 34, 48)", "rgb(47, 109, 181)")
    assert (dark["background"], dark["ink"], dark["series"]) == ("rgb(16, 20, 26)", "rgb(228, 233, 240)", "rgb(106, 165, 234)")
