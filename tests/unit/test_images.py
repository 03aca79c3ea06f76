"""Tests of reading all kinds of image files, and of writing files atomically."""

from __future__ import annotations

import io
import pickle
import resource
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
import tifffile
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.io.files import atomic_write, write_bytes
from pixal.io.images import SizeError, as_uint8, decode_image, read_image, read_mask, write_image
from pixal.tasks.photographs.discovery import list_photographs

pytestmark = pytest.mark.figures

RNG = np.random.default_rng(0)
RGBA = RNG.integers(0, 256, (6, 9, 4), np.uint8)
RGBA16 = RNG.integers(0, 2**16, (6, 9, 4), np.uint16)


def as_rgb(values: NDArray[Any]) -> NDArray[Any]:
    """The image that PIXAL reads from grey (1 channel), grey and alpha (2), RGB (3) or RGBA (4)."""
    if values.ndim == 2:
        return np.dstack([values] * 3)
    return np.dstack([values[..., :1]] * 3 + [values[..., 1:]]) if values.shape[2] == 2 else values


MODES = {"L": RGBA[..., 0], "LA": RGBA[..., 2:], "RGB": RGBA[..., :3], "RGBA": RGBA}
LOSSLESS = [
    *[(mode, ext) for mode in MODES for ext in (".png", ".tif", ".webp")],
    ("L", ".bmp"),
    ("RGB", ".bmp"),
]


