"""The train command: fit a model on good parts, calibrate it on held-out ones, keep everything that made it."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal import mlflow_utils
from pixal.config import Config, as_config
from pixal.errors import InputError, ModelError
from pixal.inputs import InputSet
from pixal.outcome import Outcome
from pixal.preprocessing.conditions import Conditions
from pixal.preprocessing.folders import PREPROCESSING_RECORD, STATE_FILE
from pixal.preprocessing.run_input import on_canvas
from pixal.preprocessing.state import PreprocessingState
from pixal.records import file_hash, fingerprint, provenance, read_record, run_log, write_record
from pixal.train_model import pictures
from pixal.train_model.calibration import (
    Calibration,
    calibrate,
    calibrate_by_texture,
    check_enough,
    choose_threshold,
)
from pixal.train_model.checkpoint import Checkpoint
from pixal.train_model.data import evenly_spaced
from pixal.train_model.family import ModelFamily, Rows, error_weights, family_named, options_of
from pixal.train_model.folds import HELD_OUT, Fitted, fit_all, make_folds, of_type, places
from pixal.train_model.model_folder import (
    MODEL_RECORD,
    load_trained,
    save_calibrations,
    save_conditions,
    save_latents,
    state_file,
)
from pixal.train_model.texture import moved_a_little, moved_far

_log = logging.getLogger(__name__)

_ADVISED = 8  # good images of a type
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
    quiet: bool = False,
) -> Outcome:
    """Train on every ``out.npz`` of the component, or on ``input_path`` (one ``.npz``, or a folder of them).

    Writes the model, its calibration, its metadata and figures into the type's folder (one-hot mode: the component's),
    and a run into MLflow. ``resume``: leave what is trained already, go on from the checkpoint of a run that was cut
    short. Raises InputError where there is nothing to train on, ConfigError for a bad configuration, ModelError for a
    checkpoint of something else; KeyboardInterrupt, with how to go on, when the run is interrupted.
    """
    config = as_config(config)
    sources = _sources(input_path, config)
    family = family_named(config.model_training.model)
    options_of(family, config.model_training)  # finds what is amiss with them before there is work to lose
    hardware = family.set_up(config.model_training)
    outcome = Outcome()
    runs = [_Training(owner, path, family, config, hardware, resume, quiet) for owner, path in sources]
    _log.info("training on %d good images", sum(len(run.material[0]) for run in runs))  # finds what is amiss with any
    for run in runs:
        with run_log(config.paths.resolve("log_path", run.owner), "train"):
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
    quiet: bool

    def run(self) -> int:
        """Fit, calibrate, save; return the number of images."""
        inputs, states = self.material
        label = self.owner or self.config.paths.component
        if self.resume and self._is_done():
            _log.info("%s: trained already, of the same input with the same settings", label)
            return len(inputs)
        masks = np.stack([on_canvas(s.mask[..., None], (*inputs.shape[:2], 1))[..., 0] for s in states.values()])
        folds = self._folds
        held_out = [sum(len(part) for part in of_type(inputs, index, folds)) for index in range(len(states))]
        check_enough(min(held_out), self.config.validation.false_alarm_rate, self.config.validation.threshold)
        count = max(1, sum(len(fold) for fold in folds))  # an empty file cannot be mapped
        shape = (count, *inputs.shape[:2], len(error_weights(self._params)))
        checkpoint = Checkpoint(self._folder("model_path") / "checkpoint", self._made_of, shape, resume=self.resume)
        with mlflow_utils.tracked_run(self.config, label, "train") as tracker:
            with checkpoint:
                fitted = fit_all(
                    self.family, self._params, inputs, masks, folds, checkpoint, name=label, quiet=self.quiet
                )
            calibrations = self._calibrate(fitted.model, inputs, masks, folds, checkpoint.errors)
            figures = pictures.save_training(
                self._folder("figures_path"), label, fitted, inputs, checkpoint.errors, folds, calibrations, self.config
            )
            pictures.track(tracker, fitted)
            files = self._save(fitted.model, inputs, states, calibrations)
            record = self._record(fitted, files, calibrations, checkpoint.seconds)
            write_record(self._folder("metadata_path") / MODEL_RECORD, record)
            checkpoint.remove()
            metadata = sorted(self._folder("metadata_path").glob("*.yaml"))
            tracker.finish(record["settings"], {"model": files, "figures": figures, "metadata": metadata})
        best, epochs = fitted.history.best_epoch, self.config.model_training.n_epochs
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
    def material(self) -> tuple[InputSet, dict[str, PreprocessingState]]:
        """The inputs, and each type's preprocessing. Raises InputError for what cannot be trained on."""
        inputs = InputSet.load(self.path)
        one_hot = self.config.model_training.one_hot_encoding
        if one_hot != bool(inputs.types):
            made = "one-hot labels" if inputs.types else "no labels"
            raise InputError(
                f"{self.path} holds {made}, but one_hot_encoding is {one_hot}; "
                "run make_input again, or change the setting"
            )
        record = read_record(self.path.parent / "metadata" / PREPROCESSING_RECORD)
        states = {}
        for name in record["types"]:
            states[name] = PreprocessingState.load(self._state_of(name))
        if record["sha256"] != self._input_hash:
            raise InputError(f"{self.path} is not what make_input recorded beside it; run make_input again")
        for name, state in states.items():
            count = len(inputs) if not one_hot else int((inputs.labels[:, inputs.types.index(name)] > 0).sum())  # type: ignore[index]
            if not count:
                raise InputError(f"{name}: {self.path} holds no good image of it; run make_input again")
            _warn_of_few(name, count)
            if tuple(state.shape[2:]) != tuple(inputs.shape[2:]):
                raise InputError(
                    f"{self.path} holds {inputs.shape[2]} channels, its preprocessing "
                    f"{state.shape[2]}; run make_input again"
                )
        return inputs, states

    @cached_property
    def _params(self) -> dict[str, Any]:
        """What the model is built from: the settings, and what the input is like."""
        inputs, states = self.material
        weights = next(iter(states.values())).settings.preprocessor.weights or [1.0] * inputs.shape[2]
        return {
            **self.config.model_training.model_dump(),
            "model_options": options_of(self.family, self.config.model_training),
            "input_dim": int(inputs.data.shape[1]),
            "shape": list(inputs.shape),
            "channels": list(inputs.channels),
            "channel_weights": [float(weight) for weight in weights],
            "gives_distance": self.family.gives_distance,
            "types": list(states),
            "memory_limit": self.config.execution.memory_limit,
        }

    @cached_property
    def _folds(self) -> list[Rows]:
        """The rows that are held out, fit by fit: one time only from a family whose fits are costly."""
        settings = self.config.model_training
        what = self.material[0], settings.calibration_folds, settings.seed
        if self.family(self._params).folds_are_cheap:
            return make_folds(*what)
        return make_folds(*what, limit=HELD_OUT * settings.calibration_folds)[:1]

    @cached_property
    def _input_hash(self) -> str:
        return file_hash(self.path)

    @cached_property
    def _made_of(self) -> dict[str, Any]:
        """All that the trained model depends on, by the names that messages use."""
        validation = self.config.validation.model_dump(include={"map_smoothing", "false_alarm_rate", "threshold"})
        return {
            "input": self._input_hash,
            "preprocessing": [file_hash(self._state_of(name)) for name in self.material[1]],
            **{f"model_training.{key}": value for key, value in self._params.items()},
            **{f"validation.{key}": value for key, value in validation.items()},
            "version of TensorFlow": self.hardware.get("tensorflow"),
        }

    def _is_done(self) -> bool:
        """Whether there is a whole model of the same input, settings and versions."""
        try:
            return bool(load_trained(self.config, self.owner).params.get("fingerprint") == fingerprint(self._made_of))
        except ModelError:
            return False

    def _state_of(self, name: str) -> Path:
        """Where the preprocessing of a type left what it learned."""
        return (self.path.parent / name if self.owner is None else self.path.parent) / "metadata" / STATE_FILE

    def _calibrate(
        self,
        model: ModelFamily,
        inputs: InputSet,
        masks: NDArray[np.bool_],
        folds: Sequence[Rows],
        errors: NDArray[np.float32],
    ) -> dict[str, Calibration]:
        params = self._params
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
                row = of_type(inputs, index, [np.arange(len(inputs))])[0]
                image = inputs.images(row)[0]
                near, far = (
                    model.error(inputs.of_images(move(image, masks[index]), index), slice(None))
                    for move in (moved_a_little, moved_far)
                )
                calibrations[name] = calibrate_by_texture(near, far, mask=masks[index], **settings)
        return calibrations

    def _save(
        self,
        model: ModelFamily,
        inputs: InputSet,
        states: dict[str, PreprocessingState],
        calibrations: dict[str, Calibration],
    ) -> list[Path]:
        folder = self._folder("model_path")
        # A model is of one piece: while it is being replaced there is no metadata that would vouch for it.
        (self._folder("metadata_path") / MODEL_RECORD).unlink(missing_ok=True)
        for files_of_models in ("*.keras", "*.h5", "*.weights.*"):  # of another model name or family
            for stale in folder.glob(files_of_models):
                stale.unlink()
        files = [*model.save(folder), save_calibrations(folder, calibrations)]
        everything = [np.arange(len(inputs))]
        rows = [evenly_spaced(of_type(inputs, index, everything)[0], _LATENTS) for index in range(len(states))]
        files.append(save_latents(folder, [model.latent(inputs, part) for part in rows]))
        files.append(save_conditions(folder, self._conditions(states)))
        for name in states:
            target = state_file(folder, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self._state_of(name), target)
            files.append(target)
        return files

    def _conditions(self, names: Collection[str]) -> list[Conditions]:
        """How the photographs of each type were taken, as far as make_input has noted it."""
        record = read_record(self.path.parent / "metadata" / PREPROCESSING_RECORD)
        tried, made = record.get("photographs", {}), record.get("made", ())
        rows = {name: [row for one in made for row in one["images"].get(name, ())] for name in names}
        return [Conditions.of(rows[name], tried.get(name, 0)) for name in names]

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
                "input_sha256": self._made_of["input"],
                "fingerprint": fingerprint(self._made_of),
                "n_images": len(self.material[0]),
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


