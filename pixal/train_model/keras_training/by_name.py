"""What the settings name of Keras: the optimizer, and the penalty on weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras

from pixal.errors import ConfigError


def optimizer_named(name: str, learning_rate: float) -> Any:
    """The Keras optimizer of that name, whatever its capitals. Raises ConfigError where Keras has none."""
    known = {
        key.lower(): found
        for key, found in vars(keras.optimizers).items()
        if isinstance(found, type) and issubclass(found, keras.Optimizer) and found is not keras.Optimizer
    }
    try:
        return known[name.lower()](learning_rate=learning_rate)
    except (KeyError, TypeError) as error:  # TypeError: one that is made of other optimizers
        raise ConfigError(
            f"model_training.optimizer: Keras knows no optimizer {name!r}; try adam, sgd or rmsprop"
        ) from error


def regularizer(settings: Mapping[str, Any]) -> Any:
    """The penalty on a layer's weights that ``model_training`` asks for; None without one."""
    kind = settings["regularization"] or ""
    l1, l2 = (settings[f"{norm}_regularization"] if norm in kind else 0.0 for norm in ("l1", "l2"))
    return keras.regularizers.L1L2(l1, l2) if kind else None
