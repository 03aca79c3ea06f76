"""Tests of the plate under a part and of the lit disc of a microscope, against the values they were drawn with."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from pixal.tasks.photographs.foreground.lit_disc import find_lit_disc
from pixal.tasks.photographs.foreground.plate import Plate, fit_shading, propose_plates

HEIGHT, WIDTH = 135, 240
Y, X = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
Floats = NDArray[np.float32]


def noise(scale: float, *shape: int) -> Floats:
    return np.asarray(scale * np.random.default_rng(0).standard_normal(shape), np.float32)


def lightness(centre: tuple[float, float], radii: tuple[float, float], turn: float = 0) -> Floats:
    """Return the CIELAB lightness of a lit disc in the dark."""
    x, y = X - centre[0], Y - centre[1]
    along, across = np.cos(turn) * x + np.sin(turn) * y, np.cos(turn) * y - np.sin(turn) * x
    distance = (np.hypot(along / radii[0], across / radii[1]) - 1) * np.mean(radii)
    return np.asarray(2 + 60 * np.clip(0.5 - distance, 0, 1), np.float32) + noise(0.4, HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("centre", "radii", "turn", "whole"),
    [
        ((120, 67), (60, 60), 0, True),
        ((100, 70), (55, 55), 0, True),
        ((120, 66), (80, 80), 0, False),
        ((125, 100), (70, 70), 0, False),
        ((120, 67), (85, 60), 0.3, True),
        ((120, 67), (100, 70), 0, False),
    ],
)
@pytest.mark.parametrize("hidden", [0, 40])
def test_a_lit_disc_is_found(
    centre: tuple[float, float], radii: tuple[float, float], turn: float, whole: bool, hidden: int
) -> None:
    light = lightness(centre, radii, turn)
    light[40 : 40 + hidden, :110] = 40  # a part over the rim, on the left
    disc = find_lit_disc(light)
    assert disc is not None
    assert disc.is_whole == whole
    x, y = X.ravel()[::7], Y.ravel()[::7]
    true = light.ravel()[::7] > 32
    distance = disc.distance_outside(x, y)
    clear = (np.abs(distance) > 1.5) & ~((y >= 40) & (y < 40 + hidden) & (x < 110))
    assert np.array_equal(distance[clear] < 0, true[clear])


def test_points_around_a_lit_disc_have_the_requested_distance() -> None:
    disc = find_lit_disc(lightness((120, 67), (85, 60), 0.3))
    assert disc is not None
    steps = np.linspace(-5, 5, 11)
    points = disc.points_around(steps).astype(np.float32)
    assert np.abs(disc.distance_outside(points[..., 0], points[..., 1]) - steps).max() < 1e-3


@pytest.mark.parametrize(
    "light",
    [
        np.full((HEIGHT, WIDTH), 50, np.float32),
        np.full((HEIGHT, WIDTH), 2, np.float32),
        lightness((120, 67), (60, 60)) + 12,
        lightness((120, 67), (30, 30)),
        np.where((np.abs(X - 120) < 80) & (np.abs(Y - 67) < 50), 60, 2).astype(np.float32),
        np.where(np.abs(X - Y) < 30, 60, 2).astype(np.float32),
    ],
    ids=["all lit", "dark", "no black surround", "small", "oblong", "stripe"],
)
def test_other_photographs_have_no_lit_disc(light: Floats) -> None:
    assert find_lit_disc(light) is None


def test_shading_is_the_least_squares_quadratic() -> None:
    rng = np.random.default_rng(1)
    y, x = np.meshgrid(np.linspace(-1, 1, 20), np.linspace(-1, 1, 30), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], -1)
    surface = terms @ rng.uniform(-30, 30, (6, 3))
    counts = rng.integers(0, 17, (20, 30, 1)) * (np.hypot(x, y) > 0.5)[..., None]
    shading = fit_shading(np.dstack([surface * counts, counts]).astype(np.float32))
    rows = np.sqrt(counts).reshape(-1, 1)
    expected, *_ = np.linalg.lstsq(terms.reshape(-1, 6) * rows, surface.reshape(-1, 3) * rows, rcond=None)
    assert np.abs(terms @ expected - surface).max() < 1e-6
    assert np.abs(shading - surface).max() < 0.1 * np.ptp(surface)  # the ridge makes it slightly flatter


def only_plate(lab: Floats) -> Plate:
    (plate,) = propose_plates(lab, np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    return plate


def test_the_plate_under_a_part_has_the_shading_around_it() -> None:
    radius = np.hypot(X - 100, Y - 70) / 130
    plate = np.stack([80 * (1 - 0.6 * radius**2), 10 - 5 * X / WIDTH, 8 * Y / HEIGHT], -1).astype(np.float32)
    lab = plate + noise(0.5, HEIGHT, WIDTH, 3)
    lab[40:95, 60:180] = (30, -40, 30)
    (colour,) = only_plate(lab).colours
    assert np.abs(colour - plate).mean() < 0.5
    assert np.abs(colour - plate)[50:85, 70:170].max() < 4
    assert only_plate(lab).grain == pytest.approx(0.5 * np.sqrt(2.37), rel=0.15)  # the median of chi square, 3 degrees


def test_each_surface_has_a_colour() -> None:
    lab = np.where((X < 80)[..., None], np.array([40, 20, -50], np.float32), np.array([85, 0, 5], np.float32)) + noise(
        0.5, HEIGHT, WIDTH, 3
    )
    lab[50:90, 60:180] = (30, -40, 30)
    plate = only_plate(lab)
    assert sorted(round(float(colour[..., 0].mean())) for colour in plate.colours) == [40, 85]
    assert plate.distance(lab)[50:90, 60:180].min() > 40
    assert np.median(plate.distance(lab)) < 1.5


def test_the_distance_at_points_is_the_distance_at_their_pixels() -> None:
    lab = np.array([60, 10, 10], np.float32) + noise(3, HEIGHT, WIDTH, 3)
    plate = only_plate(lab)
    x, y = X[::9, ::9].ravel(), Y[::9, ::9].ravel()
    distance = plate.distance(lab[::9, ::9].reshape(-1, 3), (x + 0.3, y - 0.2))
    assert np.array_equal(distance, plate.distance(lab)[::9, ::9].ravel())
