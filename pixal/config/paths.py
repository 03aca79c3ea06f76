"""Output folders: resolve the entries of ``paths.yaml``."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pixal.errors import ConfigError

PathEntry = Literal[
    "component_model_path",
    "component_validate_path",
    "background_removed_path",
    "aligned_images_path",
    "model_path",
    "metadata_path",
    "figures_path",
    "aligned_metrics_path",
    "log_path",
    "latents_path",
    "validate_metadata_path",
    "validate_figures_path",
    "validate_aligned_metrics_path",
    "validate_anomaly_maps_path",
    "validate_log_path",
]
"""The entries of ``paths.yaml`` that PIXAL uses."""

COMPONENT_ENTRIES: tuple[PathEntry, ...] = ("component_model_path", "component_validate_path")
"""The two entries that ``paths.yaml`` must have. All others lie in one of them by default."""

DEFAULT_ENTRIES: dict[PathEntry, tuple[PathEntry, str]] = {
    "background_removed_path": ("component_model_path", "preprocessed_images/background_removed"),
    "aligned_images_path": ("component_model_path", "preprocessed_images/aligned_images"),
    "model_path": ("component_model_path", "model"),
    "metadata_path": ("component_model_path", "metadata"),
    "figures_path": ("component_model_path", "figures"),
    "aligned_metrics_path": ("component_model_path", "figures/aligned_metrics"),
    "log_path": ("component_model_path", "logs"),
    "latents_path": ("component_model_path", "latents"),
    "validate_metadata_path": ("component_validate_path", "metadata"),
    "validate_figures_path": ("component_validate_path", "figures"),
    "validate_aligned_metrics_path": ("component_validate_path", "aligned_metrics"),
    "validate_anomaly_maps_path": ("component_validate_path", "anomaly_maps"),
    "validate_log_path": ("component_validate_path", "logs"),
}
"""For an entry that ``paths.yaml`` leaves out: the entry that it lies in, and its path there."""

_RESULTS: PathEntry = "component_validate_path"
_RESULTS_ENTRIES = (_RESULTS, *(entry for entry, (base, _) in DEFAULT_ENTRIES.items() if base == _RESULTS))
_MODELS: PathEntry = "component_model_path"
_PREPARED: tuple[PathEntry, ...] = ("background_removed_path", "aligned_images_path")
_MODEL_ENTRIES = (
    _MODELS,
    *(entry for entry, (base, _) in DEFAULT_ENTRIES.items() if base == _MODELS and entry not in _PREPARED),
)

INSPECTIONS_FOLDER = "inspection"
"""Name of the folder of the results of ``pixal inspect``, in the working directory."""

BATCHES_FOLDER = "batches"
"""Folder of the earlier batches, in the folder of the component's results."""

CANDIDATES_FOLDER = "comparison"
"""Folder of the models that ``pixal compare`` trains, in the folder of the component's models."""

LEARNING_FOLDER = "learning"
"""Folder of the candidate and of earlier models, in the folder of the component's models."""

_COMPONENT_KEY = "component"
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_LONGEST_NAME = 255  # bytes; the limit of common file systems


