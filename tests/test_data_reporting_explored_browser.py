"""Tables that are explored and tooltips of charts, used in a real browser as a reader uses them."""

import numpy as np
import pytest
from browser import measure, use

from data.media import SAMPLE_RATE_HZ, decode
from data.reporting import page
from data.reporting.audio import EMBED, LINK, Clip, players
from data.reporting.charts import histogram, histogram_svg
from data.reporting.page import Section
from data.reporting.tables import Cell, Chip, Column, Table
from pipeline.settings import SAMPLE

pytestmark = pytest.mark.browser

COLUMN = """
const column = (place) => [...page.querySelectorAll("tbody tr")].map((row) => [...row.cells][place].innerText.trim());
const head = (place) => page.querySelectorAll("thead tr:last-child th")[place];
const count = () => page.querySelector("output").value;
const search = page.querySelector("input[type=search]");
"""


def rendered(table: Table, *more) -> str:
    sections = [Section("one", "One", page.table(table)), *(Section(f"n{place}", "More", one) for place, one in enumerate(more))]
    return page.render_page("kind", "title", [], sections, ["note"], warning="First", maker="me")


def clips(count: int) -> Table:
    """Row n has error −n/2 (none for every 4th), written with two digits, and the emotions that divide n."""
    columns = [
        Column("clip", "words"),
        Column("text", "long"),
        Column("error", over="ours", filter="range"),
        Column("exact", over="ours"),
        Column("emotions", "words", filter="choice"),
        Column("donor", "words", is_hidden=True),
    ]
    rows = []
    for n in range(count):
        chips = tuple(Chip(name, "0.5") for name, every in (("joy", 2), ("fear", 3)) if n % every == 0)
        error = Cell("–", float("nan")) if n % 4 == 0 else Cell(f"−{n / 2:,.1f}", -n / 2)
        exact = Cell("same", 1000 - n)
        cells = [f"clip {n}", f"Ünï {n} مرحبا </script>", error, exact, Cell("x", chips=chips) if chips else "", f"donor {n}"]
        rows.append([Cell(cells[0], audio=f"{n}.wav"), *cells[1:]])
    return Table.of(columns, rows, "Clips", explored=True)


@pytest.fixture(scope="module")
def many() -> str:
    return rendered(clips(5000))


def test_a_click_sorts_upwards_then_downwards_then_not_and_missing_numbers_are_last(tmp_path):
    found = use(
        rendered(clips(9)),
        COLUMN
        + """
        const seen = [[column(2), head(2).ariaSort]];
        for (const place of [2, 2, 2, 3, 0, 0]) {
          head(place).querySelector("button").click();
          seen.push([column(place === 3 || place === 0 ? 0 : 2), head(place).ariaSort]);
        }
        return seen;""",
        tmp_path,
    )
    numbers = ["−0.5", "−1.0", "−1.5", "−2.5", "−3.0", "−3.5"]
    as_written = ["–", "−0.5", "−1.0", "−1.5", "–", "−2.5", "−3.0", "−3.5", "–"]
    names = [f"clip {number}" for number in range(9)]
    assert found == [
        [as_written, "none"],
        [[*numbers[::-1], "–", "–", "–"], "ascending"],
        [[*numbers, "–", "–", "–"], "descending"],
        [as_written, "none"],
        [names[::-1], "ascending"],  # by the numbers behind equal texts
        [names, "ascending"],
        [names[::-1], "descending"],
    ]


def test_search_and_filters_are_joined_and_the_count_is_shown(many, tmp_path):
    found = use(
        many,
        COLUMN
        + """
        const seen = [];
        const see = () => seen.push([count(), column(0).slice(0, 3)]);
        const [least, greatest] = page.querySelectorAll("input[type=number]");
        const choice = page.querySelector("select");
        see();
        type(search, "ÜNÏ 49 </SCRIPT"); see();
        type(search, "audio"); see();
        type(search, ""); type(least, "-3"); see();
        type(greatest, "-1"); see();
        type(choice, [...choice.options].find((option) => option.text.startsWith("fear")).value); see();
        [...page.querySelectorAll(".tools button")].find((one) => one.textContent === "Clear").click(); see();
        return [seen, [...choice.options].map((option) => option.text), search.value + least.value];""",
        tmp_path,
    )
    seen, options, left = found
    with_49 = sum("49" in f"{n} {n / 2 if n % 4 else ''}" for n in range(5000))  # in the clip's name or in its error
    assert [line[0] for line in seen] == [f"{n} of 5,000 rows" for n in ("5,000", with_49, 0, 5, 4, 2, "5,000")]
    assert [line[1] for line in seen[3:6]] == [
        ["clip 1", "clip 2", "clip 3"],
        ["clip 2", "clip 3", "clip 5"],
        ["clip 3", "clip 6"],
    ]
    assert options == ["all", "– (1,667)", "fear (1,667)", "joy (2,500)"]
    assert left == ""


def test_rows_are_shown_page_by_page_and_all_of_them_are_printed(many, tmp_path):
    found = use(
        many,
        COLUMN
        + """
        const seen = [];
        const pager = page.querySelector(".pager");
        const see = () => seen.push([column(0).length, column(0)[0], page.querySelectorAll("audio").length, pager.innerText]);
        see();
        pager.querySelectorAll("button")[1].click(); see();
        type(search, "Ünï 4999"); see();
        type(search, "");
        window.dispatchEvent(new window.Event("beforeprint"));
        const printed = column(0).length;
        window.dispatchEvent(new window.Event("afterprint")); see();
        return [seen, printed];""",
        tmp_path,
    )
    seen, printed = found
    assert [line[:3] for line in seen] == [[50, "clip 0", 50], [50, "clip 50", 50], [1, "clip 4999", 1], [50, "clip 0", 50]]
    assert "51 to 100 of 5,000" in seen[1][3]
    assert printed == 5000


