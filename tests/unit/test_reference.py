"""Tests of the choice of the reference: a good, typical photograph, also if bad ones come first in the list."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from rendered_photographs import rendered_photograph

from pixal.tasks.photographs.alignment.reference import describe_appearance, most_typical

ImageAndMask = tuple[NDArray[Any], NDArray[np.bool_]]

SIZE = (480, 270)
GOOD, BAD = 9, 6


def image_and_mask(seed: int, *kinds: str, type_name: str = "front", **pose: float) -> ImageAndMask:
    photo = rendered_photograph(type_name, seed, *kinds, size=SIZE, **pose)
    return photo.image, photo.foreground > 0


@functools.cache
def good_descriptors() -> NDArray[np.float32]:
    return np.array([describe_appearance(*image_and_mask(seed)) for seed in range(GOOD)])


def blurred(seed: int) -> ImageAndMask:
    image, mask = image_and_mask(seed)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 2)), mask


def over_exposed(seed: int) -> ImageAndMask:
    image, mask = image_and_mask(seed)
    return np.clip(image * 1.7, 0, 255).astype(np.uint8), mask


def too_dark(seed: int) -> ImageAndMask:
    image, mask = image_and_mask(seed)
    return (image * 0.6).astype(np.uint8), mask


def outside_frame(seed: int) -> ImageAndMask:
    image, mask = image_and_mask(seed)
    step = np.array([[1, 0, 150 if seed % 2 else -150], [0, 1, 0]], np.float64)
    return cv2.warpAffine(image, step, SIZE), cv2.warpAffine(mask.astype(np.uint8), step, SIZE) > 0


def other_type(seed: int) -> ImageAndMask:
    return image_and_mask(seed, type_name="back")


def upside_down(seed: int) -> ImageAndMask:
    return image_and_mask(seed, turn=180)


def other_side(seed: int) -> ImageAndMask:
    image, mask = image_and_mask(seed)
    return image[:, ::-1].copy(), mask[:, ::-1].copy()


def half_mask(seed: int) -> ImageAndMask:
    image, mask = image_and_mask(seed)
    return image, mask & (np.arange(SIZE[0]) < 240)


def whole_frame(seed: int) -> ImageAndMask:
    image, mask = image_and_mask(seed)
    return image, np.ones_like(mask)


def defective(seed: int) -> ImageAndMask:
    return image_and_mask(seed, "stain")


def mixed(seed: int) -> ImageAndMask:
    return KINDS[seed % len(KINDS)](seed)


LIGHT_KINDS = (blurred, over_exposed, too_dark)
POSE_KINDS = (outside_frame, upside_down)
PART_KINDS = (other_type, other_side, defective)
MASK_KINDS = (half_mask, whole_frame)
KINDS: list[Callable[[int], ImageAndMask]] = [*LIGHT_KINDS, *POSE_KINDS, *PART_KINDS, *MASK_KINDS]


@pytest.mark.parametrize("kind", [*KINDS, mixed])
def test_bad_photographs_are_not_chosen_if_two_in_five_are_bad(kind: Callable[[int], ImageAndMask]) -> None:
    bad = np.array([describe_appearance(*kind(seed)) for seed in range(100, 100 + BAD)])
    assert most_typical(np.concatenate([bad, good_descriptors()])) >= BAD


@pytest.mark.parametrize("kind", [blurred, other_type, defective])
def test_bad_photographs_are_not_chosen_if_every_part_is_turned(kind: Callable[[int], ImageAndMask]) -> None:
    turns = np.linspace(0, 320, GOOD)
    good = [describe_appearance(*image_and_mask(seed, turn=float(turn), scale=0.55)) for seed, turn in enumerate(turns)]
    type_name = "back" if kind is other_type else "front"
    kinds = ("stain", "splash", "torn_edge", "scratch") if kind is defective else ()
    bad = []
    for seed in range(100, 104):
        image, mask = image_and_mask(seed, *kinds, type_name=type_name, turn=77.0 * seed, scale=0.55)
        bad.append(describe_appearance(cv2.GaussianBlur(image, (0, 0), 2) if kind is blurred else image, mask))
    assert most_typical(np.array([*bad, *good])) >= len(bad)


ASPECTS = {"light": [0, 1, 2], "sharpness": [3], "angle": [4], "size": [5], "position": [6, 7]}
USUAL = np.array([60, 0, 40, -1, 2, 6, 1.5, 0.8])
SPREAD = np.array([2, 2, 2, 0.1, 2, 0.02, 0.04, 0.04])


@pytest.mark.parametrize("aspect", [*ASPECTS, "thumbnail", "spot"])
def test_photographs_that_are_unusual_in_one_respect_are_not_chosen(aspect: str) -> None:
    rng = np.random.default_rng(1)
    common = rng.integers(-40, 40, (32, 32, 3))
    thumbnails = common + rng.integers(-2, 3, (20, 32, 32, 3))
    entries = USUAL + SPREAD * rng.uniform(-1, 1, (20, 8))
    bad = np.arange(8)
    if aspect == "spot":
        thumbnails[bad, bad + 5, 20] += 12  # each at another pixel
    else:
        entries[bad] = USUAL + 0.1 * (entries[bad] - USUAL)
    if aspect == "thumbnail":
        thumbnails[bad] //= 2
    elif aspect in ASPECTS:
        entries[bad[:, None], ASPECTS[aspect]] += 6 * SPREAD[ASPECTS[aspect]]
    descriptors = np.concatenate([thumbnails.reshape(20, -1), entries], axis=1).astype(np.float32)
    assert descriptors.shape[1] == good_descriptors().shape[1]
    assert most_typical(descriptors) >= 8


def test_the_first_of_equals_is_chosen() -> None:
    good = good_descriptors()
    chosen = most_typical(good)
    assert most_typical(np.concatenate([good, good])) == chosen
    assert most_typical(np.repeat(good[:1], 5, axis=0)) == 0
    assert most_typical(good[:1]) == 0


def test_the_order_of_the_photographs_does_not_matter() -> None:
    good = good_descriptors()
    order = np.random.default_rng(0).permutation(GOOD)
    assert order[most_typical(good[order])] == most_typical(good)


def test_of_many_photographs_a_sample_is_compared() -> None:
    bad = np.array([describe_appearance(*other_type(seed)) for seed in range(100, 103)])
    descriptors = np.repeat(np.concatenate([bad, good_descriptors()]), 50, axis=0)
    assert len(descriptors) > 500
    assert most_typical(descriptors) >= 150


def test_descriptors_of_all_photographs_have_the_same_length() -> None:
    large = np.random.default_rng(0).integers(0, 256, (700, 900, 3), np.uint8)
    mask = np.zeros((700, 900), bool)
    mask[20:600, 30:90] = True
    assert describe_appearance(large, mask).shape == good_descriptors()[0].shape
    tiny = np.zeros((700, 900), bool)
    tiny[5, 5] = True
    assert np.isfinite(describe_appearance(large, tiny)).all()


def test_a_16_bit_photograph_has_the_descriptor_of_the_8_bit_one() -> None:
    image, mask = image_and_mask(0)
    assert np.array_equal(describe_appearance(image.astype(np.uint16) * 257, mask), good_descriptors()[0])


def test_the_thumbnail_does_not_depend_on_plate_and_turn() -> None:
    image, mask = image_and_mask(0)
    near = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    other_plate = np.where(near[..., None], image, 17).astype(np.uint8)
    turned, turned_mask = np.rot90(image, 1).copy(), np.rot90(mask, 1).copy()
    original, replaced, turned_descriptor = (
        describe_appearance(image, mask),
        describe_appearance(other_plate, mask),
        describe_appearance(turned, turned_mask),
    )
    assert np.array_equal(original, replaced)
    thumbnail = original[:-8].reshape(32, 32, 3)
    turns = [np.rot90(turned_descriptor[:-8].reshape(32, 32, 3), quarters) for quarters in range(4)]
    differences = [np.abs(turned - thumbnail).mean() for turned in turns]
    assert min(differences) < 0.1 * max(differences)
