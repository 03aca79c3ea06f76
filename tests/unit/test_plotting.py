"""Figures say what their arrays say; pictures change the pixels that they should, and no others."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.plotting import style
from pixal.plotting.drawing import fit_text, line_height, shrunk, text_height, text_width
from pixal.plotting.overlay import STRONGEST, WEAKEST, anomaly_overlay, place_label
from pixal.plotting.preprocessing import (
    alignment_metrics,
    alignment_overlay,
    channel_sheet,
    crop_preview,
    match_picture,
    stacked_intensity,
)
from pixal.plotting.training import accuracy_curve, loss_curve, reconstruction_strip
from pixal.plotting.validation import (
    confusion_matrix,
    pixel_loss_histogram,
    pixel_map,
    pixel_predictions,
    precision_recall_curve,
    roc_curve,
    score_distribution,
    value_distributions,
)


def png(figure: Figure) -> bytes:
    """Draw for real: layout, ticks and text warn only then."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def texts(figure: Figure) -> str:
    """Everything written anywhere in a figure."""
    return "\n".join(t.get_text() for t in figure.findobj(lambda a: hasattr(a, "get_text")))


def legend(figure: Figure) -> list[str]:
    return [t.get_text() for each in figure.legends for t in each.get_texts()]


def line(figure: Figure, label: str, panel: int = 0) -> Any:
    (found,) = [each for each in figure.axes[panel].get_lines() if str(each.get_label()).startswith(label)]
    return found


def stairs(figure: Figure, label: str, panel: int = 0) -> Any:
    return next(p for p in figure.axes[panel].patches if str(p.get_label()).startswith(label)).get_data()


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def photo_of(rng: np.random.Generator, height: int = 360, width: int = 640) -> NDArray[np.uint8]:
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


class TestStyle:
    def test_what_is_drawn_with_opencv_does_without_matplotlib(self) -> None:
        imports = "import sys, pixal.plotting.overlay, pixal.plotting.preprocessing"
        code = f"{imports}; print('matplotlib' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "False"

    def test_no_figure_is_known_to_pyplot(self, rng: np.random.Generator) -> None:
        import matplotlib.pyplot as plt

        pixel_map(rng.random((4, 5)), label="x", title="t")
        assert plt.get_fignums() == []

    def test_dollars_are_no_mathematics(self) -> None:
        name = r"cost $\undefined$"  # as mathematics, an error
        figure = stacked_intensity(np.zeros((9, 9)), (0, 0, 9, 9), title=name)
        png(figure)
        png(channel_sheet(np.zeros((9, 9, 1)), [name], title="t"))
        png(pixel_loss_histogram(np.arange(3), np.ones((1, 2)), [name], title="t"))
        assert figure.texts[0].get_text() == name.replace("$", r"\$")  # drawn as written

    def test_long_titles_are_wrapped_inside_the_figure(self) -> None:
        figure = confusion_matrix(np.eye(2, dtype=int), title="a component with a long name " * 5)
        png(figure)
        title = figure._suptitle.get_window_extent()  # type: ignore[attr-defined]
        assert title.x0 >= 0
        assert title.x1 <= figure.bbox.width

    @pytest.mark.parametrize(
        ("value", "expected"),
        [(0.05, "0.05"), (1, "1"), (10000, "10000"), (1e-6, "10⁻⁶"), (2e-6, "2·10⁻⁶"), (1e5, "10⁵"), (0, "")],
    )
    def test_log_labels(self, value: float, expected: str) -> None:
        assert style._log_label(value) == expected

    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            (np.zeros(9), (1.0, False)),
            (np.full(9, np.nan), (1.0, False)),
            (np.arange(1001.0), (999.0, True)),
            (np.append(np.zeros(5000), 5.0), (5.0, False)),  # the percentile is 0
            (np.array([2.0, np.inf]), (2.0, False)),
        ],
    )
    def test_upper_limits(self, values: NDArray[np.float64], expected: tuple[float, bool]) -> None:
        upper, clipped = style.robust_upper(values)
        assert (upper, clipped) == (pytest.approx(expected[0]), expected[1])

    def test_up_to_28_lines_can_be_told_apart(self) -> None:
        assert len(set(style.line_styles(28))) == 28

    def test_threads_draw_the_same_as_one_thread(self, rng: np.random.Generator) -> None:
        values = [rng.lognormal(0, 1, (20, 30)) for _ in range(4)]
        start = threading.Barrier(2)

        def draw(i: int) -> bytes:
            if i < 2:
                start.wait()
            return png(pixel_map(values[i], label="x", title=f"{i}", log=True))

        with ThreadPoolExecutor(2) as pool:
            together = list(pool.map(draw, range(4)))
        assert together == [png(pixel_map(v, label="x", title=f"{i}", log=True)) for i, v in enumerate(values)]


