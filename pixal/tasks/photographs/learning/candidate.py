"""Train a candidate beside the model in use."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from pixal.config.schema import AUTO_MODEL
from pixal.config.section import Mark, marked
from pixal.errors import InputError
from pixal.io.locking import lock_folder
from pixal.io.output_folders import claim_outputs
from pixal.outcome import Outcome
from pixal.tasks.photographs.learning.candidate_input import write_candidate_input
from pixal.tasks.photographs.learning.known_places import KNOWN_PLACES, hash_places
from pixal.tasks.photographs.learning.learning_status import CANDIDATE
from pixal.tasks.photographs.overview.changes import model_changes
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.training.train import train
from pixal.tasks.photographs.training.training_data import TrainingData, find_training_data
from pixal.train_model.stored_model import StoredModel, load_stored, trained_types

_log = logging.getLogger(__name__)


def candidate_config(config: PhotographConfig) -> PhotographConfig:
    """The same settings with the folders of the candidate."""
    return replace(config, paths=config.paths.for_learning(CANDIDATE))


def model_owners(config: PhotographConfig, types: Sequence[str] | None) -> list[str | None]:
    """The models in use that the user means, by the type that they are for; None: one model serves all types.

    Args:
        config: The settings.
        types: The types that the user named; None or empty: all.

    Raises:
        InputError: A type has no model in use.
    """
    known = trained_types(config)
    component = config.paths.component
    if config.model_training.one_hot_encoding:
        if others := [name for name in types or () if name != component]:
            raise InputError(
                f"one model serves all types (one_hot_encoding); name no type, or {component}, not {others[0]}"
            )
        return [None] if known else []
    if unknown := [name for name in types or () if name not in known]:
        trained = f"trained: {', '.join(known)}" if known else "nothing is trained yet"
        raise InputError(f"type {unknown[0]} has no model in use ({trained}); run train first")
    return list(types or known)


def train_candidate(config: PhotographConfig, *, resume: bool = False, quiet: bool = False) -> Outcome:
    """Train a candidate for each model in use; see ``pixal.train``.

    Raises:
        InputError: There is no model in use, or no candidate would differ from the one in use.
    """
    owners = model_owners(config, None)
    if not owners:
        raise InputError("there is no model in use that a candidate could be compared with; run train first")
    outcome, same = Outcome(), []
    for data in find_training_data(None, config):
        if data.owner not in owners:
            continue
        current = load_stored(config, data.owner)
        settings = _with_family(config, current)
        target = candidate_config(settings)
        label = data.owner or config.paths.component
        with _exclusive(data, settings, target):
            _, failures = write_candidate_input(data, settings, target)
            outcome.failures += failures
            made = find_training_data(target.paths.resolve("component_model_path", data.owner), target)[0]
            if _is_same(current, made, settings, target):
                same.append(label)
                continue
        folder = target.paths.resolve("component_model_path", data.owner)
        outcome = outcome.combined_with(train(folder, target, resume=resume, quiet=quiet))
        _log.info("%s: the candidate is in %s; next: pixal promote --check %s", label, folder, data.owner or "")
    if not outcome.done:
        raise InputError(
            f"a candidate for {', '.join(same)} would be the same as the model in use: no accepted parts are new, "
            "known defects recur at the same places as before, and the settings are the same; run accept first"
        )
    return outcome


@contextmanager
def _exclusive(data: TrainingData, config: PhotographConfig, target: PhotographConfig) -> Iterator[None]:
    """Lock the folders of the model in use and of the candidate, and claim the latter."""
    owners = [data.owner, *(name for name in data.states if name != data.owner)]
    with ExitStack() as locks:
        for settings in (config, target):
            locks.enter_context(lock_folder(settings.paths.resolve("component_model_path", data.owner)))
        claim_outputs(target.paths, "component_model_path", owners)
        data.check_unchanged()
        yield


def _with_family(config: PhotographConfig, current: StoredModel) -> PhotographConfig:
    """The settings with the family of the model in use in place of ``auto``."""
    training = config.model_training
    if training.model != AUTO_MODEL:
        return config
    content = training.model_dump() | {"model": current.record.model, "model_name": current.record.model_name}
    parameters = config.parameters.model_copy(update={"model_training": type(training).model_validate(content)})
    return replace(config, parameters=parameters)


def _is_same(current: StoredModel, made: TrainingData, config: PhotographConfig, target: PhotographConfig) -> bool:
    """Whether training on ``made`` in the folders of ``target`` would give the model in use again."""
    validation = config.validation
    unused = marked(type(validation), Mark.NOT_IN_TRAINING) | marked(type(validation), Mark.NO_RESULT)
    now = {key: value for key, value in validation.model_dump(mode="json").items() if key not in unused}
    before = current.record.settings.get("validation", {})
    is_same_validation = all(before.get(key) == value for key, value in now.items())
    return (
        made.sha256 == current.record.input_sha256
        and hash_places(made.known_places(target.paths)) == (current.record.model_extra or {}).get(KNOWN_PLACES, {})
        and is_same_validation
        and not model_changes(config, current.record, made.sha256)
    )
