"""What the browser tests share: Chromium, its options, and the check of a page by axe."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="the Python package playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

_OPTIONS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
_OPTIONS += " --disable-component-update --disable-sync"


def launch(playwright: Any) -> Any:
    """Start the installed Chromium, which sends nothing of its own."""
    return playwright.chromium.launch(executable_path=CHROMIUM, args=_OPTIONS.split())


def axe_violations(page: Any) -> list[str]:
    """The rule and the element of each fault that axe finds on a page. Skips the test where axe is not installed."""
    spec = find_spec("axe_playwright_python")
    if spec is None or spec.origin is None:
        pytest.skip("the Python package axe-playwright-python is not installed")
    script = (Path(spec.origin).parent / "axe.min.js").read_text(encoding="utf-8")
    page.evaluate(script)  # not add_script_tag, which the page's content security policy forbids
    found = page.evaluate("axe.run()")["violations"]
    return [f"{rule['id']}: {node['html'][:160]}" for rule in found for node in rule["nodes"]]
