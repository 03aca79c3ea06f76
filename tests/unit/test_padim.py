"""PaDiM: compared with NumPy's covariance and inverse cell by cell, and the requirements of every family."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from patch_parts import SHAPE, TINY, built, input_set, part

from pixal.errors import ConfigError, ModelError
from pixal.train_model.padim.distribution import distribution, left_out_distances, mahalanobis
from pixal.train_model.padim.model import Padim
from pixal.train_model.patch_features.levels import scale_of, spread_out
from pixal.train_model.patch_features.resnets import RESNETS, ResNet

REGULARISATION = 0.01


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RESNETS, "tiny", TINY)


def model(types: tuple[str, ...] = ("front",), memory_limit: float = 1.0, **options: Any) -> Padim:
    return built(Padim, "padim", types, memory_limit, {"features": 10, "layers": ["layer1", "layer2"]} | options)


def good_parts(count: int, seed: int = 0) -> NDArray[np.float32]:
    generator = np.random.default_rng(seed)
    pattern = 0.2 + 0.6 * np.random.default_rng(99).random(SHAPE)
    light = 1 + 0.05 * generator.normal(size=(count, 1, 1, 1))
    return np.clip(pattern * light + 0.01 * generator.normal(size=(count, *SHAPE)), 0, 1).astype(np.float32)


def slow_distances(good: NDArray[Any], new: NDArray[Any], added: NDArray[Any]) -> NDArray[np.float64]:
    """Equations 1 and 2 of Defard et al. 2020, cell by cell."""
    distances = np.empty(new.shape[:2])
    for cell in range(good.shape[1]):
        samples = good[:, cell].astype(np.float64)
        covariance = np.cov(samples.T) if len(samples) > 1 else np.zeros((samples.shape[1],) * 2)
        inverse = np.linalg.inv(covariance + added[cell] * np.eye(samples.shape[1]))
        for index, row in enumerate(new[:, cell] - samples.mean(0)):
            distances[index, cell] = np.sqrt(row @ inverse @ row)
    return distances


@pytest.mark.parametrize("count", [1, 2, 7, 11, 12, 13, 60])
@pytest.mark.parametrize("size", [0.1, 100.0])
def test_distances_agree_with_the_published_formula(count: int, size: float) -> None:
    generator = np.random.default_rng(count)
    mixing = generator.normal(size=(5, 12, 12))
    good, new = (
        (size * np.einsum("npi,pij->npj", generator.normal(size=(n, 5, 12)), mixing)).astype(np.float32)
        for n in (count, 4)
    )
    good, new = good + np.float32(3), new + np.float32(3)
    added = np.array([0.5, 1, 2, 3, 4], np.float32) * np.float32(REGULARISATION)
    fast = mahalanobis(new, distribution(good, added))
    np.testing.assert_allclose(fast, slow_distances(good, new, added), rtol=2e-3)


@pytest.mark.parametrize("count", [2, 3, 7, 11, 12, 13, 40])
@pytest.mark.parametrize("size", [0.01, 10.0])
def test_left_out_distances_are_those_from_a_distribution_without_the_image(count: int, size: float) -> None:
    generator = np.random.default_rng(count)
    added = np.array([0.5, 1, 2, 3, 4], np.float32) * np.float32(size)
    good = (3 + generator.normal(size=(count, 5, 12)) @ generator.normal(size=(12, 12))).astype(np.float32)
    expected = [mahalanobis(good[[index]], distribution(np.delete(good, index, 0), added))[0] for index in range(count)]
    np.testing.assert_allclose(left_out_distances(good, added), np.stack(expected), rtol=1e-4)


def slow_scale(distances: NDArray[Any], grid: NDArray[np.bool_]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The mean and the spread of distances (n, p) in each cell."""
    deviation, cells = distances.std(0, ddof=1), np.argwhere(grid)
    nearby = [deviation[np.abs(cells - cell).max(1) <= 2].max() for cell in cells]
    return distances.mean(0), np.maximum(nearby, 1.5 * np.median(deviation))


def test_a_cell_that_never_varied_counts_like_cells_nearby_that_did() -> None:
    """Digits of serial numbers: the next part may have one that no good part had at this place."""
    grid = np.ones((9, 9), np.bool_)
    distances = np.random.default_rng(0).normal(5, 1, (20, 81)).astype(np.float32)
    distances[:, 40] *= 10  # the cell in the middle
    spread = scale_of(distances, grid)[0].spread.reshape(9, 9)
    assert (spread[2:7, 2:7] == spread[4, 4]).all()
    assert spread[2, 2] > 4 * spread[1, 1]


