"""The dense autoencoder, with or without a fixed projection onto the subspace of good images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from pixal.errors import ModelError
from pixal.inputs import InputSet
from pixal.train_model.autoencoder.coefficients import CoefficientLoss, coefficient_data
from pixal.train_model.autoencoder.dense_file import ENDING, has_dense_file, write_dense
from pixal.train_model.autoencoder.gaussian_coefficients import GaussianCoefficientLoss, gaussian_data
from pixal.train_model.autoencoder.log_variance import LogVariance, mean_squared_residuals, means_only
from pixal.train_model.autoencoder.network import dense_autoencoder
from pixal.train_model.autoencoder.options import AutoencoderOptions
from pixal.train_model.autoencoder.projection import SubspaceFitter, auto_rank
from pixal.train_model.autoencoder.projection_layer import SubspaceProjection
from pixal.train_model.autoencoder.sampled_accuracy import SampledAccuracy, share_function
from pixal.train_model.autoencoder.subspace import SubspaceFit
from pixal.train_model.family import NO_CONTROL, NOT_FITTED, FitControl, Rows
from pixal.train_model.history import History
from pixal.train_model.keras_training.data import Data, InputRows
from pixal.train_model.keras_training.keras_family import KerasAnomalyModel
from pixal.train_model.keras_training.losses import GaussianLoss, ImageLoss, bounded_log_variance, check_gaussian
from pixal.train_model.keras_training.replicas import distribution_strategy
from pixal.train_model.specification import ModelSpecification


class Autoencoder(KerasAnomalyModel):
    """The model family "autoencoder"; see ``pixal.train_model.family.ModelFamily``.

    >>> model = Autoencoder(params)
    >>> model.build_model(input_dim=params["input_dim"])
    >>> model.load_weights(str(weights_path))

    ``params`` is the content of ``metadata/model_training.yaml``. Once built, ``model`` is the Keras model from images
    (n, D), in one-hot mode with labels (n, T), to reconstructions (n, D). With ``output: gaussian`` its output is
    (n, 2 D), the means followed by the log-variances.
    """

    Options = AutoencoderOptions
    options: AutoencoderOptions

    def __init__(self, specification: Mapping[str, Any] | ModelSpecification) -> None:
        """Check the specification; nothing is built yet. See ``ModelFamily``."""
        super().__init__(specification)
        if self._is_gaussian:
            check_gaussian(self.spec)
        self._log_variance: LogVariance | None = None
        self._core: keras.Model = None
        self._encoder: keras.Model = None
        self._projection: SubspaceProjection | None = None
        self._trained: keras.Model = None
        self._accuracy_function: Any = None
        self._fitter: SubspaceFitter | None = None
        self._initial_values: list[tuple[keras.Variable, NDArray[Any]]] = []

    @property
    def folds_are_cheap(self) -> bool:
        """Whether the projection is used. Then a fit takes seconds; a plain dense network has about 10⁸ weights."""
        return self.spec.input_projection == "auto"

    @property
    def _is_gaussian(self) -> bool:
        return self.options.output == "gaussian"

    def _build(self, input_dim: int) -> keras.Model:
        spec = self.spec
        types, gains = self._type_count, spec.shape[2] if self._is_gaussian else 0
        image = keras.Input((input_dim,), name="image")
        label = keras.Input((types,), name="label") if types > 1 else None
        inputs = [image] if label is None else [image, label]
        if spec.input_projection == "none":
            self._core = dense_autoencoder(input_dim, types, spec.output_activation, spec, gains)
            self._projection = None
            output = self._core(inputs)
        else:
            rank = spec.projection_rank
            if not rank:
                raise ModelError("projection_rank is not set; the metadata of a trained model contain it")
            self._projection = SubspaceProjection(
                input_dim, rank, types, spec.output_activation, on_cpu=spec.HYBRID_MODE, name="projection"
            )
            self._core = dense_autoencoder(rank, types, "linear", spec, gains)
            output = self._core([self._projection(image, label), *inputs[1:]])
        mean, gain = output if gains else (output, None)
        if self._projection is not None:
            mean = self._projection(mean, label, inverse=True)
        output = mean
        if gains:
            self._log_variance = LogVariance(spec.shape, types, name="log_variance")
            output = layers.Concatenate(name="mean_and_log_variance")([mean, self._log_variance(gain, label)])
        self._encoder = keras.Model(self._core.inputs[0], self._core.get_layer("latent").output)
        return keras.Model(inputs, output, name=spec.model_name.replace(".", "_"))

    def prepare_fits(self, inputs: InputSet, row_sets: Sequence[Rows]) -> None:
        """Prepare what the subspaces of all fits share; see ``ModelFamily.prepare_fits``."""
        if self.spec.input_projection != "none":
            augmented = [self._with_copies(inputs, rows) for rows in row_sets]
            inputs, row_sets = augmented[0][0], [rows for _, rows in augmented]
            self._set_rank(row_sets[0])
            self._fitter = SubspaceFitter(inputs, self._labels(inputs), self.spec.memory_limit)
            self._fitter.prepare(row_sets)

    def fit(self, inputs: InputSet, rows: Rows, masks: NDArray[np.bool_], control: FitControl = NO_CONTROL) -> History:
        """Learn good parts; see ``ModelFamily.fit``.

        A quadratic loss is computed from coefficients only. The decoder cannot change the residual of an image from the
        subspace, so the residual enters the loss as a constant of the image.
        """
        inputs, rows = self._with_copies(inputs, rows)
        labels = self._labels(inputs)
        weights = self._value_weights(masks)
        fit = self._fit_subspace(inputs, labels, rows)
        on_coefficients = fit is not None and self._is_quadratic(weights)
        trained = self._initial_model(inputs.data.shape[1], on_coefficients, weights)
        if fit is not None and self._projection is not None:
            self._projection.set_subspace(fit.subspace)
        if self._log_variance is not None:
            subspace = means_only(inputs, rows, labels) if fit is None else fit.subspace
            squared = mean_squared_residuals(inputs, rows, labels, subspace)
            self._log_variance.set_level(squared, masks[: self._type_count])
        data = partial(self._training_data, inputs, labels, weights, fit if on_coefficients else None)
        training = data(rows)
        validation = None if control.validation_rows is None else data(control.validation_rows)
        accuracy: SampledAccuracy | None = None
        if self.spec.metric_accuracy:
            accuracy = SampledAccuracy(
                self._accuracy_function,
                self._projection,
                inputs,
                labels,
                rows=rows,
                validation_rows=control.validation_rows,
                seed=self.spec.seed,
            )
        return self._run(trained, training, validation, control, accuracy=accuracy)

    def save(self, folder: Path) -> list[Path]:
        """Write ``MODEL.keras`` and ``MODEL.weights.h5``, and the weights for ``DensePredictor``."""
        files = super().save(folder)
        if has_dense_file(self.spec):
            path = folder / f"{self.spec.model_name}{ENDING}"
            write_dense(path, self._core, self._projection, self._log_variance)
            files.append(path)
        return files

    def _training_data(
        self,
        inputs: InputSet,
        labels: NDArray[np.float32],
        weights: NDArray[np.float32] | None,
        fit: SubspaceFit | None,
        rows: Rows,
    ) -> Data:
        """The data of ``rows``: coefficients if ``fit`` is given, else images.

        Args:
            inputs: All good parts.
            labels: One-hot labels of all rows, (N, T).
            weights: The weights of the values in the loss, (T, D); None: all equal.
            fit: The subspace, if the loss is computed from coefficients.
            rows: The rows to train on, or to validate on.
        """
        if fit is None:
            label_in_target = weights is not None and self._type_count > 1
            limit = self.spec.memory_limit
            return InputRows(inputs, rows, labels, label_in_target=label_in_target, memory_limit=limit)
        if self._log_variance is not None:
            assert weights is not None  # with output gaussian, the loss always counts the part only
            return gaussian_data(inputs, rows, labels, fit.subspace, self._log_variance.level.numpy(), weights)
        all_values = np.full(self._type_count, inputs.data.shape[1])
        return coefficient_data(fit, rows, labels, all_values if weights is None else (weights > 0).sum(1))

    def _fit_subspace(self, inputs: InputSet, labels: NDArray[np.float32], rows: Rows) -> SubspaceFit | None:
        """Fit the subspace of ``inputs[rows]``, and set ``projection_rank``. None without a projection."""
        if self.spec.input_projection == "none":
            return None
        rank = self._set_rank(rows)
        if self._fitter is None or self._fitter.inputs is not inputs:
            self._fitter = SubspaceFitter(inputs, labels, self.spec.memory_limit)
        return self._fitter.fit([rows], rank)[0]

    def _set_rank(self, rows: Rows) -> int:
        """Set ``projection_rank`` before the first fit, on ``rows``; return it."""
        rank = self.spec.projection_rank or auto_rank(len(rows), self._type_count)
        self.spec = self.spec.model_copy(update={"projection_rank": rank})
        return rank

    def _initial_model(self, input_dim: int, on_coefficients: bool, weights: NDArray[np.float32] | None) -> keras.Model:
        """The compiled Keras model to train, with its initial weights.

        It shares its layers with ``model``, which is never compiled, so that saved files do not contain the optimizer.
        A small network is built once and then reset, because tracing it takes longer than training it.
        """
        keras.utils.set_random_seed(self.spec.seed)
        if self._initial_values:
            for variable, value in self._initial_values:
                variable.assign(value)
            return self._trained
        replicas = distribution_strategy(self.spec.gpus)
        with replicas.scope():
            self._trained = self._compiled(input_dim, on_coefficients, weights, replicas.num_replicas_in_sync > 1)
        if self.folds_are_cheap:
            variables = [*self._trained.variables, *self._trained.optimizer.variables]
            self._initial_values = [(variable, variable.numpy()) for variable in variables]
        core = keras.Model(self._core.inputs, self._core.outputs[0])  # without the gains
        activation = None if self._projection is None else self._projection.activation
        self._accuracy_function = share_function(core, activation)
        return self._trained

    def _compiled(
        self, input_dim: int, on_coefficients: bool, weights: NDArray[np.float32] | None, replicated: bool
    ) -> keras.Model:
        """Build ``model``, and compile the model to train. ``replicated``: whether several replicas train it."""
        spec = self.spec
        self.build_model(input_dim)
        network = self._core if on_coefficients else self.model
        loss: keras.losses.Loss
        if self._is_gaussian and on_coefficients:
            assert self._projection is not None
            network = keras.Model(network.inputs, layers.Concatenate(name="coefficients_and_gains")(network.outputs))
            loss = GaussianCoefficientLoss(self._projection.rank, spec.shape[2])
        elif self._is_gaussian:
            loss = GaussianLoss(weights=weights)
        elif on_coefficients:
            loss = CoefficientLoss()
        else:
            loss = ImageLoss(spec.loss_function, spec.huber_delta, weights)
        return self._compile(network, loss, replicated=replicated)

    def reconstruct(self, images: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Reconstructions (n, D) of images (n, D) with labels (n, T)."""
        return self._predict(images, labels)[:, : images.shape[1]]

    def deviation(self, images: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.float32]:
        """The standard deviations (n, D) of reconstructions, with ``output: gaussian``."""
        return _standard_deviations(self._predict(images, labels))

    def residual(self, images: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Input minus reconstruction, (n, D).

        With ``output: gaussian``, each value is divided by its standard deviation and multiplied by the typical one of
        its channel.
        """
        output = self._predict(images, labels)
        difference = images - output[:, : images.shape[1]]
        if self._log_variance is None:
            return difference
        height, width, _ = self.spec.shape
        unit = np.tile(labels @ self._log_variance.unit.numpy(), height * width)
        return np.asarray(difference * (unit / _standard_deviations(output)), np.float32)

    def difference(self, inputs: InputSet, rows: slice | Rows) -> NDArray[np.float32]:
        """See ``ModelFamily.difference``."""
        images, labels = inputs.rows(rows), self._labels(inputs)[rows]
        return (images - self.reconstruct(images, labels)).reshape(-1, *inputs.shape)

    def _predict(self, images: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.float32]:
        """The output of ``model``."""
        inputs = [images] if self._type_count == 1 else [images, labels]
        return np.asarray(self._built(inputs, training=False), np.float32)

    def encode(self, images: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.float32]:
        """The output of the latent layer, (n, L), with the last size L in ``autoencoder_architecture``."""
        if self._encoder is None:
            raise ModelError(NOT_FITTED)
        values = images if self._projection is None else self._projection(images, labels)
        return np.asarray(self._encoder(values, training=False), np.float32)

    def _is_quadratic(self, weights: NDArray[np.float32] | None) -> bool:
        """Whether the loss of images follows from coefficients in the subspace."""
        spec = self.spec
        if self._is_gaussian:
            return spec.output_activation == "linear"
        return (
            spec.loss_function in ("mse", "masked_mse")
            and spec.output_activation == "linear"
            and len(set(spec.channel_weights)) == 1
            # Otherwise the components of one type extend outside the mask of another, where a masked loss is 0.
            and (weights is None or bool(np.all(weights == weights[0])))
        )


def _standard_deviations(output: NDArray[np.float32]) -> NDArray[np.float32]:
    """Standard deviations (n, D) from an output of means and log-variances (n, 2 D)."""
    return np.exp(0.5 * np.asarray(bounded_log_variance(output[:, output.shape[1] // 2 :])))
