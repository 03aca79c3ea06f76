"""The trained part of the autoencoder: encoder, latent, mirrored decoder."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from pixal.config.schema import ModelTraining
from pixal.train_model.keras_training.optimization import build_regularizer


def dense_autoencoder(width: int, types: int, activation: str, settings: ModelTraining, gains: int = 0) -> Any:
    """A Keras model from values (n, width), with several ``types`` also labels (n, types), to values (n, width).

    With ``gains`` it has so many outputs more, (n, gains), which start at 0. ``settings``: those of
    ``model_training``. The last of ``autoencoder_architecture`` is the latent, to which the label's own is joined;
    the decoder mirrors the other layers. All layers have names of their own: Keras would count them up over the life
    of the process, and the names are part of the saved files.
    """
    sizes = settings.autoencoder_architecture
    values = keras.Input((width,), name="values")
    inputs = [values]
    hidden = values
    if settings.input_noise:
        hidden = layers.GaussianNoise(settings.input_noise, seed=settings.seed, name="noise")(values)
    for index, size in enumerate(sizes):
        name = "latent" if index == len(sizes) - 1 else f"encoder_{index + 1}"
        hidden = _dense(size, name, settings)(hidden)
    if types > 1:
        inputs.append(keras.Input((types,), name="label"))
        label = layers.Dense(settings.label_latent_size, activation="relu", name="label_latent")(inputs[1])
        hidden = layers.Concatenate(name="joined_latent")([hidden, label])
    for index, size in enumerate(reversed(sizes[:-1])):
        hidden = _dense(size, f"decoder_{index + 1}", settings)(hidden)
    # float32 whatever the precision of the rest: the last digits are what tells good from bad.
    output = layers.Dense(width, activation=activation, dtype="float32", name="output")(hidden)
    if not gains:
        return keras.Model(inputs, output, name="core")
    more = layers.Dense(gains, kernel_initializer="zeros", dtype="float32", name="gains")(hidden)
    return keras.Model(inputs, [output, more], name="core")


def _dense(size: int, name: str, settings: ModelTraining) -> Any:
    return layers.Dense(size, activation="relu", kernel_regularizer=build_regularizer(settings), name=name)
