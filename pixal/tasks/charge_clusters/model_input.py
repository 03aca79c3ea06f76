"""What preprocessing stores about the model input: ``metadata/clusters.yaml``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from pixal.config import Config
from pixal.errors import InputError
from pixal.io.records import has_valid_hash, read_record, with_hash, write_record
from pixal.tasks.charge_clusters.normalization import Normalization
from pixal.tasks.charge_clusters.shards import Block, EventStream

RECORD = "clusters.yaml"
SHARDS = "clusters"
"""Folder of the shards, in the folder of the component."""

Split = Literal["train", "validation", "test"]


class Shard(BaseModel):
    """A file of events: its name, its SHA-256, and the number of events of each of its blocks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    sha256: str
    blocks: tuple[int, ...]


class SourceFile(BaseModel):
    """A parquet file: its name, its SHA-256, and the number of its rows in use."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    sha256: str
    events: int


class ModelInput(BaseModel):
    """The content of ``metadata/clusters.yaml``.

    Attributes:
        fingerprint: A hash of everything that the model input depends on.
        seed: The seed of the split and of the noise.
        settings: The settings of the section ``clusters``.
        shape: Shape of the charges of an event: rows, columns, slices.
        normalization: How charges and labels are normalised.
        events: Number of events of each split.
        files: The parquet files.
        shards: The shards of each split.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    fingerprint: str
    seed: int
    settings: dict[str, Any]
    shape: tuple[int, int, int]
    normalization: Normalization
    events: dict[Split, int]
    files: tuple[SourceFile, ...]
    shards: dict[Split, tuple[Shard, ...]]

    def stream(self, config: Config, split: Split, *, batch_size: int, seed: int | None = None) -> EventStream:
        """The events of a split in batches; with a seed in random order."""
        folder = config.paths.resolve("component_model_path") / SHARDS
        blocks = [
            Block(folder / shard.file, index, events)
            for shard in self.shards[split]
            for index, events in enumerate(shard.blocks)
        ]
        return EventStream(blocks, self.shape, self.normalization, batch_size=batch_size, seed=seed)

    def training_files(self) -> frozenset[str]:
        """The SHA-256 of each file that training events came from."""
        return frozenset(file.sha256 for file in self.files)


def record_path(config: Config) -> Path:
    """The file of the record."""
    return config.paths.resolve("metadata_path") / RECORD


def read_model_input(config: Config) -> ModelInput:
    """Read what ``preprocess`` stored.

    Raises:
        InputError: It is missing, or was edited.
    """
    path = record_path(config)
    if not path.is_file():
        raise InputError(f"there is no model input of {config.paths.component} ({path}); run preprocess first")
    content = read_record(path)
    if not has_valid_hash(content):
        raise InputError(f"{path} is not what preprocess wrote; run preprocess --force")
    try:
        return ModelInput.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{path} does not fit this version of PIXAL; run preprocess --force") from error


def write_model_input(config: Config, content: dict[str, Any]) -> ModelInput:
    """Write the record, with its hash, and return what it holds."""
    model_input = ModelInput.model_validate(content)
    write_record(record_path(config), with_hash(content))
    return model_input
