"""The train command: fit a model on good parts, calibrate it on held-out ones, keep everything that made it."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal import mlflow_utils
from pixal.calibration.calibration import (
    Calibration,
    calibrate,
    calibrate_by_texture,
    check_enough,
    choose_threshold,
)
from pixal.calibration.single_image import moved_a_little, moved_far
from pixal.config import Config, as_config
from pixal.errors import InputError
from pixal.io.files import file_hash
from pixal.io.locking import only_writer
from pixal.io.logs import run_log
from pixal.io.provenance import fingerprint, provenance
from pixal.io.records import write_record
from pixal.outcome import Outcome
from pixal.tasks.photographs.training import figures as pictures
from pixal.tasks.photographs.training.training_data import Material, find_sources
from pixal.train_model.family import ModelFamily, Rows, error_weights, family_named, options_of
from pixal.train_model.folds import HELD_OUT, Fitted, fit_all, make_folds, of_type, places
from pixal.train_model.keras_training.data import evenly_spaced
from pixal.train_model.resume import Continuation
from pixal.train_model.stored_model import (
    MODEL_RECORD,
    save_calibrations,
    save_conditions,
    save_latents,
    state_file,
)

_log = logging.getLogger(__name__)

_LATENTS = 1000  # of a type's good parts at most: enough to see where they lie
_REPEATABLE = (
    "the same input, settings, versions and hardware give the same weights file, byte for byte; "
    "on other hardware sums are rounded in another order"
)


def train(
    input_path: str | Path | None = None,
    *,
    config: Config | str | Path | None = None,
    resume: bool = False,
    epochs: int | None = None,
    quiet: bool = False,
) -> Outcome:
    """Train on every ``out.npz`` of the component, or on ``input_path`` (one ``.npz``, or a folder of them).

    Writes the model, its calibration, its metadata and figures into the type's folder (one-hot mode: the component's),
    and a run into MLflow. ``resume``: leave what is trained already, go on from the checkpoint of a run that was cut
    short. With ``resume``, ``epochs``: train what is trained already so many epochs more. Raises InputError where there
    is nothing to train on, ConfigError for a bad configuration, ModelError for a checkpoint of something else, or where
    there is no model to go on with; KeyboardInterrupt, with how to go on, when the run is interrupted.
    """
    if epochs is not None and not (resume and epochs >= 1):
        raise InputError(f"{epochs} epochs: it says how many more to train, one at least, and goes with resume alone")
    config = as_config(config)
    sources = find_sources(input_path, config)
    family = family_named(config.model_training.model)
    options_of(family, config.model_training)  # finds what is amiss with them before there is work to lose
    hardware = family.set_up(config.model_training)
    outcome = Outcome()
    runs = [_Training(owner, path, family, config, hardware, resume, epochs, quiet) for owner, path in sources]
    # Finds what is amiss with any, before there is work to lose.
    _log.info("training on %d good images", sum(len(run.material.inputs) for run in runs))
    if epochs is not None:
        for run in runs:
            run.continuation.check_more_epochs(family(run.params))
    for run in runs:
        model = config.paths.resolve("model_path", run.owner)
        with only_writer(model), run_log(config.paths.resolve("log_path", run.owner), "train"):
            outcome.done += run.run()
    return outcome.checked(input_path)


@dataclass
class _Training:
    """One training run. ``owner``: the type, or None for all types together."""

    owner: str | None
    path: Path
    family: type[ModelFamily]
    config: Config
    hardware: dict[str, Any]
    resume: bool
    epochs: int | None
    quiet: bool

    def run(self) -> int:
        """Fit, calibrate, save; return the number of images."""
        inputs, masks, continuation = self.material.inputs, self.material.masks, self.continuation
        label = self.owner or self.config.paths.component
        if continuation.is_done:
            _log.info("%s: trained already, of the same input with the same settings", label)
            return len(inputs)
        folds = self._folds
        held_out = [sum(len(part) for part in of_type(inputs, index, folds)) for index in range(len(masks))]
        check_enough(min(held_out), self.config.validation.false_alarm_rate, self.config.validation.threshold)
        count = max(1, sum(len(fold) for fold in folds))  # an empty file cannot be mapped
        shape = (count, *inputs.shape[:2], len(error_weights(self.params)))
        checkpoint = continuation.checkpoint(shape)
        with mlflow_utils.tracked_run(self.config, label, "train") as tracker:
            with checkpoint:
                fitted = fit_all(
                    self.family,
                    self.params,
                    inputs,
                    masks,
                    folds,
                    checkpoint,
                    name=label,
                    quiet=self.quiet,
                    on_own_epoch=continuation.keep_weights,
                )
            calibrations = self._calibrate(fitted.model, masks, folds, checkpoint.errors)
            figures = pictures.save_training(
                self._folder("figures_path"), label, fitted, inputs, checkpoint.errors, folds, calibrations, self.config
            )
            pictures.track(tracker, fitted)
            files = self._save(fitted.model, calibrations)
            record = self._record(fitted, files, calibrations, checkpoint.seconds)
            record |= continuation.keep_state(checkpoint)
            write_record(self._folder("metadata_path") / MODEL_RECORD, record)
            checkpoint.remove()
            metadata = sorted(self._folder("metadata_path").glob("*.yaml"))
            tracker.finish(record["settings"], {"model": files, "figures": figures, "metadata": metadata})
        best, epochs = fitted.history.best_epoch, continuation.until or self.config.model_training.n_epochs
        _log.info(
            "%s: trained on %d good images in %.0f s%s",
            label,
            len(inputs),
            record["training_seconds"],
            f"; best epoch {best} of {epochs}" if fitted.history.loss else "",
        )
        return len(inputs)

    def _folder(self, entry: str) -> Path:
        return self.config.paths.resolve(entry, self.owner)

    @cached_property
    def material(self) -> Material:
        """What there is to train on. Raises InputError for what cannot be trained on."""
        return Material(self.owner, self.path)

    @cached_property
    def params(self) -> dict[str, Any]:
        """What the model is built from: the settings, and what the input is like."""
        inputs = self.material.inputs
        return {
            **self.config.model_training.model_dump(),
            "model_options": options_of(self.family, self.config.model_training),
            "input_dim": int(inputs.data.shape[1]),
            "shape": list(inputs.shape),
            "channels": list(inputs.channels),
            "channel_weights": self.material.channel_weights,
            "gives_distance": self.family.gives_distance,
            "types": list(self.material.states),
            "memory_limit": self.config.execution.memory_limit,
        }

    @cached_property
    def continuation(self) -> Continuation:
        """What the run goes on from, and what it leaves."""
        validation = self.config.validation.model_dump(include={"map_smoothing", "false_alarm_rate", "threshold"})
        made_of = {
            "input": self.material.sha256,
            "preprocessing": [file_hash(self.material.state_file(name)) for name in self.material.states],
            **{f"model_training.{key}": value for key, value in self.params.items()},
            **{f"validation.{key}": value for key, value in validation.items()},
            "version of TensorFlow": self.hardware.get("tensorflow"),
        }
        return Continuation(self.config, self.owner, made_of, resume=self.resume, epochs=self.epochs)

    @cached_property
    def _folds(self) -> list[Rows]:
        """The rows that are held out, fit by fit: one time only from a family whose fits are costly."""
        settings = self.config.model_training
        what = self.material.inputs, settings.calibration_folds, settings.seed
        if self.family(self.params).folds_are_cheap:
            return make_folds(*what)
        return make_folds(*what, limit=HELD_OUT * settings.calibration_folds)[:1]

    def _calibrate(
        self,
        model: ModelFamily,
        masks: NDArray[np.bool_],
        folds: Sequence[Rows],
        errors: NDArray[np.float32],
    ) -> dict[str, Calibration]:
        params, inputs = self.params, self.material.inputs
        settings: dict[str, Any] = {
            "weights": np.array(list(error_weights(params).values()), np.float32),
            "smoothing": self.config.validation.map_smoothing,
            "distances": self.family.gives_distance,
        }
        calibrations = {}
        for index, name in enumerate(params["types"]):
            if own := of_type(inputs, index, folds):
                own = [places(rows, folds) for rows in own]
                calibrations[name] = calibrate(errors, own, mask=masks[index], **settings)
            else:
                image = inputs.images(inputs.rows_of_type(index))[0]
                near, far = (
                    model.error(inputs.of_images(move(image, masks[index]), index), slice(None))
                    for move in (moved_a_little, moved_far)
                )
                calibrations[name] = calibrate_by_texture(near, far, mask=masks[index], **settings)
        return calibrations

    def _save(self, model: ModelFamily, calibrations: dict[str, Calibration]) -> list[Path]:
        folder, material = self._folder("model_path"), self.material
        # A model is of one piece: while it is being replaced there is no metadata that would vouch for it.
        (self._folder("metadata_path") / MODEL_RECORD).unlink(missing_ok=True)
        for files_of_models in ("*.keras", "*.h5", "*.weights.*"):  # of another model name or family
            for stale in folder.glob(files_of_models):
                stale.unlink()
        files = [*model.save(folder), save_calibrations(folder, calibrations)]
        rows = [evenly_spaced(material.inputs.rows_of_type(index), _LATENTS) for index in range(len(material.states))]
        files.append(save_latents(folder, [model.latent(material.inputs, part) for part in rows]))
        files.append(save_conditions(folder, material.conditions))
        for name in material.states:
            target = state_file(folder, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(material.state_file(name), target)
            files.append(target)
        return files

    def _record(
        self, fitted: Fitted, files: list[Path], calibrations: dict[str, Calibration], seconds: float
    ) -> dict[str, Any]:
        validation = self.config.validation
        rate, folder, losses = validation.false_alarm_rate, self._folder("model_path"), fitted.history.loss
        thresholds = {}
        for name, calibration in calibrations.items():
            threshold, method = choose_threshold(calibration, rate, validation.threshold)
            thresholds[name] = {"threshold": threshold, "method": method, "false_alarm_rate": rate}
        return (
            dict(fitted.model.params)
            | provenance()
            | {
                "component": self.config.paths.component,
                "input": self.path,
                "input_sha256": self.material.sha256,
                "fingerprint": fingerprint(self.continuation.made_of),
                "n_images": len(self.material.inputs),
                "map_smoothing": validation.map_smoothing,
                "epochs_trained": len(losses),
                "final_loss": losses[-1] if losses else None,
                "training_seconds": round(seconds, 1),
                "calibration": thresholds,
                "hardware": self.hardware,
                "repeatable": _REPEATABLE,
                "settings": self.config.parameters.model_dump(),
                "files": {path.relative_to(folder).as_posix(): file_hash(path) for path in sorted(files)},
            }
        )
