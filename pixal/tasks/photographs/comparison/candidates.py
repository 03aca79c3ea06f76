"""The candidates of a comparison: model families, with settings that differ from the configured ones."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from pixal.config.document import Document
from pixal.config.schema import AUTO_MODEL, ModelTraining
from pixal.errors import ConfigError, nearest_hint
from pixal.io.names import printable, shorten_stem
from pixal.tasks.photographs.settings import PhotographConfig, Preprocessor

CHEAP = ("gaussian", "padim", "autoencoder")
"""The families that are compared with the configured one by default."""

_TRAINING, _PREPROCESSOR = "model_training", "preprocessing.preprocessor"
# These decide what is compared: which parts are held out, and under which name a model is stored.
_FIXED = ("model", "model_name", "budget_s", "seed", "one_hot_encoding", "calibration_folds")
_OF_PREPROCESSOR = ("channels", "weights", "pool_size", "edge_margin", "light_matching")
_OF_VALIDATION = ("map_smoothing", "threshold")
_VARIABLE = {
    **{name: f"{_TRAINING}.{name}" for name in ModelTraining.model_fields if name not in _FIXED},
    **{name: f"{_PREPROCESSOR}.{name}" for name in _OF_PREPROCESSOR},
    **{name: f"validation.{name}" for name in _OF_VALIDATION},
}
_SEPARATOR = re.compile(r",(?![^\[{]*[\]}])")  # not the commas of a list or a mapping
_UNSAFE = re.compile(r"[^A-Za-z0-9._=-]+")
_DIGITS = 8  # of the hash in the name of a folder


@dataclass(frozen=True)
class Candidate:
    """A model to compare.

    Attributes:
        name: The text that describes it, such as ``gaussian,pool_size=1``.
        config: Its settings, with output folders of its own.
        changes_input: Whether it needs another model input than the component's.
    """

    name: str
    config: PhotographConfig
    changes_input: bool

    @cached_property
    def family(self) -> str:
        """The model family."""
        return self.config.model_training.model


def make_candidates(texts: Sequence[str], config: PhotographConfig, preprocessor: Preprocessor) -> list[Candidate]:
    """Make the candidates that the texts describe.

    Args:
        texts: ``FAMILY``, ``FAMILY,KEY=VALUE,...`` or ``KEY=VALUE,...`` (of the configured family).
        config: The settings.
        preprocessor: The settings with which the model input of the component was made.

    Raises:
        ConfigError: A text is malformed, its settings are not valid or may not differ, or two texts are the same.
    """
    preprocessing = config.preprocessing.model_copy(update={"preprocessor": preprocessor})
    base = replace(config, parameters=config.parameters.model_copy(update={"preprocessing": preprocessing}))
    names = [",".join(part.strip() for part in _SEPARATOR.split(text)) for text in texts]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"--candidate {printable(repeated)} is given twice")
    return [_make_candidate(name, base) for name in names]


def default_candidates(family: str, families: Iterable[str] = CHEAP) -> list[str]:
    """The configured family, unless it is to be chosen, and other families without further settings."""
    return [name for name in dict.fromkeys([family, *families]) if name != AUTO_MODEL]


def _make_candidate(name: str, config: PhotographConfig) -> Candidate:
    option = f"--candidate {printable(name)}:"
    family, *settings = _SEPARATOR.split(name)
    if "=" in family:
        family, settings = config.model_training.model, [family, *settings]
    if family == AUTO_MODEL:
        raise ConfigError(f"{option} {AUTO_MODEL} is not a model family; begin with one, for example {CHEAP[0]}")
    content = config.parameters.model_dump()
    training: dict[str, Any] = content[_TRAINING]
    if family != training["model"]:
        training |= {"model": family, "model_options": {}}
    training["model_name"] = None
    content["plotting"] |= {"plot_loss": False, "plot_accuracy": False}
    content["validation"]["sensitivity"] = "off"
    document = Document(type(config.parameters), content)
    document.sources[_TRAINING, "model"] = option.removesuffix(":")
    for setting in settings:
        document.override(_full_setting(setting, option), option=option)
    parameters = type(config.parameters).model_validate(document.validated())
    paths = config.paths.for_candidate(_folder(name))
    changes_input = parameters.preprocessing.preprocessor != config.preprocessing.preprocessor
    return Candidate(name, PhotographConfig(parameters, paths, config.source), changes_input)


def _full_setting(setting: str, option: str) -> str:
    """``KEY=VALUE`` with the full key of a setting that may differ between candidates."""
    key, equals, value = setting.partition("=")
    if not equals:
        raise ConfigError(f"{option} {printable(setting)!r} is not KEY=VALUE, for example gaussian,map_smoothing=2")
    first, dot, rest = key.strip().partition(".")
    if first in _VARIABLE:
        return f"{_VARIABLE[first]}{dot}{rest}={value}"
    for full in _VARIABLE.values():
        if key == full or key.startswith(f"{full}."):
            return setting
    last = key.rpartition(".")[2]
    hint = "" if last in _FIXED else nearest_hint(last, _VARIABLE)
    raise ConfigError(
        f"{option} {printable(key)} cannot differ between candidates; settings of model_training that can are not "
        f"{', '.join(_FIXED)}; others are {', '.join((*_OF_PREPROCESSOR, *_OF_VALIDATION))}{hint}"
    )


def _folder(name: str) -> str:
    """The name of a candidate's folder: its text, with a part of the hash if a character cannot be in a file name."""
    safe = _UNSAFE.sub("_", name)
    return shorten_stem(safe if safe == name else f"{safe}_{hashlib.sha256(name.encode()).hexdigest()[:_DIGITS]}")