def test_columns_can_be_hidden_and_shared_headings_follow(tmp_path):
    found = use(
        rendered(clips(4)),
        """
        const there = (selector) => [...page.querySelectorAll(selector)].filter((one) => !one.hidden);
        const shown = () => there("thead th").map((one) => `${one.innerText.trim()} ${one.colSpan}`);
        const cells = () => there("tbody tr:first-child > *").length;
        const seen = [[shown(), cells()]];
        const boxes = [...page.querySelectorAll(".fold label")];
        for (const name of ["donor", "error", "exact"]) {
          boxes.find((label) => label.textContent === name && label.querySelector("[type=checkbox]")).querySelector("input").click();
          seen.push([shown(), cells()]);
        }
        return seen;""",
        tmp_path,
    )
    assert [line[1] for line in found] == [5, 6, 5, 4]
    assert found[0][0] == ["ours 2", "clip 1", "text 1", "error 1", "exact 1", "emotions 1"]
    assert found[2][0] == ["ours 1", "clip 1", "text 1", "exact 1", "emotions 1", "donor 1"]
    assert found[3][0] == ["clip 1", "text 1", "emotions 1", "donor 1"]


def test_marks_of_charts_have_tooltips_for_mouse_and_keyboard(tmp_path):
    chart = page.figure(histogram_svg(histogram({"clips": np.array([1.0, 1.0, 5.0])}, width=1.0, whole=True), "A chart", "words"))
    found = use(
        rendered(clips(1), chart),
        """
        const chart = page.querySelector("svg");
        const tip = page.querySelector(".tip");
        const seen = [];
        const see = () => seen.push(tip.hidden ? null : tip.textContent);
        chart.querySelectorAll("[data-tip] path")[1].dispatchEvent(new window.PointerEvent("pointerover", { bubbles: true })); see();
        chart.dispatchEvent(new window.PointerEvent("pointerleave")); see();
        for (const key of ["End", "ArrowLeft", "ArrowLeft", "Escape"]) { press(chart, key); see(); }
        return [seen, chart.tabIndex, page.querySelectorAll("svg title").length];""",
        tmp_path,
    )
    first, last = "clips: 2 (66.7%) at 1 words", "clips: 1 (33.3%) at 5 words"
    assert found == [[last, None, last, first, first, None], 0, 0]


NASTY = [
    "</script><script>document.title = 'broken'</script>",
    "<!-- ]]> -->",
    "&lt;b&gt; &amp;amp; 'x' \"y\"",
    "\x00\x07\x1b[31m red \x7f",
    "\u202egnorw\u202c שלום مرحبا",
    "a\ud800b\uffff",
    "{{ 7 * 7 }} {% raw %} ${x} `y`",
    "z\u0351\u0300 \U0001f469\u200d\U0001f469\u200d\U0001f467",
]


def test_any_text_is_shown_as_itself_and_found_by_the_search(tmp_path):
    """Control characters are shown as their pictures, which is what a reader can copy and search."""
    columns = [Column("n", "words"), Column("text", "long"), Column("kind", "words", filter="choice")]
    rows = [[str(number), text, Cell(text, chips=(Chip(text),))] for number, text in enumerate(NASTY)]
    found = use(
        rendered(Table.of(columns, rows, NASTY[0], explored=True)),
        COLUMN
        + """
        const texts = column(1);
        const counts = texts.map((text) => { type(search, text); return count(); });
        type(search, "");
        const chips = [...page.querySelectorAll("tbody tr")].map((row) => row.cells[2].firstChild.dataset.name);
        return [texts, counts, page.title, page.querySelector("select").options.length, chips];""",
        tmp_path,
    )
    texts, counts, title, options, chips = found
    expected = [*NASTY[:3], "␀␇␛[31m red ␡", NASTY[4], "a\ufffdb\ufffd", *NASTY[6:]]
    assert (texts, chips) == (expected, expected)
    assert counts == [f"1 of {len(NASTY)} rows"] * len(NASTY)
    assert (title, options) == ("title", len(NASTY) + 1)


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
def test_nothing_is_clipped_in_a_table_with_all_tools(is_dark, tmp_path):
    for width, found in measure(rendered(clips(120)), [360, 390, 1280], tmp_path, is_dark).items():
        assert found["scrollWidth"] <= width
        assert {
            fault: found[fault] for fault in ("clipped", "outside", "cut", "faint", "unmarked", "unreachable") if found[fault]
        } == {}, width


def test_players_load_linked_and_embedded_sounds_under_the_policy_of_the_page(tmp_path):
    """Without the policy's `media-src`, or with a wrong address, a player has an error instead of a length."""
    media = SAMPLE / "mosi" / "Raw" / "-pR7wYc2NdE" / "1.mp4"
    clip = {"clip": Clip(media, 0.5, 1.5)}
    linked, embedded = (players(clip, source, tmp_path).addresses["clip"] for source in (LINK, EMBED))
    rows = [[name, Cell("x", audio=address)] for name, address in (("link", linked), ("embed", embedded), ("gone", "gone.wav"))]
    found = use(
        rendered(Table.of([Column("n", "words"), Column("text", "long")], rows, "Players", explored=True)),
        """
        return Promise.all([...page.querySelectorAll("audio")].map((player) => new Promise((done) => {
          player.addEventListener("loadedmetadata", () => done(player.duration));
          player.addEventListener("error", () => done("error"));
          player.preload = "auto";
          player.load();
        })));""",
        tmp_path,
    )
    assert found == [pytest.approx(len(decode(media)) / SAMPLE_RATE_HZ, abs=0.1), pytest.approx(1.0, abs=0.02), "error"]
