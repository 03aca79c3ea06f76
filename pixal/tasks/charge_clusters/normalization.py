"""Normalise charges and labels. What normalisation needs is fitted on training events alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from pixal.errors import InputError
from pixal.tasks.charge_clusters.measures.centroid import CentroidFit, centroid, fit_centroid
from pixal.tasks.charge_clusters.measures.head_tail import HeadTailFit, fit_head_tail, head_tail
from pixal.tasks.charge_clusters.reading import Events
from pixal.tasks.charge_clusters.settings import Clusters

_SHIFT = 12  # bits of a float32 that a histogram drops: its bins are 1/2048 wide, relative to the value
_LABEL_PERCENTILE = 99
_ORIGIN_EVENTS = 20_000  # first training events, which ``Origin`` is fitted on

Pair = tuple[float, float]
Table = tuple[tuple[tuple[float, ...], ...], ...]


class Origin(BaseModel):
    """The position that x and y are measured from: a stored ``CentroidFit``, or ``HeadTailFit``.

    Attributes:
        pitch, offset, eta, places: See ``CentroidFit``.
        wide_weight, wide_offset: ``weight`` and ``offset`` of ``HeadTailFit``; None: the origin is the centroid.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pitch: Pair
    offset: Pair
    eta: Table
    places: Table
    wide_weight: tuple[tuple[float, ...], ...] | None
    wide_offset: tuple[tuple[float, ...], ...] | None

    @classmethod
    def fit(
        cls, charge: NDArray[np.float32], labels: NDArray[np.float32], *, pitch: Pair, use_head_tail: bool
    ) -> Origin:
        """Fit the position on events: charges (n, rows, columns, slices) and labels (n, 4)."""
        wide = fit_head_tail(charge, labels, pitch=pitch) if use_head_tail else None
        fit = fit_centroid(charge, labels, eta=True, pitch=pitch) if wide is None else wide.centroid
        numbers: dict[str, Any] = {"offset": fit.offset, "eta": fit.eta, "places": fit.places}
        numbers |= {"wide_weight": wide and wide.weight, "wide_offset": wide and wide.offset}
        rounded = {name: None if value is None else np.round(value, 6).tolist() for name, value in numbers.items()}
        return cls.model_validate({"pitch": pitch, **rounded})

    def positions(self, charge: NDArray[np.float32]) -> NDArray[np.float64]:
        """The positions of clusters with charges (n, rows, columns, slices) in µm, (n, 2)."""
        fit = CentroidFit(self.pitch, np.array(self.offset), np.array(self.eta), np.array(self.places))
        if self.wide_weight is None:
            return centroid(charge, fit)
        return head_tail(charge, HeadTailFit(fit, np.array(self.wide_weight), np.array(self.wide_offset)))


class Normalization(BaseModel):
    """How charges and labels become the network's input and targets.

    Attributes:
        logarithm: Whether charges are replaced by sign(q) log2(1 + |q|).
        mean: Mean of the nonzero values; 0 without ``standardize``.
        deviation: Standard deviation of the nonzero values; 1 without ``standardize``.
        positive: For each slice the value, less the mean and divided by the deviation, that becomes 1.
        negative: The same below 0: its absolute value becomes -1.
        thresholds: Digitise instead: the charges in electrons of the steps.
        bits: Round to this many bits; None: do not round.
        label_scale: What the four labels are divided by.
        origin: What x and y are measured from; None: the middle of the sensor.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    logarithm: bool
    mean: float
    deviation: float
    positive: tuple[float, ...]
    negative: tuple[float, ...]
    thresholds: tuple[float, ...] | None
    bits: int | None
    label_scale: tuple[float, float, float, float]
    origin: Origin | None = None

    def charge(self, raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """The network's input for charges in electrons (n, rows, columns, slices), of the same shape.

        Zeros stay 0; all values are in [-1, 1].
        """
        if self.thresholds is not None:
            return _digitised(raw, self.thresholds)
        result = np.zeros(raw.size, np.float32)
        places = np.flatnonzero(raw)
        values = raw.ravel()[places]
        values = (_transformed(values, self.logarithm) - np.float32(self.mean)) / np.float32(self.deviation)
        slices = places % raw.shape[-1]
        positive, negative = (np.array(scales, np.float32)[slices] for scales in (self.positive, self.negative))
        values /= np.where(values > 0, positive, negative)
        values = np.clip(values, -1, 1)
        if self.bits is not None:
            steps = 2 ** (self.bits - 1)
            values = np.clip(np.round(values * steps), -steps, steps - 1) / steps
        result[places] = values
        return result.reshape(raw.shape)

    def labels(self, labels: NDArray[np.float32], raw: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scaled labels (n, 4) of events with the charges ``raw`` in electrons."""
        return np.asarray((labels - self._origins(raw)) / np.asarray(self.label_scale), np.float32)

    def targets(self, scaled: NDArray[np.float32], raw: NDArray[np.float32]) -> NDArray[np.float64]:
        """The inverse of ``labels``, (n, 4)."""
        return np.asarray(scaled * np.asarray(self.label_scale) + self._origins(raw))

    def _origins(self, raw: NDArray[np.float32]) -> NDArray[np.float64]:
        """What the four labels are measured from, (n, 4)."""
        origins = np.zeros((len(raw), 4))
        if self.origin is not None:
            origins[:, :2] = self.origin.positions(_readable(raw, self.thresholds))
        return origins


