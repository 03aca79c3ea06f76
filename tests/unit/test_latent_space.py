"""The figure of the latent space: distances from good parts, and which points are drawn where."""

from __future__ import annotations

import numpy as np
import pytest

from pixal.plotting.latent_space import latent_distances, latent_space

pytestmark = pytest.mark.figures


def test_distances_are_those_to_the_nearest_good_part_in_units_of_a_typical_one() -> None:
    generator = np.random.default_rng(0)
    good, parts = generator.normal(size=(30, 5)) * [1, 2, 3, 4, 1e-3], generator.normal(size=(4, 5))
    among, distances = latent_distances(good, parts)
    scaled, others = good / good.std(0), parts / good.std(0)
    apart = np.linalg.norm(scaled[:, None] - scaled, axis=-1) + np.diag([np.inf] * 30)
    unit = np.median(apart.min(1))
    np.testing.assert_allclose(among, apart.min(1) / unit)
    np.testing.assert_allclose(distances, np.linalg.norm(others[:, None] - scaled, axis=-1).min(1) / unit)
    assert np.median(among) == pytest.approx(1)


@pytest.mark.parametrize(("count", "width"), [(0, 4), (1, 4), (2, 4), (2, 1), (5, 1)])
def test_few_good_parts_narrow_latents_and_equal_parts_are_drawn(count: int, width: int) -> None:
    generator = np.random.default_rng(1)
    for good in (generator.random((count, width)), np.ones((count, width))):
        among, distances = latent_distances(good, generator.random((3, width)))
        assert len(among) == (count if count > 1 else 0)
        assert np.isfinite([*among, *distances]).all()
        figure = latent_space(good, np.ones((3, width)), np.ones(3), np.zeros(3, bool), threshold=2.0, title="front")
        figure.draw_without_rendering()


def test_parts_that_fail_are_above_the_threshold_and_far_vectors_at_the_right() -> None:
    good = np.random.default_rng(0).normal(size=(40, 3))
    parts = np.vstack([good[0], good[1] + 50, good[2]])
    failed = np.array([True, True, False])
    figure = latent_space(good, parts, np.array([8.0, 9.0, 1.0]), failed, threshold=2.0, title="front")
    passed, fail = (np.asarray(group.get_offsets()) for group in figure.axes[0].collections)
    assert passed.tolist() == [[0.0, 1.0]]
    assert fail[:, 1].tolist() == [8.0, 9.0]
    assert fail[0, 0] == 0  # its score, not its vector, tells it apart
    assert fail[1, 0] > 10
    threshold = next(line for line in figure.axes[0].get_lines() if str(line.get_label()).startswith("threshold"))
    assert threshold.get_ydata()[0] == 2


def test_labelled_parts_are_numbered_and_named_in_the_legend() -> None:
    good = np.array([[1.0], [0.0]])
    parts = np.array([[4.0], [0.0], [4.0], [0.0]])
    scores = np.array([9.0, 8.0, 9.01, 0.0])
    row_labels = {2: "c.png, score 9", 0: "a$.png, score 8", 1: "b" * 90}
    failed = np.array([True, True, True, False])
    figure = latent_space(good, parts, scores, failed, threshold=2.0, row_labels=row_labels, title="front")
    figure.canvas.draw()
    assert [text.get_text() for text in figure.axes[0].texts] == ["1, 2", "3"]  # parts close to each other share one
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "1: c.png, score 9" in entries
    assert r"2: a\$.png, score 8" in entries
    assert entries[-1].startswith("3: bbb")
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
