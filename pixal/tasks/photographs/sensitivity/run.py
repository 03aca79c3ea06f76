"""The command ``sensitivity``, and the small measurement after ``train``."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pixal.errors import InputError, PixalError, StorageError
from pixal.io import ownership
from pixal.io.journal import Journal
from pixal.io.locking import lock_folder
from pixal.io.logs import log_to_file
from pixal.io.output_folders import check_outputs, claim_outputs
from pixal.outcome import Tabular, WithoutVerdicts
from pixal.tasks.photographs.sensitivity.files import SensitivityFiles
from pixal.tasks.photographs.sensitivity.measuring import PhotographOutcome, TypeMeasurement
from pixal.tasks.photographs.sensitivity.plan import FULL, SMALL, Budget
from pixal.tasks.photographs.sensitivity.results import TypeSensitivity
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.training.stored import TrainedModel, load_trained
from pixal.tasks.photographs.training.training_data import TrainingData, find_training_data
from pixal.tracking import tracked_run
from pixal.train_model.family import anomaly_family_named
from pixal.train_model.stored_model import load_stored, trained_types

_log = logging.getLogger(__name__)


AFTER_TRAINING = {"auto": SMALL, "full": FULL}
"""The defects planted after training, by the setting ``validation.sensitivity``; none for other values."""


@dataclass
class Sensitivity(Tabular, WithoutVerdicts):
    """The result of ``sensitivity``.

    Attributes:
        sentences: What is found, one sentence per kind of defect, by type.
        records: The record ``sensitivity.yaml`` of each type.
    """

    sentences: dict[str, list[str]] = field(default_factory=dict)
    records: dict[str, Path] = field(default_factory=dict)

    @property
    def failures(self) -> Sequence[str]:
        """See ``Results``; a photograph that cannot be read ends the command."""
        return ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the table."""
        return ("type", "finding")

    @property
    def rows(self) -> list[dict[str, str]]:
        """One row per sentence."""
        return [{"type": name, "finding": text} for name, sentences in self.sentences.items() for text in sentences]

    @property
    def headline(self) -> str:
        """Number of types that were measured."""
        return f"{len(self.sentences)} type{'' if len(self.sentences) == 1 else 's'} measured with planted defects"

    @property
    def written(self) -> tuple[Path, ...]:
        """The record of each type."""
        return tuple(self.records.values())

    def summary(self) -> str:
        """Return the sentences of each type, and where the record is."""
        lines = []
        for name, sentences in self.sentences.items():
            lines += [f"{name}:", *(f"  {sentence}" for sentence in sentences), f"  {self.records[name]}", ""]
        return "\n".join(lines).rstrip()


def measure_sensitivity(
    input_path: str | Path | None,
    config: PhotographConfig,
    budget: Budget = FULL,
    *,
    rates: Sequence[float] = (),
    force: bool = False,
    quiet: bool = False,
) -> Sensitivity:
    """Measure the sensitivity of each trained type; see ``pixal.sensitivity``.

    Args:
        input_path: As for ``train``.
        config: The settings.
        budget: Which defects to plant.
        rates: Further false-alarm rates, besides the configured one.
        force: Measure again where the results of the same model and budget exist.
        quiet: Show no progress bars.

    Raises:
        InputError: A false-alarm rate is not between 0 and 1; see ``pixal.sensitivity`` for other errors.
    """
    for rate in rates:
        if not 0 < rate < 1:
            raise InputError(f"false-alarm rate {rate:g}: it must be above 0 and below 1")
    result = Sensitivity()
    for stored in _stored_types(input_path, config):
        _measure_type(stored, config, budget, rates, force, quiet, result)
    return result


def measure_after_training(input_path: str | Path | None, config: PhotographConfig, *, quiet: bool) -> None:
    """Measure the sensitivity of the models that ``train`` has stored, as ``validation.sensitivity`` says.

    A model stays usable where this is not possible: then the reason is logged.
    """
    budget = AFTER_TRAINING.get(config.validation.sensitivity)
    if budget is None:
        _remove_results_of_other_models(config)
        return
    result = Sensitivity()
    for stored in _stored_types(input_path, config):
        try:
            _measure_type(stored, config, budget, (), False, quiet, result)
        except StorageError:
            raise
        except PixalError as error:
            _log.warning("%s: the sensitivity to planted defects was not measured: %s", stored.name, error)
        else:
            record = result.records[stored.name]
            _log.info("%s: which planted defects the model finds: %s", stored.name, record)


@dataclass(frozen=True)
class _StoredType:
    """A type with its trained model, and the data that the model was trained on."""

    name: str
    data: TrainingData
    model: TrainedModel


def _stored_types(input_path: str | Path | None, config: PhotographConfig) -> Iterator[_StoredType]:
    for data in find_training_data(input_path, config):
        model = load_trained(config, data.owner)
        anomaly_family_named(model.record.model).set_up(config.model_training)
        for name in model.states:
            yield _StoredType(name, data, model)


def _remove_results_of_other_models(config: PhotographConfig) -> None:
    """Remove the results of models that training has replaced."""
    one_hot = config.model_training.one_hot_encoding
    for name in trained_types(config):
        files = SensitivityFiles.of_type(config, name)
        if files.record.is_file():
            model = load_stored(config, None if one_hot else name)
            if files.read("model_record_sha256", model.record_sha256) is None:
                files.remove_results()


def _measure_type(
    stored: _StoredType,
    config: PhotographConfig,
    budget: Budget,
    rates: Sequence[float],
    force: bool,
    quiet: bool,
    result: Sensitivity,
) -> None:
    """Measure one type and write its files, unless they are already there."""
    name, model = stored.name, stored.model
    files = SensitivityFiles.of_type(config, name)
    check_outputs(config.paths, "component_model_path", [name], planned=files)
    with (
        lock_folder(config.paths.resolve("component_model_path", name)),
        log_to_file(config.paths.resolve("log_path", name), "sensitivity"),
    ):
        claim_outputs(config.paths, "component_model_path", [name])
        measurement = TypeMeasurement(name, stored.data, model, config, budget)
        all_rates = dict.fromkeys([config.validation.false_alarm_rate, *rates])
        cuts = {rate: measurement.cut(rate).on_map for rate in all_rates}
        result.records[name] = files.record
        key = measurement.result_key(cuts)
        if force:
            ownership.remove(files.journal)
        elif (sentences := files.read("key", key)) is not None:
            _log.info("%s: skipped, the sensitivity of this model is already measured", name)
            result.sentences[name] = sentences
            return
        with tracked_run(config, name, "sensitivity") as tracker:
            files.remove_results()
            ownership.note(files.journal)
            with Journal(files.journal, (PhotographOutcome,)) as journal:
                scores = measurement.run(journal, quiet=quiet)
                found = TypeSensitivity(name, scores, measurement.plan.left_out, cuts, budget, model.states[name])
                origin = {
                    "component": config.paths.component,
                    "type": name,
                    "model": model.record.model,
                    "model_record_sha256": model.record_sha256,
                    "key": key,
                    "seed": model.record.seed,
                    "parts": len(measurement.parts),
                    "photographs": len(measurement.plan.photographs),
                }
                found.write(files, origin)
            result.sentences[name] = found.sentences
            for metric, value in found.metrics().items():
                tracker.log_metric(f"{name}/{metric}", value)
            tracker.log_params({"sensitivity": budget.as_record()})
            figures = [path for path in (files.curves, files.map_figure) if path.is_file()]
            tracker.log_artifacts({f"figures/{name}": figures, f"metadata/{name}": [files.record, files.table]})