class TestDrawing:
    @given(st.text(st.characters(codec="latin-1", categories=["L", "N", "P"]), max_size=60), st.integers(0, 300))
    @settings(max_examples=50, deadline=None)
    def test_fitted_text_fits(self, text: str, width: int) -> None:
        fitted, size = fit_text(text, 16, width)
        assert not fitted or text_width(fitted, size) <= width
        assert 12 <= size <= 16
        if text_width(text, 12) <= width:
            assert fitted == text

    def test_text_grows_with_the_image(self) -> None:
        assert text_height(np.zeros((360, 640, 3), np.uint8)) == 12
        assert text_height(np.zeros((1080, 1920, 3), np.uint8)) == 25

    @pytest.mark.parametrize("factor", [2, 4])
    def test_shrunk_by_a_whole_factor_is_the_mean_of_blocks(self, rng: np.random.Generator, factor: int) -> None:
        photo = photo_of(rng)
        blocks = photo.reshape(360 // factor, factor, 640 // factor, factor, 3).mean(axis=(1, 3))
        np.testing.assert_allclose(shrunk(photo, 1 / factor), blocks, atol=1)

    @pytest.mark.parametrize("scale", [0.2, 0.49, 0.8])
    def test_shrunk_shows_all_of_the_image(self, scale: float) -> None:
        ramp = np.repeat(np.linspace(0, 255, 640).astype(np.uint8)[None, :, None], 360, axis=0)
        small = shrunk(np.repeat(ramp, 3, axis=2), scale)
        assert small.shape == (int(360 * scale), int(640 * scale), 3)
        centres = (np.arange(small.shape[1]) + 0.5) / small.shape[1] * 255
        np.testing.assert_allclose(small[0, :, 0], centres, atol=2)


class TestMatchPicture:
    def test_lines_join_the_points_and_all_are_counted(self) -> None:
        grey = np.full((100, 200, 3), 90, np.uint8)
        source, target = np.array([[50.0, 40.0], [60.0, 80.0]]), np.array([[150.0, 40.0], [20.0, 10.0]])
        picture = match_picture(grey, grey, source, target, np.array([True, False]), title="a.png")
        strip = picture.shape[0] - 100
        assert picture.shape[1] == 408
        level = picture[strip + 40, 70:340].astype(int)
        assert (level[:, 2] > level[:, 0]).all()  # sky blue, all the way from one image to the other
        assert (picture[strip + 90 :, :200] == 90).all()

    def test_a_large_pair_is_reduced(self, rng: np.random.Generator) -> None:
        photo, reference = photo_of(rng, 1080, 1920), photo_of(rng, 500, 2500)
        picture = match_picture(photo, reference, np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0, bool), title="")
        assert 1900 < picture.shape[1] <= 1920
        assert picture.dtype == np.uint8

    def test_no_more_lines_than_can_be_seen(self) -> None:
        black = np.zeros((1000, 400), np.uint8)
        rows = np.linspace(5, 994, 330)
        points = np.column_stack([np.full(330, 200.0), rows])
        picture = match_picture(black, black, points, points, np.ones(330, bool), title="")
        column = picture[picture.shape[0] - 1000 :, 404].max(axis=1) > 60
        drawn = np.count_nonzero(column[1:] & ~column[:-1])
        assert 110 <= drawn <= 120


