"""The trained models that a batch needs, and the types of photographs from a mixed folder."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from pixal.errors import InputError, ModelError, nearest_hint
from pixal.io.locking import explained_by_lock
from pixal.tasks.photographs.discovery import Photograph, folder_of_types
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.training.stored import TrainedModel, load_trained, trained_model
from pixal.tasks.photographs.verdicts.batches import StoredBatch
from pixal.tasks.photographs.verdicts.preparation import KnownType, choose_types
from pixal.train_model.model_file.archive import is_model_file, unpack_model_file
from pixal.train_model.stored_model import trained_types


class Models:
    """The models of a component. Each one is loaded when it is first needed."""

    def __init__(self, config: PhotographConfig, model_name: str | None = None) -> None:
        """Find the models.

        Args:
            config: Today's settings.
            model_name: The type whose model validates all parts, ``TYPE``, or ``COMPONENT/TYPE`` for another
                component, or a model file; None: each type has its own model.

        Raises:
            ModelError: The named type was never trained, or the model in the file is damaged.
            InputError: A type is named, but one model serves all types; or the file is not what ``export`` wrote.
        """
        self._model_name, self._owner = model_name, model_name
        self._config = config
        self._file: TrainedModel | None = None
        if model_name is not None and is_model_file(model_name):
            self._load_file(Path(model_name))
            return
        self._one_hot = config.model_training.one_hot_encoding
        self._loaded: dict[str | None, TrainedModel] = {}
        if model_name is not None:
            if self._one_hot:
                raise InputError(f"one model serves all types (one_hot_encoding); --model {model_name} is not possible")
            self._config, self._owner = _split_name(config, model_name)
            _check_trained(self._owner, self._config)

    @property
    def sources(self) -> list[Path]:
        """What other computers read the models from: the folder of the component, or the model file."""
        if self._file is not None:
            return [Path(str(self._file.file))]
        return [self._config.paths.resolve("component_model_path")]

    def check(self, type_name: str, photographs: Sequence[Photograph] = ()) -> None:
        """Raise ModelError for a type that has no model.

        Args:
            type_name: The type.
            photographs: Those of the type. If their folders have the names of trained types, the message names the
                folder to use.
        """
        if self._file is not None and self._one_hot:
            _type_known(self._file, type_name)
        elif self._model_name is None:
            with self._explained_by_lock(type_name):
                _check_trained(type_name, self._config, photographs)

    def has_model(self, type_name: str) -> bool:
        """Whether a type has a model now."""
        if self._file is not None and self._one_hot:
            return type_name in self._file.states
        return self._model_name is not None or type_name in trained_types(self._config)

    def check_any(self) -> None:
        """Raise ModelError where nothing is trained."""
        if self._file is None and not trained_types(self._config):
            raise ModelError(_nothing_trained(self._config.paths.resolve("component_model_path")))

    def load(self, type_name: str) -> TrainedModel:
        """The model for a type. Raise ModelError if it is missing or damaged."""
        if self._file is not None:
            return self._from_file(self._file, type_name)
        owner = self._owner_of(type_name)
        if owner not in self._loaded:
            with self._explained_by_lock(type_name):
                self._loaded[owner] = load_trained(self._config, owner)
        model = self._loaded[owner]
        if self._model_name is not None:
            return _for_type(model, self._model_name, type_name)
        if type_name and type_name not in model.states:
            raise ModelError(
                f"the model in {model.folder} is of the type {next(iter(model.states))}, not of {type_name}; train "
                f"again, or use --model {next(iter(model.states))}"
            )
        return model

    def assign_types(
        self, photographs: dict[str, list[Photograph]], *, quiet: bool, batch: StoredBatch | None
    ) -> dict[str, list[Photograph]]:
        """The photographs by type. Those of a mixed folder get the type to whose reference they align best.

        Args:
            photographs: The photographs by their folder.
            quiet: Whether to hide the progress bar.
            batch: The batch that is continued; the types that were chosen for it are known.
        """
        if not self.is_mixed(photographs):
            return photographs
        stored = () if batch is None else batch.verdicts()
        known = {Path(verdict.source): KnownType(name, verdict.stat) for name, verdict in stored}
        return self.choose_types(next(iter(photographs.values())), quiet=quiet, known=known)

    def is_mixed(self, photographs: dict[str, list[Photograph]]) -> bool:
        """Whether the photographs are in one folder that is not a type's, and one model serves all types."""
        known = trained_types(self._config) if self._file is None else self._file.record.types
        return self._one_hot and len(photographs) == 1 and not set(photographs) <= set(known)

    def choose_types(
        self, photographs: list[Photograph], *, quiet: bool, known: Mapping[Path, KnownType] | None = None
    ) -> dict[str, list[Photograph]]:
        """The photographs of a mixed folder by type. ``known``: the types that an earlier run chose, by path."""
        return choose_types(photographs, self.load(""), self._config, quiet, known or {})

    def _load_file(self, path: Path) -> None:
        """Unpack a model file into a folder that lives as long as this object."""
        folder = tempfile.mkdtemp(prefix="pixal_")
        remove = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        try:
            manifest, stored = unpack_model_file(path, Path(folder))
        except BaseException:
            remove()
            raise
        if manifest.task != self._config.parameters.task:
            raise InputError(f"{path}: the model is for the task {manifest.task}, not for photographs")
        self._model_name = str(path.resolve())  # detect uses it again, from any folder
        self._file = replace(trained_model(stored), file=self._model_name)
        self._one_hot = manifest.type is None

    def _from_file(self, model: TrainedModel, type_name: str) -> TrainedModel:
        """The model of the model file, for a type."""
        if not self._one_hot:
            return _for_type(model, str(model.file), type_name)
        if type_name:
            _type_known(model, type_name)
        return model

    def _owner_of(self, type_name: str) -> str | None:
        """The type whose model validates a type; None: one model serves all types."""
        return None if self._one_hot else self._owner or type_name

    def _explained_by_lock(self, type_name: str) -> AbstractContextManager[None]:
        """If a model cannot be read because ``train`` is storing it, raise an error that says it."""
        return explained_by_lock(self._config.paths.resolve("component_model_path", self._owner_of(type_name)))


