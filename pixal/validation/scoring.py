"""Score the parts of a type: anomaly maps, scores, p-values, verdicts and regions, and the sums for the figures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pixal.calibration.calibration import Calibration
from pixal.calibration.maps import above, calibrated_maps, part_scores, raw_maps
from pixal.calibration.settings import Threshold
from pixal.calibration.thresholds import choose_threshold, p_values
from pixal.inputs import InputSet
from pixal.train_model.prediction import Predictor
from pixal.train_model.specification import ModelSpecification
from pixal.validation.loss_cut import log_losses, raw_losses
from pixal.validation.regions import Region, find_regions

_MAX_ROWS = 4  # parts in memory at a time
_BINS = 100
_LARGEST_ON_MAP = 1e38  # a float32 in the units of a map
_SUMS = ("squared", "absolute", "anomaly", "losses", "pairs")  # the arrays of a ``Summary``
_LOSS_RANGE = (1e-8, 1.0)  # of a squared error; inputs lie in [0, 1]
_DISTANCE_RANGE = (1e-6, 1e6)  # of a squared distance between features


@dataclass(frozen=True)
class Cut:
    """The rule of a verdict: a part fails if its score is above the threshold.

    Attributes:
        threshold: The threshold on the score.
        method: The method that gave the threshold, as ``choose_threshold`` names it, or "loss_cut".
        raw: Whether the score is the loss without calibration (a numeric ``loss_cut``).
        log: Whether the score is the decimal logarithm of that loss.
        good_parts: Number of held-out good parts whose scores p-values come from.
    """

    threshold: float
    method: str
    raw: bool = False
    log: bool = False
    good_parts: int = 0

    def is_extrapolated(self, p_value: float | None) -> bool:
        """Whether a p-value is smaller than ranks among the good parts can give, and comes from a fitted tail."""
        return p_value is not None and p_value * (self.good_parts + 1) < 1 - 1e-9

    @property
    def on_map(self) -> float:
        """The threshold in the units of the anomaly map."""
        if self.log:
            return float(10 ** min(self.threshold, math.log10(_LARGEST_ON_MAP)))
        return min(self.threshold, _LARGEST_ON_MAP)


@dataclass(frozen=True)
class PartGeometry:
    """The geometry of a part on its photograph.

    Attributes:
        size: Height and width of the photograph, pixels.
        photo_to_input: The 3x3 homography from the photograph's pixels (x, y) to the model's input.
    """

    size: tuple[int, int]
    photo_to_input: NDArray[np.float64]


@dataclass(frozen=True)
class Prediction:
    """The prediction for a part.

    Attributes:
        map: The anomaly map in the type's input frame, (h, w) float32.
        score: The score; a part fails if it is above ``Cut.threshold``.
        p_value: How often a good part would score this high, in (0, 1]; None for a score that is not calibrated.
        failed: Whether the verdict is "fail".
        regions: The regions above ``Cut.on_map``, the region with the largest peak first.
    """

    map: NDArray[np.float32]
    score: float
    p_value: float | None
    failed: bool
    regions: tuple[Region, ...]


@dataclass
class Summary:
    """Sums over the parts of a type, for the figures.

    Attributes:
        shape: The shape (H, W, C) of the errors: input minus reconstruction, or distances of a model without
            reconstructions.
        distances: Whether the errors are distances. Then there is no reconstruction, and ``pairs`` has no channel.
        parts: The number of parts.
        squared: (H, W), squared error, mean over the channels.
        absolute: (H, W), absolute error, mean over the channels.
        anomaly: (H, W), anomaly map.
        losses: (C, B), histogram of the squared error of the part's pixels, in B = 100 bins.
        pairs: (C, B, B), histogram of input value and reconstructed value of the part's pixels.
        loss_edges: (B + 1,), the edges of the bins of ``losses``.
        value_edges: (B + 1,), the edges of the bins of ``pairs``.
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
        """Set all sums to zero."""
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
        """Add parts.

        Args:
            images: The inputs, (n, H, W, C).
            errors: The errors, (n, H, W, C).
            maps: The anomaly maps, (n, H, W).
            mask: The pixels of the part, (H, W).
        """
        self.parts += len(images)
        self.anomaly += maps.sum(0)
        low, high = np.log(self.loss_edges[[0, -1]])
        count, inside = errors.shape[-1], np.flatnonzero(mask)
        for channel in range(count):  # one channel in memory at a time
            plane = np.ascontiguousarray(errors[..., channel])
            self.squared += (plane**2).sum(0) / count
            self.absolute += np.abs(plane).sum(0) / count
            error = _take(plane, inside)
            bins = ((np.log(np.maximum(error**2, self.loss_edges[0])) - low) * (_BINS / (high - low))).astype(int)
            self.losses[channel] += np.bincount(np.minimum(bins, _BINS - 1), minlength=_BINS)
            if self.distances:
                continue
            value = _take(images[..., channel], inside)
            inputs, reconstructed = (
                np.clip((values * _BINS).astype(int), 0, _BINS - 1) for values in (value, value - error)
            )
            self.pairs[channel] += np.bincount(inputs * _BINS + reconstructed, minlength=_BINS**2).reshape(_BINS, _BINS)

    def merge(self, other: Summary) -> None:
        """Add the sums over other parts."""
        self._combine(other, 1)

    def subtract(self, other: Summary) -> None:
        """Remove the sums over parts that were added before. Means are exact to rounding, histograms are exact."""
        self._combine(other, -1)
        for values in (self.squared, self.absolute, self.anomaly):
            np.maximum(values, 0, out=values)  # rounding can leave a small negative sum

    def as_arrays(self) -> dict[str, NDArray[Any]]:
        """Return the sums by name, for storage."""
        return {name: getattr(self, name) for name in _SUMS} | {"parts": np.array(self.parts)}

    def load_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Replace the sums by stored sums.

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


