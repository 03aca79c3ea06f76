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
from pixal.plotting.alignment import MatchedImage, alignment_overlay, match_figure
from pixal.plotting.alignment_metrics import alignment_metrics
from pixal.plotting.anomaly_overlay import MAX_TINT, MIN_TINT, LabelledBox, anomaly_overlay, place_label, tint_anomalies
from pixal.plotting.classification import confusion_matrix, precision_recall_curve, roc_curve
from pixal.plotting.consensus_map import consensus_map
from pixal.plotting.drawing import add_header, fit_text, line_height, shrink, text_height, text_width, wrap_text
from pixal.plotting.pixel_values import pixel_loss_histogram, pixel_map, pixel_predictions, value_distributions
from pixal.plotting.preprocessing import channel_sheet, crop_preview, stacked_intensity
from pixal.plotting.scores import score_distribution
from pixal.plotting.training import accuracy_curve, loss_curve, reconstruction_strip


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


def assert_apart(figure: Figure, written: Any) -> None:
    """Every text is inside the figure, and none is upon another."""
    boxes = [text.get_window_extent() for text in written]
    assert all(b.x0 >= 0 and b.y0 >= 0 and b.x1 <= figure.bbox.width and b.y1 <= figure.bbox.height for b in boxes)
    assert not [1 for i, box in enumerate(boxes) for other in boxes[:i] if box.overlaps(other)]


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
        imports = "import sys, pixal.plotting.anomaly_overlay, pixal.tasks.photographs.preprocessing.figures"
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
        assert style.format_log_value(value) == expected

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
        upper, clipped = style.robust_upper_limit(values)
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
        np.testing.assert_allclose(shrink(photo, 1 / factor), blocks, atol=1)

    @pytest.mark.parametrize("scale", [0.2, 0.49, 0.8])
    def test_shrunk_shows_all_of_the_image(self, scale: float) -> None:
        ramp = np.repeat(np.linspace(0, 255, 640).astype(np.uint8)[None, :, None], 360, axis=0)
        small = shrink(np.repeat(ramp, 3, axis=2), scale)
        assert small.shape == (int(360 * scale), int(640 * scale), 3)
        centres = (np.arange(small.shape[1]) + 0.5) / small.shape[1] * 255
        np.testing.assert_allclose(small[0, :, 0], centres, atol=2)


SKY, ORANGE = style.hex_to_rgb(style.SKY), style.hex_to_rgb(style.ORANGE)


def looks_like(picture: NDArray[np.uint8], colour: tuple[int, int, int], within: int = 40) -> NDArray[np.bool_]:
    """Where a picture (h, w, 3) has nearly a colour."""
    return np.abs(picture.astype(int) - colour).max(axis=2) <= within


def draw_matches(
    photo: Any,
    reference: Any,
    photo_points: Any,
    reference_points: Any,
    is_inlier: Any,
    *,
    photo_mask: Any = None,
    reference_mask: Any = None,
    title: str = "",
    warning: str = "",
) -> NDArray[np.uint8]:
    images = MatchedImage(photo, photo_points, photo_mask), MatchedImage(reference, reference_points, reference_mask)
    return match_figure(*images, is_inlier, title=title, warning=warning)


