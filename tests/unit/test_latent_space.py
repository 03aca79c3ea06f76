"""The picture of the latent space: what it draws where, read back from the figure."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pixal.plotting.latent_space import latent_space


def drawn(good: np.ndarray, parts: np.ndarray, failed: np.ndarray) -> tuple[dict[str, np.ndarray], Any]:
    """The points of each group by the first words of its label, and the axes."""
    figure = latent_space(good, parts, failed, title="front")
    figure.canvas.draw()
    (ax,) = figure.axes
    return {str(group.get_label()): np.asarray(group.get_offsets()) for group in ax.collections}, ax


def test_the_plane_is_that_in_which_the_good_parts_vary_most() -> None:
    generator = np.random.default_rng(0)
    first, second = np.linalg.qr(generator.normal(size=(6, 2)))[0].T
    weights = generator.normal(size=(50, 2)) * [3.0, 1.0]
    weights -= weights.mean(0)
    good = 5.0 + weights @ np.stack([first, second])
    parts = good.mean(0) + np.outer([2.0, -4.0, 0.0], first) + np.outer([0.0, 0.0, 7.0], second)
    groups, ax = drawn(good, parts, np.array([False, True, False]))
    assert list(groups) == ["good training parts (50)", "parts that pass (2)", "parts that fail (1)"]
    _, spread, axes = np.linalg.svd(weights, full_matrices=False)
    np.testing.assert_allclose(np.abs(groups["good training parts (50)"]), np.abs(weights @ axes.T), atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(groups["parts that fail (1)"]), 4, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(groups["parts that pass (2)"], axis=1), [2, 7], atol=1e-9)
    share = spread**2 / (spread**2).sum()
    assert ax.get_xlabel() == f"latent component 1 ({share[0]:.0%} of the good parts' variance)"
    assert ax.get_ylabel() == f"latent component 2 ({share[1]:.0%} of the good parts' variance)"


@pytest.mark.parametrize(("count", "width"), [(0, 4), (1, 4), (2, 4), (2, 1), (5, 1)])
def test_few_good_parts_or_a_narrow_latent_are_drawn_too(count: int, width: int) -> None:
    generator = np.random.default_rng(1)
    good, parts = generator.random((count, width)), generator.random((3, width))
    groups, ax = drawn(good, parts, np.zeros(3, bool))
    points = np.concatenate(list(groups.values()))
    assert np.isfinite(points).all()
    assert len(points) == count + 3
    assert ("good parts'" in ax.get_xlabel()) == (count > 2)
    if width == 1:
        assert not points[:, 1].any()


def test_the_worst_parts_are_numbered_at_their_places_and_named_in_the_legend() -> None:
    good = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.5], [0.0, -0.5]])
    parts = np.array([[4.0, 0.0], [0.0, 3.0], [4.0, 0.01], [0.0, 0.0]])
    named = {2: "c.png, score 9", 0: "a$.png, score 8", 1: "b" * 90}
    figure = latent_space(good, parts, np.array([True, True, True, False]), row_labels=named, title="front")
    figure.canvas.draw()
    (ax,) = figure.axes
    places = {text.get_text(): np.abs(text.xy).tolist() for text in ax.texts}
    assert places == {"1, 2": [4.0, 0.01], "3": [0.0, 3.0]}  # two at one place have one text
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    assert entries[3:5] == ["1: c.png, score 9", r"2: a\$.png, score 8"]
    assert entries[5].startswith("3: bbb")
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width


def test_parts_that_are_all_alike_are_one_point() -> None:
    groups, _ = drawn(np.ones((4, 3)), np.ones((2, 3)), np.array([True, True]))
    assert all(not points.any() for points in groups.values())
