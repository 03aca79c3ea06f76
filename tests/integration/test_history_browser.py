"""The page of the history in Chromium: readable at all widths, and without faults that axe finds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsers import axe_violations, launch, needs_chromium, sync_api

from pixal.database.rates import Rate
from pixal.report.history import RegionPlaces, write_history_page

pytestmark = [needs_chromium, pytest.mark.slow]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The page of 30 batches of two types, one of which is outside its limits, opened at 1440 pixels."""
    rate = Rate(
        **{"group": "", "type": "front", "first": "2026-11-01T08:00:00", "last": "2026-11-01T09:00:00"},
        **{"parts": 20, "failed": 1, "errors": 1, "failure_rate": 0.05, "centre": 0.1, "lower_limit": 0.0},
        **{"upper_limit": 0.3, "scores": (0.2, 0.4, 0.5, 0.6, 0.9), "highest": 1.5},
    )
    rates = [
        replace(rate, group=f"MY_COMPONENT_2026-11-{day:02d}T08-00", type=name, failed=day, failure_rate=day / 30)
        for name in ("back", "front")
        for day in range(1, 31)
    ]
    rates[-1] = replace(rates[-1], outside="above", drift=("Light: 20% darker (mean level 82 of 255)",))
    places = RegionPlaces(np.array([[10, 10, 20, 20]], np.int64), (80, 200), None, 0)
    path = tmp_path_factory.mktemp("page") / "history.html"
    write_history_page(path, component="Part", by="batch", selected="", rates=rates, places={"front": places})
    with sync_api.sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        problems: list[str] = []
        page.on("console", lambda message: problems.append(message.text))
        page.goto(Path(path).as_uri())
        assert problems == []
        yield page
        browser.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(page: Any, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    assert axe_violations(page) == []


@pytest.mark.parametrize("width", [390, 1024, 1440])
def test_nothing_is_wider_than_the_page_and_labels_do_not_overlap(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = page.evaluate(
        """() => [...document.querySelectorAll("svg")].map((svg) =>
            [...svg.querySelectorAll("text[text-anchor=middle]")].filter((text) => text.getClientRects().length)
            .map((text) => text.getBoundingClientRect()).map((box) => [box.left, box.right]))"""
    )
    assert len(boxes) == 4
    for labels in boxes:
        assert all(left[1] < right[0] for left, right in pairwise(labels))
    sizes = page.evaluate('[...document.querySelectorAll("svg text")].map((t) => t.getBoundingClientRect().height)')
    assert min(size for size in sizes if size) > 9
