"""The choice of the reference: a good and typical photograph, whatever bad ones stand first in the list."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pixal.synthetic import Photograph, draw_component, render_photograph
from pixal.tasks.photographs.alignment import reference
from pixal.tasks.photographs.alignment.reference import describe_appearance, most_typical

Pair = tuple[NDArray[Any], NDArray[np.bool_]]

SIZE = (480, 270)
GOOD, BAD = 9, 6

drawn = functools.cache(draw_component)


@functools.cache
def photograph(seed: int, *kinds: str, type_name: str = "front", turn: float = 0.0, scale: float = 1.0) -> Photograph:
    rng = np.random.default_rng(seed)
    return render_photograph(*drawn(type_name, SIZE), kinds, rng, frame_size=SIZE, turn=turn, scale=scale)


def taken(seed: int, *kinds: str, **how: Any) -> Pair:
    photo = photograph(seed, *kinds, **how)
    return photo.image, photo.foreground > 0


@functools.cache
def good_portraits() -> NDArray[np.float32]:
    return np.array([describe_appearance(*taken(seed)) for seed in range(GOOD)])


def blurred(seed: int) -> Pair:
    image, mask = taken(seed)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), 2)), mask


def over_exposed(seed: int) -> Pair:
    image, mask = taken(seed)
    return np.clip(image * 1.7, 0, 255).astype(np.uint8), mask


def too_dark(seed: int) -> Pair:
    image, mask = taken(seed)
    return (image * 0.6).astype(np.uint8), mask


def half_out(seed: int) -> Pair:
    image, mask = taken(seed)
    step = np.array([[1, 0, 150 if seed % 2 else -150], [0, 1, 0]], np.float64)
    return cv2.warpAffine(image, step, SIZE), cv2.warpAffine(mask.astype(np.uint8), step, SIZE) > 0


def other_type(seed: int) -> Pair:
    return taken(seed, type_name="back")


def upside_down(seed: int) -> Pair:
    return taken(seed, turn=180)


def other_side(seed: int) -> Pair:
    image, mask = taken(seed)
    return image[:, ::-1].copy(), mask[:, ::-1].copy()


def half_mask(seed: int) -> Pair:
    image, mask = taken(seed)
    return image, mask & (np.arange(SIZE[0]) < 240)


def whole_frame(seed: int) -> Pair:
    image, mask = taken(seed)
    return image, np.ones_like(mask)


def defective(seed: int) -> Pair:
    return taken(seed, "stain")


def stray(seed: int) -> Pair:
    return KINDS[seed % len(KINDS)](seed)


OF_LIGHT = (blurred, over_exposed, too_dark)
OF_POSE = (half_out, upside_down)
OF_PART = (other_type, other_side, defective)
OF_MASK = (half_mask, whole_frame)
KINDS: list[Callable[[int], Pair]] = [*OF_LIGHT, *OF_POSE, *OF_PART, *OF_MASK]


@pytest.mark.parametrize("kind", [*KINDS, stray])
def test_two_bad_photographs_in_five_that_stand_first_are_not_chosen(kind: Callable[[int], Pair]) -> None:
    bad = np.array([describe_appearance(*kind(seed)) for seed in range(100, 100 + BAD)])
    assert most_typical(np.concatenate([bad, good_portraits()])) >= BAD


@pytest.mark.parametrize("kind", [blurred, other_type, defective])
def test_bad_photographs_are_not_chosen_where_every_part_lies_another_way(kind: Callable[[int], Pair]) -> None:
    turns = np.linspace(0, 320, GOOD)
    good = [describe_appearance(*taken(seed, turn=float(turn), scale=0.55)) for seed, turn in enumerate(turns)]
    how = {"type_name": "back"} if kind is other_type else {}
    kinds = ("stain", "splash", "torn_edge", "scratch") if kind is defective else ()
    bad = []
    for seed in range(100, 104):
        image, mask = taken(seed, *kinds, turn=77.0 * seed, scale=0.55, **how)
        bad.append(describe_appearance(cv2.GaussianBlur(image, (0, 0), 2) if kind is blurred else image, mask))
    assert most_typical(np.array([*bad, *good])) >= len(bad)


ASPECTS = {"light": [0, 1, 2], "sharpness": [3], "angle": [4], "size": [5], "place": [6, 7]}
USUAL = np.array([60, 0, 40, -1, 2, 6, 1.5, 0.8])
SPREAD = np.array([2, 2, 2, 0.1, 2, 0.02, 0.04, 0.04])


@pytest.mark.parametrize("aspect", [*ASPECTS, "picture", "spot"])
def test_photographs_odd_in_one_respect_alone_are_not_chosen(aspect: str) -> None:
    rng = np.random.default_rng(1)
    shown = rng.integers(-40, 40, (32, 32, 3))
    pictures = shown + rng.integers(-2, 3, (20, 32, 32, 3))
    figures = USUAL + SPREAD * rng.uniform(-1, 1, (20, 8))
    bad = np.arange(8)
    if aspect == "spot":
        pictures[bad, bad + 5, 20] += 12  # each at a place of its own
    else:
        figures[bad] = USUAL + 0.1 * (figures[bad] - USUAL)
    if aspect == "picture":
        pictures[bad] //= 2
    elif aspect in ASPECTS:
        figures[bad[:, None], ASPECTS[aspect]] += 6 * SPREAD[ASPECTS[aspect]]
    portraits = np.concatenate([pictures.reshape(20, -1), figures], axis=1).astype(np.float32)
    assert portraits.shape[1] == good_portraits().shape[1]
    assert most_typical(portraits) >= 8


def test_the_first_of_equals_is_chosen() -> None:
    ours = good_portraits()
    chosen = most_typical(ours)
    assert most_typical(np.concatenate([ours, ours])) == chosen
    assert most_typical(np.repeat(ours[:1], 5, axis=0)) == 0
    assert most_typical(ours[:1]) == 0


def test_the_order_of_the_photographs_does_not_matter() -> None:
    ours = good_portraits()
    order = np.random.default_rng(0).permutation(GOOD)
    assert order[most_typical(ours[order])] == most_typical(ours)


def test_of_many_photographs_a_sample_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    bad = np.array([describe_appearance(*other_type(seed)) for seed in range(100, 103)])
    ours = np.repeat(np.concatenate([bad, good_portraits()]), 20, axis=0)
    monkeypatch.setattr(reference, "_MOST", 25)
    assert most_typical(ours) >= 60


def test_a_portrait_is_of_one_length_whatever_the_photograph() -> None:
    large = np.random.default_rng(0).integers(0, 256, (700, 900, 3), np.uint8)
    mask = np.zeros((700, 900), bool)
    mask[20:600, 30:90] = True
    assert describe_appearance(large, mask).shape == good_portraits()[0].shape
    tiny = np.zeros((700, 900), bool)
    tiny[5, 5] = True
    assert np.isfinite(describe_appearance(large, tiny)).all()


def test_a_portrait_of_sixteen_bits_is_that_of_eight() -> None:
    image, mask = taken(0)
    assert np.array_equal(describe_appearance(image.astype(np.uint16) * 257, mask), good_portraits()[0])


def test_a_portrait_shows_the_part_and_not_the_plate_or_the_pose() -> None:
    image, mask = taken(0)
    near = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    other_plate = np.where(near[..., None], image, 17).astype(np.uint8)
    turned, its_mask = np.rot90(image, 1).copy(), np.rot90(mask, 1).copy()
    plain, replaced, upright = (
        describe_appearance(image, mask),
        describe_appearance(other_plate, mask),
        describe_appearance(turned, its_mask),
    )
    assert np.array_equal(plain, replaced)
    picture = plain[:-8].reshape(32, 32, 3)
    apart = [np.abs(np.rot90(upright[:-8].reshape(32, 32, 3), quarters) - picture).mean() for quarters in range(4)]
    assert min(apart) < 0.1 * max(apart)
