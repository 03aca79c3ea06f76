"""The parts that ``encode`` and ``evaluate`` apply a model to: photographs, or inputs that were prepared before."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pixal.errors import InputError, ModelError
from pixal.execution import progress
from pixal.inputs import InputSet
from pixal.io.files import file_hash
from pixal.io.output_folders import check_outputs
from pixal.io.records import read_record
from pixal.outcome import Failure
from pixal.tasks.photographs.discovery import Photograph, list_photographs
from pixal.tasks.photographs.preprocessing.folders import PREPROCESSING_RECORD, STATE_FILE, read_validation_inputs
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.training.stored import TrainedModel, state_file
from pixal.tasks.photographs.verdicts.batches import Batches
from pixal.tasks.photographs.verdicts.models import Models
from pixal.tasks.photographs.verdicts.preparation import Preparation
from pixal.train_model.family import AnomalyModel, Rows, anomaly_family_named
from pixal.train_model.stored_model import trained_types

# Parts in memory at a time. It must not depend on the number of workers: the number of rows that are multiplied
# together changes the last digits.
_CHUNK = 16


@dataclass(frozen=True)
class ProbedPart:
    """A part that a model is applied to.

    Attributes:
        image: The file name of its photograph.
        source: The path of its photograph below the input folder; None for inputs that were prepared before.
        sha256: The SHA-256 of its photograph; None for inputs that were prepared before.
    """

    image: str
    source: str | None = None
    sha256: str | None = None


class PartSource(ABC):
    """The parts of one type, with the model of that type.

    Attributes:
        name: The type.
        model: The stored model.
        config: The configuration.
        failures: The photographs that could not be prepared so far.
    """

    def __init__(self, name: str, model: TrainedModel, config: PhotographConfig) -> None:
        self.name, self.model, self.config = name, model, config
        self.failures: list[Failure] = []

    @cached_property
    def family(self) -> AnomalyModel:
        """The loaded model; loading it starts TensorFlow if the model needs it."""
        anomaly_family_named(self.model.record.model).set_up(self.config.model_training)
        return self.model.load_anomaly_model()

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of parts, including those that cannot be prepared."""

    @abstractmethod
    def chunks(self, *, step: str, quiet: bool) -> Iterator[tuple[list[ProbedPart], InputSet]]:
        """Yield the parts in order, a chunk at a time, with their inputs.

        Args:
            step: The name of the progress bar.
            quiet: Whether to show no progress bar.
        """


def find_part_sources(source: str | Path | None, config: PhotographConfig, *, quiet: bool) -> list[PartSource]:
    """Return the parts of each type.

    Args:
        source: Photographs as ``validate`` takes them; an ``.npz`` that ``make_input`` or ``validate`` wrote; or a
            folder with such files. None: all parts that the component's models were trained on.
        config: The configuration.
        quiet: Whether to show no progress bar.

    Raises:
        InputError: There is no input.
        ModelError: A model is missing, or was not trained for these inputs.
    """
    models = Models(config)
    models.check_any()
    files = _input_files(source, config)
    if files:
        return [parts for path in files for parts in _read_inputs(path, models, config)]
    folder = Path(str(source))
    listed = list_photographs(folder, test=True)
    files = [photo.path for photos in listed.values() for photo in photos]
    check_outputs(config.paths, "component_model_path", list(listed), source=folder, files=files)
    photographs = models.assign_types(listed, quiet=quiet, batch=Batches(config.paths).find(folder, None))
    for name in photographs:
        models.check(name)
    root = folder if folder.is_dir() else folder.parent
    return [_PhotographSource(name, models.load(name), config, photos, root) for name, photos in photographs.items()]


