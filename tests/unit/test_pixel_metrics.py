"""Pixel measures against scikit-learn and against slow, direct computation."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score

from pixal.validation.pixel_metrics import PixelCounts, PixelMeasures, compute_pixel_measures, near_part, part_aupimo


def planted(seed: int, parts: int = 3, levels: int = 40) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return maps (float16, with many ties) and masks, in which two pixels of a region touch at a corner only."""
    generator = np.random.default_rng(seed)
    maps, masks = [], []
    for part in range(parts):
        mask = np.zeros((18, 23), bool)
        if part:
            mask[2:5, 3:9] = True
            mask[5, 9] = True  # 8-connected to the one above
            mask[11:16, 15 : 17 + part] = True
        noise = generator.gamma(2, 1, mask.shape) + mask * generator.gamma(2, 1.2, mask.shape)
        maps.append((np.round(noise * levels / 8) * 8 / levels).astype(np.float16))
        masks.append(mask)
    return maps, masks


def counted(maps: list[np.ndarray], masks: list[np.ndarray]) -> PixelCounts:
    counts = PixelCounts()
    for values, mask in zip(maps, masks, strict=True):
        counts.add(values, mask)
    return counts


def slow_aupro(
    maps: list[np.ndarray], masks: list[np.ndarray], limit: float = 0.3, near: list[np.ndarray] | None = None
) -> float:
    """Loop over thresholds and regions; integrate with trapezoids up to the limit, with interpolation."""
    near = near or [np.ones_like(mask) for mask in masks]
    thresholds = np.unique(np.concatenate([m.ravel() for m in maps]).astype(float))[::-1]
    regions = []
    for values, mask in zip(maps, masks, strict=True):
        labels, count = ndimage.label(mask, np.ones((3, 3)))
        regions += [values[labels == k] for k in range(1, count + 1)]
    background = np.concatenate([values[~mask & n] for values, mask, n in zip(maps, masks, near, strict=True)])
    curve = [(0.0, 0.0)]
    for threshold in thresholds:
        overlap = np.mean([np.mean(region >= threshold) for region in regions])
        curve.append((float(np.mean(background >= threshold)), float(overlap)))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(curve):
        if x1 > limit:
            if x0 < limit:
                y_at = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
                area += (limit - x0) * (y0 + y_at) / 2
            break
        area += (x1 - x0) * (y0 + y1) / 2
    return area / limit


@pytest.mark.parametrize("levels", [3, 40, 4000])
@pytest.mark.parametrize("seed", range(4))
def test_pixel_measures_equal_those_of_scikit_learn_and_of_the_definition(seed: int, levels: int) -> None:
    maps, masks = planted(seed, levels=levels)
    actual = compute_pixel_measures(counted(maps, masks))
    truth = np.concatenate([m.ravel() for m in masks])
    scores = np.concatenate([m.ravel() for m in maps]).astype(float)
    assert actual.pixel_auroc == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert actual.pixel_ap == pytest.approx(average_precision_score(truth, scores), abs=1e-12)
    assert actual.aupro == actual.aupro_near_part == pytest.approx(slow_aupro(maps, masks), abs=1e-12)


def slow_near(part: np.ndarray) -> np.ndarray:
    """Compare each pixel with all pixels of the part."""
    places = np.argwhere(part)
    near = np.zeros_like(part)
    for row, column in np.ndindex(part.shape):
        near[row, column] = len(places) and np.square(places - [row, column]).sum(1).min() <= 15**2
    return near


@pytest.mark.parametrize("seed", range(3))
def test_aupro_near_the_part_equals_the_definition(seed: int) -> None:
    generator = np.random.default_rng(seed)
    maps, masks, near, counts = [], [], [], PixelCounts()
    for index in range(3):
        part, mask = np.zeros((50, 64), bool), np.zeros((50, 64), bool)
        part[20:28, 22:30] = part[24, 22:36] = True
        mask[22:25, 26:29] = index > 0
        values = np.where(part, generator.gamma(2, 1, part.shape) + mask, generator.gamma(1, 0.2, part.shape))
        maps.append(values.astype(np.float16))
        masks.append(mask)
        near.append(slow_near(part))
        np.testing.assert_array_equal(near_part(part), near[-1])
        counts.add(maps[-1], mask, near_part(part))
    actual = compute_pixel_measures(counts)
    assert actual.aupro_near_part == pytest.approx(slow_aupro(maps, masks, near=near), abs=1e-12)
    assert actual.aupro == pytest.approx(slow_aupro(maps, masks), abs=1e-12)
    assert actual.aupro_near_part < actual.aupro - 0.01