class TestMatchPicture:
    @pytest.mark.parametrize("seed", range(3))
    def test_lines_join_the_points_of_both_photographs(self, seed: int) -> None:
        """A white dot at each end: the picture is cut, reduced and arranged, and the line still ends on the dots."""
        rng = np.random.default_rng(seed)
        shapes = [(1080, 1920), (1080, 1920)] if seed else [(900, 700), (1300, 650)]
        photos, points, parts = [], [], []
        for height, width in shapes:
            part = np.zeros((height, width), bool)
            box = cv2.boxPoints(((width / 2, height / 2), (0.7 * width, 0.3 * height), float(rng.uniform(-15, 15))))
            cv2.fillPoly(part.view(np.uint8), [box.astype(np.int32)], 1)
            point = np.array([rng.uniform(0.3, 0.7) * width, rng.uniform(0.48, 0.52) * height])
            photo = np.zeros((height, width, 3), np.uint8)
            cv2.circle(photo, (round(point[0] * 16), round(point[1] * 16)), 9 << 4, (255, 255, 255), -1, cv2.LINE_AA, 4)
            photos.append(photo)
            points.append(point[None])
            parts.append(part)
        none, ok = np.zeros((0, 2)), np.ones(1, bool)
        look = {"title": "", "photo_mask": parts[0], "reference_mask": parts[1]}
        bare = draw_matches(*photos, none, none, np.zeros(0, bool), **look)
        drawn = draw_matches(*photos, points[0], points[1], ok, **look)
        assert bare.shape == drawn.shape
        below = slice(60, None)  # names and header have white in them too
        _, _, _, dots = cv2.connectedComponentsWithStats(cv2.inRange(bare[below], (200,) * 3, (255,) * 3))
        areas = cv2.connectedComponentsWithStats(cv2.inRange(bare[below], (200,) * 3, (255,) * 3))[2][
            :, cv2.CC_STAT_AREA
        ]
        start, end = dots[np.argsort(areas)[-3:-1]]  # the largest is the ground
        line = looks_like(drawn[below], SKY)
        for share in np.linspace(0, 1, 21):
            x, y = np.rint(start + share * (end - start)).astype(int)
            assert line[y - 2 : y + 3, x - 2 : x + 3].any()

    def test_a_wide_part_is_shown_larger_above_the_reference_than_beside_it(self) -> None:
        wide = np.zeros((1080, 1920), bool)
        wide[400:700, 300:1600] = True
        photo, none = np.zeros((1080, 1920), np.uint8), np.zeros((0, 2))
        photo[wide] = 200
        for part, turned in ((wide, False), (wide.T, True)):
            grey = np.ascontiguousarray(photo.T if turned else photo)
            look = {"title": "", "photo_mask": part.copy(), "reference_mask": part.copy()}
            picture = draw_matches(grey, grey, none, none, np.zeros(0, bool), **look)
            lit = np.count_nonzero((picture == 200).all(axis=2))
            assert lit > (0.98 if not turned else 0.4) * 2 * 300 * 1300
            assert picture.shape[1] <= 1920

    def test_outliers_are_crosses_and_dashes_inliers_circles_and_lines(self) -> None:
        grey = np.full((300, 600, 3), 90, np.uint8)
        source, target = np.array([[50.0, 40.0], [50.0, 240.0]]), np.array([[350.0, 40.0], [350.0, 240.0]])
        picture = draw_matches(grey, grey, source, target, np.array([True, False]), title="a.png")[-300:]
        good, bad = (
            looks_like(picture[38:43, 60:960], SKY).any(axis=0),
            looks_like(picture[238:243], ORANGE).any(axis=0),
        )
        assert good.all()
        assert 0.3 < bad[60:950].mean() < 0.8
        assert looks_like(picture, SKY)[35:46, 50].sum() >= 2  # above and below the centre: a circle
        assert looks_like(picture, ORANGE)[240, 48:53].any()
        assert looks_like(picture, ORANGE)[236:238, 46:48].any()  # the arm of a cross

    def test_a_large_pair_is_reduced(self, rng: np.random.Generator) -> None:
        photo, reference = photo_of(rng, 2160, 3840), photo_of(rng, 500, 2500)
        picture = draw_matches(photo, reference, np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0, bool), title="")
        assert picture.shape[1] <= 1920
        assert 1060 < picture.shape[0] < 1200
        assert picture.dtype == np.uint8

    def test_few_lines_are_drawn_and_they_reach_all_over_the_part(self) -> None:
        """A crowd of matches in one corner and a few elsewhere: those few are all drawn."""
        black = np.zeros((600, 600), np.uint8)
        crowd = np.random.default_rng(0).uniform((10, 100), (60, 150), (500, 2))
        few = np.array([[580.0, 80.0], [580.0, 590.0], [300.0, 590.0], [20.0, 590.0], [300.0, 300.0]])
        points = np.concatenate([crowd, few])
        picture = draw_matches(black, black, points, points, np.ones(505, bool), title="")[-600:]
        gap = looks_like(picture, SKY, 120)[:, 603]
        assert np.count_nonzero(gap[1:] & ~gap[:-1]) <= 60
        for x, y in few.astype(int):
            assert looks_like(picture, SKY)[y - 9 : y + 10, max(0, x - 9) : x + 10].any()

    def test_a_failed_photograph_is_shown_whole_with_its_reason_and_its_outline(self) -> None:
        grey, part, none = np.full((400, 900, 3), 60, np.uint8), np.zeros((400, 900), bool), np.zeros((0, 2))
        part[150:200, 300:420] = True
        look = {"title": "a.png", "photo_mask": part, "reference_mask": part}
        fine = draw_matches(grey, grey, none, none, np.zeros(0, bool), **look)
        failed = draw_matches(
            grey,
            grey,
            none,
            none,
            np.zeros(0, bool),
            **look,
            warning="not aligned: " + 40 * "why ",
        )
        assert not looks_like(fine, style.hex_to_rgb(style.YELLOW)).any()
        assert failed.shape[0] > fine.shape[0] + 40
        y, x = np.nonzero(looks_like(failed[80:], style.hex_to_rgb(style.YELLOW)))
        assert (np.ptp(x), np.ptp(y)) == (119, 49)


