"""Planted defects: what is drawn has the size, contrast and place that was asked for, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from pixal.defects import Place, PlantedDefect, PlantedPhotograph, load_kind, plant
from pixal.defects.shapes import arc, blob
from pixal.defects.site import CAMERA_BLUR
from pixal.errors import ConfigError, InputError
from pixal.registry import DEFECTS

KINDS = list(DEFECTS.builtin)
SIGNED = [kind for kind in KINDS if load_kind(kind).is_signed]
HEIGHT, WIDTH = 150, 200
EYE = np.eye(3)
TILTED = np.array([[0.55, 0.3, 4], [-0.28, 0.6, 60], [2e-4, -1e-4, 1]])  # turned, enlarged, in perspective


def striped(dtype: Any = np.uint8, channels: int = 3, seed: int = 0) -> NDArray[Any]:
    """A plate at the top, a part with bright print on dark stripes below row 40, and some noise."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    level = np.where((x // 12 + y // 40) % 2, 0.6, 0.3)
    level = np.where(y < 40, 0.85, cv2.GaussianBlur(level, (0, 0), 0.7))
    level = level[..., None] * np.array([1, 0.8, 0.6, 1])[:channels]
    level += np.random.default_rng(seed).normal(0, 0.01, level.shape)
    return np.rint(level.clip(0, 1) * np.iinfo(dtype).max).astype(dtype)


PART = np.zeros((HEIGHT, WIDTH), bool)
PART[40:] = True


def flat(level: float = 0.4, shape: tuple[int, ...] = (HEIGHT, WIDTH, 3)) -> NDArray[np.uint16]:
    """16 bits, so that rounding does not hide errors of the drawing."""
    return np.full(shape, round(level * 65535), np.uint16)


def defect_of(kind: str, **changes: Any) -> PlantedDefect:
    """A defect of a kind at a place where it occurs on the striped photograph."""
    place = {Place.INSIDE: (95.3, 91.2), Place.PRINT_EDGE: (96.0, 101.4), Place.OUTLINE: (80.4, 40.0)}
    size = {"scratch": 2.6, "fibre": 1.8}.get(kind, 14.0)
    defect = PlantedDefect(kind, size, 0.2, place[load_kind(kind).place], orientation=25, seed=3)
    return replace(defect, **changes)


def change(photograph: NDArray[Any], planted: PlantedPhotograph) -> NDArray[np.float64]:
    """The change of intensity (H, W), as a fraction of the largest value."""
    return (planted.image.astype(float) - photograph).mean(-1) / np.iinfo(photograph.dtype).max


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "channels"), [(np.uint8, 1), (np.uint8, 3), (np.uint16, 3), (np.uint16, 4)])
def test_only_the_pixels_of_the_mask_change(kind: str, dtype: Any, channels: int) -> None:
    photograph = striped(dtype, channels)
    if channels == 1:
        photograph = photograph[..., 0]
        if kind == "colour":
            with pytest.raises(InputError, match="grey photograph has no colour"):
                plant(photograph, defect_of(kind), EYE, PART)
            return
    before = photograph.copy()
    planted = plant(photograph, defect_of(kind), EYE, PART)
    assert np.array_equal(photograph, before)
    assert planted.image.dtype == photograph.dtype
    assert planted.image.shape == photograph.shape
    differs = (planted.image != photograph).reshape(HEIGHT, WIDTH, -1)
    assert planted.mask.dtype == np.bool_
    assert np.array_equal(planted.mask, differs.any(-1))
    assert 20 < planted.mask.sum() < 600
    if channels == 4:
        assert not differs[..., 3].any()


def test_a_change_that_is_rounded_to_0_is_not_in_the_mask() -> None:
    spot = defect_of("spot", contrast=-0.003)
    eight, sixteen = np.full((HEIGHT, WIDTH, 3), 100, np.uint8), flat()
    planted = plant(eight, spot, EYE)
    assert np.array_equal(planted.image, eight)
    assert not planted.mask.any()
    assert planted.contrast == 0
    assert plant(sixteen, spot, EYE).contrast == pytest.approx(-0.003, rel=0.02)
    # 0.7 levels in the middle: only pixels that are covered by more than 5/7 change.
    planted = plant(eight, replace(spot, contrast=-0.007), EYE)
    covered = change(sixteen, plant(sixteen, replace(spot, contrast=-0.5), EYE)) / (-0.5 * 0.4)
    assert np.array_equal(planted.mask, covered > 0.5 / 0.7)