def _warn_of_few(name: str, count: int) -> None:
    if count == 1:
        _log.warning(
            "%s: only 1 good image, so nothing can be held out: spread and threshold are guesses from the image's own "
            "texture, which only large faults exceed (%d or more images are advised)",
            name,
            _ADVISED,
        )
    elif count < _ADVISED:
        _log.warning(
            "%s: only %d good images; verdicts rest on a fitted tail and miss more (%d or more are advised)",
            name,
            count,
            _ADVISED,
        )


def _sources(input_path: str | Path | None, config: Config) -> list[tuple[str | None, Path]]:
    """The ``out.npz`` files to train on, each with the type it is of (None: all types together)."""
    name = config.preprocessing.preprocessor.file_name
    root = Path(input_path) if input_path is not None else config.paths.resolve("component_model_path")
    one_hot = config.model_training.one_hot_encoding
    if root.is_file() or root.suffix == ".npz":
        files = [root]
    elif one_hot or ((root / name).is_file() and input_path is not None):
        files = [root / name]
    else:
        files = sorted(root.glob(f"*/{name}"))
    missing = [path for path in files if not path.is_file()]
    if not files or missing:
        what = missing[0] if missing else root / "TYPE" / name
        raise InputError(f"{what} does not exist; run preprocess first")
    return [(None if one_hot else path.resolve().parent.name, path) for path in files]