class TestAlignmentOverlay:
    def test_agreement_is_grey_and_shifts_are_green_and_magenta(self) -> None:
        reference, aligned = np.zeros((60, 300), np.uint8), np.zeros((60, 300), np.uint8)
        reference[:, 20:40], aligned[:, 30:50] = 200, 200
        picture = alignment_overlay(reference, aligned, title="")[-60:]
        assert picture[30, 25].tolist() == [0, 200, 0]
        assert picture[30, 35].tolist() == [200, 200, 200]
        assert picture[30, 45].tolist() == [200, 0, 200]

    def test_outside_the_mask_is_dimmed(self) -> None:
        image = np.full((60, 300, 3), 200, np.uint8)
        mask = np.zeros((60, 300), bool)
        mask[:, :100] = True
        picture = alignment_overlay(image, image, mask=mask, title="")[-60:]
        assert (picture[:, :100] == 200).all()
        assert (picture[:, 100:] == 50).all()


class TestAlignmentMetrics:
    @pytest.mark.parametrize("count", [1, 400])
    def test_limits_and_rejected_images(self, count: int) -> None:
        ok = np.arange(count) % 10 != 5
        ssim = np.where(ok, 0.9, np.nan)
        figure = alignment_metrics(
            [f"{i}.png" for i in range(count)],
            np.full(count, 80),
            ssim,
            np.full(count, 12.0),
            ok,
            min_inliers=15,
            min_ssim=0.6,
            max_mse=500,
            title="t",
        )
        png(figure)
        assert [line(figure, "limit", i).get_ydata()[0] for i in range(3)] == [15, 0.6, 500]
        for panel, limit in enumerate((15, 0.6, 500)):
            low, high = figure.axes[panel].get_ylim()
            assert low < limit < high
        marked = figure.axes[1].collections[0].get_segments()
        assert [segment[0][0] for segment in marked] == np.flatnonzero(~ok).tolist()
        assert f"rejected ({int((~ok).sum())})" in legend(figure)
        assert len(figure.axes[2].get_xticks()) <= 30


class TestCropPictures:
    box = (10, 5, 40, 20)

    def test_the_box_encloses_its_pixels(self, rng: np.random.Generator) -> None:
        figure = stacked_intensity(rng.random((50, 80)), self.box, title="t")
        png(figure)
        drawn = line(figure, "crop box")
        assert (min(drawn.get_xdata()), max(drawn.get_xdata())) == (9.5, 49.5)
        assert (min(drawn.get_ydata()), max(drawn.get_ydata())) == (4.5, 24.5)
        assert "mean intensity (0 to 1)" in texts(figure)

    @pytest.mark.parametrize("empty", [False, True])
    def test_only_what_is_compared_keeps_its_light(self, empty: bool) -> None:
        reference = np.full((50, 80, 3), 150, np.uint8)
        consensus, ignored = np.zeros((50, 80), bool), np.zeros((50, 80), bool)
        if not empty:
            consensus[8:20, 15:45], ignored[10:12, 20:25] = True, True
        figure = crop_preview(reference, consensus, self.box, ignored=ignored, title="t")
        png(figure)
        shown = figure.axes[0].images[0].get_array()
        assert (shown[~consensus] == 50).all()
        assert (shown[consensus & ~ignored] == 150).all()
        assert "ignored" in legend(figure) or empty
        if not empty:
            outline = line(figure, "consensus mask (360 pixels)")
            assert (min(outline.get_xdata()), max(outline.get_ydata())) == (15, 19)

    @pytest.mark.parametrize("count", [1, 5, 23])
    def test_all_channels_share_one_scale(self, rng: np.random.Generator, count: int) -> None:
        figure = channel_sheet(0.1 * rng.random((20, 30, count)), [f"C{i}" for i in range(count)], title="t")
        png(figure)
        images = [ax.images[0] for ax in figure.axes if ax.images]
        assert len(images) == count
        assert {image.get_clim() for image in images} == {(0.0, 1.0)}
        assert [ax.get_title() for ax in figure.axes if ax.images] == [f"C{i}" for i in range(count)]


