"""The text that ``pixal demo`` prints: drift, verdicts, measures and the path of the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pixal.report.document import DriftFinding, DriftSummary, MetricsDocument, PartResult, PartTruth
from pixal.tasks.photographs.verdicts.results import Batch


def part(**changes: Any) -> PartResult:
    content: dict[str, Any] = {"type": "front", "image": "a.png", "source": "in/a.png", "score": 2.456, "p_value": 0.5}
    content |= {"threshold": 3.0, "verdict": "pass", "reason": "", "overlay": None, "width": 32, "height": 24}
    return PartResult.model_validate(content | changes)


def test_every_part_has_a_line_with_its_truth() -> None:
    parts = (
        part(truth=PartTruth(0, "")),
        part(image="b.png", verdict="fail", score=4.0, truth=PartTruth(1, "scratch")),
        part(image="c.png", verdict="fail", truth=PartTruth(1, "")),
        part(image="d.png", verdict="error", score=None, threshold=None, reason="is truncated"),
    )
    batch = Batch(Path("validate/Part"), parts=parts)
    header, *lines, empty, report = batch.summary().splitlines()
    assert header.split() == ["type", "part", "score", "threshold", "verdict", "regions"]
    assert [line.split() for line in lines] == [
        ["front", "a.png", "2.46", "3.00", "pass", "0", "(truth:", "good)"],
        ["front", "b.png", "4.00", "3.00", "fail", "0", "(truth:", "scratch)"],
        ["front", "c.png", "2.46", "3.00", "fail", "0", "(truth:", "defective)"],
        ["front", "d.png", "error", "0"],
    ]
    assert (empty, report) == ("", f"report: {Path('validate/Part/report.html')}")


def test_drift_is_above_the_verdicts_and_measures_are_below() -> None:
    finding = DriftFinding("front", "brightness", 0.5, 0.7, 0.0004, "rank", "brighter than at training", "")
    measures = MetricsDocument(
        types={"front": {"image_auroc": 0.98765, "f1_max": None, "good": 3}}, overall={"detection_rate": 1}
    )
    batch = Batch(Path("v"), parts=(part(),), drift=DriftSummary(level=0.01, findings=(finding,)), metrics=measures)
    lines = batch.summary().splitlines()
    assert lines[0].split(maxsplit=2) == ["drift", "front", "brighter than at training, p = 0.0004"]
    assert [line.split(maxsplit=1) for line in lines[5:7]] == [
        ["front", "image_auroc 0.988"],
        ["overall", "detection_rate 1.000"],
    ]
    assert "drift" not in Batch(Path("v"), parts=(part(),), drift=DriftSummary(level=0.01)).summary()
