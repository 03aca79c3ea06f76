"""Fits of the subspace of good images, compared with ``numpy.linalg.svd``: exact fits, and fits in passes."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from helpers import mapped_bytes

from pixal.inputs import InputSet
from pixal.train_model.autoencoder import projection, subspace
from pixal.train_model.autoencoder.projection import SubspaceFitter, auto_rank
from pixal.train_model.autoencoder.subspace import SubspaceFit

ALL = np.arange(9)
ONE = np.ones((9, 1), np.float32)
TWO = np.eye(2, dtype=np.float32)[[0, 0, 0, 1, 1, 0, 1, 1, 0]]


def inputs_of(data: np.ndarray) -> InputSet:
    return InputSet(data, (1, data.shape[1], 1), ("R",), tuple(f"{n}.png" for n in range(len(data))))


def random_inputs(count: int = 9, values: int = 40, seed: int = 0) -> InputSet:
    generator = np.random.default_rng(seed)
    spread = np.geomspace(1, 0.02, values)
    return inputs_of((0.5 + 0.2 * generator.standard_normal((count, values)) * spread).astype(np.float32))


def fit(inputs: InputSet, labels: np.ndarray, rows: np.ndarray, rank: int, memory_limit: float = 4.0) -> SubspaceFit:
    return SubspaceFitter(inputs, labels, memory_limit).fit([rows], rank)[0]


def means_of_types(data: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return, for each image, the mean of the images of ``rows`` with the same label."""
    kind = labels.argmax(1)
    return np.array([data[rows][kind[rows] == k].astype(float).mean(0) for k in kind])


