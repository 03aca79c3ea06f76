"""Truth folders in each layout, and the errors for those that cannot be used."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from pixal.errors import InputError
from pixal.report.document import PartTruth
from pixal.tasks.photographs.verdicts.truth import Truth, read_truth


def write_truth(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "labels.csv").write_text(text, encoding="utf-8")
    return folder


def test_truth_is_read_per_type_and_found_by_both_names(tmp_path: Path) -> None:
    write_truth(tmp_path / "front", "name,label,kind\n1.png,0,\n2.jpg,1, scratch+blob \n")
    write_truth(tmp_path / "back", "label,name\n1,a.b.tif\n")
    truths = read_truth(tmp_path, ["front", "back"])
    good, defective = PartTruth(0, ""), PartTruth(1, "scratch+blob")
    assert truths["front"].parts == {"1.png": good, "1": good, "2.jpg": defective, "2": defective}
    assert truths["back"].parts == {"a.b.tif": PartTruth(1, ""), "a.b": PartTruth(1, "")}


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(b"\xef\xbb\xbfname,label\r\n1.png,1\r\n")
    assert read_truth(tmp_path, ["front"])["front"].parts["1"].label == 1


def test_one_type_may_have_its_truth_in_the_root_folder(tmp_path: Path) -> None:
    write_truth(tmp_path, "name,label\n1.png,1\n")
    assert read_truth(tmp_path, ["front"])["front"].parts == dict.fromkeys(("1.png", "1"), PartTruth(1, ""))
    with pytest.raises(InputError, match=r"front.labels\.csv does not exist"):
        read_truth(tmp_path, ["front", "back"])
    write_truth(tmp_path / "front", "name,label\n1.png,0\n")
    assert read_truth(tmp_path, ["front"])["front"].parts["1"].label == 0  # the type's folder takes precedence


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "name,label"),
        ("image,label\n1,0\n", "name,label"),
        ("name,label\n1.png,0\n2.png,bad\n", "line 3: label 'bad'"),
        ("name,label\n1.png\n", "line 2: label None"),
        ("name,label\n1.png,2\n", "label '2'"),
        ("name,label\n1.png,0\n1.png,0\n1.png,1\n", "line 4: 1.png has another label"),
    ],
)
def test_an_error_names_the_table_and_the_line(tmp_path: Path, text: str, message: str) -> None:
    write_truth(tmp_path, text)
    with pytest.raises(InputError, match=message) as error:
        read_truth(tmp_path, ["front"])
    assert str(tmp_path / "labels.csv") in str(error.value)


def test_a_table_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes("name,label\nKühler.png,1\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"labels\.csv"):
        read_truth(tmp_path, ["front"])


def test_a_missing_truth_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_truth(tmp_path / "none", ["front"])


def test_a_mask_is_the_bright_pixels_and_empty_for_a_good_part(tmp_path: Path) -> None:
    write_truth(tmp_path, "name,label\ngood,0\nbad,1\nunmasked,1\n")
    assert read_truth(tmp_path, ["front"])["front"].mask("good.png", "good", (4, 5)) is None  # no masks at all
    (tmp_path / "masks").mkdir()
    grey = np.zeros((4, 5), np.uint8)
    grey[1, 2:4] = (255, 129)
    grey[3, 0] = 120
    cv2.imwrite(str(tmp_path / "masks" / "bad.png"), grey)
    truth = read_truth(tmp_path, ["front"])["front"]
    actual = truth.mask("bad.png", "bad", (4, 5))
    assert actual is not None
    assert np.argwhere(actual).tolist() == [[1, 2], [1, 3]]
    good = truth.mask("good.png", "good", (4, 5))
    assert good is not None
    assert good.shape == (4, 5)
    assert not good.any()
    assert truth.mask("unmasked.png", "unmasked", (4, 5)) is None
    assert truth.mask("unknown.png", "unknown", (4, 5)) is None


@pytest.mark.parametrize("damage", ["size", "bytes"])
def test_an_error_names_a_mask_that_cannot_be_used(tmp_path: Path, damage: str) -> None:
    (tmp_path / "masks").mkdir()
    path = tmp_path / "masks" / "bad.png"
    cv2.imwrite(str(path), np.zeros((4, 5), np.uint8))
    if damage == "bytes":
        path.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"masks.bad\.png") as error:
        Truth({"bad": PartTruth(1, "")}, {"bad": path}).mask("bad.png", "bad", (4, 6))
    if damage == "size":
        assert "is 5x4, its photograph 6x4 pixels" in str(error.value)


def benchmark(root: Path) -> Path:
    """Write a class in the layout of MVTec AD: two kinds of defects, one with masks of both naming schemes."""
    grey = np.zeros((4, 5), np.uint8)
    for image in ("train/good/000", "test/good/000", "test/hole/000", "test/hole/001", "test/stain/000"):
        (root / image).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / f"{image}.png"), grey)
    (root / "ground_truth/hole").mkdir(parents=True)
    for column, name in enumerate(("000_mask", "001")):
        mask = grey.copy()
        mask[2, column] = 255
        cv2.imwrite(str(root / f"ground_truth/hole/{name}.png"), mask)
    return root


@pytest.mark.parametrize("nested", [False, True])
def test_a_public_data_set_gives_the_truth(tmp_path: Path, nested: bool) -> None:
    root = benchmark(tmp_path / "tile")
    truth = read_truth(tmp_path if nested else root, ["tile"])["tile"]
    assert truth.part("good/000.png", "good_000") == PartTruth(0, "good")
    assert truth.part("hole/001.png", "hole_001") == PartTruth(1, "hole")
    assert truth.part("000.png", "000") is None  # three images have this name
    for column, name in enumerate(("hole_000", "hole_001")):
        mask = truth.mask(f"{name}.png", name, (4, 5))
        assert mask is not None
        assert np.argwhere(mask).tolist() == [[2, column]]
    good = truth.mask("good/000.png", "good_000", (4, 5))
    assert good is not None
    assert not good.any()
    assert truth.mask("stain/000.png", "stain_000", (4, 5)) is None


def test_a_table_takes_precedence_over_the_folders(tmp_path: Path) -> None:
    root = write_truth(benchmark(tmp_path / "tile"), "name,label\nhole/000.png,0\n")
    assert read_truth(root, ["tile"])["tile"].parts["hole/000.png"].label == 0


def test_a_data_set_without_masks_has_labels_only(tmp_path: Path) -> None:
    root = benchmark(tmp_path / "tile")
    shutil.rmtree(root / "ground_truth")
    truth = read_truth(root, ["tile"])["tile"]
    assert truth.part("hole/000.png", "hole_000") == PartTruth(1, "hole")
    assert truth.mask("good/000.png", "good_000", (4, 5)) is None


def test_parts_of_the_same_name_are_distinguished_by_their_folders(tmp_path: Path) -> None:
    write_truth(tmp_path, "name,label\nlot1/7.png,0\nlot2/7.png,1\n")
    (tmp_path / "masks").mkdir()
    truth = read_truth(tmp_path, ["front"])["front"]
    assert [truth.part(f"lot{i}/7.png", f"lot{i}_7") for i in (1, 2)] == [PartTruth(i, "") for i in (0, 1)]
    good = truth.mask("lot1/7.png", "lot1_7", (4, 5))
    assert good is not None
    assert not good.any()
    assert truth.mask("lot2/7.png", "lot2_7", (4, 5)) is None
