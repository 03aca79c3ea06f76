"""The work of a cluster's worker on a few photographs: prepare, score and draw them."""

from __future__ import annotations

import atexit
import copy
import shutil
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pixal.config.schema import Execution, ModelTraining
from pixal.tasks.photographs.discovery import Photograph
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.training.stored import TrainedModel
from pixal.tasks.photographs.verdicts.preparation import Preparation
from pixal.tasks.photographs.verdicts.type_verdicts import TypeVerdicts
from pixal.tasks.photographs.verdicts.verdict_store import StoredVerdict
from pixal.train_model.model_file.archive import unpack_model_file
from pixal.train_model.prediction import Predictor
from pixal.validation.pixel_metrics import PixelCounts
from pixal.validation.scoring import Summary

GROUP = 4  # photographs that are sent together

_MOST_MODELS = 4  # in the memory of a worker

_lock = threading.Lock()
_models: dict[tuple[str, str], Predictor] = {}


@dataclass(frozen=True)
class ValidatedGroup:
    """The result of a worker, which has written the files of the parts.

    Attributes:
        verdicts: The verdicts, in the order of the photographs.
        inputs: The input of each part, (H, W, C); None if it could not be prepared.
        summary: The sums over the parts.
        counts: Counts of the pixels of parts with a mask of the truth.
    """

    verdicts: tuple[StoredVerdict, ...]
    inputs: tuple[NDArray[np.float32] | None, ...]
    summary: Summary
    counts: PixelCounts


class GroupWork:
    """Validates groups of photographs of one type. It is sent to each worker once."""

    def __init__(self, preparation: Preparation, verdicts: TypeVerdicts, key: str) -> None:
        """Prepare to be sent.

        Args:
            preparation: Prepares the photographs.
            verdicts: Scores the parts.
            key: The fingerprint that the verdicts get.
        """
        self._preparation, self._verdicts = copy.copy(preparation), copy.copy(verdicts)
        self._preparation.config = self._verdicts.config = of_one_worker(verdicts.config)
        self._verdicts.set_batch([])
        self._verdicts.__dict__.pop("family", None)  # loaded in this process
        self._key = key

    def __call__(self, photographs: Sequence[Photograph]) -> ValidatedGroup:
        """Validate a group of photographs."""
        verdicts = copy.copy(self._verdicts)
        verdicts.family = _model_of(verdicts)  # not of this object, which workers send to each other
        verdicts.counts, summary = PixelCounts(), verdicts.new_summary()
        parts = list(self._preparation(list(photographs)))
        found = tuple(verdicts.validate_parts(parts, self._key, summary))
        inputs = tuple(part.input if verdict.record.is_ok else None for part, verdict in zip(parts, found, strict=True))
        return ValidatedGroup(found, inputs, summary, verdicts.counts)


def _model_of(verdicts: TypeVerdicts) -> Predictor:
    """The model, which this process loads once."""
    key = (verdicts.model.file or str(verdicts.model.record_file), verdicts.model.record_sha256)
    with _lock:
        if key not in _models:
            if len(_models) == _MOST_MODELS:
                del _models[next(iter(_models))]
            _models[key] = _load(verdicts.model, verdicts.config.model_training)
        return _models[key]


def _load(model: TrainedModel, settings: ModelTraining) -> Predictor:
    """Load a model. The folder that a model file was unpacked into is on the computer of the command only."""
    if model.file is None:
        return model.load_predictor(settings)
    folder = Path(tempfile.mkdtemp(prefix="pixal_"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return unpack_model_file(Path(model.file), folder)[1].load_predictor(settings)


def on_this_computer(config: PhotographConfig) -> PhotographConfig:
    """The settings without the Dask cluster."""
    execution = Execution(workers=config.execution.workers, memory_limit=config.execution.memory_limit)
    return replace(config, parameters=config.parameters.model_copy(update={"execution": execution}))


def of_one_worker(config: PhotographConfig) -> PhotographConfig:
    """The settings with which a worker works on one photograph after the other, in its own thread."""
    background = config.preprocessing.remove_background.model_copy(update={"max_workers": None})
    preprocessing = config.preprocessing.model_copy(update={"remove_background": background})
    execution = Execution(workers=1, memory_limit=config.execution.memory_limit)
    sections = {"execution": execution, "preprocessing": preprocessing}
    return replace(config, parameters=config.parameters.model_copy(update=sections))
