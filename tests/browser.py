"""Pages in a headless Chromium: laid out in frames of a given width, with everything unfolded, and measured."""

import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("browser.js")
QUIET = ("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic")


def measure(page: str, widths: list[int], folder: Path, is_dark: bool = False) -> dict[int, dict[str, Any]]:
    """Lays a page out in one frame for each width and measures it (`browser.js` says what).

    A headless window has a least width; a frame in it does not. The page is given as text, so that the script may look inside.
    """
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert browser, "There is no Chromium on PATH: install it, or leave out -m browser."
    given = json.dumps({"page": page, "widths": widths}).replace("</", "<\\/")
    script = SCRIPT.read_text(encoding="utf-8")
    (folder / "frame.html").write_text(f"<!DOCTYPE html><body><script>const given = {given};\n{script}</script>", encoding="utf-8")
    scheme = f"--blink-settings=preferredColorScheme={0 if is_dark else 1}"
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", *QUIET, f"--user-data-dir={folder / 'profile'}", scheme]
    done = subprocess.run(
        [*command, "--window-size=1400,900", "--virtual-time-budget=10000", "--dump-dom", (folder / "frame.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=240,
    )
    found = re.search(r'data-measured="(.*?)"', done.stdout)
    assert found, done.stderr
    return {int(width): values for width, values in json.loads(html.unescape(found[1])).items()}
