"""The charts of the history page, as coordinates in SVG drawings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pixal.database.rates import QUANTILES, Rate

WIDTH, HEIGHT = 480.0, 230.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 8.0, 10.0, 34.0
_CHARACTER = 8.5  # width of a capital letter
_SHORTEST_CUT = 8  # characters of a name that is cut


@dataclass(frozen=True)
class Tick:
    """A mark on an axis.

    Attributes:
        at: Its place on the axis.
        label: Its text.
    """

    at: float
    label: str


@dataclass(frozen=True)
class Sample:
    """A group in a chart.

    Attributes:
        x: Its horizontal place.
        half: Half of the width that it has.
        y: The vertical place of its value.
        lower: That of the lower limit or quantile; of the chart's bottom if there is none.
        upper: That of the upper one.
        box: The vertical places of the inner quantiles, upper first; empty for a rate.
        highest: The vertical place of the largest value; None for a rate.
        outside: Whether it is outside its limits, or its largest value above the threshold.
        title: What it shows, in words.
    """

    x: float
    half: float
    y: float
    lower: float
    upper: float
    outside: bool
    title: str
    box: tuple[float, float] | tuple[()] = ()
    highest: float | None = None


@dataclass(frozen=True)
class Chart:
    """A chart of groups, one after the other.

    Attributes:
        samples: The groups that have a value.
        x_ticks: The names of groups.
        y_ticks: The values of the vertical axis.
        centre: The vertical place of the mean rate, or of the threshold; None if there is none.
        band: The limits as the points of a polygon; "" if there are none.
        line: The values as the points of a line.
    """

    samples: tuple[Sample, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    centre: float | None
    band: str
    line: str


def rate_chart(rates: Sequence[Rate]) -> Chart:
    """The control chart of the failure rates of one type."""
    shown = [(index, rate) for index, rate in enumerate(rates) if rate.failure_rate is not None]
    top = _round_up(max((max(rate.failure_rate or 0, rate.upper_limit or 0) for _, rate in shown), default=1.0))

    def place(value: float | None) -> float:
        return _y((value or 0) / top)

    samples = tuple(
        Sample(
            *_x(index, len(rates)),
            y=place(rate.failure_rate),
            lower=place(rate.lower_limit),
            upper=place(rate.upper_limit),
            outside=bool(rate.outside),
            title=_rate_title(rate),
        )
        for index, rate in shown
    )
    with_limits = bool(shown) and shown[0][1].centre is not None
    upper = [(x, sample.upper) for sample in samples for x in (sample.x - sample.half, sample.x + sample.half)]
    lower = [(x, sample.lower) for sample in samples for x in (sample.x - sample.half, sample.x + sample.half)]
    return Chart(
        samples,
        _x_ticks(rates),
        tuple(Tick(_y(share), f"{100 * share * top:.3g} %") for share in (0.0, 0.25, 0.5, 0.75, 1.0)),
        place(shown[0][1].centre) if with_limits else None,
        _points([*upper, *reversed(lower)]) if with_limits else "",
        _points((sample.x, sample.y) for sample in samples),
    )


def score_chart(rates: Sequence[Rate]) -> Chart:
    """The quantiles of the scores of one type, relative to the threshold, on a logarithmic axis."""
    shown = [(index, rate) for index, rate in enumerate(rates) if rate.scores and rate.highest is not None]
    values = [value for _, rate in shown for value in (rate.scores[0], rate.highest or 1.0) if value > 0]
    low = math.floor(math.log2(min([0.5, *values])))
    high = math.ceil(math.log2(max([2.0, *values])))

    def place(value: float) -> float:
        return _y((math.log2(max(value, 2.0**low)) - low) / (high - low))

    samples = tuple(
        Sample(
            *_x(index, len(rates)),
            y=place(rate.scores[2]),
            lower=place(rate.scores[0]),
            upper=place(rate.scores[-1]),
            box=(place(rate.scores[3]), place(rate.scores[1])),
            highest=place(rate.highest or 0),
            outside=(rate.highest or 0) > 1,
            title=_score_title(rate),
        )
        for index, rate in shown
    )
    step = max(1, math.ceil((high - low) / 6))
    ticks = tuple(Tick(place(2.0**power), f"{2.0**power:.3g}") for power in range(low, high + 1, step))
    return Chart(samples, _x_ticks(rates), ticks, place(1.0), "", _points((sample.x, sample.y) for sample in samples))


def _rate_title(rate: Rate) -> str:
    text = f"{rate.group}: {rate.failed} of {rate.parts} failed, {rate.failure_rate:.1%}"
    if rate.lower_limit is not None:
        text += f"; limits {rate.lower_limit:.1%} to {rate.upper_limit:.1%}"
    return text + (f"; {rate.outside} the limits" if rate.outside else "")


def _score_title(rate: Rate) -> str:
    names = [f"{share:.0%}: {value:.3g}" for share, value in zip(QUANTILES, rate.scores, strict=True)]
    return f"{rate.group}: score / threshold, {', '.join(names)}; highest {rate.highest:.3g}"


def _x(index: int, count: int) -> tuple[float, float]:
    """The middle of a group, and half of its width."""
    step = (WIDTH - _LEFT - _RIGHT) / count
    return round(_LEFT + (index + 0.5) * step, 1), round(step / 2, 1)


def _y(share: float) -> float:
    return round(HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM), 1)


def _x_ticks(rates: Sequence[Rate]) -> tuple[Tick, ...]:
    """As many names as fit: evenly spaced, and cut in the middle if they are long."""
    spacing = (WIDTH - _LEFT - _RIGHT) / len(rates)
    longest = max(len(rate.group) for rate in rates)
    step = math.ceil((min(longest, _SHORTEST_CUT) * _CHARACTER + 2) / spacing)
    characters = max(_SHORTEST_CUT, int((step * spacing - 2) / _CHARACTER))
    indices = range(0, len(rates), step)
    return tuple(Tick(_x(index, len(rates))[0], _cut(rates[index].group, characters)) for index in indices)


def _cut(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    half = (longest - 1) // 2
    return f"{text[: longest - 1 - half]}…{text[len(text) - half :]}"


def _round_up(value: float) -> float:
    """The smallest of 1, 2, 4, 10, 20, 40 and 100 percent that is at least ``value``."""
    return next((top for top in (0.01, 0.02, 0.04, 0.1, 0.2, 0.4) if value <= top), 1.0)


def _points(pairs: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in pairs)
