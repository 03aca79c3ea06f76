"""Tests of ``InputSet``: a model reads exactly what preprocessing writes; other files are refused."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import mapped_bytes
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.inputs import InputSet, InputSetWriter
from pixal.io.arrays import release_pages, save_arrays

SHAPE = (3, 4, 2)


def some_images(count: int, shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random((count, *shape), np.float32)


def write(path: Path, images: NDArray[np.float32], types: tuple[str, ...] = ()) -> Path:
    with InputSetWriter(path, images.shape[1:], ["R", "G"][: images.shape[3]], types) as out:
        for index, image in enumerate(images):
            out.append(image, f"part {index}.png", types[index % len(types)] if types else None)
    return path


@given(
    count=st.integers(0, 5),
    shape=st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 2)),
    types=st.sampled_from([(), ("front",), ("back", "front", "seitlich ä")]),
)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, count: int, shape: tuple[int, int, int], types: tuple[str, ...]
) -> None:
    images = some_images(count, shape)
    path = write(tmp_path_factory.mktemp("npz") / "out.npz", images, types)
    actual = InputSet.load(path)
    assert (len(actual), actual.shape, actual.channels, actual.types) == (count, shape, ("R", "G")[: shape[2]], types)
    assert actual.names == tuple(f"part {index}.png" for index in range(count))
    np.testing.assert_array_equal(actual.images(), images)
    if types:
        assert actual.labels is not None
        assert [types[row.argmax()] for row in actual.labels] == [types[i % len(types)] for i in range(count)]
        np.testing.assert_array_equal(actual.labels.sum(1), np.ones(count))
    else:
        assert actual.labels is None
    with np.load(path, allow_pickle=False) as file:  # what other tools read
        np.testing.assert_array_equal(actual.data, file["data"])
        assert file["data"].dtype == np.float32
        assert file["data"].shape == (count, int(np.prod(shape)))
        assert tuple(file["shape"]) == shape
        assert set(file.files) == {"data", "shape", "channels", "names"} | ({"labels", "types"} if types else set())


def test_targets_are_stored_with_their_rows(tmp_path: Path) -> None:
    images, targets = some_images(4), np.arange(8, dtype=np.float32).reshape(4, 2)
    path = tmp_path / "out.npz"
    with InputSetWriter(path, SHAPE, ["R", "G"]) as out:
        for index, image in enumerate(images):
            out.append(image, f"{index}.png", target=targets[index])
    actual = InputSet.load(path)
    assert actual.targets is not None
    assert actual.targets.dtype == np.float32
    np.testing.assert_array_equal(actual.targets, targets)
    np.testing.assert_array_equal(actual.subset(np.array([3, 1])).targets, targets[[3, 1]])
    assert InputSet.load(write(tmp_path / "none.npz", images)).targets is None


@pytest.mark.parametrize("second", [None, [1.0], [1.0, 2.0, 3.0], [[1.0, 2.0]]])
def test_targets_of_different_shapes_are_an_error(tmp_path: Path, second: Any) -> None:
    image = some_images(1)[0]
    with InputSetWriter(tmp_path / "out.npz", SHAPE, ["R", "G"]) as out:
        out.append(image, "a", target=[0.0, 1.0])
        with pytest.raises(InputError, match=r"^b: target has shape .* expected \(2,\)"):
            out.append(image, "b", target=second)
    with pytest.raises(InputError, match=r"targets have shape \(3, 2\) for 2 rows"):
        InputSet(some_images(2).reshape(2, -1), SHAPE, ("R", "G"), ("a", "b"), targets=np.zeros((3, 2), np.float32))


def test_data_stays_on_disk_and_cannot_be_written(tmp_path: Path) -> None:
    actual = InputSet.load(write(tmp_path / "out.npz", some_images(3)))
    assert isinstance(actual.data, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        actual.data[0] = 0


def test_rows_are_read_by_index_and_by_slices(tmp_path: Path) -> None:
    images = some_images(7)
    values = images.reshape(7, -1)
    for actual in (InputSet.load(write(tmp_path / "out.npz", images)), InputSet(values, SHAPE, ("R", "G"), ("a",) * 7)):
        np.testing.assert_array_equal(actual.images(np.array([5, 1])), images[[5, 1]])
        np.testing.assert_array_equal(
            np.concatenate([actual.images(rows) for rows in actual.iterate_slices(3)]), images
        )
        assert [rows.stop - rows.start for rows in actual.iterate_slices(3)] == [3, 3, 1]
        for rows in (slice(None), slice(2, 6), np.array([5, 1, 1]), np.array([], int)):
            np.testing.assert_array_equal(actual.rows(rows), values[rows])
            np.testing.assert_array_equal(actual.rows(rows, slice(3, 9)), values[rows][:, 3:9])


@pytest.mark.parametrize("on_disk", [True, False])
def test_rows_are_copies(tmp_path: Path, on_disk: bool) -> None:
    images = some_images(3)
    actual = InputSet.load(write(tmp_path / "out.npz", images))
    if not on_disk:
        actual = InputSet(actual.rows(), SHAPE, ("R", "G"), actual.names)
    for rows in (slice(None), slice(0, 1), np.array([1])):
        read = actual.rows(rows)
        read[:] = 7
        assert read.flags.c_contiguous
    np.testing.assert_array_equal(actual.images(), images)


def test_rows_read_from_disk_do_not_stay_in_memory(tmp_path: Path) -> None:
    with InputSetWriter(tmp_path / "out.npz", (500, 1000, 2), ["R", "G"]) as out:
        for name in "abcdef":
            out.append(np.full((500, 1000, 2), 0.5, np.float32), name)
    actual = InputSet.load(tmp_path / "out.npz")
    before = mapped_bytes()
    assert sum(float(actual.rows(rows).mean()) for rows in actual.iterate_slices(1)) == pytest.approx(3)
    assert actual.rows(np.array([4, 2]), slice(0, 500_000)).mean() == 0.5
    assert mapped_bytes() - before < 2**21
    assert float(actual.data.sum()) == pytest.approx(3e6)  # data[rows] keeps all 24 MB
    assert mapped_bytes() - before > 2**24


def test_a_copy_on_write_map_keeps_its_changes(tmp_path: Path) -> None:
    images = some_images(2).reshape(2, -1)
    np.save(tmp_path / "data.npy", images)
    data = np.lib.format.open_memmap(tmp_path / "data.npy", "c")
    data[0] = 3
    actual = InputSet(data, SHAPE, ("R", "G"), ("a", "b"))
    for _ in range(2):
        assert (actual.rows()[0] == 3).all()


def test_pages_written_to_a_map_are_released_and_not_lost(tmp_path: Path) -> None:
    data = np.lib.format.open_memmap(tmp_path / "data.npy", "w+", np.float32, (8, 1_000_000))
    before = mapped_bytes()
    for row in range(8):
        data[row] = row
        release_pages(data)
    assert mapped_bytes() - before < 2**22
    np.testing.assert_array_equal(data[:, 999_999], np.arange(8))
    data.flush()
    np.testing.assert_array_equal(np.load(tmp_path / "data.npy")[:, 0], np.arange(8))
    release_pages(np.zeros(3))  # does nothing for an array in memory


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    first = write(tmp_path / "a.npz", some_images(3)).read_bytes()
    assert write(tmp_path / "b.npz", some_images(3)).read_bytes() == first
    changed = some_images(3)
    changed[2, 1, 1, 0] += 1e-6
    assert write(tmp_path / "c.npz", changed).read_bytes() != first
    for name in ("d", "e"):
        save_arrays(tmp_path / f"{name}.npz", x=some_images(1), y=np.array(["a"]))
    assert (tmp_path / "d.npz").read_bytes() == (tmp_path / "e.npz").read_bytes()
    with np.load(tmp_path / "d.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["x"], some_images(1))


def test_an_error_while_writing_leaves_no_file(tmp_path: Path) -> None:
    old = write(tmp_path / "out.npz", some_images(2)).read_bytes()
    with (
        pytest.raises(InputError, match=r"b\.png: input has shape \(1, 4, 2\), expected \(3, 4, 2\)"),
        InputSetWriter(tmp_path / "out.npz", SHAPE, ["R", "G"]) as out,
    ):
        out.append(some_images(1)[0][:1], "b.png")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("out.npz", old)]


def test_arrays_in_any_memory_layout_are_written(tmp_path: Path) -> None:
    image = np.asfortranarray(some_images(1)[0])
    with InputSetWriter(tmp_path / "out.npz", SHAPE, ["R", "G"]) as out:
        out.append(image, "a.png")
        out.append(image[::-1, ::-1], "b.png")
    actual = InputSet.load(tmp_path / "out.npz").images()
    np.testing.assert_array_equal(actual, np.stack([image, image[::-1, ::-1]]))


CONTENT: dict[str, Any] = {
    "data": some_images(2).reshape(2, -1),
    "shape": np.array(SHAPE),
    "channels": np.array(["R", "G"]),
    "names": np.array(["a.png", "b.png"]),
}


@pytest.mark.parametrize("how", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("layout", ["C", "F", "float64"])
def test_files_of_other_tools_load(tmp_path: Path, how: Any, layout: str) -> None:
    data = CONTENT["data"]
    data = data.astype(np.float64) if layout == "float64" else np.asarray(data, order=layout)  # type: ignore[call-overload]
    how(tmp_path / "out.npz", **CONTENT | {"data": data})
    actual = InputSet.load(tmp_path / "out.npz")
    assert actual.data.dtype == np.float32
    np.testing.assert_array_equal(actual.data, CONTENT["data"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"data": None}, "has no data"),
        ({"names": None, "shape": None}, "has no names, shape"),
        ({"shape": np.array([3, 4, 3])}, "needs (N, 36)"),
        ({"shape": np.array([3, 4])}, ""),
        ({"shape": np.array("three")}, ""),
        ({"data": np.zeros(24, np.float32)}, ""),
        ({"data": np.array(["a", "b"])}, ""),
        ({"channels": np.array(["R"])}, "2 channels with 1 names"),
        ({"channels": np.array("R")}, ""),
        ({"names": np.array(["a.png"])}, "2 rows with 1 names"),
        ({"labels": np.eye(2, dtype=np.float32)}, "labels have shape"),
        ({"labels": np.eye(3, dtype=np.float32), "types": np.array(["a", "b", "c"])}, "labels have shape"),
        ({"labels": np.ones(2, np.float32), "types": np.array(["a", "b"])}, "labels have shape"),
        ({"names": np.array([{"a": 1}, None])}, "damaged or not an .npz"),
    ],
)
def test_a_file_of_another_tool_is_refused_by_name(tmp_path: Path, change: dict[str, Any], reason: str) -> None:
    arrays = {name: array for name, array in (CONTENT | change).items() if array is not None}
    np.savez(tmp_path / "out.npz", **arrays, allow_pickle=True)
    with pytest.raises(InputError) as caught:
        InputSet.load(tmp_path / "out.npz")
    assert str(caught.value).startswith(f"{tmp_path / 'out.npz'}: ")
    assert str(caught.value).count(str(tmp_path)) == 1
    assert reason in str(caught.value)


def test_a_file_that_is_not_an_archive_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", CONTENT["data"])
    (tmp_path / "text").write_text("hello")
    (tmp_path / "empty").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("data", b"no array")
        for name in ("shape", "channels", "names"):
            archive.writestr(f"{name}.npy", b"no array either")
    for name in ("array.npy", "text", "empty", "zip", "."):
        with pytest.raises(InputError, match=r"damaged|has no"):
            InputSet.load(tmp_path / name)


@pytest.mark.parametrize("name", ["data", "names", "other"])
def test_an_archive_that_would_fill_the_memory_is_refused_before_it_is_unpacked(tmp_path: Path, name: str) -> None:
    """100 MB of zeros take 100 kB in the file."""
    bomb = {"data": np.zeros((2, 12_500_000), np.float32), "names": np.zeros((2, 50_000_000), "S1")}
    np.savez_compressed(tmp_path / "out.npz", **CONTENT | {name: bomb.get(name, bomb["data"])})
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="headers declare 100 MB"):
            InputSet.load(tmp_path / "out.npz")
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["data", "names"])
@pytest.mark.parametrize("how", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_array_whose_header_promises_more_than_the_file_holds_takes_no_memory(
    tmp_path: Path, name: str, how: int
) -> None:
    np.savez(tmp_path / "whole.npz", **CONTENT)
    with (
        zipfile.ZipFile(tmp_path / "whole.npz") as source,
        zipfile.ZipFile(tmp_path / "out.npz", "w", how) as target,
    ):
        for member in source.namelist():
            content = io.BytesIO(source.read(member))
            if member == f"{name}.npy":
                content = io.BytesIO()
                header = {"descr": "<f8", "fortran_order": False, "shape": (2, 1 << 35)}  # 550 GB
                npy_format.write_array_header_1_0(content, header)
            target.writestr(member, content.getvalue())
    with pytest.raises(InputError, match=f"{name}.npy has 128 bytes, but its header says 549755814016"):
        InputSet.load(tmp_path / "out.npz")


def test_a_missing_file_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"out\.npz does not exist; run preprocess"):
        InputSet.load(tmp_path / "out.npz")


@pytest.mark.parametrize("how", ["pixal", "compressed"])
@given(share=st.floats(0, 0.999))
def test_a_truncated_file_is_refused(tmp_path_factory: pytest.TempPathFactory, how: str, share: float) -> None:
    path = tmp_path_factory.mktemp("cut") / "out.npz"
    if how == "pixal":
        write(path, some_images(2))
    else:
        np.savez_compressed(path, **CONTENT)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match=r"out\.npz: "):
        InputSet.load(path)


@pytest.mark.parametrize("how", ["pixal", "compressed"])
@given(place=st.floats(0, 0.9999), flip=st.integers(1, 255))
def test_a_damaged_byte_raises_only_input_errors(
    tmp_path_factory: pytest.TempPathFactory, how: str, place: float, flip: int
) -> None:
    path = tmp_path_factory.mktemp("flip") / "out.npz"
    if how == "pixal":
        write(path, some_images(2), ("back", "front"))
    else:
        np.savez_compressed(path, **CONTENT)
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= flip
    path.write_bytes(data)
    try:
        actual = InputSet.load(path)
    except InputError:
        return
    assert actual.data.shape == (len(actual.names), int(np.prod(actual.shape)))


def test_subset_and_rows_of_type_match_numpy() -> None:
    data = np.arange(30, dtype=np.float32).reshape(5, 6)
    labels = np.eye(2, dtype=np.float32)[[1, 0, 1, 1, 0]]
    actual = InputSet(data, (1, 3, 2), ("R", "G"), tuple("abcde"), labels, ("back", "front"))
    for rows in (np.array([3, 0]), slice(1, 4), slice(0, 0)):
        some = actual.subset(rows)
        np.testing.assert_array_equal(some.data, data[rows])
        np.testing.assert_array_equal(some.labels, labels[rows])
        assert list(some.names) == np.array(list("abcde"))[rows].tolist()
        assert (some.shape, some.channels, some.types) == (actual.shape, actual.channels, actual.types)
    assert [actual.rows_of_type(index).tolist() for index in (0, 1)] == [[1, 4], [0, 2, 3]]
    assert InputSet(data, (1, 3, 2), ("R", "G"), tuple("abcde")).rows_of_type(0).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("side", "several"), [(10, 16), (2500, 10), (9000, 1)])
def test_chunks_of_large_images_have_fewer_rows(side: int, several: int) -> None:
    data = np.broadcast_to(np.float32(0), (40, side * side))  # takes no memory
    actual = InputSet(data, (side, side, 1), ("R",), tuple(map(str, range(40))))
    assert actual.rows_per_chunk() == several
    assert actual.rows_per_chunk(4) == min(4, several)
    rows = np.arange(5, 38)
    parts = list(actual.iterate_chunks(rows))
    np.testing.assert_array_equal(np.concatenate(parts), rows)
    assert {len(part) for part in parts[:-1]} == {several}
    assert list(actual.iterate_chunks(rows[:0])) == []