class TestCurves:
    def test_folds_are_a_mean_and_a_band(self) -> None:
        folds = np.array([[4.0, 2.0, 1.0], [6.0, 4.0, np.nan], [5.0, np.nan, np.nan]])
        figure = loss_curve(np.array([3.0, 2.0, 0.5]), folds, best_epoch=2, loss_name="mse", title="t")
        png(figure)
        np.testing.assert_allclose(line(figure, "validation, mean").get_ydata(), [5, 3, 1])
        band = figure.axes[0].collections[0].get_paths()[0].vertices
        np.testing.assert_allclose(band[band[:, 0] == 1][:, 1].min(), 4)
        np.testing.assert_allclose(band[band[:, 0] == 1][:, 1].max(), 6)
        assert line(figure, "best epoch (2)").get_xdata()[0] == 2
        assert line(figure, "training").get_xdata().tolist() == [1, 2, 3]

    @pytest.mark.parametrize("training", [[1.0], [0.5, 0.0], [0.0, 0.0], [0.5, np.nan]])
    def test_log_takes_zeros_single_epochs_and_gaps(self, training: list[float]) -> None:
        figure = loss_curve(np.array(training), loss_name="mae", log=True, title="t")
        png(figure)
        assert figure.axes[0].get_yscale() == ("log" if max(training) > 0 else "linear")
        assert legend(figure) == ["training"]

    def test_accuracy(self) -> None:
        figure = accuracy_curve(np.array([0.1, 0.5]), np.array([0.1, 0.4]), name="R²", title="t")
        png(figure)
        assert line(figure, "validation").get_ydata().tolist() == [0.1, 0.4]
        assert figure.axes[0].get_ylabel() == "R²"

    @pytest.mark.parametrize("rgb", [False, True])
    def test_reconstructions_share_an_error_scale(self, rng: np.random.Generator, rgb: bool) -> None:
        inputs = rng.random((3, 20, 30, 3) if rgb else (3, 20, 30))
        errors = np.full((3, 20, 30), 0.25)
        errors[2, 3, 4], errors[:, 0] = 9.0, np.nan
        figure = reconstruction_strip(inputs, inputs, errors, ["best", "median", "worst"], title="t")
        png(figure)
        maps = [figure.axes[3 * i + 2].images[0] for i in range(3)]
        expected = np.percentile(errors[np.isfinite(errors)], 99.9)
        assert [m.get_clim() for m in maps] == [(0.0, pytest.approx(expected))] * 3
        assert all(m.get_array().mask[0].all() for m in maps)
        assert "worst" in figure.axes[6].get_title()


