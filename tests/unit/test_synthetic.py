"""Tests of the rendered component, its defects, its photographs and batches."""

from __future__ import annotations

import csv
import functools
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pixal.errors import InputError
from pixal.synthetic import KINDS, TYPES, add_defect, draw_component, render_photograph, write_batch
from pixal.synthetic.photograph import lit_disc

TINY = (320, 180)


def stream(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def files_below(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def read(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None, path
    return np.asarray(image)


def component(type_name: str, size: tuple[int, int] = (640, 360)) -> tuple[np.ndarray, np.ndarray]:
    image, mask = cached_component(type_name, size)
    return image.copy(), mask.copy()


cached_component = functools.cache(draw_component)


@pytest.mark.parametrize("type_name", TYPES)
@pytest.mark.parametrize("size", [(320, 180), (640, 360), (400, 400)])
def test_a_component_is_one_centred_region_and_always_the_same(type_name: str, size: tuple[int, int]) -> None:
    image, mask = draw_component(type_name, size)
    assert image.shape == (size[1], size[0], 3)
    assert mask.shape == (size[1], size[0])
    assert set(np.unique(mask)) == {0, 255}
    assert cv2.connectedComponents(mask)[0] == 2  # the background and one region
    assert not image[mask == 0].any()
    assert (image[mask > 0].max(axis=1) > 20).all()
    ys, xs = np.nonzero(mask)
    assert abs(xs.min() + xs.max() - (size[0] - 1)) <= 1
    assert abs(ys.min() + ys.max() - (size[1] - 1)) <= 1
    again = draw_component(type_name, size)
    assert np.array_equal(again[0], image)
    assert np.array_equal(again[1], mask)


def test_the_ends_are_wider_than_the_waist() -> None:
    _, mask = component("front", (640, 360))
    heights = (mask > 0).sum(axis=0)
    end, waist = heights[130], heights[320]
    assert 1.15 * waist < end < 1.5 * waist


def test_the_sides_have_different_colours() -> None:
    (front, mask), (back, mask_of_back) = (component(t) for t in TYPES)
    both = (mask > 0) & (mask_of_back > 0)
    assert np.abs(front[both].astype(int) - back[both]).mean() > 40
    assert np.abs(np.median(front[both], axis=0) - np.median(back[both], axis=0)).max() > 40


@pytest.mark.parametrize("type_name", TYPES)
def test_sift_finds_many_features_on_the_component(type_name: str) -> None:
    photo = render_photograph(*component(type_name), [], stream(1))
    grey = cv2.cvtColor(photo.image, cv2.COLOR_RGB2GRAY)
    assert len(cv2.SIFT.create().detect(grey, photo.foreground)) >= 200


@pytest.mark.parametrize("severity", [1.0, 0.4, 0.1])
@pytest.mark.parametrize("size", [TINY, (640, 360)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_defect_changes_exactly_the_pixels_of_its_mask(kind: str, size: tuple[int, int], severity: float) -> None:
    for seed in range(3):
        good, good_mask = component(TYPES[seed % 2], size)
        image, mask = good.copy(), good_mask.copy()
        defect = add_defect(image, mask, kind, stream(seed), severity)
        change = np.abs(image.astype(int) - good).max(axis=2)
        assert set(np.unique(defect)) == {0, 255}
        assert not defect[good_mask == 0].any()
        assert (change[defect > 0] >= 6).all()
        assert (change[defect == 0] < 6).all()
        assert (defect > 0).sum() < 0.06 * (good_mask > 0).sum()
        if kind == "torn_edge":
            assert np.array_equal(good_mask - mask, defect)
        else:
            assert np.array_equal(mask, good_mask)


@pytest.mark.parametrize("kind", KINDS)
def test_a_lower_severity_changes_the_component_less(kind: str) -> None:
    def amount(severity: float) -> float:
        total = 0.0
        for seed in range(12):
            good, mask = component("front")
            image = good.copy()
            add_defect(image, mask, kind, stream(seed), severity)
            total += float(np.abs(image.astype(int) - good).sum())
        return total

    assert amount(0.4) < 0.6 * amount(1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_defects_scale_with_the_frame(kind: str) -> None:
    def area_fraction(size: tuple[int, int]) -> float:
        total = 0.0
        for seed in range(12):
            image, mask = component("back", size)
            area = int((mask > 0).sum())
            total += int((add_defect(image, mask, kind, stream(seed), 1.0) > 0).sum()) / area
        return total

    assert 0.6 < area_fraction((640, 360)) / area_fraction(TINY) < 1.6


@pytest.mark.parametrize("type_name", TYPES)
@pytest.mark.parametrize(("turn", "scale"), [(0.0, 1.0), (180.0, 1.0), (90.0, 0.75)])
def test_the_reference_warped_by_the_pose_matches_the_photograph(type_name: str, turn: float, scale: float) -> None:
    reference, mask = component(type_name)
    size = (mask.shape[1], mask.shape[0])

    def match(pose: np.ndarray, seen: np.ndarray, inside: np.ndarray) -> float:
        warped = cv2.warpPerspective(reference, pose, size).astype(float)
        return float(np.corrcoef(warped[inside].mean(axis=1), seen[inside].mean(axis=1))[0, 1])

    for seed in range(2):
        photo = render_photograph(reference, mask, [], stream(seed), turn=turn, scale=scale)
        inside = cv2.erode(photo.foreground, np.ones((7, 7), np.uint8)) > 0
        correlation = match(photo.pose, photo.image, inside)
        assert correlation > 0.9
        assert photo.pose[2, 2] == 1
        for x, y in [(1, 0), (-1, 0), (0, 1), (0, -1)]:
            shift = np.array([[1, 0, x], [0, 1, y], [0, 0, 1.0]])
            assert match(shift @ photo.pose, photo.image, inside) < correlation
        warped_mask = cv2.warpPerspective(mask, photo.pose, size) > 127
        assert (warped_mask != (photo.foreground > 0)).sum() < 0.01 * warped_mask.sum()


def test_a_quarter_turn_is_anticlockwise() -> None:
    reference, mask = component("front")
    pose = render_photograph(reference, mask, [], stream(0), turn=90, scale=0.75, max_angle=0, max_shift=0).pose
    right_end = pose @ [500, 179.5, 1]
    assert right_end[1] / right_end[2] < 100  # at the top


@pytest.mark.parametrize("frame_size", [TINY, (640, 360), (480, 480)])
def test_the_part_is_inside_the_lit_disc(frame_size: tuple[int, int]) -> None:
    reference, mask = component("front", frame_size)
    x0, y0, radius = lit_disc(frame_size)
    centres = []
    for seed in range(12):
        photo = render_photograph(reference, mask, [], stream(seed), frame_size=frame_size, max_shift=0.2)
        ys, xs = np.nonzero(photo.foreground)
        assert np.hypot(xs - x0, ys - y0).max() <= radius
        assert min(xs.min(), ys.min()) > 0
        assert xs.max() < frame_size[0] - 1
        assert ys.max() < frame_size[1] - 1
        centres.append((xs.mean(), ys.mean()))
    assert (np.ptp(centres, axis=0) > 0.01 * frame_size[0]).all()


def test_the_plate_is_red_orange_in_a_black_surround() -> None:
    photo = render_photograph(*component("front"), [], stream(2))
    r, g, b = photo.image[40:80, 300:340].reshape(-1, 3).mean(axis=0)
    assert r > 1.5 * max(g, b)
    assert photo.image[:40, :40].mean() < 25


def test_aligned_good_parts_differ_most_in_the_serial_number() -> None:
    reference, mask = component("back")
    photos = [render_photograph(reference, mask, [], stream(s)) for s in (1, 2)]
    aligned = []
    for photo in photos:
        back = cv2.warpPerspective(photo.image, np.linalg.inv(photo.pose), (640, 360))
        aligned.append(back.astype(float).mean(axis=2))
    inside = cv2.erode(mask, np.ones((9, 9), np.uint8)) > 0
    aligned = [a / a[inside].mean() for a in aligned]
    difference = cv2.GaussianBlur(np.where(inside, np.abs(aligned[0] - aligned[1]), 0), (0, 0), 3)
    y, x = np.unravel_index(difference.argmax(), difference.shape)
    assert 240 < x < 300
    assert 198 < y < 222
    assert not photos[0].defects.any()


@pytest.mark.parametrize("kind", KINDS)
def test_the_defect_mask_covers_the_changes_on_the_photograph(kind: str) -> None:
    for seed in range(3):
        reference, mask = component(TYPES[seed % 2])
        good = render_photograph(reference, mask, [], stream(seed))
        bad = render_photograph(reference, mask, [kind], stream(seed))
        assert np.array_equal(good.pose, bad.pose)
        defects = bad.defects > 0
        near = cv2.dilate(bad.defects, np.ones((7, 7), np.uint8)) > 0
        change = np.abs(good.image.astype(int) - bad.image).max(axis=2)
        assert defects.any()
        assert not (defects & (cv2.dilate(good.foreground, np.ones((3, 3), np.uint8)) == 0)).any()
        assert np.median(change[defects]) >= 10
        # A torn edge also changes the shadow of the part.
        limit = 40 if kind == "torn_edge" else 12
        assert change[~near].max() <= limit


def test_rendering_does_not_change_its_inputs() -> None:
    reference, mask = component("front", TINY)
    before = reference.copy(), mask.copy()
    render_photograph(reference, mask, list(KINDS), stream(0), frame_size=TINY)
    assert np.array_equal(reference, before[0])
    assert np.array_equal(mask, before[1])


def test_the_files_of_a_batch_match_its_truth(tmp_path: Path) -> None:
    batch = write_batch(tmp_path, train=3, good=4, bad=5, frame_size=TINY)
    assert batch.train == tmp_path / "train" / "Demo_Flex"
    for type_name in TYPES:
        truth = tmp_path / "truth" / type_name
        with (truth / "labels.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        train = [p.stem for p in sorted((batch.train / type_name).glob("*.jpg"))]
        production = [p.stem for p in sorted((batch.production / type_name).glob("*.jpg"))]
        assert train == ["image_000", "image_001", "image_002"]
        assert production == [row["name"] for row in rows] == [f"part_{i:03d}" for i in range(9)]
        assert [row["label"] for row in rows].count("1") == 5
        for row in rows:
            assert (row["label"] == "1") == (row["kind"] != "good")
            assert (truth / "masks" / f"{row['name']}.png").exists() == (row["label"] == "1")
            if row["label"] == "1":
                assert set(row["kind"].split("+")) <= set(KINDS)
                assert read(truth / "masks" / f"{row['name']}.png").any()
        poses = json.loads((truth / "poses.json").read_text())
        assert sorted(poses) == sorted(train + production)
        reference_mask = component(type_name, TINY)[1]
        for name, pose in poses.items():
            foreground = read(truth / "foreground" / f"{name}.png")
            expected = cv2.warpPerspective(reference_mask, np.array(pose), TINY) > 127
            assert foreground.shape == (180, 320)
            assert ((foreground > 0) != expected).mean() < 0.01
        assert read(batch.train / type_name / "image_000.jpg").shape == (180, 320, 3)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    for name, seed in [("a", 7), ("b", 7), ("c", 8)]:
        write_batch(tmp_path / name, train=1, good=1, bad=2, seed=seed, frame_size=TINY)
    first, second, other = (files_below(tmp_path / name) for name in "abc")
    assert first == second
    photographs = [name for name in first if name.startswith("train")]
    assert photographs
    assert all(first[name] != other[name] for name in photographs)
    write_batch(tmp_path / "a", train=1, good=1, bad=2, frame_size=TINY)  # again, over the same files
    assert files_below(tmp_path / "a") == first


def test_a_photograph_does_not_depend_on_the_number_of_others(tmp_path: Path) -> None:
    few = write_batch(tmp_path / "few", types=["back"], train=1, good=1, bad=1, frame_size=TINY)
    many = write_batch(tmp_path / "many", train=3, good=2, bad=3, frame_size=TINY)
    name = Path("back") / "image_000.jpg"
    assert (few.train / name).read_bytes() == (many.train / name).read_bytes()
    all_files = set(files_below(many.production / "back").values())
    assert set(files_below(few.production / "back").values()) <= all_files


def test_all_photographs_differ(tmp_path: Path) -> None:
    batch = write_batch(tmp_path, train=4, good=4, bad=4, frame_size=TINY)
    photographs = list(files_below(batch.train).values()) + list(files_below(batch.production).values())
    assert len(set(photographs)) == len(photographs) == 24


def test_files_of_another_batch_are_an_error(tmp_path: Path) -> None:
    write_batch(tmp_path, types=["front"], train=2, good=1, bad=1, frame_size=TINY)
    with pytest.raises(InputError, match=r"image_001\.jpg"):
        write_batch(tmp_path, types=["front"], train=1, good=1, bad=1, frame_size=TINY)


def test_the_error_names_the_invalid_argument(tmp_path: Path) -> None:
    image, mask = component("front", TINY)
    with pytest.raises(InputError, match=r"'side'.*front, back"):
        draw_component("side")
    with pytest.raises(InputError, match=r"64x36.*too small"):
        draw_component("front", (64, 36))
    with pytest.raises(InputError, match=r"'dent'.*scratch"):
        add_defect(image, mask, "dent", stream(0))
    with pytest.raises(InputError, match="severity"):
        add_defect(image, mask, "scratch", stream(0), 0.0)
    with pytest.raises(InputError, match="no component"):
        add_defect(image, np.zeros_like(mask), "scratch", stream(0))
    with pytest.raises(InputError, match="turned by 90"):
        render_photograph(image, mask, [], stream(0), frame_size=TINY, turn=90)
    wrong: list[dict[str, Any]] = [
        {"types": ["side"]},
        {"types": []},
        {"kinds": ["dent"]},
        {"kinds": []},
        {"train": -1},
        {"most_defects": 0},
        {"severity": 0},
    ]
    for settings in wrong:
        with pytest.raises(InputError):
            write_batch(tmp_path / "out", frame_size=TINY, **settings)
    assert not (tmp_path / "out").exists()
