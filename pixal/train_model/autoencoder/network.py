"""The trained network of the autoencoder: encoder, latent layer, mirrored decoder."""

from __future__ import annotations

import keras
from keras import layers

from pixal.config.schema import ModelTraining
from pixal.train_model.keras_training.optimization import build_regularizer


def dense_autoencoder(width: int, types: int, activation: str, settings: ModelTraining, gains: int = 0) -> keras.Model:
    """Build a Keras model from values (n, width) to values (n, width).

    The last size in ``autoencoder_architecture`` is that of the latent layer. The decoder mirrors the other layers.
    With several types, the model has a second input, labels (n, types), whose latent layer is joined to the other. All
    layers are named, because Keras would number them over the life of the process, and names are part of saved files.

    Args:
        width: The number of values.
        types: The number of types.
        activation: The activation of the output.
        settings: The settings ``model_training``.
        gains: If above 0, the model has a second output, (n, gains), which is 0 before training.
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
    # Always float32: the last digits decide between good and defective.
    output = layers.Dense(width, activation=activation, dtype="float32", name="output")(hidden)
    if not gains:
        return keras.Model(inputs, output, name="core")
    gain = layers.Dense(gains, kernel_initializer="zeros", dtype="float32", name="gains")(hidden)
    return keras.Model(inputs, [output, gain], name="core")


def _dense(size: int, name: str, settings: ModelTraining) -> layers.Dense:
    return layers.Dense(size, activation="relu", kernel_regularizer=build_regularizer(settings), name=name)
