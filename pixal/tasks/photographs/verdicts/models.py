"""The trained models that a batch needs, and which photograph is for which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pixal.errors import InputError, ModelError
from pixal.tasks.photographs.discovery import Photograph
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.training.stored import TrainedModel, load_trained
from pixal.tasks.photographs.verdicts.preparation import KnownType, choose_types
from pixal.tasks.photographs.verdicts.verdict_store import JOURNAL, read_journal
from pixal.train_model.stored_model import trained_types


class Models:
    """The models of a component, each loaded when it is first asked for."""

    def __init__(self, config: PhotographConfig, named: str | None = None) -> None:
        """``named``: the type whose model judges all, ``TYPE`` or of another component ``COMPONENT/TYPE``.

        Raises ModelError where that was never trained, InputError where one model serves all types.
        """
        self._named, self._owner = named, named
        self._config = config
        self._one_hot = config.model_training.one_hot_encoding
        self._loaded: dict[str | None, TrainedModel] = {}
        if named is not None:
            if self._one_hot:
                raise InputError(f"one model serves all types (one_hot_encoding): that of {named} cannot be named")
            self._config, self._owner = _home(config, named)
            _check_trained(self._owner, self._config)

    def check(self, type_name: str) -> None:
        """Raises ModelError for a type that has no model to judge it."""
        if self._named is None:
            _check_trained(type_name, self._config)

    def knows(self, type_name: str) -> bool:
        """Whether a type has a model to judge it, by now."""
        return self._named is not None or type_name in trained_types(self._config)

    def check_any(self) -> None:
        """Raises ModelError where nothing is trained."""
        if not trained_types(self._config):
            raise ModelError("nothing is trained yet; run train first")

    def of(self, type_name: str) -> TrainedModel:
        """The model that judges a type. Raises ModelError where it is missing or damaged."""
        owner = None if self._one_hot else self._owner or type_name
        if owner not in self._loaded:
            self._loaded[owner] = load_trained(self._config, owner)
        model = self._loaded[owner]
        return model if self._named is None else _in_place(model, self._named, type_name)

    def sort(self, photographs: dict[str, list[Photograph]], *, quiet: bool) -> dict[str, list[Photograph]]:
        """The photographs by type; those of one mixed folder get theirs here, where one model serves all types."""
        if not self.is_mixed(photographs):
            return photographs
        return self.choose(next(iter(photographs.values())), quiet=quiet, known=self._judged())

    def is_mixed(self, photographs: dict[str, list[Photograph]]) -> bool:
        """Whether all photographs lie in one folder that is no type's, where one model serves all types."""
        return self._one_hot and len(photographs) == 1 and not set(photographs) <= set(trained_types(self._config))

    def choose(
        self,
        photographs: list[Photograph],
        *,
        quiet: bool,
        known: Mapping[Path, KnownType] | None = None,
    ) -> dict[str, list[Photograph]]:
        """Photographs of a mixed folder by the type each fits best; ``known``: as of ``choose_types``."""
        return choose_types(photographs, self.of(""), self._config, quiet, known or {})

    def _judged(self) -> dict[Path, KnownType]:
        """The types of the photographs that have a stored verdict, by path."""
        root = self._config.paths.resolve("component_validate_path")
        return {
            Path(entry["source"]): KnownType(path.parent.parent.name, tuple(entry["stat"]) if entry["stat"] else None)
            for path in sorted(root.glob(f"*/metadata/{JOURNAL}"))
            for entry in read_journal(path)
        }


def _home(config: PhotographConfig, named: str) -> tuple[PhotographConfig, str]:
    """The configuration of the component that ``named`` is of, and the type."""
    component, _, name = named.rpartition("/")
    if {"", ".", ".."} & {*named.split("/")} or "/" in component:
        raise InputError(f"model {named}: expected TYPE, or COMPONENT/TYPE for a type of another component")
    return (replace(config, paths=config.paths.for_component(component)) if component else config), name


def _check_trained(type_name: str, config: PhotographConfig) -> None:
    if type_name not in (known := trained_types(config)):
        folder = config.paths.resolve("component_model_path")
        trained = f"trained: {', '.join(known)}" if known else f"nothing in {folder} is trained yet; run train first"
        raise ModelError(f"type {type_name} was never trained ({trained})")


def _in_place(model: TrainedModel, named: str, type_name: str) -> TrainedModel:
    """The model of one type as that of another."""
    own = str(model.owner)
    return replace(
        model,
        owner=named,
        states={type_name: model.states[own]},
        calibrations={type_name: model.calibrations[own]},
        latents={type_name: model.latents[own]},
        conditions={type_name: model.conditions[own]},
    )
