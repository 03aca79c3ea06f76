"""Find the photographs of a batch and their types."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from pixal.errors import InputError
from pixal.tasks.photographs.mvtec import DataSetFolder, find_data_set
from pixal.tasks.photographs.naming import table_names, unique_stems

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"})
"""Extensions of the images that PIXAL reads, in lower case."""


@dataclass(frozen=True)
class Photograph:
    """A photograph of a batch.

    Attributes:
        type_name: Image type that it belongs to.
        path: Its file.
        image: Its name in tables: the file name, or a longer name where several files have the same one.
        name: Stem of the files made from it; unique in its type, also where upper and lower case are the same.
    """

    type_name: str
    path: Path
    image: str
    name: str


def list_photographs(source: str | Path, *, test: bool = False) -> dict[str, list[Photograph]]:
    """List the photographs below ``source`` by type; types and photographs are sorted by name.

    Args:
        source: A folder with one sub-folder per type (nested folders are followed); or a folder of images, which is one
            type with the folder's name; or one image, whose folder names the type. A folder with the layout of MVTec AD
            is one type.
        test: For folders with the layout of MVTec AD: list all test images, named ``KIND/NAME.EXT`` in tables, and not
            the good training images.

    Raises:
        InputError: If there is no image, or it is unclear which type an image belongs to.
    """
    source = Path(source)
    if source.is_file():
        return _single_photograph(_absolute(source))
    if not source.is_dir():
        raise InputError(f"{source} does not exist; name a folder of images, or a folder with one sub-folder per type")
    if data_set := find_data_set(source):
        return _data_set_photographs(source, data_set, test)
    images = _find_images(source, nested=False)
    folders = sorted(path for path in source.iterdir() if path.is_dir() and not path.name.startswith("."))
    types = {folder.name: photographs for folder in folders if (photographs := _type_photographs(folder, test))}
    if images and types:
        raise InputError(
            f"{source} holds images ({images[0].name}, …) and also folders of images ({', '.join(types)}); "
            "move the images into the folder of their type"
        )
    if images:
        name = _absolute(source).name
        return {name: _name_files(name, source, images)}
    if not types:
        raise InputError(f"{source} holds no image ({', '.join(sorted(EXTENSIONS))}) and no folder of images")
    return types


def list_test_images(type_name: str, data_set: DataSetFolder) -> list[Photograph]:
    """List the test images of one object of a data set, named as by ``list_photographs``."""
    paths, images = [], []
    for folder in data_set.test_folders():
        for path in _find_images(folder, nested=True):
            paths.append(path)
            images.append(f"{folder.name}/{path.relative_to(folder).as_posix()}")
    rows = zip(paths, images, unique_stems(images), strict=True)
    return [Photograph(type_name, path, image, name) for path, image, name in rows]


def _single_photograph(path: Path) -> dict[str, list[Photograph]]:
    """Return a batch of one file. The type of a test image of a data set is the object's folder."""
    if path.suffix.lower() not in EXTENSIONS:
        raise InputError(f"{path} is not an image that PIXAL reads ({', '.join(sorted(EXTENSIONS))})")
    root = path.parent.parent.parent  # of ROOT/test/KIND/NAME.png
    data_set = find_data_set(root)
    if data_set and (matches := [photo for photo in list_test_images(root.name, data_set) if photo.path == path]):
        return {root.name: matches}
    return {path.parent.name: _name_files(path.parent.name, path.parent, [path])}


def _data_set_photographs(source: Path, data_set: DataSetFolder, test: bool) -> dict[str, list[Photograph]]:
    name = _absolute(source).name
    if photographs := _object_photographs(name, data_set, test):
        return {name: photographs}
    missing = data_set.test / "KIND" if test else data_set.train
    raise InputError(f"{source} has the layout of an object of MVTec AD, but {missing} holds no image")


def _type_photographs(folder: Path, test: bool) -> list[Photograph]:
    if data_set := find_data_set(folder):
        return _object_photographs(folder.name, data_set, test)
    return _name_files(folder.name, folder, _find_images(folder, nested=True))


def _object_photographs(type_name: str, data_set: DataSetFolder, test: bool) -> list[Photograph]:
    if test:
        return list_test_images(type_name, data_set)
    return _name_files(type_name, data_set.train, _find_images(data_set.train, nested=True))


def _find_images(folder: Path, *, nested: bool) -> list[Path]:
    paths = folder.rglob("*") if nested else folder.glob("*")
    return sorted(
        path for path in paths if path.suffix.lower() in EXTENSIONS and path.is_file() and not path.name.startswith(".")
    )


def _name_files(type_name: str, folder: Path, paths: list[Path]) -> list[Photograph]:
    images = table_names(paths, folder)
    rows = zip(paths, images, unique_stems(images), strict=True)
    return [Photograph(type_name, path, image, name) for path, image, name in rows]


def _absolute(path: Path) -> Path:
    """Return the path without ``..``. Links are kept: the name of a linked folder is the link's name."""
    return Path(os.path.abspath(path))  # noqa: PTH100  # Path.absolute keeps "..", Path.resolve follows links
