"""PatchCore: the coreset and distances compared with naive versions, and the requirements of every family."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from patch_parts import SHAPE, TINY, built, input_set, part
from scipy.spatial.distance import cdist

from pixal.errors import ModelError
from pixal.train_model.patch_features.levels import spread_out
from pixal.train_model.patch_features.resnets import RESNETS
from pixal.train_model.patchcore.memory import coreset, farthest_first, nearest_distances
from pixal.train_model.patchcore.model import Patchcore


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RESNETS, "tiny", TINY)


def model(types: tuple[str, ...] = ("front",), memory_limit: float = 1.0, **options: Any) -> Patchcore:
    return built(Patchcore, "patchcore", types, memory_limit, {"coreset": 0.2} | options)


def good_parts(count: int, seed: int = 0) -> NDArray[np.float32]:
    generator = np.random.default_rng(seed)
    pattern = np.repeat(np.repeat(np.random.default_rng(9).random((9, 13, 3)), 4, 0), 4, 1)
    return np.clip(0.2 + 0.6 * pattern + 0.02 * generator.normal(size=(count, *SHAPE)), 0, 1).astype(np.float32)


def naive_farthest_first(points: NDArray[Any], count: int) -> list[int]:
    chosen = [int(cdist(points, points.mean(0, keepdims=True)).argmax())]
    while len(chosen) < count:
        chosen.append(int(cdist(points, points[chosen]).min(1).argmax()))
    return chosen


@pytest.mark.parametrize("shape", [(200, 3), (60, 128), (5, 2)])
def test_the_coreset_agrees_with_a_naive_greedy_search(shape: tuple[int, int]) -> None:
    points = (3 + np.random.default_rng(1).normal(size=shape)).astype(np.float32)
    count = min(25, len(points))
    np.testing.assert_array_equal(farthest_first(points, count), naive_farthest_first(points.astype(np.float64), count))
    # If all points are requested, they keep their order.
    expected = np.arange(count) if count == len(points) else farthest_first(points, count)
    np.testing.assert_array_equal(coreset(points, count, seed=3), expected)


def test_every_projected_patch_is_close_to_the_coreset() -> None:
    generator = np.random.default_rng(2)
    centres = generator.normal(size=(12, 400))
    patches = (centres[generator.integers(12, size=600)] + 0.01 * generator.normal(size=(600, 400))).astype(np.float32)
    chosen = coreset(patches, 12, seed=0)
    assert cdist(patches, patches[chosen]).min(1).max() < 1  # one patch from each of the 12 clusters
    np.testing.assert_array_equal(chosen, coreset(patches, 12, seed=0))


def test_equal_patches_are_chosen_only_once() -> None:
    chosen = farthest_first(np.ones((6, 3), np.float32), 4)
    assert len(set(chosen.tolist())) == 4
    assert len(coreset(np.ones((3, 2), np.float32), 9, seed=0)) == 3


def test_distances_agree_with_the_nearest_neighbour() -> None:
    generator = np.random.default_rng(4)
    patches, memory = (generator.normal(2, 1, (n, 40)).astype(np.float32) for n in (70, 30))
    np.testing.assert_allclose(nearest_distances(patches, memory), cdist(patches, memory).min(1), rtol=1e-4)
    assert nearest_distances(memory[:5], memory).max() < 1e-3


def test_the_memory_holds_exactly_the_patches_of_the_part() -> None:
    inputs, patchcore = input_set(good_parts(4)), model(coreset=1.0)
    patchcore.fit(inputs, np.arange(3), part()[None])
    patches = patchcore._features
    assert patches is not None
    assert (patches.depths, patches.grids) == ([8], [(5, 7)])
    cells, learned = patches.part_cells(part()), patchcore._learned[0][0]
    memory = learned.arrays["memory"]
    assert len(memory) == 3 * cells.sum()
    assert not patchcore.error(inputs, np.arange(3)).any()  # a fitted part is in the memory
    new = patches(inputs.images()[3:], part()[None])[0][0]
    distances = learned.scale.apply(cdist(new[cells], memory).min(1)[None].astype(np.float32))[0]
    expected = patchcore._frame.to_image(spread_out(distances, cells)) * part()
    np.testing.assert_allclose(patchcore.error(inputs, np.array([3]))[0, ..., 0], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("options", [{"coreset": 1.0}, {"coreset": 0.2}, {"coreset": 1.0, "patches": 30}])
def test_a_fitted_part_is_compared_with_the_patches_of_the_others(options: Any) -> None:
    inputs, patchcore = input_set(good_parts(5)), model(**options)
    store: dict[str, Any] = {}
    left_out = patchcore._left_out
    patchcore._left_out = lambda *args: store.setdefault("left out", left_out(*args))  # type: ignore[method-assign]
    patchcore.fit(inputs, np.arange(5), part()[None])
    memory = patchcore._learned[0][0].arrays["memory"]
    cells = patchcore._built_features().part_cells(part())
    assert len(memory) == {1.0: 5 * cells.sum(), 0.2: cells.sum()}[options["coreset"]] or len(memory) == 30
    of_images = patchcore._built_features()(inputs.images(), np.repeat(part()[None], 5, 0))[0][:, cells]
    for index, patches in enumerate(of_images):
        others = memory[~(memory[:, None] == patches).all(2).any(1)]
        assert len(others) < len(memory)
        np.testing.assert_allclose(store["left out"][index], cdist(patches, others).min(1), rtol=1e-3, atol=1e-4)


def test_a_planted_spot_has_the_largest_error_at_its_position() -> None:
    images = good_parts(10)
    images[9, 16:24, 24:32] = [0.95, 0.05, 0.95]
    patchcore = model(layers=["layer1"])  # deeper layers see a large share of such a small image
    patchcore.fit(input_set(images), np.arange(7), part()[None])
    errors = patchcore.error(input_set(images), np.arange(7, 10))[..., 0]
    y, x = np.unravel_index(errors[2].argmax(), SHAPE[:2])
    assert 12 <= y < 28
    assert 20 <= x < 36
    assert errors[2].max() > 1.5 * errors[:2].max()


def test_pixels_outside_the_part_do_not_count_and_one_image_is_enough() -> None:
    images = good_parts(3)
    changed = np.where(part()[..., None], images, 1 - images)
    errors = []
    for photos in (images, changed):
        patchcore = model()
        patchcore.fit(input_set(photos), np.array([0]), part()[None])
        errors.append(patchcore.error(input_set(photos), slice(None)))
    assert errors[0].tobytes() == errors[1].tobytes()
    assert np.isfinite(errors[0]).all()
    assert not errors[0][:, ~part()].any()


def test_one_memory_per_type_is_saved_and_loaded(tmp_path: Path) -> None:
    types = ("front", "back")
    images = np.concatenate([good_parts(3), 1 - good_parts(3, seed=1)])
    inputs = input_set(images, types, [0] * 3 + [1] * 3)
    masks = np.stack([part(), np.roll(part(), 4, axis=0)])
    both = model(types=types)
    both.fit(inputs, np.arange(6), masks)
    alone = model()
    alone.fit(input_set(images[3:]), np.arange(3), masks[1:])
    assert both.error(inputs, slice(3, 6)).tobytes() == alone.error(input_set(images[3:]), slice(None)).tobytes()
    files = both.save(tmp_path)
    assert all(path.is_file() for path in files)
    loaded = Patchcore.load(tmp_path, both.spec)
    for method in ("error", "latent"):
        before, after = (getattr(each, method)(dataclasses.replace(inputs), slice(None)) for each in (both, loaded))
        assert before.tobytes() == after.tobytes()
        assert before.dtype == np.float32
    with pytest.raises(ModelError, match="is damaged"):
        Patchcore.load(tmp_path, alone.spec)


def test_a_fit_that_exceeds_the_memory_limit_is_refused_before_it_starts() -> None:
    with pytest.raises(ModelError, match=r"patches of 4 images would need .* smaller model_options.resize"):
        model(memory_limit=1e-6).fit(input_set(good_parts(4)), np.arange(4), part()[None])
