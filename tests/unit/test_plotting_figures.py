"""Figures drawn with matplotlib: what a reader sees on them, and that any input can be drawn."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import cv2
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from numpy.typing import NDArray

from pixal.plotting import style
from pixal.plotting.alignment_metrics import alignment_metrics
from pixal.plotting.classification import confusion_matrix, precision_recall_curve, roc_curve
from pixal.plotting.consensus_map import consensus_map
from pixal.plotting.latent_space import latent_space
from pixal.plotting.pixel_values import (
    combined_distribution,
    pixel_loss_histogram,
    pixel_map,
    pixel_predictions,
    value_distributions,
)
from pixal.plotting.preprocessing import channel_sheet, crop_preview, stacked_intensity
from pixal.plotting.scores import score_distribution
from pixal.plotting.training import accuracy_curve, loss_curve, reconstruction_strip

pytestmark = pytest.mark.figures

SHAPE = (50, 80)
BOX, TALL_BOX = (10, 5, 40, 20), (30, 2, 12, 45)
REFERENCE, NO_MASK, MASK = np.full((*SHAPE, 3), 150, np.uint8), np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
MASK[8:20, 15:45] = True
EDGES = np.linspace(0, 1, 5)
NAN = np.full(3, np.nan)
DOLLARS = r"cost $\undefined$"  # an error if it is read as a formula
LONG = "a component with a long name " * 5


def png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def texts(figure: Figure) -> str:
    """All texts of a figure."""
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def axis_labels(figure: Figure) -> set[str]:
    """The labels of all axes and colour bars."""
    labels = {label for ax in figure.axes for label in (ax.get_xlabel(), ax.get_ylabel())}
    return {label.partition("\n")[0] for label in labels if label}


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for each in figure.legends for text in each.get_texts()]


def line(figure: Figure, label: str, panel: int = 0) -> Any:
    """The line whose legend entry starts with a text."""
    (actual,) = [each for each in figure.axes[panel].get_lines() if str(each.get_label()).startswith(label)]
    return actual


def histogram(figure: Figure, label: str, panel: int = 0) -> Any:
    """Values and edges of the histogram whose legend entry starts with a text."""
    return next(p for p in figure.axes[panel].patches if str(p.get_label()).startswith(label)).get_data()


def uniform(shape: int | tuple[int, ...]) -> NDArray[np.float64]:
    """Random values from 0 to 1, the same in each call."""
    return np.random.default_rng(7).random(shape)


def metrics(count: int, failed: NDArray[np.bool_], names: str = "{}.png") -> Figure:
    """Every second failed photograph has no values."""

    def values(good: float) -> NDArray[np.float64]:
        series = np.full(count, float(good))
        series[failed] = np.where(np.arange(failed.sum()) % 2, good, np.nan)
        return series

    return alignment_metrics(
        [names.format(i) for i in range(count)],
        values(80),
        values(0.9),
        values(12.0),
        ~failed,
        min_inliers=15,
        min_ssim=0.6,
        max_mse=500,
        title="t",
        reference_name=names.format(0),
        reasons=[f"not aligned: reason {i}; advice" if failed[i] else "" for i in range(count)],
    )


def strip(shape: tuple[int, ...], names: str = "{}", **options: Any) -> Figure:
    images = uniform((3, *shape))
    errors = images if images.ndim == 3 else images[..., 0]
    return reconstruction_strip(images, images, errors, [names.format(i) for i in range(3)], title="t", **options)


def scores(good: Any, batch: Any, labels: Any = None, **options: Any) -> Figure:
    return score_distribution(np.array(good), np.array(batch), labels, **{"threshold": 1.0, "title": "t", **options})


PIXELS = {"x (pixels)", "y (pixels)"}
PARTS_PER_BIN = "parts per bin (count)"
RATES = {"false alarm rate (share of good parts)", "detection rate (share of defective parts)"}
RECALL = {"recall (share of defective parts that fail)", "precision (share of failed parts that are defective)"}
COUNTS = {"inliers (count)", "SSIM", "MSE (grey levels²)", "photographs"}
LATENT = {"distance of the latent vector from good parts (typical good part: 1)", "anomaly score of the part"}
COMBINED = {"value (0 to 1, all channels)", "reconstructed value (predicted)", "pixels (count)"}
PREDICTIONS = {"input value of R (0 to 1)", "reconstructed value of R (0 to 1)", "pixels (count)"}
LOSSES = {"squared error of a pixel", "pixels per bin (count)"}
SHARES = {"channel value (0 to 1)", "share of pixels (%)"}
CHANNELS = PIXELS | {"channel value, in the range above each panel"}
MEAN, CONSENSUS = PIXELS | {"mean grey level (0 to 1)"}, PIXELS | {"share of the masks (0 to 1)"}

# Name, function that draws the figure, labels of its axes and colour bars.
CASES: list[tuple[str, Callable[[], Figure], set[str]]] = [
    ("metrics", lambda: metrics(12, np.arange(12) % 5 == 2), COUNTS),
    ("metrics, one photograph", lambda: metrics(1, np.zeros(1, bool)), COUNTS),
    ("metrics, all failed", lambda: metrics(40, np.ones(40, bool), "R0_Triplet_image_{:03d}.jpg"), COUNTS),
    ("mean", lambda: stacked_intensity(uniform(SHAPE), BOX, title="t"), MEAN),
    ("mean, constant", lambda: stacked_intensity(0.0 * MASK, BOX, title=DOLLARS, consensus_mask=NO_MASK), MEAN),
    ("crop", lambda: crop_preview(REFERENCE, MASK, BOX, ignore_mask=MASK, title="t"), PIXELS),
    ("crop, empty and tall", lambda: crop_preview(REFERENCE, NO_MASK, TALL_BOX, title=LONG), PIXELS),
    ("channels", lambda: channel_sheet(uniform((20, 70, 5)), list("RGBHS"), title="t"), CHANNELS),
    ("channels, empty", lambda: channel_sheet(0.0 * REFERENCE, [DOLLARS] * 3, title="t", mask=NO_MASK), CHANNELS),
    ("consensus, all agree", lambda: consensus_map(REFERENCE, MASK.astype(np.float32), 0.5, title=LONG), CONSENSUS),
    ("loss", lambda: loss_curve(uniform(40), uniform((3, 40)), loss_name="mse", title="t"), {"epoch", "loss (mse)"}),
    *(
        (f"loss, {name}", partial(loss_curve, np.array(v), loss_name="m", log=True, title="t"), {"epoch", "loss (m)"})
        for name, v in {"one epoch": [1.0], "a zero": [0.5, 0.0], "zeros": [0.0, 0.0], "NaN": [0.5, np.nan]}.items()
    ),
    ("accuracy", lambda: accuracy_curve(uniform(9), uniform(9), name="R²", title="t"), {"epoch", "R²"}),
    (
        "latent space",
        lambda: latent_space(
            np.eye(3), np.eye(3), np.arange(3.0), np.eye(3)[0] > 0, threshold=1.5, row_labels={2: LONG}, title="t"
        ),
        LATENT,
    ),
    ("scores", lambda: scores(uniform(40), uniform(9), log=True, unit="loss"), {"anomaly score (loss)", PARTS_PER_BIN}),
    *(
        (f"scores, {name}, {log=}", partial(scores, *values, threshold=threshold, log=log), {PARTS_PER_BIN})
        for log in (False, True)
        for name, threshold, *values in (
            ("equal", 1.0, [1.0] * 5, [1.0]),
            ("no good parts", 1.0, [], [2.0]),
            ("none", 1.0, [], []),
            ("zeros", 0.0, [0.0, 0.0], [0.0]),
            ("NaN", np.inf, [1.0], [np.nan]),
            ("infinite", 1.5, [1.0, 2.0], [np.inf]),
        )
    ),
    *(
        (
            f"losses, {count} empty",
            partial(pixel_loss_histogram, EDGES, np.zeros((count, 4)), ["C"] * count, title="t"),
            LOSSES,
        )
        for count in (1, 23)
    ),
    *(
        (f"map, {name}, {log=}", partial(pixel_map, v, label="error (unit)", title="t", log=log), {"error (unit)"})
        for log in (False, True)
        for name, v in {
            "random": uniform(SHAPE),
            "zeros": np.zeros((5, 9)),
            "NaN": np.full((5, 9), np.nan),
            "few values": np.diag([5.0] + 49 * [0.0]),
            "one pixel": np.ones((1, 1)),
        }.items()
    ),
    ("predictions", lambda: pixel_predictions(EDGES, np.eye(4), channel="R", title="t"), PREDICTIONS),
    ("predictions, empty", lambda: pixel_predictions(EDGES, np.zeros((4, 4)), channel="R", title="t"), PREDICTIONS),
    ("values", lambda: value_distributions(EDGES, uniform((5, 4)), uniform((5, 4)), list("RGBHS"), title="t"), SHARES),
    ("values, empty", lambda: value_distributions(EDGES, np.zeros((1, 4)), np.zeros((1, 4)), "R", title="t"), SHARES),
    *(
        (f"combined, {name}", partial(combined_distribution, EDGES, v, log=log, title=LONG), COMBINED)
        for name, v in {"full": np.eye(4), "empty": np.zeros((4, 4))}.items()
        for log in (False, True)
    ),
    ("ROC", lambda: roc_curve(uniform(3), uniform(3), auc=0.9, point=(0.1, 0.9), title="t"), RATES),
    ("ROC, NaN", lambda: roc_curve(NAN, uniform(3), auc=np.nan, point=(np.nan, 0.5), title="t"), RATES),
    ("precision", lambda: precision_recall_curve(uniform(3), uniform(3), ap=0.9, prevalence=0.5, title="t"), RECALL),
    ("precision, NaN", lambda: precision_recall_curve(NAN, NAN, ap=np.nan, prevalence=0.0, title="t"), RECALL),
    ("confusion", lambda: confusion_matrix(np.eye(2, dtype=int), title=LONG), {"verdict", "truth"}),
]


class TestEveryFigure:
    @pytest.mark.parametrize(("draw", "labels"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
    def test_it_is_readable(self, draw: Callable[[], Figure], labels: set[str]) -> None:
        """Drawing it raises no warning: warnings are errors here."""
        figure = draw()
        figure.draw_without_rendering()
        assert figure.get_suptitle()
        assert labels <= axis_labels(figure)
        assert "nan" not in texts(figure)
        assert min(text.get_fontsize() for text in figure.findobj(Text)) >= 7
        inside, (width, height) = figure.get_tightbbox().extents, figure.get_size_inches()
        assert (inside > -0.02).all()
        assert (inside[2:] < (width + 0.02, height + 0.02)).all()
        panels = [box for ax in figure.axes if (box := ax.get_tightbbox()) is not None]
        for text in (figure._suptitle, *figure.legends):  # type: ignore[attr-defined]
            box = text.get_window_extent().padded(-2)
            assert not any(box.overlaps(panel) for panel in panels)
        for image in (image for ax in figure.axes for image in ax.images if image.get_array().ndim == 2):
            assert image.get_cmap().name in {"viridis", "magma", "cividis"}  # readable with any common colour vision
            assert image.norm.vmin < image.norm.vmax

    def test_dollars_are_drawn_as_they_are(self) -> None:
        figure = pixel_loss_histogram(np.arange(3), np.ones((1, 2)), [DOLLARS], title=DOLLARS)
        figure.draw_without_rendering()
        assert [figure.get_suptitle(), *legend(figure)] == [DOLLARS.replace("$", r"\$")] * 2

    def test_pyplot_does_not_know_the_figures(self) -> None:
        import matplotlib.pyplot as plt

        pixel_map(uniform((4, 5)), label="x", title="t")
        assert plt.get_fignums() == []

    @pytest.mark.slow
    def test_threads_draw_the_same_as_one_thread(self) -> None:
        values = [uniform((20, 30)) ** power for power in range(1, 5)]
        start = threading.Barrier(2)

        def draw(i: int) -> bytes:
            if i < 2:
                start.wait()
            return png(pixel_map(values[i], label="x", title=f"{i}", log=True))

        with ThreadPoolExecutor(2) as pool:
            threaded = list(pool.map(draw, range(4)))
        assert threaded == [png(pixel_map(v, label="x", title=f"{i}", log=True)) for i, v in enumerate(values)]


class TestStyle:
    @pytest.mark.parametrize(
        ("value", "expected"),
        [(0.05, "0.05"), (1, "1"), (10000, "10000"), (1e-6, "10⁻⁶"), (2e-6, "2·10⁻⁶"), (1e5, "10⁵"), (0, "")],
    )
    def test_values_on_logarithmic_axes(self, value: float, expected: str) -> None:
        assert style.format_log_value(value) == expected

    @pytest.mark.parametrize(
        ("values", "limit", "is_clipped"),
        [
            (np.zeros(9), 1.0, False),
            (np.full(9, np.nan), 1.0, False),
            (np.arange(1001.0), 999.0, True),
            (np.append(np.zeros(5000), 5.0), 5.0, False),  # the percentile is 0
            (np.array([2.0, np.inf]), 2.0, False),
        ],
    )
    def test_upper_limits_of_colours(self, values: NDArray[np.float64], limit: float, is_clipped: bool) -> None:
        assert style.robust_upper_limit(values) == (pytest.approx(limit), is_clipped)

    def test_28_lines_are_all_different(self) -> None:
        assert len(set(style.line_styles(28))) == 28


class TestAlignmentMetrics:
    @pytest.mark.parametrize("count", [1, 8, 400])
    def test_limits_and_failed_photographs(self, count: int) -> None:
        failed = np.arange(count) % 10 == 5
        figure = metrics(count, failed)
        for panel, limit in enumerate((15, 0.6, 500)):
            assert line(figure, "limit", panel).get_ydata()[0] == limit
            low, high = figure.axes[panel].get_ylim()
            assert low < limit < high
            assert f"{limit:g})" in figure.axes[panel].get_title()
        rejected = [
            label for label in ("not aligned", "no value") if any(each.startswith(label) for each in legend(figure))
        ]
        marked = {int(x) for label in rejected for x in line(figure, label, 1).get_xdata()}
        assert marked == set(np.flatnonzero(failed))
        assert line(figure, "reference").get_xdata().tolist() == [0]
        assert f"not aligned ({failed.sum()})" in legend(figure)
        missing = (failed.sum() + 1) // 2
        assert (f"no value ({missing})" in legend(figure)) == (missing > 0)

    @pytest.mark.parametrize(("count", "share"), [(8, 0.5), (40, 0.1), (100, 0.02), (400, 0.02), (400, 0.5)])
    def test_names_do_not_overlap_and_failed_ones_come_first(self, count: int, share: float) -> None:
        failed = np.random.default_rng(count).random(count) < share
        failed[0] = False
        figure = metrics(count, failed, "R0_Triplet_image_{:03d}.jpg")
        figure.draw_without_rendering()
        ax = figure.axes[2]
        named = [int(tick) for tick in ax.get_xticks()]
        x = ax.transData.transform(np.column_stack([named, np.zeros(len(named))]))[:, 0]
        height = 7.5 / 72 * figure.dpi
        sine = np.sin(np.deg2rad(60))
        assert len(named) == count or np.diff(x).min() * sine >= height
        assert 0 in named
        distance = np.abs(np.flatnonzero(failed)[:, None] - named).min(axis=1) if failed.any() else np.zeros(1)
        two_names = height / sine * 2 / (x[-1] - x[0]) * (named[-1] - named[0])
        assert distance.max() <= two_names  # a failed photograph has a name, or its neighbour has one
        red = {i for i, name in zip(named, ax.get_xticklabels(), strict=True) if name.get_color() == style.REJECTED}
        assert red == set(named) & set(np.flatnonzero(failed).tolist())

    def test_reasons_are_given_without_advice(self) -> None:
        text = metrics(40, np.arange(40) >= 20).axes[2].get_xlabel()
        assert "20.png: reason 20\n" in text
        assert "advice" not in text
        assert text.endswith("and 12 more")


class TestPreprocessing:
    def test_the_mean_image_is_shown_around_the_box(self) -> None:
        mean = uniform(SHAPE)
        figure = stacked_intensity(mean, BOX, title="t")
        box, image = line(figure, "crop box: 40 × 20 pixels at (10, 5)"), figure.axes[0].images[0]
        assert (min(box.get_xdata()), max(box.get_xdata())) == (9.5, 49.5)
        assert (min(box.get_ydata()), max(box.get_ydata())) == (4.5, 24.5)
        left, right, bottom, top = image.get_extent()
        assert (image.get_array() == mean[int(top + 0.5) : int(bottom + 0.5), int(left + 0.5) : int(right + 0.5)]).all()
        assert left < 9.5 < 49.5 < right
        assert top < 4.5 < 24.5 < bottom

    def test_only_compared_pixels_are_bright(self) -> None:
        ignored = np.zeros(SHAPE, bool)
        ignored[10:12, 20:25], ignored[15:18, 30:40] = True, True
        figure = crop_preview(REFERENCE, MASK, BOX, ignore_mask=ignored, title="t")
        image = figure.axes[0].images[0].get_array()
        assert (image == np.where(MASK & ~ignored, 150, 50)[..., None]).all()
        assert legend(figure)[:2] == ["consensus mask: 360 pixels", "ignored: 2 regions, 40 pixels"]
        outline = line(figure, "consensus mask", 1)
        assert (np.nanmin(outline.get_xdata()), np.nanmax(outline.get_ydata())) == (15, 19)

    def test_holes_are_outlined_and_not_hatched(self) -> None:
        ring = np.zeros(SHAPE, bool)
        ring[10:40, 10:60], ring[20:30, 20:50] = True, False
        figure = crop_preview(REFERENCE // 150, ring, BOX, ignore_mask=ring, title="t")
        assert np.isnan(line(figure, "consensus mask").get_xdata()).sum() == 2  # two closed lines
        (hatched,) = figure.axes[1].patches
        hatched.set(hatch=None, facecolor="red")
        image = cv2.imdecode(np.frombuffer(png(figure), np.uint8), cv2.IMREAD_COLOR)
        for (x, y), is_filled in (((15, 15), True), ((35, 25), False)):
            column, row = figure.axes[1].transData.transform((x, y)).astype(int)
            assert (image[len(image) - row, column].tolist() == [0, 0, 255]) == is_filled

    @pytest.mark.parametrize("count", [1, 5])
    def test_each_channel_fills_the_range_in_its_title(self, count: int) -> None:
        channels = 0.1 * uniform((20, 70, count)) + 0.3
        channels[0] = 0.0  # outside the mask
        mask = np.ones((20, 70), bool)
        mask[0] = False
        figure = channel_sheet(channels, [f"C{i}" for i in range(count)], title="t", mask=mask)
        panels = [ax for ax in figure.axes if ax.images]
        assert [ax.get_title() for ax in panels] == [f"C{i}: 0.3 to 0.4" for i in range(count)]
        for i, ax in enumerate(panels):
            image, values = ax.images[0].get_array(), channels[mask][:, i]
            low, high = np.percentile(values, (0.5, 99.5))
            np.testing.assert_allclose(image[mask], (values - low) / (high - low))
            assert image.mask[0].all()

    @pytest.mark.parametrize(("shape", "count"), [((92, 318), 4), ((318, 92), 9), ((75, 100), 9)])
    def test_channels_fill_the_sheet(self, shape: tuple[int, int], count: int) -> None:
        figure = channel_sheet(np.zeros((*shape, count), np.float32), [f"C{i}" for i in range(count)], title="t")
        figure.draw_without_rendering()
        panels = [ax.get_window_extent() for ax in figure.axes if ax.images]
        assert sum(p.width * p.height for p in panels) > 0.45 * figure.bbox.width * figure.bbox.height
        assert max(figure.get_size_inches()) <= 12
        names = [ax.title.get_window_extent() for ax in figure.axes if ax.images]
        assert not any(p.overlaps(q) for p in names for q in [*names, *panels] if p is not q)


class TestConsensusMap:
    @staticmethod
    def share(height: int = 200, width: int = 500) -> NDArray[np.float32]:
        """Masks that agree, except for a band along the edge and a corner that half of them leave out."""
        share = np.zeros((height, width), np.float32)
        share[40:-40, 50:-50] = 0.9
        share[42:-42, 52:-52] = 1.0
        share[40:70, 50:80] = 0.5
        return share

    def test_only_disputed_pixels_are_coloured_and_the_worst_are_enlarged(self) -> None:
        share = self.share()
        figure = consensus_map(np.full((200, 500, 3), 120, np.uint8), share, 0.6, title="t")
        figure.draw_without_rendering()
        shown = next(ax for ax in figure.axes if ax.get_xlabel()).images[0]
        image, (left, _, _, top) = shown.get_array(), shown.get_extent()
        x, y = round(left + 0.5), round(top + 0.5)
        visible = share[y : y + image.shape[0], x : x + image.shape[1]]
        is_grey = (image.max(axis=2) == image.min(axis=2)) & (image[..., 0] == 100)
        assert (is_grey == ((visible == 0) | (visible == 1))).all()
        detail = next(ax for ax in figure.axes if ax.get_title() == "A, enlarged")
        (left, right), (bottom, top) = detail.get_xlim(), detail.get_ylim()
        assert left <= 54 < 70 <= right <= 90
        assert top <= 45 < 60 <= bottom <= 80

    @pytest.mark.parametrize("shape", [(200, 500), (500, 200), (300, 300)])
    def test_the_line_is_the_edge_of_the_consensus_mask(self, shape: tuple[int, int]) -> None:
        share = self.share(*shape)
        figure = consensus_map(np.zeros((*shape, 3), np.uint8), share, 0.6, title="t")
        (contour,) = next(ax for ax in figure.axes if ax.get_xlabel()).collections
        (path,) = contour.get_paths()
        y, x = np.mgrid[: shape[0], : shape[1]]
        inside = path.contains_points(np.column_stack([x.ravel(), y.ravel()])).reshape(shape)
        assert (inside == (share > 0.6)).all()

    def test_masks_that_were_left_out_are_named(self) -> None:
        left_out = [(f"image_{i:03d}.jpg", 0.1 * i) for i in range(6)]
        figure = consensus_map(np.zeros((200, 500, 3), np.uint8), self.share(), 0.5, title="t", left_out=left_out)
        assert (
            figure.get_suptitle()
            .replace("\n", " ")
            .endswith(
                "masks left out: image_000.jpg (IoU\u00a00.00), image_001.jpg (IoU\u00a00.10), "
                "image_002.jpg (IoU\u00a00.20), image_003.jpg (IoU\u00a00.30) and 2 more"
            )
        )

    @pytest.mark.parametrize("value", [0.0, 1.0])
    def test_nothing_is_enlarged_if_all_masks_agree(self, value: float) -> None:
        share = np.full((200, 500), value, np.float32)
        share[50:60, 50:60] = 1.0
        figure = consensus_map(np.zeros((200, 500, 3), np.uint8), share, 0.5, title="t")
        figure.draw_without_rendering()
        assert "all masks agree on every pixel" in texts(figure)
        assert "enlarged" not in texts(figure)


class TestTraining:
    def test_folds_are_drawn_as_mean_and_range(self) -> None:
        folds = np.array([[4.0, 2.0, 1.0], [6.0, 4.0, np.nan], [5.0, np.nan, np.nan]])
        figure = loss_curve(np.array([3.0, 2.0, 0.5]), folds, best_epoch=2, loss_name="mse", title="t")
        np.testing.assert_allclose(line(figure, "validation, mean of 3 folds").get_ydata(), [5, 3, 1])
        band = figure.axes[0].collections[0].get_paths()[0].vertices
        first_epoch = band[band[:, 0] == 1][:, 1]
        assert (first_epoch.min(), first_epoch.max()) == (4, 6)
        assert line(figure, "best epoch (2)").get_xdata()[0] == 2
        assert line(figure, "training").get_xdata().tolist() == [1, 2, 3]

    @pytest.mark.parametrize(("loss", "scale"), [([0.5, 0.0], "log"), ([0.0, 0.0], "linear"), ([2.0, -1.0], "linear")])
    def test_the_axis_is_logarithmic_if_the_losses_allow_it(self, loss: list[float], scale: str) -> None:
        figure = loss_curve(np.array(loss), loss_name="mae", log=True, title="t")
        assert figure.axes[0].get_yscale() == scale
        assert legend(figure) == ["training"]

    @pytest.mark.parametrize("is_rgb", [False, True])
    def test_reconstructions_share_an_error_scale(self, is_rgb: bool) -> None:
        inputs, errors = uniform((3, 20, 30, 3) if is_rgb else (3, 20, 30)), np.full((3, 20, 30), 0.25)
        errors[2, 3, 4], errors[:, 0] = 9.0, np.nan
        names = ["best", "median", "worst"]
        figure = reconstruction_strip(inputs, inputs, errors, names, title="t")
        figure.draw_without_rendering()
        shown = figure.axes[0].images
        limit = np.percentile(errors[np.isfinite(errors)], 99.9)
        assert [image.get_clim() for image in shown[2::3]] == [(0.0, pytest.approx(limit))] * 3
        assert all(image.get_array().mask[0].all() for image in shown[2::3])
        lefts, _, bottoms, tops = np.array([image.get_extent() for image in shown]).T
        assert (lefts.reshape(3, 3) == lefts[:3]).all()  # columns
        assert (tops.reshape(3, 3) == tops[::3, None]).all()  # rows
        for name, top, last_bottom in zip(names, tops[::3], [-np.inf, *bottoms[::3]], strict=False):
            (text,) = [each for each in figure.axes[0].texts if each.get_text() == name]
            assert last_bottom < text.get_position()[1] < top  # each name is directly above its row
        assert ("channel value (0 to 1)" in axis_labels(figure)) != is_rgb
        assert f"error (upper limit: 99.9th percentile, {limit:.3g})" in axis_labels(figure)

    @pytest.mark.parametrize("shape", [(30, 300), (300, 30), (64, 64)])
    def test_texts_of_a_strip_are_inside_and_do_not_overlap(self, shape: tuple[int, int]) -> None:
        figure = strip(shape, f"median {{}}, score 1.00: {'name' * 60}.jpg", error_name="error (RMS over channels)")
        figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in figure.axes[0].texts]
        assert all(b.x0 >= 0 and b.y0 >= 0 for b in boxes)
        assert all(b.x1 <= figure.bbox.width and b.y1 <= figure.bbox.height for b in boxes)
        assert not [1 for i, box in enumerate(boxes) for other in boxes[:i] if box.overlaps(other)]


class TestScores:
    def test_groups_are_counted_and_the_threshold_is_drawn(self) -> None:
        labels = np.array([0, 0, 1, 1, 1, -1])
        good = np.random.default_rng(0).lognormal(0, 0.2, 40)
        figure = scores(good, [1.0, 1.2, 8.0, 9.0, np.nan, 3.0], labels, threshold=2.5, log=True)
        assert [entry for entry in legend(figure) if "threshold" not in entry] == [
            "held-out good parts (40)",
            "batch, good (2)",
            "batch, defective (2, 1 without a score)",
            "batch, not labelled (1)",
        ]
        for panel in (0, 1):  # histogram and rug
            assert line(figure, "threshold 2.5", panel).get_xdata()[0] == 2.5
        assert np.nansum(histogram(figure, "batch, defective").values) == 2
        assert np.nansum(histogram(figure, "held-out").values) == 40
        rug = [each.get_xdata().tolist() for each in figure.axes[1].get_lines() if each.get_marker() == "|"]
        assert rug[1:] == [[1.0, 1.2], [8.0, 9.0], [3.0]]

    def test_logarithmic_bins_include_zeros_and_the_threshold(self) -> None:
        figure = scores([0.0, 1.0, 2.0], [4.0], threshold=100.0, log=True)
        counts, edges, _ = histogram(figure, "held-out")
        np.testing.assert_allclose(edges[1:] / edges[:-1], edges[1] / edges[0])
        assert 0 < edges[0] < 100 < edges[-1]
        assert counts[0] >= 1
        assert figure.axes[-1].get_xlabel() == "anomaly score (0 and below: first bin)"

    @pytest.mark.parametrize("log", [False, True])
    @pytest.mark.parametrize("good", [[], [1.0] * 5, [0.0, 0.0]])
    def test_no_score_is_lost(self, good: list[float], log: bool) -> None:
        assert np.nansum(histogram(scores(good, [np.nan], log=log), "held-out").values) == len(good)

    @pytest.mark.parametrize("log", [False, True])
    @pytest.mark.parametrize("seed", range(5))
    def test_no_bar_holds_parts_that_pass_and_parts_that_fail(self, seed: int, log: bool) -> None:
        values = np.random.default_rng(seed).lognormal(0, 0.7, 80)
        threshold = float(values[3])  # a score equal to the threshold passes
        counts, edges, _ = histogram(scores(values, [np.nan], threshold=threshold, log=log), "held-out")
        above = edges[:-1] >= threshold
        assert np.nansum(counts[above]) == np.sum(values > threshold)
        assert not ((edges[:-1] < threshold) & (edges[1:] > np.nextafter(threshold, np.inf))).any()
        assert np.nansum(counts) == 80

    def test_many_parts_have_no_rug(self) -> None:
        assert len(scores(uniform(300), uniform(200)).axes) == 1


class TestPixelValues:
    def test_losses_are_drawn_per_channel_and_as_sum(self) -> None:
        edges, counts = np.geomspace(1e-6, 1, 5), np.array([[1, 0, 3, 4], [10, 0, 30, 40]])
        figure = pixel_loss_histogram(edges, counts, ["R", "G"], title="t")
        for panel in (0, 1):
            assert histogram(figure, "G", panel).values.tolist() == [10, 0, 30, 40]
            assert histogram(figure, "all channels", panel).values.tolist() == [11, 0, 33, 44]
        assert [ax.get_xscale() for ax in figure.axes] == ["log", "log"]
        assert [ax.get_yscale() for ax in figure.axes] == ["linear", "log"]
        assert figure.axes[1].get_xlabel() == "squared error of a pixel (10⁻⁶ and below: first bin)"

    def test_empty_histograms_say_so(self) -> None:
        names = [f"C{i}" for i in range(23)]
        figure = pixel_loss_histogram(EDGES, np.zeros((23, 4)), names, title="t")
        assert "no pixels" in texts(figure)
        assert legend(figure) == [*names, "all channels"]
        assert figure.axes[0].get_xscale() == "linear"
        assert "no pixels" in texts(pixel_predictions(EDGES, np.zeros((4, 4)), channel="R", title="t"))

    def test_true_and_predicted_values_are_drawn_of_all_channels(self) -> None:
        pairs = np.arange(16.0).reshape(4, 4)
        figure = combined_distribution(EDGES, pairs, title="t")
        assert histogram(figure, "input").values.tolist() == pairs.sum(1).tolist()
        assert histogram(figure, "reconstruction").values.tolist() == pairs.sum(0).tolist()
        assert np.ma.filled(figure.axes[1].images[0].get_array(), 0).tolist() == pairs.T.tolist()

    @pytest.mark.parametrize("log", [False, True])
    def test_a_map_is_blank_outside_the_mask_and_ignores_outliers(self, log: bool) -> None:
        values, mask = uniform((100, 50)), np.zeros((100, 50), bool)
        values[3, 4], values[5, 6] = 1e6, np.nan
        mask[:60] = True
        figure = pixel_map(values, label="squared error", mask=mask, title="t", log=log)
        image, limit = figure.axes[0].images[0], np.nanpercentile(values[:60], 99.9)
        assert image.norm.vmax == pytest.approx(limit)
        assert (image.get_array().mask == (~mask | np.isnan(values))).all()
        assert f"(upper limit: 99.9th percentile, {limit:.3g})" in texts(figure)
        assert figure.axes[1].get_yscale() == ("log" if log else "linear")

    def test_predictions_have_the_input_on_the_x_axis(self) -> None:
        counts = np.zeros((4, 4))
        counts[3, 0] = 50  # a high input value with a low reconstruction
        image = pixel_predictions(EDGES, counts, channel="R", title="t").axes[0].images[0]
        assert image.get_array()[0, 3] == 50
        assert image.get_array().count() == 1  # all other bins are blank
        assert image.origin == "lower"
        assert image.get_extent() == [0, 1, 0, 1]
        assert image.get_clim() == (1, 50)

    def test_predictions_of_several_channels_share_a_colour_scale(self) -> None:
        for count in (3, 700):
            figure = pixel_predictions(EDGES, np.full((4, 4), count), channel="R", max_count=700, title="t")
            assert figure.axes[0].images[0].get_clim() == (1, 700)

    def test_values_are_shares_of_the_pixels_of_a_channel(self) -> None:
        counts = np.array([[1, 3], [0, 0]]), np.array([[2, 2], [0, 7]])
        figure = value_distributions(np.linspace(0, 1, 3), *counts, ["R", "G"], title="t")
        assert histogram(figure, "input").values.tolist() == [25, 75]
        assert histogram(figure, "input", 1).values.tolist() == [0, 0]
        assert histogram(figure, "reconstruction", 1).values.tolist() == [0, 100]


class TestClassification:
    def test_roc(self) -> None:
        fpr, tpr = np.array([0, 0, 0.5, 1]), np.array([0, 0.8, 1, 1])
        figure = roc_curve(fpr, tpr, auc=0.95, point=(0.1, 0.9), title="t")
        assert line(figure, "parts (area 0.9500)").get_xydata().tolist() == np.stack([fpr, tpr], 1).tolist()
        point = line(figure, "at the threshold: 10.0% false alarms, 90.0% detected")
        assert point.get_xydata().tolist() == [[0.1, 0.9]]

    def test_precision_and_recall(self) -> None:
        precision, recall = np.array([0.2, 0.5, 1.0]), np.array([1.0, 0.5, 0.0])
        figure = precision_recall_curve(precision, recall, ap=0.35, prevalence=0.2, title="t")
        curve = line(figure, "parts (average precision 0.3500)")
        assert curve.get_drawstyle() == "steps-post"  # the area under these steps is the average precision
        assert curve.get_xydata().tolist() == np.stack([recall, precision], 1).tolist()
        assert line(figure, "random scores (precision 0.200)").get_ydata()[0] == 0.2

    def test_curves_that_are_not_defined_say_so(self) -> None:
        for figure in (
            roc_curve(NAN, np.linspace(0, 1, 3), auc=np.nan, title="t"),
            precision_recall_curve(NAN, NAN, ap=np.nan, prevalence=0.0, title="t"),
        ):
            assert "not defined" in texts(figure)

    def test_confusion_matrix(self) -> None:
        ax = confusion_matrix(np.array([[18, 2], [0, 0]]), title="t").axes[0]
        assert {text.get_position(): text.get_text() for text in ax.texts} == {
            (0, 0): "18\n90.0%",
            (1, 0): "2\n10.0%",
            (0, 1): "0\nno such parts",
            (1, 1): "0\nno such parts",
        }
        assert [label.get_text() for label in ax.get_xticklabels()] == ["pass", "fail"]
        assert [label.get_text() for label in ax.get_yticklabels()] == ["good", "defective"]
        assert ax.get_ylim() == (1.5, -0.5)  # good above defective