class TestHeader:
    def test_everything_is_inside_and_nothing_upon_another(self) -> None:
        image = np.zeros((300, 640, 3), np.uint8)
        red, green = (255, 0, 0), (0, 255, 0)
        for title in ("short", "a very long title " * 8):
            strip = add_header(image, title, [("first entry", red), ("second entry", green)])[:-300]
            columns = [looks_like(strip, colour, 90).any(axis=0) for colour in (red, green)]
            white = (strip.min(axis=2) > 120).any(axis=0)
            (first, second), last_white = (np.flatnonzero(c) for c in columns), np.flatnonzero(white)[-1]
            assert last_white < first[0] <= first[-1] < second[0] <= second[-1] < 640 - 4

    def test_entries_without_room_get_a_line_of_their_own(self) -> None:
        image = np.zeros((300, 640, 3), np.uint8)
        entries = [(f"entry number {i}", (255, 0, 0)) for i in range(4)]
        one, two = (add_header(image, "title", some) for some in (entries[:1], entries))
        assert len(two) == len(one) + line_height(12)

    @given(st.lists(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=12), max_size=25))
    @settings(max_examples=30, deadline=None)
    def test_wrapped_text_keeps_every_word_and_its_width(self, words: list[str]) -> None:
        lines = wrap_text(" ".join(words), 14, 200)
        assert " ".join(lines).split() == words
        assert all(text_width(each, 14) <= 200 for each in lines)


