"""Figures of predicted positions and angles: what a reader sees on them."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure
from test_cluster_measures import WIDTHS, planted

from pixal.plotting import style
from pixal.tasks.charge_clusters.measures import figures
from pixal.tasks.charge_clusters.measures.summary import TARGETS, standard_deviations


def legends(figure: Figure) -> list[str]:
    """The texts of all legends."""
    boxes = [*figure.legends, *(ax.get_legend() for ax in figure.axes if ax.get_legend())]
    return [text.get_text() for box in boxes for text in box.get_texts()]


def test_each_slice_of_an_event_has_a_panel() -> None:
    charge = np.zeros((13, 21, 2))
    charge[6, 15, 1] = 4000
    names = ["slice 0", "slice 19"]
    figure = figures.event_display(
        charge, title="event 7", truth=(5, 1), predicted=(4, 2), sigma=(1, 1), slice_names=names
    )
    panels = [ax for ax in figure.axes if ax.images]
    assert [ax.get_title() for ax in panels] == names
    np.testing.assert_array_equal(panels[1].images[0].get_array(), charge[..., 1])
    assert panels[1].images[0].get_extent() == [-525.0, 525.0, -81.25, 81.25], "in µm, from the centre"
    assert panels[1].images[0].origin == "lower", "y rises with the row"
    assert legends(figure) == ["truth", "prediction"]
    assert [tuple(line.get_xydata()[0]) for line in panels[0].lines] == [(5, 1), (4, 2)]


def test_events_with_charge_below_0_have_colours_about_0() -> None:
    charge = np.zeros((13, 21, 20))
    charge[0, 0, 0], charge[1, 1, 1] = -100, 400
    image = figures.event_display(charge, title="").axes[0].images[0]
    assert image.get_clim() == (-400, 400)
    assert figures.event_display(np.zeros((13, 21, 1)), title="no charge").axes[0].images[0].get_clim() == (0, 1)


def test_residuals_state_mean_and_width_of_each_estimator() -> None:
    truth, mean, _ = planted(3000)
    mean[:, 1] += 1.0
    figure = figures.residual_histograms(truth, mean, title="", others={"centroid": truth[:, :2] + 3.0})
    stated = legends(figure)
    residuals = truth[:, 1] - mean[:, 1]
    assert f"network: {residuals.mean():+.2f} ± {residuals.std():.2f}" in stated
    assert sum(text.startswith("centroid: -3.000") for text in stated) == 2, "of x and y alone"
    assert [ax.get_title() for ax in figure.axes] == list(TARGETS)


def test_profiles_show_a_planted_bias_and_the_predicted_band() -> None:
    truth, mean, covariance = planted(30_000)
    mean[:, 0] = truth[:, 0] * 1.5
    figure = figures.residual_profiles(truth, mean, standard_deviations(covariance), title="")
    line = figure.axes[0].containers[0].lines[0]
    assert len(line.get_xdata()) == figures.PROFILE_BINS
    np.testing.assert_allclose(line.get_ydata(), -0.5 * np.asarray(line.get_xdata()), atol=1e-9)
    band = figure.axes[1].collections[0].get_paths()[0].vertices[:, 1]
    assert band.max() == pytest.approx(WIDTHS[1])


def test_pulls_state_the_width_of_all_and_of_the_core() -> None:
    truth, mean, covariance = planted(20_000)
    sigma = standard_deviations(covariance) / 1.2
    truth[:200, 0] += 8 * WIDTHS[0]
    pulls = (truth - mean) / sigma
    assert figures.core_fit(pulls[:, 0])[1] == pytest.approx(1.2, abs=0.03)
    assert pulls[:, 0].std() > 1.5
    assert f"all: {pulls[:, 0].mean():+.3f} ± {pulls[:, 0].std():.3f}" in legends(
        figures.pull_histograms(truth, mean, sigma, title="")
    )
    assert figures.core_fit(np.ones(10)) == (1.0, 0.0)


def test_coverage_of_right_and_of_too_small_uncertainties() -> None:
    truth, mean, covariance = planted(20_000)
    sigma = standard_deviations(covariance)
    sigma[:, 0] /= 2
    upper = figures.coverage(truth, mean, sigma, title="").axes[0]
    ideal, x, y, *_ = upper.lines
    assert ideal.get_label() == "ideal"
    assert np.abs(np.asarray(y.get_ydata()) - y.get_xdata()).max() < 0.015
    assert x.get_ydata()[67] == pytest.approx(0.38, abs=0.02), "half of 0.9945 standard deviations"
    assert x.get_color() == style.line_styles(1)[0][0]


def test_constant_truth_can_be_drawn() -> None:
    truth = np.zeros((10, 4))
    for draw in (figures.residual_profiles, figures.pull_histograms, figures.coverage):
        assert draw(truth, truth, np.ones((10, 4)), title="").axes
    assert figures.residual_histograms(truth, truth, title="").axes
