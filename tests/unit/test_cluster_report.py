"""The page of charge clusters: what it says, that it needs nothing else, and that no other code can run in it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_cluster_measures import planted

from pixal.io.images import write_figure
from pixal.report.page import csp_hash
from pixal.tasks.charge_clusters.drawing import Displayed, draw, write_page
from pixal.tasks.charge_clusters.measures import figures
from pixal.tasks.charge_clusters.measures.report import ClusterReport, ReportEvent, ReportFigure, write_report
from pixal.tasks.charge_clusters.measures.summary import TARGETS, Binning, equal_bins, measure
from pixal.tasks.charge_clusters.prediction import Predictions
from pixal.tasks.charge_clusters.reading import Events


def report_of(folder: Path, **changed: Any) -> ClusterReport:
    """A report of planted events, two of which can be opened."""
    truth, mean, covariance = planted(400)
    bins = [Binning("cotAlpha", truth[:, 2], equal_bins(truth[:, 2], 3))]
    centroid = {"centroid": mean[:, :2] * 0.98, "centroid_eta": (truth + mean)[:, :2] / 2}
    metrics: dict[str, Any] = {"events": 400, "unusual": 1, "network": measure(truth, mean, covariance, binnings=bins)}
    for name, values in centroid.items():
        metrics[name] = measure(truth[:, :2], values, binnings=bins, targets=TARGETS[:2])
    charge = np.random.default_rng(0).integers(0, 4000, (13, 21, 2))
    write_figure(folder / "event.png", figures.event_display(charge, title="", truth=truth[0], predicted=mean[0]))
    events = [
        ReportEvent(
            f"part.0.parquet, row {row} <b>", folder / "event.png", truth[row], mean[row], [9, 2, 0.4, 0.03], p, p < 0.1
        )
        for row, p in ((3, 0.5), (8, 0.0005))
    ]
    content: dict[str, Any] = {
        "figures": [ReportFigure(folder / "event.png", "Charge of an event.")],
        "events": events,
        "bound": {"x": 3.21, "bins": {"cotAlpha": [{"x": 2.71}, {"x": 1.61}, {}]}},
        "notes": ["Row 5 of part.1.parquet has no charge."],
        "about": {"model": "mdn", "weights": 2029},
    }
    metrics["bound"] = content["bound"]  # as in metrics.json
    return ClusterReport("Sensor", "2026-01-02T03:04:05Z", metrics, **(content | changed))


@pytest.fixture
def page(tmp_path: Path) -> str:
    write_report(tmp_path / "report.html", report_of(tmp_path))
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_page_states_the_measures(page: str, tmp_path: Path) -> None:
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    network = report_of(tmp_path).metrics["network"]["targets"]
    for name in TARGETS:
        width = network[name]["residual_width"]
        assert f"{width['value']:.3g} ({width['low']:.3g} to {width['high']:.3g})" in text
        assert f"{network[name]['coverage_68']['value']:.3g}" in text
    for expected in (
        "Sensor",
        "2 January 2026",
        "400 events",
        "centroid with eta correction",
        "3.21",
        "2029",
        "no charge",
    ):
        assert expected in text
    assert "By true cot α" in text
    assert [text.count(f"bound {value}") for value in ("2.7", "1.6")] == [1, 1], "one in each bin that has one"
    assert 'class="worse"' in page, "the network is worse than the better centroid by more than 5 %"


def test_the_page_needs_no_other_file(page: str) -> None:
    for address in re.findall(r'(?:src|href)="([^"]*)"', page):
        assert address.startswith("data:") or not address, address
    assert page.count("data:image/png;base64,") == 3


def test_the_policy_permits_the_scripts_of_the_page_alone(page: str) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    script, style = re.search(r"<script>(.*?)</script>", page, re.S), re.search(r"<style>(.*?)</style>", page, re.S)
    assert policy
    assert script
    assert style
    assert f"script-src '{csp_hash(script[1])}'" in policy[1]
    assert f"style-src '{csp_hash(style[1])}'" in policy[1]
    assert "default-src 'none'" in policy[1]
    assert "style=" not in page
    assert "<b>" not in page, "names are escaped"


def test_the_page_is_well_formed(page: str) -> None:
    class Checker(HTMLParser):
        void = frozenset({"meta", "link", "img", "br", "input"})

        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []

        def handle_starttag(self, tag: str, attrs: Any) -> None:
            if tag not in self.void:
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    checker = Checker()
    checker.feed(page)
    assert checker.open == []


def test_a_page_without_events_figures_and_centroids(tmp_path: Path) -> None:
    report = report_of(tmp_path, figures=(), events=(), bound={}, notes=(), about={})
    metrics = {key: value for key, value in report.metrics.items() if not key.startswith("centroid")}
    write_report(tmp_path / "report.html", ClusterReport("Sensor", "", metrics))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<dialog" not in page
    assert "Cramér-Rao" not in page


def test_all_figures_and_the_page_are_written(tmp_path: Path) -> None:
    truth, mean, covariance = planted(300)
    metrics: dict[str, Any] = {"events": 300, "unusual": 0, "network": measure(truth, mean, covariance)}
    centroids = {"centroid": mean[:, :2] * 0.98, "centroid_eta": mean[:, :2], "head_tail": mean[:, :2]}
    kept = {"truth": truth, "mean": mean, "covariance": covariance, **centroids}
    events = Events(np.array([3, 8]), np.ones((2, 13, 21, 2), np.float32), truth[:2].astype(np.float32))
    p_values = np.array([0.2, 0.0005])
    displayed = Displayed(2)
    displayed.add(
        Predictions(
            file="part.0.parquet",
            events=events,
            mean=mean[:2],
            covariance=covariance[:2],
            half_widths=np.ones((2, 2, 4)),
            charge=np.ones(2),
            size=np.ones(2, int),
            p_value=p_values,
        )
    )
    drawn = draw(
        tmp_path / "figures",
        kept,
        displayed,
        component="Sensor",
        pitch=(50.0, 12.5),
        slices=(0, 19),
        unusual_rate=0.001,
    )
    write_page(tmp_path / "report.html", "Sensor", metrics, drawn, notes=[], about={})
    shown, opened = drawn
    written = [*(figure.path for figure in shown), *(event.picture for event in opened), tmp_path / "report.html"]
    assert sorted(written) == sorted(path for path in tmp_path.rglob("*") if path.is_file())
    assert [event.unusual for event in opened] == [True, False]  # the most unusual one first
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count('<figure><img src="data:image/png') == 4
    assert page.count("part.0.parquet, row 3</button>") == 1
    assert page.count("part.0.parquet, row 8</button>") == 1
