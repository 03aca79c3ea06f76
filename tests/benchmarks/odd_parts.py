"""What leaving odd training parts out of the threshold does to the rates of false alarms, by simulation.

    python tests/benchmarks/odd_parts.py [--trials 2000]

Scores are drawn from known distributions. For each requested rate the table gives the mean rate of false alarms, over
the trials, of the threshold of all scores, and of the threshold without odd ones. In the rows "with an odd part", one
more score lies far above the others, and new good parts hold none like it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from page import write_section

from pixal.calibration.odd_parts import find_odd_parts
from pixal.calibration.settings import Threshold
from pixal.calibration.thresholds import set_threshold

_RATES = (0.01, 0.05, 0.2)
_COUNTS = (16, 40)
_ODD = 8.0  # how far an odd score is above the median, in distances of the 0.9 quantile from it
_DISTRIBUTIONS: dict[str, Callable[[np.random.Generator, int], NDArray[np.float64]]] = {
    "normal": lambda generator, count: 10 + generator.normal(size=count),
    "Gumbel": lambda generator, count: 10 + generator.gumbel(size=count),
    "exponential": lambda generator, count: 5 + generator.exponential(size=count),
    "lognormal, sigma 0.6": lambda generator, count: np.exp(0.6 * generator.normal(size=count)),
    "Gumbel, 2 % raised by an exponential of mean 8": lambda generator, count: (
        10 + generator.gumbel(size=count) + (generator.random(count) < 0.02) * generator.exponential(8, count)
    ),
}


def main() -> None:
    """Write the table to the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    options = parser.parse_args()
    lines = [
        "| scores | held-out | odd part | all scores: 0.01, 0.05, 0.2 | without odd ones: 0.01, 0.05, 0.2 | left out |",
        "|---|---:|---|---|---|---:|",
    ]
    for name, draw in _DISTRIBUTIONS.items():
        for count in _COUNTS:
            for has_odd in (False, True):
                lines.append(
                    f"| {name} | {count} | {'yes' if has_odd else ''} | {_row(draw, count, has_odd, options.trials)} |"
                )
    write_section("odd parts", lines, f"{options.trials} trials.")


def _row(
    draw: Callable[[np.random.Generator, int], NDArray[np.float64]], count: int, has_odd: bool, trials: int
) -> str:
    generator = np.random.default_rng(0)
    good = np.sort(draw(generator, 400_000))
    median, high = np.quantile(good, [0.5, 0.9])
    rates, left_out = np.zeros((2, len(_RATES))), 0
    for _ in range(trials):
        scores = draw(generator, count)
        if has_odd:
            scores[0] = median + _ODD * (high - median)
        is_odd = find_odd_parts(scores)
        left_out += bool(is_odd.any())
        for which, counted in enumerate((scores, scores[~is_odd])):
            thresholds = [set_threshold(counted, rate, Threshold())[0] for rate in _RATES]
            rates[which] += 1 - np.searchsorted(good, thresholds, side="right") / len(good)
    cells = [", ".join(f"{rate:.4f}" for rate in row / trials) for row in rates]
    return f"{cells[0]} | {cells[1]} | {left_out / trials:.3f}"


if __name__ == "__main__":
    main()
