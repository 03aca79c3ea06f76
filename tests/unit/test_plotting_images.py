"""Images drawn with OpenCV: they change the pixels that they should change, and no others."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.plotting import style
from pixal.plotting.alignment import MatchedImage, alignment_overlay, match_figure
from pixal.plotting.anomaly_overlay import MAX_TINT, MIN_TINT, LabelledBox, anomaly_overlay, place_label, tint_anomalies
from pixal.plotting.drawing import add_header, fit_text, line_height, shrink, text_height, text_width, wrap_text

pytestmark = pytest.mark.figures

Image = NDArray[np.uint8]
SKY, ORANGE, YELLOW = (style.hex_to_rgb(colour) for colour in (style.SKY, style.ORANGE, style.YELLOW))
WHITE = (255, 255, 255)
SHAPE = (360, 640)
BAND = line_height(12) + 6  # rows of a caption on an image of this shape
NO_POINTS = np.zeros((0, 2))


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def random_photo(rng: np.random.Generator, height: int = SHAPE[0], width: int = SHAPE[1]) -> Image:
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8)


def plain_photo(level: int, shape: tuple[int, int] = SHAPE) -> Image:
    return np.full((*shape, 3), level, np.uint8)


def smooth_map(rng: np.random.Generator) -> NDArray[np.float32]:
    """An anomaly map without anomalies in the rows where caption and colour bar are drawn."""
    values = cv2.GaussianBlur(rng.random(SHAPE, np.float32), (0, 0), 5) * 4
    values[:60] = values[300:] = 0
    return np.asarray(values, np.float32)


def mask_of(shape: tuple[int, int], rows: slice, columns: slice) -> NDArray[np.bool_]:
    mask = np.zeros(shape, bool)
    mask[rows, columns] = True
    return mask


def has_colour(image: Image, colour: tuple[int, int, int], tolerance: int = 40) -> NDArray[np.bool_]:
    """Where an image (h, w, 3) has nearly a colour."""
    return np.abs(image.astype(int) - colour).max(axis=2) <= tolerance


def chroma(image: Image) -> NDArray[np.int_]:
    """0 where an image (h, w, 3) is grey."""
    return image.max(axis=2).astype(int) - image.min(axis=2)


def test_opencv_images_do_not_import_matplotlib() -> None:
    modules = "pixal.plotting.anomaly_overlay, pixal.tasks.photographs.preprocessing.figures"
    code = f"import sys, {modules}; print('matplotlib' in sys.modules)"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == "False"


class TestDrawing:
    @given(st.text(st.characters(codec="latin-1", categories=["L", "N", "P"]), max_size=60), st.integers(0, 300))
    @settings(max_examples=50, deadline=None)
    def test_fitted_text_fits(self, text: str, width: int) -> None:
        fitted, size = fit_text(text, 16, width)
        assert not fitted or text_width(fitted, size) <= width
        assert 12 <= size <= 16
        if text_width(text, 12) <= width:
            assert fitted == text

    @given(st.lists(st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=12), max_size=25))
    @settings(max_examples=30, deadline=None)
    def test_wrapped_text_keeps_all_words_and_its_width(self, words: list[str]) -> None:
        lines = wrap_text(" ".join(words), 14, 200)
        assert " ".join(lines).split() == words
        assert all(text_width(line, 14) <= 200 for line in lines)

    def test_text_size_grows_with_the_image(self) -> None:
        assert [text_height(plain_photo(0, shape)) for shape in (SHAPE, (1080, 1920))] == [12, 25]

    @pytest.mark.parametrize("factor", [2, 4])
    def test_shrinking_by_a_whole_factor_averages_blocks(self, rng: np.random.Generator, factor: int) -> None:
        photo = random_photo(rng)
        blocks = photo.reshape(360 // factor, factor, 640 // factor, factor, 3).mean(axis=(1, 3))
        np.testing.assert_allclose(shrink(photo, 1 / factor), blocks, atol=1)

    @pytest.mark.parametrize("scale", [0.2, 0.49, 0.8])
    def test_shrinking_keeps_the_whole_image(self, scale: float) -> None:
        ramp = np.repeat(np.linspace(0, 255, 640).astype(np.uint8)[None, :, None], 360, axis=0)
        small = shrink(np.repeat(ramp, 3, axis=2), scale)
        assert small.shape == (int(360 * scale), int(640 * scale), 3)
        centres = (np.arange(small.shape[1]) + 0.5) / small.shape[1] * 255
        np.testing.assert_allclose(small[0, :, 0], centres, atol=2)

    @pytest.mark.parametrize("title", ["short", "a very long title " * 8])
    def test_header_texts_are_inside_and_do_not_overlap(self, title: str) -> None:
        red, green = (255, 0, 0), (0, 255, 0)
        strip = add_header(plain_photo(0, (300, 640)), title, [("first entry", red), ("second entry", green)])[:-300]
        first, second = (np.flatnonzero(has_colour(strip, colour, 90).any(axis=0)) for colour in (red, green))
        last_white = np.flatnonzero((strip.min(axis=2) > 120).any(axis=0))[-1]
        assert last_white < first[0] <= first[-1] < second[0] <= second[-1] < 640 - 4

    def test_many_header_entries_get_a_line_of_their_own(self) -> None:
        entries = [(f"entry number {i}", (255, 0, 0)) for i in range(4)]
        one, many = (add_header(plain_photo(0, (300, 640)), "title", chosen) for chosen in (entries[:1], entries))
        assert len(many) == len(one) + line_height(12)


class TestMatchFigure:
    @staticmethod
    def draw(
        photo: Image, reference: Image, points: Any = (NO_POINTS, NO_POINTS), masks: Any = (None, None), **options: Any
    ) -> Image:
        images = MatchedImage(photo, points[0], masks[0]), MatchedImage(reference, points[1], masks[1])
        is_inlier = options.pop("is_inlier", np.ones(len(points[0]), bool))
        return match_figure(*images, is_inlier, title=options.pop("title", ""), **options)

    @pytest.mark.parametrize("seed", range(3))
    def test_lines_join_the_matched_points(self, seed: int) -> None:
        """A white dot is at each end. The images are cut, shrunk and arranged, and the line still joins the dots."""
        rng = np.random.default_rng(seed)
        photos, points, masks = [], [], []
        for height, width in [(1080, 1920), (1080, 1920)] if seed else [(900, 700), (1300, 650)]:
            mask = np.zeros((height, width), np.uint8)
            box = cv2.boxPoints(((width / 2, height / 2), (0.7 * width, 0.3 * height), float(rng.uniform(-15, 15))))
            cv2.fillPoly(mask, [box.astype(np.int32)], 1)
            point = np.array([rng.uniform(0.3, 0.7) * width, rng.uniform(0.48, 0.52) * height])
            photo = np.zeros((height, width, 3), np.uint8)
            cv2.circle(photo, (round(point[0] * 16), round(point[1] * 16)), 9 << 4, WHITE, -1, cv2.LINE_AA, 4)
            photos.append(photo)
            points.append(point[None])
            masks.append(mask > 0)
        # Below the header and the names, which are white too.
        without, with_line = (self.draw(*photos, p, masks)[60:] for p in ((NO_POINTS, NO_POINTS), points))
        _, _, stats, centres = cv2.connectedComponentsWithStats(cv2.inRange(without, (200,) * 3, (255,) * 3))
        start, end = centres[np.argsort(stats[:, cv2.CC_STAT_AREA])[-3:-1]]  # the largest is the background
        is_line = has_colour(with_line, SKY)
        for share in np.linspace(0, 1, 21):
            x, y = np.rint(start + share * (end - start)).astype(int)
            assert is_line[y - 2 : y + 3, x - 2 : x + 3].any()

    @pytest.mark.parametrize("is_tall", [False, True])
    def test_the_arrangement_shows_the_part_as_large_as_possible(self, is_tall: bool) -> None:
        mask = mask_of((1080, 1920), slice(400, 700), slice(300, 1600))
        mask = np.ascontiguousarray(mask.T) if is_tall else mask
        grey = np.where(mask, np.uint8(200), np.uint8(0))
        image = self.draw(grey, grey, masks=(mask, mask))
        assert np.count_nonzero((image == 200).all(axis=2)) > (0.4 if is_tall else 0.98) * 2 * mask.sum()
        assert image.shape[1] <= 1920

    def test_inliers_are_solid_and_outliers_dashed(self) -> None:
        grey = plain_photo(90, (300, 600))
        points = np.array([[50.0, 40.0], [50.0, 240.0]]), np.array([[350.0, 40.0], [350.0, 240.0]])
        image = self.draw(grey, grey, points, is_inlier=np.array([True, False]))[-300:]
        assert has_colour(image[38:43, 60:960], SKY).any(axis=0).all()
        assert 0.3 < has_colour(image[238:243, 60:950], ORANGE).any(axis=0).mean() < 0.8
        assert has_colour(image, SKY)[35:46, 50].sum() >= 2  # above and below the centre: a circle
        assert has_colour(image, ORANGE)[236:238, 46:48].any()  # an arm of a cross

    def test_a_large_pair_is_shrunk(self, rng: np.random.Generator) -> None:
        image = self.draw(random_photo(rng, 2160, 3840), random_photo(rng, 500, 2500))
        assert image.shape[1] <= 1920
        assert 1060 < image.shape[0] < 1200

    def test_the_drawn_matches_are_spread_over_the_part(self) -> None:
        """Of many matches in one corner and a few elsewhere, those few are all drawn."""
        black = np.zeros((600, 600), np.uint8)
        crowd = np.random.default_rng(0).uniform((10, 100), (60, 150), (500, 2))
        few = np.array([[580.0, 80.0], [580.0, 590.0], [300.0, 590.0], [20.0, 590.0], [300.0, 300.0]])
        points = np.concatenate([crowd, few])
        image = self.draw(black, black, (points, points))[-600:]
        gap = has_colour(image, SKY, 120)[:, 603]
        assert np.count_nonzero(gap[1:] & ~gap[:-1]) <= 60
        for x, y in few.astype(int):
            assert has_colour(image, SKY)[y - 9 : y + 10, max(0, x - 9) : x + 10].any()

    def test_a_photograph_that_is_not_aligned_is_shown_whole_with_reason_and_outline(self) -> None:
        grey, mask = plain_photo(60, (400, 900)), mask_of((400, 900), slice(150, 200), slice(300, 420))
        aligned = self.draw(grey, grey, masks=(mask, mask))
        failed = self.draw(grey, grey, masks=(mask, mask), warning="not aligned: " + 40 * "why ")
        assert not has_colour(aligned, YELLOW).any()
        assert failed.shape[0] > aligned.shape[0] + 40
        y, x = np.nonzero(has_colour(failed[80:], YELLOW))
        assert (np.ptp(x), np.ptp(y)) == (119, 49)


class TestAlignmentOverlay:
    def test_only_differences_are_coloured(self, rng: np.random.Generator) -> None:
        reference = np.repeat(np.repeat(rng.integers(90, 170, (90, 160), dtype=np.uint8), 4, axis=0), 4, axis=1)
        aligned = reference.copy()
        aligned[100:120, 200:240] -= 70
        aligned[250:270, 400:440] += 70
        image = alignment_overlay(reference, aligned, title="")[-360:].astype(int)
        expected = np.zeros(SHAPE, int)
        expected[100:120, 200:240], expected[250:270, 400:440] = -1, 1
        assert (np.sign(image[..., 0] - image[..., 2]) == expected).all()
        assert (np.abs(image[260, 420] - ORANGE) <= 2).all()
        assert (np.abs(image[110, 220] - SKY) <= 2).all()

    def test_a_change_of_brightness_is_not_a_difference(self, rng: np.random.Generator) -> None:
        reference = rng.integers(60, 200, SHAPE, dtype=np.uint8)
        aligned = np.rint(reference * 0.8).astype(np.uint8)
        aligned[:100] = 255  # a large defect does not change the brightness of the rest
        assert chroma(alignment_overlay(reference, aligned, title="")[-260:]).max() <= 12

    def test_the_background_is_dimmed_and_not_coloured(self) -> None:
        reference, mask = np.full((1080, 1920), 150, np.uint8), mask_of((1080, 1920), slice(300, 700), slice(400, 1500))
        aligned = np.full_like(reference, 150)
        aligned[::2] = 250
        image = alignment_overlay(reference, aligned, reference_mask=mask, title="t")
        assert image.shape[1] == 1100 + 2 * 66
        assert chroma(image[-400 - 66 + 2 : -66 - 2, 68:-68]).mean() > 30
        assert chroma(image[-40:]).max() == 0
        assert image[-40:].max() < 60

    def test_a_small_part_is_shown_with_more_background(self) -> None:
        grey, mask = np.full((1080, 1920), 150, np.uint8), mask_of((1080, 1920), slice(5, 30), slice(1880, 1915))
        image = alignment_overlay(grey, grey, reference_mask=mask, title="t")
        assert image.shape[1] == 640
        assert has_colour(image[-360:], WHITE).any()

    def test_both_outlines_are_drawn_if_the_photograph_is_not_aligned(self) -> None:
        grey = np.full(SHAPE, 90, np.uint8)
        masks = [mask_of(SHAPE, slice(100, 260), slice(100, end)) for end in (540, 300)]
        options = {"reference_mask": masks[0], "photo_mask": masks[1], "warning": "not aligned: a"}
        image = alignment_overlay(grey, grey, title="", **options)[-360:]
        assert has_colour(image, WHITE)[110:250, 539].all()
        assert has_colour(image, YELLOW)[110:250, 299].all()


class TestAnomalyOverlay:
    def test_exactly_the_pixels_above_the_threshold_change(self, rng: np.random.Generator) -> None:
        photo, values = random_photo(rng) // 2, smooth_map(rng)
        values[:40] = np.nan
        before = photo.copy()
        image = anomaly_overlay(photo, values, threshold=2.0)[:300]
        is_changed = (image != photo[:300]).any(axis=2)
        assert (is_changed == (values[:300] > 2.0)).all()
        assert (image[..., 0].astype(int) > photo[:300, :, 0])[is_changed].all()  # redder
        assert (photo == before).all()

    def test_tinting_alone_draws_nothing_else(self, rng: np.random.Generator) -> None:
        photo, values = random_photo(rng) // 2, smooth_map(rng)
        tinted = tint_anomalies(photo, values, threshold=2.0)
        overlay = anomaly_overlay(photo, values, threshold=2.0, caption="c", map_label="anomaly (loss)")
        assert (tinted[60:300] == overlay[60:300]).all()
        assert ((tinted != photo).any(axis=2) == (values > 2.0)).all()

    def test_the_tint_grows_with_the_value(self) -> None:
        photo, values = plain_photo(100, (300, 700)), np.zeros((300, 700), np.float32)
        for i, value in enumerate((2.001, 4.0, 6.0, 60.0, np.inf)):
            values[50:150, 20 + 130 * i : 120 + 130 * i] = value
        image = anomaly_overlay(photo, values, threshold=2.0)
        red, green = image[100, 70::130, :2].astype(float).T
        shares = np.array([MIN_TINT, (MIN_TINT + MAX_TINT) / 2, MAX_TINT, MAX_TINT, MAX_TINT])
        np.testing.assert_allclose(red, 100 + 155 * shares, atol=1.5)
        np.testing.assert_allclose(green, 100 * (1 - shares), atol=1.5)
        assert image[50, 60].tolist() == [255, 0, 0]  # the edge is inside the region
        assert image[49, 60].tolist() == [100, 100, 100]

    @pytest.mark.parametrize("threshold", [np.inf, np.nan])
    def test_nothing_is_drawn_without_a_finite_threshold(self, rng: np.random.Generator, threshold: float) -> None:
        photo = random_photo(rng)
        assert (anomaly_overlay(photo, rng.random(SHAPE, np.float32), threshold=threshold) == photo).all()

    @pytest.mark.parametrize("threshold", [0.0, -1.0])
    def test_a_threshold_of_zero_or_less_has_no_colour_bar(self, threshold: float) -> None:
        photo, values = plain_photo(90), np.full(SHAPE, -3, np.float32)
        values[100:120, 100:120] = 0.5
        assert (anomaly_overlay(photo, values, threshold=threshold) != photo).any(axis=2).sum() == 400

    @pytest.mark.parametrize("shape", [SHAPE, (1080, 1920)])
    def test_a_box_is_drawn_around_its_region(self, shape: tuple[int, int]) -> None:
        values = np.zeros(shape, np.float32)
        values[150:170, 200:240] = 5
        box = LabelledBox(200, 150, 40, 20)
        image = anomaly_overlay(plain_photo(120, shape), values, threshold=2.0, boxes=[box])
        assert (image[150:170, 200:240, 0] > 120).all()  # the box hides nothing of the region
        around = image[120:200, 170:270].reshape(-1, 3)
        assert (around == WHITE).all(axis=1).any()
        assert (around == style.hex_to_rgb(style.BLUE)).all(axis=1).any()

    def test_labels_are_whole_and_do_not_hide_the_caption(self) -> None:
        corners = [(0, 0, 20, 10), (600, 0, 40, 30), (0, 340, 30, 20), (610, 335, 30, 25)]
        boxes = [*corners, (300, 0, 40, 360), (-5.5, 100.2, 9, 9), (5000, 5000, 3, 3)]
        without, with_labels = (
            anomaly_overlay(
                plain_photo(120),
                np.zeros(SHAPE, np.float32),
                threshold=2.0,
                boxes=[LabelledBox(*box, text.format(i)) for i, box in enumerate(boxes)],
                caption="FAIL",
            )
            for text in ("", "label {}")
        )
        assert (without[:BAND] == with_labels[:BAND]).all()
        changed = np.any(without != with_labels, axis=2).astype(np.uint8)
        _, _, stats, _ = cv2.connectedComponentsWithStats(cv2.morphologyEx(changed, cv2.MORPH_CLOSE, np.ones((5, 9))))
        whole = (stats[1:, cv2.CC_STAT_HEIGHT] >= line_height(11)) & (stats[1:, cv2.CC_STAT_WIDTH] >= 30)
        assert whole.sum() == len(boxes)

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

    def test_a_label_avoids_occupied_pixels(self) -> None:
        occupied = np.zeros((200, 300), np.uint8)
        box = (100, 100, 40, 30)
        assert place_label(box, (60, 15), occupied) == (100, 85)
        occupied[60:100] = 255
        assert place_label(box, (60, 15), occupied) == (100, 130)

    @pytest.mark.parametrize(("caption", "text_end"), [("pass", 50), ("pass " * 100, 637)])
    def test_the_caption_is_on_a_dark_band(self, caption: str, text_end: int) -> None:
        values = np.full(SHAPE, np.nan, np.float32)
        image = anomaly_overlay(plain_photo(200), values, threshold=np.inf, caption=caption)
        assert (image[BAND:] == 200).all()
        assert (image[:BAND, text_end:] == 70).all()  # dark to the edge, without text
        assert (image[:BAND, text_end // 2 : text_end] > 240).any()

    def test_the_colour_bar_does_not_hide_an_anomaly(self) -> None:
        values = np.zeros(SHAPE, np.float32)
        image = anomaly_overlay(plain_photo(200), values, threshold=2.0)
        assert (image[-1, [-1, 0], 0] == (70, 200)).all()  # in the lower right corner
        values[330:340, 600:610] = 3
        image = anomaly_overlay(plain_photo(200), values, threshold=2.0)
        assert (image[-1, [-1, 0], 0] == (200, 70)).all()  # in the lower left corner

    @pytest.mark.parametrize("window", [np.s_[:280, :], np.s_[80:, :], np.s_[80:280, 100:500]])
    def test_caption_and_colour_bar_do_not_hide_the_part(self, window: tuple[slice, slice]) -> None:
        values = np.zeros(SHAPE, np.float32)
        values[window] = 0.5
        texts = {"caption": "part.png: pass", "map_label": "anomaly (loss)"}
        image = anomaly_overlay(plain_photo(200), values, threshold=2.0, **texts)
        assert (image[window] == 200).all()
        assert ((image == 70).all(axis=2).sum(axis=1) > 300).any()  # the band is outside the part

    @pytest.mark.parametrize("shape", [(1, 1), (8, 300), (300, 8), (64, 64)])
    def test_small_photographs(self, shape: tuple[int, int]) -> None:
        photo, boxes = plain_photo(50, shape), [LabelledBox(0, 0, shape[1], shape[0], "a label")]
        image = anomaly_overlay(photo, np.full(shape, 9, np.float32), threshold=1.0, boxes=boxes, caption="FAIL")
        assert image.shape == photo.shape
        assert (image != photo).any()

    def test_a_map_of_another_size_is_an_error(self) -> None:
        with pytest.raises(InputError, match=r"use \(H, W, 3\) and \(H, W\)"):
            anomaly_overlay(np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4), np.float32), threshold=1.0)
