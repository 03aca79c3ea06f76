"""The Gaussian model: compared with a slow pixel-by-pixel version and with known distributions; its files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import inv, sqrtm
from scipy.ndimage import gaussian_filter
from specifications import specification

from pixal.calibration.calibration import calibrate, calibrate_by_texture
from pixal.calibration.maps import calibrated_maps, part_scores
from pixal.calibration.single_image import shift_far, shift_near
from pixal.calibration.spread import error_variance
from pixal.errors import ModelError
from pixal.inputs import InputSet, InputSetWriter
from pixal.tasks.photographs.network_input.channels import CHANNELS, compute_channels
from pixal.train_model.gaussian.model import Gaussian
from pixal.train_model.gaussian.whitening import moments, shrunk_correlation, whitening
from pixal.train_model.specification import ModelSpecification

SHAPE = (14, 17, 3)


def params(shape: tuple[int, int, int] = SHAPE, **changed: Any) -> ModelSpecification:
    return specification(shape, **changed)


def good_parts(count: int, seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> NDArray[np.float32]:
    """A pattern, plus noise that is correlated between channels; its size increases from left to right."""
    generator = np.random.default_rng(seed)
    pattern = 0.3 + 0.4 * np.random.default_rng(99).random(shape)
    mixing = np.eye(shape[2]) + 0.8 * np.tri(shape[2], k=-1)
    size = 0.01 + 0.02 * np.linspace(0, 1, shape[1])[:, None]
    return np.asarray(pattern + size * (generator.normal(size=(count, *shape)) @ mixing.T), np.float32)


def input_set(images: NDArray[np.float32], types: tuple[str, ...] = (), labels: Any = None) -> InputSet:
    count, *shape = images.shape
    names = tuple(f"{i}.png" for i in range(count))
    one_hot = None if labels is None else np.eye(len(types), dtype=np.float32)[labels]
    return InputSet(images.reshape(count, -1), tuple(shape), tuple("RGBHSVYab"[: shape[2]]), names, one_hot, types)


def part(shape: tuple[int, ...] = SHAPE) -> NDArray[np.bool_]:
    mask = np.zeros(shape[:2], bool)
    mask[2:-1, 1:-2] = True
    return mask


def fitted(images: NDArray[np.float32], rows: Any = None, mask: NDArray[np.bool_] | None = None) -> Gaussian:
    height, width, channels = images.shape[1:]
    model = Gaussian(params((height, width, channels)))
    rows = np.arange(len(images)) if rows is None else np.asarray(rows)
    history = model.fit(input_set(images), rows, (part(images.shape[1:]) if mask is None else mask)[None])
    assert not history.loss
    assert not history.best_epoch
    return model


def test_moments_agree_with_numpy_at_each_pixel(tmp_path: Path) -> None:
    images, rows = good_parts(12), np.array([1, 2, 5, 7, 8, 11])
    with InputSetWriter(tmp_path / "out.npz", SHAPE, "RGB") as out:
        for index, image in enumerate(images):
            out.append(image, f"{index}.png")
    inputs = InputSet.load(tmp_path / "out.npz")
    assert isinstance(inputs.data, np.memmap)
    mean, covariance = moments(inputs, rows)
    np.testing.assert_allclose(mean.transpose(1, 2, 0), images[rows].mean(0), atol=1e-6)
    for y, x in np.ndindex(SHAPE[:2]):
        slow = np.cov(images[rows, y, x].T.astype(np.float64))
        np.testing.assert_allclose(covariance[:, y, x], slow[np.triu_indices(3)], rtol=1e-3, atol=1e-8)


def test_moments_are_accurate_far_from_zero_and_for_many_images() -> None:
    noise = np.random.default_rng(5).normal(0, 1e-3, (3000, 1, 2, 2))
    images = (0.9 + noise).astype(np.float32)
    _, covariance = moments(input_set(images), np.arange(3000))
    slow = np.einsum("nhwi,nhwj->ijhw", *[images.astype(np.float64) - images.mean(0, dtype=np.float64)] * 2) / 2999
    np.testing.assert_allclose(covariance, slow[np.triu_indices(2)], atol=1e-9)


def test_whitening_agrees_with_the_published_formula_at_each_pixel() -> None:
    images, mask, count = good_parts(7), part(), 7
    fast = whitening(moments(input_set(images), np.arange(count))[1], mask, count)
    assert not fast[~mask].any()

    def near(values: NDArray[np.float64]) -> NDArray[np.float64]:
        blur = [gaussian_filter(v * mask, 4.0, truncate=4.0, mode="constant") for v in values.reshape(-1, *mask.shape)]
        share = gaussian_filter(mask.astype(float), 4.0, truncate=4.0, mode="constant")
        return np.asarray((np.stack(blur) / np.maximum(share, 1e-6)).reshape(values.shape))

    deviations = images.astype(np.float64) - images.mean(0, dtype=np.float64)
    own = np.einsum("nhwi,nhwj->ijhw", deviations, deviations) / (count - 1)
    around = near(own)
    correlation, chance, difference = {}, np.zeros(mask.shape), np.zeros(mask.shape)
    for y, x in np.ndindex(mask.shape):
        for name, matrix in (("own", own[..., y, x]), ("near", around[..., y, x])):
            spread = np.sqrt(np.diag(matrix))
            correlation[name, y, x] = matrix / np.maximum(spread[:, None] * spread, 1e-12)
        for i in range(3):
            for j in range(i + 1, 3):
                chance[y, x] += (1 - correlation["near", y, x][i, j] ** 2) ** 2 / (count - 1)
                difference[y, x] += (correlation["own", y, x][i, j] - correlation["near", y, x][i, j]) ** 2
    share = np.clip(near(chance) / np.maximum(near(difference), 1e-12), 0, 1)
    assert 0.05 < share[mask].mean() <= 1
    variance = error_variance(np.einsum("iihw->hwi", own).astype(np.float32), mask)
    for y, x in np.argwhere(mask):
        mixed = (1 - share[y, x]) * correlation["own", y, x] + share[y, x] * correlation["near", y, x]
        mixed = mixed * (1 - 1 / count)
        np.fill_diagonal(mixed, 1)
        spread = np.diag(np.sqrt(variance[y, x]))
        slow = spread @ inv(sqrtm(mixed)) @ inv(spread)
        np.testing.assert_allclose(fast[y, x], slow, atol=2e-3)


def test_squared_errors_over_variances_sum_to_the_mahalanobis_distance() -> None:
    shape = (20, 20, 3)
    truth = np.array([[1.0, 0.8, -0.3], [0.8, 1.5, 0.1], [-0.3, 0.1, 0.7]]) * 1e-3
    generator = np.random.default_rng(1)
    train, new = (
        generator.multivariate_normal([0.5] * 3, truth, (count, *shape[:2])).astype(np.float32) for count in (400, 5)
    )
    model = fitted(train, mask=np.ones(shape[:2], bool))
    error = model.error(input_set(new), slice(None))
    squares = (error.astype(np.float64) ** 2 / np.diag(truth)).sum(-1)
    deviation = new.astype(np.float64) - 0.5
    distance = np.einsum("nhwi,ij,nhwj->nhw", deviation, inv(truth), deviation)
    np.testing.assert_allclose(squares, distance, rtol=0.5, atol=0.7)
    assert np.corrcoef(squares.ravel(), distance.ravel())[0, 1] > 0.98
    assert np.abs(np.corrcoef(model.error(input_set(train), slice(None)).reshape(-1, 3).T) - np.eye(3)).max() < 0.02


def correlations(count: int, truth: NDArray[np.float64], seed: int) -> NDArray[np.float32]:
    """Packed sample correlations, (3, H, W), of ``count`` pairs whose true correlation is ``truth`` (H, W)."""
    first, second = np.random.default_rng(seed).normal(size=(2, count, *truth.shape))
    second = truth * first + np.sqrt(1 - truth**2) * second
    first, second = (values - values.mean(0) for values in (first, second))
    r = (first * second).sum(0) / np.sqrt((first**2).sum(0) * (second**2).sum(0))
    return np.stack([np.ones_like(r), r, np.ones_like(r)]).astype(np.float32)


@pytest.mark.parametrize(("count", "nearest"), [(5, "near"), (2000, "own")])
def test_few_images_use_the_neighbourhood_and_many_use_the_pixel(count: int, nearest: str) -> None:
    truth = np.full((60, 60), 0.5)
    truth[::2] = 0.8  # neighbouring lines differ
    mask = np.ones(truth.shape, bool)
    own, near = correlations(count, truth, 3), np.full((3, *truth.shape), 0.65, np.float32)
    near[[0, 2]] = 1
    shrunk = shrunk_correlation(own, near, mask, count)
    off = {"own": own[1], "near": near[1]}
    risk = {name: float(np.mean((r - truth) ** 2)) for name, r in off.items()}
    assert min(risk, key=lambda name: risk[name]) == nearest
    before_last_step = shrunk[1] / (1 - 1 / count)
    assert np.mean((before_last_step - truth) ** 2) < 0.3 * max(risk.values())
    closeness = {name: float(np.mean((before_last_step - r) ** 2)) for name, r in off.items()}
    assert min(closeness, key=lambda name: closeness[name]) == nearest
    np.testing.assert_array_equal(shrunk[[0, 2]], 1)


def test_after_a_fit_to_one_image_the_error_is_the_difference() -> None:
    images = good_parts(3)
    model = fitted(images, [0])
    mask = part()
    expected = (images[1:] - images[0]) * mask[..., None]
    np.testing.assert_allclose(model.error(input_set(images[1:]), slice(None)), expected, atol=1e-6)
    settings: dict[str, Any] = {"mask": mask, "weights": np.ones(3, np.float32), "smoothing": 1.0}
    near, far = (move(images[0], mask) - images[0] for move in (shift_near, shift_far))
    calibration = calibrate_by_texture(near, far, **settings)
    maps = calibrated_maps(model.error(input_set(images), slice(None)), calibration.variance, **settings)
    assert np.isfinite(maps).all()
    assert not maps[0].any()


@pytest.mark.parametrize("count", [2, 3, 5])
def test_few_images_and_constant_channels_give_finite_errors(count: int) -> None:
    images = good_parts(count + 1)
    images[..., 1] = 0.25
    images[:, :, 5] = 0.5  # a constant column
    errors = fitted(images[:count]).error(input_set(images), slice(None))
    assert np.isfinite(errors).all()
    rows = [np.array([row]) for row in range(count)]
    held_out = np.concatenate(
        [fitted(images[:count], np.setdiff1d(range(count), row)).error(input_set(images), row) for row in rows]
    )
    calibration = calibrate(held_out, rows, mask=part(), weights=np.ones(3, np.float32), smoothing=1.0)
    assert np.isfinite(calibration.scores).all()
    assert np.isfinite(calibration.variance).all()


def test_a_defect_against_the_correlation_of_channels_is_found() -> None:
    """The deviation has a usual size in each channel, but the channels usually deviate in the same direction."""
    shape = (30, 30, 2)
    generator = np.random.default_rng(4)
    common = generator.normal(0, 0.02, (24, *shape[:2], 1))
    train = (0.5 + common + generator.normal(0, 0.002, (24, *shape))).astype(np.float32)
    faulty = train[20:].copy()
    faulty[0, 10:14, 10:14] = 0.5 + np.array([0.02, -0.02], np.float32)
    mask = np.ones(shape[:2], bool)
    model = fitted(train, range(20), mask)
    folds = [np.arange(start, start + 5) for start in range(0, 20, 5)]
    held_out = np.concatenate(
        [fitted(train, np.setdiff1d(np.arange(20), f), mask).error(input_set(train), f) for f in folds]
    )
    weights = np.ones(2, np.float32)
    calibration = calibrate(held_out, folds, mask=mask, weights=weights, smoothing=1.0)
    maps = calibrated_maps(model.error(input_set(faulty), slice(None)), calibration.variance, mask, weights, 1.0)
    scores = part_scores(maps)
    assert scores[0] > 2 * max(scores[1:].max(), calibration.scores.max())
    assert (np.abs(np.array(np.unravel_index(maps[0].argmax(), mask.shape)) - 11.5) < 3).all()


def test_each_type_has_its_own_mean_covariance_and_part() -> None:
    images = np.concatenate([good_parts(6), 1 - good_parts(5, seed=2)])
    order = np.random.default_rng(0).permutation(11)
    labels = np.repeat([0, 1], [6, 5])[order]
    both = input_set(images[order], ("back", "front"), labels)
    masks = np.stack([part(), part()[::-1]])
    model = Gaussian(params(types=["back", "front"]))
    model.fit(both, np.arange(11), masks)
    for index, mask in enumerate(masks):
        rows = np.flatnonzero(labels == index)
        alone = fitted(images[order][rows], mask=mask)
        np.testing.assert_array_equal(model.error(both, rows), alone.error(input_set(images[order][rows]), slice(None)))
        np.testing.assert_array_equal(
            model.latent(both, rows), alone.latent(input_set(images[order][rows]), slice(None))
        )
    with pytest.raises(ModelError, match="not the model's"):
        model.error(input_set(images, ("front", "back"), labels), slice(None))
    with pytest.raises(ModelError, match="do not name the type of each part"):
        model.error(input_set(images), slice(None))
    with pytest.raises(ModelError, match="neither trained nor loaded"):
        Gaussian(params()).error(input_set(images), slice(None))


def test_the_latent_vector_holds_the_mean_deviation_in_each_cell() -> None:
    shape = (16, 24, 3)
    images, mask = good_parts(6, shape=shape), part((16, 24))
    model = fitted(images, mask=mask)
    cells = model.latent(input_set(images), np.array([4, 1])).reshape(2, 8, 8, 3)
    deviation = ((images[[4, 1]] - images.mean(0)) * mask[..., None]).reshape(2, 8, 2, 8, 3, 3)
    np.testing.assert_allclose(cells, deviation.mean((2, 4)), atol=1e-6)
    assert model.latent(input_set(images), np.array([], int)).shape == (0, 192)


def test_the_latent_vector_takes_more_channels_than_opencv() -> None:
    images = good_parts(3, shape=(16, 24, 9))
    latent = fitted(images).latent(input_set(images), slice(None)).reshape(3, 8, 8, 9)
    inside = part(images.shape[1:])[..., None]
    deviations = (images - images.mean(0)) * inside
    np.testing.assert_allclose(latent, deviations.reshape(3, 8, 2, 8, 3, 9).mean((2, 4)), atol=1e-6)


def test_a_loaded_model_gives_the_same_bits_as_the_saved_one(tmp_path: Path) -> None:
    images = good_parts(6)
    model = fitted(images)
    (path,) = model.save(tmp_path)
    assert path.name == "flex.weights.npz"
    content = path.read_bytes()
    fitted(images).save(tmp_path)
    assert path.read_bytes() == content
    loaded = Gaussian.load(tmp_path, params())
    assert (
        loaded.error(input_set(images), slice(None)).tobytes() == model.error(input_set(images), slice(None)).tobytes()
    )
    with pytest.raises(ModelError, match="does not match"):
        Gaussian.load(tmp_path, params(types=["a", "b"]))
    path.write_bytes(content[:-500])
    with pytest.raises(ModelError, match="damaged"):
        Gaussian.load(tmp_path, params())
    path.unlink()
    with pytest.raises(ModelError, match="does not exist"):
        Gaussian.load(tmp_path, params())


def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    code = """
import json, sys, resource, numpy as np
from pathlib import Path
from pixal.inputs import InputSet
from pixal.train_model.gaussian.model import Gaussian
inputs = InputSet.load(Path(sys.argv[1]))
model = Gaussian(json.loads(sys.argv[2]))
rows = np.arange(len(inputs))
model.fit(inputs, rows[:3], np.ones((1, *inputs.shape[:2]), bool))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model.fit(inputs, rows, np.ones((1, *inputs.shape[:2]), bool))
assert "tensorflow" not in sys.modules and "keras" not in sys.modules
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    image = np.random.default_rng(0).random((256, 256, 3), np.float32)
    with InputSetWriter(tmp_path / "out.npz", image.shape, "RGB") as out:
        for number in range(120):  # 94 MB
            out.append(image, f"{number}.png")
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "out.npz"), specification(image.shape).model_dump_json()],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout) * 1024 < 30e6


