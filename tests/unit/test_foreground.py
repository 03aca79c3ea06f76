"""Tests of the foreground mask: against rendered truth, on many plates, and with dust, holes and glare."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from rendered_photographs import cached_component, overlap, rendered_photograph
from scipy import ndimage

from pixal.errors import InputError
from pixal.tasks.photographs.foreground.border import choose_part
from pixal.tasks.photographs.foreground.methods import Foreground, available_methods, find_foreground, model_hash
from pixal.tasks.photographs.settings import RemoveBackground

FRAME = (480, 270)
BORDER = RemoveBackground(method="border")
Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]
Y, X = np.mgrid[: FRAME[1], : FRAME[0]]


def border_mask(image: NDArray[Any]) -> Mask:
    return find_foreground(image, BORDER).mask


def plate(colour: tuple[int, int, int], noise: float = 3.0) -> Floats:
    rng = np.random.default_rng(5)
    return np.asarray(np.array(colour) + noise * rng.standard_normal((FRAME[1], FRAME[0], 3)))


def vignette() -> Floats:
    radius = np.hypot(X - 200, Y - 150) / 320
    light = np.clip(1 - 0.7 * radius**2, 0.05, 1)
    return np.asarray(plate((235, 232, 225)) * light[..., None])


def gradient() -> Floats:
    return plate((0, 0, 0)) + np.linspace(40, 235, FRAME[0])[None, :, None]


def textured() -> Floats:
    grain = cv2.GaussianBlur(np.random.default_rng(6).standard_normal(X.shape), (0, 0), 2)
    return np.asarray(plate((140, 120, 100)) + (12 * grain / grain.std())[..., None])


def grid() -> Floats:
    lines = plate((40, 100, 160))
    lines[::40], lines[:, ::40] = 225, 225
    return lines


def two_coloured() -> Floats:
    halves = plate((190, 190, 190))
    halves[:, :170] = plate((60, 80, 140))[:, :170]
    return halves


PLATES = {
    "white": plate((250, 250, 250)),
    "grey": plate((128, 128, 128)),
    "black": plate((4, 4, 4)),
    "blue": plate((20, 60, 200)),
    "red": plate((200, 30, 30)),
    "pink": plate((230, 180, 220)),
    "gradient": gradient(),
    "vignette": vignette(),
    "textured": textured(),
    "grid": grid(),
    "two colours": two_coloured(),
}


def pixels(image: Floats) -> Image:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def moved(
    plate: Floats, shift: tuple[float, float], turn: float = 0, scale: float = 1, part: str = "front"
) -> tuple[Image, Mask]:
    """Return a photograph of the component on a plate, shifted and turned (degrees), and its mask."""
    image, mask = cached_component(part, FRAME)
    pose = cv2.getRotationMatrix2D((FRAME[0] / 2, FRAME[1] / 2), turn, scale)
    pose[:, 2] += np.array(shift)
    alpha = cv2.warpAffine(mask.astype(np.float64) / mask.max(), pose, FRAME)[..., None]
    part_image = cv2.warpAffine(image, pose, FRAME, borderMode=cv2.BORDER_REPLICATE)
    return pixels(plate * (1 - alpha) + part_image * alpha), alpha[..., 0] > 0.5


@pytest.mark.parametrize("type_name", ["front", "back"])
@pytest.mark.parametrize(("size", "limit"), [((320, 180), 0.97), (FRAME, 0.985), ((960, 540), 0.985)])
def test_the_border_method_finds_the_rendered_part(type_name: str, size: tuple[int, int], limit: float) -> None:
    for seed in range(2):
        photo = rendered_photograph(type_name, seed, size=size)
        foreground = find_foreground(photo.image, BORDER)
        assert overlap(foreground.mask, photo.foreground) > limit
        assert foreground.alpha.dtype == np.uint8
        assert set(np.unique(foreground.alpha)) == {0, 255}
        assert foreground.others == ()


def test_a_torn_off_piece_is_not_in_the_mask() -> None:
    whole, torn = (rendered_photograph("back", 0, *kinds, size=FRAME) for kinds in ((), ("torn_edge",)))
    removed = (whole.foreground > 0) & (torn.foreground == 0)
    assert removed.sum() > 40
    assert border_mask(whole.image)[removed].mean() > 0.8
    assert border_mask(torn.image)[removed].mean() < 0.4


@pytest.mark.parametrize("name", PLATES)
def test_a_part_is_found_on_any_plate(name: str) -> None:
    photo, mask = moved(PLATES[name], (0, 0), 3)
    assert overlap(border_mask(photo), mask) > 0.97


@pytest.mark.parametrize("name", ["white", "grey", "black", "gradient", "vignette", "textured", "two colours"])
@pytest.mark.parametrize(
    ("shift", "turn", "scale"),
    [
        pytest.param((-120, 10), 3, 1, id="left"),
        pytest.param((150, -8), -4, 1, id="right"),
        pytest.param((0, -110), 2, 1, id="top"),
        pytest.param((10, 115), 0, 1, id="bottom"),
        pytest.param((-90, -80), 25, 1, id="corner"),
        pytest.param((5, 0), 90, 1, id="through, upright"),
        pytest.param((0, 10), 2, 1.8, id="through, lying"),
    ],
)
def test_a_part_may_extend_beyond_the_edge(name: str, shift: tuple[float, float], turn: float, scale: float) -> None:
    photo, mask = moved(PLATES[name], shift, turn, scale)
    assert mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any()
    assert overlap(border_mask(photo), mask) > 0.97


@pytest.mark.parametrize("name", ["white", "black", "vignette"])
def test_a_part_without_texture_may_extend_beyond_the_edge(name: str) -> None:
    for rows, columns in (
        (slice(0, 60), slice(80, 400)),
        (slice(100, 180), slice(0, 480)),
        (slice(0, 150), slice(250)),
    ):
        photo, mask = PLATES[name].copy(), np.zeros(X.shape, bool)
        mask[rows, columns] = True
        photo[mask] = plate((60, 90, 150))[mask]
        assert overlap(border_mask(pixels(photo)), mask) > 0.98


@pytest.mark.parametrize("margin", [4, 10])
@pytest.mark.parametrize("name", ["white", "black", "blue"])
def test_a_part_may_fill_almost_the_whole_frame(name: str, margin: int) -> None:
    photo, mask = PLATES[name].copy(), np.zeros(X.shape, bool)
    mask[margin:-margin, margin:-margin] = True
    photo[mask] = np.resize(cached_component("front", FRAME)[0][100:170, 120:360], (*X.shape, 3))[mask]
    assert overlap(border_mask(pixels(photo)), mask) > 0.98


@pytest.mark.parametrize("name", PLATES)
def test_a_plate_with_only_dust_is_an_error(name: str) -> None:
    photo = PLATES[name].copy()
    rng = np.random.default_rng(1)
    for _ in range(20):
        cv2.circle(photo, (int(rng.integers(480)), int(rng.integers(270))), 2, rng.uniform(0, 255, 3).tolist(), -1)
    cv2.line(photo, (30, 200), (300, 40), (200.0, 200.0, 90.0), 1)
    with pytest.raises(InputError, match="no part found: nothing differs"):
        border_mask(pixels(photo))


@pytest.mark.parametrize("name", ["white", "grey", "vignette"])
def test_dust_and_scratches_do_not_change_the_mask(name: str) -> None:
    dirty = PLATES[name].copy()
    rng = np.random.default_rng(2)
    for _ in range(40):
        cv2.circle(dirty, (int(rng.integers(480)), int(rng.integers(270))), 2, rng.uniform(0, 255, 3).tolist(), -1)
    for _ in range(6):
        ends = rng.integers(0, (480, 270), (2, 2))
        cv2.line(dirty, ends[0].tolist(), ends[1].tolist(), rng.uniform(0, 255, 3).tolist(), 1)
    photo, mask = moved(dirty, (0, 0))
    foreground = find_foreground(photo, BORDER)
    assert overlap(foreground.mask, mask) > 0.97
    assert foreground.others == ()


@pytest.mark.parametrize("name", ["white", "grey", "vignette", "red"])
def test_a_hole_that_shows_the_plate_is_background(name: str) -> None:
    photo, mask = moved(PLATES[name], (0, 0))
    for x, y, radius in ((150, 130, 12), (240, 140, 18), (350, 135, 14)):
        hole = np.hypot(X - x, Y - y) < radius
        photo[hole], mask = pixels(PLATES[name])[hole], mask & ~hole
    assert overlap(border_mask(photo), mask) > 0.97


def test_a_frame_around_a_brighter_middle_is_found_with_its_hole() -> None:
    photo, mask = PLATES["vignette"].copy(), np.zeros(X.shape, bool)
    mask[35:240, 100:380] = True
    mask[65:210, 130:350] = False
    photo[mask] = (60, 90, 150)
    assert overlap(border_mask(pixels(photo)), mask) > 0.98


@pytest.mark.parametrize("name", ["white", "grey", "red"])
def test_glare_with_the_colour_of_the_plate_is_not_a_hole(name: str) -> None:
    photo, mask = moved(PLATES[name], (0, 0))
    rng = np.random.default_rng(3)
    for _ in range(15):
        glare = np.hypot(X - rng.integers(110, 370), Y - rng.integers(112, 158)) < rng.uniform(1, 4)
        photo[glare & mask] = pixels(PLATES[name])[glare & mask]
    assert border_mask(photo)[mask].mean() > 0.98


def test_a_covered_hole_belongs_to_the_part() -> None:
    photo, mask = moved(PLATES["white"], (0, 0))
    photo[np.hypot(X - 240, Y - 135) < 20] = (90, 90, 95)
    assert overlap(border_mask(photo), mask) > 0.97


def test_the_largest_central_part_is_chosen_and_others_are_reported() -> None:
    photo, mask = moved(PLATES["grey"], (0, 0), scale=0.9)
    boxes = [(20, 15, 90, 40), (400, 210, 60, 50)]
    for x, y, width, height in boxes:
        photo[y : y + height, x : x + width] = (120, 40, 20)
    foreground = find_foreground(photo, BORDER)
    assert overlap(foreground.mask, mask) > 0.97
    assert np.abs(np.array(foreground.others) - boxes).max() <= 2


def test_a_central_part_is_chosen_over_a_larger_one_in_the_corner() -> None:
    photo = plate((230, 230, 230))
    photo[10:90, 10:120] = (20, 90, 60)  # 8800 pixels, off centre
    photo[100:180, 190:290] = (120, 40, 20)  # 8000 pixels, central
    truth = np.zeros(photo.shape[:2])
    truth[100:180, 190:290] = 1
    assert overlap(border_mask(pixels(photo)), truth) > 0.97


def lit_disc(x: float = 240, y: float = 135, radius: float = 125, stretch: float = 1) -> Floats:
    """Return a plate under a microscope: its light falls off towards the rim, and there is a faint reflection."""
    distance = np.hypot((X - x) / stretch, Y - y)
    light = np.clip((radius - distance) / 3 + 0.5, 0, 1) * (1 - 0.25 * (distance / radius) ** 2)
    light += 0.08 * np.exp(-(((distance - 1.2 * radius) / 2) ** 2))
    return np.asarray(plate((0, 0, 0)) + 3 + light[..., None] * np.array((250, 110, 105)))


DISCS = {
    "whole": (lit_disc(), (0, 0), 0.7),
    "off centre": (lit_disc(170, 120, 110), (-70, -15), 0.55),
    "cut above and below": (lit_disc(radius=165), (0, 0), 0.9),
    "cut below": (lit_disc(250, 160, 140), (10, 40), 0.7),
    "part close to the rim": (lit_disc(radius=160), (0, 0), 1),
    "part over the rim": (lit_disc(radius=130), (20, 0), 0.9),
    "part over the edge": (lit_disc(radius=165), (0, 105), 0.8),
    "stretched": (lit_disc(stretch=1.5), (0, 0), 1),
}


@pytest.mark.parametrize("name", DISCS)
def test_the_part_in_a_lit_disc_is_found(name: str) -> None:
    background, shift, scale = DISCS[name]
    photo, mask = moved(background, shift, 3, scale)
    foreground = find_foreground(photo, BORDER)
    assert overlap(foreground.mask, mask) > 0.97
    assert foreground.others == ()


def test_an_empty_lit_disc_is_an_error() -> None:
    for radius in (150, 200):
        with pytest.raises(InputError, match="no part found"):
            border_mask(pixels(lit_disc(radius=radius)))


@pytest.mark.parametrize("grey", [12, 30, 60])
def test_a_dark_part_in_a_lit_disc_is_not_taken_for_the_surround(grey: int) -> None:
    photo, mask = lit_disc(radius=165), np.zeros(X.shape, bool)
    mask[90:180, 150:330] = True
    photo[mask] = plate((grey, grey, grey))[mask]
    assert overlap(border_mask(pixels(photo)), mask) > 0.98


@pytest.mark.parametrize("hole", [0, 30])
@pytest.mark.parametrize("radius", [60, 90, 120])
def test_a_round_part_on_a_black_plate_is_found(radius: float, hole: float) -> None:
    distance = np.hypot(X - 240, Y - 135)
    mask = (distance < radius) & (distance >= hole)
    photo = np.where(mask[..., None], plate((150, 160, 170)), PLATES["black"])
    photo[60:68, 225:255] = (60, 40, 30)  # print
    assert overlap(border_mask(pixels(photo)), mask) > 0.97


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((180, 320, 3), np.uint8),
        np.full((180, 320, 3), 255, np.uint8),
        np.full((180, 320, 3), (90, 140, 30), np.uint8),
        np.zeros((180, 320, 3), np.uint16),
        pixels(plate((128, 128, 128), noise=2.0)),
        pixels(plate((128, 128, 128), noise=2.0) + 20 * np.outer(np.hanning(270), np.hanning(480))[..., None]),
        np.zeros((8, 8, 3), np.uint8),
        np.full((1, 1, 3), 7, np.uint8),
        np.full((3, 300, 3), 70, np.uint8),
    ],
    ids=[
        "black",
        "white",
        "one colour",
        "black 16-bit",
        "sensor noise",
        "brighter middle",
        "tiny",
        "one pixel",
        "rows",
    ],
)
def test_a_photograph_without_a_part_is_an_error(image: NDArray[Any]) -> None:
    with pytest.raises(InputError, match="no part found"):
        border_mask(image)


def test_a_speck_is_not_a_part() -> None:
    photo = plate((230, 230, 230))
    photo[132:138, 240:246] = (20, 90, 60)
    with pytest.raises(InputError, match="no part found"):
        border_mask(pixels(photo))


@pytest.mark.parametrize("contrast", [12, 20])
def test_a_part_may_be_slightly_darker_than_the_plate(contrast: float) -> None:
    photo, mask = plate((128, 128, 128)), np.zeros(X.shape, bool)
    mask[80:190, 120:360] = True
    photo[mask] -= contrast
    if contrast < 15:  # 5 CIELAB units: as faint as a stain
        with pytest.raises(InputError, match="no part found"):
            border_mask(pixels(photo))
    else:
        assert overlap(border_mask(pixels(photo)), mask) > 0.98


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_alpha_channel_that_removes_pixels_is_used(dtype: type[np.unsignedinteger[Any]]) -> None:
    photo = rendered_photograph("front", 0, size=FRAME)
    top = np.iinfo(dtype).max
    cut = np.zeros(photo.image.shape[:2], dtype)
    cut[40:200, 30:150] = top  # elsewhere than the part
    cut[200:210, 30:150] = top // 3  # a soft edge, mostly background
    rgba = np.dstack([photo.image.astype(dtype) * (top // 255), cut])
    foreground = find_foreground(rgba, BORDER)
    assert np.array_equal(foreground.mask, cut == top)
    assert np.array_equal(foreground.alpha, cut // (top // 255))


def test_an_opaque_alpha_channel_is_ignored() -> None:
    photo = rendered_photograph("front", 0, size=FRAME)
    rgba = np.dstack([photo.image, np.full(photo.image.shape[:2], 255, np.uint8)])
    assert np.array_equal(border_mask(rgba), border_mask(photo.image))


def test_an_alpha_channel_that_removes_everything_is_an_error() -> None:
    rgba = np.dstack([rendered_photograph("front", 0, size=FRAME).image, np.zeros((FRAME[1], FRAME[0]), np.uint8)])
    with pytest.raises(InputError, match="no part found"):
        border_mask(rgba)


def test_a_16_bit_photograph_has_the_mask_of_the_8_bit_one() -> None:
    photo = rendered_photograph("back", 2, size=FRAME).image
    assert np.array_equal(border_mask(photo.astype(np.uint16) * 257), border_mask(photo))


@pytest.mark.parametrize("name", ["grey", "vignette"])
def test_the_mask_turns_and_mirrors_with_the_photograph(name: str) -> None:
    photo, _ = moved(PLATES[name], (-20, 15), 8)
    straight = border_mask(photo)
    for turns in range(4):
        for flip in (1, -1):
            turned = np.rot90(photo[:, ::flip], turns)
            back = np.rot90(border_mask(np.ascontiguousarray(turned)), -turns)[:, ::flip]
            assert overlap(back, straight) > 0.99


def test_the_mask_is_the_same_in_all_threads() -> None:
    photos = [rendered_photograph(name, seed, size=FRAME).image for name in ("front", "back") for seed in range(3)]
    photos.append(moved(*DISCS["cut below"][:2])[0])
    one_by_one = [border_mask(photo) for photo in photos]
    with ThreadPoolExecutor(4) as pool:
        in_threads = list(pool.map(border_mask, photos * 2))
    assert all(np.array_equal(a, b) for a, b in zip(one_by_one * 2, in_threads, strict=True))


def slow_choice(mask: Mask) -> tuple[Mask, list[tuple[int, int, int, int]]]:
    """Choose the part with simple code, one region at a time."""
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    height, width = mask.shape
    regions = []
    for index in range(1, count + 1):
        rows, columns = np.nonzero(labels == index)
        off = (2 * columns.mean() / width - 1) ** 2 + (2 * rows.mean() / height - 1) ** 2
        box = (columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1)
        regions.append((len(rows) * np.exp(-off), len(rows), box, labels == index))
    _, area, _, chosen = max(regions, key=lambda region: region[0])
    others = [region for region in regions if region[3] is not chosen and region[1] > 0.05 * area]
    return chosen, [region[2] for region in sorted(others, key=lambda region: -region[1])]


def test_the_choice_among_parts_equals_that_of_simple_code() -> None:
    rng = np.random.default_rng(4)
    for _ in range(20):
        mask = cv2.GaussianBlur(rng.standard_normal((60, 90)), (0, 0), 4) > 0.05
        alpha, others = choose_part(mask * np.uint8(255))
        chosen, expected = slow_choice(mask)
        assert np.array_equal(alpha, chosen * np.uint8(255))
        assert sorted(others) == sorted(expected)


def test_a_soft_edge_belongs_to_its_part() -> None:
    soft = cv2.GaussianBlur(((X > 100) & (X < 300) & (Y > 80) & (Y < 200)) * 255.0, (0, 0), 4)
    soft += cv2.GaussianBlur(((X > 400) & (X < 450) & (Y > 100) & (Y < 160)) * 255.0, (0, 0), 4)
    alpha, others = choose_part(np.rint(soft).astype(np.uint8))
    assert np.array_equal(alpha[:, :320], np.rint(soft).astype(np.uint8)[:, :320])
    assert not alpha[:, 370:].any()
    assert len(others) == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_with_method_none_the_whole_photograph_is_the_part(dtype: type) -> None:
    none = RemoveBackground(method="none")
    assert available_methods(none) == []
    assert model_hash(none) is None
    photo = np.zeros((6, 8, 4), dtype)
    photo[..., 3] = np.iinfo(dtype).max
    for image in (photo, photo[..., :3]):
        assert find_foreground(image, none).mask.all()
    photo[:2, ..., 3] = 0  # removed by the alpha channel
    assert find_foreground(photo, none).mask.sum() == 32


def test_method_border_needs_no_network() -> None:
    assert available_methods(BORDER) == ["border"]
    assert model_hash(BORDER) is None
    assert Foreground(np.array([[127, 128]], np.uint8)).mask.tolist() == [[False, True]]
