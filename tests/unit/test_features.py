"""Patch features: colours, the frame, the grid, and the store of features."""

from __future__ import annotations

import tempfile
import warnings
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.color import lab2rgb

from pixal.errors import ConfigError
from pixal.inputs import InputSet
from pixal.tasks.photographs.network_input.channels import compute_channels
from pixal.train_model.patch_features.backbone_weights import load_backbone
from pixal.train_model.patch_features.backbones import Backbone
from pixal.train_model.patch_features.colours import lab_to_rgb, to_rgb
from pixal.train_model.patch_features.feature_store import FeatureStore
from pixal.train_model.patch_features.features import PatchFeatures
from pixal.train_model.patch_features.frame import Frame
from pixal.train_model.patch_features.levels import Level, smooth_cells, spread_out
from pixal.train_model.patch_features.preparation import IMAGENET_MEAN
from pixal.train_model.patch_features.resnets import RESNETS, ResNet

SIZE = (36, 52)
ALL = [Level((0, 1, 2), 0)]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(RESNETS, "tiny", ResNet((1, 1, 1), bottleneck=False, width=4))
        return load_backbone("tiny", SIZE, None, "random", 3)[0]


def images(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(5).random((count, *SIZE, 3)).astype(np.float32)


def part() -> NDArray[np.bool_]:
    mask = np.zeros(SIZE, bool)
    mask[6:-4, 5:-9] = True
    return mask


def test_lab_is_converted_as_by_scikit_image() -> None:
    random = np.random.default_rng(0)
    lab = np.stack([random.uniform(low, high, 2000) for low, high in ((0, 100), (-128, 127), (-128, 127))], axis=-1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # colours outside sRGB are clipped
        expected = lab2rgb(lab.astype(np.float32))
    np.testing.assert_array_equal(lab_to_rgb(lab.astype(np.float32)), expected)


def test_lab_channels_are_converted_back_to_rgb() -> None:
    photo = (images(1)[0] * 255).astype(np.uint8)
    names = ["GradMag", "LAB_b", "LAB_L", "LAB_a"]
    actual = to_rgb(compute_channels(photo, names), names, part())
    np.testing.assert_allclose(actual[part()], photo[part()] / 255, atol=2e-5)
    np.testing.assert_array_equal(actual[~part()], np.broadcast_to(IMAGENET_MEAN, actual[~part()].shape))


def test_rgb_channels_are_preferred_to_lab_in_any_order() -> None:
    image = images(1)[0]
    channels = np.concatenate([np.zeros((*SIZE, 3), np.float32), image[..., [2, 0, 1]]], axis=-1)
    actual = to_rgb(channels, ["LAB_L", "LAB_a", "LAB_b", "B", "R", "G"], part())
    np.testing.assert_array_equal(actual[part()], image[part()])


def test_channels_without_colour_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"needs colours, but the channels are H, S, R, G; include R, G and B, or LAB_L"
    ):
        to_rgb(np.zeros((*SIZE, 4), np.float32), ["H", "S", "R", "G"], part())


@pytest.mark.parametrize(
    ("resize", "cropsize", "size"),
    [
        (None, None, (36, 52)),
        (18, None, (18, 26)),
        ([30, 40], None, (30, 40)),
        (None, 20, (20, 20)),
        (72, [50, 60], (50, 60)),
        (None, 100, (36, 52)),
    ],
)
def test_the_frame_crops_the_centre_and_resizes_maps_back_to_the_image(
    resize: Any, cropsize: Any, size: tuple[int, int]
) -> None:
    frame = Frame((*SIZE, 3), resize, cropsize)
    assert frame.size == size
    assert frame.to_network(images(1)[0]).shape == (*size, 3)
    rows, columns = np.indices(SIZE, np.float32)
    for plane in (rows, columns):  # inside the crop, a gradient is unchanged
        restored = frame.to_image(frame.to_network(plane + 1))
        seen = frame.to_image(np.ones(size, np.float32)) == 1
        inner = np.zeros(SIZE, bool)
        inner[2:-2, 2:-2] = True
        np.testing.assert_allclose(restored[seen & inner], plane[seen & inner] + 1, atol=0.1)  # pixels
    assert bool((frame.to_image(np.ones(size, np.float32)) == 0).any()) == bool(cropsize and cropsize != 100)
    assert frame.to_image(np.ones((3, 4), np.float32)).shape == SIZE


def test_maps_are_resized_to_the_grid_of_the_first_map_and_joined(backbone: Backbone) -> None:
    frame, mask, image = Frame((*SIZE, 3), None, None), np.ones((1, *SIZE), bool), images(1)
    maps = [np.asarray(output)[0] for output in backbone.model(backbone.prepare(image), training=False)]
    assert [values.shape for values in maps] == [(9, 13, 4), (5, 7, 8), (3, 4, 16)]
    whole = PatchFeatures(backbone, frame, "RGB", ALL)(image, mask)[0][0]
    nearest = [_resize_nearest(values, (9, 13)) for values in maps]
    np.testing.assert_allclose(whole, np.concatenate(nearest, axis=-1), atol=1e-5)
    subset = PatchFeatures(backbone, frame, "RGB", ALL, count=5, seed=2)
    assert subset.depths == [5]
    values = subset(image, mask)[0][0]
    kept = [int(np.abs(whole - values[..., [index]]).sum((0, 1)).argmin()) for index in range(5)]
    assert kept == sorted(set(kept))
    np.testing.assert_allclose(values, whole[..., kept], atol=1e-5)
    mean = PatchFeatures(backbone, frame, "RGB", [Level((0,), 1), Level((0, 2), 2)])(image, mask)
    assert [values.shape for values in mean] == [(1, 5, 7, 4), (1, 3, 4, 20)]
    np.testing.assert_allclose(mean[0][0, 1, 2], maps[0][2:4, 4:6].mean((0, 1)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(mean[1][0, ..., 4:], maps[2], atol=1e-5)


def _resize_nearest(values: NDArray[np.float32], grid: tuple[int, int]) -> NDArray[np.float32]:
    index = [((np.arange(n) + 0.5) * have / n).astype(int) for n, have in zip(grid, values.shape, strict=False)]
    return values[index[0]][:, index[1]]


def test_a_pooled_feature_is_the_mean_of_its_neighbours(backbone: Backbone) -> None:
    frame, mask, image = Frame((*SIZE, 3), None, None), np.ones((1, *SIZE), bool), images(1)
    levels = [Level((1,), 1)]
    plain = PatchFeatures(backbone, frame, "RGB", levels)(image, mask)[0][0]
    pooled = PatchFeatures(backbone, frame, "RGB", levels, pool_size=3)(image, mask)[0][0]
    for y, x in np.ndindex(pooled.shape[:2]):
        around = plain[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
        np.testing.assert_allclose(pooled[y, x], around.mean((0, 1)), atol=1e-5)


def test_the_features_of_an_image_do_not_depend_on_other_images(backbone: Backbone) -> None:
    patches = PatchFeatures(backbone, Frame((*SIZE, 3), None, None), "RGB", ALL)
    masks = np.repeat(part()[None], 5, 0)
    together = patches(images(5), masks)[0]
    assert together[3].tobytes() == patches(images(5)[3:4], masks[:1])[0][0].tobytes()


def test_pixels_outside_the_part_do_not_change_the_features(backbone: Backbone) -> None:
    patches = PatchFeatures(backbone, Frame((*SIZE, 3), None, None), "RGB", ALL)
    changed = np.where(part()[..., None], images(1), 1 - images(1))
    for flips in (None, np.array([[True, False]]), np.array([[False, True]])):
        first, second = (patches(photos, part()[None], flips)[0] for photos in (images(1), changed))
        assert first.tobytes() == second.tobytes()


def test_a_map_on_the_part_depends_on_the_cells_of_the_part_only(backbone: Backbone) -> None:
    frame = Frame((*SIZE, 3), None, None)
    levels = [Level((0,), 0), Level((1,), 1)]
    patches = PatchFeatures(backbone, frame, "RGB", levels)
    for level, shape in enumerate([(9, 13), (5, 7)]):
        cells = patches.part_cells(part(), level)
        assert cells.shape == shape
        assert not cells.all()
        ones = spread_out(np.ones(int(cells.sum()), np.float32), cells)
        np.testing.assert_allclose(frame.to_image(ones)[part()], 1, atol=1e-6)
    speck = np.zeros(SIZE, bool)
    speck[9, 9] = True  # less than half of a cell
    assert patches.part_cells(speck, 0).sum() == 1


def test_cells_outside_the_part_have_no_weight_when_distances_are_smoothed() -> None:
    cells = np.zeros((6, 8), bool)
    cells[1:5, 2:7] = True
    distances = np.random.default_rng(0).random((2, int(cells.sum()))).astype(np.float32)
    np.testing.assert_array_equal(smooth_cells(distances, cells, 0.0), distances)
    np.testing.assert_allclose(smooth_cells(np.ones_like(distances), cells, 1.0), 1, rtol=1e-5)
    smooth = smooth_cells(distances, cells, 1.0)
    rows, columns = np.nonzero(cells)
    for index, (row, column) in enumerate(zip(rows, columns, strict=True)):
        weights = np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 2)
        assert abs(smooth[0, index] - (weights * distances[0]).sum() / weights.sum()) < 0.01


def test_a_store_in_a_file_equals_a_store_in_memory(backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    patches = PatchFeatures(backbone, Frame((*SIZE, 3), None, None), "RGB", [*ALL, Level((1,), 1)])
    inputs = InputSet(images(4).reshape(4, -1), (*SIZE, 3), tuple("RGB"), ("a", "b", "c", "d"))
    files: list[Any] = []
    create = tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: files.append(create()) or files[-1])
    features = []
    for limit in (1.0, 1e-5):
        options: dict[str, Any] = {"flips": None, "memory_limit": limit}
        store = FeatureStore(patches, inputs, part()[None], np.zeros(4, np.intp), **options)
        store.prepare(np.array([2]))
        features.append(store.read(np.array([3, 0, 2]), np.array([5, 40, 7])))
    assert len(files) == 1
    assert features[0].tobytes() == features[1].tobytes()
    whole = patches(images(4)[[3, 0, 2]], np.repeat(part()[None], 3, 0))
    np.testing.assert_array_equal(features[0], whole[0].reshape(3, -1, 28)[:, [5, 40, 7]])
    np.testing.assert_array_equal(store.read(np.array([0]), np.array([6]), 1)[0, 0], whole[1][1].reshape(-1, 8)[6])