class Paths:
    """The output folders of one component.

    An entry is a plain string (a root), or a mapping of one name key and ``base`` (the entry that it lies in, given by
    a YAML anchor). ``paths.resolve("model_path", "front")`` follows ``base`` to the root. The folder of the type is
    right below that of the component.
    """

    def __init__(
        self,
        entries: Mapping[str, Any],
        source: Path | None = None,
        lines: Mapping[str, int] | None = None,
        root: Path = Path(),
    ) -> None:
        """Check the entries.

        Args:
            entries: The content of ``paths.yaml``.
            source: The file, for error messages.
            lines: Line of each entry in the file, for error messages.
            root: Folder that relative paths start from. Default: the working directory.

        Raises:
            ConfigError: An entry is missing or cannot be resolved.
        """
        self._entries, self._root = dict(entries), root
        self._moved: dict[PathEntry, Path] = {}  # the folder below which the tree of each of two roots lies elsewhere
        self._source = source
        self._lines = dict(lines or {})
        for name in COMPONENT_ENTRIES:
            if name not in self._entries:
                raise ConfigError(f"{self.location()}: entry {name} is missing")
        for entry in self._entries:
            self._follow(entry, None)

    @property
    def component(self) -> str:
        """Name of the component: that of the folder of its models."""
        return self._resolve(_MODELS, None).name

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the entries of the file, in their order."""
        return tuple(self._entries)

    def location(self, name: str | None = None) -> str:
        """The file, and the line of an entry if it has one, for error messages."""
        line = f", line {self._lines[name]}" if name in self._lines else ""
        return f"{self._source or 'paths'}{line}"

    def for_component(self, component: str, root: Path | None = None) -> Paths:
        """Return the same entries for another component.

        Args:
            component: Name of the other component.
            root: Folder that relative paths start from. Default: the same as for this component.

        Raises:
            ConfigError: An entry does not tell which of its folders is that of the component.
        """
        entries = copy.deepcopy(self._entries)  # in one call, so that entries still share their bases
        for name in COMPONENT_ENTRIES:
            entry = entries[name]
            if not isinstance(entry, dict) or _COMPONENT_KEY not in entry:
                raise ConfigError(
                    f"{self.location(name)}: entry {name} must have the form {{component: NAME, base: *out}}, "
                    "so that NAME can be replaced by another component"
                )
            entry[_COMPONENT_KEY] = component
        return Paths(entries, self._source, self._lines, self._root if root is None else root)

    def for_batch(self, folder: str) -> Paths:
        """Return the same entries for the results of an earlier batch.

        They have the same tree in ``batches/FOLDER``, in the folder of the component's results. Results that
        ``paths.yaml`` puts elsewhere are in ``batches/FOLDER`` there, so that they never move to another disk.

        Args:
            folder: Name of the batch's folder.
        """
        return self._with_tree(_RESULTS, Path(BATCHES_FOLDER, folder))

    def for_candidate(self, folder: str) -> Paths:
        """Return the same entries for a model that is compared with others.

        Everything that is made from the prepared photographs has the same tree in ``comparison/FOLDER``, in the folder
        of the component's models. The prepared photographs themselves stay where they are. What ``paths.yaml`` puts
        elsewhere is in ``comparison/FOLDER`` there.

        Args:
            folder: Name of the model's folder.
        """
        return self._with_tree(_MODELS, Path(CANDIDATES_FOLDER, folder))

    def for_learning(self, folder: str) -> Paths:
        """Return the same entries for a model that is not in use: a candidate, or an earlier model.

        They have the same tree in ``learning/FOLDER``, see ``for_candidate``.

        Args:
            folder: Name of the model's folder.
        """
        return self._with_tree(_MODELS, Path(LEARNING_FOLDER, folder))

    def in_use(self) -> Paths:
        """Return the same entries for the models that are in use, whichever models these are for."""
        paths = copy.copy(self)
        paths._moved = {root: folder for root, folder in self._moved.items() if root != _MODELS}
        return paths

    def _with_tree(self, root: PathEntry, folder: Path) -> Paths:
        """Return the same entries, with those of a root below ``folder``."""
        paths = copy.copy(self)
        paths._moved = self._moved | {root: folder}
        return paths

    def resolve(self, name: PathEntry, type_name: str | None = None) -> Path:
        """Return the path of an entry.

        Args:
            name: The entry.
            type_name: Image type whose folder is meant. None: the folder of the component itself.
        """
        path = self._resolve(name, type_name)
        for root, entries in ((_RESULTS, _RESULTS_ENTRIES), (_MODELS, _MODEL_ENTRIES)):
            if root in self._moved and name in entries:
                others = {self._resolve(entry, type_name) for entry in entries}
                outermost = sorted(others, key=lambda folder: len(folder.parts))
                bases = (self._resolve(root, None), *outermost)
                base = next(base for base in bases if path.is_relative_to(base))
                return base / self._moved[root] / path.relative_to(base)
        return path

    def _resolve(self, name: PathEntry, type_name: str | None) -> Path:
        """The path of an entry in the newest batch."""
        if name in self._entries:
            return self._follow(name, type_name)
        base, path = DEFAULT_ENTRIES[name]
        return self._resolve(base, type_name) / path

    def _follow(self, name: str, type_name: str | None) -> Path:
        """Follow the bases of an entry of the file to its root. Raise ``ConfigError`` for a faulty entry."""
        folders: list[str] = []
        entry: Any = self._entries[name]
        visited: list[int] = []
        while isinstance(entry, dict):
            if id(entry) in visited:
                raise ConfigError(f"{self.location(name)}: entry {name} contains itself through its base")
            visited.append(id(entry))
            keys = [key for key in entry if key != "base"]
            if "base" not in entry or len(keys) != 1 or not isinstance(entry[keys[0]], str) or not entry[keys[0]]:
                raise ConfigError(
                    f"{self.location(name)}: entry {name} needs one name and a base, "
                    "for example {component: NAME, base: *out}"
                )
            if keys[0] == _COMPONENT_KEY and type_name is not None:
                folders.append(type_name)
            folders.append(entry[keys[0]])
            entry = entry["base"]
        if not isinstance(entry, str) or not entry:
            raise ConfigError(f"{self.location(name)}: entry {name} ends in {entry!r}, which is not a path")
        folders.append(entry)
        for folder in folders:
            if _CONTROL.search(folder):
                raise ConfigError(f"{self.location(name)}: entry {name} holds {folder!r}, which cannot be a file name")
            if any(len(os.fsencode(part)) > _LONGEST_NAME for part in Path(folder).parts):
                raise ConfigError(
                    f"{self.location(name)}: entry {name} holds a name of more than {_LONGEST_NAME} bytes, "
                    f"{folder[:40]}…"
                )
        try:
            root = Path(folders.pop()).expanduser()
        except RuntimeError as error:  # "~name" of a user that does not exist
            raise ConfigError(f"{self.location(name)}: entry {name} starts with {entry!r}: {error}") from error
        return self._root / root.joinpath(*reversed(folders))
