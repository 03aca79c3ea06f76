"""From planted defects that were found or missed to curves by kind and contrast, and a map of blind spots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.special import logit

from pixal.defects import load_kind
from pixal.tasks.photographs.preprocessing.state import PreprocessingState
from pixal.tasks.photographs.sensitivity.measuring import ScoredDefect
from pixal.validation.detection_probability import DetectionCurve, fit_detection_curve
from pixal.validation.local_detection import local_shift, resolution

Floats = NDArray[np.float64]

_FEWEST = 20  # defects of a curve
_TARGET_LOGIT = float(logit(0.9))
_LARGEST_LOG = 50.0  # of a size; more would overflow
_MARKED = 1.5  # a place is a blind spot if defects must be this much larger there than on the whole part
_PREFERRED = "spot"  # the kind whose sizes the map shows


@dataclass(frozen=True)
class KindCurve:
    """The probability of detection of one kind of defect at one contrast.

    Attributes:
        kind: The kind.
        contrast: The contrast level; below 0 for defects darker than what lies beneath.
        drawn: The mean contrast as drawn.
        curve: The probability of detection by size.
    """

    kind: str
    contrast: float
    drawn: float
    curve: DetectionCurve

    @property
    def largest(self) -> float:
        """The largest planted size."""
        return float(self.curve.sizes[-1])

    @property
    def a90(self) -> float | None:
        """The size that is found in 90 % of cases; None if it is not reached within the planted sizes."""
        return self._within(self.curve.a90)

    @property
    def a90_95(self) -> float | None:
        """The same with 95 % confidence."""
        return self._within(self.curve.a90_95)

    def a90_shifted(self, shift: float) -> float | None:
        """The size that is found in 90 % of cases where the logit of the probability is higher by ``shift``."""
        if self.curve.outcome != "fitted":
            return None
        return self._within(float(self.sizes_by_shift(np.array(shift))))

    def sizes_by_shift(self, shifts: NDArray[Any]) -> Floats:
        """The sizes that are found in 90 % of cases where the logit is higher by these shifts. Needs a fitted curve."""
        intercept, slope = self._coefficients
        return np.asarray(np.exp(np.minimum((_TARGET_LOGIT - intercept - shifts) / slope, _LARGEST_LOG)), np.float64)

    def logits(self, sizes: Sequence[float]) -> Floats:
        """The logits of the probability of detection at some sizes. Needs a fitted curve."""
        intercept, slope = self._coefficients
        return np.asarray(intercept + slope * np.log(sizes), np.float64)

    @property
    def _coefficients(self) -> tuple[float, float]:
        if self.curve.intercept is None or self.curve.slope is None:
            raise ValueError(f"{self.kind}: no curve is fitted ({self.curve.outcome})")
        return self.curve.intercept, self.curve.slope

    def _within(self, size: float | None) -> float | None:
        """The size, at least the smallest planted one; None if it is larger than all of them."""
        return None if size is None or size > self.largest else max(size, float(self.curve.sizes[0]))


def group_contrasts(tested: Sequence[ScoredDefect], levels: Sequence[float]) -> dict[tuple[str, float], list[int]]:
    """Sort defects by kind and by the level that is nearest to the contrast as drawn.

    A defect cannot always have the contrast that was asked for. Defects fainter than the lowest level by more than a
    factor of the square root of 2 are in no group.

    Args:
        tested: The defects.
        levels: The absolute contrasts that were asked for, ascending.

    Returns:
        Indices of defects by kind and contrast level, in order. The level is below 0 for defects drawn darker.
    """
    groups: dict[tuple[str, float], list[int]] = {}
    logs = np.log(levels)
    for index, defect in enumerate(tested):
        drawn = abs(defect.drawn)
        if drawn * np.sqrt(2) < levels[0]:
            continue
        level = levels[int(np.abs(logs - np.log(drawn)).argmin())]
        is_darker = load_kind(defect.kind).is_signed and defect.contrast < 0
        groups.setdefault((defect.kind, -level if is_darker else level), []).append(index)
    return dict(sorted(groups.items()))


def fit_curves(
    tested: Sequence[ScoredDefect], groups: dict[tuple[str, float], list[int]], threshold: float
) -> list[KindCurve]:
    """Fit a curve for each group of at least 20 defects of several sizes; ``threshold`` is that of the anomaly map."""
    curves = []
    for (kind, contrast), indices in groups.items():
        members = [tested[index] for index in indices]
        sizes = np.array([defect.size for defect in members])
        if len(members) < _FEWEST or len(np.unique(sizes)) < 2:
            continue
        found = np.array([defect.peak > threshold for defect in members])
        drawn = float(np.mean([abs(defect.drawn) for defect in members]))
        curves.append(KindCurve(kind, contrast, float(np.copysign(drawn, contrast)), fit_detection_curve(sizes, found)))
    return curves


@dataclass(frozen=True)
class BlindSpots:
    """The places on a part where only larger defects are found than elsewhere.

    Attributes:
        shift: (H, W) float32 in the reference frame: how much the logit of the probability of detection differs there.
        compared: (H, W), the pixels of the part that are compared at all.
        part: (H, W), the pixels of the part.
        resolution: Standard deviation of the weights around each pixel, in pixels.
        shown: The curve whose sizes the map shows.
    """

    shift: NDArray[np.float32]
    compared: NDArray[np.bool_]
    part: NDArray[np.bool_]
    resolution: float
    shown: KindCurve

    @cached_property
    def sizes(self) -> NDArray[np.float32]:
        """(H, W), the size that is found in 9 of 10 cases; infinite where nothing is compared, NaN outside the part."""
        sizes = np.asarray(self.shown.sizes_by_shift(self.shift), np.float32)
        sizes[~self.compared] = np.inf
        sizes[~self.part] = np.nan
        return sizes

    @cached_property
    def marked(self) -> NDArray[np.bool_]:
        """(H, W), the places that are compared, but where a defect must be 1.5 times as large as on the whole part."""
        usual = self.shown.sizes_by_shift(np.zeros(1))
        return np.asarray((self.sizes > _MARKED * usual) & self.compared)

    @property
    def marked_share(self) -> float:
        """The fraction of the part that is marked."""
        return float(self.marked.sum() / max(1, self.part.sum()))

    @property
    def never_compared_share(self) -> float:
        """The fraction of the part that is not compared: its edge, and ignored regions."""
        return float((self.part & ~self.compared).sum() / max(1, self.part.sum()))

    @property
    def marked_shift(self) -> float | None:
        """The mean shift at the marked places; None if there are none."""
        return float(self.shift[self.marked].mean()) if self.marked.any() else None


def find_blind_spots(
    tested: Sequence[ScoredDefect],
    groups: dict[tuple[str, float], list[int]],
    curves: Sequence[KindCurve],
    threshold: float,
    state: PreprocessingState,
) -> BlindSpots | None:
    """Estimate at each pixel of the part how much harder defects of all kinds are to find there.

    Args:
        tested: The defects.
        groups: See ``group_contrasts``.
        curves: See ``fit_curves``.
        threshold: The threshold in the units of the anomaly map.
        state: The preprocessing of the type.

    Returns:
        The blind spots; None if no curve could be fitted.
    """
    fitted = [curve for curve in curves if curve.curve.outcome == "fitted"]
    if not fitted:
        return None
    members: list[int] = []
    logits: list[Floats] = []
    for curve in fitted:
        indices = groups[curve.kind, curve.contrast]
        members += indices
        logits.append(curve.logits([tested[index].size for index in indices]))
    places = np.array([(tested[index].x, tested[index].y) for index in members])
    found = np.array([tested[index].peak > threshold for index in members])
    x, y, width, height = cv2.boundingRect(state.consensus.view(np.uint8))
    sigma = resolution(float(state.consensus.sum()), len(members))
    columns, rows = (max(2, int(np.ceil(2 * length / sigma))) for length in (width, height))
    # The centres of the cells that ``cv2.resize`` spreads over the box.
    grid_x = x + (np.arange(columns) + 0.5) * width / columns - 0.5
    grid_y = y + (np.arange(rows) + 0.5) * height / rows - 0.5
    points = np.stack(np.meshgrid(grid_x, grid_y), -1).reshape(-1, 2)
    coarse = local_shift(np.concatenate(logits), found, places, points, sigma).reshape(rows, columns)
    shift = np.zeros(state.consensus.shape, np.float32)
    shift[y : y + height, x : x + width] = cv2.resize(coarse.astype(np.float32), (width, height))
    return BlindSpots(shift, state.part_mask, state.consensus, sigma, _curve_to_show(fitted))


def _curve_to_show(curves: Sequence[KindCurve]) -> KindCurve:
    """The curve of dark spots at the middle contrast, or the nearest to it."""
    levels = sorted({abs(curve.contrast) for curve in curves})
    middle = levels[len(levels) // 2]
    return min(
        curves, key=lambda curve: (curve.kind != _PREFERRED, abs(abs(curve.contrast) - middle), curve.contrast > 0)
    )