def test_errors_agree_with_the_formulas_on_the_features_of_the_fitted_rows() -> None:
    images = good_parts(9)
    padim, inputs, rows = model(), input_set(images), np.array([0, 2, 3, 5, 8])
    padim.fit(inputs, rows, part()[None])
    patches = padim._select_features(padim._backbone)  # type: ignore[arg-type]
    grid = patches.part_cells(part())
    features = patches(images, np.repeat(part()[None], 9, 0))[0][:, grid]
    variances = features[rows].var(0, ddof=1, dtype=np.float64).mean(1)
    added = 0.1 * np.maximum(variances, variances.mean())
    left_out = np.stack(
        [slow_distances(features[np.delete(rows, i)], features[[row]], added)[0] for i, row in enumerate(rows)]
    )
    excess = []
    for index in range(5):
        mean, spread = slow_scale(np.delete(left_out, index, 0), grid)
        excess.append(np.maximum(left_out[index] - mean, 0) / spread)
    unit = np.median(np.max(excess, axis=1))
    mean, spread = slow_scale(left_out, grid)
    new = np.maximum(slow_distances(features[rows], features, added) - mean, 0) / spread / unit
    for values, errors in (
        (new, padim.error(inputs, slice(None))),
        (excess / unit, padim.left_out_error(inputs, rows)),
    ):
        assert errors.shape == (len(values), *SHAPE[:2], 1)
        assert not errors[:, ~part()].any()
        expected = [padim._frame.to_image(spread_out(each.astype(np.float32), grid)) * part() for each in values]
        np.testing.assert_allclose(errors[..., 0], expected, rtol=2e-3, atol=2e-3)


def test_the_error_is_the_largest_of_all_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RESNETS, "tiny", ResNet((1, 1, 1), bottleneck=False, width=4))
    inputs, errors = input_set(good_parts(8)), {}
    for levels in (None, ["fine"], ["middle"], ["coarse"], ["coarse", "fine"]):
        padim = model(layers=None, features=None, levels=levels)
        padim.fit(inputs, np.arange(6), part()[None])
        errors[str(levels)] = padim.error(inputs, slice(None))
    fine, middle, coarse = (errors[f"['{name}']"] for name in ("fine", "middle", "coarse"))
    np.testing.assert_allclose(errors["None"], np.maximum(np.maximum(fine, middle), coarse), rtol=1e-5)
    np.testing.assert_allclose(errors["['coarse', 'fine']"], np.maximum(fine, coarse), rtol=1e-5)
    with pytest.raises(ConfigError, match="levels cannot be chosen when layers are named"):
        model(levels=["fine"])


def test_each_fit_is_new_but_features_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = input_set(good_parts(6))
    padim = model()
    padim.fit(inputs, np.arange(3), part()[None])
    computed: list[int] = []
    features = padim._features
    monkeypatch.setattr(padim._stores[0], "_features", lambda *args: computed.append(len(args[0])) or features(*args))  # type: ignore[misc]
    padim.fit(inputs, np.arange(2, 6), part()[None])
    assert sum(computed) == 3
    fresh = model()
    fresh.fit(inputs, np.arange(2, 6), part()[None])
    assert padim.error(inputs, slice(None)).tobytes() == fresh.error(inputs, slice(None)).tobytes()


def test_pixels_outside_the_part_do_not_change_the_error() -> None:
    images = good_parts(6)
    changed = images.copy()
    changed[:, ~part()] = np.random.default_rng(3).random((6, int((~part()).sum()), 3))
    errors = []
    for photos in (images, changed):
        padim = model(flip_horizontal=0.5, flip_vertical=0.5)
        padim.fit(input_set(photos), np.arange(5), part()[None])
        errors.append(padim.error(input_set(photos), slice(None)))
    assert errors[0].tobytes() == errors[1].tobytes()
    assert not errors[0][:, ~part()].any()


def test_one_good_image_is_enough() -> None:
    inputs = input_set(good_parts(3))
    padim = model()
    padim.fit(inputs, np.array([0]), part()[None])
    errors = padim.error(inputs, slice(None))
    assert np.isfinite(errors).all()
    assert not errors[0].any()
    assert errors[1:].max() > 0
    assert np.isfinite(padim.latent(inputs, slice(None))).all()


def test_each_type_has_its_own_distribution() -> None:
    front, back = good_parts(5), 1 - good_parts(5, seed=1)
    other = np.roll(part(), 4, axis=0)
    types = ("front", "back")
    both = model(types=types)
    inputs = input_set(np.concatenate([front, back]), types, [0] * 5 + [1] * 5)
    both.fit(inputs, np.arange(10), np.stack([part(), other]))
    for images, mask, rows in ((front, part(), slice(0, 5)), (back, other, slice(5, 10))):
        alone = model()
        alone.fit(input_set(images), np.arange(5), mask[None])
        assert alone.error(input_set(images), slice(None)).tobytes() == both.error(inputs, rows).tobytes()
    with pytest.raises(ModelError, match="do not name the type of each part"):
        both.error(input_set(front), slice(None))
    with pytest.raises(ModelError, match="type side was never trained"):
        both.error(input_set(front, ("front", "side"), [0] * 5), slice(None))


