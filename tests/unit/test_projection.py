"""The subspace of good images, against numpy.linalg.svd."""

from __future__ import annotations

import numpy as np
import pytest

from pixal.inputs import InputSet
from pixal.train_model import projection
from pixal.train_model.projection import auto_rank, fit_subspace


def inputs_of(data: np.ndarray) -> InputSet:
    return InputSet(data, (1, data.shape[1], 1), ("R",), tuple(f"{n}.png" for n in range(len(data))))


def random_inputs(count: int = 9, values: int = 40, seed: int = 0) -> InputSet:
    generator = np.random.default_rng(seed)
    spread = np.geomspace(1, 0.02, values)
    return inputs_of((0.5 + 0.2 * generator.standard_normal((count, values)) * spread).astype(np.float32))


ONE = np.ones((9, 1), np.float32)
TWO = np.eye(2, dtype=np.float32)[[0, 0, 0, 1, 1, 0, 1, 1, 0]]


def own_means(data: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Each row's mean: that of the rows with the same label."""
    kind = labels.argmax(1)
    return np.array([data[kind == k].astype(float).mean(0) for k in kind])


@pytest.mark.parametrize("labels", [ONE, TWO], ids=["one type", "two types"])
@pytest.mark.parametrize("rank", [1, 3, 6])
def test_span_means_and_scale_are_those_of_the_svd(labels: np.ndarray, rank: int) -> None:
    inputs = random_inputs()
    found = fit_subspace(inputs, np.arange(9), labels, rank)
    means = own_means(inputs.data, labels)
    _, singular, right = np.linalg.svd(inputs.data - means, full_matrices=False)
    np.testing.assert_allclose(labels @ found.mean, means, atol=1e-6)
    np.testing.assert_allclose(found.basis @ found.basis.T, np.eye(rank), atol=1e-5)
    # Each component up to its sign, in order.
    np.testing.assert_allclose(np.abs(np.diag(found.basis @ right[:rank].T)), 1, atol=1e-4)
    assert found.scale == pytest.approx(singular[0] / np.sqrt(9), rel=1e-5)
    coefficients = found.coefficients(inputs.data, labels)
    assert np.sqrt(np.mean(coefficients[:, 0] ** 2)) == pytest.approx(1, rel=1e-4)
    rebuilt = labels @ found.mean + coefficients * found.scale @ found.basis
    best = means + (inputs.data - means) @ right[:rank].T @ right[:rank]  # Eckart and Young
    np.testing.assert_allclose(rebuilt, best, atol=2e-5)


def test_only_the_given_rows_are_learnt_from() -> None:
    inputs = random_inputs(12)
    rows = np.array([1, 2, 5, 7, 8, 11])
    found = fit_subspace(inputs, rows, ONE[:6], 3)
    alone = fit_subspace(inputs_of(inputs.data[rows]), np.arange(6), ONE[:6], 3)
    np.testing.assert_array_equal(found.basis, alone.basis)
    np.testing.assert_array_equal(found.mean, alone.mean)


@pytest.mark.parametrize("block", [9, 9 * 7, 9 * 39])
@pytest.mark.parametrize("labels", [ONE, TWO], ids=["one type", "two types"])
def test_blocks_of_columns_give_what_one_block_gives(
    labels: np.ndarray, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = random_inputs()
    whole = fit_subspace(inputs, np.arange(9), labels, 4)
    monkeypatch.setattr(projection, "_BLOCK_VALUES", block)
    parts = fit_subspace(inputs, np.arange(9), labels, 4)
    np.testing.assert_allclose(parts.mean, whole.mean, atol=1e-6)
    np.testing.assert_allclose(parts.basis, whole.basis, atol=1e-4)
    assert parts.scale == pytest.approx(whole.scale, rel=1e-6)


def test_components_beyond_what_the_images_span_are_zero() -> None:
    inputs = random_inputs(4)
    found = fit_subspace(inputs, np.arange(4), ONE[:4], 7)
    norms = np.linalg.norm(found.basis, axis=1)
    np.testing.assert_allclose(norms, [1, 1, 1, 0, 0, 0, 0], atol=1e-5)
    rebuilt = found.mean + found.coefficients(inputs.data, ONE[:4]) * found.scale @ found.basis
    np.testing.assert_allclose(rebuilt, inputs.data, atol=1e-5)


def test_equal_images_give_an_empty_basis_and_no_nan() -> None:
    inputs = inputs_of(np.full((3, 5), 0.25, np.float32))
    found = fit_subspace(inputs, np.arange(3), ONE[:3], 2)
    assert found.scale > 0
    assert np.isfinite(found.coefficients(inputs.data, ONE[:3])).all()
    np.testing.assert_array_equal(found.basis, 0)


def test_neither_sign_nor_order_of_components_hangs_on_the_order_of_the_images() -> None:
    """Eigenvectors come with any sign; the one chosen makes the coefficient largest in size positive."""
    inputs = random_inputs()
    first = fit_subspace(inputs, np.arange(9), ONE, 5)
    coefficients = first.coefficients(inputs.data, ONE)
    assert (coefficients[np.abs(coefficients).argmax(0), np.arange(5)] > 0).all()
    order = np.array([3, 8, 0, 5, 1, 7, 2, 6, 4])
    np.testing.assert_allclose(fit_subspace(inputs, order, ONE, 5).basis, first.basis, atol=1e-4)


@pytest.mark.parametrize(
    ("images", "types", "expected"),
    [(2, 1, 1), (1, 1, 1), (10, 1, 9), (17, 1, 16), (200, 1, 16), (10, 2, 8), (200, 3, 48)],
)
def test_auto_rank(images: int, types: int, expected: int) -> None:
    assert auto_rank(images, types) == expected