@pytest.mark.parametrize("kind", KINDS)
def test_zero_contrast_draws_nothing(kind: str) -> None:
    photograph = striped()
    planted = plant(photograph, defect_of(kind, contrast=0.0), EYE, PART)
    assert np.array_equal(planted.image, photograph)
    assert not planted.mask.any()
    assert planted.contrast == 0


@pytest.mark.parametrize("homography", [EYE, TILTED], ids=["upright", "tilted"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_drawn_contrast_is_the_requested_one(kind: str, homography: NDArray[np.float64]) -> None:
    photograph = striped(np.uint16)
    seen = cv2.warpPerspective(photograph, np.linalg.inv(homography), (420, 300), borderMode=cv2.BORDER_REPLICATE)
    for contrast in (0.05, 0.2, -0.2) if kind in SIGNED else (0.03, 0.06):
        planted = plant(seen, defect_of(kind, contrast=contrast), homography, PART)
        assert planted.contrast == pytest.approx(contrast, rel=0.01)
        if kind in SIGNED:
            assert (change(seen, planted)[planted.mask] * contrast > 0).all()
    weak, strong = (plant(seen, defect_of(kind, contrast=c), homography, PART) for c in (0.03, 0.06))
    amounts = [np.abs(p.image.astype(float) - seen).sum() for p in (weak, strong)]
    assert amounts[1] == pytest.approx(2 * amounts[0], rel=0.01)


def test_the_contrast_is_the_change_over_what_lies_beneath() -> None:
    photograph = striped()
    for contrast in (-0.3, 0.3):
        planted = plant(photograph, defect_of("spot", size=30, contrast=contrast), EYE, PART)
        y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
        middle = np.hypot(x - 95.3, y - 91.2) < 10
        before, after = (image[middle].mean(dtype=float) for image in (photograph, planted.image))
        assert after / before - 1 == pytest.approx(contrast, abs=0.02)
    on_eight_bits = plant(photograph, defect_of("scratch", contrast=0.1), EYE, PART)
    assert on_eight_bits.contrast == pytest.approx(0.1, abs=0.005)


def test_a_contrast_that_cannot_be_reached_is_reported() -> None:
    white = flat(0.8)
    planted = plant(white, defect_of("spot", contrast=0.9), EYE)
    assert planted.contrast == pytest.approx(0.25, rel=0.01)
    assert planted.image.max() == 65535
    assert plant(white, defect_of("blur", contrast=0.3), EYE).contrast == pytest.approx(0, abs=1e-4)


def slow_coverage(inside: Any, defect: PlantedDefect, homography: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of 16 x 16 samples in each pixel, blurred; ``inside`` is a function of points in the defect's frame."""
    offsets = (np.arange(16) + 0.5) / 16 - 0.5
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(float)
    angle = np.deg2rad(defect.orientation)
    covered = np.zeros((HEIGHT, WIDTH))
    for dy in offsets:
        for dx in offsets:
            u, v, w = np.einsum("ij,jhw->ihw", homography, np.stack([x + dx, y + dy, np.ones_like(x)]))
            u, v = u / w - defect.place[0], -(v / w - defect.place[1])  # v upwards
            along, left = np.cos(angle) * u + np.sin(angle) * v, -np.sin(angle) * u + np.cos(angle) * v
            near = np.hypot(u, v) < 20 * defect.size
            covered[near] += inside(along[near], -left[near])
    return np.asarray(ndimage.gaussian_filter(covered / 16**2, CAMERA_BLUR))


@pytest.mark.parametrize("width", [0.5, 1.0, 3.3])
@pytest.mark.parametrize("homography", [EYE, TILTED], ids=["upright", "tilted"])
def test_a_scratch_covers_what_a_slow_drawing_covers(width: float, homography: NDArray[np.float64]) -> None:
    defect = PlantedDefect("scratch", width, -0.5, (80.3, 71.6), orientation=35, seed=1)
    length = 19 * width
    track = arc(length, np.random.default_rng(1).uniform(-0.06, 0.06) * length)

    def inside(x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.bool_]:
        hit = np.zeros(x.shape, bool)
        for a, b in pairwise(track):
            t = (((x - a[0]) * (b - a)[0] + (y - a[1]) * (b - a)[1]) / ((b - a) @ (b - a))).clip(0, 1)
            hit |= np.hypot(x - a[0] - t * (b - a)[0], y - a[1] - t * (b - a)[1]) < width / 2
        return hit

    drawn = change(flat(), plant(flat(), defect, homography)) / (-0.5 * 0.4)
    expected = slow_coverage(inside, defect, homography)
    assert np.abs(drawn - expected).max() < 0.03
    assert drawn.sum() == pytest.approx(expected.sum(), rel=0.02)


@pytest.mark.parametrize("homography", [EYE, TILTED], ids=["upright", "tilted"])
def test_a_piece_covers_what_a_slow_drawing_covers(homography: NDArray[np.float64]) -> None:
    defect = PlantedDefect("copied_piece", 11.0, 100.0, (80.3, 71.6), orientation=200, seed=4)
    level = blob(np.random.default_rng(4), 11.0, roughness=0.15)
    photograph = flat()
    photograph[:, ::3] //= 2  # any place that is not 3 pixels away differs
    planted = plant(photograph, defect, homography)
    expected = slow_coverage(lambda x, y: level(np.stack([x, y], -1).astype(np.float32)) < 0, defect, homography)
    step = 65535 * 0.2
    drawn = np.abs(planted.image.astype(float) - photograph).mean(-1) / step
    changed = drawn > 0
    assert changed.sum() > 20
    assert np.abs(drawn - expected)[changed].max() < 0.03
    assert not planted.mask[expected == 0].any()


AREAS = {
    "scratch": lambda size: (19 + np.pi / 4) * size**2,
    "fibre": lambda size: (29 + np.pi / 4) * size**2,
    "spot": lambda size: np.pi / 4 * size**2 * (1 + 1 / 48),  # and what a linear edge adds
}


@pytest.mark.parametrize("kind", AREAS)
@pytest.mark.parametrize("size", [1.5, 4.0])
def test_a_film_has_the_requested_size(kind: str, size: float) -> None:
    for seed in range(3):
        defect = PlantedDefect(kind, size, -0.5, (320.2, 240.7), orientation=70, seed=seed)
        photograph = flat(shape=(480, 640, 1))
        area = change(photograph, plant(photograph, defect, EYE)).sum() / (-0.5 * 0.4)
        assert area == pytest.approx(AREAS[kind](size), rel=0.03)


def test_a_stain_has_the_requested_size() -> None:
    for seed in range(6):
        difference = -change(flat(), plant(flat(), PlantedDefect("stain", 30, -0.3, (100, 75), seed=seed), EYE))
        # The thin film inside has 0.55 of the density of the rim.
        assert (difference > 0.45 * difference.max()).sum() == pytest.approx(np.pi / 4 * 30**2, rel=0.04)


@pytest.mark.parametrize("kind", ["copied_piece", "dent", "blur", "noise", "colour"])
@pytest.mark.parametrize("size", [10.0, 25.0])
def test_a_patch_has_the_requested_size(kind: str, size: float) -> None:
    rough = flat()
    rough += np.random.default_rng(0).integers(0, 6000, rough.shape, np.uint16)
    areas = []
    for seed in range(6):
        planted = plant(rough, PlantedDefect(kind, size, 0.05, (100.2, 75.3), seed=seed), EYE)
        y, x = np.nonzero(planted.mask)
        assert np.hypot(x.mean() - 100.2, y.mean() - 75.3) < 0.08 * size
        areas.append(planted.mask.sum())
    # The mask holds every pixel that is touched: also by a soft edge, and by the blur, which reaches 2 pixels.
    touched = np.pi / 4 * (size * (1.25 if kind in ("blur", "noise", "colour") else 1) + 4) ** 2
    assert np.pi / 4 * size**2 * 0.93 < np.mean(areas) < touched


def test_a_bite_is_half_on_the_part_and_shows_the_plate() -> None:
    photograph = striped(np.uint16)
    photograph[PART] = 13000
    areas = []
    for seed in range(10):
        defect = PlantedDefect("bite", 20, 100.0, (80.4, 39.5), seed=seed)
        planted = plant(photograph, defect, EYE, PART)
        inside = planted.mask & PART
        areas.append((change(photograph, planted)[PART] > 0.5 * (0.68 - 0.2)).sum())
        deep = cv2.erode(inside.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
        plate = photograph[5:35].reshape(-1, 3)
        np.testing.assert_allclose(planted.image[deep].mean(0), plate.mean(0), rtol=0.02)
        np.testing.assert_allclose(planted.image[deep].std(0), plate.std(0), rtol=0.5)  # its grain, too
    assert np.mean(areas) == pytest.approx(np.pi / 8 * 20**2, rel=0.1)


def test_print_is_missing_where_it_is_bright_and_extra_where_it_is_dark() -> None:
    photograph = striped(np.uint16)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    near = np.hypot(x - 96, y - 101) < 4
    bright, dark = (photograph[near][:, 0] > 0.45 * 65535, photograph[near][:, 0] <= 0.45 * 65535)
    for kind, changed, level in (("missing_print", bright, 0.3), ("extra_print", dark, 0.6)):
        planted = plant(photograph, defect_of(kind, size=16, contrast=100.0), EYE, PART)
        after = planted.image[near][:, 0] / 65535
        assert after[changed].mean() == pytest.approx(level, abs=0.02)
        assert np.abs(after[~changed] - photograph[near][~changed, 0] / 65535).mean() < 0.02


def test_print_of_a_third_material_is_not_recoloured_wrongly() -> None:
    photograph = striped(np.uint16)
    photograph[95:105, 98:103] = (10000, 10000, 60000)
    planted = plant(photograph, defect_of("missing_print", size=20, contrast=100.0), EYE, PART)
    before, after = (image[97:103, 99:102].reshape(-1, 3).mean(0) / 65535 for image in (photograph, planted.image))
    to_dark = np.array([0.3, 0.24, 0.18]) - before
    moved = (after - before) @ to_dark / (to_dark @ to_dark)
    assert 0.1 < moved <= 1
    np.testing.assert_allclose(after, before + moved * to_dark, atol=0.03)


def test_a_dent_is_bright_and_dark_along_its_orientation() -> None:
    planted = plant(flat(), defect_of("dent", size=30, orientation=90), EYE)
    difference = change(flat(), planted)
    y = np.arange(HEIGHT)[:, None] - 91.2
    assert (difference[:85][planted.mask[:85]] > 0).all()  # 90 degrees is upwards
    assert (difference[98:][planted.mask[98:]] < 0).all()
    assert float((difference * y).sum()) < 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_turned_photograph_gets_the_turned_drawing(kind: str) -> None:
    photograph = striped(np.uint16)
    upright = plant(photograph, defect_of(kind), EYE, PART)
    turned = plant(
        np.ascontiguousarray(np.rot90(photograph)),
        defect_of(kind),
        np.array([[0, -1, WIDTH - 1], [1, 0, 0], [0, 0, 1.0]]),  # column WIDTH - 1 becomes row 0
        PART,
    )
    difference = np.abs(np.rot90(upright.image).astype(int) - turned.image)
    assert difference.max() <= (400 if kind in ("dent", "noise") else 20)  # of 65535; cv2.remap counts in 1/32 pixel
    assert turned.mask.sum() == pytest.approx(upright.mask.sum(), abs=4)


@pytest.mark.parametrize("kind", ["scratch", "spot", "stain"])
def test_a_homography_moves_turns_and_scales_a_defect(kind: str) -> None:
    angle, scale = np.deg2rad(30), 2.5  # the photograph shows the reference turned, and this much larger
    to_photograph = np.array(
        [[np.cos(angle), np.sin(angle), 20], [-np.sin(angle), np.cos(angle), 90], [0, 0, 1 / scale]]
    )
    to_photograph /= to_photograph[2, 2]
    defect = defect_of(kind, contrast=-0.5, orientation=10)
    large, small = flat(shape=(480, 640, 1)), flat(shape=(HEIGHT, WIDTH, 1))
    before = -change(small, plant(small, defect, EYE))
    after = -change(large, plant(large, defect, np.linalg.inv(to_photograph)))
    assert after.sum() == pytest.approx(before.sum() * scale**2, rel=0.02)
    centre, axis = moments(before)
    moved, turned_axis = moments(after)
    np.testing.assert_allclose(moved, cv2.perspectiveTransform(centre[None, None], to_photograph)[0, 0], atol=0.15)
    if kind == "scratch":
        assert axis == pytest.approx(10, abs=2)
        assert turned_axis == pytest.approx(40, abs=2)


def moments(weights: NDArray[Any]) -> tuple[NDArray[np.float64], float]:
    """Centre (x, y), and direction of the longest axis in degrees anticlockwise."""
    y, x = np.mgrid[0 : weights.shape[0], 0 : weights.shape[1]].astype(float)
    centre = np.array([np.average(x, weights=weights), np.average(y, weights=weights)])
    covariance = np.cov(np.stack([x.ravel(), -y.ravel()]), aweights=weights.ravel())
    direction = np.linalg.eigh(covariance)[1][:, 1]
    return centre, float(np.rad2deg(np.arctan2(direction[1], direction[0])) % 180)


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides_the_drawing(kind: str) -> None:
    photograph = striped()
    first, again, other = (plant(photograph, defect_of(kind, seed=s), EYE, PART).image for s in (5, 5, 6))
    assert np.array_equal(first, again)
    fixed = ("spot", "dent", "blur")
    assert np.array_equal(first, other) == (kind in fixed)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "bite"])
def test_nothing_is_drawn_outside_the_part(kind: str) -> None:
    photograph = striped()
    planted = plant(photograph, defect_of(kind, place=(96.0, 44.0), size=8), EYE, PART)
    assert planted.mask[PART].any()
    assert not planted.mask[~PART].any()


def test_a_defect_at_the_border_of_the_photograph_is_cut() -> None:
    photograph = striped()
    whole = plant(photograph, defect_of("spot", place=(100.0, 100.0)), EYE)
    cut = plant(photograph[:100], defect_of("spot", place=(100.0, 100.0)), EYE)
    assert cut.mask.sum() > 0.4 * whole.mask.sum()
    assert (cut.mask[:98] != whole.mask[:98]).sum() < 4
    # Only 15 rows of the plate are visible, fewer than the bite wants to copy.
    to_reference = np.array([[1, 0, 0], [0, 1, 25], [0, 0, 1.0]])
    bitten = plant(photograph[25:], defect_of("bite", contrast=100.0), to_reference, PART)
    assert bitten.image[bitten.mask].mean() > 0.6 * 255


@pytest.mark.parametrize(
    ("defect", "part", "message"),
    [
        (defect_of("spot", place=(1000.0, 0.0)), None, "spot at .1000.* is not on the photograph"),
        (defect_of("spot", place=(100.0, 10.0)), PART, "spot at .100.* is not on the part"),
        (defect_of("dent", contrast=-0.1), None, "dent: the contrast must be at least 0"),
        (defect_of("bite", place=(80.0, 100.0)), PART, "the outline of the part is not at this place"),
        (defect_of("bite"), None, "the outline of the part is not at this place"),
        (defect_of("bite", place=(80.0, 0.0)), np.ones_like(PART), "the outline of the part is not at this place"),
        (defect_of("copied_piece", size=60), PART, "no room on the part to copy a piece from"),
    ],
)
def test_a_defect_that_cannot_be_drawn_is_one_clear_line(defect: PlantedDefect, part: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        plant(striped(), defect, EYE, part)
    assert "\n" not in str(caught.value)


def test_invalid_defects_and_photographs_are_errors() -> None:
    for changes in ({"size": 0.0}, {"size": np.nan}, {"contrast": np.inf}, {"place": (np.nan, 1)}, {"seed": -1}):
        with pytest.raises(InputError, match="is no defect"):
            defect_of("spot", **changes)
    with pytest.raises(ConfigError, match=r"'sctratch' is not one of .*; the nearest is scratch"):
        plant(striped(), replace(defect_of("spot"), kind="sctratch"), EYE)
    for photograph in (striped().astype(float), striped()[..., :2], striped()[None]):
        with pytest.raises(InputError, match="photograph"):
            plant(photograph, defect_of("spot"), EYE)


@pytest.mark.parametrize("shape", [(1, 1), (1, 32), (2, 2)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_photograph_of_a_few_pixels_is_drawn_on_or_refused(kind: str, shape: tuple[int, int]) -> None:
    """OpenCV's reflection at the border of one pixel has no end."""
    photograph = flat(shape=(*shape, 3))
    try:
        planted = plant(photograph, defect_of(kind, place=(0.0, 0.0)), EYE, np.ones(shape, bool))
    except InputError:
        return
    assert planted.image.shape == photograph.shape
    assert np.isfinite(planted.contrast)
