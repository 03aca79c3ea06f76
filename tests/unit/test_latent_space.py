"""The figure of the latent space: which points are drawn where."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pixal.plotting.latent_space import latent_space

pytestmark = pytest.mark.figures

Array = NDArray[np.float64]


def draw(training_latents: Array, latents: Array, is_failed: NDArray[np.bool_]) -> tuple[dict[str, Array], Any]:
    """The points of each group, by legend entry, and the axes."""
    figure = latent_space(training_latents, latents, is_failed, title="front")
    figure.canvas.draw()
    (ax,) = figure.axes
    return {str(group.get_label()): np.asarray(group.get_offsets()) for group in ax.collections}, ax


def test_parts_are_projected_on_the_principal_components_of_the_good_parts() -> None:
    generator = np.random.default_rng(0)
    first, second = np.linalg.qr(generator.normal(size=(6, 2)))[0].T
    weights = generator.normal(size=(50, 2)) * [3.0, 1.0]
    weights -= weights.mean(0)
    good = 5.0 + weights @ np.stack([first, second])
    parts = good.mean(0) + np.outer([2.0, -4.0, 0.0], first) + np.outer([0.0, 0.0, 7.0], second)
    points, ax = draw(good, parts, np.array([False, True, False]))
    assert list(points) == ["good training parts (50)", "parts that pass (2)", "parts that fail (1)"]
    _, singular_values, axes = np.linalg.svd(weights, full_matrices=False)
    np.testing.assert_allclose(np.abs(points["good training parts (50)"]), np.abs(weights @ axes.T), atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(points["parts that fail (1)"]), 4, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(points["parts that pass (2)"], axis=1), [2, 7], atol=1e-9)
    shares = singular_values**2 / (singular_values**2).sum()
    for label, number, share in zip((ax.get_xlabel(), ax.get_ylabel()), (1, 2), shares, strict=True):
        assert label == f"latent component {number} ({share:.0%} of the good parts' variance)"


@pytest.mark.parametrize(("count", "width"), [(0, 4), (1, 4), (2, 4), (2, 1), (5, 1)])
def test_few_good_parts_and_narrow_latents_are_drawn(count: int, width: int) -> None:
    generator = np.random.default_rng(1)
    groups, ax = draw(generator.random((count, width)), generator.random((3, width)), np.zeros(3, bool))
    points = np.concatenate(list(groups.values()))
    assert np.isfinite(points).all()
    assert len(points) == count + 3
    assert ("good parts'" in ax.get_xlabel()) == (count > 2)
    if width == 1:
        assert not points[:, 1].any()


def test_labelled_parts_are_numbered_and_named_in_the_legend() -> None:
    good = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.5], [0.0, -0.5]])
    parts = np.array([[4.0, 0.0], [0.0, 3.0], [4.0, 0.01], [0.0, 0.0]])
    row_labels = {2: "c.png, score 9", 0: "a$.png, score 8", 1: "b" * 90}
    figure = latent_space(good, parts, np.array([True, True, True, False]), row_labels=row_labels, title="front")
    figure.canvas.draw()
    numbers = {text.get_text(): np.abs(text.xy).tolist() for text in figure.axes[0].texts}
    assert numbers == {"1, 2": [4.0, 0.01], "3": [0.0, 3.0]}  # parts close to each other share one text
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    assert entries[3:5] == ["1: c.png, score 9", r"2: a\$.png, score 8"]
    assert entries[5].startswith("3: bbb")
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width


def test_equal_parts_are_one_point() -> None:
    groups, _ = draw(np.ones((4, 3)), np.ones((2, 3)), np.array([True, True]))
    assert all(not points.any() for points in groups.values())
