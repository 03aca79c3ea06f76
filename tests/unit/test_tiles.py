"""Tiles: they cover every image, their windows sum to one, and as data they are drawn from the seed alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixal.inputs import InputSet
from pixal.train_model.conv_autoencoder.means import Means
from pixal.train_model.conv_autoencoder.tile_training import Tiles
from pixal.train_model.conv_autoencoder.tiles import Grid, starts

SHAPE = (20, 31, 2)


@given(size=st.integers(1, 200), tile=st.integers(1, 80), overlap=st.integers(0, 79))
def test_tiles_cover_a_side_with_the_overlap_asked_for_and_no_more_than_needed(
    size: int, tile: int, overlap: int
) -> None:
    tile = min(tile, size)
    overlap = min(overlap, tile - 1)
    firsts = starts(size, tile, overlap)
    assert firsts[0] == 0
    assert firsts[-1] == size - tile
    steps = np.diff(firsts)
    assert (steps > 0).all()
    assert (steps <= tile - overlap).all()
    if len(firsts) > 1:  # one tile fewer could not reach
        assert (len(firsts) - 2) * (tile - overlap) + tile < size


@settings(max_examples=50, deadline=None)
@given(
    height=st.integers(1, 70), width=st.integers(1, 70), tile=st.integers(1, 40) | st.none(), overlap=st.integers(0, 20)
)
def test_windows_sum_to_one_at_every_pixel(height: int, width: int, tile: int | None, overlap: int) -> None:
    grid, total = Grid(height, width, tile, overlap), np.zeros((height, width))
    for place, window in zip(grid.places(), grid.windows(), strict=True):
        assert (window > 0).all()
        total[place] += window
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_blended_tiles_of_an_image_are_the_image_and_blend_without_a_seam() -> None:
    grid = Grid(50, 70, 32, 12)
    image = np.random.default_rng(0).random((50, 70, 3)).astype(np.float32)
    np.testing.assert_allclose(grid.blend(image[place] for place in grid.places()), image, atol=1e-6)
    # Tiles that disagree by 1 with their neighbours: along the image no step is as large as without a window.
    levels = grid.blend(np.full((32, 32, 1), n % 2, np.float32) for n in range(len(grid.places())))
    assert np.abs(np.diff(levels, axis=1)).max() < 0.2


def test_without_a_tile_or_with_a_large_one_there_is_the_whole_image() -> None:
    for tile in (None, 100):
        grid = Grid(20, 31, tile, 5)
        assert (grid.frame, grid.places()) == ((20, 31), [(slice(0, 20), slice(0, 31))])
        assert (grid.windows()[0] == 1).all()


def inputs_of(count: int = 4) -> InputSet:
    data = np.random.default_rng(1).random((count, int(np.prod(SHAPE)))).astype(np.float32)
    return InputSet(data, SHAPE, ("R", "G"), tuple(f"{n}.png" for n in range(count)))


def part_masks() -> np.ndarray:
    masks = np.zeros((2, *SHAPE[:2]), bool)
    masks[0, 2:18, 3:29] = masks[1, 2:8, 3:9] = True
    return masks


def tiles(inputs: InputSet, rows: list[int], *, random: bool, seed: int = 3, weights: Any = None) -> Tiles:
    kinds = np.arange(len(inputs)) % 2
    means = Means.of(inputs, np.arange(len(inputs)), kinds, part_masks())
    grid = Grid(*SHAPE[:2], 8, 2)
    return Tiles(inputs, np.array(rows), kinds, means, grid, weights=weights, random=random, seed=seed)


def test_means_are_those_of_each_type_and_spread_is_that_of_the_part() -> None:
    inputs, kinds = inputs_of(5), np.arange(5) % 2
    found = Means.of(inputs, np.arange(5), kinds, part_masks())
    images, squares = inputs.images(), []
    for kind, mask in enumerate(part_masks()):
        np.testing.assert_allclose(found.images[kind], images[kind::2].mean(0), atol=1e-6)
        squares.append(((images[kind::2] - images[kind::2].mean(0)) ** 2)[:, mask].reshape(-1, 2))
    np.testing.assert_allclose(found.spread, np.sqrt(np.concatenate(squares).mean(0)), rtol=1e-5)
    alone = Means.of(inputs, np.array([1]), kinds, part_masks())
    assert alone.spread.tolist() == [np.float32(1e-3)] * 2


def test_tiles_of_the_grid_are_deviations_within_the_part_and_those_that_hold_none_of_it_are_left_out() -> None:
    inputs = inputs_of()
    weights = np.random.default_rng(2).random((2, inputs.data.shape[1])).astype(np.float32)
    data = tiles(inputs, [2, 1], random=False, weights=weights)
    places = Grid(*SHAPE[:2], 8, 2).places()
    x, target = data.batch(np.arange(len(data)))
    expected, counted = [], []
    for row, kind in ((2, 0), (1, 1)):
        mean = inputs.images()[kind::2].mean(0)
        for place in places:
            if part_masks()[kind][place].any():
                deviation = (inputs.images()[row] - mean) * part_masks()[kind][..., None]
                expected.append(deviation[place])
                counted.append(weights[kind].reshape(SHAPE)[place])
    np.testing.assert_allclose(x, expected, atol=1e-6)
    np.testing.assert_array_equal(target[..., :2], x)
    np.testing.assert_array_equal(target[..., 2:], counted)
    assert 0 < len(data) < 2 * len(places)


def test_random_tiles_hold_the_part_and_depend_on_seed_and_epoch_alone() -> None:
    inputs = inputs_of()

    def drawn(epoch: int, seed: int = 3, before: int | None = None) -> np.ndarray:
        data = tiles(inputs, [0, 1, 2], random=True, seed=seed)
        if before is not None:
            data.start(before)
        data.start(epoch)
        return np.asarray(data.batch(np.arange(len(data)))[0])

    first = drawn(1)
    assert len(first) == 7 + 1 + 7  # as many as the part has room for: 416 and 36 pixels in tiles of 64
    assert (np.abs(first).max((1, 2, 3)) > 0).all()
    assert drawn(2, before=1).tobytes() == drawn(2).tobytes() != first.tobytes()
    assert drawn(1, seed=4).tobytes() != first.tobytes()


def test_a_batch_is_read_from_a_memory_map_as_from_memory(tmp_path: Any) -> None:
    inputs = inputs_of()
    inputs.data.tofile(tmp_path / "data")
    mapped = np.memmap(tmp_path / "data", np.float32, "r", shape=inputs.data.shape)
    from_disk = InputSet(mapped, inputs.shape, inputs.channels, inputs.names)
    found, expected = (tiles(one, [0, 3], random=False).batch(np.arange(9))[0] for one in (from_disk, inputs))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("count", [1, 2])
def test_means_are_kept_to_the_bit_and_a_damaged_file_is_named(tmp_path: Any, count: int) -> None:
    from pixal.errors import ModelError

    inputs = inputs_of()
    means = Means.of(inputs, np.arange(4), np.zeros(4, int), part_masks()[:count])
    means.save(tmp_path / "means.npz")
    loaded = Means.load(tmp_path / "means.npz", (count, *SHAPE))
    for name in ("images", "masks", "spread"):
        assert getattr(loaded, name).tobytes() == getattr(means, name).tobytes()
    for path, shape, said in (
        (tmp_path / "none.npz", (count, *SHAPE), "does not exist"),
        (tmp_path / "means.npz", (3, *SHAPE), "does not match this model"),
    ):
        with pytest.raises(ModelError, match=said):
            Means.load(path, shape)
    (tmp_path / "means.npz").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="is damaged"):
        Means.load(tmp_path / "means.npz", (count, *SHAPE))
