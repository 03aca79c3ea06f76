"""The parts to probe a model with, a few at a time: of photographs, or of inputs that were made of them before."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from pixal.errors import InputError, ModelError
from pixal.execution import progress
from pixal.inputs import InputSet
from pixal.io.files import file_hash
from pixal.io.records import read_record
from pixal.outcome import Failure
from pixal.tasks.photographs.discovery import Photograph, list_photographs
from pixal.tasks.photographs.preprocessing.folders import PREPROCESSING_RECORD, STATE_FILE
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.training.stored import TrainedModel, state_file
from pixal.tasks.photographs.verdicts.models import Models
from pixal.tasks.photographs.verdicts.preparation import Preparation
from pixal.train_model.family import ModelFamily, Rows, family_named
from pixal.train_model.stored_model import trained_types

# Parts in memory at a time. Whatever the number of workers: how many are multiplied at once changes the last digits.
_PORTION = 16

Row = dict[str, Any]
"""A part: image, the name it goes by; of photographs also source, a path, and sha256."""


class Parts(ABC):
    """The parts of one type, and the model that they are for. ``failures``: those that could not be prepared."""

    def __init__(self, name: str, model: TrainedModel, config: PhotographConfig) -> None:
        self.name, self.model, self.config = name, model, config
        self.failures: list[Failure] = []

    @cached_property
    def family(self) -> ModelFamily:
        """The model itself; TensorFlow starts with it, where it needs that."""
        family_named(self.model.params["model"]).set_up(self.config.model_training)
        return self.model.load_family()

    @abstractmethod
    def __len__(self) -> int:
        """How many parts there are, those included that cannot be prepared."""

    @abstractmethod
    def portions(self, *, step: str, quiet: bool) -> Iterator[tuple[list[Row], InputSet]]:
        """Yield the parts in their order, some at a time, under a progress bar named ``step``."""


def find_parts(source: str | Path | None, config: PhotographConfig, *, quiet: bool) -> list[Parts]:
    """The parts of each type below ``source``: photographs as ``validate`` takes them, an ``.npz`` that make_input or
    validate wrote, or a folder of such; None: all that the component's models were trained with.

    Raises InputError where there is nothing, ModelError for what the models were not trained for.
    """
    models = Models(config)
    models.check_any()
    files = _input_files(source, config)
    if files:
        return [parts for path in files for parts in _of_file(path, models, config)]
    folder = Path(str(source))
    photographs = models.sort(list_photographs(folder, test=True), quiet=quiet)
    for name in photographs:
        models.check(name)
    root = folder if folder.is_dir() else folder.parent
    return [_Photographs(name, models.of(name), config, photos, root) for name, photos in photographs.items()]


class _Photographs(Parts):
    """Photographs, prepared as training has left word."""

    def __init__(
        self, name: str, model: TrainedModel, config: PhotographConfig, photographs: Sequence[Photograph], root: Path
    ) -> None:
        super().__init__(name, model, config)
        self._photographs, self._root = list(photographs), root.absolute()
        self._preparation = Preparation(name, model, config, draw_figures=False)

    def __len__(self) -> int:
        return len(self._photographs)

    def portions(self, *, step: str, quiet: bool) -> Iterator[tuple[list[Row], InputSet]]:
        rows: list[Row] = []
        images = []
        prepared = progress(self._preparation(self._photographs), len(self), step=step, quiet=quiet)
        for number, part in enumerate(prepared, 1):
            record = part.record
            if part.input is None:
                self.failures.append(Failure(self.name, record.image, "preparation", record.reason))
            else:
                images.append(part.input)
                source = Path(record.source).absolute().relative_to(self._root).as_posix()
                rows.append({"image": record.image, "source": source, "sha256": record.sha256})
            if rows and (len(rows) == _PORTION or number == len(self)):
                yield rows, self._preparation.inputs(images, [one["image"] for one in rows])
                rows, images = [], []


class _Prepared(Parts):
    """Rows of an ``.npz``, which were prepared before."""

    def __init__(self, name: str, model: TrainedModel, config: PhotographConfig, inputs: InputSet, rows: Rows) -> None:
        super().__init__(name, model, config)
        self._inputs, self._rows = inputs, rows

    def __len__(self) -> int:
        return len(self._rows)

    def portions(self, *, step: str, quiet: bool) -> Iterator[tuple[list[Row], InputSet]]:
        inputs = self._inputs
        for number, _ in enumerate(progress(self._rows, len(self), step=step, quiet=quiet), 1):
            if number % _PORTION and number < len(self):
                continue
            rows = self._rows[(number - 1) // _PORTION * _PORTION : number]
            portion = inputs.subset(rows)
            yield [{"image": name} for name in portion.names], portion


def _input_files(source: str | Path | None, config: PhotographConfig) -> list[Path]:
    """The ``.npz`` files that ``source`` names; none where it names photographs."""
    name, root = config.preprocessing.preprocessor.file_name, config.paths.resolve("component_model_path")
    if source is None:
        if config.model_training.one_hot_encoding:
            return [root / name]
        return [config.paths.resolve("component_model_path", known) / name for known in trained_types(config)]
    path = Path(source)
    if path.suffix == ".npz":
        return [path]
    return [path / name] if (path / name).is_file() else sorted(path.glob(f"*/{name}"))


def _of_file(path: Path, models: Models, config: PhotographConfig) -> Iterator[Parts]:
    inputs, one_hot = InputSet.load(path), config.model_training.one_hot_encoding
    if one_hot != bool(inputs.types):
        made = "one-hot labels" if inputs.types else "no labels"
        raise InputError(
            f"{path} holds {made}, but one_hot_encoding is {one_hot}; make it again, or change the setting"
        )
    for index, name in enumerate(inputs.types or (path.resolve().parent.name,)):
        rows = inputs.rows_of_type(index)
        if len(rows):
            models.check(name)
            _check(path, inputs, name, models.of(name))
            yield _Prepared(name, models.of(name), config, inputs, rows)


def _check(path: Path, inputs: InputSet, name: str, model: TrainedModel) -> None:
    """Raises ModelError for inputs that were prepared otherwise than the model's."""
    params = model.params
    for what, ours, theirs in (
        ("shape", list(inputs.shape), list(params["shape"])),
        ("channels", list(inputs.channels), list(params["channels"])),
        ("types", list(inputs.types) or list(params["types"]), list(params["types"])),
        ("preprocessing", _preprocessing_of(path, name), file_hash(state_file(model.folder, name))),
    ):
        if ours is not None and ours != theirs:
            raise ModelError(
                f"{path} does not match the model of {name} (its {what} differ); make it again, or train again"
            )


def _preprocessing_of(path: Path, name: str) -> str | None:
    """The hash of the preprocessing that an ``.npz`` was made with, where the records beside it tell."""
    record = path.parent / "metadata" / PREPROCESSING_RECORD
    if record.is_file() and "preprocessing_sha256" in (found := read_record(record)):  # of validate
        return str(found["preprocessing_sha256"])
    for folder in (path.parent / name, path.parent):  # of make_input, one-hot or not
        if (folder / "metadata" / STATE_FILE).is_file():
            return file_hash(folder / "metadata" / STATE_FILE)
    return None
