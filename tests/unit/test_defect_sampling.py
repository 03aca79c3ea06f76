"""Sampling: places of planted defects are where their kind occurs, and evenly spread."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import cv2
import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform

from pixal.defects import plant, sample_defects
from pixal.defects.sampling import _hilbert_index
from pixal.errors import ConfigError, InputError
from pixal.registry import DEFECTS
from pixal.synthetic import draw_component

IMAGE, MASK = draw_component("front", (640, 360))
PART = MASK > 0


def points_of(defects: list) -> np.ndarray:
    return np.array([defect.place for defect in defects])


def test_the_order_of_pixels_is_a_hilbert_curve() -> None:
    y, x = (grid.ravel() for grid in np.mgrid[0:16, 0:16])
    index = _hilbert_index(x, y)
    assert sorted(index) == list(range(256))
    order = np.argsort(index)
    steps = [abs(x[a] - x[b]) + abs(y[a] - y[b]) for a, b in pairwise(order)]
    assert set(steps) == {1}


def test_every_kind_size_and_contrast_occurs_equally_often() -> None:
    defects = sample_defects(
        PART, ["scratch", "bite", "missing_print"], [2, 5], [-0.2, 0.2, 0.4], places=4, seed=1, image=IMAGE
    )
    counts = Counter((d.kind, d.size, d.contrast) for d in defects)
    assert set(counts.values()) == {4}
    signed = [("scratch", size, contrast) for size in (2, 5) for contrast in (-0.2, 0.2, 0.4)]
    unsigned = [(kind, size, c) for kind in ("bite", "missing_print") for size in (2, 5) for c in (0.2, 0.4)]
    assert set(counts) == {*signed, *unsigned}
    assert len({d.seed for d in defects}) == len({d.place for d in defects}) == len(defects)
    angles = np.array([d.orientation for d in defects])
    assert angles.min() < 60
    assert angles.max() > 300


def test_the_seed_repeats_the_sample() -> None:
    first, again, other = (sample_defects(PART, ["spot"], [5], [0.2], places=6, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert not {d.place for d in first} & {d.place for d in other}


def test_places_are_where_the_kind_occurs() -> None:
    depth = cv2.distanceTransform(MASK, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    grey = IMAGE.astype(float).mean(-1)
    contrast = cv2.dilate(grey, np.ones((5, 5))) - cv2.erode(grey, np.ones((5, 5)))

    def at(image: np.ndarray, kind: str, size: float) -> np.ndarray:
        defects = sample_defects(PART, [kind], [size], [0.2], places=60, seed=3, image=IMAGE)
        x, y = np.rint(points_of(defects)).astype(int).T
        return np.asarray(image[y, x])

    assert at(depth, "spot", 30).min() >= 14
    assert at(depth, "spot", 4).min() < 10
    assert at(depth, "bite", 30).max() <= 1.5
    assert (at(contrast, "extra_print", 6) > 40).all()
    assert np.median(at(contrast, "spot", 6)) < np.median(at(contrast, "extra_print", 6))


@pytest.mark.parametrize("kind", ["spot", "bite", "missing_print"])
def test_places_are_spread_more_evenly_than_by_chance(kind: str) -> None:
    def gaps(points: np.ndarray) -> float:
        distances = squareform(pdist(points))
        np.fill_diagonal(distances, np.inf)
        return float(distances.min(1).mean())

    evenly, by_chance, per_contrast = [], [], []
    generator = np.random.default_rng(0)
    pool = points_of(sample_defects(PART, [kind], [4], [0.1], places=4000, seed=99, image=IMAGE))
    for seed in range(10):
        defects = sample_defects(PART, [kind], [4], [0.1, 0.2, 0.4], places=12, seed=seed, image=IMAGE)
        evenly.append(gaps(points_of(defects)))
        by_chance.append(gaps(generator.choice(pool, 36, replace=False)))
        per_contrast.append(gaps(points_of([d for d in defects if d.contrast == 0.2])))
    chance_of_twelve = [gaps(generator.choice(pool, 12, replace=False)) for _ in range(50)]
    assert np.mean(evenly) > 1.15 * np.mean(by_chance)
    assert np.mean(per_contrast) > 1.1 * np.mean(chance_of_twelve)


def test_equal_areas_get_equal_numbers() -> None:
    counts = np.zeros((2, 4))
    for seed in range(20):
        x, y = points_of(sample_defects(PART, ["spot"], [1], [0.2], places=64, seed=seed)).T
        counts += np.histogram2d(y, x, bins=[[0, 180, 360], [0, 200, 320, 440, 640]])[0]
    areas = np.array([[PART[r : r + 180, a:b].sum() for a, b in pairwise([0, 200, 320, 440, 640])] for r in (0, 180)])
    np.testing.assert_allclose(counts / counts.sum(), areas / areas.sum(), atol=0.012)


def test_every_sampled_defect_can_be_planted() -> None:
    photograph = np.where(PART[..., None], IMAGE, 230).astype(np.uint8)
    defects = sample_defects(PART, list(DEFECTS.builtin), [3, 12], [-0.3, 0.3], places=5, seed=4, image=IMAGE)
    faint = [d for d in defects if not plant(photograph, d, np.eye(3), PART).mask.any()]
    assert all(d.kind in ("blur", "extra_print", "missing_print") for d in faint)
    assert len(faint) < 0.05 * len(defects)


def test_what_cannot_be_sampled_is_an_error() -> None:
    with pytest.raises(InputError, match="missing_print occurs at edges of the print: give the image"):
        sample_defects(PART, ["missing_print"], [3], [0.2], places=1, seed=0)
    with pytest.raises(InputError, match="spot of 400 pixels has no place on the part"):
        sample_defects(PART, ["spot"], [400], [0.2], places=1, seed=0)
    with pytest.raises(InputError, match="bite of 4 pixels has no place on the part"):
        sample_defects(np.ones((20, 20), bool), ["bite"], [4], [0.2], places=1, seed=0)
    with pytest.raises(ConfigError, match="'spots' is not one of"):
        sample_defects(PART, ["spots"], [4], [0.2], places=1, seed=0)
