"""The report in a real browser: as narrow as a phone, dark and light."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from reports import audit_result, build, corpus, features, ledger, manifest

from data.labels import EMOTIONS
from pipeline.report.page import BuildReport, LedgerSummary, render_report

pytestmark = pytest.mark.browser

FRAME = """<!DOCTYPE html><body><script>
const frame = document.createElement("iframe");
frame.style = "border:0;height:800px;width:WIDTHpx";
frame.onload = () => {
  const page = frame.contentDocument;
  page.querySelectorAll("details").forEach((details) => { details.open = true; });
  const style = frame.contentWindow.getComputedStyle(page.body);
  const overflowing = [...page.querySelectorAll("section *")].filter((element) => !element.closest(".scroll, pre, svg")
    && element.getBoundingClientRect().right > WIDTH).map((element) => element.tagName);
  document.body.dataset.measured = JSON.stringify({
    scrollWidth: page.documentElement.scrollWidth, overflowing, background: style.backgroundColor, ink: style.color});
};
frame.srcdoc = PAGE;
document.body.append(frame);
</script>"""
"""A headless window has a least width; a frame in it does not. The page is given as text, so that the script may look inside."""


def measure(page: str, width: int, folder: Path, *flags: str) -> dict:
    """Lays the page out in a frame of that width, with everything unfolded, and measures it."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert browser, "There is no Chromium on PATH: install it, or leave out -m browser."
    wrapped = FRAME.replace("WIDTH", str(width)).replace("PAGE", json.dumps(page).replace("</", "<\\/"))
    (folder / "frame.html").write_text(wrapped, encoding="utf-8")
    quiet = ("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", *quiet, f"--user-data-dir={folder / 'profile'}", *flags]
    url = (folder / "frame.html").as_uri()
    done = subprocess.run(
        [*command, "--window-size=1400,900", "--virtual-time-budget=5000", "--dump-dom", url],
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = re.search(r'data-measured="(.*?)"', done.stdout)
    assert found, done.stderr
    return json.loads(found[1].replace("&quot;", '"'))


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


@pytest.mark.parametrize("width", [360, 390, 1200])
@pytest.mark.parametrize("report", [build, crowded])
def test_the_page_never_scrolls_sideways(report, width, tmp_path):
    found = measure(render_report(report()), width, tmp_path)
    assert found["scrollWidth"] <= width
    assert found["overflowing"] == []


def test_the_page_follows_the_colour_scheme(tmp_path):
    page = render_report(build())
    light = measure(page, 390, tmp_path, "--blink-settings=preferredColorScheme=1")
    dark = measure(page, 390, tmp_path, "--blink-settings=preferredColorScheme=0")
    assert (light["background"], light["ink"]) == ("rgb(245, 246, 248)", "rgb(26, 34, 48)")
    assert (dark["background"], dark["ink"]) == ("rgb(16, 20, 26)", "rgb(228, 233, 240)")