class TestAlignmentOverlay:
    def test_what_differs_is_coloured_at_its_place_and_nothing_else(self, rng: np.random.Generator) -> None:
        reference = np.repeat(np.repeat(rng.integers(90, 170, (90, 160), dtype=np.uint8), 4, axis=0), 4, axis=1)
        aligned = reference.copy()
        aligned[100:120, 200:240] -= 70
        aligned[250:270, 400:440] += 70
        picture = alignment_overlay(reference, aligned, title="")[-360:].astype(int)
        warmth = picture[..., 0] - picture[..., 2]
        expected = np.zeros((360, 640), int)
        expected[100:120, 200:240], expected[250:270, 400:440] = -1, 1
        assert (np.sign(warmth) == expected).all()
        assert (np.abs(picture[260, 420] - ORANGE) <= 2).all()
        assert (np.abs(picture[110, 220] - SKY) <= 2).all()

    def test_light_alone_is_no_difference(self, rng: np.random.Generator) -> None:
        reference = rng.integers(60, 200, (360, 640), dtype=np.uint8)
        aligned = np.rint(reference * 0.8).astype(np.uint8)
        aligned[:100] = 255  # nor does a piece that is missing shift the light of the rest
        picture = alignment_overlay(reference, aligned, title="")[-260:].astype(int)
        assert (picture.max(axis=2) - picture.min(axis=2)).max() <= 12

    def test_only_the_part_is_coloured_and_what_surrounds_it_dimmed(self) -> None:
        reference, mask = np.full((1080, 1920), 150, np.uint8), np.zeros((1080, 1920), bool)
        aligned = np.full_like(reference, 150)
        mask[300:700, 400:1500] = True
        aligned[::2] = 250  # every other row, all over
        picture = alignment_overlay(reference, aligned, reference_mask=mask, title="t")
        assert picture.shape[1] == 1100 + 2 * 66
        inside = picture[-400 - 66 + 2 : -66 - 2, 68:-68].astype(int)
        around = picture[-40:].astype(int)
        assert (inside.max(axis=2) - inside.min(axis=2)).mean() > 30
        assert (around.max(axis=2) == around.min(axis=2)).all()
        assert around.max() < 60

    def test_a_small_part_is_not_a_small_picture(self) -> None:
        grey, mask = np.full((1080, 1920), 150, np.uint8), np.zeros((1080, 1920), bool)
        mask[5:30, 1880:1915] = True
        picture = alignment_overlay(grey, grey, reference_mask=mask, title="t")
        assert picture.shape[1] == 640
        assert looks_like(picture[-360:], (255, 255, 255)).any()

    def test_the_outline_of_what_was_found_is_drawn_for_a_failed_photograph(self) -> None:
        grey, mask, found = np.full((360, 640), 90, np.uint8), np.zeros((360, 640), bool), np.zeros((360, 640), bool)
        mask[100:260, 100:540], found[100:260, 100:300] = True, True
        picture = alignment_overlay(
            grey, grey, reference_mask=mask, photo_mask=found, warning="not aligned: a", title=""
        )[-360:]
        assert looks_like(picture, style.hex_to_rgb(style.YELLOW))[110:250, 299].all()
        assert looks_like(picture, (255, 255, 255))[110:250, 539].all()


class TestAlignmentMetrics:
    @staticmethod
    def figure(count: int, failed: NDArray[np.bool_], *, names: str = "{}.png") -> Figure:
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
            title="R0_Triplet_Data_Flex_F1_F: alignment to the reference",
            reference_name=names.format(0),
            reasons=[f"not aligned: reason {i}; advice" if failed[i] else "" for i in range(count)],
        )

    @pytest.mark.parametrize("count", [1, 8, 400])
    def test_limits_and_failed_photographs(self, count: int) -> None:
        failed = np.arange(count) % 10 == 5
        figure = self.figure(count, failed)
        for panel, limit in enumerate((15, 0.6, 500)):
            assert line(figure, "limit", panel).get_ydata()[0] == limit
            low, high = figure.axes[panel].get_ylim()
            assert low < limit < high
        marked = {
            int(x)
            for label in ("not aligned", "no value")
            if f"{label}" in texts(figure)
            for each in figure.axes[1].lines
            if str(each.get_label()).startswith(label)
            for x in each.get_xdata()
        }
        assert marked == set(np.flatnonzero(failed))
        assert line(figure, "reference").get_xdata().tolist() == [0]
        assert f"not aligned ({failed.sum()})" in legend(figure)

    @pytest.mark.parametrize(("count", "share"), [(8, 0.5), (40, 0.1), (100, 0.02), (400, 0.02), (400, 0.5)])
    def test_names_do_not_overlap_and_failed_ones_come_first(self, count: int, share: float) -> None:
        failed = np.random.default_rng(count).random(count) < share
        failed[0] = False
        figure = self.figure(count, failed, names="R0_Triplet_image_{:03d}.jpg")
        figure.draw_without_rendering()
        ax = figure.axes[2]
        named = [int(tick) for tick in ax.get_xticks()]
        places = ax.transData.transform(np.column_stack([named, np.zeros(len(named))]))[:, 0]
        height = 7.5 / 72 * figure.dpi
        assert len(named) == count or np.diff(places).min() * np.sin(np.deg2rad(60)) >= height
        assert 0 in named
        distance = np.abs(np.flatnonzero(failed)[:, None] - named).min(axis=1) if failed.any() else np.zeros(1)
        wide = height / np.sin(np.deg2rad(60)) * 2 / (places[-1] - places[0]) * (named[-1] - named[0])
        assert distance.max() <= wide  # a failed photograph without a name stands beside one with a name
        colours = {int(t): label.get_color() for t, label in zip(ax.get_xticks(), ax.get_xticklabels(), strict=True)}
        assert {i for i, colour in colours.items() if colour == style.REJECTED} == set(named) & set(
            np.flatnonzero(failed).tolist()
        )

    def test_it_says_why(self) -> None:
        failed = np.arange(40) >= 20
        figure = self.figure(40, failed)
        figure.draw_without_rendering()
        text = figure.axes[2].get_xlabel()
        assert "20.png: reason 20\n" in text
        assert "advice" not in text
        assert "and 12 more" in text
        box = figure.axes[2].xaxis.label.get_window_extent()
        assert box.x1 <= figure.bbox.width
        assert box.y0 >= 0