def test_more_background_raises_aupro_but_not_aupro_near_the_part() -> None:
    part = np.zeros((40, 40), bool)
    part[16:24, 16:24] = True
    mask, values = part & (np.arange(40) < 18), part * np.float16(1)
    measures = []
    for border in (0, 200):
        framed = [np.pad(image, border) for image in (part, mask, values)]
        counts = PixelCounts()
        counts.add(framed[2], framed[1], near_part(framed[0]))
        measures.append(compute_pixel_measures(counts))
    assert measures[1].aupro > measures[0].aupro + 0.01
    assert measures[1].aupro_near_part == measures[0].aupro_near_part


def test_without_a_part_no_pixel_is_near_it() -> None:
    maps, masks = planted(0)
    nowhere = np.zeros(masks[0].shape, bool)
    assert not near_part(nowhere).any()
    counts = PixelCounts()
    for values, mask in zip(maps, masks, strict=True):
        counts.add(values, mask, nowhere)
    actual = compute_pixel_measures(counts)
    assert (actual.aupro_near_part, actual.aupro) == (None, pytest.approx(slow_aupro(maps, masks)))


def test_extreme_maps() -> None:
    maps, masks = planted(0)
    perfect = compute_pixel_measures(counted([m.astype(np.float16) for m in masks], masks))
    assert perfect == PixelMeasures(1.0, 1.0, 1.0, 1.0, 1.0)
    flat = compute_pixel_measures(counted([np.zeros_like(m) for m in maps], masks))
    share = np.mean(np.concatenate([m.ravel() for m in masks]))
    assert flat.pixel_auroc == 0.5
    assert flat.pixel_ap == pytest.approx(share)
    assert flat.aupro == pytest.approx(0.15)  # the diagonal up to 0.3, divided by 0.3
    wrong = compute_pixel_measures(counted([(~m).astype(np.float16) for m in masks], masks))
    assert (wrong.pixel_auroc, wrong.aupro, wrong.aupimo) == (0.0, 0.0, 0.0)


def test_the_largest_and_the_smallest_float16_are_counted() -> None:
    mask = np.array([[True, True, False, False]])
    values = np.array([[65504.0, 6e-8, 0.0, 6e-8]], np.float16)
    assert values[0, 1] > 0
    actual = compute_pixel_measures(counted([values], [mask]))
    assert actual.pixel_auroc == pytest.approx(roc_auc_score(mask[0], values[0]))


@pytest.mark.parametrize("value", [np.nan, -1.0])
@pytest.mark.parametrize("defect", [False, True])
def test_a_map_with_nan_or_negative_values_is_an_error(value: float, defect: bool) -> None:
    with pytest.raises(ValueError, match="NaN, or values below 0"):
        PixelCounts().add(np.array([[value, 1.0]], np.float16), np.array([[defect, False]]))


def test_counts_of_batches_add_up_in_any_order() -> None:
    maps, masks = planted(5, parts=4)
    whole = counted(maps, masks)
    sums = counted(maps[2:], masks[2:]) + counted(maps[:2], masks[:2])
    np.testing.assert_array_equal(sums.positive, whole.positive)
    np.testing.assert_array_equal(sums.negative, whole.negative)
    np.testing.assert_array_equal(sums.near, whole.near)
    np.testing.assert_allclose(sums.overlap, whole.overlap)
    assert sums.regions == whole.regions == 6
    assert whole.positive.sum() == sum(m.sum() for m in masks)
    assert whole.negative.sum() == sum((~m).sum() for m in masks)
    assert whole.overlap.sum() == pytest.approx(6)  # the shares of each region sum to 1


def test_regions_have_equal_weight_in_aupro_and_weight_by_size_in_auroc() -> None:
    mask = np.zeros((20, 20), bool)
    mask[:10, :10] = True  # large, not detected
    mask[15, 15] = True  # small, detected
    values = np.zeros((20, 20), np.float16)
    values[15, 15] = 1
    actual = compute_pixel_measures(counted([values], [mask]))
    # Half of the regions without a false positive; then the straight line to (1, 1).
    assert actual.aupro == pytest.approx(np.mean([0.5, 0.5 + 0.3 * 0.5]))
    assert actual.pixel_auroc == pytest.approx(0.5 + 0.5 / 101)


def test_pixel_measures_need_both_kinds_of_pixels() -> None:
    none = PixelMeasures(None, None, None, None, None)
    assert compute_pixel_measures(counted([np.ones((3, 3), np.float16)], [np.zeros((3, 3), bool)])) == none
    assert compute_pixel_measures(counted([np.ones((3, 3), np.float16)], [np.ones((3, 3), bool)])) == none


