"""Build the Keras optimizer and the penalty on weights that the settings name."""

from __future__ import annotations

from typing import Any

import keras

from pixal.config.schema import ModelTraining
from pixal.errors import ConfigError


def build_optimizer(name: str, learning_rate: float) -> Any:
    """Build the Keras optimizer with this name, in any case.

    Raises:
        ConfigError: Keras has no such optimizer.
    """
    optimizers = {
        key.lower(): value
        for key, value in vars(keras.optimizers).items()
        if isinstance(value, type) and issubclass(value, keras.Optimizer) and value is not keras.Optimizer
    }
    try:
        return optimizers[name.lower()](learning_rate=learning_rate)
    except (KeyError, TypeError) as error:  # TypeError: an optimizer that wraps another one
        raise ConfigError(
            f"model_training.optimizer: Keras has no optimizer {name!r}; try adam, sgd or rmsprop"
        ) from error


def build_regularizer(settings: ModelTraining) -> Any:
    """Build the penalty on a layer's weights; None if the settings ask for none."""
    kind = settings.regularization
    if kind is None:
        return None
    l1 = settings.l1_regularization if "l1" in kind else 0.0
    l2 = settings.l2_regularization if "l2" in kind else 0.0
    return keras.regularizers.L1L2(l1, l2)
