"""The names of the model families: PIXAL's own, and those that installed packages bring."""

from __future__ import annotations

import difflib
from importlib.metadata import entry_points

from pixal.errors import ConfigError

GROUP = "pixal.models"  # the entry points of other packages' families

# One line a family: its name in model_training.model, and where its class is.
FAMILIES = {
    "autoencoder": "pixal.train_model.autoencoder.model:Autoencoder",
    "conv_autoencoder": "pixal.train_model.conv_autoencoder.model:ConvAutoencoder",
    "gaussian": "pixal.train_model.gaussian.model:Gaussian",
    "padim": "pixal.train_model.padim.model:Padim",
    "patchcore": "pixal.train_model.patchcore.model:Patchcore",
}


def families() -> dict[str, str]:
    """Where the class of each family is, as ``module:class``, by name; PIXAL's own names are not to be had again."""
    return {point.name: point.value for point in entry_points(group=GROUP)} | FAMILIES


def class_of(name: str) -> str:
    """Where the class of a family is. Raises ConfigError for a name that no family has."""
    if name in FAMILIES:  # the metadata of all installed packages need not be read
        return FAMILIES[name]
    known = families()
    if name not in known:
        nearest = difflib.get_close_matches(name, known, 1, 0.6)
        hint = f"; the nearest is {nearest[0]}" if nearest else ""
        raise ConfigError(f"model_training.model: {name!r} is not one of {', '.join(sorted(known))}{hint}")
    return known[name]