def _take(planes: NDArray[np.float32], pixels: NDArray[np.intp]) -> NDArray[np.float32]:
    """The values of planes (n, H, W) at some pixels (flat indices), one plane after the other."""
    return np.take(planes.reshape(len(planes), -1), pixels, axis=1).ravel()


def choose_cut(
    calibration: Calibration, rate: float, threshold: Threshold, *, loss_cut: float | Literal["auto"], log_loss: bool
) -> Cut:
    """Choose the rule of the verdict; a numeric ``loss_cut`` takes precedence over ``threshold``.

    Args:
        calibration: The calibration of the type.
        rate: The false-alarm rate, in (0, 1).
        threshold: How the threshold is set.
        loss_cut: A threshold on the loss without calibration, or "auto".
        log_loss: Whether ``loss_cut`` is the decimal logarithm of the loss.
    """
    if loss_cut != "auto":
        return Cut(float(loss_cut), "loss_cut", raw=True, log=log_loss)
    good_parts = 0 if calibration.stand_ins else len(calibration.scores)
    return Cut(*choose_threshold(calibration, rate, threshold), good_parts=good_parts)


def model_errors(model: Predictor, inputs: InputSet, rows: slice, count: int) -> NDArray[np.float32]:
    """Return the errors (n, H, W, C) of rows. The model always gets ``count`` rows: the last row is repeated.

    The number of rows that are multiplied together changes the last digits of a score, unless rows are independent.
    """
    if model.rows_are_independent:
        return model.error(inputs, rows)
    padded = np.minimum(np.arange(rows.start, rows.start + count), len(inputs) - 1)
    return model.error(inputs, padded)[: rows.stop - rows.start]


