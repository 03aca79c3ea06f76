"""The measures against scikit-learn and against slow, direct computation; what truth files may get wrong."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy import ndimage
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from pixal.errors import InputError
from pixal.validation.metrics import (
    PixelCounts,
    Truth,
    all_measures,
    image_measures,
    pixel_measures,
    read_truth,
)


def planted(seed: int, parts: int = 3, levels: int = 40) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Maps (float16, with many ties) and their masks; a region touches another only by a corner."""
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


def slow_aupro(maps: list[np.ndarray], masks: list[np.ndarray], limit: float = 0.3) -> float:
    """A threshold at a time, a region at a time; the area by trapezoids, cut at the limit by interpolation."""
    every = np.unique(np.concatenate([m.ravel() for m in maps]).astype(float))[::-1]
    regions = []
    for values, mask in zip(maps, masks, strict=True):
        labels, count = ndimage.label(mask, np.ones((3, 3)))
        regions += [values[labels == k] for k in range(1, count + 1)]
    off = np.concatenate([values[~mask] for values, mask in zip(maps, masks, strict=True)])
    curve = [(0.0, 0.0)]
    for threshold in every:
        overlap = np.mean([np.mean(region >= threshold) for region in regions])
        curve.append((float(np.mean(off >= threshold)), float(overlap)))
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
def test_pixel_measures_are_those_of_scikit_learn_and_of_the_definition(seed: int, levels: int) -> None:
    maps, masks = planted(seed, levels=levels)
    found = pixel_measures(counted(maps, masks))
    truth = np.concatenate([m.ravel() for m in masks])
    scores = np.concatenate([m.ravel() for m in maps]).astype(float)
    assert found["pixel_auroc"] == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert found["pixel_ap"] == pytest.approx(average_precision_score(truth, scores), abs=1e-12)
    assert found["aupro"] == pytest.approx(slow_aupro(maps, masks), abs=1e-12)


def test_extreme_maps() -> None:
    maps, masks = planted(0)
    perfect = pixel_measures(counted([m.astype(np.float16) for m in masks], masks))
    assert perfect == {"pixel_auroc": 1.0, "pixel_ap": 1.0, "aupro": 1.0}
    flat = pixel_measures(counted([np.zeros_like(m) for m in maps], masks))
    share = np.mean(np.concatenate([m.ravel() for m in masks]))
    assert flat["pixel_auroc"] == 0.5
    assert flat["pixel_ap"] == pytest.approx(share)
    assert flat["aupro"] == pytest.approx(0.15)  # the diagonal, up to 0.3, over 0.3
    wrong = pixel_measures(counted([(~m).astype(np.float16) for m in masks], masks))
    assert (wrong["pixel_auroc"], wrong["aupro"]) == (0.0, 0.0)


def test_the_largest_and_the_smallest_float16_count_too() -> None:
    mask = np.array([[True, True, False, False]])
    values = np.array([[65504.0, 6e-8, 0.0, 6e-8]], np.float16)
    assert values[0, 1] > 0
    found = pixel_measures(counted([values], [mask]))
    assert found["pixel_auroc"] == pytest.approx(roc_auc_score(mask[0], values[0]))


def test_a_map_with_nan_is_not_counted_in_silence() -> None:
    with pytest.raises(ValueError, match="broadcast"):
        PixelCounts().add(np.array([[np.nan, 1.0]], np.float16), np.zeros((1, 2), bool))


def test_counts_add_up_whatever_the_order() -> None:
    maps, masks = planted(5, parts=4)
    whole = counted(maps, masks)
    sums = counted(maps[2:], masks[2:]) + counted(maps[:2], masks[:2])
    np.testing.assert_array_equal(sums.positive, whole.positive)
    np.testing.assert_array_equal(sums.negative, whole.negative)
    np.testing.assert_allclose(sums.overlap, whole.overlap)
    assert sums.regions == whole.regions == 6
    assert whole.positive.sum() == sum(m.sum() for m in masks)
    assert whole.negative.sum() == sum((~m).sum() for m in masks)
    assert whole.overlap.sum() == pytest.approx(6)  # each region gives a share of one


def test_every_region_weighs_alike_in_aupro_and_by_its_size_in_auroc() -> None:
    mask = np.zeros((20, 20), bool)
    mask[:10, :10] = True  # large, not found
    mask[15, 15] = True  # small, found
    values = np.zeros((20, 20), np.float16)
    values[15, 15] = 1
    found = pixel_measures(counted([values], [mask]))
    # Half of the regions at no false positive; then the straight line to (1, 1).
    assert found["aupro"] == pytest.approx(np.mean([0.5, 0.5 + 0.3 * 0.5]))
    assert found["pixel_auroc"] == pytest.approx(0.5 + 0.5 / 101)


def test_pixel_measures_need_both_kinds_of_pixels() -> None:
    none = {"pixel_auroc": None, "pixel_ap": None, "aupro": None}
    assert pixel_measures(counted([np.ones((3, 3), np.float16)], [np.zeros((3, 3), bool)])) == none
    assert pixel_measures(counted([np.ones((3, 3), np.float16)], [np.ones((3, 3), bool)])) == none


