"""Name the photographs of a type in tables and output files."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from pixal.io.names import comparable, printable, shorten_stem


def table_names(paths: Sequence[Path], folder: Path) -> list[str]:
    """Return a name for each file: its file name, or its path below ``folder`` if several share the file name.

    Control characters, and bytes that are not UTF-8, are escaped.
    """
    names = [printable(path.name) for path in paths]
    counts = Counter(names)
    below = [printable(path.relative_to(folder).as_posix()) for path in paths]
    longer = [name if counts[name] == 1 else relative for name, relative in zip(names, below, strict=True)]
    return _unique(longer, longer, same=str)


def unique_stems(images: Sequence[str]) -> list[str]:
    """Return a stem for the output files of each image.

    A stem is the name without its extension, or a longer name where some file systems would take stems for the same:
    they differ in case or in their Unicode form only. A stem that is too long for an output file is cut.
    """
    stems = [shorten_stem(_flatten(str(Path(image).with_suffix("")))) for image in images]
    longer = [shorten_stem(_flatten(image.replace(".", "_"))) for image in images]
    return _unique(stems, longer, same=comparable)


def _unique(names: Sequence[str], longer: Sequence[str], *, same: Callable[[str], str]) -> list[str]:
    """Replace names that are the same by ``longer`` ones, with a number where these are taken, too.

    Args:
        names: The names.
        longer: The names to use instead.
        same: Equal for names that must not both be used.
    """
    counts = Counter(map(same, names))
    taken = {name for name, count in counts.items() if count == 1}
    unique = []
    for name, other in zip(names, longer, strict=True):
        chosen = name
        if counts[same(name)] > 1:
            candidates = itertools.chain([other], (f"{other}_{number}" for number in itertools.count(2)))
            chosen = next(candidate for candidate in candidates if same(candidate) not in taken)
            taken.add(same(chosen))
        unique.append(chosen)
    return unique


def _flatten(name: str) -> str:
    return name.replace("/", "_").replace("\\", "_")
