"""Names of tasks and model families: those of PIXAL, and those of installed packages."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pixal.errors import ConfigError


@dataclass(frozen=True)
class Registry:
    """Classes by name. A class is imported only when it is used.

    Attributes:
        group: The entry-point group in which other packages register theirs.
        setting: The setting that holds a name, for error messages.
        builtin: The classes of PIXAL as ``module:class``, by name. Other packages cannot use these names.
    """

    group: str
    setting: str
    builtin: Mapping[str, str]

    def class_paths(self) -> dict[str, str]:
        """All known classes as ``module:class``, by name."""
        return {point.name: point.value for point in entry_points(group=self.group)} | dict(self.builtin)

    def class_path(self, name: str) -> str:
        """Return the ``module:class`` of ``name``. Raise ``ConfigError`` if the name is unknown."""
        if name in self.builtin:  # reading the metadata of all installed packages takes time
            return self.builtin[name]
        known = self.class_paths()
        if name not in known:
            nearest = difflib.get_close_matches(name, known, 1, 0.6)
            hint = f"; the nearest is {nearest[0]}" if nearest else ""
            raise ConfigError(f"{self.setting}: {name!r} is not one of {', '.join(sorted(known))}{hint}")
        return known[name]

    def load(self, name: str) -> Any:
        """Import the class of ``name``. Raise ``ConfigError`` if the name is unknown or the import fails."""
        path = self.class_path(name)
        try:
            return EntryPoint(name, path, self.group).load()
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"{self.setting}: {name} ({path}) cannot be imported: {error}") from error


TASKS = Registry(
    group="pixal.tasks",
    setting="task",
    builtin={
        "photographs": "pixal.tasks.photographs.task:Photographs",
    },
)

MODELS = Registry(
    group="pixal.models",
    setting="model_training.model",
    builtin={
        "autoencoder": "pixal.train_model.autoencoder:Autoencoder",
        "conv_autoencoder": "pixal.train_model.conv_autoencoder:ConvAutoencoder",
        "gaussian": "pixal.train_model.gaussian:Gaussian",
        "padim": "pixal.train_model.padim:Padim",
        "patchcore": "pixal.train_model.patchcore:Patchcore",
    },
)
