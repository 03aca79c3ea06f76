"""The sensitivity of a type: its record, its table, and one sentence per kind of defect."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
from scipy.stats import binom

from pixal.defects import load_kind
from pixal.io.arrays import save_arrays
from pixal.io.images import write_figure
from pixal.io.provenance import provenance
from pixal.io.records import write_record, write_table
from pixal.tasks.photographs.preprocessing.state import PreprocessingState
from pixal.tasks.photographs.sensitivity.curves import (
    BlindSpots,
    KindCurve,
    find_blind_spots,
    fit_curves,
    group_contrasts,
)
from pixal.tasks.photographs.sensitivity.files import SensitivityFiles
from pixal.tasks.photographs.sensitivity.measuring import ScoredDefect, Scores
from pixal.tasks.photographs.sensitivity.plan import Budget

TABLE_COLUMNS = ("image", "kind", "size", "contrast", "drawn", "x", "y", "peak", "found")
NOT_REACHED = "not reached"
_SURPRISING = 0.01  # probability of as many false alarms, below which they are reported


@dataclass(frozen=True)
class TypeSensitivity:
    """Which planted defects the model of a type finds.

    Attributes:
        name: The type.
        scores: The planted defects, and the held-out parts without them.
        left_out: Kinds and sizes that have no place on the part.
        thresholds: The threshold in the units of the anomaly map by false-alarm rate; the configured rate is the first.
        budget: Which defects were planned.
        state: The preprocessing of the type.
    """

    name: str
    scores: Scores
    left_out: Sequence[str]
    thresholds: dict[float, float]
    budget: Budget
    state: PreprocessingState

    @cached_property
    def curves(self) -> dict[float, list[KindCurve]]:
        """The curves by false-alarm rate."""
        return {
            rate: fit_curves(self.scores.defects, self._groups, threshold)
            for rate, threshold in self.thresholds.items()
        }

    @cached_property
    def blind_spots(self) -> BlindSpots | None:
        """The blind spots at the configured false-alarm rate; None if no curve could be fitted."""
        return find_blind_spots(self.scores.defects, self._groups, self.curves[self.rate], self._threshold, self.state)

    @property
    def rate(self) -> float:
        """The configured false-alarm rate."""
        return next(iter(self.thresholds))

    @property
    def sentences(self) -> list[str]:
        """One sentence per kind at the configured false-alarm rate, and one about the blind spots."""
        by_kind = groupby(self.curves[self.rate], key=lambda curve: curve.kind)
        sentences = [_sentence(kind, list(curves), self._marked_shift) for kind, curves in by_kind]
        if self.blind_spots is not None:
            spots = self.blind_spots
            marked = (
                f"{100 * spots.marked_share:.1f} % of the part is marked in the map, because defects must be at least "
                "1.5 times as large there"
                if spots.marked.any()
                else "No place is marked in the map: defects of about the same size are found everywhere"
            )
            never = f"{100 * spots.never_compared_share:.1f} % (the edge and ignored regions) is never compared"
            sentences.append(f"{marked}; {never}.")
        clean, failed = len(self.scores.clean), self._failed_clean
        if failed and binom.sf(failed - 1, clean, self.rate) < _SURPRISING:
            sentences.append(
                f"Caution: {failed} of {clean} held-out good parts fail without a planted defect, more than the "
                f"{100 * self.rate:g} % that are expected; so some defects are only found because of the part. "
                "Train on more good parts."
            )
        return sentences

    def metrics(self) -> dict[str, float]:
        """The sizes a90 and a90/95 that are reached, in pixels, and the shares of blind spots, by name."""
        metrics: dict[str, float] = {}
        for curve in self.curves[self.rate]:
            for name, size in (("a90", curve.a90), ("a90_95", curve.a90_95)):
                if size is not None:
                    metrics[f"{name}/{curve.kind} {curve.contrast:g}"] = size
        if self.blind_spots is not None:
            metrics["marked_share"] = self.blind_spots.marked_share
        return metrics

    def write(self, files: SensitivityFiles, origin: dict[str, Any]) -> None:
        """Write the table, the map and the figures, and the record last: it says that all of them are complete.

        Args:
            files: Where to write.
            origin: What the results were made from, for the record.
        """
        from pixal.plotting.detection import blind_spot_map, detection_curves

        write_table(files.table, TABLE_COLUMNS, map(self._row, self.scores.defects))
        rate = f"{100 * self.rate:g} % false alarms"
        title = f"{self.name}: planted defects that are found at {rate}"
        write_figure(files.curves, detection_curves([_panel(curve) for curve in self.curves[self.rate]], title=title))
        if (spots := self.blind_spots) is not None:
            shown = spots.shown
            save_arrays(files.map, smallest_size=spots.sizes)
            figure = blind_spot_map(
                self.state.reference.image,
                spots.sizes,
                spots.part,
                spots.marked,
                limits=(float(shown.curve.sizes[0]), shown.largest),
                label=f"size found in 9 of 10 cases (pixels): {shown.kind}, contrast {shown.contrast:+.0%}",
                title=f"{self.name}: smallest defect that is found at {rate} (resolution {spots.resolution:.0f} px)",
            )
            write_figure(files.map_figure, figure)
        write_record(files.record, provenance() | origin | self._as_record())

    def _as_record(self) -> dict[str, Any]:
        spots = self.blind_spots
        return {
            "budget": self.budget.as_record(),
            "planted": len(self.scores.defects),
            "failed_without_defect": self._failed_clean,
            "too_faint": len(self.scores.defects) - sum(map(len, self._groups.values())),
            "not_drawn": dict(Counter(map(_kind_of_reason, self.scores.not_drawn))),
            "left_out": list(self.left_out),
            "thresholds": self.thresholds,
            "sentences": self.sentences,
            "blind_spots": None
            if spots is None
            else {
                "kind": spots.shown.kind,
                "contrast": spots.shown.contrast,
                "resolution": spots.resolution,
                "marked_share": spots.marked_share,
                "never_compared_share": spots.never_compared_share,
            },
            "curves": [self._curve_record(rate, curve) for rate, curves in self.curves.items() for curve in curves],
        }

    def _curve_record(self, rate: float, curve: KindCurve) -> dict[str, Any]:
        fitted = curve.curve
        record = {
            "kind": curve.kind,
            "size": load_kind(curve.kind).size,
            "contrast": curve.contrast,
            "contrast_drawn": round(curve.drawn, 4),
            "false_alarm_rate": rate,
            "sizes": fitted.sizes,
            "planted": fitted.planted,
            "found": fitted.found,
            "outcome": fitted.outcome,
            "intercept": fitted.intercept,
            "slope": fitted.slope,
            "a90": NOT_REACHED if curve.a90 is None else curve.a90,
            "a90_95": NOT_REACHED if curve.a90_95 is None else curve.a90_95,
        }
        if rate == self.rate and self._marked_shift is not None:
            marked = curve.a90_shifted(self._marked_shift)
            record["a90_at_marked_places"] = NOT_REACHED if marked is None else marked
        return record

    @property
    def _failed_clean(self) -> int:
        return sum(score > self._threshold for score in self.scores.clean)

    @cached_property
    def _groups(self) -> dict[tuple[str, float], list[int]]:
        return group_contrasts(self.scores.defects, self.budget.levels)

    @property
    def _threshold(self) -> float:
        return self.thresholds[self.rate]

    @cached_property
    def _marked_shift(self) -> float | None:
        return None if self.blind_spots is None else self.blind_spots.marked_shift

    def _row(self, defect: ScoredDefect) -> dict[str, Any]:
        row = {name: getattr(defect, name) for name in TABLE_COLUMNS if name != "found"}
        return row | {"found": int(defect.peak > self._threshold)}


def _kind_of_reason(reason: str) -> str:
    """The kind that a message of ``plant`` begins with."""
    return reason.partition(":")[0].partition(" at ")[0]


def _sentence(kind: str, curves: Sequence[KindCurve], marked_shift: float | None) -> str:
    """A sentence on the size from which defects of a kind are found, by contrast."""
    clauses = []
    for curve in curves:
        clause = f"{_contrast_text(curve)}, {_size_text(curve)}"
        if marked_shift is not None and curve.a90_95 is not None and curve.curve.outcome == "fitted":
            marked = curve.a90_shifted(marked_shift)
            if marked is None:
                clause += f"; at the places marked in the map, at no size up to {curve.largest:g} px"
            elif marked > curve.a90_95:
                clause += f"; at the places marked in the map, from {marked:.2g} px on"
        clauses.append(clause)
    text = ". ".join(clause[0].upper() + clause[1:] for clause in clauses)
    return f"{kind.replace('_', ' ')} (size: {load_kind(kind).size}): {text}."


def _contrast_text(curve: KindCurve) -> str:
    percent = f"{100 * abs(curve.contrast):.0f} %"
    if not load_kind(curve.kind).is_signed:
        return f"with a contrast of {percent}"
    return f"{percent} {'darker' if curve.contrast < 0 else 'brighter'} than what lies beneath"


def _size_text(curve: KindCurve) -> str:
    if curve.a90_95 is not None:
        return f"found in 9 of 10 cases from {curve.a90_95:.2g} px on (95 % confidence)"
    if curve.a90 is not None:
        return (
            f"found in 9 of 10 cases from about {curve.a90:.2g} px on, but not with 95 % confidence up to "
            f"{curve.largest:g} px"
        )
    if curve.curve.outcome in ("all found", "separated"):
        is_found = curve.curve.found == curve.curve.planted
        return (
            f"all {int(curve.curve.planted[is_found].sum())} found from {curve.curve.sizes[is_found][0]:g} px on "
            "(too few defects for 95 % confidence)"
        )
    found, planted = int(curve.curve.found[-1]), int(curve.curve.planted[-1])
    return f"not found in 9 of 10 cases at any size up to {curve.largest:g} px ({found} of {planted} found there)"


def _panel(curve: KindCurve) -> Any:
    from pixal.plotting.detection import PlottedCurve

    fitted = curve.curve
    grid = np.geomspace(fitted.sizes[0], fitted.sizes[-1], 40)
    low, high = fitted.band(grid)
    return PlottedCurve(
        kind=curve.kind.replace("_", " "),
        size=load_kind(curve.kind).size.partition(";")[0],
        contrast=curve.contrast,
        sizes=fitted.sizes,
        fractions=fitted.found / fitted.planted,
        grid=grid,
        probability=fitted.probability(grid),
        low=low,
        high=high,
    )
