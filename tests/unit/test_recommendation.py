"""The recommendation on a candidate: worse ones are refused, better ones are not refused for a part or two."""

from __future__ import annotations

from pathlib import Path

import pytest

from pixal.tasks.photographs.learning.model_scores import PartScore
from pixal.tasks.photographs.learning.past_parts import PastPart
from pixal.tasks.photographs.learning.trial_results import CANDIDATE, IN_USE, ComparedPart, TypeTrial, recommend

PASS, FAIL = PartScore(1.0), PartScore(3.0, failed=True)
CHANGES = {
    "newly found": ("missed", PASS, FAIL),
    "newly lost": ("confirmed", FAIL, PASS),
    "found": ("confirmed", FAIL, FAIL),
    "missed": ("missed", PASS, PASS),
    "no false alarm any more": ("false alarm", FAIL, PASS),
    "new false alarm": ("confirmed good", PASS, FAIL),
    "passes": ("confirmed good", PASS, PASS),
    "now passes": ("", FAIL, PASS),
}


def trial(failed: int = 0, **counts: int) -> TypeTrial:
    """The trial of a type in which that many parts have each change."""
    parts = []
    for name, count in counts.items():
        mark, before, after = CHANGES[name.replace("_", " ")]
        part = PastPart("a.png", "lot", "0", Path("a.png"), mark)
        parts += [ComparedPart("front", part, before, after, 2.0, 2.0)] * count
    assert {part.change for part in parts} <= CHANGES.keys()
    return TypeTrial("front", tuple(parts), None, "", 0.05, {IN_USE: (0, 40), CANDIDATE: (failed, 40)})


@pytest.mark.parametrize(
    "counts",
    [
        {"newly_found": 1, "found": 3},
        {"no_false_alarm_any_more": 2, "passes": 3},
        {"no_false_alarm_any_more": 4, "newly_lost": 2, "found": 9},  # two lost: a chance of 1 in 4
        {"newly_found": 5, "new_false_alarm": 1},
        {"newly_found": 3, "newly_lost": 2},
    ],
)
def test_a_better_candidate_is_recommended_with_an_interval(counts: dict[str, int]) -> None:
    found = recommend([trial(**counts)])
    assert found.verdict == "promote"
    plus = counts.get("newly_found", 0) + counts.get("no_false_alarm_any_more", 0)
    minus = counts.get("newly_lost", 0) + counts.get("new_false_alarm", 0)
    points = f"Of {plus + minus} marked parts on which the models differ, the candidate is right on {plus} (95 % int"
    assert any(reason.startswith(points) for reason in found.reasons)
    assert any("look at them" in caution for caution in found.cautions) == (minus > 0)


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ({"newly_lost": 1, "found": 9}, "Of 1 marked parts on which the models differ, the candidate is right on 0"),
        ({"newly_lost": 2, "no_false_alarm_any_more": 1}, "right on 1 (95"),
        ({"newly_lost": 3, "no_false_alarm_any_more": 9}, "known defects newly found: 0, newly lost: 3."),
        ({"new_false_alarm": 4, "newly_found": 9}, "false alarms on good parts removed: 0, added: 4."),
        ({"failed": 8, "newly_found": 9}, "8 of 40 held-out good parts fail, more than the 5 %"),
    ],
)
def test_a_worse_candidate_is_refused(counts: dict[str, int], reason: str) -> None:
    found = recommend([trial(**counts)])
    assert found.verdict == "keep"
    assert any(reason in text for text in found.reasons)


@pytest.mark.parametrize("counts", [{}, {"found": 3, "missed": 2}, {"newly_lost": 2, "no_false_alarm_any_more": 2}])
def test_no_difference_is_said_where_none_is_shown(counts: dict[str, int]) -> None:
    assert recommend([trial(**counts)]).verdict == "no difference"


def test_types_count_together_but_a_clear_loss_in_one_is_enough() -> None:
    assert recommend([trial(newly_found=4), trial(newly_lost=1)]).verdict == "promote"
    assert recommend([trial(newly_found=9), trial(newly_lost=3)]).verdict == "keep"


def test_a_warning_where_only_wrong_verdicts_were_marked() -> None:
    text = "all marked parts are wrong verdicts"
    assert any(text in caution for caution in recommend([trial(newly_found=3, missed=2)]).cautions)
    assert not any(text in caution for caution in recommend([trial(newly_found=3, found=1)]).cautions)
    assert any("1 (0 now fail, 1 now pass)" in caution for caution in recommend([trial(now_passes=1)]).cautions)