def grey_parts(count: int, seed: int) -> NDArray[np.float32]:
    """All channels of 8-bit grey photographs (n, 40, 48, 23) whose ends are black and white without noise."""
    generator = np.random.default_rng(seed)
    pattern = 0.3 + 0.4 * gaussian_filter(np.random.default_rng(7).random((40, 48)), 2)
    pattern[:12], pattern[30:] = -1, 2
    grey = np.clip(pattern + generator.normal(0, 0.01, (count, *pattern.shape)), 0, 1)
    images = np.repeat(np.round(grey * 255)[..., None] / 255, 3, axis=-1).astype(np.float32)
    return np.stack([compute_channels(image, list(CHANNELS)) for image in images])


def test_channels_of_grey_photographs_that_vary_by_rounding_only_are_no_correlation() -> None:
    images, names = grey_parts(10, 0), tuple(CHANNELS)
    mask = np.ones(images.shape[1:3], bool)
    spec = params(images.shape[1:], channels=names, channel_weights=(1.0,) * len(names))
    inputs = InputSet(images.reshape(10, -1), images.shape[1:], names, tuple(map(str, range(10))))  # type: ignore[arg-type]
    model = Gaussian(spec)
    model.fit(inputs, np.arange(10), mask[None])
    assert model.whitening is not None
    assert np.isfinite(model.whitening).all()
    colours = [names.index(name) for name in ("H", "S", "LAB_a", "LAB_b", "LCh_sinH", "Opp_O1")]
    others = np.setdiff1d(np.arange(len(names)), colours)
    # What does not vary takes nothing from the other channels.
    assert np.abs(model.whitening[..., others[:, None], colours]).max() < 1e-5
    errors = np.array([model.error(inputs.with_images(part[None]), slice(None))[0] for part in grey_parts(6, 1)])
    assert np.isfinite(errors).all()
    defect = grey_parts(1, 2)
    defect[0, 20:24, 20:24] = compute_channels(np.full((4, 4, 3), 0.9, np.float32), names)
    actual = model.error(inputs.with_images(defect), slice(None))[0]
    assert np.abs(actual[20:24, 20:24]).max() > 3 * np.abs(errors).max()
