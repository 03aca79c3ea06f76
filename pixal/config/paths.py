"""Resolve ``paths.yaml``: each entry is a name below another entry, down to a root."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pixal.errors import ConfigError

COMPONENT_KEY = "component"
REQUIRED = ("component_model_path", "component_validate_path")

# Where an entry lies below a component when paths.yaml does not say.
_SHIPPED = {
    "background_removed_path": (REQUIRED[0], "preprocessed_images/background_removed"),
    "aligned_images_path": (REQUIRED[0], "preprocessed_images/aligned_images"),
    "model_path": (REQUIRED[0], "model"),
    "metadata_path": (REQUIRED[0], "metadata"),
    "figures_path": (REQUIRED[0], "figures"),
    "aligned_metrics_path": (REQUIRED[0], "figures/aligned_metrics"),
    "log_path": (REQUIRED[0], "logs"),
    "latents_path": (REQUIRED[0], "latents"),
    "validate_metadata_path": (REQUIRED[1], "metadata"),
    "validate_figures_path": (REQUIRED[1], "figures"),
    "validate_aligned_metrics_path": (REQUIRED[1], "aligned_metrics"),
    "validate_anomaly_maps_path": (REQUIRED[1], "anomaly_maps"),
    "validate_log_path": (REQUIRED[1], "logs"),
}


class Paths:
    """The output folders of one component.

    An entry is a plain string (a root), or a mapping of one name key and ``base`` (the entry it lies in, by a YAML
    anchor). ``paths.resolve("model_path", "front")`` follows ``base`` to the root; the type's name goes in right below
    the component.
    """

    def __init__(
        self,
        entries: Mapping[str, Any],
        source: Path | None = None,
        lines: Mapping[str, int] | None = None,
        below: Path = Path(),
    ) -> None:
        """Check ``entries`` (as read from YAML); raises ConfigError for one that cannot be resolved.

        ``below``: the folder that relative roots lie in, instead of the working directory.
        """
        self._entries, self._below = dict(entries), below
        self._source = source
        self._lines = dict(lines or {})
        for name in REQUIRED:
            if name not in self._entries:
                raise ConfigError(f"{self._where()}: entry {name} is missing")
        for name in self._entries:
            self.resolve(name)

    @classmethod
    def read(cls, source: Path, value: Mapping[str, Any], lines: Mapping[str, int] | None = None) -> Paths:
        """The paths in the YAML file ``source`` (its content, its entries' lines); what it leaves out is as shipped."""
        return cls(value, source, lines)

    @property
    def component(self) -> str:
        """The component's name: that of the folder its models are kept in."""
        return self.resolve(REQUIRED[0]).name

    def for_component(self, component: str, below: Path | None = None) -> Paths:
        """The same entries for another component; ``below``: a folder for relative roots to lie in.

        Raises ConfigError where an entry does not say which of its folders is the component's.
        """
        entries = copy.deepcopy(self._entries)  # all at once: what a base names stays the one entry that it is
        for name in REQUIRED:
            entry = entries[name]
            if not isinstance(entry, dict) or COMPONENT_KEY not in entry:
                raise ConfigError(
                    f"{self._where(name)}: entry {name} has to be as {{component: NAME, base: *out}}, "
                    "so that another component can stand in its place"
                )
            entry[COMPONENT_KEY] = component
        return Paths(entries, self._source, self._lines, self._below if below is None else below)

    def resolve(self, name: str, type_name: str | None = None) -> Path:
        """The path of entry ``name``; with ``type_name``, inside that type's folder, right below the component."""
        if name not in self._entries:
            base, below = _SHIPPED[name]
            return self.resolve(base, type_name) / below
        parts: list[str] = []
        entry: Any = self._entries[name]
        seen: list[int] = []
        while isinstance(entry, dict):
            if id(entry) in seen:
                raise ConfigError(f"{self._where(name)}: entry {name} leads back to itself through its base")
            seen.append(id(entry))
            keys = [key for key in entry if key != "base"]
            if "base" not in entry or len(keys) != 1 or not isinstance(entry[keys[0]], str) or not entry[keys[0]]:
                raise ConfigError(
                    f"{self._where(name)}: entry {name} needs one name and a base, "
                    "as in {component: NAME, base: *out}"
                )
            if keys[0] == COMPONENT_KEY and type_name is not None:
                parts.append(type_name)
            parts.append(entry[keys[0]])
            entry = entry["base"]
        if not isinstance(entry, str) or not entry:
            raise ConfigError(f"{self._where(name)}: entry {name} ends in {entry!r}, which is no path")
        return self._below / Path(entry).expanduser().joinpath(*reversed(parts))

    def _where(self, name: str | None = None) -> str:
        line = f", line {self._lines[name]}" if name in self._lines else ""
        return f"{self._source or 'paths'}{line}"
