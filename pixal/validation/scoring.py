"""Score a type's parts with its model: maps, scores, verdicts, and the counts that the figures need."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pixal.calibration.calibration import (
    Calibration,
    above,
    calibrated_maps,
    choose_threshold,
    p_values,
    part_scores,
    raw_maps,
)
from pixal.calibration.settings import Threshold
from pixal.inputs import InputSet
from pixal.train_model.family import ModelFamily, error_weights
from pixal.validation.regions import Region, find_regions

_ROWS = 4  # parts in memory at a time, at most
_BINS = 100
_SUMS = ("squared", "absolute", "anomaly", "losses", "pairs")  # the arrays of a Summary
_LOSS_RANGE = (1e-8, 1.0)  # of a squared error; inputs lie in [0, 1]
_DISTANCE_RANGE = (1e-6, 1e6)  # of a squared distance between features


@dataclass(frozen=True)
class Cut:
    """What decides a verdict: the threshold on a part's score, how it came about, and of what the score is.

    raw: the score is the uncalibrated loss (a numeric ``loss_cut``); log: its decimal logarithm.
    """

    threshold: float
    method: str
    raw: bool = False
    log: bool = False

    @property
    def on_map(self) -> float:
        """The threshold on the map's values."""
        return float(10**self.threshold) if self.log else self.threshold


@dataclass(frozen=True)
class Scored:
    """A part's outcome. map: (h, w) float32 in the type's input frame; ``Cut.on_map`` is the limit in its units."""

    row: int
    map: NDArray[np.float32]
    score: float
    p_value: float | None
    failed: bool
    regions: list[Region]