class NormalizationFit:
    """Collects what ``Normalization`` needs, some events at a time, in memory that does not grow.

    Percentiles come from histograms with bins of 1/2048 of the value.
    """

    def __init__(self, settings: Clusters) -> None:
        self._settings = settings
        self._count, self._sum, self._squares = 0, 0.0, 0.0
        self._values = [_Histogram() for _ in settings.used_slices]
        self._labels = [_Histogram() for _ in range(4)]
        self._first: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []  # charges of the last slice, labels

    def add(self, events: Events) -> None:
        """Add training events."""
        for index, histogram in enumerate(self._values):
            charge = events.charge[..., index]
            values = _transformed(charge[charge != 0], self._settings.logarithm)
            self._count += len(values)
            self._sum += float(values.sum(dtype=np.float64))
            self._squares += float(np.square(values, dtype=np.float64).sum())
            histogram.add(values)
        for histogram, labels in zip(self._labels, np.abs(events.labels).T, strict=True):
            histogram.add(labels)
        missing = _ORIGIN_EVENTS - sum(len(labels) for _, labels in self._first)
        if missing > 0:
            self._first.append((events.charge[:missing, ..., -1:].copy(), events.labels[:missing]))

    def result(self) -> Normalization:
        """The normalisation. Raise ``InputError`` if all charges are equal or 0."""
        settings = self._settings
        mean = self._sum / max(self._count, 1)
        deviation = float(np.sqrt(max(0.0, self._squares / max(self._count, 1) - mean**2)))
        if not deviation:
            raise InputError("the charges of the training events are all equal; nothing can be learned from them")
        if not settings.standardize:
            mean, deviation = 0.0, 1.0
        histograms = self._values if settings.scale_slices else [_sum_of(self._values)] * len(self._values)
        percent = settings.clip_percentile
        high = [histogram.percentile(percent, above=mean) for histogram in histograms]
        # Without a mean, negative charge is noise, which a percentile of its own would make as large as the signal.
        low = [histogram.percentile(100 - percent, below=mean) for histogram in histograms]
        if not settings.standardize:
            low = [-value for value in high]
        scales = settings.label_scales
        if scales == "auto":
            scales = [histogram.percentile(_LABEL_PERCENTILE) or 1.0 for histogram in self._labels]
        x, y, cot_alpha, cot_beta = scales
        origin = None
        if settings.origin != "sensor":
            origin, (x, y) = self._origin()
        return Normalization(
            logarithm=settings.logarithm,
            mean=mean,
            deviation=deviation,
            positive=tuple(max((value - mean) / deviation, 1e-6) for value in high),
            negative=tuple(max((mean - value) / deviation, 1e-6) for value in low),
            thresholds=None if settings.thresholds is None else tuple(settings.thresholds),
            bits=settings.bits,
            label_scale=(x, y, cot_alpha, cot_beta),
            origin=origin,
        )

    def _origin(self) -> tuple[Origin, Pair]:
        """The fitted position, and the 99th percentiles of the distances of x and y from it."""
        settings = self._settings
        charge, labels = (np.concatenate(parts) for parts in zip(*self._first, strict=True))
        charge = _readable(charge, settings.thresholds)
        x, y = settings.pitch
        origin = Origin.fit(charge, labels, pitch=(x, y), use_head_tail=settings.origin == "head_tail")
        distances = np.percentile(np.abs(labels[:, :2] - origin.positions(charge)), _LABEL_PERCENTILE, axis=0)
        x, y = np.where(distances > 0, distances, 1.0).tolist()
        return origin, (x, y)


class _Histogram:
    """Counts of float32 values, in bins that the leading bits of a value name.

    Attributes:
        counts: (2^20,).
    """

    def __init__(self) -> None:
        self.counts = np.zeros(2 ** (32 - _SHIFT), np.int64)

    def add(self, values: NDArray[np.float32]) -> None:
        bits = np.ascontiguousarray(values, np.float32).view(np.uint32) >> np.uint32(_SHIFT)
        self.counts += np.bincount(bits, minlength=len(self.counts))

    def percentile(self, percent: float, *, above: float = -np.inf, below: float = np.inf) -> float:
        """The percentile of the values between two limits; 0 without values."""
        used = np.flatnonzero(self.counts)
        values = ((used.astype(np.uint32) << np.uint32(_SHIFT)) | np.uint32(2 ** (_SHIFT - 1))).view(np.float32)
        inside = (values > above) & (values < below)
        order = np.argsort(values[inside])
        values, counts = values[inside][order], self.counts[used[inside]][order]
        if not len(values):
            return 0.0
        place = min(np.searchsorted(np.cumsum(counts), percent / 100 * counts.sum()), len(values) - 1)
        return float(values[place])


def _sum_of(histograms: Sequence[_Histogram]) -> _Histogram:
    """The histogram of the values of all."""
    total = _Histogram()
    for histogram in histograms:
        total.counts += histogram.counts
    return total


def _readable(raw: NDArray[np.float32], thresholds: Sequence[float] | None) -> NDArray[np.float32]:
    """The charges that the readout tells: with ``thresholds`` their steps alone."""
    return raw if thresholds is None else _digitised(raw, thresholds)


def _digitised(raw: NDArray[np.float32], thresholds: Sequence[float]) -> NDArray[np.float32]:
    """How many thresholds each charge reaches, over their number."""
    steps = np.searchsorted(thresholds, raw.ravel(), side="right").reshape(raw.shape)
    return np.asarray(steps / len(thresholds), np.float32)


def _transformed(values: NDArray[np.float32], logarithm: bool) -> NDArray[Any]:
    return np.asarray(np.sign(values) * np.log2(1 + np.abs(values)), np.float32) if logarithm else values