@pytest.mark.parametrize("seed", range(5))
def test_image_measures_are_those_of_scikit_learn(seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = np.append(generator.integers(0, 2, 40), [0, 1])
    scores = np.round(generator.normal(labels, 1), 1)  # ties
    failed = scores > 0.7
    found = image_measures(labels, scores, failed)
    assert found["image_auroc"] == pytest.approx(roc_auc_score(labels, scores))
    assert found["image_ap"] == pytest.approx(average_precision_score(labels, scores))
    assert found["f1_max"] == pytest.approx(max(f1_score(labels, scores >= t) for t in scores))
    assert found["false_alarm_rate"] == sum(failed & (labels == 0)) / sum(labels == 0)
    assert found["detection_rate"] == sum(failed & (labels == 1)) / sum(labels == 1)
    assert (found["good"], found["defective"]) == (sum(labels == 0), sum(labels == 1))


def test_measures_that_need_what_is_not_there_are_none() -> None:
    good = image_measures(np.zeros(3, int), np.arange(3.0), np.array([False, False, True]))
    assert good["false_alarm_rate"] == pytest.approx(1 / 3)
    assert [good[key] for key in ("image_auroc", "image_ap", "f1_max", "detection_rate")] == [None] * 4
    bad = image_measures(np.ones(2, int), np.arange(2.0), np.array([True, True]))
    assert (bad["detection_rate"], bad["false_alarm_rate"], bad["image_auroc"]) == (1.0, None, None)
    nothing = all_measures([], PixelCounts())
    assert nothing["good"] == nothing["defective"] == 0
    assert nothing["detection_rate"] is None


def test_all_measures_count_the_kinds_of_defects() -> None:
    rows = [
        {"label": 0, "score": 1.0, "failed": False, "kind": ""},
        {"label": 1, "score": 5.0, "failed": True, "kind": "scratch"},
        {"label": 1, "score": 2.0, "failed": False, "kind": "scratch+blob"},
        {"label": 1, "score": 9.0, "failed": True, "kind": ""},
    ]
    found = all_measures(rows, PixelCounts())
    assert found["kinds"] == {
        "blob": {"parts": 1, "detection_rate": 0.0},
        "scratch": {"parts": 2, "detection_rate": 0.5},
    }
    assert found["image_auroc"] == 1.0
    assert "aupro" not in found
    maps, masks = planted(1)
    assert all_measures(rows, counted(maps, masks))["aupro"] == pytest.approx(slow_aupro(maps, masks))


def write_truth(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "labels.csv").write_text(text, encoding="utf-8")
    return folder


def test_truth_is_read_by_type_and_known_by_both_names(tmp_path: Path) -> None:
    write_truth(tmp_path / "front", "name,label,kind\n1.png,0,\n2.jpg,1, scratch+blob \n")
    write_truth(tmp_path / "back", "label,name\n1,a.b.tif\n")
    found = read_truth(tmp_path, ["front", "back"])
    assert found["front"].labels == {"1.png": 0, "1": 0, "2.jpg": 1, "2": 1}
    assert found["front"].kinds["2"] == "scratch+blob"
    assert found["back"].labels == {"a.b.tif": 1, "a.b": 1}
    assert found["back"].kinds["a.b"] == ""


def test_a_spreadsheet_s_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(b"\xef\xbb\xbfname,label\r\n1.png,1\r\n")
    assert read_truth(tmp_path, ["front"])["front"].labels["1"] == 1


def test_one_type_may_have_its_truth_on_top(tmp_path: Path) -> None:
    write_truth(tmp_path, "name,label\n1.png,1\n")
    assert read_truth(tmp_path, ["front"])["front"].folder == tmp_path
    with pytest.raises(InputError, match=r"front.labels\.csv does not exist"):
        read_truth(tmp_path, ["front", "back"])
    write_truth(tmp_path / "front", "name,label\n1.png,0\n")
    assert read_truth(tmp_path, ["front"])["front"].labels["1"] == 0  # the nearer one


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "name,label"),
        ("image,label\n1,0\n", "name,label"),
        ("name,label\n1.png,0\n2.png,bad\n", "line 3: label 'bad'"),
        ("name,label\n1.png\n", "line 2: label None"),
        ("name,label\n1.png,2\n", "label '2'"),
        ("name,label\n1.png,0\n1.png,0\n1.png,1\n", "line 4: 1.png has another label"),
    ],
)
def test_a_table_that_cannot_be_used_is_named_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    write_truth(tmp_path, text)
    with pytest.raises(InputError, match=said) as error:
        read_truth(tmp_path, ["front"])
    assert str(tmp_path / "labels.csv") in str(error.value)


def test_a_table_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes("name,label\nKühler.png,1\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"labels\.csv"):
        read_truth(tmp_path, ["front"])


def test_a_truth_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_truth(tmp_path / "none", ["front"])


def test_a_mask_is_the_bright_half_and_a_good_part_has_none(tmp_path: Path) -> None:
    truth = Truth(tmp_path, {"good": 0, "bad": 1, "unmasked": 1}, {})
    assert truth.mask("good", (4, 5)) is None  # no masks at all
    (tmp_path / "masks").mkdir()
    grey = np.zeros((4, 5), np.uint8)
    grey[1, 2:4] = (255, 129)
    grey[3, 0] = 120
    cv2.imwrite(str(tmp_path / "masks" / "bad.png"), grey)
    found = truth.mask("bad", (4, 5))
    assert found is not None
    assert np.argwhere(found).tolist() == [[1, 2], [1, 3]]
    good = truth.mask("good", (4, 5))
    assert good is not None
    assert good.shape == (4, 5)
    assert not good.any()
    assert truth.mask("unmasked", (4, 5)) is None
    assert truth.mask("unknown", (4, 5)) is None


@pytest.mark.parametrize("damage", ["size", "bytes"])
def test_a_mask_that_cannot_be_used_is_named(tmp_path: Path, damage: str) -> None:
    (tmp_path / "masks").mkdir()
    path = tmp_path / "masks" / "bad.png"
    cv2.imwrite(str(path), np.zeros((4, 5), np.uint8))
    if damage == "bytes":
        path.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"masks.bad\.png") as error:
        Truth(tmp_path, {"bad": 1}, {}).mask("bad", (4, 6))
    if damage == "size":
        assert "is 5x4, its photograph 6x4 pixels" in str(error.value)
