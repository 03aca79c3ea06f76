"""The page of the history: charts, the map of regions, links, and that nothing in it can act."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixal.database.rates import Rate
from pixal.plotting.region_map import count_regions, draw_region_map
from pixal.report.history import RegionPlaces, write_history_page
from pixal.report.history_charts import HEIGHT, WIDTH, rate_chart, score_chart

RATE = Rate(
    **{"group": "lot1", "type": "front", "first": "2026-11-01T08:00:00", "last": "2026-11-01T09:00:00"},
    **{"parts": 20, "failed": 1, "errors": 1, "failure_rate": 0.05, "centre": 0.1, "lower_limit": 0.0},
    **{"upper_limit": 0.3, "scores": (0.2, 0.4, 0.5, 0.6, 0.9), "highest": 1.5, "folder": "batches/lot 1"},
)
BAD = replace(
    RATE, group="lot2", first="2026-11-02T08:00:00", failed=20, failure_rate=1.0, outside="above", drift=("Darker",)
)
EMPTY = replace(RATE, group="lot3", parts=0, failed=0, failure_rate=None, lower_limit=None, scores=(), highest=None)


@given(
    st.lists(st.tuples(*[st.integers(-5, 14)] * 2, *[st.integers(0, 12)] * 2), max_size=12),
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
)
def test_regions_are_counted_as_one_by_one(boxes: list[tuple[int, ...]], size: tuple[int, int]) -> None:
    expected = np.zeros(size, np.int64)
    for x, y, width, height in boxes:
        expected[max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)] += 1
    assert np.array_equal(count_regions(np.array(boxes, np.int64).reshape(-1, 4), size), expected)


def test_the_map_changes_only_where_regions_are_and_is_reddest_where_most_are() -> None:
    counts = np.zeros((4, 6), np.int64)
    counts[1, 1], counts[2, 4] = 1, 9
    reference = np.full((8, 12, 3), 90, np.uint8)
    image = draw_region_map(counts, reference)
    assert image.shape == reference.shape
    assert (image == reference).all(axis=2).sum() == 8 * 12 - 2 * 4
    few, most = image[2, 2].astype(int), image[4, 8].astype(int)
    assert few[0] - few[2] > 50
    assert most[0] - most[1] > few[0] - few[1]
    assert draw_region_map(counts, None).shape == (4, 6, 3)


def test_the_rates_are_drawn_to_scale() -> None:
    chart = rate_chart([RATE, BAD, EMPTY])
    assert [sample.outside for sample in chart.samples] == [False, True]
    bottom, top = chart.y_ticks[0].at, chart.y_ticks[-1].at
    assert (chart.y_ticks[0].label, chart.y_ticks[-1].label) == ("0 %", "100 %")
    assert chart.samples[0].y == pytest.approx(bottom - 0.05 * (bottom - top), abs=0.06)
    assert chart.samples[1].y == top
    assert chart.centre == pytest.approx(bottom - 0.1 * (bottom - top), abs=0.06)
    points = [tuple(map(float, point.split(","))) for point in chart.band.split()]
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in points)
    assert "20 of 20 failed, 100.0%; limits 0.0% to 30.0%; above the limits" in chart.samples[1].title
    alone = rate_chart([replace(RATE, centre=None, lower_limit=None, upper_limit=None)])
    assert (alone.band, alone.centre) == ("", None)
    assert alone.y_ticks[-1].label == "10 %"


def test_scores_are_drawn_on_a_logarithmic_axis() -> None:
    chart = score_chart([replace(RATE, scores=(0.5, 1.0, 2.0, 4.0, 8.0), highest=16.0), EMPTY])
    (sample,) = chart.samples
    places = np.array([sample.lower, sample.box[1], sample.y, sample.box[0], sample.upper, sample.highest])
    assert np.diff(places) == pytest.approx(np.full(5, np.diff(places)[0]), abs=0.11)
    assert chart.centre == sample.box[1]
    assert score_chart([EMPTY]).samples == ()


def test_many_groups_have_few_labels_and_long_names_are_cut() -> None:
    rates = [replace(RATE, group=f"a very long name of the batch {index}") for index in range(200)]
    labels = rate_chart(rates).x_ticks
    assert len(labels) == 7
    assert all("…" in tick.label and len(tick.label) == 8 for tick in labels)
    assert labels[1].label.endswith(rates[33].group[-3:])
    short = rate_chart([replace(RATE, group=f"lot{index}") for index in range(10)]).x_ticks
    assert [tick.label for tick in short] == [f"lot{index}" for index in range(10)]


@pytest.fixture
def page(tmp_path: Path) -> str:
    (tmp_path / "batches/lot 1").mkdir(parents=True)
    (tmp_path / "batches/lot 1/report.html").touch()
    strange = replace(RATE, type="<script>alert(1)</script>", folder="../elsewhere")
    places = RegionPlaces(np.array([[1, 1, 2, 2], [0, 0, 10, 8]], np.int64), (8, 10), None, 3)
    arguments: dict[str, Any] = {"component": "Part & co", "by": "batch", "selected": "type front"}
    write_history_page(
        tmp_path / "history.html", **arguments, rates=[RATE, BAD, EMPTY, strange], places={"front": places}
    )
    return (tmp_path / "history.html").read_text("utf-8")


def test_the_page_says_what_changed_and_links_to_reports_that_exist(page: str) -> None:
    assert "2026-11-02 lot2, front: 20 of 20 parts failed, above the limits of 0.0% to 30.0%; Darker" in page
    assert re.findall(r'href="(?!data:)([^"]*)"', page) == ["batches/lot%201/report.html"] * 3
    assert "1 regions, over the model input" in " ".join(page.split())
    assert "1 regions that are larger than a quarter" in page
    assert "3 regions of other models are not shown" in page


def test_nothing_in_the_page_can_act_or_ask_the_network(page: str) -> None:
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "Part &amp; co" in page
    assert "default-src 'none'; img-src data:; style-src 'sha256-" in page
    assert not re.findall(r"""(?:src|href)=["'](?:https?:)?//""", page)
    assert " on" not in {match[:3] for match in re.findall(r" on\w+=", page)}
