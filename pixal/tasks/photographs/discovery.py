"""Find the photographs of a batch and their types."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pixal.errors import InputError
from pixal.io.files import file_stat
from pixal.io.images import read_image_bytes
from pixal.io.names import as_utf8, comparable, is_utf8, printable
from pixal.tasks.photographs.mvtec import DataSetFolder, find_data_set
from pixal.tasks.photographs.naming import table_names, unique_stems

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"})
"""Extensions of the images that PIXAL reads, in lower case."""

_RESERVED = frozenset(
    {"results.csv", "results.json", "report.html", "metrics.json", "report_images"}
    | {"history.db", "history.html", "history.csv"}
)
"""Names of files and folders that lie next to those of the types in the results."""

_JUST_WRITTEN = 0.05  # seconds
_SYSTEM_FOLDERS = frozenset({"lost+found", "System Volume Information", "$RECYCLE.BIN"})  # at the root of a disk


@dataclass(frozen=True)
class Photograph:
    r"""A photograph of a batch, or what lies in the place of one and cannot be read.

    Attributes:
        type_name: Image type that it belongs to.
        path: Its file.
        image: Its name in tables: the file name, or a longer name where several files have the same one. Control
            characters and bytes that are not UTF-8 are escaped (``\r``, ``\xff``).
        name: Stem of the files made from it; unique in its type, also where a file system ignores case.
        problem: Why it cannot be read, where the listing shows it: for example a folder that may not be opened.
    """

    type_name: str
    path: Path
    image: str
    name: str
    problem: str = ""

    @property
    def source(self) -> str:
        """Its path, for records, which are in UTF-8."""
        return as_utf8(str(self.path))

    def read(self) -> bytes:
        """Read the bytes of its file.

        A file that was changed a moment ago may be half written: it is looked at again a moment later.

        Raises:
            InputError: If it cannot be read, is too large for an image, or is being written.
        """
        if self.problem:
            raise InputError(self.problem)
        before = file_stat(self.path)
        data = read_image_bytes(self.path)
        if abs(time.time_ns() - max(before[1:])) < _JUST_WRITTEN * 1e9:
            time.sleep(_JUST_WRITTEN)
            if file_stat(self.path) != before:
                raise InputError("changed while it was read; run the same command again")
        return data


def list_photographs(source: str | Path, *, test: bool = False) -> dict[str, list[Photograph]]:
    """List the photographs below ``source`` by type; types and photographs are sorted by name.

    Files and folders that cannot be read are listed, too, so that they are reported. Hidden ones are left out.

    Args:
        source: A folder with one sub-folder per type (nested folders, and links to folders, are followed); or a folder
            of images, which is one type with the folder's name; or one image, whose folder names the type. A folder
            with the layout of MVTec AD is one type.
        test: For folders with the layout of MVTec AD: list all test images, named ``KIND/NAME.EXT`` in tables, and not
            the good training images.

    Raises:
        InputError: If there is no image, it is unclear which type an image belongs to, or a type cannot have its name.
    """
    types = _list_types(Path(source), test)
    for name in types:
        if comparable(name) in _RESERVED:
            raise InputError(f"a type cannot be called {name}, which is a name in the results; rename its folder")
    return types


def folder_of_types(photographs: Sequence[Photograph], names: Collection[str]) -> Path | None:
    """The folder whose sub-folders hold photographs and have the ``names`` of types; None if there is none.

    It is the folder to name as the input where the folder above it was named.
    """
    for photo in photographs:
        for folder in photo.path.parents:
            if printable(folder.name) in names:
                return folder.parent
    return None


def list_test_images(type_name: str, data_set: DataSetFolder) -> list[Photograph]:
    """List the test images of one object of a data set, named as by ``list_photographs``."""
    found, images = [], []
    for folder in data_set.test_folders():
        for item in _find(folder, nested=True):
            found.append(item)
            images.append(printable(f"{folder.name}/{item.path.relative_to(folder).as_posix()}"))
    return _photographs(type_name, found, images)


@dataclass(frozen=True, order=True)
class _Found:
    """A file with the extension of an image, or a folder that cannot be opened, and its ``problem``."""

    path: Path
    problem: str = ""


def _list_types(source: Path, test: bool) -> dict[str, list[Photograph]]:
    if not is_utf8(str(_absolute(source))):
        raise InputError(f"the path {printable(str(_absolute(source)))} is not valid UTF-8; rename its folders")
    if source.is_file():
        return _single_photograph(_absolute(source))
    if not source.is_dir():
        problem = "is neither a folder nor a regular file" if os.path.lexists(source) else "does not exist"
        raise InputError(f"{source} {problem}; name a folder of images, or a folder with one sub-folder per type")
    own_name = printable(_absolute(source).name)
    if not own_name:
        raise InputError(f"{source} has no name that a type could get; move the images into a folder")
    if data_set := find_data_set(source):
        return _data_set_photographs(own_name, source, data_set, test)
    images = _find(source, nested=False)
    types: dict[str, list[Photograph]] = {}
    unreadable = []
    for folder in _list_folders(source):
        photographs = _type_photographs(folder, test)
        if not photographs:
            continue
        name = photographs[0].type_name
        if name in types:
            raise InputError(f"{source} holds two folders whose names are both written {name}; rename one of them")
        types[name] = photographs
        if [photo.path for photo in photographs] == [folder]:
            unreadable.append(_Found(folder, photographs[0].problem))
    if images and len(types) > len(unreadable):
        raise InputError(
            f"{source} holds images ({printable(images[0].path.name)}, …) and also folders of images "
            f"({', '.join(types)}); move the images into the folder of their type"
        )
    if images:
        return {own_name: _name_files(own_name, source, sorted([*images, *unreadable]))}
    if not types:
        raise InputError(f"{source} holds no image ({', '.join(sorted(EXTENSIONS))}) and no folder of images")
    return dict(sorted(types.items()))


def _single_photograph(path: Path) -> dict[str, list[Photograph]]:
    """Return a batch of one file. The type of a test image of a data set is the object's folder."""
    if path.suffix.lower() not in EXTENSIONS:
        raise InputError(f"{path} is not an image that PIXAL reads ({', '.join(sorted(EXTENSIONS))})")
    root = path.parent.parent.parent  # of ROOT/test/KIND/NAME.png
    data_set = find_data_set(root)
    if data_set and (matches := [photo for photo in list_test_images(root.name, data_set) if photo.path == path]):
        return {root.name: matches}
    name = printable(path.parent.name)
    if not name:
        raise InputError(f"the folder of {path} has no name that a type could get; move the image into another one")
    return {name: _name_files(name, path.parent, [_Found(path)])}