@dataclass
class Summary:
    """Sums over a type's parts for the figures. Per pixel (H, W); histograms a channel (C, bins).

    distances: errors are distances, without a reconstruction; ``pairs`` then has no channel.
    """

    shape: tuple[int, int, int]
    distances: bool = False
    parts: int = 0
    squared: NDArray[np.float64] = field(init=False)
    absolute: NDArray[np.float64] = field(init=False)
    anomaly: NDArray[np.float64] = field(init=False)
    losses: NDArray[np.int64] = field(init=False)
    pairs: NDArray[np.int64] = field(init=False)
    loss_edges: NDArray[np.float64] = field(init=False)
    value_edges: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        """Start from zero."""
        height, width, channels = self.shape
        self.squared, self.absolute, self.anomaly = (np.zeros((height, width)) for _ in range(3))
        self.loss_edges = np.geomspace(*(_DISTANCE_RANGE if self.distances else _LOSS_RANGE), _BINS + 1)
        self.value_edges = np.linspace(0, 1, _BINS + 1)
        self.losses = np.zeros((channels, _BINS), np.int64)
        self.pairs = np.zeros((0 if self.distances else channels, _BINS, _BINS), np.int64)

    def add(
        self,
        images: NDArray[np.float32],
        errors: NDArray[np.float32],
        maps: NDArray[np.float32],
        mask: NDArray[np.bool_],
    ) -> None:
        """Count parts: inputs and errors (n, H, W, C), maps (n, H, W), the part's pixels (H, W)."""
        self.parts += len(images)
        self.anomaly += maps.sum(0)
        low, high = np.log(self.loss_edges[[0, -1]])
        count = errors.shape[-1]
        for channel in range(count):  # one in memory at a time
            self.squared += (errors[..., channel] ** 2).sum(0) / count
            self.absolute += np.abs(errors[..., channel]).sum(0) / count
            error = errors[..., channel][:, mask].ravel()
            bins = ((np.log(np.maximum(error**2, self.loss_edges[0])) - low) * (_BINS / (high - low))).astype(int)
            self.losses[channel] += np.bincount(np.minimum(bins, _BINS - 1), minlength=_BINS)
            if self.distances:
                continue
            value = images[..., channel][:, mask].ravel()
            seen, made = (np.clip((values * _BINS).astype(int), 0, _BINS - 1) for values in (value, value - error))
            self.pairs[channel] += np.bincount(seen * _BINS + made, minlength=_BINS**2).reshape(_BINS, _BINS)

    def merge(self, other: Summary) -> None:
        """Add the sums over other parts."""
        self._combine(other, 1)

    def subtract(self, other: Summary) -> None:
        """Take out the sums over parts that were added before. Float sums are exact to rounding only."""
        self._combine(other, -1)

    def as_arrays(self) -> dict[str, NDArray[Any]]:
        """The sums by name, to be stored."""
        return {name: getattr(self, name) for name in _SUMS} | {"parts": np.array(self.parts)}

    def load_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Replace the sums by stored ones.

        Raises:
            KeyError: A sum is missing.
            ValueError: A sum has another shape.
        """
        for name in _SUMS:
            if arrays[name].shape != getattr(self, name).shape:
                raise ValueError(f"{name} has shape {arrays[name].shape}")
        for name in _SUMS:
            getattr(self, name)[...] = arrays[name]
        self.parts = int(arrays["parts"])

    def _combine(self, other: Summary, sign: int) -> None:
        self.parts += sign * other.parts
        for name in _SUMS:
            getattr(self, name)[...] += sign * getattr(other, name)


def choose_cut(
    calibration: Calibration, rate: float, threshold: Threshold, *, loss_cut: float | Literal["auto"], log_loss: bool
) -> Cut:
    """The rule of the verdict: a numeric ``loss_cut`` takes precedence over ``threshold``."""
    if loss_cut != "auto":
        return Cut(float(loss_cut), "loss_cut", raw=True, log=log_loss)
    return Cut(*choose_threshold(calibration, rate, threshold))


def score_parts(
    inputs: InputSet,
    records: list[dict[str, Any]],
    model: ModelFamily,
    calibration: Calibration,
    *,
    mask: NDArray[np.bool_],
    cut: Cut,
    params: dict[str, Any],
    region_threshold: float,
    pixel_size_mm: float | None,
    to_input: list[NDArray[np.float64]],
    summary: Summary,
) -> Iterator[Scored]:
    """Score ``inputs`` (all of one type) in order, a few at a time.

    ``records``: a row a part, with ``width`` and ``height`` of its photograph. ``mask`` (h, w): the type's part, in its
    own input frame at the top left of the model's. ``to_input``: a 3x3 matrix a part, from its photograph's pixels.
    """
    height, width = mask.shape
    counted = error_weights(params)
    weights = np.array(list(counted.values()), np.float32)
    smoothing = params["map_smoothing"]
    variance = np.ascontiguousarray(calibration.variance[:height, :width])
    center = None if calibration.center is None else calibration.center[:height, :width]
    several = inputs.at_a_time(_ROWS)
    for rows in inputs.blocks(several):
        # Always as many at a time: how many are multiplied at once changes the last digits of a part's score.
        full = np.minimum(np.arange(rows.start, rows.start + several), len(inputs) - 1)
        errors = np.ascontiguousarray(model.error(inputs, full)[: rows.stop - rows.start, :height, :width])
        counting = errors if cut.raw else above(errors, center)
        if cut.raw:
            maps = raw_maps(_losses(errors, params), mask, weights, smoothing)
        else:
            maps = calibrated_maps(counting, variance, mask, weights, smoothing)
        summary.add(inputs.images(rows)[:, :height, :width], errors, maps, mask)
        scores = part_scores(maps)
        if cut.log:
            scores = np.log10(np.maximum(scores, 1e-12))
        p = np.full(len(scores), np.nan) if cut.raw else p_values(scores, calibration.scores, cut.method)
        for i, row in enumerate(range(rows.start, rows.stop)):
            regions = find_regions(
                maps[i],
                counting[i] ** 2 * weights / (1 if cut.raw else variance),
                tuple(counted),
                threshold=cut.on_map,
                low=region_threshold,
                photo_to_input=to_input[row],
                size=(records[row]["height"], records[row]["width"]),
                pixel_size_mm=pixel_size_mm,
            )
            failed = bool(scores[i] > cut.threshold)
            yield Scored(row, maps[i], float(scores[i]), None if cut.raw else float(p[i]), failed, regions)


def _losses(errors: NDArray[np.float32], params: dict[str, Any]) -> NDArray[np.float32]:
    """The raw loss (n, H, W, C) of errors; a distance is one already."""
    if params.get("gives_distance"):
        return errors
    from pixal.train_model.keras_training.losses import pointwise_loss

    return np.asarray(pointwise_loss(params["loss_function"], params["huber_delta"])(errors))
