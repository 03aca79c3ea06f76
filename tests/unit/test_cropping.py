"""The consensus mask among bad masks, the crop box against a loop, and the continued edge against a search."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.tasks.photographs.geometry import Box
from pixal.tasks.photographs.network_input.consensus import (
    Consensus,
    consensus_mask,
    crop_box,
    ignored_mask,
    nearest_inside,
    outside_share,
)

masks = hnp.arrays(bool, st.tuples(st.integers(1, 24), st.integers(1, 24)), elements=st.booleans())


def disc(x: float, y: float, radius: float, scale: int = 1) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[: 60 * scale, : 80 * scale] / scale
    return np.asarray((columns - x) ** 2 + (rows - y) ** 2 <= radius**2)


PART = disc(40, 30, 20, 2)
GREY = np.zeros(PART.shape, np.uint8)


def jittered(rng: np.random.Generator) -> NDArray[np.bool_]:
    """The part as a mask sees it: its outline moves by a part of a pixel."""
    return disc(40 + rng.normal(0, 0.1), 30 + rng.normal(0, 0.1), 20 + rng.normal(0, 0.15), 2)


def spoiled(kind: str, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A mask that has gone wrong."""
    if kind == "half":
        return jittered(rng) & (np.arange(PART.shape[1]) < 80)
    if kind == "shifted":
        return np.roll(jittered(rng), rng.integers(14, 34, 2) * rng.choice([-1, 1], 2), (0, 1))
    bad = {
        "nearly empty": rng.random(PART.shape) < 0.01,
        "empty": np.zeros(PART.shape, bool),
        "doubled": disc(40, 30, 28.3, 2),
        "whole frame": np.ones(PART.shape, bool),
    }
    return bad[kind]


def overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return float((one & other).sum() / (one | other).sum())


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
    named = {f"bad {i}": spoiled(KINDS[i % 6] if kind == "all" else kind, rng) for i in range(bad)}
    good = {f"good {i}": jittered(rng) for i in range(count - bad)}
    consensus = consensus_of({**named, **good})
    assert {name for name, _ in consensus.outliers()} == set(named)
    share = np.mean(list(good.values()), axis=0)  # what the good ones alone make
    assert consensus.share == pytest.approx(share, abs=1e-6)
    for level in (0.21, 0.5, 0.81):
        assert np.array_equal(consensus.mask(level), share > level)
        assert overlap(consensus.mask(level), PART) > 0.95


def test_good_masks_all_vote_even_rough_ones() -> None:
    rng = np.random.default_rng(0)
    assert consensus_of({str(i): jittered(rng) for i in range(40)}).outliers() == []
    # Where all outlines are known no better than this, none is clearly worse than the others.
    rough = {str(i): disc(40 + rng.normal(0, 2), 30 + rng.normal(0, 2), 20, 2) for i in range(40)}
    overlaps = [overlap(mask, PART) for mask in rough.values()]
    assert min(overlaps) < 0.8
    assert consensus_of(rough).outliers() == []


@pytest.mark.parametrize(("missing", "votes"), [(0.07, True), (0.13, False)])
def test_a_tenth_of_the_part_decides(missing: float, votes: bool) -> None:
    rng = np.random.default_rng(3)
    named = {str(i): jittered(rng) for i in range(9)}
    rows = np.nonzero(PART)[0]
    named["cut"] = PART & (np.arange(len(PART))[:, None] > np.quantile(rows, missing))
    outliers = [name for name, _ in consensus_of(named).outliers()]
    assert outliers == ([] if votes else ["cut"])


def test_one_or_two_masks_all_vote() -> None:
    """Of two that disagree none can be told to be the bad one: what both hold is the part."""
    one, other = disc(40, 30, 20, 2), disc(40, 30, 5, 2)
    assert np.array_equal(consensus_of({"one": one}).mask(0.5), one)
    for named in ({"one": one, "other": other}, {"other": other, "one": one}):
        consensus = consensus_of(named)
        assert consensus.outliers() == []
        assert np.array_equal(consensus.mask(0.5), one & other)
        assert np.array_equal(consensus.mask(0.4), one | other)


def test_without_a_majority_none_is_left_out() -> None:
    apart = {str(i): disc(10 + 20 * i, 30, 8, 2) for i in range(4)}
    assert consensus_of(apart).outliers() == []
    assert not consensus_of(apart).mask(0.5).any()
    empty = {str(i): np.zeros(PART.shape, bool) for i in range(4)}
    assert consensus_of(empty).outliers() == []
    assert consensus_of({**empty, "a": PART, "b": PART}).outliers() == []


@given(order=st.permutations(range(9)))
@settings(max_examples=20)
def test_the_order_of_adding_does_not_matter(order: list[int]) -> None:
    rng = np.random.default_rng(7)
    named = {f"image_{i}.png": jittered(rng) for i in range(7)}
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
    assert plain.share.tobytes() == shuffled.share.tobytes()
    assert plain.brightness.tobytes() == shuffled.brightness.tobytes()


def test_an_outlier_comes_with_its_overlap_and_photographs_all_count() -> None:
    rng = np.random.default_rng(1)
    named = {str(i): jittered(rng) for i in range(8)} | {
        "whole": np.ones(PART.shape, bool),
        "half": spoiled("half", rng),
    }
    consensus, greys = Consensus(), rng.integers(0, 256, (10, *PART.shape), dtype=np.uint8)
    for (name, mask), grey in zip(named.items(), greys, strict=True):
        consensus.add(name, mask, grey)
    majority = np.mean(list(named.values()), axis=0) > 0.5
    assert consensus.outliers() == [(name, overlap(named[name], majority)) for name in ("whole", "half")]
    assert consensus.brightness == pytest.approx(greys.mean(axis=0), rel=1e-6)
    assert consensus.share.dtype == consensus.brightness.dtype == np.float32