def test_a_loaded_model_gives_the_same_bits_as_the_saved_one(tmp_path: Path) -> None:
    inputs = input_set(good_parts(6))
    padim = model(resize=48, cropsize=[44, 60])
    padim.fit(inputs, np.arange(5), part()[None])
    files = padim.save(tmp_path)
    assert [path.name for path in files] == [
        "flex.weights.npz",
        "flex.backbone.weights.h5",
        "flex.backbone.inference.onnx",
    ]
    loaded = Padim.load(tmp_path, {**padim.spec.model_dump(), "types": ["another"]})
    for method in ("error", "latent"):
        before, after = (getattr(each, method)(dataclasses.replace(inputs), slice(None)) for each in (padim, loaded))
        assert before.tobytes() == after.tobytes()
        assert before.dtype == np.float32
    assert padim.error(inputs, slice(None)).tobytes() == loaded.error(inputs, slice(None)).tobytes()
    contents = [path.read_bytes() for path in files]
    padim.save(tmp_path)
    assert [path.read_bytes() for path in files] == contents
    with pytest.raises(ModelError, match="is damaged"):
        Padim.load(tmp_path, {**padim.spec.model_dump(), "shape": [40, 52, 3], "input_dim": 40 * 52 * 3})
    files[0].write_bytes(contents[0][:1000])
    with pytest.raises(ModelError, match="is damaged"):
        Padim.load(tmp_path, padim.spec)
    files[1].unlink()
    with pytest.raises(ModelError, match="does not exist"):
        Padim.load(tmp_path, padim.spec)


def test_a_planted_spot_has_the_largest_error_at_its_position() -> None:
    images = good_parts(21)
    images[20, 16:24, 24:32] = 0.9
    padim = model()
    padim.fit(input_set(images), np.arange(16), part()[None])
    errors = padim.error(input_set(images), np.arange(16, 21))[..., 0]
    y, x = np.unravel_index(errors[4].argmax(), SHAPE[:2])
    assert 12 <= y < 28
    assert 20 <= x < 36
    assert errors[4].max() > 1.5 * errors[:4].max()


def test_the_error_is_0_outside_the_crop() -> None:
    inputs = input_set(good_parts(4))
    padim = model(cropsize=[20, 30])
    padim.fit(inputs, np.arange(3), part()[None])
    errors = padim.error(inputs, slice(None))[..., 0]
    inside = np.zeros(SHAPE[:2], bool)
    inside[8:28, 11:41] = True
    assert not errors[:, ~inside].any()
    assert errors[3, inside & part()].any()


def test_a_crop_without_the_part_is_refused() -> None:
    corner = np.zeros(SHAPE[:2], bool)
    corner[:4, :4] = True
    with pytest.raises(ModelError, match="padim: no pixel of the part is inside the crop"):
        model(cropsize=[8, 8]).fit(input_set(good_parts(2)), np.arange(2), corner[None])


def test_flips_mirror_the_images_of_a_fit() -> None:
    images = good_parts(4)
    images = (images + images[:, :, ::-1]) / 2  # symmetric, apart from the next line
    images[:, 10:20, 8:14] += 0.1
    symmetric = np.ones(SHAPE[:2], bool)
    mirrored, plain = model(flip_horizontal=1.0), model()
    mirrored.fit(input_set(images), np.arange(4), symmetric[None])
    plain.fit(input_set(images[:, :, ::-1]), np.arange(4), symmetric[None])
    inputs = input_set(images)
    assert mirrored.error(inputs, slice(None)).tobytes() == plain.error(inputs, slice(None)).tobytes()


def test_a_fit_that_exceeds_the_memory_limit_is_refused_before_it_starts() -> None:
    padim = model(memory_limit=5e-6)
    with pytest.raises(
        ModelError, match=r"the distribution in \d+ grid cells would need .* fewer model_options.features"
    ):
        padim.fit(input_set(good_parts(4)), np.arange(4), part()[None])


def test_more_features_than_channels_are_refused() -> None:
    with pytest.raises(ConfigError, match="13 requested, but the feature maps have only 12"):
        model(features=13).fit(input_set(good_parts(2)), np.arange(2), part()[None])


def test_the_seed_selects_the_features() -> None:
    inputs, errors = input_set(good_parts(4)), []
    for seed in (1, 1, 2):
        padim = model()
        padim.spec = padim.spec.model_copy(update={"seed": seed})
        padim.fit(inputs, np.arange(3), part()[None])
        errors.append(padim.error(inputs, slice(None)).tobytes())
    assert errors[0] == errors[1] != errors[2]


def test_missing_weights_are_reported_by_the_check_before_training() -> None:
    model().check()
    with pytest.raises(ModelError, match=r"none.pt does not exist"):
        model(weights="none.pt").check()
