"""Pages in a headless Chromium: laid out in frames of a given width and measured with everything unfolded, or used as a reader does."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

MEASURE = Path(__file__).with_name("browser.js")
USE = """
const frame = document.createElement("iframe");
frame.style = `border:0;height:800px;width:${given.width}px`;
frame.onload = async () => {
  const page = frame.contentDocument;
  const window = frame.contentWindow;
  const type = (input, text) => {
    input.value = text;
    input.dispatchEvent(new window.Event(input.tagName === "SELECT" ? "change" : "input"));
  };
  const press = (element, key) => element.dispatchEvent(new window.KeyboardEvent("keydown", { key, bubbles: true }));
  try {
    document.body.dataset.found = JSON.stringify(await (() => { USED })());
  } catch (error) {
    document.body.dataset.found = JSON.stringify({ error: error.stack });
  }
};
frame.srcdoc = given.page;
document.body.append(frame);
"""
QUIET = ("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic")


def measure(page: str, widths: list[int], folder: Path, is_dark: bool = False) -> dict[int, dict[str, Any]]:
    """Lays a page out in one frame for each width and measures it (`browser.js` says what).

    A headless window has a least width; a frame in it does not. The page is given as text, so that the script may look inside.
    """
    found = _run(MEASURE.read_text(encoding="utf-8"), {"page": page, "widths": widths}, folder, is_dark)
    return {int(width): values for width, values in found.items()}


def use(page: str, script: str, folder: Path, width: int = 1280) -> Any:
    """Uses a page in a frame.

    Args:
        page: The page's text.
        script: Body of a function that returns what JSON can hold, or a promise of it. It has `page` (the document), `window`,
            `type(input, text)`, which types or chooses, and `press(element, key)`.
        folder: Folder for the frame and the browser's profile.
        width: Width of the frame in CSS pixels.
    """
    found = _run(USE.replace("USED", script), {"page": page, "width": width}, folder, is_dark=False)
    assert not isinstance(found, dict) or "error" not in found, found["error"]
    return found


def _run(script: str, given: dict[str, Any], folder: Path, is_dark: bool) -> Any:
    """Runs a script beside a page; it leaves what it found as JSON in an attribute of the body."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert browser, "There is no Chromium on PATH: install it, or leave out -m browser."
    content = json.dumps(given).replace("</", "<\\/").replace("<!--", "<\\!--")
    (folder / "frame.html").write_text(
        f"<!DOCTYPE html><meta charset=utf-8><body><script>const given = {content};\n{script}</script>", encoding="utf-8"
    )
    scheme = f"--blink-settings=preferredColorScheme={0 if is_dark else 1}"
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", *QUIET, f"--user-data-dir={folder / 'profile'}", scheme]
    done = subprocess.run(
        [*command, "--window-size=1400,900", "--virtual-time-budget=10000", "--dump-dom", (folder / "frame.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=240,
    )
    found = re.search(r'data-found="(.*?)"', done.stdout)
    assert found, done.stdout[-2000:] + done.stderr
    return json.loads(html.unescape(found[1]))