class TestScores:
    def test_groups_are_counted_and_the_threshold_stands_where_it_is(self, rng: np.random.Generator) -> None:
        good, scores = rng.lognormal(0, 0.2, 40), np.array([1.0, 1.2, 8.0, 9.0, np.nan, 3.0])
        labels = np.array([0, 0, 1, 1, 1, -1])
        figure = score_distribution(good, scores, labels, threshold=2.5, log=True, title="t")
        png(figure)
        counted = [entry for entry in legend(figure) if "threshold" not in entry]
        assert counted == [
            "held-out good parts (40)",
            "batch, good (2)",
            "batch, defective (2, 1 without a score)",
            "batch, not labelled (1)",
        ]
        for panel in (0, 1):  # histogram and rug
            assert line(figure, "threshold 2.5", panel).get_xdata()[0] == 2.5
        assert np.nansum(stairs(figure, "batch, defective").values) == 2
        assert np.nansum(stairs(figure, "held-out").values) == 40
        rows = [each.get_xdata().tolist() for each in figure.axes[1].get_lines() if each.get_marker() == "|"]
        assert rows[1:] == [[1.0, 1.2], [8.0, 9.0], [3.0]]

    def test_log_bins_grow_by_a_factor_and_hold_zeros(self) -> None:
        figure = score_distribution(np.array([0.0, 1.0, 2.0]), np.array([4.0]), threshold=100.0, log=True, title="t")
        png(figure)
        counts, edges, _ = stairs(figure, "held-out")
        np.testing.assert_allclose(edges[1:] / edges[:-1], edges[1] / edges[0])
        assert edges[0] > 0
        assert counts[0] >= 1
        assert edges[0] < 100 < edges[-1]
        assert "at the left edge" in figure.axes[-1].get_xlabel()

    @pytest.mark.parametrize("log", [False, True])
    @pytest.mark.parametrize(
        ("good", "scores", "threshold"),
        [
            ([1.0] * 5, [1.0], 1.0),
            ([], [2.0], 1.0),
            ([], [], 1.0),
            ([0.0, 0.0], [0.0], 0.0),
            ([1.0], [np.nan], np.inf),
            ([1.0, 2.0], [np.inf], 1.5),
        ],
    )
    def test_few_and_equal_scores(self, good: list[float], scores: list[float], threshold: float, log: bool) -> None:
        figure = score_distribution(np.array(good), np.array(scores), threshold=threshold, log=log, title="t")
        png(figure)
        assert np.nansum(stairs(figure, "held-out").values) == len(good)

    def test_many_parts_have_no_rug(self, rng: np.random.Generator) -> None:
        figure = score_distribution(rng.random(300), rng.random(200), threshold=0.9, title="t")
        assert len(figure.axes) == 1


class TestPixels:
    def test_loss_histogram_draws_channels_and_their_sum(self) -> None:
        edges, counts = np.geomspace(1e-6, 1, 5), np.array([[1, 0, 3, 4], [10, 0, 30, 40]])
        figure = pixel_loss_histogram(edges, counts, ["R", "G"], log=True, title="t")
        png(figure)
        assert stairs(figure, "G").values.tolist() == [10, 0, 30, 40]
        assert stairs(figure, "all channels").values.tolist() == [11, 0, 33, 44]
        assert figure.axes[0].get_xscale() == figure.axes[0].get_yscale() == "log"

    @pytest.mark.parametrize("log", [False, True])
    @pytest.mark.parametrize("channels", [1, 23])
    def test_loss_histogram_without_pixels(self, channels: int, log: bool) -> None:
        names = [f"C{i}" for i in range(channels)]
        figure = pixel_loss_histogram(np.linspace(0, 1, 6), np.zeros((channels, 5)), names, log=log, title="t")
        png(figure)
        assert "no pixels" in texts(figure)
        assert legend(figure)[:channels] == names
        assert figure.axes[0].get_xscale() == "linear"

    @pytest.mark.parametrize("log", [False, True])
    def test_map_hides_the_outside_and_ignores_outliers(self, rng: np.random.Generator, log: bool) -> None:
        values = rng.random((100, 50))
        values[3, 4], values[5, 6] = 1e6, np.nan
        mask = np.zeros((100, 50), bool)
        mask[:60] = True
        figure = pixel_map(values, label="squared error", mask=mask, title="t", log=log)
        png(figure)
        image = figure.axes[0].images[0]
        upper = np.nanpercentile(values[:60], 99.9)
        assert image.norm.vmax == pytest.approx(upper)
        assert (image.get_array().mask == (~mask | np.isnan(values))).all()
        assert f"99.9th percentile, {upper:.3g}" in texts(figure)
        assert isinstance(image.norm, LogNorm) == log

    @pytest.mark.parametrize("log", [False, True])
    @pytest.mark.parametrize(
        "values", [np.zeros((5, 9)), np.full((5, 9), np.nan), np.diag([5.0] + 49 * [0.0]), np.ones((1, 1))]
    )
    def test_map_of_nothing(self, values: NDArray[np.float64], log: bool) -> None:
        figure = pixel_map(values, label="x", title="t", log=log)
        png(figure)
        image = figure.axes[0].images[0]
        assert image.norm.vmin < image.norm.vmax

    def test_predictions_have_the_input_on_the_x_axis(self) -> None:
        counts = np.zeros((4, 4))
        counts[3, 0] = 50  # a high input value, reconstructed low
        figure = pixel_predictions(np.linspace(0, 1, 5), counts, channel="R", title="t")
        png(figure)
        mesh = figure.axes[0].collections[0].get_array().reshape(4, 4)
        assert mesh[0, 3] == 50
        assert mesh.count() == 1  # all other bins are blank
        diagonal = line(figure, "perfect")
        assert list(diagonal.get_xdata()) == list(diagonal.get_ydata()) == [0, 1]
        assert isinstance(figure.axes[0].collections[0].norm, LogNorm)

    def test_predictions_of_nothing(self) -> None:
        figure = pixel_predictions(np.linspace(0, 1, 5), np.zeros((4, 4)), channel="R", title="t")
        png(figure)
        assert "no pixels" in texts(figure)

    def test_values_are_shares_of_the_channel(self) -> None:
        figure = value_distributions(
            np.linspace(0, 1, 3),
            np.array([[1, 3], [0, 0]]),
            np.array([[2, 2], [0, 7]]),
            ["R", "G"],
            title="t",
        )
        png(figure)
        assert stairs(figure, "input").values.tolist() == [25, 75]
        assert stairs(figure, "input", 1).values.tolist() == [0, 0]
        assert stairs(figure, "reconstruction", 1).values.tolist() == [0, 100]