def direct_aupimo(maps: list[np.ndarray], masks: list[np.ndarray]) -> list[float]:
    """Follow the definition: loop over thresholds, with the false-positive rate on good images and the recall.

    Between the rates of two thresholds, the higher threshold is used.
    """
    good = [values for values, mask in zip(maps, masks, strict=True) if not mask.any()]
    actual = []
    for values, mask in zip(maps, masks, strict=True):
        if not mask.any():
            continue
        area, log_rate, recall = 0.0, -5.0, 0.0
        for threshold in np.unique(np.concatenate([values.ravel() for values in maps]))[::-1]:
            rate = np.mean([np.mean(other >= threshold) for other in good])
            if rate > 1e-5:
                next_log_rate = min(float(np.log10(rate)), -4.0)
                area += recall * (next_log_rate - log_rate)
                log_rate = next_log_rate
            if rate > 1e-4:
                break
            recall = float(np.mean(values[mask] >= threshold))
        actual.append(area + recall * (-4.0 - log_rate))
    return actual


def fine(seed: int, goods: int = 3, size: tuple[int, int] = (200, 250)) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return maps large enough for false-positive rates of 1e-5 to 1e-4, with defects that are partly visible."""
    generator = np.random.default_rng(seed)
    maps, masks = [], []
    for part in range(goods + 3):
        mask = np.zeros(size, bool)
        if part >= goods:
            mask[20:50, 30:70] = mask[150:160, 200:220] = True
        noise = generator.gamma(2, 1, size) * (1 + 0.1 * part % 3) + mask * generator.gamma(6 + part, 1.5, size)
        maps.append(noise.astype(np.float16))
        masks.append(mask)
    return maps, masks


@pytest.mark.parametrize("seed", range(2))
def test_aupimo_equals_the_definition(seed: int) -> None:
    maps, masks = fine(seed)
    actual = part_aupimo(counted(maps, masks))
    np.testing.assert_allclose(actual, direct_aupimo(maps, masks), atol=1e-12)
    assert (actual > 0.05).all()
    assert (actual < 0.95).all()
    assert compute_pixel_measures(counted(maps, masks)).aupimo == pytest.approx(actual.mean())


def test_aupimo_is_close_to_the_published_trapezoid_rule() -> None:
    """The paper connects the points of the curve by straight lines; with many pixels the difference is small."""
    maps, masks = fine(3, goods=8, size=(500, 600))
    good = np.sort(np.concatenate([m.ravel() for m, mask in zip(maps, masks, strict=True) if not mask.any()]))
    thresholds = np.unique(good)
    rate = 1 - np.searchsorted(good, thresholds) / len(good)
    inside = (rate >= 1e-5) & (rate <= 1e-4)
    x = np.log10(rate[inside])[::-1]
    for index, actual in zip(range(8, 11), part_aupimo(counted(maps, masks)), strict=True):
        values = maps[index][masks[index]]
        recall = np.array([np.mean(values >= t) for t in thresholds[inside]])[::-1]
        assert actual == pytest.approx(np.trapezoid(recall, x) / (x[-1] - x[0]), abs=0.02)


def test_good_images_of_different_sizes_have_equal_weight_in_aupimo() -> None:
    generator = np.random.default_rng(0)
    small, large = ((generator.gamma(2, 1, size)).astype(np.float16) for size in ((100, 100), (400, 500)))
    bad, mask = np.full((10, 10), 11.0, np.float16), np.eye(10, dtype=bool)
    maps, masks = [small, large, bad], [np.zeros(small.shape, bool), np.zeros(large.shape, bool), mask]
    np.testing.assert_allclose(part_aupimo(counted(maps, masks)), direct_aupimo(maps, masks))


def test_false_positives_on_defective_images_do_not_count_in_aupimo() -> None:
    maps, masks = fine(1)
    louder = [np.where(mask | ~mask.any(), m, np.float16(60000)) for m, mask in zip(maps, masks, strict=True)]
    np.testing.assert_array_equal(part_aupimo(counted(louder, masks)), part_aupimo(counted(maps, masks)))


def test_no_aupimo_without_a_good_image() -> None:
    maps, masks = planted(0)
    assert not len(part_aupimo(counted(maps[1:], masks[1:])))
    assert compute_pixel_measures(counted(maps[1:], masks[1:])).aupimo is None


def test_the_values_stored_per_part_are_small() -> None:
    maps, masks = fine(0, goods=1)
    counts = counted(maps, masks)
    for part, mask in zip(counts.parts, masks[1:], strict=True):
        assert part.counts.sum() == mask.sum()
        assert part.patterns.nbytes + part.counts.nbytes < 10_000