def _data_set_photographs(name: str, source: Path, data_set: DataSetFolder, test: bool) -> dict[str, list[Photograph]]:
    if photographs := _object_photographs(name, data_set, test):
        return {name: photographs}
    missing = data_set.test / "KIND" if test else data_set.train
    raise InputError(f"{source} has the layout of an object of MVTec AD, but {missing} holds no image")


def _type_photographs(folder: Path, test: bool) -> list[Photograph]:
    name = printable(folder.name)
    if data_set := find_data_set(folder):
        return _object_photographs(name, data_set, test)
    return _name_files(name, folder, _find(folder, nested=True))


def _object_photographs(type_name: str, data_set: DataSetFolder, test: bool) -> list[Photograph]:
    if test:
        return list_test_images(type_name, data_set)
    found = _find(data_set.train, nested=True) if os.path.lexists(data_set.train) else []
    return _name_files(type_name, data_set.train, found)


def _find(folder: Path, *, nested: bool) -> list[_Found]:
    """Find all images in a folder, and, if ``nested``, in the folders below it; sorted by path."""
    return sorted(_walk(folder) if nested else _files(folder))


def _files(folder: Path) -> Iterator[_Found]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if _is_image_name(entry.name) and not _is_folder(entry):
                yield _found(Path(entry.path))


def _walk(folder: Path) -> Iterator[_Found]:
    """Find the images below a folder. A folder that a link leads to again, for example in a loop, is read once."""
    visited: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        folder = waiting.pop()
        try:
            stat = folder.stat()
            if (identity := (stat.st_dev, stat.st_ino)) in visited:
                continue
            visited.add(identity)
            yield from _files(folder)
            waiting += reversed(_list_folders(folder))
        except OSError as error:
            yield _Found(folder, f"cannot be opened: {error.strerror}")


def _list_folders(folder: Path) -> list[Path]:
    """The folders in a folder, links last, with broken links that may have led to one: their names have no ending."""
    with os.scandir(folder) as entries:
        folders = [
            entry
            for entry in entries
            if not entry.name.startswith(".")
            and entry.name not in _SYSTEM_FOLDERS
            and (_is_folder(entry) or ("." not in entry.name and _is_broken_link(entry)))
        ]
    return [Path(entry.path) for entry in sorted(folders, key=lambda entry: (entry.is_symlink(), entry.path))]


def _is_broken_link(entry: os.DirEntry[str]) -> bool:
    return entry.is_symlink() and not os.path.exists(entry.path)  # noqa: PTH110  # Path.exists raises PermissionError


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # for example a link to itself
        return False


def _is_image_name(name: str) -> bool:
    return Path(name).suffix.lower() in EXTENSIONS and not name.startswith(".")


def _found(path: Path) -> _Found:
    if is_utf8(str(path)):
        return _Found(path)
    return _Found(path, "its name, or that of its folder, is not valid UTF-8; rename it")


def _name_files(type_name: str, folder: Path, found: Sequence[_Found]) -> list[Photograph]:
    return _photographs(type_name, found, table_names([item.path for item in found], folder))


def _photographs(type_name: str, found: Sequence[_Found], images: Sequence[str]) -> list[Photograph]:
    rows = zip(found, images, unique_stems(images), strict=True)
    return [Photograph(type_name, item.path, image, name, item.problem) for item, image, name in rows]


def _absolute(path: Path) -> Path:
    """Return the path without ``..``. Links are kept: the name of a linked folder is the link's name."""
    return Path(os.path.abspath(path))  # noqa: PTH100  # Path.absolute keeps "..", Path.resolve follows links
