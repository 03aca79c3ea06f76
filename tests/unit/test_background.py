"""The part's mask: against rendered truth, on plates of many colours, and by a small network of the test's own."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pixal.errors import ConfigError, InputError
from pixal.preprocessing import background
from pixal.preprocessing.background import choose_method, find_foreground
from pixal.synthetic import Photograph, draw_component, render_photograph

FRAME = (480, 270)
drawn = functools.cache(draw_component)


def photograph(type_name: str, seed: int, size: tuple[int, int] = FRAME, *kinds: str) -> Photograph:
    return render_photograph(*drawn(type_name, size), kinds, np.random.default_rng(seed), frame_size=size)


def overlap(found: NDArray[np.bool_], truth: NDArray[Any]) -> float:
    return float((found & (truth > 0)).sum() / (found | (truth > 0)).sum())


def plate(colour: tuple[int, int, int], noise: float = 3.0) -> NDArray[np.float64]:
    rng = np.random.default_rng(5)
    return np.array(colour) + noise * rng.standard_normal((FRAME[1], FRAME[0], 3))


def pixels(image: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("type_name", ["front", "back"])
@pytest.mark.parametrize(("size", "least"), [((320, 180), 0.96), (FRAME, 0.985), ((640, 360), 0.98)])
def test_the_border_method_finds_the_rendered_part(type_name: str, size: tuple[int, int], least: float) -> None:
    for seed in range(2):
        photo = photograph(type_name, seed, size)
        assert overlap(find_foreground(photo.image, "border"), photo.foreground) > least


def test_a_torn_off_piece_is_no_part() -> None:
    whole, torn = photograph("back", 1), photograph("back", 1, FRAME, "torn_edge")
    gone = (whole.foreground > 0) & (torn.foreground == 0)
    assert gone.sum() > 40
    assert find_foreground(whole.image, "border")[gone].mean() > 0.8
    assert find_foreground(torn.image, "border")[gone].mean() < 0.4


@pytest.mark.parametrize(
    "colour",
    [(250, 250, 250), (4, 4, 4), (128, 128, 128), (20, 60, 200), (200, 30, 30), (230, 180, 220)],
    ids=["white", "black", "grey", "blue", "red", "pink"],
)
def test_a_plate_may_have_any_colour_that_the_part_has_not(colour: tuple[int, int, int]) -> None:
    image, mask = drawn("front", FRAME)
    photo = pixels(np.where(mask[..., None] > 0, image, plate(colour)))
    assert overlap(find_foreground(photo, "border"), mask) > 0.97


def test_a_plate_may_have_several_colours() -> None:
    image, mask = drawn("front", FRAME)
    stripes = plate((240, 240, 240))
    stripes[:, ::2] = 200
    stripes[:90] = plate((30, 40, 120))[:90]
    photo = pixels(np.where(mask[..., None] > 0, image, stripes))
    assert overlap(find_foreground(photo, "border"), mask) > 0.97


def test_holes_belong_to_the_part() -> None:
    photo = plate((230, 230, 230))
    photo[80:200, 120:360] = (20, 90, 60)
    photo[120:150, 200:260] = plate((230, 230, 230))[120:150, 200:260]
    truth = np.zeros(photo.shape[:2])
    truth[80:200, 120:360] = 1
    assert overlap(find_foreground(pixels(photo), "border"), truth) > 0.98


def test_the_central_region_wins_over_one_at_the_corner() -> None:
    photo = plate((230, 230, 230))
    photo[10:90, 10:120] = (20, 90, 60)  # 8800 pixels, off centre
    photo[100:180, 190:290] = (120, 40, 20)  # 8000 pixels, central
    truth = np.zeros(photo.shape[:2])
    truth[100:180, 190:290] = 1
    assert overlap(find_foreground(pixels(photo), "border"), truth) > 0.97


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
    ],
    ids=["black", "white", "one colour", "black 16-bit", "sensor noise", "brighter in the middle", "tiny"],
)
def test_a_photograph_of_nothing_is_refused(image: NDArray[Any]) -> None:
    with pytest.raises(InputError, match="no part found"):
        find_foreground(image, "border")


def test_a_speck_is_no_part() -> None:
    photo = plate((230, 230, 230))
    photo[132:138, 240:246] = (20, 90, 60)
    with pytest.raises(InputError, match="no part found"):
        find_foreground(pixels(photo), "border")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_alpha_that_cuts_is_kept(dtype: type[np.unsignedinteger[Any]]) -> None:
    photo = photograph("front", 0)
    top = np.iinfo(dtype).max
    cut = np.zeros(photo.image.shape[:2], dtype)
    cut[40:200, 30:150] = top  # not where the part is
    cut[200:210, 30:150] = top // 3  # a soft edge, mostly background
    rgba = np.dstack([photo.image.astype(dtype) * (top // 255), cut])
    assert np.array_equal(find_foreground(rgba, "border"), cut == top)


def test_an_alpha_without_a_cut_says_nothing() -> None:
    photo = photograph("front", 0)
    rgba = np.dstack([photo.image, np.full(photo.image.shape[:2], 255, np.uint8)])
    assert np.array_equal(find_foreground(rgba, "border"), find_foreground(photo.image, "border"))


def test_an_alpha_that_cuts_everything_is_refused() -> None:
    rgba = np.dstack([photograph("front", 0).image, np.zeros((FRAME[1], FRAME[0]), np.uint8)])
    with pytest.raises(InputError, match="no part found"):
        find_foreground(rgba, "border")


def test_sixteen_bits_give_the_mask_of_eight() -> None:
    photo = photograph("back", 2).image
    assert np.array_equal(find_foreground(photo.astype(np.uint16) * 257, "border"), find_foreground(photo, "border"))


def test_the_mask_is_the_same_in_every_thread() -> None:
    photos = [photograph(name, seed).image for name in ("front", "back") for seed in range(3)]
    alone = [find_foreground(photo, "border") for photo in photos]
    cv2.setRNGSeed(99)  # a state that an earlier image may have left
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda photo: find_foreground(photo, "border"), photos * 2))
    assert all(np.array_equal(a, b) for a, b in zip(alone * 2, together, strict=True))


# --- rembg's networks


def _varint(number: int) -> bytes:
    low, rest = number & 127, number >> 7
    return bytes([low | 128]) + _varint(rest) if rest else bytes([low])


def _field(number: int, value: int | bytes | str) -> bytes:
    """A field of a protocol buffer: an integer, or bytes (text, or a message)."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def greenness_network(side: int = 320) -> bytes:
    """An ONNX model in u2net's form, (1, 3, side, side) to (1, 1, side, side): 2 G - R - B, a 1x1 convolution."""
    spread = np.array([0.229, 0.224, 0.225])  # rembg divides the colours by it
    weights = (np.array([-1, 2, -1]) * spread).astype("<f4")

    def port(name: str, channels: int) -> bytes:
        shape = b"".join(_field(1, _field(1, size)) for size in (1, channels, side, side))
        return _field(1, name) + _field(2, _field(1, _field(1, 1) + _field(2, shape)))

    kernel = b"".join(_field(1, size) for size in (1, 3, 1, 1))
    kernel += _field(2, 1) + _field(8, "kernel") + _field(9, weights.tobytes())
    node = _field(1, "picture") + _field(1, "kernel") + _field(2, "mask") + _field(4, "Conv")
    graph = _field(1, node) + _field(2, "greenness") + _field(5, kernel)
    graph += _field(11, port("picture", 3)) + _field(12, port("mask", 1))
    return _field(1, 8) + _field(8, _field(2, 13)) + _field(7, graph)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("U2NET_HOME", str(tmp_path))
    monkeypatch.setenv("MODEL_CHECKSUM_DISABLED", "1")  # older rembg would fetch its own file in place of this one
    background._new_session.cache_clear()
    yield tmp_path
    background._new_session.cache_clear()