def _split_name(config: PhotographConfig, model_name: str) -> tuple[PhotographConfig, str]:
    """The configuration of the component that ``COMPONENT/TYPE`` names, and the type."""
    component, _, name = model_name.rpartition("/")
    if {"", ".", ".."} & {*model_name.split("/")} or "/" in component:
        raise InputError(f"model {model_name}: expected TYPE, or COMPONENT/TYPE for a type of another component")
    return (replace(config, paths=config.paths.for_component(component)) if component else config), name


def _check_trained(type_name: str, config: PhotographConfig, photographs: Sequence[Photograph] = ()) -> None:
    if type_name not in (known := trained_types(config)):
        folder = config.paths.resolve("component_model_path")
        trained = f"trained in {folder}: {', '.join(known)}" if known else _nothing_trained(folder)
        below = folder_of_types(photographs, known)
        advice = f"; its folders are types: use -i {below}" if below else nearest_hint(type_name, known)
        raise ModelError(f"type {type_name} was never trained ({trained}){advice}")


def _nothing_trained(folder: Path) -> str:
    return f"nothing in {folder} is trained yet; run train first"


def _type_known(model: TrainedModel, type_name: str) -> None:
    if type_name not in model.states:
        raise ModelError(f"type {type_name} is not one of the model's: {', '.join(model.states)}")


def _for_type(model: TrainedModel, model_name: str, type_name: str) -> TrainedModel:
    """The model of one type, used for another one."""
    trained_type = str(model.owner)
    return replace(
        model,
        owner=model_name,
        states={type_name: model.states[trained_type]},
        calibrations={type_name: model.calibrations[trained_type]},
        latents={type_name: model.latents[trained_type]},
        conditions={type_name: model.conditions[trained_type]},
    )
