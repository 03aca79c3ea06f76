"""Trained models on disk: find them, and load them only as training wrote them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixal.config import Config
from pixal.errors import ModelError, PixalError
from pixal.io.files import file_hash
from pixal.io.records import read_record
from pixal.train_model.family import ModelFamily, family_named
from pixal.version import __version__

_log = logging.getLogger(__name__)

MODEL_RECORD = "model_training.yaml"


@dataclass(frozen=True)
class StoredModel:
    """A trained model on disk.

    Attributes:
        owner: The type that the model is for; None for one model of all types.
        params: Its metadata.
        folder: Its files.
    """

    owner: str | None
    params: dict[str, Any]
    folder: Path

    def load_family(self) -> ModelFamily:
        """The model itself, rebuilt from metadata and weights."""
        return family_named(self.params["model"]).load(self.folder, self.params)


def trained_types(config: Config) -> list[str]:
    """The types that have a trained model."""
    root = config.paths.resolve("component_model_path")
    if config.model_training.one_hot_encoding:
        record = root / "metadata" / MODEL_RECORD
        return list(read_record(record)["types"]) if record.is_file() else []
    return sorted(
        path.name
        for path in root.glob("*")
        if (config.paths.resolve("metadata_path", path.name) / MODEL_RECORD).is_file()
    )


def load_stored(config: Config, owner: str | None) -> StoredModel:
    """The model of type ``owner``, or (None) that of all types.

    Raises ModelError where it is missing, or a file of it is not the one that training wrote.
    """
    folder = config.paths.resolve("model_path", owner)
    try:
        params = read_record(config.paths.resolve("metadata_path", owner) / MODEL_RECORD)
    except PixalError as error:
        raise ModelError(f"{owner or config.paths.component} was never trained ({error}); run train first") from error
    if params.get("pixal_version") != __version__:
        _log.warning(
            "%s was trained by PIXAL %s, this is %s: scores may differ; train again to be sure",
            owner or config.paths.component,
            params.get("pixal_version"),
            __version__,
        )
    for name, digest in params.get("files", {}).items():
        if not (folder / name).is_file():
            raise ModelError(f"{folder / name} is missing; run train again")
        if file_hash(folder / name) != digest:
            raise ModelError(f"{folder / name} is not the file that training wrote; run train again")
    return StoredModel(owner, params, folder)
