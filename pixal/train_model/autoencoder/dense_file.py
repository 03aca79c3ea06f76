"""The file from which a dense autoencoder is computed without TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.io.arrays import save_arrays
from pixal.train_model.specification import ModelSpecification

ENDING = ".inference.npz"


def write_dense(path: Path, core: Any, projection: Any, log_variance: Any) -> None:
    """Write the weights of an autoencoder. The same weights give the same bytes.

    Args:
        path: The file.
        core: The Keras model of dense layers.
        projection: The layer of the projection; None without one.
        log_variance: The layer of the log-variances; None without them.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for layer in core.layers:
        for variable in layer.weights:
            arrays[f"{layer.name}/{variable.name}"] = variable.numpy()
    for name, layer in (("projection", projection), ("log_variance", log_variance)):
        for variable in () if layer is None else layer.weights:
            arrays[f"{name}/{variable.name}"] = np.asarray(variable.numpy())
    save_arrays(path, **arrays)


def has_dense_file(spec: ModelSpecification) -> bool:
    """Whether the file is written: not for half precision, whose rounding NumPy does not repeat."""
    return not spec.mixed_precision
