"""A silicon pixel sensor: the charge that straight tracks leave on its pixels, with the exact truth.

The model is a simple one: energy loss with a Landau-like tail, drift in a constant field with a Lorentz angle,
diffusion, a first-order rise of the signal, noise and a threshold. It has closed forms for the mean charge, the shift
and the width, and is meant for demonstrations and tests, not for the design of a sensor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy import special

_MOYAL_MEAN = float(np.euler_gamma + np.log(2))
_CHUNK = 250  # tracks computed at a time, so that arrays fit in the cache; each chunk has random numbers of its own


@dataclass(frozen=True)
class Sensor:
    """A sensor and its readout. Lengths are in µm, times in ns, charges in electrons.

    Attributes:
        rows: Pixels along y.
        columns: Pixels along x.
        pitch_x: Size of a pixel along x.
        pitch_y: Size of a pixel along y.
        thickness: Thickness of the silicon.
        pairs: Mean number of electron-hole pairs per µm of the track.
        fluctuation: Scale of the Moyal distribution of the charge of a step, relative to its mean; 0: no fluctuation.
        lorentz: Tangent of the Lorentz angle. Charge shifts along +y by this times its drift length.
        diffusion: Standard deviation of the charge cloud after the drift through the whole thickness.
        velocity: Drift velocity in µm/ns.
        rise: Time constant with which the signal of arrived charge rises.
        slices: Number of time slices.
        slice_time: Time between two slices.
        noise: Standard deviation of the noise of a pixel in a slice.
        threshold: A smaller absolute charge of a pixel in a slice is read as 0.
        steps: Number of steps of equal depth that a track is divided into.
        largest: The largest absolute x, y (µm), cotAlpha and cotBeta of the tracks, which are uniform.
    """

    rows: int = 13
    columns: int = 21
    pitch_x: float = 50.0
    pitch_y: float = 12.5
    thickness: float = 100.0
    pairs: float = 80.0
    fluctuation: float = 0.2
    lorentz: float = 0.1
    diffusion: float = 3.5
    velocity: float = 50.0
    rise: float = 0.15
    slices: int = 20
    slice_time: float = 0.2
    noise: float = 60.0
    threshold: float = 250.0
    steps: int = 25
    largest: tuple[float, float, float, float] = (75.0, 18.75, 8.0, 0.5)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of a cluster: rows, columns, slices."""
        return self.rows, self.columns, self.slices

    @property
    def depths(self) -> NDArray[np.float32]:
        """The depth z of each step, (steps,), from the middle of the sensor; charge is collected at +thickness/2."""
        return np.asarray((np.arange(self.steps) + 0.5) / self.steps * self.thickness - self.thickness / 2, np.float32)

    def without_fluctuations(self) -> Sensor:
        """The same sensor with the mean charge at each step, no noise and no threshold."""
        return replace(self, fluctuation=0.0, noise=0.0, threshold=0.0)


@dataclass(frozen=True)
class Clusters:
    """Simulated clusters.

    Attributes:
        charge: Charge in electrons, cumulative over the slices, (n, rows, columns, slices) float32.
        labels: x and y at the middle of the sensor (µm), cotAlpha, cotBeta, (n, 4) float32.
    """

    charge: NDArray[np.float32]
    labels: NDArray[np.float32]


def simulate(count: int, *, seed: int, sensor: Sensor | None = None) -> Clusters:
    """Simulate ``count`` tracks. The same arguments give the same clusters.

    Args:
        count: Number of tracks.
        seed: Seed of all random numbers.
        sensor: The sensor; None: the default one.
    """
    used = sensor or Sensor()
    charge = np.empty((count, *used.shape), np.float32)
    labels = np.empty((count, 4), np.float32)
    start = 0
    for part in simulate_chunks(count, seed=seed, sensor=used):
        stop = start + len(part.labels)
        charge[start:stop], labels[start:stop] = part.charge, part.labels
        start = stop
    return Clusters(charge, labels)


def simulate_chunks(count: int, *, seed: int, sensor: Sensor | None = None) -> Iterator[Clusters]:
    """Yield the clusters of ``simulate`` a few hundred at a time, computed by all processors."""
    used = sensor or Sensor()

    def make(chunk: int, size: int) -> Clusters:
        generator = np.random.default_rng((seed, chunk))
        labels = _draw_tracks(size, generator, used)
        return Clusters(respond(labels, generator, used), labels)

    sizes = (min(_CHUNK, count - start) for start in range(0, count, _CHUNK))
    workers = Parallel(n_jobs=-1, prefer="threads", return_as="generator")  # NumPy works without the interpreter's lock
    yield from workers(delayed(make)(chunk, size) for chunk, size in enumerate(sizes))


