"""The dense autoencoder, between a fixed projection onto the subspace of the good images and its transpose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from pixal.errors import ModelError
from pixal.inputs import InputSet
from pixal.train_model.autoencoder.coefficients import CoefficientLoss, coefficient_data
from pixal.train_model.autoencoder.gaussian_coefficients import GaussianCoefficientLoss, gaussian_data
from pixal.train_model.autoencoder.log_variance import LogVariance, means_alone, squared_residuals
from pixal.train_model.autoencoder.network import dense_autoencoder
from pixal.train_model.autoencoder.options import AutoencoderOptions
from pixal.train_model.autoencoder.projection import SubspaceFitter, auto_rank
from pixal.train_model.autoencoder.projection_layer import SubspaceProjection
from pixal.train_model.autoencoder.sampled_accuracy import SampledAccuracy, share_function
from pixal.train_model.autoencoder.subspace import Fit
from pixal.train_model.family import NO_CONTROL, NOT_FITTED, FitControl, Rows
from pixal.train_model.history import History
from pixal.train_model.keras_training.data import InputRows
from pixal.train_model.keras_training.keras_family import KerasAnomalyModel
from pixal.train_model.keras_training.losses import GaussianLoss, ImageLoss, bounded_log_variance, check_gaussian
from pixal.train_model.keras_training.replicas import distribution_strategy
from pixal.train_model.specification import ModelSpecification


class Autoencoder(KerasAnomalyModel):
    """The model family "autoencoder"; see ``pixal.train_model.family.ModelFamily``.

    >>> model = Autoencoder(params)
    >>> model.build_model(input_dim=params["input_dim"])
    >>> model.load_weights(str(weights_path))

    ``params`` is the content of ``metadata/model_training.yaml``. Once built, ``model`` is the Keras model:
    from images (n, D), in one-hot mode with labels (n, T), to their reconstructions (n, D); with ``output: gaussian``
    to (n, 2 D), the means and then the log-variances.
    """

    Options = AutoencoderOptions
    options: AutoencoderOptions

    def __init__(self, specification: Mapping[str, Any] | ModelSpecification) -> None:
        """Nothing is built yet. Raises ConfigError for settings that do not go together."""
        super().__init__(specification)
        if self._is_gaussian:
            check_gaussian(self.spec)
        self._log_variance: Any = None
        self._core: Any = None
        self._encoder: Any = None
        self._projection: Any = None
        self._trained: Any = None
        self._share: Any = None
        self._fitter: SubspaceFitter | None = None
        self._beginning: list[tuple[Any, Any]] = []

    @property
    def folds_are_cheap(self) -> bool:
        """With the projection a fit takes seconds; with a plain dense network of 10⁸ weights not."""
        return self.spec.input_projection == "auto"

    @property
    def _is_gaussian(self) -> bool:
        return self.options.output == "gaussian"

    def _build(self, input_dim: int) -> Any:
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
                raise ModelError("projection_rank is not set; metadata of a trained model holds it")
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
        """Share among the fits to come what their subspaces have in common; see ``ModelFamily.prepare_fits``."""
        if self.spec.input_projection != "none":
            self._fitter = SubspaceFitter(inputs, self._labels(inputs), self.spec.memory_limit)
            self._fitter.prepare(row_sets)

    def fit(self, inputs: InputSet, rows: Rows, masks: NDArray[np.bool_], control: FitControl = NO_CONTROL) -> History:
        """Learn good parts; see ``ModelFamily.fit``.

        Where the loss is quadratic in the difference it is computed from coefficients alone: what lies outside the
        subspace no decoder can change, so it enters as a constant of each image.
        """
        spec, validation_rows = self.spec, control.validation_rows
        labels = self._labels(inputs)
        weights = self._value_weights(masks)
        subspace = self._fit_subspace(inputs, labels, rows)
        in_coefficients = subspace is not None and self._is_quadratic(weights)
        trained = self._untrained(inputs.data.shape[1], in_coefficients, weights)
        if subspace is not None:
            self._projection.set_subspace(subspace.subspace)
        if self._is_gaussian:
            fixed = means_alone(inputs, rows, labels) if subspace is None else subspace.subspace
            self._log_variance.set_level(squared_residuals(inputs, rows, labels, fixed), masks[: self._type_count])
        data: list[Any] = [None, None]
        for index, part in enumerate((rows, validation_rows)):
            if part is not None and subspace is not None and in_coefficients and self._is_gaussian:
                assert weights is not None  # of the part alone
                level = self._log_variance.level.numpy()
                data[index] = gaussian_data(inputs, part, labels, subspace.subspace, level, weights)
            elif part is not None and subspace is not None and in_coefficients:
                counted = np.full(self._type_count, inputs.data.shape[1]) if weights is None else (weights > 0).sum(1)
                data[index] = coefficient_data(subspace, part, labels, counted)
            elif part is not None:
                with_label = weights is not None and self._type_count > 1
                data[index] = InputRows(
                    inputs, part, labels, label_in_target=with_label, memory_limit=spec.memory_limit
                )
        accuracy: SampledAccuracy | None = None
        if spec.metric_accuracy:
            accuracy = SampledAccuracy(
                self._share,
                self._projection,
                inputs,
                labels,
                rows=rows,
                validation_rows=validation_rows,
                seed=spec.seed,
            )
        return self._run(trained, data[0], data[1], control, accuracy=accuracy)

    def _fit_subspace(self, inputs: InputSet, labels: NDArray[np.float32], rows: Rows) -> Fit | None:
        """The subspace of ``inputs[rows]``, and where all parts lie in it; None without a projection."""
        if self.spec.input_projection == "none":
            return None
        rank = self.spec.projection_rank or auto_rank(len(rows), self._type_count)
        self.spec = self.spec.model_copy(update={"projection_rank": rank})
        if self._fitter is None or self._fitter.inputs is not inputs:
            self._fitter = SubspaceFitter(inputs, labels, self.spec.memory_limit)
        return self._fitter.fit([rows], rank)[0]

    def _untrained(self, input_dim: int, in_coefficients: bool, weights: NDArray[np.float32] | None) -> Any:
        """The compiled Keras model to train, as it was before any training.

        It shares its layers with ``model``, which is never compiled: the optimizer stays out of the saved files.
        Tracing takes longer than training a small network, so that one is put back to its first weights.
        """
        keras.utils.set_random_seed(self.spec.seed)
        if self._beginning:
            for variable, value in self._beginning:
                variable.assign(value)
            return self._trained
        replicas = distribution_strategy(self.spec.gpus)
        with replicas.scope():
            self._trained = self._compiled(input_dim, in_coefficients, weights, replicas.num_replicas_in_sync > 1)
        if self.folds_are_cheap:
            variables = [*self._trained.variables, *self._trained.optimizer.variables]
            self._beginning = [(variable, variable.numpy()) for variable in variables]
        core = keras.Model(self._core.inputs, self._core.outputs[0])  # without the gains
        self._share = share_function(core, None if self._projection is None else self._projection.activation)
        return self._trained

    def _compiled(
        self, input_dim: int, in_coefficients: bool, weights: NDArray[np.float32] | None, shared: bool
    ) -> Any:
        """A new model, and around it the one to train. ``shared``: by several replicas, as ``TapeModel`` alone can."""
        spec = self.spec
        self.build_model(input_dim)
        whole = self._core if in_coefficients else self.model
        loss: Any
        if self._is_gaussian and in_coefficients:
            whole = keras.Model(whole.inputs, layers.Concatenate(name="coefficients_and_gains")(whole.outputs))
            loss = GaussianCoefficientLoss(self._projection.rank, spec.shape[2])
        elif self._is_gaussian:
            loss = GaussianLoss(weights=weights)
        elif in_coefficients:
            loss = CoefficientLoss()
        else:
            loss = ImageLoss(spec.loss_function, spec.huber_delta, weights)
        return self._compile(whole, loss, replicated=shared)

    def reconstruct(self, images: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Reconstructions (n, D) of images (n, D) with labels (n, T)."""
        return self._predict(images, labels)[:, : images.shape[1]]

    def deviation(self, images: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.float32]:
        """The standard deviations (n, D) that the model expects about its reconstructions; ``output: gaussian``."""
        return _deviation(self._predict(images, labels))

    def residual(self, images: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Input minus reconstruction, (n, D); with ``output: gaussian`` in sigmas, times a channel's typical sigma."""
        found = self._predict(images, labels)
        difference = images - found[:, : images.shape[1]]
        if not self._is_gaussian:
            return difference
        height, width, _ = self.spec.shape
        unit = np.tile(labels @ self._log_variance.unit.numpy(), height * width)
        return np.asarray(difference * (unit / _deviation(found)), np.float32)

    def difference(self, inputs: InputSet, rows: slice | Rows) -> NDArray[np.float32]:
        """See ``ModelFamily.difference``."""
        images, labels = inputs.rows(rows), self._labels(inputs)[rows]
        return (images - self.reconstruct(images, labels)).reshape(-1, *inputs.shape)

    def _predict(self, images: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.float32]:
        inputs = [images] if self._type_count == 1 else [images, labels]
        return np.asarray(self._built(inputs, training=False), np.float32)

    def encode(self, images: NDArray[np.float32], labels: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the encoder makes of images: (n, L), L the last of ``autoencoder_architecture``."""
        if self._encoder is None:
            raise ModelError(NOT_FITTED)
        values = images if self._projection is None else self._projection(images, labels)
        return np.asarray(self._encoder(values, training=False), np.float32)

    def _is_quadratic(self, weights: NDArray[np.float32] | None) -> bool:
        spec = self.spec
        if self._is_gaussian:
            return spec.output_activation == "linear"
        return (
            spec.loss_function in ("mse", "masked_mse")
            and spec.output_activation == "linear"
            and len(set(spec.channel_weights)) == 1
            # One type's components reach beside another's mask, where a masked loss does not look.
            and (weights is None or bool(np.all(weights == weights[0])))
        )


def _deviation(found: NDArray[np.float32]) -> NDArray[np.float32]:
    """Standard deviations (n, D) from means and log-variances (n, 2 D)."""
    return np.exp(0.5 * np.asarray(bounded_log_variance(found[:, found.shape[1] // 2 :])))
