"""The figures of photographs, and what is remarkable about them, against planted truth and obvious versions."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from rendered_photographs import rendered_photograph
from scipy.fft import dct

from pixal.report.inspection_document import Finding
from pixal.tasks.photographs.inspection import duplicates as duplicates_module
from pixal.tasks.photographs.inspection.duplicates import NEAR, SAME_FILE, SAME_PICTURE, Duplicates, find_duplicates
from pixal.tasks.photographs.inspection.image_figures import (
    fine_structure,
    image_figures,
    noise_level,
    perceptual_hash,
)
from pixal.tasks.photographs.inspection.outliers import TOGETHER, Z_LIMIT, robust_scores, unusual_together
from pixal.tasks.photographs.preprocessing.conditions import relative_sharpness

MASK = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])


def photograph(seed: int) -> NDArray[Any]:
    return rendered_photograph("front", seed).image


def jpeg(image: NDArray[Any], quality: int) -> NDArray[Any]:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def test_figures_of_a_plain_image_are_known() -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, 30:] = (255, 51, 102)
    image[0, 0] = (0, 0, 200)
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    actual = image_figures(image)
    assert actual.mean == pytest.approx(grey.mean() / 255)
    assert actual.spread == pytest.approx(grey.std() / 255)
    assert (actual.minimum, actual.maximum) == pytest.approx((grey.min() / 255, grey.max() / 255))
    assert (actual.red, actual.green) == pytest.approx((0.5, 0.1))
    assert actual.clipped_dark == pytest.approx(1199 / 2400)
    assert actual.clipped_bright == pytest.approx(0.5)
    assert actual.noise < 0.1 / 255  # the resolution of 8 bits


def test_figures_do_not_depend_on_the_number_of_bits() -> None:
    image = photograph(0)
    plain, deep = image_figures(image), image_figures(image.astype(np.uint16) * 257)
    for name, value in vars(plain).items():
        assert getattr(deep, name) == pytest.approx(value, rel=0.02, abs=1e-3), name


@pytest.mark.parametrize("sigma", [0.7, 2.0, 6.0])
def test_noise_is_measured_in_spite_of_edges(sigma: float) -> None:
    """Stripes, a slope, and noise of known size."""
    y, x = np.mgrid[:300, :400]
    clean = 60 + 0.2 * x + 0.1 * y + 80 * ((x + y) // 40 % 2)
    noisy = np.clip(np.rint(clean + np.random.default_rng(1).normal(0, sigma, clean.shape)), 0, 255).astype(np.uint8)
    expected = np.hypot(sigma, 1 / np.sqrt(12))  # rounding adds noise
    assert noise_level(noisy) == pytest.approx(expected, rel=0.2)
    mean_version = np.sqrt(np.pi / 2) * np.abs(responses(noisy[:120, :160])).mean() / 6  # of Immerkaer 1996
    assert mean_version - expected > 2 * abs(noise_level(noisy) - expected)


def responses(grey: NDArray[Any]) -> NDArray[np.int64]:
    """Response of the mask at each position, one by one."""
    grey, (height, width) = grey.astype(np.int64), grey.shape
    return np.array([(grey[r : r + 3, c : c + 3] * MASK).sum() for r in range(height - 2) for c in range(width - 2)])


def test_median_of_the_noise_is_that_of_the_obvious_version() -> None:
    grey = np.random.default_rng(0).integers(0, 65536, (40, 50)).astype(np.uint16)
    assert noise_level(grey) == pytest.approx(np.median(np.abs(responses(grey))) / 0.6744897501960817 / 6, rel=1e-3)


def test_sharpness_of_the_whole_frame_is_that_of_a_full_mask() -> None:
    image = photograph(0)
    inside = np.full(image.shape[:2], 255, np.uint8)
    assert relative_sharpness(image) == pytest.approx(relative_sharpness(image, inside), rel=0.02)


def test_hash_is_that_of_the_obvious_transform() -> None:
    image = photograph(0)
    small = cv2.cvtColor(cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    low = dct(dct(small.astype(float), axis=0), axis=1)[:16, :16]
    assert (perceptual_hash(image).reshape(16, 16) == (low > np.median(low))).mean() > 0.98  # float32 and ties


def describe(images: list[NDArray[Any]]) -> dict[str, Any]:
    keys = [str(hash(image.tobytes())) for image in images]
    return {
        "file_hashes": keys,
        "pixel_hashes": keys,
        "bits": np.array([perceptual_hash(image) for image in images]),
        "structures": np.array([fine_structure(image) for image in images]),
    }


CHANGES = {
    "compressed": lambda image: jpeg(image, 60),
    "reduced": lambda image: cv2.resize(image, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA),
    "brighter": lambda image: np.clip(image * 1.15, 0, 255).astype(np.uint8),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found_and_other_parts_are_not(change: str) -> None:
    images = [photograph(seed) for seed in range(12)]
    assert find_duplicates(**describe(images)) == []
    found = find_duplicates(**describe([*images, CHANGES[change](images[3])]))
    assert found == [Duplicates(NEAR, (3, 12))]


def test_parts_in_a_fixture_are_no_duplicates() -> None:
    """They look the same, but each photograph has its own noise; a compressed copy stands out."""
    random, clean = np.random.default_rng(0), photograph(0).astype(float)
    images = [np.clip(clean + random.normal(0, 4, clean.shape), 0, 255).astype(np.uint8) for _ in range(15)]
    assert find_duplicates(**describe(images)) == []
    assert find_duplicates(**describe([*images, jpeg(images[4], 95)])) == [Duplicates(NEAR, (4, 15))]


def test_nearest_pairs_are_those_of_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates_module, "_NEIGHBOURS", 3)
    bits = np.random.default_rng(2).random((20, 256)) < np.linspace(0.05, 0.3, 20)[:, None]
    distance = (bits[:, None] != bits[None]).sum(-1)
    expected = set()
    for row in range(20):
        order = sorted((distance[row, other], other) for other in range(20) if other != row)
        limit = order[2][0]
        expected |= {(min(row, other), max(row, other)) for d, other in order if d < limit and d <= 64}
    actual = {(int(a), int(b)) for a, b in duplicates_module._nearest_pairs(bits)}
    assert expected <= actual  # ties at the third place may be resolved in either way
    assert all(distance[pair] <= 64 for pair in actual)


def test_same_files_and_same_pictures_are_told_apart() -> None:
    images = [photograph(seed) for seed in (0, 0, 1, 1, 2)]
    known = describe(images)
    known["file_hashes"] = ["a", "a", "b", "c", "d"]
    assert find_duplicates(**known) == [Duplicates(SAME_FILE, (0, 1)), Duplicates(SAME_PICTURE, (2, 3))]
    assert find_duplicates(["a"], ["a"], known["bits"][:1], known["structures"][:1]) == []


def values(count: int, seed: int) -> dict[str, NDArray[np.float64]]:
    random = np.random.default_rng(seed)
    return {name: 0.3 * random.lognormal(0, 0.1, count) for name in TOGETHER}


def test_scores_are_those_of_the_obvious_version() -> None:
    column = values(30, 0)["brightness"]
    column[4] = np.nan
    logs = np.log(column)
    median = sorted(log for log in logs if log == log)
    centre = median[14]
    deviations = sorted(abs(log - centre) for log in logs if log == log)
    expected = [0.0 if log != log else (log - centre) / (deviations[14] * 1.482602218505602) for log in logs]
    assert robust_scores({"brightness": column})["brightness"] == pytest.approx(expected)


def test_equal_photographs_have_no_outliers_and_few_photographs_no_scores() -> None:
    column = np.full(20, 0.4)
    column[3] *= 1.1  # less than what matters
    assert np.abs(robust_scores({"brightness": column})["brightness"]).max() < Z_LIMIT
    column[3] *= 1.2
    assert robust_scores({"brightness": column})["brightness"][3] > Z_LIMIT
    assert not robust_scores({"brightness": column[:4]})["brightness"].any()


def test_a_surface_that_is_saturated_in_some_photographs_has_no_outliers() -> None:
    """Nor does it hide the photograph that is saturated everywhere."""
    column = np.where(np.arange(40) % 4 == 0, 0.3, 0.01) + np.random.default_rng(0).normal(0, 0.005, 40)
    column[11] = 0.95
    scores = robust_scores({"clipped_bright": column})["clipped_bright"]
    assert np.flatnonzero(np.abs(scores) > Z_LIMIT).tolist() == [11]


def test_a_combination_is_found_though_each_figure_is_usual() -> None:
    planted = values(200, 1)
    planted["noise"] = planted["brightness"] ** 2 * np.random.default_rng(5).lognormal(0, 0.05, 200)
    planted["brightness"][7], planted["noise"][7] = 0.3 * np.exp(0.25), 0.09 * np.exp(-0.6)
    assert all(abs(scores[7]) < Z_LIMIT for scores in robust_scores(planted).values())
    assert np.flatnonzero(unusual_together(planted)).tolist() == [7]


def test_usual_sets_have_no_unusual_combination() -> None:
    """In 1 % of the sets."""
    assert sum(unusual_together(values(60, seed)).any() for seed in range(8)) <= 1
    assert not unusual_together(values(30, 0)).any()  # too few


def test_a_constant_figure_does_not_hide_the_others() -> None:
    planted = values(200, 2) | {"noise": np.full(200, 0.01)}
    for name in ("brightness", "sharpness", "spread", "warmth"):
        planted[name][5] = 0.3 * np.exp(0.34)
    assert unusual_together(planted)[5]


def test_a_finding_names_some_of_many_photographs() -> None:
    text = str(Finding("front", "blurred", "7 photographs are out of focus", "Focus again.", tuple("abcdefg")))
    assert text == "front: 7 photographs are out of focus: a, b, c, d, e and 2 more. Focus again."