def check_coefficients(actual: SubspaceFit, data: np.ndarray, labels: np.ndarray) -> None:
    """Check coefficients and residuals against a projection of the pixels."""
    space = actual.subspace
    about_mean = data.astype(float) - labels @ space.mean
    inside = about_mean @ space.basis.T
    np.testing.assert_allclose(actual.coefficients, inside / space.scale, atol=2e-5)
    outside = ((about_mean - inside @ space.basis) ** 2).sum(1) / space.scale**2
    np.testing.assert_allclose(actual.squared_residuals, outside, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("labels", [ONE, TWO], ids=["one type", "two types"])
@pytest.mark.parametrize("rank", [1, 3, 5])
@pytest.mark.parametrize("rows", [ALL, np.array([1, 2, 3, 5, 6, 7, 8])], ids=["all", "some"])
def test_components_means_scale_and_coefficients_agree_with_the_svd(
    labels: np.ndarray, rank: int, rows: np.ndarray
) -> None:
    inputs = random_inputs()
    actual = fit(inputs, labels, rows, rank)
    space = actual.subspace
    about_mean = inputs.data - means_of_types(inputs.data, labels, rows)
    _, singular, right = np.linalg.svd(about_mean[rows], full_matrices=False)
    np.testing.assert_allclose(labels @ space.mean, means_of_types(inputs.data, labels, rows), atol=1e-6)
    np.testing.assert_allclose(space.basis @ space.basis.T, np.eye(rank), atol=1e-5)
    # The components agree in order, except for their signs.
    np.testing.assert_allclose(np.abs(np.diag(space.basis @ right[:rank].T)), 1, atol=1e-4)
    assert space.scale == pytest.approx(singular[0] / np.sqrt(len(rows)), rel=1e-5)
    assert np.sqrt(np.mean(actual.coefficients[rows, 0] ** 2)) == pytest.approx(1, rel=1e-4)
    check_coefficients(actual, inputs.data, labels)


def test_rows_outside_the_fold_do_not_change_the_subspace() -> None:
    inputs = random_inputs(12)
    rows = np.array([1, 2, 5, 7, 8, 11])
    labels = np.ones((12, 1), np.float32)
    actual = fit(inputs, labels, rows, 3).subspace
    spoilt = inputs.data.copy()
    spoilt[np.setdiff1d(np.arange(12), rows)] = 0
    np.testing.assert_allclose(fit(inputs_of(spoilt), labels, rows, 3).subspace.basis, actual.basis, atol=1e-5)
    alone = fit(inputs_of(inputs.data[rows]), labels[rows], np.arange(6), 3).subspace
    np.testing.assert_allclose(alone.basis, actual.basis, atol=1e-5)
    np.testing.assert_allclose(alone.mean, actual.mean, atol=1e-6)
    assert alone.scale == pytest.approx(actual.scale, rel=1e-5)


@pytest.mark.parametrize("columns", [1, 7, 39])
@pytest.mark.parametrize("labels", [ONE, TWO], ids=["one type", "two types"])
def test_many_chunks_give_the_result_of_one_chunk(labels: np.ndarray, columns: int) -> None:
    whole = fit(random_inputs(), labels, ALL, 4)
    parts = fit(random_inputs(), labels, ALL, 4, memory_limit=16 * 4 * 9 * columns / 2**30)
    np.testing.assert_allclose(parts.subspace.mean, whole.subspace.mean, atol=1e-6)
    np.testing.assert_allclose(parts.subspace.basis, whole.subspace.basis, atol=1e-4)
    np.testing.assert_allclose(parts.coefficients, whole.coefficients, atol=1e-4)
    assert parts.subspace.scale == pytest.approx(whole.subspace.scale, rel=1e-6)


def read_values(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list to which each reading of an ``InputSet`` adds the number of its values."""
    sizes: list[int] = []
    rows = InputSet.rows

    def noted(self: InputSet, *arguments: object, **options: object) -> np.ndarray:
        actual = rows(self, *arguments, **options)  # type: ignore[arg-type]
        sizes.append(actual.size)
        return actual

    monkeypatch.setattr(InputSet, "rows", noted)
    return sizes


def test_all_folds_are_fitted_in_two_passes_over_the_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = random_inputs()
    folds = [np.setdiff1d(ALL, ALL[start::3]) for start in range(3)]
    sizes = read_values(monkeypatch)
    fitter = SubspaceFitter(inputs, TWO, 1e-6)
    together = fitter.fit(folds, 3)
    assert len(sizes) > 2
    assert sum(sizes) == 2 * inputs.data.size
    for fold, actual in zip(folds, together, strict=True):
        (alone,) = fitter.fit([fold], 3)
        np.testing.assert_allclose(alone.subspace.basis, actual.subspace.basis, atol=1e-6)
        np.testing.assert_array_equal(alone.coefficients, actual.coefficients)
        check_coefficients(actual, inputs.data, TWO)
    assert sum(sizes) == 5 * inputs.data.size  # the inner products are not computed again


def test_components_beyond_the_rank_of_the_images_are_zero() -> None:
    inputs = random_inputs(4)
    actual = fit(inputs, ONE[:4], np.arange(4), 7)
    space = actual.subspace
    np.testing.assert_allclose(np.linalg.norm(space.basis, axis=1), [1, 1, 1, 0, 0, 0, 0], atol=1e-5)
    np.testing.assert_allclose(
        space.mean + actual.coefficients * np.float32(space.scale) @ space.basis, inputs.data, atol=1e-5
    )
    np.testing.assert_allclose(actual.squared_residuals, 0, atol=1e-5)


@pytest.mark.parametrize("count", [1, 3, 30])
def test_equal_images_give_an_empty_basis_and_no_nan(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "EXACT_IMAGES", 10)
    inputs = inputs_of(np.full((count, 5), 0.25, np.float32))
    actual = fit(inputs, np.ones((count, 1), np.float32), np.arange(count), 2)
    assert actual.subspace.scale > 0
    np.testing.assert_array_equal(actual.subspace.basis, 0)
    np.testing.assert_array_equal(actual.coefficients, 0)
    np.testing.assert_allclose(actual.squared_residuals, 0, atol=1e-6)


def test_sign_and_order_of_components_do_not_depend_on_the_order_of_images() -> None:
    """The sign of an eigenvector is arbitrary. Here the coefficient with the largest magnitude is positive."""
    inputs = random_inputs()
    first = fit(inputs, ONE, ALL, 5)
    coefficients = first.coefficients
    assert (coefficients[np.abs(coefficients).argmax(0), np.arange(5)] > 0).all()
    order = np.array([3, 8, 0, 5, 1, 7, 2, 6, 4])
    turned = fit(inputs_of(inputs.data[order]), ONE, ALL, 5)
    np.testing.assert_allclose(turned.subspace.basis, first.subspace.basis, atol=1e-4)


def many_inputs(count: int = 300, values: int = 500) -> tuple[InputSet, np.ndarray]:
    """Images of two types whose variances decrease as in photographs: few large ones, and a long flat tail."""
    generator = np.random.default_rng(4)
    spread = 1 / np.arange(1, values + 1) ** 0.8
    turn = np.linalg.qr(generator.standard_normal((values, values)))[0]
    data = generator.standard_normal((count, values)) * spread @ turn
    labels = np.eye(2, dtype=np.float32)[generator.integers(0, 2, count)]
    data += labels @ generator.standard_normal((2, values))
    return inputs_of(data.astype(np.float32)), labels


@pytest.mark.parametrize("memory_limit", [4.0, 2e-4])
@pytest.mark.parametrize("held_out", [0, 60])
def test_passes_are_almost_as_good_as_the_exact_components(
    memory_limit: float, held_out: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, labels = many_inputs()
    rows = np.random.default_rng(0).permutation(300)[held_out:]
    exact = fit(inputs, labels, np.sort(rows), 6)
    monkeypatch.setattr(projection, "EXACT_IMAGES", 299)
    sizes = read_values(monkeypatch)
    actual = fit(inputs, labels, np.sort(rows), 6, memory_limit)
    assert sum(sizes) == (22 + len(rows) + 300) * 500  # 22: the images that the iteration starts from
    if memory_limit < 1:
        assert max(sizes) <= max(22 * 500, memory_limit * 2**30 / 4 / 16)
    space = actual.subspace
    np.testing.assert_allclose(space.basis @ space.basis.T, np.eye(6), atol=1e-5)
    np.testing.assert_allclose(space.mean, exact.subspace.mean, atol=1e-5)
    check_coefficients(actual, inputs.data, labels)
    assert space.scale == pytest.approx(exact.subspace.scale, rel=1e-3)
    left = [fitted.squared_residuals[rows].sum() * fitted.subspace.scale**2 for fitted in (actual, exact)]
    assert 1 - 1e-5 <= left[0] / left[1] < 1.01
    squares = (actual.coefficients[rows] ** 2).mean(0)
    assert (np.diff(squares) < 0).all()
    cross = actual.coefficients[rows].T @ actual.coefficients[rows] / len(rows)
    np.testing.assert_allclose(cross, np.diag(squares), atol=1e-4)


def folds_of(rows: np.ndarray, held_out: int = 60) -> list[np.ndarray]:
    """The training rows of three folds, where each row is held out at most once, and all rows."""
    parts = np.array_split(np.random.default_rng(2).permutation(rows)[:held_out], 3)
    return [*(np.setdiff1d(rows, part) for part in parts), rows]


@pytest.mark.slow
@pytest.mark.parametrize("memory_limit", [4.0, 5e-4])
def test_announced_fits_in_passes_read_the_inputs_twice(memory_limit: float, monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, labels = many_inputs()
    sets = folds_of(np.arange(300))
    exact = SubspaceFitter(inputs, labels, 4.0).fit(sets, 6)
    monkeypatch.setattr(projection, "EXACT_IMAGES", 299)
    sizes = read_values(monkeypatch)
    fitter = SubspaceFitter(inputs, labels, memory_limit)
    fitter.prepare(sets)
    actual = [fitter.fit([rows], 6)[0] for rows in sets]
    assert sum(sizes) == (22 + 300 + 300) * 500  # 22: the images that the iteration starts from
    for fitted, true, rows in zip(actual, exact, sets, strict=True):
        np.testing.assert_allclose(fitted.subspace.mean, true.subspace.mean, atol=1e-5)
        check_coefficients(fitted, inputs.data, labels)
        left = [each.squared_residuals[rows].sum() * each.subspace.scale**2 for each in (fitted, true)]
        assert 1 - 1e-5 <= left[0] / left[1] < 1.01
    # A fit that was not announced reads the inputs again.
    fitter.fit([np.arange(10, 290)], 6)
    assert sum(sizes) == (22 + 300 + 300 + 22 + 280 + 300) * 500


def test_a_fit_in_passes_does_not_depend_on_held_out_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "EXACT_IMAGES", 299)
    inputs, labels = many_inputs()
    sets = folds_of(np.arange(300))
    spoilt = inputs.data.copy()
    spoilt[np.setdiff1d(np.arange(300), sets[1])] = 9.0
    actual = []
    for data in (inputs.data, spoilt):
        fitter = SubspaceFitter(inputs_of(data), labels, 4.0)
        fitter.prepare(sets)
        actual.append([fitter.fit([rows], 6)[0].subspace for rows in sets])
    np.testing.assert_array_equal(actual[0][1].basis, actual[1][1].basis)
    np.testing.assert_array_equal(actual[0][1].mean, actual[1][1].mean)
    assert not np.allclose(actual[0][3].mean, actual[1][3].mean)


def test_folds_that_share_too_few_rows_of_a_type_are_fitted_separately(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "EXACT_IMAGES", 299)
    inputs, labels = many_inputs()
    sets = folds_of(np.arange(300), held_out=300)  # no row is in all of them
    sizes = read_values(monkeypatch)
    fitter = SubspaceFitter(inputs, labels, 4.0)
    fitter.prepare(sets)
    for rows in sets:
        alone = fit(inputs, labels, rows, 6)
        sizes.clear()
        actual = fitter.fit([rows], 6)[0]
        assert sum(sizes) == (22 + len(rows) + 300) * 500
        np.testing.assert_array_equal(actual.subspace.basis, alone.subspace.basis)


def test_a_fit_in_passes_finds_the_rank_of_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(1)
    data = (0.5 + generator.standard_normal((40, 3)) @ generator.standard_normal((3, 50))).astype(np.float32)
    monkeypatch.setattr(projection, "EXACT_IMAGES", 39)
    actual = fit(inputs_of(data), np.ones((40, 1), np.float32), np.arange(40), 5)
    np.testing.assert_allclose(np.linalg.norm(actual.subspace.basis, axis=1), [1, 1, 1, 0, 0], atol=1e-4)
    np.testing.assert_allclose(actual.squared_residuals, 0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("exact", [True, False])
def test_memory_stays_below_the_limit_for_large_inputs(
    exact: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, count, values = tmp_path / "inputs", 300, 50_000
    with path.open("wb") as file:
        file.truncate(4 * count * values)  # 57 MB of zeros; only the rows written next use space on disk
        for row in range(count):
            file.seek(4 * row * values)
            file.write(np.random.default_rng(row).random(500, np.float32).tobytes())
    inputs = inputs_of(np.memmap(path, np.float32, "r", 0, (count, values)))
    if not exact:
        monkeypatch.setattr(projection, "EXACT_IMAGES", 100)
    tracemalloc.start()
    mapped = mapped_bytes()
    try:
        actual = fit(inputs, np.ones((count, 1), np.float32), np.arange(count), 4, memory_limit=0.02)
        assert tracemalloc.get_traced_memory()[1] < 0.02 * 2**30
    finally:
        tracemalloc.stop()
    assert mapped_bytes() - mapped < 2**23
    np.testing.assert_array_equal(actual.subspace.basis[:, 500:], 0)
    few = fit(inputs_of(inputs.data[:, :500].copy()), np.ones((count, 1), np.float32), np.arange(count), 4)
    assert actual.subspace.scale == pytest.approx(few.subspace.scale, rel=1e-4 if exact else 0.05)


def test_slices_fit_into_memory() -> None:
    assert [b.stop - b.start for b in subspace.iterate_slices(10, 4, 16 * 4 * 3)] == [3, 3, 3, 1]
    assert [b.stop - b.start for b in subspace.iterate_slices(3, 1000, 1)] == [1, 1, 1]
    assert list(subspace.iterate_slices(0, 4, 1e9)) == []


@pytest.mark.parametrize(
    ("images", "types", "expected"),
    [(1, 1, 1), (2, 1, 1), (3, 1, 2), (10, 1, 3), (200, 1, 3), (5, 2, 3), (10, 2, 6), (200, 3, 9)],
)
def test_auto_rank(images: int, types: int, expected: int) -> None:
    assert auto_rank(images, types) == expected
