"""The components that ``pixal serve`` shows: the configured one, and those next to it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pixal.config.paths import INSPECTIONS_FOLDER
from pixal.errors import ConfigError
from pixal.server.site import Component
from pixal.tasks.photographs.serving.component import ServedComponent
from pixal.tasks.photographs.serving.pictures import PictureCache
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.verdicts.batch_record import BATCH_RECORD
from pixal.tasks.photographs.verdicts.batches import HISTORY_DATABASE


class PhotographSite:
    """See ``pixal.server.site.Site``."""

    def __init__(self, config: PhotographConfig) -> None:
        self._config, self._cache = config, PictureCache()
        self._known: dict[str, ServedComponent] = {}
        self._lock = threading.Lock()

    @property
    def inspections(self) -> Path:
        """The folder that ``pixal inspect`` writes into by default."""
        return Path(INSPECTIONS_FOLDER).absolute()

    def components(self) -> Mapping[str, Component]:
        """The configured component, and those that have results in the same folder."""
        with self._lock:
            for name, config in self._found().items():
                if name not in self._known:
                    self._known[name] = ServedComponent(config, self._cache)
            return dict(self._known)

    def _found(self) -> dict[str, PhotographConfig]:
        paths = self._config.paths
        found = {paths.component: self._config}
        folder = paths.resolve("component_validate_path").parent
        for path in sorted(folder.iterdir()) if folder.is_dir() else ():
            if any((path / name).is_file() for name in (BATCH_RECORD, HISTORY_DATABASE)) and path.name not in found:
                try:
                    found[path.name] = replace(self._config, paths=paths.for_component(path.name))
                except ConfigError:  # paths.yaml does not tell which of its folders is that of the component
                    break
        return found
