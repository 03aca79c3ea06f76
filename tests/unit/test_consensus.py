"""Tests of the consensus mask with bad masks, and of crop box and continued edge against slow versions."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from rendered_photographs import overlap

from pixal.errors import InputError
from pixal.tasks.photographs.geometry import Box
from pixal.tasks.photographs.network_input.consensus import (
    Consensus,
    consensus_mask,
    crop_box,
    fraction_outside,
    ignored_mask,
    nearest_inside,
)

masks = hnp.arrays(bool, st.tuples(st.integers(1, 24), st.integers(1, 24)), elements=st.booleans())


def disc(x: float, y: float, radius: float, scale: int = 1) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[: 60 * scale, : 80 * scale] / scale
    return np.asarray((columns - x) ** 2 + (rows - y) ** 2 <= radius**2)


PART = disc(40, 30, 20, 2)
GREY = np.zeros(PART.shape, np.uint8)


def good_mask(rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return a good mask of the part: its outline moves by a fraction of a pixel."""
    return disc(40 + rng.normal(0, 0.1), 30 + rng.normal(0, 0.1), 20 + rng.normal(0, 0.15), 2)


def bad_mask(kind: str, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return a bad mask of the given kind."""
    if kind == "half":
        return good_mask(rng) & (np.arange(PART.shape[1]) < 80)
    if kind == "shifted":
        return np.roll(good_mask(rng), rng.integers(14, 34, 2) * rng.choice([-1, 1], 2), (0, 1))
    bad = {
        "nearly empty": rng.random(PART.shape) < 0.01,
        "empty": np.zeros(PART.shape, bool),
        "doubled": disc(40, 30, 28.3, 2),
        "whole frame": np.ones(PART.shape, bool),
    }
    return bad[kind]


def consensus_of(named: dict[str, NDArray[np.bool_]]) -> Consensus:
    consensus = Consensus()
    for name, mask in named.items():
        consensus.add(name, mask, GREY)
    return consensus


KINDS = ["nearly empty", "empty", "doubled", "whole frame", "half", "shifted"]


@pytest.mark.parametrize("kind", [*KINDS, "all"])
@pytest.mark.parametrize(("count", "bad"), [(3, 1), (5, 1), (10, 1), (10, 3), (40, 12)])
def test_bad_masks_have_no_vote(kind: str, count: int, bad: int) -> None:
    rng = np.random.default_rng(count + bad)
    named = {f"bad {i}": bad_mask(KINDS[i % 6] if kind == "all" else kind, rng) for i in range(bad)}
    good = {f"good {i}": good_mask(rng) for i in range(count - bad)}
    consensus = consensus_of({**named, **good})
    assert {name for name, _ in consensus.outliers()} == set(named)
    fraction = np.mean(list(good.values()), axis=0)
    assert consensus.fraction == pytest.approx(fraction, abs=1e-6)
    for level in (0.21, 0.5, 0.81):
        assert np.array_equal(consensus.mask(level), fraction > level)
        assert overlap(consensus.mask(level), PART) > 0.95


def test_all_good_masks_vote_also_if_they_are_rough() -> None:
    rng = np.random.default_rng(0)
    assert consensus_of({str(i): good_mask(rng) for i in range(40)}).outliers() == []
    # All outlines are equally uncertain, so no mask is clearly worse than the others.
    rough = {str(i): disc(40 + rng.normal(0, 2), 30 + rng.normal(0, 2), 20, 2) for i in range(40)}
    overlaps = [overlap(mask, PART) for mask in rough.values()]
    assert min(overlaps) < 0.8
    assert consensus_of(rough).outliers() == []


@pytest.mark.parametrize(("missing", "votes"), [(0.07, True), (0.13, False)])
def test_a_mask_that_misses_more_than_a_tenth_of_the_part_has_no_vote(missing: float, votes: bool) -> None:
    rng = np.random.default_rng(3)
    named = {str(i): good_mask(rng) for i in range(9)}
    rows = np.nonzero(PART)[0]
    named["cut"] = PART & (np.arange(len(PART))[:, None] > np.quantile(rows, missing))
    outliers = [name for name, _ in consensus_of(named).outliers()]
    assert outliers == ([] if votes else ["cut"])


def test_one_or_two_masks_all_vote() -> None:
    """With two different masks it is unknown which one is bad; the consensus is their intersection."""
    one, other = disc(40, 30, 20, 2), disc(40, 30, 5, 2)
    assert np.array_equal(consensus_of({"one": one}).mask(0.5), one)
    for named in ({"one": one, "other": other}, {"other": other, "one": one}):
        consensus = consensus_of(named)
        assert consensus.outliers() == []
        assert np.array_equal(consensus.mask(0.5), one & other)
        assert np.array_equal(consensus.mask(0.4), one | other)


def test_without_a_majority_all_masks_vote() -> None:
    difference = {str(i): disc(10 + 20 * i, 30, 8, 2) for i in range(4)}
    assert consensus_of(difference).outliers() == []
    assert not consensus_of(difference).mask(0.5).any()
    empty = {str(i): np.zeros(PART.shape, bool) for i in range(4)}
    assert consensus_of(empty).outliers() == []
    assert consensus_of({**empty, "a": PART, "b": PART}).outliers() == []


@given(order=st.permutations(range(9)))
@settings(max_examples=20)
def test_the_order_of_the_masks_does_not_matter(order: list[int]) -> None:
    rng = np.random.default_rng(7)
    named = {f"image_{i}.png": good_mask(rng) for i in range(7)}
    named |= {"a.png": np.ones(PART.shape, bool), "b.png": np.ones(PART.shape, bool)}
    greys = {name: rng.integers(0, 256, PART.shape, dtype=np.uint8) for name in named}
    plain, shuffled = Consensus(), Consensus()
    names = list(named)
    for name in names:
        plain.add(name, named[name], greys[name])
    for i in order:
        shuffled.add(names[i], named[names[i]], greys[names[i]])
    assert plain.outliers() == shuffled.outliers()
    assert [name for name, _ in plain.outliers()] == ["a.png", "b.png"]
    assert plain.fraction.tobytes() == shuffled.fraction.tobytes()
    assert plain.brightness.tobytes() == shuffled.brightness.tobytes()


def test_outliers_have_an_overlap_and_all_photographs_count_for_brightness() -> None:
    rng = np.random.default_rng(1)
    named = {str(i): good_mask(rng) for i in range(8)} | {
        "whole": np.ones(PART.shape, bool),
        "half": bad_mask("half", rng),
    }
    consensus, greys = Consensus(), rng.integers(0, 256, (10, *PART.shape), dtype=np.uint8)
    for (name, mask), grey in zip(named.items(), greys, strict=True):
        consensus.add(name, mask, grey)
    majority = np.mean(list(named.values()), axis=0) > 0.5
    assert consensus.outliers() == [(name, overlap(named[name], majority)) for name in ("whole", "half")]
    assert consensus.brightness == pytest.approx(greys.mean(axis=0), rel=1e-6)
    assert consensus.fraction.dtype == consensus.brightness.dtype == np.float32


def test_a_mask_takes_little_memory() -> None:
    rng = np.random.default_rng(2)
    few, many = (consensus_of({str(i): good_mask(rng) for i in range(count)}) for count in (1, 41))
    per_mask = (len(pickle.dumps(many)) - len(pickle.dumps(few))) / 40
    assert per_mask < PART.size / 32  # a quarter of a bit per pixel


def test_the_level_is_the_fraction_that_must_contain_a_pixel() -> None:
    fraction = np.array([[0.0, 0.25, 0.5, 0.75, 1.0]], np.float32)
    assert consensus_mask(fraction, 0.5).tolist() == [[False, False, False, True, True]]
    assert consensus_mask(fraction, 0.2).tolist() == [[False, True, True, True, True]]
    assert consensus_mask(fraction, 0.9).tolist() == [[False, False, False, False, True]]


def slow_span(is_part: NDArray[np.bool_], padding: int, multiple: int) -> tuple[int, int]:
    """Return first and end of the pixels to keep: padded, then extended at the end, then at the start."""
    limit = len(is_part)
    first = min(i for i in range(limit) if is_part[i])
    end = max(i for i in range(limit) if is_part[i]) + 1
    for _ in range(padding):
        first, end = first - (first > 0), end + (end < limit)
    while (end - first) % multiple and end < limit:
        end += 1
    while (end - first) % multiple and first > 0:
        first -= 1
    return first, end


def slow_box(mask: NDArray[np.bool_], bright: NDArray[np.bool_], padding: int, multiple: int) -> Box:
    is_part = mask & bright
    top, bottom = slow_span(is_part.any(1), padding, multiple)
    left, right = slow_span(is_part.any(0), padding, multiple)
    return Box(left, top, right - left, bottom - top)


@given(mask=masks, padding=st.integers(0, 5), multiple=st.integers(1, 6), threshold=st.integers(0, 3), data=st.data())
@settings(max_examples=200)
def test_the_crop_box_equals_that_of_a_loop(
    mask: NDArray[np.bool_], padding: int, multiple: int, threshold: int, data: st.DataObject
) -> None:
    brightness = data.draw(hnp.arrays(np.float32, mask.shape, elements=st.sampled_from([0.0, 1.0, 2.0, 3.0, 4.0])))
    bright = brightness > threshold if threshold else np.ones_like(mask)
    assume((mask & bright).any())
    box = crop_box(mask, brightness, bg_threshold=threshold, padding=padding, multiple=multiple)
    assert box == slow_box(mask, bright, padding, multiple)
    x, y, width, height = box
    is_part = mask & bright
    assert is_part[y : y + height, x : x + width].sum() == is_part.sum()
    for length, limit in ((width, mask.shape[1]), (height, mask.shape[0])):
        assert length % multiple == 0 or length > limit - multiple  # only the frame limits it


def test_without_a_threshold_black_parts_count() -> None:
    mask = disc(40, 30, 20)
    black = np.zeros(mask.shape, np.float32)
    assert crop_box(mask, black, bg_threshold=0, padding=0, multiple=1) == (20, 10, 41, 41)
    with pytest.raises(InputError, match=r"nothing is left.*bg_threshold"):
        crop_box(mask, black, bg_threshold=1, padding=0, multiple=1)
    with pytest.raises(InputError, match=r"nothing is left"):
        crop_box(np.zeros_like(mask), black, bg_threshold=0, padding=0, multiple=1)


@given(mask=masks, x=st.integers(0, 23), y=st.integers(0, 23), width=st.integers(1, 24), height=st.integers(1, 24))
def test_fraction_outside_equals_a_count(mask: NDArray[np.bool_], x: int, y: int, width: int, height: int) -> None:
    inside = sum(x <= column < x + width and y <= row < y + height for row, column in np.argwhere(mask))
    expected = 1 - inside / mask.sum() if mask.any() else 0
    assert fraction_outside(mask, Box(x, y, width, height)) == pytest.approx(expected)


def test_the_ignored_mask_is_the_union_of_the_boxes() -> None:
    ignored = ignored_mask((6, 8), [Box(1, 2, 3, 2), Box(3, 3, 5, 3)])
    expected = [
        "........",
        "........",
        ".###....",
        ".#######",
        "...#####",
        "...#####",
    ]
    assert ["".join("#" if pixel else "." for pixel in row) for row in ignored] == expected
    assert not ignored_mask((6, 8), []).any()
    assert ignored_mask((6, 8), [Box(0, 0, 8, 6)]).all()


@pytest.mark.parametrize("box", [(0, 0, 9, 6), (0, 0, 8, 7), (8, 0, 1, 1), (0, 6, 1, 1), (-1, 0, 3, 3), (2, 2, 0, 3)])
def test_an_ignored_region_beyond_the_frame_is_an_error(box: tuple[int, int, int, int]) -> None:
    x, y, width, height = box
    with pytest.raises(InputError, match=rf"ignore_regions.*\[{x}, {y}, {width}, {height}\].*8 x 6"):
        ignored_mask((6, 8), [Box(0, 0, 1, 1), Box(*box)])


@given(mask=masks)
@settings(max_examples=200)
def test_each_pixel_gets_the_nearest_pixel_inside(mask: NDArray[np.bool_]) -> None:
    assume(mask.any())
    index = nearest_inside(mask)
    assert index.shape == mask.shape
    inside = np.argwhere(mask)
    for row, column in np.ndindex(mask.shape):
        chosen = divmod(int(index[row, column]), mask.shape[1])
        assert mask[chosen]
        distance = float(np.hypot(chosen[0] - row, chosen[1] - column))
        nearest = float(np.hypot(*(inside - (row, column)).T).min())
        # OpenCV's distance is a sum of steps in a 5x5 neighbourhood: at most 5 % too long, exact for short distances.
        assert distance <= 1.05 * nearest
        if nearest <= 2:
            assert distance == nearest


def test_the_edge_is_continued_outwards_and_the_inside_kept() -> None:
    mask = disc(40, 30, 20)
    image = np.random.default_rng(0).random((60, 80, 3))
    image[..., 0] = np.arange(80)
    continued = image.reshape(-1, 3)[nearest_inside(mask)]
    assert np.array_equal(continued[mask], image[mask])
    assert np.array_equal(continued[30, 61:], np.broadcast_to(image[30, 60], (19, 3)))
    assert np.array_equal(continued[30, :20], np.broadcast_to(image[30, 20], (20, 3)))
