"""The ``train`` command: train on prepared photographs, and calibrate on the errors of held-out good parts."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.calibration.calibration import (
    Calibration,
    calibrate,
    calibrate_by_texture,
    calibrate_scores,
    maps_of_held_out,
)
from pixal.calibration.odd_parts import leave_out_odd_parts
from pixal.calibration.recurrence import Places, raise_places
from pixal.calibration.single_image import shift_far, shift_near
from pixal.calibration.thresholds import check_enough, choose_threshold
from pixal.calibration.tolerance import lower_places
from pixal.config.section import Mark, marked, result_settings
from pixal.errors import ModelError
from pixal.inputs import evenly_spaced
from pixal.io.files import write_bytes
from pixal.outcome import Outcome
from pixal.tasks.photographs.learning.known_places import KNOWN_PLACES, hash_places
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.training import figures
from pixal.tasks.photographs.training.stored import (
    StoredThreshold,
    save_calibrations,
    save_conditions,
    save_latents,
    state_file,
)
from pixal.tasks.photographs.training.training_data import TrainingData, find_training_data
from pixal.train_model.family import Rows, as_anomaly_model
from pixal.train_model.folds import folds_of_type, held_out_positions
from pixal.train_model.training import train_models
from pixal.train_model.training_task import Finished, FinishedFit, TrainingSet, TrainingTask
from pixal.validation.loss_cut import loss_cut_warning, part_losses

_log = logging.getLogger(__name__)

FALSE_ALARMS = "false_alarms"
"""What a model depends on: the rows of the inputs that are accepted false alarms."""

_MAX_LATENTS = 1000  # latent vectors stored per type, enough to show their distribution


def train(
    input_path: str | Path | None,
    config: PhotographConfig,
    *,
    resume: bool = False,
    epochs: int | None = None,
    quiet: bool = False,
) -> Outcome:
    """Train on every ``out.npz`` of the component, or on those at ``input_path``; see ``pixal.train``."""
    task = _PhotographTraining(input_path, config)
    return train_models(task, config, resume=resume, epochs=epochs, quiet=quiet).require_done(input_path)


@dataclass(frozen=True)
class _Calibrated(Finished):
    """A calibrated model.

    Attributes:
        data: The training data.
        fit: The fitted model.
        calibrations: The calibration of each type.
    """

    data: TrainingData
    fit: FinishedFit
    calibrations: dict[str, Calibration]

    def save(self, folder: Path) -> list[Path]:
        """Store calibrations, latent vectors, conditions and preprocessing; see ``Finished.save``."""
        inputs, states = self.fit.training_set.inputs, self.data.states
        model = as_anomaly_model(self.fit.fitted.model)
        rows = [evenly_spaced(inputs.rows_of_type(index), _MAX_LATENTS) for index in range(len(states))]
        files = [
            save_calibrations(folder, self.calibrations),
            save_latents(folder, [model.latent(inputs, type_rows) for type_rows in rows]),
            save_conditions(folder, self.data.conditions),
        ]
        for name in states:
            target = state_file(folder, name)
            write_bytes(target, self.data.state_file(name).read_bytes())
            files.append(target)
        return files


class _PhotographTraining(TrainingTask):
    """The training task of prepared photographs."""

    def __init__(self, input_path: str | Path | None, config: PhotographConfig) -> None:
        self._input_path, self._config = input_path, config

    @property
    def holds_out(self) -> bool:
        """See ``TrainingTask``."""
        return True

    @property
    def settings(self) -> dict[str, Any]:
        """See ``TrainingTask``."""
        validation = self._config.validation
        unused = marked(type(validation), Mark.NOT_IN_TRAINING)
        settings = result_settings(validation)
        return {f"validation.{key}": value for key, value in settings.items() if key not in unused}

    @cached_property
    def _data(self) -> dict[str | None, TrainingData]:
        return {data.owner: data for data in find_training_data(self._input_path, self._config)}

    def training_sets(self) -> list[TrainingSet]:
        """See ``TrainingTask``."""
        for data in self._data.values():
            data.warn_if_few()
        return [self._training_set(data) for data in self._data.values()]

    def _training_set(self, data: TrainingData) -> TrainingSet:
        made, depends_on = data.training_set(self._config.paths.component), {}
        if places := data.known_places(self._config.paths):
            depends_on[KNOWN_PLACES] = hash_places(places)
        false_alarms = {name: np.flatnonzero(data.is_false_alarm(name, self._config.paths)) for name in data.states}
        if any(map(len, false_alarms.values())):
            depends_on[FALSE_ALARMS] = {name: rows.tolist() for name, rows in false_alarms.items()}
        return replace(made, depends_on={**made.depends_on, **depends_on}) if depends_on else made

    def check_unchanged(self) -> None:
        """See ``TrainingTask``."""
        for data in self._data.values():
            data.check_unchanged()

    def check_held_out(self, count: int) -> None:
        """See ``TrainingTask``."""
        validation = self._config.validation
        check_enough(count, validation.false_alarm_rate, validation.threshold)

    def finish(self, fit: FinishedFit) -> Finished:
        """Calibrate the model and draw its figures."""
        data, config = self._data[fit.training_set.owner], self._config
        calibrations, places = _calibrate(fit, config.validation.map_smoothing), data.known_places(config.paths)
        odd: dict[str, list[str]] = {}
        for index, name in enumerate(calibrations):
            rows = folds_of_type(fit.training_set.inputs, index, fit.folds)
            if rows:
                positions = np.concatenate(rows)
                calibration, of_type = calibrations[name], places.get(name)
                calibrations[name], odd_parts = self._learned(calibration, of_type, data, name, positions, fit)
                if len(odd_parts):
                    odd[name] = [fit.training_set.inputs.names[row] for row in positions[odd_parts]]
                    _warn_of_odd_parts(name, odd[name], calibrations[name].scores)
        # A threshold that cannot be used is refused before anything is written.
        record = self._record(calibrations) | {"accepted": data.accepted(config.paths)}
        if odd:
            record["odd_parts"] = odd
        if places:
            record[KNOWN_PLACES] = hash_places(places)
        for name, calibration in calibrations.items():
            plotting = config.plotting
            if warning := loss_cut_warning(plotting.loss_cut, calibration.losses, log_loss=plotting.use_log_loss):
                _log.warning("%s: %s", name, warning)
        figure_files = figures.save_training(
            config.paths.resolve("figures_path", fit.training_set.owner),
            fit.training_set.label,
            fit.fitted,
            fit.training_set.inputs,
            fit.errors,
            fit.folds,
            calibrations,
            config,
        )
        return _Calibrated(figure_files, record, data, fit, calibrations)

    def _learned(
        self,
        calibration: Calibration,
        places: Places | None,
        data: TrainingData,
        name: str,
        rows: Rows,
        fit: FinishedFit,
    ) -> tuple[Calibration, NDArray[np.intp]]:
        """The calibration of a type with what its accepted parts and known defects say, and the positions of odd parts.

        Args:
            calibration: The calibration of all held-out good parts.
            places: Where known defects of the type recur; None: nowhere.
            data: The training data.
            name: The type.
            rows: The rows of these parts, in the order of their scores.
            fit: The fitted model.
        """
        validation, index = self._config.validation, list(data.states).index(name)
        rate, threshold = validation.false_alarm_rate, validation.threshold
        calibration, maps = lower_places(
            calibration,
            data.is_false_alarm(name, self._config.paths)[rows],
            data.is_accepted(name, self._config.paths)[rows],
            partial(_held_out_maps, fit, index, validation.map_smoothing),
            rate,
            threshold,
        )
        # False alarms were chosen for their scores: they are no sample of good parts.
        is_selected = data.is_selected(name, self._config.paths)[rows]
        calibration, odd_parts = leave_out_odd_parts(calibration, is_selected)
        if places is not None:
            calibration = raise_places(calibration, places, maps(), rate, threshold)
        return calibration, odd_parts

    def _record(self, calibrations: dict[str, Calibration]) -> dict[str, Any]:
        validation = self._config.validation
        rate, thresholds = validation.false_alarm_rate, {}
        for name, calibration in calibrations.items():
            threshold, method = choose_threshold(calibration, rate, validation.threshold)
            stored = StoredThreshold(threshold=threshold, method=method, false_alarm_rate=rate)
            thresholds[name] = stored.model_dump()
        return {"map_smoothing": validation.map_smoothing, "calibration": thresholds}


def _warn_of_odd_parts(type_name: str, names: list[str], scores: NDArray[np.float64]) -> None:
    """Log the names of odd parts; ``scores`` are those of the other held-out good parts."""
    _log.warning(
        "%s: far from the other good parts, whose scores reach %.3g: %s. The threshold does not allow for such parts. "
        "Remove photographs of defective parts and bad photographs. If good parts may look so, train on more of them",
        type_name,
        scores.max(),
        ", ".join(names),
    )


def _calibrate(fit: FinishedFit, smoothing: float) -> dict[str, Calibration]:
    """Return the calibration of each type; ``smoothing`` is the Gaussian sigma of the maps, input pixels."""
    inputs, masks, model = fit.training_set.inputs, fit.training_set.masks, as_anomaly_model(fit.fitted.model)
    specification = fit.specification
    weights = np.array(list(specification.error_weights.values()), np.float32)
    calibrations = {}
    for index, (name, mask) in enumerate(zip(fit.training_set.types, masks, strict=True)):
        if type_folds := folds_of_type(inputs, index, fit.folds):
            positions = [held_out_positions(rows, fit.folds) for rows in type_folds]
            held_out, rows = fit.errors, np.concatenate(positions)
            if model.is_calibrated:
                calibration = calibrate_scores(held_out, rows, mask=mask, weights=weights, smoothing=smoothing)
            else:
                calibration = calibrate(
                    held_out,
                    positions,
                    mask=mask,
                    weights=weights,
                    smoothing=smoothing,
                    distances=model.gives_distance,
                )
        else:  # a single good part, which cannot be held out
            image = inputs.images(inputs.rows_of_type(index))[0]
            near, far = (
                model.error(inputs.with_images(shift(image, mask), index), slice(None))
                for shift in (shift_near, shift_far)
            )
            calibration = calibrate_by_texture(
                near, far, mask=mask, weights=weights, smoothing=smoothing, distances=model.gives_distance
            )
            held_out, rows = far, np.arange(len(far))
        losses = part_losses(held_out, rows, specification, mask=mask, weights=weights, smoothing=smoothing)
        calibrations[name] = replace(calibration, losses=losses)
        _check_calibration(name, calibrations[name], fit.errors.shape[1:])
    return calibrations


def _held_out_maps(fit: FinishedFit, index: int, smoothing: float) -> Iterator[NDArray[np.float32]]:
    """The map (H, W) of each held-out part of a type, in the order of its scores."""
    model = as_anomaly_model(fit.fitted.model)
    folds = folds_of_type(fit.training_set.inputs, index, fit.folds)
    return maps_of_held_out(
        fit.errors,
        [held_out_positions(rows, fit.folds) for rows in folds],
        is_calibrated=model.is_calibrated,
        mask=fit.training_set.masks[index],
        weights=np.array(list(fit.specification.error_weights.values()), np.float32),
        smoothing=smoothing,
        distances=model.gives_distance,
    )


def _check_calibration(name: str, calibration: Calibration, shape: tuple[int, ...]) -> None:
    """Raise ModelError if no part could be scored with a calibration."""
    try:
        calibration.check((shape[0], shape[1], shape[2]))
    except ValueError as error:
        raise ModelError(
            f"{name}: the model cannot be calibrated: {error}; use photographs of different good parts, and if that "
            "does not help a lower model_training.learning_rate or another model_training.model"
        ) from error