class TestQuality:
    def test_roc(self) -> None:
        fpr, tpr = np.array([0, 0, 0.5, 1]), np.array([0, 0.8, 1, 1])
        figure = roc_curve(fpr, tpr, auc=0.95, point=(0.1, 0.9), title="t")
        png(figure)
        assert line(figure, "parts (area 0.9500)").get_ydata().tolist() == tpr.tolist()
        point = line(figure, "at the threshold: 10.0% false alarms, 90.0% detected")
        assert (point.get_xdata()[0], point.get_ydata()[0]) == (0.1, 0.9)

    def test_precision_and_recall(self) -> None:
        figure = precision_recall_curve(
            np.array([0.2, 0.5, 1.0]), np.array([1.0, 0.5, 0.0]), ap=0.35, prevalence=0.2, title="t"
        )
        png(figure)
        curve = line(figure, "parts (average precision 0.3500)")
        assert curve.get_drawstyle() == "steps-post"  # the area under the steps is the average precision
        assert curve.get_xdata().tolist() == [1.0, 0.5, 0.0]
        assert line(figure, "chance (0.200)").get_ydata()[0] == 0.2

    def test_a_batch_of_one_kind_has_no_curve(self) -> None:
        nothing = np.full(3, np.nan)
        for figure in (
            roc_curve(nothing, np.linspace(0, 1, 3), auc=np.nan, point=(np.nan, 0.5), title="t"),
            precision_recall_curve(nothing, nothing, ap=np.nan, prevalence=0.0, title="t"),
        ):
            png(figure)
            assert "not defined" in texts(figure)
            assert not any("nan" in entry for entry in legend(figure))

    def test_confusion_matrix(self) -> None:
        figure = confusion_matrix(np.array([[18, 2], [0, 0]]), title="t")
        png(figure)
        cells = {t.get_position(): t.get_text() for t in figure.axes[0].texts}
        assert cells == {
            (0, 0): "18\n90.0%",
            (1, 0): "2\n10.0%",
            (0, 1): "0\nno such parts",
            (1, 1): "0\nno such parts",
        }
        assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["pass", "fail"]
        assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == ["good", "defective"]
        assert figure.axes[0].get_ylim() == (1.5, -0.5)  # good above defective


