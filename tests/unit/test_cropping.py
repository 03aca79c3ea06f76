"""The consensus mask, the crop box against a loop, and the continued edge against a search."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.preprocessing.cropping import Box, consensus_mask, crop_box, nearest_inside

masks = hnp.arrays(bool, st.tuples(st.integers(1, 24), st.integers(1, 24)), elements=st.booleans())


def disc(x: float, y: float, radius: float) -> NDArray[np.bool_]:
    rows, columns = np.mgrid[:60, :80]
    return np.asarray((columns - x) ** 2 + (rows - y) ** 2 <= radius**2)


def test_a_few_bad_masks_do_not_move_the_consensus() -> None:
    good = [disc(40, 30, 20)] * 6
    bad = [np.ones((60, 80), bool), np.zeros((60, 80), bool), disc(20, 20, 25), disc(40, 30, 10)]
    share = np.mean([*good, *bad], axis=0, dtype=np.float32)
    assert np.array_equal(consensus_mask(share, 0.5), good[0])


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
    return left, top, right - left, bottom - top


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