def anomaly_maps(
    errors: NDArray[np.float32],
    calibration: Calibration,
    *,
    mask: NDArray[np.bool_],
    specification: ModelSpecification,
    map_smoothing: float,
    raw: bool,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return what deviates on parts of one type, and their anomaly maps.

    Args:
        errors: The errors of the model, (n, h, w, C), in the type's input frame.
        calibration: The calibration of the type.
        mask: (h, w), the pixels of the part in the type's input frame. This frame is the top left of the model's
            frame (H, W).
        specification: What the model was built from.
        map_smoothing: Sigma of the Gaussian that smooths the map, in input pixels.
        raw: Whether the maps show the loss without calibration (``Cut.raw``).

    Returns:
        The deviations, (n, h, w, C), and the maps, (n, h, w). They may be infinite where the errors are very large.
    """
    height, width = mask.shape
    weights = np.array(list(specification.error_weights.values()), np.float32)
    errors = np.ascontiguousarray(errors)
    with np.errstate(over="ignore", invalid="ignore"):  # the scores show it
        if raw:
            return errors, raw_maps(raw_losses(errors, specification), mask, weights, map_smoothing)
        center = None if calibration.center is None else calibration.center[:height, :width]
        variance = np.ascontiguousarray(calibration.variance[:height, :width])
        deviations = above(errors, center)
        maps = calibrated_maps(deviations, variance, mask, weights, map_smoothing)
        if calibration.gain is not None:
            maps *= calibration.gain[:height, :width]
        return deviations, maps


def score_parts(
    inputs: InputSet,
    geometries: Sequence[PartGeometry],
    model: Predictor,
    calibration: Calibration,
    *,
    mask: NDArray[np.bool_],
    cut: Cut,
    specification: ModelSpecification,
    map_smoothing: float,
    region_threshold: float,
    pixel_size_mm: float | None,
    summary: Summary,
) -> Iterator[Prediction | None]:
    """Score parts of one type.

    Args:
        inputs: The inputs of the N parts.
        geometries: The geometry of each part, in the same order.
        model: The trained model.
        calibration: The calibration of the type.
        mask: (h, w), the pixels of the part in the type's input frame. This frame is the top left of the model's
            frame (H, W).
        cut: The rule of the verdict.
        specification: What the model was built from.
        map_smoothing: Sigma of the Gaussian that smooths the map, in input pixels.
        region_threshold: Where a region ends, as a share of the threshold.
        pixel_size_mm: The size of a photograph's pixel in millimetres; None if not known.
        summary: The sums to which the parts are added.

    Yields:
        One prediction per part, in the same order; None for a part whose score is not finite. A few parts are in
        memory at a time.
    """
    height, width = mask.shape
    channel_weights = specification.error_weights
    weights = np.array(list(channel_weights.values()), np.float32)
    variance = np.ascontiguousarray(calibration.variance[:height, :width])
    chunk = inputs.rows_per_chunk(_MAX_ROWS)
    for rows in inputs.iterate_slices(chunk):
        errors = model_errors(model, inputs, rows, chunk)[:, :height, :width]
        deviations, maps = anomaly_maps(
            errors, calibration, mask=mask, specification=specification, map_smoothing=map_smoothing, raw=cut.raw
        )
        scores = part_scores(maps)
        finite = np.isfinite(scores)
        if specification.gives_distance and specification.difference_channels:
            errors = model.difference(inputs, rows)[:, :height, :width]
        summary.add(inputs.images(rows)[finite, :height, :width], errors[finite], maps[finite], mask)
        if cut.log:
            scores = log_losses(scores)
        p = np.full(len(scores), np.nan) if cut.raw else p_values(scores, calibration.scores, cut.method)
        for i, (geometry, anomaly_map) in enumerate(zip(geometries[rows], maps, strict=True)):
            if not finite[i]:
                yield None
                continue
            regions = find_regions(
                anomaly_map,
                deviations[i] ** 2 * weights / (1 if cut.raw else variance),
                tuple(channel_weights),
                threshold=cut.on_map,
                low=region_threshold,
                photo_to_input=geometry.photo_to_input,
                size=geometry.size,
                pixel_size_mm=pixel_size_mm,
            )
            p_value = None if cut.raw else float(p[i])
            yield Prediction(anomaly_map, float(scores[i]), p_value, bool(scores[i] > cut.threshold), tuple(regions))
