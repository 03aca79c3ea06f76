"""The reconstruction of one part: what its model makes of it, and where that differs."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from pixal.config.paths import Paths
from pixal.errors import PixalError
from pixal.inputs import InputSet
from pixal.io.growing import GrowingRows
from pixal.io.images import figure_png
from pixal.io.records import RECORD_HASH, read_record
from pixal.server.site import PartKey, Picture
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.training.stored import TrainedModel, load_trained
from pixal.tasks.photographs.verdicts.verdict_store import ROWS_FILE, StoredVerdict, input_hash
from pixal.train_model.prediction import Predictor
from pixal.train_model.specification import ModelSpecification
from pixal.train_model.stored_model import MODEL_RECORD

_MOST_CHANNELS = 6  # of the figure: those that deviate most


class Reconstructions:
    """Draws reconstructions by the models in use."""

    def __init__(self, config: PhotographConfig) -> None:
        self._config, self._lock = config, threading.Lock()
        self._gives = lru_cache(maxsize=64)(self._record_gives)
        self._model = lru_cache(maxsize=2)(partial(_load, config))

    def are_there(self, part: PartKey) -> bool:
        """Whether the model that scored a part is in use, and of a family that makes reconstructions."""
        return self._gives(part.type, part.model_sha256)

    def draw(self, part: PartKey, verdict: StoredVerdict, paths: Paths) -> Picture | None:
        """Draw a part, its reconstruction and the error in the channels that deviate most.

        Args:
            part: The part.
            verdict: Its stored verdict.
            paths: The folders of its batch.

        Returns:
            The figure; None if the model or the input of the part is not stored any more.
        """
        if not self.are_there(part) or not verdict.record.is_ok:
            return None
        with self._lock:  # figures and models are for one thread at a time
            model, predictor = self._model(self._owner(part.type), part.model_sha256)
            image = self._read_input(part.type, verdict, paths, model.record)
            if image is None:
                return None
            error = _difference(predictor, image, part.type)
            return _draw(part, image, error, model.states[part.type].mask, model.record.channels)

    def _record_gives(self, type_name: str, model_sha256: str) -> bool:
        path = self._config.paths.resolve("metadata_path", self._owner(type_name)) / MODEL_RECORD
        try:
            content = read_record(path)
            return content.get(RECORD_HASH) == model_sha256 and bool(
                ModelSpecification.read(content).difference_channels
            )
        except PixalError:
            return False

    def _owner(self, type_name: str) -> str | None:
        return None if self._config.model_training.one_hot_encoding else type_name

    def _read_input(
        self, type_name: str, verdict: StoredVerdict, paths: Paths, record: ModelSpecification
    ) -> NDArray[np.float32] | None:
        """The input of a part, (H, W, C); None if it is not the one that was scored."""
        archive = (
            paths.resolve("component_validate_path", type_name) / self._config.preprocessing.preprocessor.file_name
        )
        rows = GrowingRows(archive.with_name(ROWS_FILE), int(np.prod(record.shape)))
        if rows.path.is_file():  # while the batch is being validated
            values = rows.read(verdict.row) if verdict.row is not None else np.zeros(0, np.float32)
        else:
            inputs = InputSet.load(archive)
            row = inputs.names.index(verdict.record.image) if verdict.record.image in inputs.names else len(inputs)
            values = inputs.rows(slice(row, row + 1))[:1]
        if values.size != np.prod(record.shape) or input_hash(values) != verdict.record.input_sha256:
            return None
        return values.reshape(record.shape)


def _load(config: PhotographConfig, owner: str | None, model_sha256: str) -> tuple[TrainedModel, Predictor]:
    """The model of a type. ``model_sha256``, the key of the cache, changes when another one is promoted or trained."""
    model = load_trained(config, owner)
    return model, model.load_predictor(config.model_training)


def _difference(predictor: Predictor, image: NDArray[np.float32], type_name: str) -> NDArray[np.float32]:
    spec = predictor.spec
    types = spec.types if spec.one_hot_encoding else ()
    labels = np.eye(len(types), dtype=np.float32)[[types.index(type_name)]] if types else None
    inputs = InputSet(image.reshape(1, -1), image.shape, spec.channels, ("part",), labels, types)
    difference: NDArray[np.float32] = predictor.difference(inputs, slice(None))[0]
    return difference


def _draw(
    part: PartKey,
    image: NDArray[np.float32],
    error: NDArray[np.float32],
    mask: NDArray[np.bool_],
    channels: Sequence[str],
) -> Picture:
    from pixal.plotting.training import reconstruction_strip

    deviation = np.where(mask[..., None], np.abs(error), 0).max((0, 1))
    chosen = np.sort(np.argsort(-deviation, kind="stable")[:_MOST_CHANNELS])
    by_channel = (np.moveaxis(values, -1, 0)[chosen] for values in (image, image - error, np.abs(error)))
    inputs, reconstructions, errors = by_channel
    figure = reconstruction_strip(
        inputs,
        reconstructions,
        np.where(mask, errors, np.nan),
        [channels[index] for index in chosen],
        title=f"{part.type}/{part.image}: input and reconstruction",
        error_name="absolute error",
    )
    return Picture(figure_png(figure), "image/png")