class TestAnomalyOverlay:
    def test_exactly_the_pixels_above_the_threshold_change(self, rng: np.random.Generator) -> None:
        photo = photo_of(rng) // 2  # no pixel is the tint already
        values = cv2.GaussianBlur(rng.random((360, 640), np.float32), (0, 0), 5) * 4
        values[:40], values[300:] = np.nan, 0  # room for the colour bar
        threshold = float(np.nanpercentile(values, 90))
        before = photo.copy()
        picture = anomaly_overlay(photo, values, threshold=threshold)
        changed = (picture != photo).any(axis=2)
        assert (changed[:300] == (values[:300] > threshold)).all()
        assert (photo == before).all()
        redder = picture.astype(int)[..., 0] > photo[..., 0]
        assert redder[:300][changed[:300]].all()

    def test_the_tint_grows_with_the_value_and_shows_what_is_beneath(self) -> None:
        photo = np.full((300, 700, 3), 100, np.uint8)
        values = np.zeros((300, 700), np.float32)
        for i, height in enumerate((2.001, 4.0, 6.0, 60.0, np.inf)):
            values[50:150, 20 + 130 * i : 120 + 130 * i] = height
        picture = anomaly_overlay(photo, values, threshold=2.0)
        red, green = picture[100, 70::130, :2].astype(float).T
        shares = np.array([WEAKEST, (WEAKEST + STRONGEST) / 2, STRONGEST, STRONGEST, STRONGEST])
        np.testing.assert_allclose(red, 100 + 155 * shares, atol=1.5)
        np.testing.assert_allclose(green, 100 * (1 - shares), atol=1.5)
        assert picture[50, 60].tolist() == [255, 0, 0]  # the contour, inside the region
        assert picture[49, 60].tolist() == [100, 100, 100]

    @pytest.mark.parametrize("threshold", [np.inf, np.nan])
    def test_without_a_threshold_nothing_is_marked(self, rng: np.random.Generator, threshold: float) -> None:
        photo = photo_of(rng)
        values = rng.random((360, 640), np.float32)
        assert (anomaly_overlay(photo, values, threshold=threshold) == photo).all()

    @pytest.mark.parametrize("threshold", [0.0, -1.0])
    def test_a_threshold_of_zero_or_less_has_no_scale(self, rng: np.random.Generator, threshold: float) -> None:
        photo = np.full((360, 640, 3), 90, np.uint8)
        values = np.full((360, 640), -3, np.float32)
        values[100:120, 100:120] = 0.5
        changed = (anomaly_overlay(photo, values, threshold=threshold) != photo).any(axis=2)
        assert changed.sum() == 400

    @pytest.mark.parametrize("shape", [(360, 640), (1080, 1920)])
    def test_a_box_surrounds_its_region(self, shape: tuple[int, int]) -> None:
        photo = np.full((*shape, 3), 120, np.uint8)
        values = np.zeros(shape, np.float32)
        values[150:170, 200:240] = 5
        picture = anomaly_overlay(photo, values, threshold=2.0, regions=[(200, 150, 40, 20, "")])
        assert (picture[150:170, 200:240, 0] > 120).all()  # the box covers nothing of the region
        around = picture[120:200, 170:270].reshape(-1, 3)
        assert (around == 255).all(axis=1).any()
        assert (around == style.rgb(style.BLUE)).all(axis=1).any()

    def test_text_stays_inside_and_off_the_caption(self) -> None:
        photo = np.full((360, 640, 3), 120, np.uint8)
        nothing = np.zeros((360, 640), np.float32)
        boxes = [
            (0, 0, 20, 10),
            (600, 0, 40, 30),
            (0, 340, 30, 20),
            (610, 335, 30, 25),
            (300, 0, 40, 360),
            (-5.5, 100.2, 9, 9),
            (5000, 5000, 3, 3),
        ]
        bare = anomaly_overlay(photo, nothing, threshold=2.0, regions=[(*b, "") for b in boxes], caption="FAIL")
        named = anomaly_overlay(
            photo,
            nothing,
            threshold=2.0,
            regions=[(*b, f"label {i}") for i, b in enumerate(boxes)],
            caption="FAIL",
        )
        band = line_height(12) + 6
        assert (bare[:band] == named[:band]).all()
        changed = np.any(bare != named, axis=2).astype(np.uint8)
        _, _, stats, _ = cv2.connectedComponentsWithStats(cv2.morphologyEx(changed, cv2.MORPH_CLOSE, np.ones((5, 9))))
        height = line_height(11)
        whole = [s for s in stats[1:] if s[cv2.CC_STAT_HEIGHT] >= height and s[cv2.CC_STAT_WIDTH] >= 30]
        assert len(whole) == len(boxes)  # none cut off, none upon another

    @given(
        st.tuples(st.integers(0, 280), st.integers(0, 180), st.integers(1, 300), st.integers(1, 200)),
        st.tuples(st.integers(1, 300), st.integers(1, 170)),
        st.integers(0, 30),
    )
    @settings(max_examples=100, deadline=None)
    def test_labels_are_placed_inside(self, box: tuple[int, int, int, int], size: tuple[int, int], top: int) -> None:
        x, y = place_label(box, size, np.zeros((200, 300), np.uint8), top)
        assert 0 <= x <= 300 - size[0]
        assert top <= y <= 200 - size[1]

    def test_a_label_moves_off_what_is_taken(self) -> None:
        occupied = np.zeros((200, 300), np.uint8)
        box = (100, 100, 40, 30)
        assert place_label(box, (60, 15), occupied) == (100, 85)
        occupied[60:100] = 255
        assert place_label(box, (60, 15), occupied) == (100, 130)

    def test_the_caption_is_a_band_on_top(self, rng: np.random.Generator) -> None:
        photo = np.full((360, 640, 3), 200, np.uint8)
        nothing = np.full((360, 640), np.nan, np.float32)
        short = anomaly_overlay(photo, nothing, threshold=np.inf, caption="pass")
        long = anomaly_overlay(photo, nothing, threshold=np.inf, caption="pass " * 100)
        band = line_height(12) + 6
        for picture in (short, long):
            assert (picture[band:] == 200).all()
            assert (picture[:band, -3:] == 70).all()  # dark to the end, the text stops before
            assert (picture[:band] > 240).any()
        assert (short[:band, 200:] == 70).all()
        assert (long[:band, 500:] > 240).any()

    def test_the_colour_bar_gives_way(self) -> None:
        photo = np.full((360, 640, 3), 200, np.uint8)
        values = np.zeros((360, 640), np.float32)
        free = anomaly_overlay(photo, values, threshold=2.0)
        assert (free[-1, -1] == 70).all()
        assert (free[-1, 0] == 200).all()
        values[330:340, 600:610] = 3
        given_way = anomaly_overlay(photo, values, threshold=2.0)
        assert (given_way[-1, -1] == 200).all()
        assert (given_way[-1, 0] == 70).all()

    @pytest.mark.parametrize("shape", [(1, 1), (8, 300), (300, 8), (64, 64)])
    def test_small_photographs(self, shape: tuple[int, int]) -> None:
        photo = np.full((*shape, 3), 50, np.uint8)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            picture = anomaly_overlay(
                photo,
                np.full(shape, 9, np.float32),
                threshold=1.0,
                regions=[(0, 0, shape[1], shape[0], "a label")],
                caption="FAIL",
            )
        assert picture.shape == photo.shape
        assert (picture != photo).any()

    def test_a_map_of_another_frame_is_refused(self) -> None:
        with pytest.raises(InputError, match="do not fit"):
            anomaly_overlay(np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4), np.float32), threshold=1.0)
