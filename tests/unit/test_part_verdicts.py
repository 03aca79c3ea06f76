"""Views of a part are joined by name or pattern; the rate of false alarms holds for parts."""

from __future__ import annotations

from typing import Any

import numpy as np
from helpers import lot_config
from hypothesis import given
from hypothesis import strategies as st

from pixal.report.document import PartResult
from pixal.report.part_verdicts import join_views, part_name


def result(type_name: str, image: str, verdict: str = "pass", p_value: float | None = 0.5) -> PartResult:
    is_error = verdict == "error"
    return PartResult(
        type=type_name,
        image=image,
        source=image,
        score=None if is_error else 1.0,
        p_value=None if is_error else p_value,
        threshold=None if is_error else 2.0,
        verdict=verdict,  # type: ignore[arg-type]
        reason="dark" if is_error else "",
        overlay=None,
        width=None,
        height=None,
    )


def test_a_part_fails_if_any_view_fails_and_missing_views_are_named() -> None:
    views = [
        result("front", "1.png", "fail", 0.001),
        result("front", "2.png"),
        result("front", "3.png", "error"),
        result("back", "1.jpg", "pass", 0.3),
        result("back", "2.jpg", "pass", 0.4),
        result("back", "4.jpg", "fail", 0.002),
    ]
    found = {part.part: part for part in join_views(views)}
    assert [(name, part.verdict) for name, part in found.items()] == [
        ("1", "fail"),
        ("2", "pass"),
        ("3", "error"),
        ("4", "fail"),
    ]
    assert found["1"].failed == ("front",)
    assert (found["1"].p_value, found["2"].p_value, found["3"].p_value) == (0.002, 0.8, None)
    assert (found["3"].missing, found["4"].missing, found["1"].missing) == (("back",), ("front",), ())
    assert found["1"].views == {"front": ("1.png",), "back": ("1.jpg",)}


def test_photographs_without_a_partner_are_parts_of_their_own() -> None:
    assert join_views([result("front", "a.png"), result("front", "b.png")]) == ()
    assert join_views([result("front", "a.png"), result("back", "b.png")]) == ()
    assert len(join_views([result("front", "a.png"), result("front", "b.png")], "^.")) == 2


@given(st.integers(0, 99999), st.sampled_from(["top", "left", "x"]), st.integers(1, 9))
def test_a_pattern_takes_the_number_out_of_any_name(number: int, view: str, shot: int) -> None:
    image = f"lot{shot}/SN{number}_{view}_{shot}.png"
    assert part_name(image, r"SN(\d+)") == str(number)
    assert part_name(image, r"SN\d+") == f"SN{number}"
    assert part_name(image, r"nothing") == part_name(image) == image.removesuffix(".png")


def test_the_rate_of_a_photograph_keeps_the_rate_of_parts() -> None:
    """Of good parts with three views, independent or the same, at most the requested share fails."""
    validation = lot_config("validation.views_per_part=3").validation
    generator = np.random.default_rng(0)
    independent = generator.uniform(size=(100_000, 3))
    same = np.repeat(independent[:, :1], 3, axis=1)
    for p_values in (independent, same):
        fails = (p_values <= validation.rate_per_photograph).any(1)
        combined = np.minimum(1, 3 * p_values.min(1)) <= validation.false_alarm_rate
        np.testing.assert_array_equal(fails, combined)
        assert fails.mean() <= validation.false_alarm_rate + 0.003


def test_a_bad_pattern_is_named(capsys: Any) -> None:
    from pixal import cli

    assert cli.main(["check", "--set", "validation.part_pattern=("]) == 2
    assert "is not a regular expression" in capsys.readouterr().err
