"""The settings that all tasks share: the model, its training, and the execution.

The class tree mirrors ``parameters.yaml``. Names in capitals come from existing users' files and stay as they are.
The sections of a task are in its own ``settings.py``.
"""

from __future__ import annotations

import warnings
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from pixal.config.former import FormerValue
from pixal.config.section import Count, Fraction, Mark, Positive, Section, Units
from pixal.errors import ConfigError
from pixal.registry import MODELS

AUTO_MODEL = "auto"
"""In place of a model family: ``train`` chooses one."""


class Augmentation(Section):
    """Augmented copies of the good images, for families that are trained by epochs.

    Attributes:
        copies: Number of copies of each image. 0: none.
        flip_horizontal: Probability that a copy is mirrored left to right.
        flip_vertical: Probability that a copy is mirrored top to bottom.
        shift: Largest shift of a copy along each side, in pixels of the input.
        light: Largest relative change of the strength of the light.
    """

    copies: Annotated[int, Field(ge=0, le=100)] = 0
    flip_horizontal: Fraction = 0.0
    flip_vertical: Fraction = 0.0
    shift: Annotated[float, Field(ge=0, le=16)] = 0.5
    light: Annotated[float, Field(ge=0, le=0.5)] = 0.02


class ModelTraining(Section):
    """The model, its loss, and how it is trained.

    Attributes:
        model: Name of the model family. ``auto``: ``train`` chooses the one that finds most planted defects.
        budget_s: Seconds that the choice may take.
        model_options: Settings that only this family has. The family checks them.
        model_name: File name of the model, without extension. None: ``pixal_`` and the name of the family.
        model_file_extension: Format of the stored model.
        seed: Seed of all random numbers.
        one_hot_encoding: Whether one model serves all types. It then gets the type as a one-hot label.
        gpus: Number of GPUs that share each batch.
        enable_memory_growth: Take GPU memory as needed instead of all at once.
        TF_GPU_ALLOCATOR: Memory allocator of TensorFlow, for example ``cuda_malloc_async``.
        mixed_precision: Use float16 arithmetic where Keras considers it safe.
        Available_CPU: Number of processor threads for TensorFlow. None: all.
        CPU_MULTI_THREADING: False: use one thread.
        HYBRID_MODE: Keep the projection's basis in main memory, and the network on the GPU.
        autoencoder_architecture: Units of the encoder's layers. The last is the latent; the decoder mirrors the others.
        label_latent_size: In one-hot mode: number of latent units for the label.
        input_projection: ``auto``: a fixed basis, computed from the good images, between pixels and network.
            ``none``: a plain dense network on all pixels.
        projection_rank: Number of components of the basis. None: as many as the images span, at most 3 per type.
        input_noise: Standard deviation of the Gaussian noise on the network's input during training.
        augmentation: Augmented copies of the good images.
        output_activation: Activation of the reconstruction.
        use_gradient_tape: Use PIXAL's training step instead of that of Keras. The numbers are the same.
        jit_compile: Compile the training step with XLA.
        checkpoint_every: Also store the weights each time this many epochs have passed. 0: never.
        n_epochs: Largest number of epochs.
        batchsize: Images per training step.
        learning_rate: Learning rate at the start.
        learning_rate_schedule: ``cosine`` decreases over ``n_epochs``; ``plateau`` decreases when the loss of held-out
            parts no longer improves.
        learning_rate_end: Smallest learning rate of a schedule, as a fraction of ``learning_rate``.
        plateau_patience: Epochs without improvement before ``plateau`` decreases the rate.
        plateau_factor: Factor of each decrease of ``plateau``.
        optimizer: Name of a Keras optimizer.
        regularization: Penalty on the kernels of the hidden layers.
        l1_regularization: Factor of the ``l1`` penalty.
        l2_regularization: Factor of the ``l2`` penalty.
        loss_function: Loss per value. ``masked_mse`` is ``mse`` with ``masked_loss``.
        huber_delta: Where ``huber`` changes from quadratic to linear.
        masked_loss: Only pixels of the part count in the loss.
        metric_accuracy: Also track the fraction of values that are reconstructed within 0.02.
        patience: Epochs without improvement on held-out parts before a fit stops. 0: never stop early.
        min_delta: Smallest decrease of the loss that counts as an improvement.
        calibration_folds: Number of folds of held-out parts; at most one per part.
    """

    model: str = "combined"
    model_options: dict[str, Any] = {}
    budget_s: Annotated[Positive, Mark.NO_RESULT] = 600.0
    model_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] | None = None
    model_file_extension: Literal["keras", "h5"] = "keras"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    one_hot_encoding: bool = False

    gpus: Count = 1
    enable_memory_growth: bool = True
    TF_GPU_ALLOCATOR: str | None = None
    mixed_precision: bool = False
    Available_CPU: Count | None = None
    CPU_MULTI_THREADING: bool = True
    HYBRID_MODE: bool = False

    autoencoder_architecture: Annotated[list[Units], Field(min_length=1)] = [512, 256, 128, 64]
    label_latent_size: Count = 8
    input_projection: Literal["auto", "none"] = "auto"
    projection_rank: Count | None = None
    input_noise: Annotated[float, Field(ge=0)] = 0.1
    augmentation: Augmentation = Augmentation()
    output_activation: Literal["linear", "sigmoid", "tanh", "relu"] = "linear"

    use_gradient_tape: bool = False
    jit_compile: bool = False
    checkpoint_every: Annotated[int, Field(ge=0)] = 0
    n_epochs: Count = 300
    batchsize: Count = 32
    learning_rate: Positive = 0.001
    learning_rate_schedule: Literal["constant", "cosine", "plateau"] = "constant"
    learning_rate_end: Fraction = 0.01
    plateau_patience: Count = 10
    plateau_factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    optimizer: str = "adam"
    regularization: Literal["l1", "l2", "l1_l2"] | None = None
    l1_regularization: Annotated[float, Field(ge=0)] = 1e-6
    l2_regularization: Annotated[float, Field(ge=0)] = 1e-6
    loss_function: Literal["mse", "mae", "huber", "charbonnier", "masked_mse"] = "mse"
    huber_delta: Positive = 0.05
    masked_loss: bool = False
    metric_accuracy: bool = True
    patience: Annotated[int, Field(ge=0)] = 30
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    calibration_folds: Annotated[int, Field(ge=2)] = 5

    @field_validator("model")
    @classmethod
    def _known_family(cls, value: str) -> str:
        try:
            if value != AUTO_MODEL:
                MODELS.class_path(value)
        except ConfigError as error:  # pydantic adds the key only to a ValueError
            raise ValueError(str(error).removeprefix("model_training.model: ")) from error
        return value

    @field_validator("model_options")
    @classmethod
    def _none_without_a_family(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        if value and info.data.get("model") == AUTO_MODEL:
            raise ValueError("options belong to one model family, but model is auto; name the family, or no options")
        return value

    @model_validator(mode="after")
    def _default_name(self) -> ModelTraining:
        if self.model_name is None:
            object.__setattr__(self, "model_name", f"pixal_{self.model}")
        return self

    @field_validator("HYBRID_MODE")
    @classmethod
    def _hybrid_needs_one_gpu(cls, value: bool, info: ValidationInfo) -> bool:
        if value and info.data.get("gpus", 1) > 1:
            raise ValueError(f"HYBRID_MODE needs gpus 1, not {info.data['gpus']}")
        return value

    @field_validator("model_file_extension", mode="before")
    @classmethod
    def _without_dot(cls, value: Any) -> Any:
        return value.removeprefix(".") if isinstance(value, str) else value

    @field_validator("regularization", mode="before")
    @classmethod
    def _none_by_name(cls, value: Any) -> Any:
        return None if value in ("none", "None", "", False) else value


class Execution(Section):
    """Where and on how many images at the same time PIXAL works.

    Attributes:
        backend: Threads, processes, or a Dask cluster.
        workers: Images processed, and models trained, at the same time. None: one per processor.
        scheduler: Address of a Dask scheduler. None with Dask: start one on this machine.
        memory_limit: GB. Larger inputs are read from disk batch by batch during training.
    """

    backend: Annotated[Literal["threads", "processes", "dask"], Mark.NO_RESULT] = "threads"
    workers: Annotated[Count | None, Mark.NO_RESULT] = None
    scheduler: Annotated[str | None, Mark.NO_RESULT] = None
    memory_limit: Annotated[Positive, Mark.NO_RESULT] = 4.0

    @field_validator("scheduler")
    @classmethod
    def _scheduler_needs_dask(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and info.data.get("backend", "dask") != "dask":
            raise ValueError(f"scheduler needs backend dask, not {info.data['backend']!r}")
        return value


LoggerName = Literal["auto", "mlflow", "csv", "tensorboard"]
"""A logger of runs; ``auto`` stands for MLflow where it is installed."""


with warnings.catch_warnings():  # the metaclass of pydantic has a method ``register``, which no settings call
    warnings.filterwarnings("ignore", message='Field name "register"')

    class Tracking(Section):
        """Where runs are logged. ``tracking: off`` stands for no loggers.

        Attributes:
            loggers: ``mlflow``: a store or server of MLflow. ``csv``: tables in ``runs/``. ``tensorboard``: event files
                in ``runs/``. ``auto``: ``mlflow`` where it is installed.
            register: Also add each trained model to MLflow's model registry, as ``COMPONENT_TYPE``.
        """

        loggers: Annotated[list[LoggerName], Mark.NO_RESULT] = ["auto"]
        register: Annotated[bool, Mark.NO_RESULT] = False

        @model_validator(mode="before")
        @classmethod
        def _on_or_off(cls, value: Any) -> Any:
            """YAML reads ``off`` as False."""
            if value in (False, "off"):
                return {"loggers": []}
            if value in (True, "on"):
                return {}
            if not isinstance(value, dict | Tracking):
                raise ValueError(f"{value!r} is neither off nor a section with loggers and register")
            return value

        @field_validator("loggers", mode="before")
        @classmethod
        def _one_name(cls, value: Any) -> Any:
            if value in (False, "off"):
                return []
            return [value] if isinstance(value, str) else value

        @model_validator(mode="after")
        def _registry_needs_mlflow(self) -> Tracking:
            if self.register and not {"auto", "mlflow"} & {*self.loggers}:
                raise ValueError("register needs mlflow among the loggers: the registry is that of MLflow")
            return self


class Parameters(Section):
    """All settings of ``parameters.yaml``. A task derives its own class from this one, and adds its sections.

    Attributes:
        former_values: Values that configurations of the first version hold, and for which the default is used.
        experimentName: Name of the experiment in MLflow.
        task: Name of the task.
        model_training: The model and its training.
        execution: The execution.
        tracking: Where runs are logged.
    """

    former_values: ClassVar[tuple[FormerValue, ...]] = ()

    experimentName: Annotated[str, Mark.NO_RESULT] = "PIXAL"
    task: str = "photographs"
    model_training: ModelTraining = ModelTraining()
    execution: Execution = Execution()
    tracking: Annotated[Tracking, Mark.NO_RESULT] = Tracking()
