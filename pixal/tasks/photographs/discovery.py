"""Find the photographs of a batch: their types, and what each is called."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pixal.errors import InputError
from pixal.tasks.photographs.mvtec import Benchmark, find_benchmark

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"})


@dataclass(frozen=True)
class Photograph:
    """A file of the batch: the type it belongs to, the name it has in tables, and the stem its outputs have."""

    type_name: str
    path: Path
    image: str
    name: str


def list_photographs(source: str | Path, *, test: bool = False) -> dict[str, list[Photograph]]:
    """The photographs below ``source`` by type, both sorted by name.

    A folder with sub-folders holds one type a sub-folder (nested folders are followed); a folder of images is one type
    named after itself; a single image file is a batch of one, of the type its folder names. A folder laid out as those
    of MVTec AD is one type, and may stand for one in a folder of several: of it the good images to train on are taken,
    or with ``test`` all test images, each called ``KIND/NAME.EXT``.

    Raises InputError where there is nothing to process.
    """
    source = Path(source)
    if source.is_file():
        return _single(_absolute(source))
    if not source.is_dir():
        raise InputError(f"{source} does not exist; name a folder of images, or of one sub-folder an image type")
    if benchmark := find_benchmark(source):
        name = _absolute(source).name
        if photographs := _of_benchmark(name, benchmark, test):
            return {name: photographs}
        missing = benchmark.test / "KIND" if test else benchmark.train
        raise InputError(f"{source} is laid out as an object of MVTec AD, but holds no image in {missing}")
    flat = _images(source, nested=False)
    folders = sorted(path for path in source.iterdir() if path.is_dir() and not path.name.startswith("."))
    types = {folder.name: found for folder in folders if (found := _of_type(folder, test))}
    if flat and types:
        raise InputError(
            f"{source} holds images ({flat[0].name}, …) beside folders of images ({', '.join(types)}); "
            "move them into the folder of their type"
        )
    if flat:
        name = _absolute(source).name
        return {name: _named(name, source, flat)}
    if not types:
        raise InputError(f"{source} holds no image ({', '.join(sorted(EXTENSIONS))}), nor any folder of images")
    return types


def benchmark_tests(type_name: str, benchmark: Benchmark) -> list[Photograph]:
    """The test images of an object of a data set, as ``list_photographs`` names them."""
    kinds = [(kind.name, path, kind) for kind in benchmark.kinds() for path in _images(kind, nested=True)]
    images = [f"{kind}/{path.relative_to(folder).as_posix()}" for kind, path, folder in kinds]
    paths = [path for _, path, _ in kinds]
    return [Photograph(type_name, *found) for found in zip(paths, images, _distinct(images), strict=True)]


def _single(path: Path) -> dict[str, list[Photograph]]:
    """A batch of one file; of a test image its object's folder names the type."""
    if path.suffix.lower() not in EXTENSIONS:
        raise InputError(f"{path} is no image that PIXAL reads ({', '.join(sorted(EXTENSIONS))})")
    root = path.parent.parent.parent  # of ROOT/test/KIND/NAME.png
    benchmark = find_benchmark(root)
    if benchmark and (found := [one for one in benchmark_tests(root.name, benchmark) if one.path == path]):
        return {root.name: found}
    return {path.parent.name: _named(path.parent.name, path.parent, [path])}


def _of_type(folder: Path, test: bool) -> list[Photograph]:
    if benchmark := find_benchmark(folder):
        return _of_benchmark(folder.name, benchmark, test)
    return _named(folder.name, folder, _images(folder, nested=True))


def _of_benchmark(type_name: str, benchmark: Benchmark, test: bool) -> list[Photograph]:
    if test:
        return benchmark_tests(type_name, benchmark)
    return _named(type_name, benchmark.train, _images(benchmark.train, nested=True))


def _images(folder: Path, *, nested: bool) -> list[Path]:
    found: Callable[[str], Iterator[Path]] = folder.rglob if nested else folder.glob
    return sorted(
        path
        for path in found("*")
        if path.suffix.lower() in EXTENSIONS and path.is_file() and not path.name.startswith(".")
    )


def _named(type_name: str, folder: Path, files: list[Path]) -> list[Photograph]:
    """Name each file; where two would share a table row or an output, nested folders and extensions come in."""
    relative = [path.relative_to(folder) for path in files]
    times = Counter(path.name for path in relative)
    images = [path.name if times[path.name] == 1 else path.as_posix() for path in relative]
    names = _distinct(images)
    return [Photograph(type_name, *found) for found in zip(files, images, names, strict=True)]


def _distinct(images: list[str]) -> list[str]:
    """A name for each image's outputs: its stem, or longer; never two alike, nor but for capitals."""
    stems = [_flat(str(Path(image).with_suffix(""))) for image in images]
    times = Counter(stem.lower() for stem in stems)
    taken = {stem for stem, count in times.items() if count == 1}
    names = []
    for stem, image in zip(stems, images, strict=True):
        name = stem
        if times[stem.lower()] > 1:
            longer = _flat(image.replace(".", "_"))
            choices = itertools.chain([longer], (f"{longer}_{number}" for number in itertools.count(2)))
            name = next(choice for choice in choices if choice.lower() not in taken)
            taken.add(name.lower())
        names.append(name)
    return names


def _flat(name: str) -> str:
    return name.replace("/", "_").replace("\\", "_")


def _absolute(path: Path) -> Path:
    """Without "..", links kept: a linked folder or file goes by the link's name."""
    return Path(os.path.abspath(path))  # noqa: PTH100  # Path.absolute keeps "..", Path.resolve follows links