class _PhotographSource(PartSource):
    """Photographs, prepared with the preprocessing stored at training."""

    def __init__(
        self, name: str, model: TrainedModel, config: PhotographConfig, photographs: Sequence[Photograph], root: Path
    ) -> None:
        super().__init__(name, model, config)
        self._photographs, self._root = list(photographs), root.absolute()
        self._preparation = Preparation(name, model, config, draw_figures=False)

    def __len__(self) -> int:
        return len(self._photographs)

    def chunks(self, *, step: str, quiet: bool) -> Iterator[tuple[list[ProbedPart], InputSet]]:
        parts: list[ProbedPart] = []
        images = []
        prepared = progress(self._preparation(self._photographs), len(self), step=step, quiet=quiet)
        for number, part in enumerate(prepared, 1):
            record = part.record
            if part.input is None:
                self.failures.append(Failure(self.name, record.image, "preparation", record.reason))
            else:
                images.append(part.input)
                source = Path(record.source).absolute().relative_to(self._root).as_posix()
                parts.append(ProbedPart(record.image, source, record.sha256))
            if parts and (len(parts) == _CHUNK or number == len(self)):
                yield parts, self._preparation.inputs(images, [part.image for part in parts])
                parts, images = [], []


class _InputSource(PartSource):
    """Rows of an ``.npz``, which were prepared before."""

    def __init__(self, name: str, model: TrainedModel, config: PhotographConfig, inputs: InputSet, rows: Rows) -> None:
        super().__init__(name, model, config)
        self._inputs, self._rows = inputs, rows

    def __len__(self) -> int:
        return len(self._rows)

    def chunks(self, *, step: str, quiet: bool) -> Iterator[tuple[list[ProbedPart], InputSet]]:
        for number, _ in enumerate(progress(self._rows, len(self), step=step, quiet=quiet), 1):
            if number % _CHUNK and number < len(self):
                continue
            rows = self._rows[(number - 1) // _CHUNK * _CHUNK : number]
            chunk = self._inputs.subset(rows)
            yield [ProbedPart(name) for name in chunk.names], chunk


def _input_files(source: str | Path | None, config: PhotographConfig) -> list[Path]:
    """Return the ``.npz`` files that ``source`` names; none if it names photographs."""
    name, root = config.preprocessing.preprocessor.file_name, config.paths.resolve("component_model_path")
    if source is None:
        if config.model_training.one_hot_encoding:
            return [root / name]
        return [config.paths.resolve("component_model_path", owner) / name for owner in trained_types(config)]
    path = Path(source)
    if path.suffix == ".npz":
        return [path]
    return [path / name] if (path / name).is_file() else sorted(path.glob(f"*/{name}"))


def _read_inputs(path: Path, models: Models, config: PhotographConfig) -> Iterator[PartSource]:
    inputs, one_hot = InputSet.load(path), config.model_training.one_hot_encoding
    if one_hot != bool(inputs.types):
        labels = "one-hot labels" if inputs.types else "no labels"
        raise InputError(
            f"{path} holds {labels}, but one_hot_encoding is {one_hot}; run make_input again, or change the setting"
        )
    for index, name in enumerate(inputs.types or (path.resolve().parent.name,)):
        rows = inputs.rows_of_type(index)
        if len(rows):
            models.check(name)
            _check_match(path, inputs, name, models.load(name))
            yield _InputSource(name, models.load(name), config, inputs, rows)


def _check_match(path: Path, inputs: InputSet, name: str, model: TrainedModel) -> None:
    """Raise ModelError if the inputs were prepared differently from those that the model was trained on."""
    record = model.record
    types = list(record.types)
    for aspect, actual, expected in (
        ("shape", list(inputs.shape), list(record.shape)),
        ("channels", list(inputs.channels), list(record.channels)),
        ("types", list(inputs.types) or types, types),
        ("preprocessing", _preprocessing_hash(path, name), file_hash(state_file(model.folder, name))),
    ):
        if actual is not None and actual != expected:
            raise ModelError(
                f"{path} does not match the model of {name} (different {aspect}); run make_input again, or train again"
            )


def _preprocessing_hash(path: Path, name: str) -> str | None:
    """Return the hash of the preprocessing state that an ``.npz`` was made with; None if it is not recorded."""
    record = path.parent / "metadata" / PREPROCESSING_RECORD
    if record.is_file() and "preprocessing_sha256" in read_record(record):  # written by validate, not by make_input
        return read_validation_inputs(record.parent).preprocessing_sha256
    for folder in (path.parent / name, path.parent):  # written by make_input, with or without one-hot labels
        if (folder / "metadata" / STATE_FILE).is_file():
            return file_hash(folder / "metadata" / STATE_FILE)
    return None
