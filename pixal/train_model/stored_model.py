"""Trained models on disk: find them, and load them only if their files are those that training wrote."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path

from pixal.config import Config
from pixal.config.schema import ModelTraining
from pixal.errors import ModelError, PixalError
from pixal.io.files import file_hash, has_hash
from pixal.io.handover import finish, is_unfinished
from pixal.io.locking import lock_folder
from pixal.io.records import has_valid_hash, read_record
from pixal.registry import PREDICTORS
from pixal.train_model.family import (
    AnomalyModel,
    ModelFamily,
    anomaly_family_named,
    as_anomaly_model,
    family_named,
)
from pixal.train_model.prediction import Predictor
from pixal.train_model.specification import ModelRecord
from pixal.version import __version__

_log = logging.getLogger(__name__)

MODEL_RECORD = "model_training.yaml"

_WAIT = 10.0  # seconds for another run that is changing the model in use


@dataclass(frozen=True)
class StoredModel:
    """A trained model on disk.

    Attributes:
        owner: The type that the model is for; None for one model of all types.
        record: What training stored about the model.
        folder: The folder of its files.
        record_file: The file of the record.
        record_sha256: The SHA-256 of that file when it was read.
    """

    owner: str | None
    record: ModelRecord
    folder: Path
    record_file: Path
    record_sha256: str

    def load_model(self) -> ModelFamily:
        """Rebuild the model from its record and its files.

        Raises:
            ModelError: A file is missing or damaged, or was replaced meanwhile.
        """
        try:
            return family_named(self.record.model).load(self.folder, self.record)
        finally:
            self.check_unchanged()

    def load_anomaly_model(self) -> AnomalyModel:
        """Rebuild the model for a task that needs an ``AnomalyModel``.

        Raises:
            ConfigError: The model gives no error map.
            ModelError: A file is missing or damaged, or was replaced meanwhile.
        """
        return as_anomaly_model(self.load_model())

    def load_predictor(self, settings: ModelTraining) -> Predictor:
        """Rebuild the model to apply it, without TensorFlow where its files allow it.

        Args:
            settings: Today's settings of threads and devices.

        Raises:
            ConfigError: The model gives no error map.
            ModelError: A file is missing or damaged, or was replaced meanwhile.
        """
        name = self.record.model
        try:
            if name in PREDICTORS and not self.may_import_tensorflow:
                load = EntryPoint(name, PREDICTORS[name], "").load()
                predictor: Predictor = load(self.folder, self.record)
                return predictor
            anomaly_family_named(name).set_up(settings)
            return as_anomaly_model(family_named(name).load(self.folder, self.record))
        finally:
            self.check_unchanged()

    @property
    def may_import_tensorflow(self) -> bool:
        """Whether applying the model may need TensorFlow: not where training wrote files for inference.

        Models of earlier versions do not have such files, and of families of other packages nothing is known.
        """
        return self.record.model != "gaussian" and not any(".inference." in name for name in self.record.files)

    def check_unchanged(self) -> None:
        """Check that what was read so far belongs together: training removes the record before it replaces a file.

        Raises:
            ModelError: Training has stored another model since the record was read.
        """
        if not has_hash(self.record_file, self.record_sha256):
            raise ModelError(f"the model in {self.folder} was replaced while it was read; run the same command again")


def complete_promotion(config: Config, owner: str | None) -> None:
    """Complete a change of the model in use that was interrupted (``pixal promote``).

    Raises:
        InputError: Another run is changing it.
    """
    folder = config.paths.resolve("component_model_path", owner)
    if not is_unfinished(folder):
        return
    with lock_folder(folder, wait=_WAIT):
        if finish(folder):
            _log.info("completed an interrupted change of the model in %s", folder)


def trained_types(config: Config) -> list[str]:
    """The types that have a trained model."""
    root = config.paths.resolve("component_model_path")
    if config.model_training.one_hot_encoding:
        complete_promotion(config, None)
        path = root / "metadata" / MODEL_RECORD
        return list(_read(path, root.name)[0].types) if path.is_file() else []
    for path in root.glob("*"):
        complete_promotion(config, path.name)
    return sorted(
        path.name
        for path in root.glob("*")
        if (config.paths.resolve("metadata_path", path.name) / MODEL_RECORD).is_file()
    )


def load_stored(config: Config, owner: str | None) -> StoredModel:
    """Find the model of type ``owner``, or (None) that of all types, and verify its files.

    Raises:
        ModelError: The model is missing or damaged, or a file is not the one that training wrote.
    """
    complete_promotion(config, owner)
    label, folder = owner or config.paths.component, config.paths.resolve("model_path", owner)
    return read_stored(owner, config.paths.resolve("metadata_path", owner) / MODEL_RECORD, folder, label)


def read_stored(owner: str | None, record_file: Path, folder: Path, label: str) -> StoredModel:
    """Read the record of a model, and verify the model's files.

    Args:
        owner: The type that the model is for; None for one model of all types.
        record_file: The file of the record.
        folder: The folder of the model's files.
        label: What the model is called in messages.

    Raises:
        ModelError: The model is missing or damaged, or a file is not the one that training wrote.
    """
    record, record_sha256 = _read(record_file, label)
    if record.pixal_version != __version__:
        _log.warning(
            "%s was trained by PIXAL %s, this is %s: scores may differ; train again to be sure",
            label,
            record.pixal_version,
            __version__,
        )
    for name, digest in record.files.items():
        _check_file(folder / name, digest)
    return StoredModel(owner, record, folder, record_file, record_sha256)


def _check_file(path: Path, digest: str) -> None:
    """Raise ModelError if a file is missing, cannot be read, or is not the one with the hash ``digest``."""
    if not path.is_file():
        raise ModelError(f"{path} is missing; run train again")
    try:
        is_same = file_hash(path) == digest
    except (OSError, PixalError) as error:
        raise ModelError(f"{path} cannot be read ({error}); make it readable, or run train again") from error
    if not is_same:
        raise ModelError(f"{path} is not the file that training wrote; run train again")


def _read(path: Path, label: str) -> tuple[ModelRecord, str]:
    """Read a record, and check the hash that it holds; return it with the SHA-256 of its file."""
    try:
        sha256 = file_hash(path) if path.is_file() else ""  # first: a record that is replaced in between has another
        content = read_record(path)
    except (OSError, PixalError) as error:
        raise ModelError(f"{label} was never trained ({error}); run train first") from error
    if not has_valid_hash(content):
        raise ModelError(
            f"{path} is not what training wrote: a value was changed, added or removed, or an earlier version of PIXAL "
            "wrote it; run train again"
        )
    try:
        return ModelRecord.read(content), sha256
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