def respond(
    labels: NDArray[np.float32], generator: np.random.Generator, sensor: Sensor | None = None
) -> NDArray[np.float32]:
    """The charge that given tracks leave on the pixels.

    With ``sensor.without_fluctuations()`` this is the mean charge, without any random number.

    Args:
        labels: x and y at the middle of the sensor (µm), cotAlpha, cotBeta, (n, 4).
        generator: Gives the random numbers.
        sensor: The sensor; None: the default one.

    Returns:
        Charge in electrons, (n, rows, columns, slices) float32.
    """
    used = sensor or Sensor()
    shares_x, shares_y = _shares_of_steps(labels, used)
    freed = _freed_charge(labels, generator, used)
    collected = shares_x[..., None] * _rise(used)[:, None, :]  # (n, steps, columns, slices)
    rows = (freed[..., None] * shares_y).transpose(0, 2, 1)
    charge = (rows @ collected.reshape(len(labels), used.steps, -1)).reshape(-1, *used.shape)
    if used.noise:
        charge += np.float32(used.noise) * generator.standard_normal(charge.shape, np.float32)
    if used.threshold:
        charge[np.abs(charge) < used.threshold] = 0
    return np.asarray(charge, np.float32)


def _draw_tracks(count: int, generator: np.random.Generator, sensor: Sensor) -> NDArray[np.float32]:
    return (generator.random((count, 4), np.float32) * 2 - 1) * np.asarray(sensor.largest, np.float32)


def step_charge(labels: NDArray[np.float32], sensor: Sensor, slices: Sequence[int]) -> NDArray[np.float64]:
    """The mean charge in electrons that each step of given tracks leaves, without noise and threshold.

    Args:
        labels: As of ``respond``.
        sensor: The sensor.
        slices: The slices, counted from 0.

    Returns:
        (n, steps, P), where P goes over rows, columns and ``slices``.
    """
    shares_x, shares_y = _shares_of_steps(labels, sensor)
    freed = _mean_freed_charge(labels, sensor)
    rise = _rise(sensor)[:, list(slices)]
    charge = np.einsum("ns,nsr,nsc,st->nsrct", freed, shares_y, shares_x, rise, dtype=np.float64)
    return np.asarray(charge.reshape(len(labels), sensor.steps, -1))


def _shares_of_steps(labels: NDArray[np.float32], sensor: Sensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The shares of the charge of each step on each column and on each row: (n, steps, columns), (n, steps, rows)."""
    x, y, cot_alpha, cot_beta = (np.asarray(values, np.float32)[:, None] for values in labels.T)
    depth, step, drift = sensor.depths, sensor.thickness / sensor.steps, _drift(sensor)
    variance = sensor.diffusion**2 * drift / sensor.thickness
    # The track is inclined: a step is not a point. It gets the variance of a uniform distribution over its length.
    variance_x, variance_y = (variance + (slope * step) ** 2 / 12 for slope in (cot_alpha, cot_beta))
    along_y = y + cot_beta * depth + sensor.lorentz * drift
    return (
        _shares(x + cot_alpha * depth, variance_x, sensor.columns, sensor.pitch_x),
        _shares(along_y, variance_y, sensor.rows, sensor.pitch_y),
    )


def _drift(sensor: Sensor) -> NDArray[np.float32]:
    """The drift length of each step, (steps,)."""
    return sensor.thickness / 2 - sensor.depths


def _mean_freed_charge(labels: NDArray[np.float32], sensor: Sensor) -> NDArray[np.float32]:
    """The mean number of electrons freed in each step, (n, steps)."""
    slopes = np.asarray(labels[:, 2:4], np.float32)
    length = sensor.thickness / sensor.steps * np.sqrt(1 + np.square(slopes).sum(axis=1, keepdims=True))
    return np.asarray(np.repeat(sensor.pairs * length, sensor.steps, axis=1), np.float32)


def _freed_charge(labels: NDArray[np.float32], generator: np.random.Generator, sensor: Sensor) -> NDArray[np.float32]:
    """Electrons freed in each step, (n, steps).

    They have Moyal's distribution, which is that of minus the logarithm of a squared normal number.

    Source: J. E. Moyal, Phil. Mag. 46 (1955) 263, an approximation of Landau's distribution.
    """
    mean = _mean_freed_charge(labels, sensor)
    if not sensor.fluctuation:
        return mean
    normal = generator.standard_normal(mean.shape, np.float32)
    moyal = -np.log(np.maximum(normal**2, np.float32(1e-30)))
    return np.asarray(mean * np.maximum(0, 1 + sensor.fluctuation * (moyal - _MOYAL_MEAN)), np.float32)


def _shares(centre: NDArray[Any], variance: NDArray[Any], count: int, pitch: float) -> NDArray[np.float32]:
    """The share of a normal charge cloud on each of ``count`` pixels in a line: (n, steps, count) of (n, steps)."""
    edges = np.asarray((np.arange(count + 1) - count / 2) * pitch, np.float32)
    below = special.ndtr((edges - centre[..., None]) / np.sqrt(variance)[..., None])
    return np.asarray(np.diff(below, axis=-1), np.float32)


def _rise(sensor: Sensor) -> NDArray[np.float32]:
    """The share of a step's charge that each slice shows, (steps, slices). Slice k is read at (k + 1) slice times."""
    times = np.arange(1, sensor.slices + 1) * sensor.slice_time
    waited = np.maximum(0, times - _drift(sensor)[:, None] / sensor.velocity)
    return np.asarray(-np.expm1(-waited / sensor.rise), np.float32)