def two_parts() -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]:
    """A picture of a large blue and a small green part, and both masks."""
    photo = plate((150, 150, 150))
    blue, green = np.zeros(photo.shape[:2], bool), np.zeros(photo.shape[:2], bool)
    blue[60:220, 60:260], green[100:180, 320:400] = True, True
    photo[blue], photo[green] = (40, 60, 200), (40, 200, 60)
    return pixels(photo), blue, green


@pytest.mark.slow
def test_rembg_cuts_what_its_network_finds(models: Path) -> None:
    (models / "u2net.onnx").write_bytes(greenness_network())
    photo, blue, green = two_parts()
    assert choose_method("auto", "u2net") == choose_method("rembg", "u2net") == "rembg"
    assert overlap(find_foreground(photo, "rembg", "u2net"), green) > 0.97
    assert overlap(find_foreground(photo, "border", "u2net"), blue) > 0.97
    assert np.array_equal(find_foreground(photo.astype(np.uint16) * 257, "rembg"), find_foreground(photo, "rembg"))


@pytest.mark.slow
def test_rembg_loads_its_network_once_for_all_threads(models: Path) -> None:
    (models / "u2net.onnx").write_bytes(greenness_network())
    start = threading.Barrier(6)

    def session(_: int) -> Any:
        start.wait()
        return background._rembg_session("u2net")

    with ThreadPoolExecutor(6) as pool:
        assert len({id(made) for made in pool.map(session, range(6))}) == 1


@pytest.mark.slow
def test_a_network_that_is_damaged_or_unknown_is_refused(models: Path) -> None:
    photo, *_ = two_parts()
    (models / "u2net.onnx").write_bytes(greenness_network()[:100])
    with pytest.raises(ConfigError, match=r"remove_background\.model.*u2net.*damaged"):
        find_foreground(photo, "rembg", "u2net")
    (models / "of_my_own.onnx").write_bytes(greenness_network())
    with pytest.raises(ConfigError, match=r"remove_background\.model.*'of_my_own'"):
        find_foreground(photo, "rembg", "of_my_own")


def test_a_model_file_that_is_not_here_is_never_downloaded(models: Path) -> None:
    assert choose_method("auto", "u2net") == "border"
    with pytest.raises(ConfigError, match=r"needs .*u2net\.onnx, which is not on this machine.*U2NET_HOME.*border"):
        choose_method("rembg", "u2net")
    (models / "u2netp.onnx").write_bytes(b"x")
    assert choose_method("auto", "u2netp") == "rembg"
    assert choose_method("border", "u2netp") == "border"
    assert choose_method("auto", "u2net") == "border"


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({}, "home/.u2net/u2net.onnx"),
        ({}, "home/.rembg/models/u2net/u2net.onnx"),
        ({"REMBG_HOME": "own"}, "own/models/u2net/u2net.onnx"),
        ({"XDG_DATA_HOME": "data"}, "data/.u2net/u2net.onnx"),
        ({"XDG_DATA_HOME": "data"}, "data/rembg/models/u2net/u2net.onnx"),
        ({"U2NET_HOME": "shared"}, "shared/u2net.onnx"),
        ({"U2NET_HOME": "shared"}, "shared/models/u2net/u2net.onnx"),
    ],
)
def test_a_model_file_is_found_where_rembg_puts_it(
    variables: dict[str, str], place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("U2NET_HOME", "REMBG_HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name, folder in variables.items():
        monkeypatch.setenv(name, str(tmp_path / folder))
    assert choose_method("auto", "u2net") == "border"
    file = tmp_path / place
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x")
    assert choose_method("auto", "u2net") == "rembg"
