"""Apply a trained dense autoencoder in NumPy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.errors import ModelError
from pixal.inputs import InputSet
from pixal.io.arrays import load_arrays
from pixal.train_model.autoencoder.dense_file import ENDING
from pixal.train_model.autoencoder.options import AutoencoderOptions
from pixal.train_model.family import Rows, check_finite, check_weights
from pixal.train_model.inference.activations import activate, activate_deviation, bounded_gains, bounded_log_variance
from pixal.train_model.prediction import Predictor
from pixal.train_model.reconstruction import Reconstructor
from pixal.train_model.specification import ModelSpecification

Values = NDArray[np.float32]


class DensePredictor(Reconstructor):
    """A dense autoencoder, computed row by row: a part gives the same bits whatever the other parts are."""

    def __init__(self, spec: ModelSpecification, path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Check the weights.

        Args:
            spec: The specification.
            path: Their file, for messages.
            arrays: The weights by layer and name.

        Raises:
            ModelError: They do not match the specification.
        """
        self.spec, self._arrays = spec, arrays
        self._is_gaussian = AutoencoderOptions.model_validate(spec.model_options).output == "gaussian"
        self._projects = spec.input_projection != "none"
        check_weights(path, [values for name, values in arrays.items() if not name.startswith("projection/")])
        for values in arrays.values():
            check_finite(path, values)
        for name, shape in self._shapes().items():
            if name not in arrays or arrays[name].shape != shape:
                found = arrays[name].shape if name in arrays else "missing"
                raise ModelError(f"{path} does not match this model: {name} is {found}, not {shape}; run train again")

    @property
    def rows_are_independent(self) -> bool:
        """Yes: they are computed one by one."""
        return True

    def residual(self, images: Values, labels: Values) -> Values:
        """Input minus reconstruction, (n, D); see ``Autoencoder.residual``."""
        residuals = np.empty_like(images)
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            mean, log_variance = self._predict(image, label)
            np.subtract(image, mean, out=residuals[index])
            if log_variance is not None:
                height, width, _ = self.spec.shape
                unit = np.tile(label @ self._arrays["log_variance/unit"], height * width)
                residuals[index] *= unit / np.exp(np.float32(0.5) * bounded_log_variance(log_variance))
        return residuals

    def difference(self, inputs: InputSet, rows: slice | Rows) -> Values:
        """Input minus reconstruction, (n, H, W, C)."""
        images, labels = inputs.rows(rows), self._labels(inputs)[rows]
        pairs = zip(images, labels, strict=True)
        differences = np.array([image - self._predict(image, label)[0] for image, label in pairs], np.float32)
        return differences.reshape(-1, *inputs.shape)

    def encode(self, images: Values, labels: Values) -> Values:
        """The output of the latent layer, (n, L)."""
        latents = [self._encode(image, label) for image, label in zip(images, labels, strict=True)]
        return np.array(latents, np.float32).reshape(-1, self.spec.autoencoder_architecture[-1])

    def _predict(self, image: Values, label: Values) -> tuple[Values, Values | None]:
        """The reconstruction (D,) of an image (D,), and with ``output: gaussian`` the log-variances (D,)."""
        hidden = self._encode(image, label)
        if self._type_count > 1:
            hidden = np.concatenate([hidden, self._dense("label_latent", label)])
        for index in range(len(self.spec.autoencoder_architecture) - 1):
            hidden = self._dense(f"decoder_{index + 1}", hidden)
        output = self._dense("output", hidden, "linear" if self._projects else self.spec.output_activation)
        if self._projects:
            deviation = (output * self._arrays["projection/scale"]) @ self._arrays["projection/basis"]
            output = activate_deviation(self._mean(label), deviation, self.spec.output_activation)
        if not self._is_gaussian:
            return output, None
        gains = bounded_gains(self._dense("gains", hidden, "linear"))
        height, width, _ = self.spec.shape
        return output, label @ self._arrays["log_variance/level"] + np.tile(gains, height * width)

    def _encode(self, image: Values, label: Values) -> Values:
        values = image
        if self._projects:
            values = (image - self._mean(label)) @ self._arrays["projection/basis"].T / self._arrays["projection/scale"]
        for index in range(len(self.spec.autoencoder_architecture) - 1):
            values = self._dense(f"encoder_{index + 1}", values)
        return self._dense("latent", values)

    def _mean(self, label: Values) -> Values:
        means = self._arrays["projection/mean"]
        return np.asarray(means[0] if self._type_count == 1 else label @ means, np.float32)

    def _dense(self, layer: str, values: Values, activation: str = "relu") -> Values:
        product = values @ self._arrays[f"{layer}/kernel"] + self._arrays[f"{layer}/bias"]
        return activate(product, activation)

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of all weights."""
        spec, types = self.spec, self._type_count
        sizes, width = spec.autoencoder_architecture, spec.input_dim
        shapes: dict[str, tuple[int, ...]] = {}
        if self._projects:
            rank = spec.projection_rank
            if not rank:
                raise ModelError("projection_rank is not set; the metadata of a trained model contain it")
            shapes |= {"projection/mean": (types, width), "projection/basis": (rank, width), "projection/scale": ()}
            width = rank
        joined = sizes[-1] + (spec.label_latent_size if types > 1 else 0)
        layers = [*(f"encoder_{index + 1}" for index in range(len(sizes) - 1)), "latent"]
        before = [width, *sizes[:-1]]
        layers += [f"decoder_{index + 1}" for index in range(len(sizes) - 1)]
        decoder = [joined, *reversed(sizes[:-1])]
        sides = zip([*before, *decoder], [*sizes, *decoder[1:], width], strict=True)
        dense = dict(zip([*layers, "output"], sides, strict=True))
        if types > 1:
            dense["label_latent"] = types, spec.label_latent_size
        if self._is_gaussian:
            channels = spec.shape[2]
            dense["gains"] = decoder[-1], channels
            shapes |= {"log_variance/level": (types, spec.input_dim), "log_variance/unit": (types, channels)}
        for layer, (start, end) in dense.items():
            shapes |= {f"{layer}/kernel": (start, end), f"{layer}/bias": (end,)}
        return shapes


def load_predictor(folder: Path, specification: Mapping[str, Any] | ModelSpecification) -> Predictor:
    """Load a trained autoencoder to apply it: without TensorFlow where training wrote the file for it.

    Raises:
        ModelError: A file is missing, damaged, or does not match the specification.
    """
    spec = ModelSpecification.read(specification)
    path = folder / f"{spec.model_name}{ENDING}"
    if not path.is_file():
        from pixal.train_model.autoencoder.model import Autoencoder

        return Autoencoder.load(folder, specification)
    try:
        return DensePredictor(spec, path, load_arrays(path))
    except ValueError as error:
        raise ModelError(f"{path} is damaged ({error}); run train again") from error
