"""Tiles cover every image, their weights sum to one, and random tiles depend on the seed and the epoch only."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixal.errors import ModelError
from pixal.inputs import InputSet
from pixal.train_model.conv_autoencoder.means import Means
from pixal.train_model.conv_autoencoder.tile_training import TileData
from pixal.train_model.conv_autoencoder.tiles import Grid, tile_starts

SHAPE = (20, 31, 2)


@given(size=st.integers(1, 200), tile=st.integers(1, 80), overlap=st.integers(0, 79))
def test_the_fewest_tiles_cover_a_side_with_the_requested_overlap(size: int, tile: int, overlap: int) -> None:
    tile = min(tile, size)
    overlap = min(overlap, tile - 1)
    starts = tile_starts(size, tile, overlap)
    assert starts[0] == 0
    assert starts[-1] == size - tile
    steps = np.diff(starts)
    assert (steps > 0).all()
    assert (steps <= tile - overlap).all()
    if len(starts) > 1:  # one tile fewer would not cover the side
        assert (len(starts) - 2) * (tile - overlap) + tile < size


@settings(max_examples=50, deadline=None)
@given(
    height=st.integers(1, 70), width=st.integers(1, 70), tile=st.integers(1, 40) | st.none(), overlap=st.integers(0, 20)
)
def test_blending_weights_sum_to_one_at_every_pixel(height: int, width: int, tile: int | None, overlap: int) -> None:
    grid, total = Grid(height, width, tile, overlap), np.zeros((height, width))
    for window, weights in zip(grid.windows(), grid.blending_weights(), strict=True):
        assert (weights > 0).all()
        total[window] += weights
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_blending_the_tiles_of_an_image_gives_the_image_without_a_seam() -> None:
    grid = Grid(50, 70, 32, 12)
    image = np.random.default_rng(0).random((50, 70, 3)).astype(np.float32)
    np.testing.assert_allclose(grid.blend(image[window] for window in grid.windows()), image, atol=1e-6)
    # Neighbouring tiles differ by 1. Without blending, there would be a step of 1 between them.
    levels = grid.blend(np.full((32, 32, 1), n % 2, np.float32) for n in range(len(grid.windows())))
    assert np.abs(np.diff(levels, axis=1)).max() < 0.2


def test_without_a_tile_size_or_with_a_large_one_the_image_is_one_tile() -> None:
    for tile in (None, 100):
        grid = Grid(20, 31, tile, 5)
        assert (grid.tile_shape, grid.windows()) == ((20, 31), [(slice(0, 20), slice(0, 31))])
        assert (grid.blending_weights()[0] == 1).all()


def inputs_of(count: int = 4) -> InputSet:
    data = np.random.default_rng(1).random((count, int(np.prod(SHAPE)))).astype(np.float32)
    return InputSet(data, SHAPE, ("R", "G"), tuple(f"{index}.png" for index in range(count)))


def part_masks() -> np.ndarray:
    masks = np.zeros((2, *SHAPE[:2]), bool)
    masks[0, 2:18, 3:29] = masks[1, 2:8, 3:9] = True
    return masks


def tiles(inputs: InputSet, rows: list[int], *, random: bool, seed: int = 3, weights: Any = None) -> TileData:
    types = np.arange(len(inputs)) % 2
    means = Means.measure(inputs, np.arange(len(inputs)), types, part_masks())
    grid = Grid(*SHAPE[:2], 8, 2)
    return TileData(inputs, np.array(rows), types, means, grid, weights=weights, random=random, seed=seed)


def test_there_is_one_mean_per_type_and_the_spread_is_measured_on_the_part() -> None:
    inputs, types = inputs_of(5), np.arange(5) % 2
    means = Means.measure(inputs, np.arange(5), types, part_masks())
    images, squares = inputs.images(), []
    for type_index, mask in enumerate(part_masks()):
        np.testing.assert_allclose(means.images[type_index], images[type_index::2].mean(0), atol=1e-6)
        squares.append(((images[type_index::2] - images[type_index::2].mean(0)) ** 2)[:, mask].reshape(-1, 2))
    np.testing.assert_allclose(means.spread, np.sqrt(np.concatenate(squares).mean(0)), rtol=1e-5)
    alone = Means.measure(inputs, np.array([1]), types, part_masks())
    assert alone.spread.tolist() == [np.float32(1e-3)] * 2


def test_tiles_of_the_grid_hold_deviations_on_the_part_and_empty_tiles_are_left_out() -> None:
    inputs = inputs_of()
    weights = np.random.default_rng(2).random((2, inputs.data.shape[1])).astype(np.float32)
    data = tiles(inputs, [2, 1], random=False, weights=weights)
    windows = Grid(*SHAPE[:2], 8, 2).windows()
    x, target = data.batch(np.arange(len(data)))
    expected, expected_weights = [], []
    for row, type_index in ((2, 0), (1, 1)):
        mean = inputs.images()[type_index::2].mean(0)
        for window in windows:
            if part_masks()[type_index][window].any():
                deviation = (inputs.images()[row] - mean) * part_masks()[type_index][..., None]
                expected.append(deviation[window])
                expected_weights.append(weights[type_index].reshape(SHAPE)[window])
    np.testing.assert_allclose(x, expected, atol=1e-6)
    np.testing.assert_array_equal(target[..., :2], x)
    np.testing.assert_array_equal(target[..., 2:], expected_weights)
    assert 0 < len(data) < 2 * len(windows)


def test_random_tiles_show_the_part_and_depend_on_seed_and_epoch_only() -> None:
    inputs = inputs_of()

    def draw(epoch: int, seed: int = 3, before: int | None = None) -> np.ndarray:
        data = tiles(inputs, [0, 1, 2], random=True, seed=seed)
        if before is not None:
            data.start(before)
        data.start(epoch)
        return np.asarray(data.batch(np.arange(len(data)))[0])

    first = draw(1)
    assert len(first) == 7 + 1 + 7  # 416 and 36 pixels of the part, in tiles of 64 pixels
    assert (np.abs(first).max((1, 2, 3)) > 0).all()
    assert draw(2, before=1).tobytes() == draw(2).tobytes() != first.tobytes()
    assert draw(1, seed=4).tobytes() != first.tobytes()


def test_a_batch_from_a_memory_map_equals_one_from_memory(tmp_path: Any) -> None:
    inputs = inputs_of()
    inputs.data.tofile(tmp_path / "data")
    mapped = np.memmap(tmp_path / "data", np.float32, "r", shape=inputs.data.shape)
    from_disk = InputSet(mapped, inputs.shape, inputs.channels, inputs.names)
    mapped_batch, expected = (tiles(each, [0, 3], random=False).batch(np.arange(9))[0] for each in (from_disk, inputs))
    np.testing.assert_array_equal(mapped_batch, expected)


@pytest.mark.parametrize("count", [1, 2])
def test_loaded_means_have_the_same_bits_and_a_damaged_file_is_reported(tmp_path: Any, count: int) -> None:
    inputs = inputs_of()
    means = Means.measure(inputs, np.arange(4), np.zeros(4, int), part_masks()[:count])
    means.save(tmp_path / "means.npz")
    loaded = Means.load(tmp_path / "means.npz", (count, *SHAPE))
    for name in ("images", "masks", "spread"):
        assert getattr(loaded, name).tobytes() == getattr(means, name).tobytes()
    for path, shape, message in (
        (tmp_path / "none.npz", (count, *SHAPE), "does not exist"),
        (tmp_path / "means.npz", (3, *SHAPE), "does not match this model"),
    ):
        with pytest.raises(ModelError, match=message):
            Means.load(path, shape)
    (tmp_path / "means.npz").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="is damaged"):
        Means.load(tmp_path / "means.npz", (count, *SHAPE))