def test_memory_hardly_grows_with_the_number_of_masks() -> None:
    rng = np.random.default_rng(2)
    few, many = (consensus_of({str(i): jittered(rng) for i in range(count)}) for count in (1, 41))
    per_mask = (len(pickle.dumps(many)) - len(pickle.dumps(few))) / 40
    assert per_mask < PART.size / 32  # a quarter of one bit a pixel


def test_the_level_is_the_share_that_must_hold_a_pixel() -> None:
    share = np.array([[0.0, 0.25, 0.5, 0.75, 1.0]], np.float32)
    assert consensus_mask(share, 0.5).tolist() == [[False, False, False, True, True]]
    assert consensus_mask(share, 0.2).tolist() == [[False, True, True, True, True]]
    assert consensus_mask(share, 0.9).tolist() == [[False, False, False, False, True]]


def slow_span(held: NDArray[np.bool_], padding: int, multiple: int) -> tuple[int, int]:
    """First and end of what a line of pixels keeps: what is held, padded, then grown at the end, then at the start."""
    limit = len(held)
    first = min(i for i in range(limit) if held[i])
    end = max(i for i in range(limit) if held[i]) + 1
    for _ in range(padding):
        first, end = first - (first > 0), end + (end < limit)
    while (end - first) % multiple and end < limit:
        end += 1
    while (end - first) % multiple and first > 0:
        first -= 1
    return first, end


def slow_box(mask: NDArray[np.bool_], bright: NDArray[np.bool_], padding: int, multiple: int) -> Box:
    held = mask & bright
    top, bottom = slow_span(held.any(1), padding, multiple)
    left, right = slow_span(held.any(0), padding, multiple)
    return Box(left, top, right - left, bottom - top)


@given(mask=masks, padding=st.integers(0, 5), multiple=st.integers(1, 6), threshold=st.integers(0, 3), data=st.data())
@settings(max_examples=200)
def test_the_box_is_that_of_a_loop(
    mask: NDArray[np.bool_], padding: int, multiple: int, threshold: int, data: st.DataObject
) -> None:
    brightness = data.draw(hnp.arrays(np.float32, mask.shape, elements=st.sampled_from([0.0, 1.0, 2.0, 3.0, 4.0])))
    bright = brightness > threshold if threshold else np.ones_like(mask)
    assume((mask & bright).any())
    box = crop_box(mask, brightness, bg_threshold=threshold, padding=padding, multiple=multiple)
    assert box == slow_box(mask, bright, padding, multiple)
    x, y, width, height = box
    held = mask & bright
    assert held[y : y + height, x : x + width].sum() == held.sum()
    for length, limit in ((width, mask.shape[1]), (height, mask.shape[0])):
        assert length % multiple == 0 or length > limit - multiple  # nothing but the frame stops it


def test_a_threshold_of_none_keeps_black_parts() -> None:
    mask = disc(40, 30, 20)
    black = np.zeros(mask.shape, np.float32)
    assert crop_box(mask, black, bg_threshold=0, padding=0, multiple=1) == (20, 10, 41, 41)
    with pytest.raises(InputError, match=r"nothing is left.*bg_threshold"):
        crop_box(mask, black, bg_threshold=1, padding=0, multiple=1)
    with pytest.raises(InputError, match=r"nothing is left"):
        crop_box(np.zeros_like(mask), black, bg_threshold=0, padding=0, multiple=1)


@given(mask=masks, x=st.integers(0, 23), y=st.integers(0, 23), width=st.integers(1, 24), height=st.integers(1, 24))
def test_the_share_that_a_box_cuts_off(mask: NDArray[np.bool_], x: int, y: int, width: int, height: int) -> None:
    inside = sum(x <= column < x + width and y <= row < y + height for row, column in np.argwhere(mask))
    expected = 1 - inside / mask.sum() if mask.any() else 0
    assert outside_share(mask, Box(x, y, width, height)) == pytest.approx(expected)


def test_ignored_regions_are_the_union_of_their_boxes() -> None:
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
def test_an_ignored_region_beyond_the_frame_is_refused(box: tuple[int, int, int, int]) -> None:
    x, y, width, height = box
    with pytest.raises(InputError, match=rf"ignore_regions.*\[{x}, {y}, {width}, {height}\].*8 x 6"):
        ignored_mask((6, 8), [Box(0, 0, 1, 1), Box(*box)])


@given(mask=masks)
@settings(max_examples=200)
def test_each_pixel_gets_the_nearest_inside(mask: NDArray[np.bool_]) -> None:
    assume(mask.any())
    index = nearest_inside(mask)
    assert index.shape == mask.shape
    inside = np.argwhere(mask)
    for row, column in np.ndindex(mask.shape):
        chosen = divmod(int(index[row, column]), mask.shape[1])
        assert mask[chosen]
        away = float(np.hypot(chosen[0] - row, chosen[1] - column))
        nearest = float(np.hypot(*(inside - (row, column)).T).min())
        # OpenCV's distance adds up steps of its 5x5 neighbourhood: 5 % too long at most, exact close by.
        assert away <= 1.05 * nearest
        if nearest <= 2:
            assert away == nearest


def test_the_edge_is_continued_outward_and_the_inside_kept() -> None:
    mask = disc(40, 30, 20)
    image = np.random.default_rng(0).random((60, 80, 3))
    image[..., 0] = np.arange(80)
    continued = image.reshape(-1, 3)[nearest_inside(mask)]
    assert np.array_equal(continued[mask], image[mask])
    assert np.array_equal(continued[30, 61:], np.broadcast_to(image[30, 60], (19, 3)))
    assert np.array_equal(continued[30, :20], np.broadcast_to(image[30, 20], (20, 3)))