class TestCropPictures:
    box = (10, 5, 40, 20)

    def test_the_box_encloses_its_pixels(self, rng: np.random.Generator) -> None:
        figure = stacked_intensity(rng.random((50, 80)), self.box, title="t")
        png(figure)
        drawn = line(figure, "crop box")
        assert (min(drawn.get_xdata()), max(drawn.get_xdata())) == (9.5, 49.5)
        assert (min(drawn.get_ydata()), max(drawn.get_ydata())) == (4.5, 24.5)
        assert "mean grey level (0 to 1)" in texts(figure)

    def test_pixels_lie_where_the_axes_say(self, rng: np.random.Generator) -> None:
        mean = rng.random((50, 80))
        image = stacked_intensity(mean, self.box, title="t").axes[0].images[0]
        left, right, bottom, top = image.get_extent()
        assert (image.get_array() == mean[int(top + 0.5) : int(bottom + 0.5), int(left + 0.5) : int(right + 0.5)]).all()
        assert left < 9.5 < 49.5 < right
        assert top < 4.5 < 24.5 < bottom

    @pytest.mark.parametrize("box", [(10, 5, 40, 20), (30, 2, 12, 45)])
    @pytest.mark.parametrize("empty", [False, True])
    def test_only_what_is_compared_keeps_its_light(self, empty: bool, box: tuple[int, int, int, int]) -> None:
        reference = np.full((50, 80, 3), 150, np.uint8)
        consensus, ignored = np.zeros((50, 80), bool), np.zeros((50, 80), bool)
        if not empty:
            consensus[8:20, 15:45], ignored[10:12, 20:25], ignored[15:18, 30:40] = True, True, True
        figure = crop_preview(reference, consensus, box, ignore_mask=ignored, title="t")
        png(figure)
        shown = figure.axes[0].images[0].get_array()
        assert (shown[~consensus | ignored] == 50).all()
        assert (shown[consensus & ~ignored] == 150).all()
        if not empty:
            outline = line(figure, "consensus mask: 360 pixels", 1)
            assert (np.nanmin(outline.get_xdata()), np.nanmax(outline.get_ydata())) == (15, 19)
            assert "ignored: 2 regions, 40 pixels" in legend(figure)
            (hatched,) = figure.axes[1].patches
            assert hatched.get_hatch()
            assert hatched.get_path().get_extents().bounds == (20, 10, 19, 7)
        else:
            assert len(figure.axes[1].patches) == 0

    def test_holes_are_outlined_and_not_hatched(self) -> None:
        ring = np.zeros((50, 80), bool)
        ring[10:40, 10:60], ring[20:30, 20:50] = True, False
        figure = crop_preview(np.zeros((50, 80, 3), np.uint8), ring, self.box, ignore_mask=ring, title="t")
        (hatched,) = figure.axes[1].patches
        hatched.set(hatch=None, facecolor="red")
        drawn = cv2.imdecode(np.frombuffer(png(figure), np.uint8), cv2.IMREAD_COLOR)
        for (x, y), filled in (((15, 15), True), ((35, 25), False)):
            column, row = figure.axes[1].transData.transform((x, y)).astype(int)
            assert (drawn[len(drawn) - row, column].tolist() == [0, 0, 255]) == filled
        outline = line(figure, "consensus mask")
        assert np.isnan(outline.get_xdata()).sum() == 2

    @pytest.mark.parametrize("count", [1, 5])
    def test_each_channel_fills_the_scale_that_its_title_names(self, rng: np.random.Generator, count: int) -> None:
        channels = 0.1 * rng.random((20, 70, count)) + 0.3
        channels[0] = 0.0  # outside
        mask = np.ones((20, 70), bool)
        mask[0] = False
        figure = channel_sheet(channels, [f"C{i}" for i in range(count)], title="t", mask=mask)
        png(figure)
        panels = [ax for ax in figure.axes if ax.images]
        assert [ax.get_title() for ax in panels] == [f"C{i}: 0.3 to 0.4" for i in range(count)]
        for i, ax in enumerate(panels):
            shown = ax.images[0].get_array()
            low, high = np.percentile(channels[mask][:, i], (0.5, 99.5))
            np.testing.assert_allclose(shown[mask], (channels[mask][:, i] - low) / (high - low))
            assert shown.mask[0].all()

    @pytest.mark.parametrize(("shape", "count"), [((366, 1270), 4), ((1270, 366), 9), ((300, 400), 9)])
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
        """A part whose masks agree but for a band along its edge, and a torn corner that half of them leave out."""
        share = np.zeros((height, width), np.float32)
        share[40:-40, 50:-50] = 0.9
        share[42:-42, 52:-52] = 1.0
        share[40:70, 50:80] = 0.5
        return share

    def test_disputed_pixels_are_coloured_and_all_others_grey(self) -> None:
        share = self.share()
        figure = consensus_map(np.full((200, 500, 3), 120, np.uint8), share, 0.6, title="t")
        image = next(ax for ax in figure.axes if ax.get_xlabel()).images[0]
        shown = image.get_array()
        left, _, _, top = image.get_extent()
        x, y = round(left + 0.5), round(top + 0.5)
        seen = share[y : y + shown.shape[0], x : x + shown.shape[1]]
        grey = (shown.max(axis=2) == shown.min(axis=2)) & (shown[..., 0] == 100)
        assert (grey == ((seen == 0) | (seen == 1))).all()

    def test_the_most_disputed_place_is_enlarged_first(self) -> None:
        figure = consensus_map(np.full((200, 500, 3), 120, np.uint8), self.share(), 0.6, title="t")
        png(figure)
        first = next(ax for ax in figure.axes if ax.get_title() == "A, enlarged")
        (left, right), (bottom, top) = first.get_xlim(), first.get_ylim()
        assert left <= 54
        assert 70 <= right <= 90
        assert top <= 45
        assert 60 <= bottom <= 80

    @pytest.mark.parametrize("shape", [(200, 500), (500, 200), (300, 300)])
    def test_the_line_separates_what_is_above_the_level(self, shape: tuple[int, int]) -> None:
        share = self.share(*shape)
        figure = consensus_map(np.zeros((*shape, 3), np.uint8), share, 0.6, title="t")
        main = next(ax for ax in figure.axes if ax.get_xlabel())
        (contour,) = main.collections
        (path,) = contour.get_paths()
        y, x = np.mgrid[: shape[0], : shape[1]]
        inside = path.contains_points(np.column_stack([x.ravel(), y.ravel()])).reshape(shape)
        assert (inside == (share > 0.6)).all()

    def test_photographs_without_a_vote_are_named(self) -> None:
        left_out = [(f"image_{i:03d}.jpg", 0.1 * i) for i in range(6)]
        figure = consensus_map(np.zeros((200, 500, 3), np.uint8), self.share(), 0.5, title="t", left_out=left_out)
        title = figure.get_suptitle().replace("\n", " ")
        assert title.endswith(
            "masks left out: image_000.jpg (IoU\u00a00.00), image_001.jpg (IoU\u00a00.10), "
            "image_002.jpg (IoU\u00a00.20), image_003.jpg (IoU\u00a00.30) and 2 more"
        )

    @pytest.mark.parametrize("value", [0.0, 1.0])
    def test_full_agreement_has_nothing_to_enlarge(self, value: float) -> None:
        share = np.full((200, 500), value, np.float32)
        share[50:60, 50:60] = 1.0
        figure = consensus_map(np.zeros((200, 500, 3), np.uint8), share, 0.5, title="t")
        png(figure)
        assert "all masks agree on every pixel" in texts(figure)
        assert "enlarged" not in texts(figure)


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
        shown = figure.axes[0].images
        maps = shown[2::3]
        expected = np.percentile(errors[np.isfinite(errors)], 99.9)
        assert [m.get_clim() for m in maps] == [(0.0, pytest.approx(expected))] * 3
        assert all(m.get_array().mask[0].all() for m in maps)
        lefts, _, lows, tops = np.array([image.get_extent() for image in shown]).T
        assert (lefts.reshape(3, 3) == lefts[:3]).all()  # columns
        assert (tops.reshape(3, 3) == tops[::3, None]).all()  # rows
        for name, top, low in zip(["best", "median", "worst"], tops[::3], [-np.inf, *lows[::3]], strict=False):
            (text,) = [each for each in figure.axes[0].texts if each.get_text() == name]
            assert low < text.get_position()[1] < top  # above its row, below the one before
        assert len(figure.axes) == 1 + (1 if rgb else 2)  # colour bars

    @pytest.mark.parametrize("shape", [(30, 300), (300, 30), (64, 64)])
    def test_what_is_written_over_a_strip_stays_inside_and_apart(
        self, rng: np.random.Generator, shape: tuple[int, int]
    ) -> None:
        images = rng.random((3, *shape))
        names = [f"{kind}, score 1.00: {'name' * 60}.jpg" for kind in ("worst", "median", "best")]
        figure = reconstruction_strip(images, images, images, names, title="t", error_name="error (RMS over channels)")
        png(figure)
        assert_apart(figure, figure.axes[0].texts)


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
        assert "0 and below: first bin" in figure.axes[-1].get_xlabel()

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
        figure = pixel_loss_histogram(edges, counts, ["R", "G"], title="t")
        png(figure)
        for panel in (0, 1):
            assert stairs(figure, "G", panel).values.tolist() == [10, 0, 30, 40]
            assert stairs(figure, "all channels", panel).values.tolist() == [11, 0, 33, 44]
        assert [ax.get_xscale() for ax in figure.axes] == ["log", "log"]
        assert [ax.get_yscale() for ax in figure.axes] == ["linear", "log"]
        assert "10⁻⁶ and below: first bin" in figure.axes[1].get_xlabel()

    @pytest.mark.parametrize("channels", [1, 23])
    def test_loss_histogram_without_pixels(self, channels: int) -> None:
        names = [f"C{i}" for i in range(channels)]
        figure = pixel_loss_histogram(np.linspace(0, 1, 6), np.zeros((channels, 5)), names, title="t")
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
        image = figure.axes[0].images[0]
        mesh = image.get_array()
        assert mesh[0, 3] == 50
        assert mesh.count() == 1  # all other bins are blank
        assert image.origin == "lower"
        assert image.get_extent() == [0, 1, 0, 1]
        diagonal = line(figure, "perfect")
        assert list(diagonal.get_xdata()) == list(diagonal.get_ydata()) == [0, 1]
        assert isinstance(image.norm, LogNorm)
        assert (image.norm.vmin, image.norm.vmax) == (1, 50)

    def test_predictions_of_several_channels_have_one_scale(self) -> None:
        figures = [
            pixel_predictions(np.linspace(0, 1, 5), np.full((4, 4), count), channel="R", max_count=700, title="t")
            for count in (3, 700)
        ]
        assert [figure.axes[0].images[0].get_clim() for figure in figures] == [(1, 700)] * 2

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
        assert line(figure, "random scores (precision 0.200)").get_ydata()[0] == 0.2

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
        shares = np.array([MIN_TINT, (MIN_TINT + MAX_TINT) / 2, MAX_TINT, MAX_TINT, MAX_TINT])
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
        picture = anomaly_overlay(photo, values, threshold=2.0, boxes=[LabelledBox(200, 150, 40, 20)])
        assert (picture[150:170, 200:240, 0] > 120).all()  # the box covers nothing of the region
        around = picture[120:200, 170:270].reshape(-1, 3)
        assert (around == 255).all(axis=1).any()
        assert (around == style.hex_to_rgb(style.BLUE)).all(axis=1).any()

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
        bare = anomaly_overlay(photo, nothing, threshold=2.0, boxes=[LabelledBox(*b) for b in boxes], caption="FAIL")
        named = anomaly_overlay(
            photo,
            nothing,
            threshold=2.0,
            boxes=[LabelledBox(*b, f"label {i}") for i, b in enumerate(boxes)],
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

    @pytest.mark.parametrize("part", [np.s_[:280, :], np.s_[80:, :], np.s_[80:280, 100:500]])
    def test_caption_and_colour_bar_keep_off_the_part(self, part: tuple[slice, slice]) -> None:
        photo = np.full((360, 640, 3), 200, np.uint8)
        values = np.zeros((360, 640), np.float32)
        values[part] = 0.5
        picture = anomaly_overlay(photo, values, threshold=2.0, caption="part.png: pass", map_label="anomaly (loss)")
        assert (picture[part] == 200).all()
        assert ((picture == 70).all(axis=2).sum(axis=1) > 300).any()  # the band is somewhere else

    def test_tinted_is_the_overlay_without_what_is_drawn_over_it(self, rng: np.random.Generator) -> None:
        photo = photo_of(rng) // 2
        values = cv2.GaussianBlur(rng.random((360, 640), np.float32), (0, 0), 5) * 4
        values[:60] = values[300:] = 0
        bare = tint_anomalies(photo, values, threshold=2.0)
        full = anomaly_overlay(photo, values, threshold=2.0, caption="c", map_label="anomaly (loss)")
        assert (bare[60:300] == full[60:300]).all()
        assert ((bare != photo).any(axis=2) == (values > 2.0)).all()

    @pytest.mark.parametrize("shape", [(1, 1), (8, 300), (300, 8), (64, 64)])
    def test_small_photographs(self, shape: tuple[int, int]) -> None:
        photo = np.full((*shape, 3), 50, np.uint8)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            picture = anomaly_overlay(
                photo,
                np.full(shape, 9, np.float32),
                threshold=1.0,
                boxes=[LabelledBox(0, 0, shape[1], shape[0], "a label")],
                caption="FAIL",
            )
        assert picture.shape == photo.shape
        assert (picture != photo).any()

    def test_a_map_of_another_frame_is_refused(self) -> None:
        with pytest.raises(InputError, match=r"use \(H, W, 3\)"):
            anomaly_overlay(np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4), np.float32), threshold=1.0)
