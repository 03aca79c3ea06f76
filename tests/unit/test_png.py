"""Tests of ``encode_png``: other libraries read the same image, and the file is valid."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.io.images import decode_image, with_alpha
from pixal.io.png import decode_own_png, encode_png


def noisy(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    top = np.iinfo(dtype).max
    return np.random.default_rng(3).integers(0, top, shape, dtype=dtype, endpoint=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (7, 1), (1, 9), (31, 44)])
def test_opencv_and_pillow_read_what_was_written(dtype: Any, channels: int, size: tuple[int, int]) -> None:
    image = noisy(size if channels == 1 else (*size, channels), dtype)
    data = encode_png(image)
    read = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if channels > 1:
        read = cv2.cvtColor(read, {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}[channels])
    np.testing.assert_array_equal(read, image)
    with PIL.Image.open(io.BytesIO(data)) as file:
        file.load()  # verifies the checksum of every chunk
        assert file.size == (size[1], size[0])
        if dtype == np.uint8:
            np.testing.assert_array_equal(np.asarray(file), image)
    own = decode_own_png(data)
    assert own is not None
    assert own.dtype == dtype
    np.testing.assert_array_equal(own, image)


def test_only_what_this_program_wrote_is_decoded_without_opencv() -> None:
    image = noisy((30, 40, 3), np.uint8)
    data = encode_png(image, fingerprint="of a figure")
    np.testing.assert_array_equal(decode_own_png(data), image)
    assert decode_own_png(cv2.imencode(".png", image)[1].tobytes()) is None
    assert decode_own_png(data[:-20]) is None
    for position in range(16, len(data) - 12, 97):
        damaged = bytearray(data)
        damaged[position] ^= 16
        assert decode_own_png(bytes(damaged)) is None, position


def test_an_image_that_is_not_contiguous_is_encoded() -> None:
    image = noisy((20, 30, 3), np.uint8)[::-1, ::2]
    np.testing.assert_array_equal(decode_image(encode_png(image)), image)


def test_many_threads_write_the_same_bytes() -> None:
    images = [cv2.GaussianBlur(noisy((90, 160, 3), np.uint8), (0, 0), 1 + sigma) for sigma in range(5)]
    expected = [encode_png(image) for image in images]
    with ThreadPoolExecutor(6) as pool:
        written = list(pool.map(encode_png, images * 40))
    assert written == expected * 40


def test_the_file_is_hardly_larger_than_that_of_opencv() -> None:
    smooth = cv2.GaussianBlur(noisy((200, 300, 3), np.uint8), (0, 0), 4)
    image = np.clip(smooth.astype(int) + np.random.default_rng(1).normal(0, 1.5, smooth.shape), 0, 255).astype(np.uint8)
    options = [cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_SUB]
    ratio = len(encode_png(image)) / len(cv2.imencode(".png", image, options)[1])
    assert ratio < 1.3


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_alpha_has_the_range_of_the_image_type(dtype: Any) -> None:
    image = noisy((4, 5, 3), dtype)
    mask = np.zeros((4, 5), bool)
    mask[1:3] = True
    rgba = with_alpha(image, mask)
    assert rgba.dtype == dtype
    np.testing.assert_array_equal(rgba[..., :3], image)
    np.testing.assert_array_equal(rgba[..., 3], np.where(mask, np.iinfo(dtype).max, 0))
    soft = np.arange(20, dtype=np.uint8).reshape(4, 5) * 13
    np.testing.assert_array_equal(with_alpha(image, soft)[..., 3], soft.astype(int) * (np.iinfo(dtype).max // 255))


@pytest.mark.parametrize("length", [1, 2**16, 2**31 - 1, 2**32 - 1])
def test_a_chunk_that_is_longer_than_the_file_is_refused_before_it_is_decoded(
    length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenCV takes as much memory as the chunk says, up to 4 GB."""
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    data = encode_png(noisy((8, 8, 3), np.uint8))
    start = data.index(b"IDAT") - 4
    longer = int.from_bytes(data[start : start + 4], "big") + length
    if longer < 2**32:
        with pytest.raises(InputError, match="is truncated"):
            decode_image(data[:start] + longer.to_bytes(4, "big") + data[start + 4 :])
    with pytest.raises(InputError, match="is truncated"):
        decode_image(data[:-12] + length.to_bytes(4, "big") + b"teXt" + data[-12:])


def test_data_after_the_end_are_ignored() -> None:
    image = noisy((8, 8, 3), np.uint8)
    np.testing.assert_array_equal(decode_image(encode_png(image) + b"of a camera" * 20), image)
