"""The comparison of the candidates for one type: its table, its record and its figure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, astuple, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.config import Config
from pixal.io.images import write_figure
from pixal.io.provenance import provenance
from pixal.io.records import write_record, write_table
from pixal.tasks.photographs.comparison.scoring import CandidateScores
from pixal.validation.intervals import Interval, rate_interval
from pixal.validation.paired import Difference, PlantedScores, compare_paired

TABLE_COLUMNS = (
    *("candidate", "detection_rate", "detection_low", "detection_high", "difference", "difference_low"),
    *("difference_high", "p_value", "verdict", "auroc", "auroc_difference", "auroc_difference_low"),
    *("auroc_difference_high", "good_failed", "good_parts", "training_seconds", "seconds_per_part", "memory_gb"),
)
_HEAD = (
    "candidate",
    "found",
    "difference",
    "p",
    "AUROC",
    "difference",
    "good parts failed",
    "train s",
    "ms per part",
    "GB",
)


@dataclass(frozen=True)
class ComparisonFiles:
    """The files of one type.

    Attributes:
        record: ``comparison.yaml``.
        table: ``comparison.csv``, one row per candidate.
        figure: The figure of the detection rates.
    """

    record: Path
    table: Path
    figure: Path

    @classmethod
    def of_type(cls, config: Config, name: str) -> ComparisonFiles:
        """The files of a type."""
        metadata, figures = (config.paths.resolve(entry, name) for entry in ("metadata_path", "figures_path"))
        return cls(metadata / "comparison.yaml", metadata / "comparison.csv", figures / "comparison.png")

    def __iter__(self) -> Iterator[Path]:
        return iter(astuple(self))


@dataclass(frozen=True)
class TypeComparison:
    """The comparison of the candidates on the planted defects of one type. The first candidate is the baseline.

    Attributes:
        name: The type.
        rate: The false-alarm rate.
        scored: The scores of each candidate, by its name.
    """

    name: str
    rate: float
    scored: Mapping[str, CandidateScores]

    @property
    def baseline(self) -> str:
        """The candidate that the others are compared with."""
        return next(iter(self.scored))

    @cached_property
    def drawn(self) -> NDArray[np.bool_]:
        """(D,), which of the planned defects could be drawn."""
        missing = [np.isnan(scores.peaks) for scores in self.scored.values()]
        return np.asarray(~np.any(missing, axis=0))

    @cached_property
    def paired(self) -> dict[str, PlantedScores]:
        """The drawn defects, by candidate."""
        return {name: scores.paired(self.drawn) for name, scores in self.scored.items()}

    @cached_property
    def differences(self) -> dict[str, Difference]:
        """The difference of each other candidate to the baseline."""
        first, *others = self.paired
        count = len(others)
        return {name: compare_paired(self.paired[name], self.paired[first], comparisons=count) for name in others}

    @cached_property
    def kinds(self) -> NDArray[np.str_]:
        """(drawn D,), the kind of each drawn defect."""
        plan = self.scored[self.baseline].plan
        return np.array([d.kind for photograph in plan.photographs for d in photograph.defects])[self.drawn]

    def found_by_kind(self, candidate: str) -> dict[str, tuple[int, int]]:
        """Numbers of found and planted defects of each kind, for a candidate."""
        found = self.paired[candidate].found
        return {
            str(kind): (int(found[self.kinds == kind].sum()), int((self.kinds == kind).sum()))
            for kind in np.unique(self.kinds)
        }

    @property
    def sentences(self) -> list[str]:
        """One sentence per candidate other than the baseline."""
        return [difference_sentence(name, self.baseline, difference) for name, difference in self.differences.items()]

    def summary(self) -> str:
        """The table and the sentences as text."""
        paired = self.paired[self.baseline]
        head = (
            f"{self.name}: {len(paired.peaks)} planted defects on {len(paired.good)} held-out good parts, "
            f"{100 * self.rate:g} % false alarms"
        )
        rows = [_HEAD, *(self._cells(name) for name in self.scored)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
        lines = [
            "  ".join(_align(cell, width, number) for number, (cell, width) in enumerate(zip(row, widths, strict=True)))
            for row in rows
        ]
        return "\n".join([head, *(f"  {line.rstrip()}" for line in lines), *(f"  {text}" for text in self.sentences)])

    def write(self, files: ComparisonFiles, origin: dict[str, Any]) -> None:
        """Write record, table and figure. ``origin`` says what they were made from."""
        from pixal.plotting.comparison import PlottedCandidate, comparison_figure

        write_table(files.table, TABLE_COLUMNS, map(self._row, self.scored))
        candidates = [
            PlottedCandidate(
                name,
                {kind: found / planted for kind, (found, planted) in self.found_by_kind(name).items()},
                self.paired[name].detection_rate,
                difference.detection_rate if (difference := self.differences.get(name)) else 0.0,
                difference.detection_interval if difference else None,
            )
            for name in self.scored
        ]
        title = f"{self.name}: planted defects that are found at {100 * self.rate:g} % false alarms"
        write_figure(files.figure, comparison_figure(candidates, title=title))
        write_record(files.record, provenance() | origin | self._as_record())

    def metrics(self) -> dict[str, float]:
        """The measures of each candidate, for tracking."""
        names = ("detection_rate", "auroc", "training_seconds")
        return {
            f"{self.name}/{name}/{key}": row[key] for name in self.scored for row in (self._row(name),) for key in names
        }

    def _as_record(self) -> dict[str, Any]:
        paired = self.paired[self.baseline]
        return {
            "false_alarm_rate": self.rate,
            "baseline": self.baseline,
            "planted": len(paired.peaks),
            "not_drawn": int((~self.drawn).sum()),
            "parts": len(paired.good),
            "sentences": self.sentences,
            "candidates": [
                self._row(name)
                | {
                    "threshold": self.paired[name].threshold,
                    "found_by_kind": {k: {"found": f, "planted": n} for k, (f, n) in self.found_by_kind(name).items()},
                }
                for name in self.scored
            ],
        }

    def _row(self, name: str) -> dict[str, Any]:
        paired, cost = self.paired[name], self.scored[name].cost
        low, high = rate_interval(int(paired.found.sum()), len(paired.found))
        row: dict[str, Any] = {
            "candidate": name,
            "detection_rate": paired.detection_rate,
            "detection_low": low,
            "detection_high": high,
            "auroc": paired.auroc,
            "good_failed": int((paired.good > paired.threshold).sum()),
            "good_parts": len(paired.good),
            **asdict(cost),
        }
        if (difference := self.differences.get(name)) is not None:
            row |= {
                "difference": difference.detection_rate,
                "difference_low": difference.detection_interval[0],
                "difference_high": difference.detection_interval[1],
                "p_value": difference.p_value,
                "verdict": difference.verdict,
                "auroc_difference": difference.auroc,
                "auroc_difference_low": difference.auroc_interval[0],
                "auroc_difference_high": difference.auroc_interval[1],
            }
        return row

    def _cells(self, name: str) -> tuple[str, ...]:
        paired, cost, difference = self.paired[name], self.scored[name].cost, self.differences.get(name)
        return (
            name,
            f"{paired.detection_rate:.3f}",
            _interval_text(difference.detection_rate, difference.detection_interval) if difference else "baseline",
            f"{difference.p_value:.2g}" if difference else "",
            f"{paired.auroc:.3f}",
            _interval_text(difference.auroc, difference.auroc_interval) if difference else "baseline",
            f"{(paired.good > paired.threshold).sum()} of {len(paired.good)}",
            f"{cost.training_seconds:.1f}",
            f"{1000 * cost.seconds_per_part:.1f}",
            "" if cost.memory_gb is None else f"{cost.memory_gb:.2f}",
        )


def _align(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column == 0 else cell.rjust(width)


def _interval_text(value: float, interval: Interval) -> str:
    return f"{value:+.3f} ({interval[0]:+.3f} to {interval[1]:+.3f})"


def difference_sentence(name: str, baseline: str, difference: Difference) -> str:
    """A sentence on whether a candidate finds more than another one."""
    percent = f"{100 * abs(difference.detection_rate):.1f} % of the planted defects"
    low, high = (100 * end for end in difference.detection_interval)
    interval = f"{100 * (1 - difference.alpha):.3g} % interval of the difference: {low:+.1f} to {high:+.1f} %"
    if difference.verdict == "no difference":
        return f"{name} and {baseline}: no difference is shown ({interval})."
    more = "more" if difference.verdict == "better" else "fewer"
    return f"{name} finds {more} than {baseline}, by {percent} ({interval})."
