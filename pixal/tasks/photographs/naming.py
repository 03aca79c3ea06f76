"""Name the photographs of a type in tables and output files."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path


def table_names(paths: Sequence[Path], folder: Path) -> list[str]:
    """Return a name for each file: its file name, or its path below ``folder`` if several share the file name."""
    relative = [path.relative_to(folder) for path in paths]
    counts = Counter(path.name for path in relative)
    return [path.name if counts[path.name] == 1 else path.as_posix() for path in relative]


def unique_stems(images: Sequence[str]) -> list[str]:
    """Return a stem for the output files of each image.

    A stem is the name without its extension, or a longer name where stems are equal or differ in case only, because
    some file systems ignore case.
    """
    stems = [_flatten(str(Path(image).with_suffix(""))) for image in images]
    counts = Counter(stem.lower() for stem in stems)
    taken = {stem for stem, count in counts.items() if count == 1}
    names = []
    for stem, image in zip(stems, images, strict=True):
        name = stem
        if counts[stem.lower()] > 1:
            longer = _flatten(image.replace(".", "_"))
            candidates = itertools.chain([longer], (f"{longer}_{number}" for number in itertools.count(2)))
            name = next(candidate for candidate in candidates if candidate.lower() not in taken)
            taken.add(name.lower())
        names.append(name)
    return names


def _flatten(name: str) -> str:
    return name.replace("/", "_").replace("\\", "_")