class TestReading:
    @pytest.mark.parametrize(("mode", "extension"), LOSSLESS)
    def test_8_bit(self, tmp_path: Path, mode: str, extension: str) -> None:
        path = tmp_path / f"a{extension}"
        options: dict[str, Any] = {"lossless": True, "exact": True} if extension == ".webp" else {}
        PIL.Image.fromarray(MODES[mode]).save(path, **options)
        np.testing.assert_array_equal(read_image(path), as_rgb(MODES[mode]))

    @pytest.mark.parametrize("extension", [".png", ".tif"])
    @pytest.mark.parametrize("values", [RGBA16[..., 0], RGBA16[..., :3], RGBA16], ids=["grey", "RGB", "RGBA"])
    def test_16_bit(self, tmp_path: Path, extension: str, values: NDArray[np.uint16]) -> None:
        order = {2: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[values.ndim if values.ndim == 2 else values.shape[2]]
        bgr = values if values.ndim == 2 else np.ascontiguousarray(values[..., order])
        assert cv2.imwrite(str(tmp_path / f"a{extension}"), bgr)
        actual = read_image(tmp_path / f"a{extension}")
        assert actual.dtype == np.uint16
        np.testing.assert_array_equal(actual, as_rgb(values))
        np.testing.assert_array_equal(as_uint8(actual), as_rgb(values) // 256)

    def test_palettes_transparency_and_binary_images(self, tmp_path: Path) -> None:
        paletted = PIL.Image.fromarray(RGBA[..., :3]).quantize(8)
        cases: tuple[tuple[str, PIL.Image.Image, dict[str, Any]], ...] = (
            ("palette", paletted, {}),
            ("transparent", paletted, {"transparency": 3}),
            ("bits", PIL.Image.fromarray(RGBA[..., 0] > 99), {}),
        )
        for name, image, options in cases:
            image.save(tmp_path / f"{name}.png", **options)
            expected = np.asarray(image.convert("RGB"))
            if options:
                alpha = np.where(np.asarray(paletted) == 3, 0, 255).astype(np.uint8)
                expected = np.dstack([expected, alpha])
            np.testing.assert_array_equal(read_image(tmp_path / f"{name}.png"), expected)

    @pytest.mark.parametrize("orientation", range(1, 9))
    @pytest.mark.parametrize(
        ("mode", "extension"),
        [("RGB", ".jpg"), *[(mode, ext) for mode in ("RGB", "RGBA") for ext in (".png", ".webp", ".tif")]],
    )
    def test_the_exif_orientation_is_applied(self, tmp_path: Path, orientation: int, mode: str, extension: str) -> None:
        # JPEG preserves four flat colours, one per quarter. The upright image has them in this order.
        upright = np.kron(np.array([[0, 80], [160, 240]], np.uint8), np.ones((16, 24), np.uint8))
        pixels = np.dstack([upright, 255 - upright, upright // 2, np.full_like(upright, 200)])[..., : len(mode)]
        # The inverse of what a viewer does for each value (EXIF 2.32, tag 0x0112).
        stored = {
            1: pixels,
            2: pixels[:, ::-1],
            3: pixels[::-1, ::-1],
            4: pixels[::-1],
            5: pixels.swapaxes(0, 1),
            6: np.rot90(pixels, 1),
            7: pixels[::-1, ::-1].swapaxes(0, 1),
            8: np.rot90(pixels, -1),
        }[orientation]
        image = PIL.Image.fromarray(np.ascontiguousarray(stored))
        exif = image.getexif()
        exif[0x0112] = orientation
        choices: dict[str, dict[str, Any]] = {".jpg": {"quality": 95, "subsampling": 0}, ".webp": {"lossless": True}}
        options = choices.get(extension, {})
        image.save(tmp_path / f"a{extension}", exif=exif, **options)
        actual = read_image(tmp_path / f"a{extension}")
        assert actual.shape == pixels.shape
        assert np.abs(actual.astype(int) - pixels).max() <= (6 if extension == ".jpg" else 0)

    @pytest.mark.parametrize("orientation", [1, 2, 6, 7])
    def test_orientation_of_16_bit_tiff_with_alpha(self, tmp_path: Path, orientation: int) -> None:
        for channels in (3, 4):
            extra = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
            tag = [(274, 3, 1, orientation, True)]
            tifffile.imwrite(tmp_path / "a.tif", RGBA16[..., :channels], photometric="rgb", extratags=tag, **extra)
            stored = RGBA16[..., :channels]
            expected = {1: stored, 2: stored[:, ::-1], 6: np.rot90(stored, -1), 7: np.rot90(stored[:, ::-1], -1)}
            np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), expected[orientation])

    @pytest.mark.parametrize("share", [0.05, 0.5, 0.9, 0.99])
    @pytest.mark.parametrize("extension", [".jpg", ".png", ".webp", ".bmp", ".tif"])
    def test_a_truncated_file_is_refused(self, tmp_path: Path, extension: str, share: float) -> None:
        path = tmp_path / f"a{extension}"
        PIL.Image.fromarray(RNG.integers(0, 256, (120, 160, 3), np.uint8)).save(path)
        data = path.read_bytes()
        assert read_image(path).shape == (120, 160, 3)
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(InputError, match=r"truncated|damaged"):
            read_image(path)

    def test_a_jpeg_with_bytes_after_its_end_is_complete(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jpg"
        PIL.Image.fromarray(RGBA[..., :3]).save(path)
        expected = read_image(path)
        path.write_bytes(path.read_bytes() + b"maker notes" * 99)
        np.testing.assert_array_equal(read_image(path), expected)

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", "the file is empty"),
            (b"just some text\n", "is not an image"),
            (b"\xff\xd8 no JPEG after all \xff\xd9", "is not an image"),
            (b"\x89PNG\r\n\x1a\n and no more IEND\xaeB`\x82", "is truncated"),
            (b"GIF89a\x01\x00\x01\x00\x80\0\0\0\0\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;", "is not an image"),
        ],
    )
    def test_a_file_that_is_not_an_image_is_refused(self, tmp_path: Path, data: bytes, reason: str) -> None:
        (tmp_path / "a.jpg").write_bytes(data)
        with pytest.raises(InputError, match=reason):
            read_image(tmp_path / "a.jpg")

    def test_a_missing_file_and_a_folder_are_refused(self, tmp_path: Path) -> None:
        for path in (tmp_path / "a.png", tmp_path):
            with pytest.raises(InputError, match="cannot be read"):
                read_image(path)

    def test_floating_point_pixels_are_refused(self, tmp_path: Path) -> None:
        tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 4, 3), np.float32), photometric="rgb")
        with pytest.raises(InputError, match=r"float32|not an image"):
            read_image(tmp_path / "a.tif")

    def test_a_decompression_bomb_is_refused_before_decoding(self, tmp_path: Path) -> None:
        def chunk(kind: bytes, data: bytes) -> bytes:
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

        header = chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0))
        body = chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
        (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + body)
        with pytest.raises(InputError, match="too large"):
            read_image(tmp_path / "bomb.png")

    def test_a_large_image_is_refused_before_decoding(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def chunk(kind: bytes, data: bytes) -> bytes:
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

        header = chunk(b"IHDR", struct.pack(">IIBBBBB", 13_300, 13_300, 16, 6, 0, 0, 0))  # 16-bit RGBA: 1.4 GB
        body = chunk(b"IDAT", zlib.compress(bytes(1_000_000))) + chunk(b"IEND", b"")
        (tmp_path / "large.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + body)
        monkeypatch.setattr(cv2, "imdecode", None)
        with pytest.raises(InputError, match=r"13300x13300 pixels are 1415 MB when decoded, the limit is 400 MB"):
            read_image(tmp_path / "large.png")

    @pytest.mark.parametrize("extension", [".png", ".tif", ".jpg", ".bmp", ".webp"])
    def test_another_size_is_refused_before_decoding(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extension: str
    ) -> None:
        PIL.Image.fromarray(RGBA[..., :3]).save(tmp_path / f"a{extension}")
        data = (tmp_path / f"a{extension}").read_bytes()
        for size in ((6, 9), (9, 6)):  # the second one may be turned by its EXIF orientation
            assert decode_image(data, size=size).shape == (6, 9, 3)
        monkeypatch.setattr(cv2, "imdecode", None)
        with pytest.raises(SizeError, match="is 9x6, the reference is 8x6 pixels") as caught:
            decode_image(data, size=(6, 8))
        assert caught.value.size == (6, 9)
        assert pickle.loads(pickle.dumps(caught.value)).size == (6, 9)  # errors of processes are pickled

    def test_a_mask_is_true_where_it_is_bright(self, tmp_path: Path) -> None:
        for dtype, top in ((np.uint8, 255), (np.uint16, 65535)):
            values = np.array([[0, top // 2, top // 2 + 1, top]], dtype)
            cv2.imwrite(str(tmp_path / "m.png"), values)
            assert read_mask(tmp_path / "m.png").tolist() == [[False, False, True, True]]


def photograph(noise: float) -> NDArray[np.uint8]:
    """A photograph of 300x200 pixels; without noise it is compressed much."""
    y, x = np.mgrid[0:200, 0:300]
    colours = np.dstack([x / 2, y, (x + y) / 3]) + np.random.default_rng(0).normal(0, noise, (200, 300, 3))
    return np.clip(colours, 0, 255).astype(np.uint8)


class TestDamagedTiff:
    @pytest.mark.parametrize("compression", [8, 5], ids=["deflate", "LZW"])
    @pytest.mark.parametrize("bits", [8, 16])
    @pytest.mark.parametrize("noise", [0.0, 4.0])
    def test_no_hole_is_believed(self, tmp_path: Path, compression: int, bits: int, noise: float) -> None:
        path, values = tmp_path / "a.tif", photograph(noise)
        if bits == 8:
            PIL.Image.fromarray(values).save(path, compression={8: "tiff_adobe_deflate", 5: "tiff_lzw"}[compression])
        else:
            cv2.imwrite(str(path), values.astype(np.uint16) * 257, [cv2.IMWRITE_TIFF_COMPRESSION, compression])
        data = path.read_bytes()
        expected = decode_image(data)
        with tifffile.TiffFile(path) as file:
            page = file.pages.first
            start, end = min(page.dataoffsets), max(page.dataoffsets) + page.databytecounts[-1]
        size = min(2048, (end - start) // 3)
        generator = np.random.default_rng(1)
        for _ in range(40):
            hole = int(generator.integers(start, end - size))
            damaged = data[:hole] + bytes(size) + data[hole + size :]
            try:
                found = decode_image(damaged)
            except InputError as error:
                assert "damaged" in str(error)  # noqa: PT017  # the hole may also be where all bytes are 0
            else:
                np.testing.assert_array_equal(found, expected)

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"compression": "zlib"},
            {"compression": "zlib", "predictor": True},
            {"compression": "zlib", "tile": (64, 64)},
            {"compression": "zlib", "planarconfig": "separate"},
            {"compression": "zlib", "rowsperstrip": 7},
            {"rowsperstrip": 7},
            {"tile": (64, 64)},
            {"byteorder": ">", "compression": "zlib"},
            {"bigtiff": True},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    def test_all_layouts_are_read(self, tmp_path: Path, options: dict[str, Any], dtype: type[Any]) -> None:
        values = photograph(4).astype(dtype)
        planes = np.moveaxis(values, 2, 0) if "planarconfig" in options else values
        tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", **options)
        if "planarconfig" in options and dtype is np.uint16:  # OpenCV would mix the planes up
            with pytest.raises(InputError, match="a plane of its own"):
                read_image(tmp_path / "a.tif")
        else:
            np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), values)

    @pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits", "raw"])
    @pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
    def test_all_modes_of_pillow_are_read(self, compression: str, mode: str) -> None:
        image = PIL.Image.fromarray(photograph(4)).convert(mode)
        stream = io.BytesIO()
        image.save(stream, "TIFF", compression=compression)
        found = decode_image(stream.getvalue())
        np.testing.assert_array_equal(found, np.asarray(image.convert("RGBA" if mode == "RGBA" else "RGB")))


def fail_while_writing(path: Path, error: BaseException) -> None:
    with atomic_write(path) as temporary:
        temporary.write_bytes(b"half")
        raise error


class TestWriting:
    @pytest.mark.parametrize("values", [RGBA[..., 0], RGBA[..., :3], RGBA, RGBA16, RGBA16[..., :3]])
    def test_png_round_trip(self, tmp_path: Path, values: NDArray[Any]) -> None:
        write_image(tmp_path / "new" / "a.png", values)
        np.testing.assert_array_equal(read_image(tmp_path / "new" / "a.png"), as_rgb(values))

    def test_a_failure_leaves_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(ZeroDivisionError):
            fail_while_writing(tmp_path / "a.bin", ZeroDivisionError())
        assert list(tmp_path.iterdir()) == []

    def test_a_failure_leaves_the_old_file(self, tmp_path: Path) -> None:
        write_bytes(tmp_path / "a.bin", b"old")
        with pytest.raises(KeyboardInterrupt):
            fail_while_writing(tmp_path / "a.bin", KeyboardInterrupt())
        assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.bin", b"old")]

    def test_the_old_file_stays_until_the_block_ends(self, tmp_path: Path) -> None:
        write_bytes(tmp_path / "a.png", b"old")
        with atomic_write(tmp_path / "a.png") as temporary:
            assert (temporary.parent, temporary.suffix) == (tmp_path, ".png")
            temporary.write_bytes(b"new")
            assert (tmp_path / "a.png").read_bytes() == b"old"
        assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.png", b"new")]

    def test_a_temporary_file_is_not_listed_as_a_photograph(self, tmp_path: Path) -> None:
        write_image(tmp_path / "a.png", RGBA)
        with atomic_write(tmp_path / "b.png") as temporary:
            temporary.write_bytes(b"half")
            assert [photo.image for photo in list_photographs(tmp_path)[tmp_path.name]] == ["a.png"]
            temporary.write_bytes((tmp_path / "a.png").read_bytes())
        assert [photo.image for photo in list_photographs(tmp_path)[tmp_path.name]] == ["a.png", "b.png"]

    @pytest.mark.parametrize("write", [write_bytes, write_image], ids=["bytes", "image"])
    def test_a_path_that_cannot_be_written_is_an_error(self, tmp_path: Path, write: Callable[..., None]) -> None:
        (tmp_path / "a.png").mkdir()
        (tmp_path / "a.png" / "inside").write_bytes(b"")
        with pytest.raises(OSError, match=r"a\.png"):
            write(tmp_path / "a.png", b"x" if write is write_bytes else RGBA)
        assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


class TestDamage:
    """Files that OpenCV reads in part, or with much memory, are refused."""

    def test_a_png_whose_chunk_states_more_bytes_than_there_are(self) -> None:
        data = bytearray(encoded(".png"))
        data[33:37] = b"\xff\xff\xff\xff"  # OpenCV would reserve 4 GB
        start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(InputError, match="truncated"):
            decode_image(bytes(data))
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - start < 100_000  # kB

    def test_a_png_that_cannot_hold_the_size_in_its_header(self) -> None:
        data = bytearray(encoded(".png"))
        data[16:24] = struct.pack(">II", 8000, 8000)
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
        with pytest.raises(InputError, match="cannot hold 8000x8000 pixels"):
            decode_image(bytes(data))

    def test_a_jpeg_that_pillow_cannot_decode_completely(self) -> None:
        whole = encoded(".jpg", np.tile(RGBA[..., :3], (8, 6, 1)))
        rng = np.random.default_rng(0)
        believed = 0
        for _ in range(300):
            data = bytearray(whole)
            data[int(rng.integers(600, len(data)))] = int(rng.choice([0xC4, 0xD8, 0xFF]))
            try:
                expected = read_image_of(bytes(data))
            except OSError:
                believed += cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) is not None
                with pytest.raises(InputError, match=r"damaged|truncated"):
                    decode_image(bytes(data))
            else:
                np.testing.assert_array_equal(decode_image(bytes(data)), expected)
        assert believed > 0  # by OpenCV alone

    def test_a_webp_whose_pixels_end_early(self) -> None:
        whole = encoded(".webp", np.tile(RGBA[..., :3], (20, 20, 1)))
        data = bytearray(whole[: len(whole) // 2])
        data[4:8] = struct.pack("<I", len(data) - 8)
        with pytest.raises(InputError, match="damaged"):
            decode_image(bytes(data))

    def test_a_packbits_tiff_with_a_hole(self) -> None:
        data = bytearray(encoded(".tif", np.zeros((200, 200), np.uint8), compression="packbits"))
        data[100:200] = b"\x80" * 100  # codes that stand for nothing
        with pytest.raises(InputError, match="damaged"):
            decode_image(bytes(data))

    @pytest.mark.parametrize(
        ("tag", "value", "reason"),
        [(259, 255, "TIFF compression 255"), (277, 1, "1 channels in the TIFF colour space RGB")],
    )
    def test_a_tiff_that_opencv_would_misread(self, tag: int, value: int, reason: str) -> None:
        data = bytearray(encoded(".tif", RGBA[..., :3]))
        place = data.index(struct.pack("<HHI", tag, 3, 1))
        data[place + 8 : place + 10] = struct.pack("<H", value)
        with pytest.raises(InputError, match=reason):
            decode_image(bytes(data))

    def test_damaged_exif_data_do_not_matter(self) -> None:
        exif = PIL.Image.Exif()
        exif[0x0112] = 6
        whole = encoded(".jpg", RGBA[..., :3], exif=exif)
        damaged = whole.replace(b"II*\x00", b"II*\xff").replace(b"MM\x00*", b"MM\xff*")
        assert damaged != whole
        assert decode_image(damaged).shape == (6, 9, 3)
        assert decode_image(whole).shape == (9, 6, 3)


def encoded(suffix: str, image: NDArray[np.uint8] = RGBA[..., :3], **options: Any) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(image).save(file, PIL.Image.registered_extensions()[suffix], **options)
    return file.getvalue()


def read_image_of(data: bytes) -> NDArray[Any]:
    with PIL.Image.open(io.BytesIO(data)) as file:
        return np.asarray(file)
