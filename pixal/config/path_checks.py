"""Check that the output folders of ``paths.yaml`` can be used, before any work starts."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Collection
from pathlib import Path
from typing import get_args

from pixal.config.paths import PathEntry, Paths
from pixal.errors import ConfigError, nearest_hint

_log = logging.getLogger(__name__)

ENTRIES: tuple[PathEntry, ...] = get_args(PathEntry)

# Entries of the first version of PIXAL. Users' files have them; they are not used any more.
_FORMER_ENTRIES = {
    f"{prefix}{name}_path"
    for prefix in ("", "validate_", "general_")
    for name in (
        *("component", "preprocessed_images", "preprocessing", "remove_background", "background_removed"),
        *("aligned_images", "aligned_metrics", "model", "metadata", "figures", "log"),
    )
}
_SIMILAR = 0.85  # a name that is this similar to that of an entry is taken for a misspelling


def check_paths(paths: Paths, anchored: Collection[str]) -> None:
    """Check the entries of ``paths.yaml``, and warn if one leads out of the working directory through ``..``.

    Args:
        paths: The entries.
        anchored: The entries with an anchor. Their names are the user's own, because other entries can lie in them.

    Raises:
        ConfigError: An entry is unknown, or a folder cannot be made because a file has its name.
    """
    for name in paths.names:
        if name in ENTRIES or name in _FORMER_ENTRIES:
            continue
        if name not in anchored or difflib.get_close_matches(name, ENTRIES, 1, _SIMILAR):
            raise ConfigError(f"{paths.location(name)}: unknown entry {name}{nearest_hint(name, ENTRIES)}")
    outside = []
    for name in ENTRIES:
        path = paths.resolve(name)
        _check_no_file_in_the_way(path, f"{paths.location(name)}: entry {name}")
        if not path.is_absolute() and _leads_up(path):
            outside.append(name)
    if outside:
        _log.warning(
            "%s: entry %s leads out of the working directory through '..': its folder is %s",
            paths.location(outside[0]),
            " and ".join(name for name in outside if name.startswith("component_")) or outside[0],
            Path(os.path.abspath(paths.resolve(outside[0]))),  # noqa: PTH100  # resolve() also follows links
        )


def _leads_up(path: Path) -> bool:
    return Path(os.path.normpath(path)).parts[:1] == (os.pardir,)


def _check_no_file_in_the_way(path: Path, entry: str) -> None:
    for folder in (*reversed(path.parents), path):
        if os.path.lexists(folder) and not folder.is_dir():
            what = "a link to nothing" if folder.is_symlink() and not os.path.exists(folder) else "a file"  # noqa: PTH110
            raise ConfigError(f"{entry} needs a folder {folder}, but this is {what}; move it, or change the entry")
