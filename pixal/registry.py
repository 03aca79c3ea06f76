"""Names of tasks, model families and kinds of planted defects: those of PIXAL, and those of installed packages."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pixal.errors import ConfigError, nearest_hint


@dataclass(frozen=True)
class Registry:
    """Classes, or other objects, by name. They are imported only when they are used.

    Attributes:
        group: The entry-point group in which other packages register theirs.
        setting: The setting that holds a name, or what is named, for error messages.
        builtin: The classes of PIXAL as ``module:class``, by name. Other packages cannot use these names.
    """

    group: str
    setting: str
    builtin: Mapping[str, str]

    def class_paths(self) -> dict[str, str]:
        """All known classes as ``module:class``, by name."""
        points = _entry_points(tuple(sys.path)).select(group=self.group)
        return {point.name: point.value for point in points} | dict(self.builtin)

    def class_path(self, name: str) -> str:
        """Return the ``module:class`` of ``name``. Raise ``ConfigError`` if the name is unknown."""
        if name in self.builtin:  # reading the metadata of all installed packages takes time
            return self.builtin[name]
        known = self.class_paths()
        if name not in known:
            hint = nearest_hint(name, known)
            raise ConfigError(f"{self.setting}: {name!r} is not one of {', '.join(sorted(known))}{hint}")
        return known[name]

    def load(self, name: str) -> Any:
        """Import what has a ``name``. Raise ``ConfigError`` if the name is unknown or the import fails."""
        path = self.class_path(name)
        try:
            return EntryPoint(name, path, self.group).load()
        except Exception as error:  # a module of another package can raise any error
            raise ConfigError(f"{self.setting}: {name} ({path}) cannot be imported: {error}") from error


@lru_cache(maxsize=1)
def _entry_points(path: tuple[str, ...]) -> Any:
    """The entry points of all packages on the module search path: reading them takes time."""
    return entry_points()


TASKS = Registry(
    group="pixal.tasks",
    setting="task",
    builtin={
        "charge_clusters": "pixal.tasks.charge_clusters.task:ChargeClusters",
        "photographs": "pixal.tasks.photographs.task:Photographs",
    },
)

MODELS = Registry(
    group="pixal.models",
    setting="model_training.model",
    builtin={
        "autoencoder": "pixal.train_model.autoencoder:Autoencoder",
        "combined": "pixal.train_model.combined:Combined",
        "conv_autoencoder": "pixal.train_model.conv_autoencoder:ConvAutoencoder",
        "gaussian": "pixal.train_model.gaussian:Gaussian",
        "mdn": "pixal.tasks.charge_clusters.models:Mdn",
        "mdn_float": "pixal.tasks.charge_clusters.models:MdnFloat",
        "padim": "pixal.train_model.padim:Padim",
        "patchcore": "pixal.train_model.patchcore:Patchcore",
    },
)

PREDICTORS: Mapping[str, str] = {
    "autoencoder": "pixal.train_model.autoencoder.prediction:load_predictor",
    "combined": "pixal.train_model.combined.prediction:load_predictor",
    "conv_autoencoder": "pixal.train_model.conv_autoencoder.prediction:load_predictor",
    "padim": "pixal.train_model.padim:Padim.load_predictor",
    "patchcore": "pixal.train_model.patchcore:Patchcore.load_predictor",
}
"""The functions ``(folder, specification)`` that load a stored model of a family only to apply it, without TensorFlow.

A family that is not listed is applied by its own class.
"""

DEFECTS = Registry(
    group="pixal.defects",
    setting="kind of planted defect",
    builtin={
        "scratch": "pixal.defects.strokes:scratch",
        "fibre": "pixal.defects.strokes:fibre",
        "spot": "pixal.defects.spots:spot",
        "stain": "pixal.defects.spots:stain",
        "missing_print": "pixal.defects.print_edges:missing_print",
        "extra_print": "pixal.defects.print_edges:extra_print",
        "copied_piece": "pixal.defects.surface:copied_piece",
        "dent": "pixal.defects.surface:dent",
        "blur": "pixal.defects.surface:blur",
        "noise": "pixal.defects.surface:noise",
        "colour": "pixal.defects.surface:colour",
        "bite": "pixal.defects.outline:bite",
    },
)
