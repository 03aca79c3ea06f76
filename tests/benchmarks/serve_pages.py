"""Measure how fast ``pixal serve`` shows a large batch in Chromium; write the section ``serve`` of docs/benchmarks.md.

The batch has parts without a model (see ``tests/served.py``), with images of the report as ``validate`` writes them.

    python tests/benchmarks/serve_pages.py [--parts 5000]
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from page import ROOT, write_section

sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "integration")]

from browsers import launch, sync_api  # noqa: E402  # from the folder added above
from served import command, free_port, write_results, write_settings  # noqa: E402

_STEPS = 60
_WATCH = """() => {
  const stage = document.querySelector(".stage");
  let pressed = 0;
  window.times = [];
  document.addEventListener("keydown", () => { pressed = performance.now(); }, true);
  new MutationObserver(() => {
    if (!pressed || stage.matches(".loading")) return;
    const start = pressed;
    pressed = 0;
    requestAnimationFrame(() => requestAnimationFrame(() => window.times.push(performance.now() - start)));
  }).observe(stage, { attributes: true, attributeFilter: ["class"] });
}"""


def main() -> None:
    """Measure, and write the section."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", type=int, default=5000)
    parts = parser.parse_args().parts
    with tempfile.TemporaryDirectory() as folder:
        work, port = Path(folder, "work"), free_port()
        write_results(write_settings(work), parts, scale=3)
        with command(work, port), sync_api.sync_playwright() as playwright:
            browser = launch(playwright)
            rows = _measure(browser.new_page(viewport={"width": 1440, "height": 900}), f"http://127.0.0.1:{port}")
            browser.close()
    lines = ["| what | median ms | 95 % below ms |", "|---|---:|---:|"]
    lines += [f"| {name} | {statistics.median(times):.0f} | {_high(times):.0f} |" for name, times in rows]
    load = f"Processes that wanted a processor in the last minute: {os.getloadavg()[0]:.0f}."
    write_section("serve", lines, f"{parts} parts with photographs of 1920x1080 pixels. {load}")


def _measure(page: Any, address: str) -> list[tuple[str, list[float]]]:
    batch = f"{address}/c/Part/b/lot1"
    first = _first_paint(page, batch)
    rows = [
        ("first paint of the list, the first time", [first]),
        ("first paint of the list", [_first_paint(page, f"{batch}?page_number={number}") for number in range(2, 12)]),
        ("first paint of a part", [_first_paint(page, f"{batch}/part") for _ in range(10)]),
    ]
    page.wait_for_selector(".stage:not(.loading)")
    page.evaluate(_WATCH)
    for name, key in (("next part, from the key to the picture", "j"), ("the same after confirm", "c")):
        page.evaluate("window.times = []")
        for _ in range(_STEPS):
            page.keyboard.press(key)
            page.wait_for_timeout(200)
        rows.append((name, page.evaluate("window.times")))
    return rows


def _first_paint(page: Any, address: str) -> float:
    page.goto(address)
    page.wait_for_timeout(500)
    return float(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))


def _high(times: list[float]) -> float:
    return sorted(times)[min(len(times) - 1, int(0.95 * len(times)))]


if __name__ == "__main__":
    main()
