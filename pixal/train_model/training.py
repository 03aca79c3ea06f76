"""The train command: fit a model on good parts, calibrate it on held-out ones, keep everything that made it."""

from __future__ import annotations

import logging
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pixal import mlflow_utils
from pixal.config import Config, as_config
from pixal.errors import InputError
from pixal.inputs import InputSet
from pixal.outcome import Outcome
from pixal.preprocessing.folders import PREPROCESSING_RECORD, STATE_FILE
from pixal.preprocessing.run_input import on_canvas
from pixal.preprocessing.state import PreprocessingState
from pixal.records import file_hash, provenance, read_record, run_log, write_record
from pixal.train_model import pictures
from pixal.train_model.calibration import Calibration, calibrate, check_enough, set_threshold
from pixal.train_model.family import History, ModelFamily, Rows, family_named
from pixal.train_model.model_folder import MODEL_RECORD, save_calibrations, state_file

_log = logging.getLogger(__name__)

_ROWS = 16  # parts whose errors are in memory at a time


def train(
    input_path: str | Path | None = None, *, config: Config | str | Path | None = None, quiet: bool = False
) -> Outcome:
    """Train on every ``out.npz`` of the component, or on ``input_path`` (one ``.npz``, or a folder of them).

    Writes the model, its calibration, its metadata and figures into the type's folder (one-hot mode: the component's),
    and a run into MLflow. Raises InputError where there is nothing to train on, ConfigError for a bad configuration.
    """
    config = as_config(config)
    from pixal.train_model.hardware import set_up_tensorflow

    sources = _sources(input_path, config)
    family = family_named(config.model_training.model)
    hardware = set_up_tensorflow(config.model_training)
    outcome = Outcome()
    runs = [_Training(owner, path, family, config, hardware, quiet) for owner, path in sources]
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
    quiet: bool

    def run(self) -> int:
        """Fit, calibrate, save; return the number of images."""
        started = time.perf_counter()
        inputs, states = self.material
        label = self.owner or self.config.paths.component
        params = self._params(inputs, states)
        masks = np.stack([on_canvas(s.mask[..., None], (*inputs.shape[:2], 1))[..., 0] for s in states.values()])
        with mlflow_utils.tracked_run(self.config, label, "train") as tracker:
            folds = _folds(inputs, self.config.model_training.calibration_folds, params["seed"])
            cheap = self.family(dict(params)).folds_are_cheap
            folds = folds if cheap else folds[:1]
            held_out = [sum(len(part) for part in _of_type(inputs, index, folds)) for index in range(len(states))]
            check_enough(min(held_out), self.config.validation.false_alarm_rate, self.config.validation.threshold)
            with tempfile.TemporaryDirectory(dir=self._folder("component_model_path")) as scratch:
                errors = np.lib.format.open_memmap(
                    Path(scratch) / "errors.npy", "w+", np.float32, (len(inputs), *inputs.shape)
                )
                model, history, fold_histories = self._fit(params, inputs, masks, folds, errors, cheap)
                calibrations = self._calibrate(inputs, masks, folds, errors, params)
                figures = pictures.save_training(
                    self._folder("figures_path"),
                    label,
                    history,
                    fold_histories,
                    pictures.strip(inputs, model, errors, np.concatenate(folds)),
                    self.config,
                )
            for name, curve in {
                "loss": history.loss,
                "val_loss": pictures.mean_curve([fold.validation_loss for fold in fold_histories]),
                "accuracy": history.accuracy,
                "val_accuracy": pictures.mean_curve([fold.validation_accuracy for fold in fold_histories]),
            }.items():
                for epoch, value in enumerate(curve, 1):
                    tracker.metric(name, value, epoch)
            files = self._save(model, states, calibrations)
            record = self._record(model, states, calibrations, history, len(inputs), time.perf_counter() - started)
            write_record(self._folder("metadata_path") / MODEL_RECORD, record)
            metadata = sorted(self._folder("metadata_path").glob("*.yaml"))
            tracker.finish(record["settings"], {"model": files, "figures": figures, "metadata": metadata})
        _log.info(
            "%s: trained on %d good images in %.0f s; best epoch %d of %d",
            label,
            len(inputs),
            time.perf_counter() - started,
            history.best_epoch,
            self.config.model_training.n_epochs,
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
            folder = self.path.parent / name if one_hot else self.path.parent
            states[name] = PreprocessingState.load(folder / "metadata" / STATE_FILE)
        if record["sha256"] != file_hash(self.path):
            raise InputError(f"{self.path} is not what make_input recorded beside it; run make_input again")
        for name, state in states.items():
            count = len(inputs) if not one_hot else int((inputs.labels[:, inputs.types.index(name)] > 0).sum())  # type: ignore[index]
            if count < 2:
                raise InputError(
                    f"{name}: {count} good image; at least 2 are needed to learn what good parts differ in"
                )
            if count < 8:
                _log.warning(
                    "%s: only %d good images; verdicts rest on a fitted tail and miss more (8 or more are advised)",
                    name,
                    count,
                )
            if tuple(state.shape[2:]) != tuple(inputs.shape[2:]):
                raise InputError(
                    f"{self.path} holds {inputs.shape[2]} channels, its preprocessing "
                    f"{state.shape[2]}; run make_input again"
                )
        return inputs, states

    def _params(self, inputs: InputSet, states: dict[str, PreprocessingState]) -> dict[str, Any]:
        """What the model is built from: the settings, and what the input is like."""
        settings = self.config.model_training.model_dump()
        state = next(iter(states.values()))
        weights = state.settings.preprocessor.weights or [1.0] * inputs.shape[2]
        return {
            **settings,
            "input_dim": int(inputs.data.shape[1]),
            "shape": list(inputs.shape),
            "channels": list(inputs.channels),
            "channel_weights": [float(weight) for weight in weights],
            "types": list(states),
            "memory_limit": self.config.execution.memory_limit,
        }

    def _fit(
        self,
        params: dict[str, Any],
        inputs: InputSet,
        masks: NDArray[np.bool_],
        folds: Sequence[Rows],
        errors: NDArray[np.float32],
        cheap: bool,
    ) -> tuple[ModelFamily, History, list[History]]:
        """Fit without each fold, noting the fold's errors; then on everything, as long as the folds took to be best."""
        everything = np.arange(len(inputs))
        histories: list[History] = []
        epochs = int(params["n_epochs"])
        name = self.owner or self.config.paths.component
        total = epochs * (len(folds) + 1 if cheap else 1)
        with tqdm(total=total, desc=f"{name}: training"[:34].ljust(34), unit="epoch", disable=self.quiet) as bar:

            def on_epoch(epoch: int, loss: float) -> None:
                bar.update(1)
                if epoch % 10 == 0:
                    bar.set_postfix(loss=f"{loss:.3g}", refresh=False)

            model = self.family(dict(params))
            for number, fold in enumerate(folds, 1):
                rest = np.setdiff1d(everything, fold)
                histories.append(model.fit(inputs, rest, masks, validation_rows=fold, on_epoch=on_epoch))
                for start in range(0, len(fold), _ROWS):
                    part = fold[start : start + _ROWS]
                    errors[part] = model.error(inputs, part)
                bar.update(epochs * number - bar.n)
            if not cheap:
                return model, histories[0], histories
            best = [history.best_epoch for history in histories if history.best_epoch]
            chosen = int(np.ceil(np.median(best))) if best else epochs
            checkpoint = self._folder("model_path") / "checkpoint.weights.h5"
            history = model.fit(inputs, everything, masks, epochs=chosen, on_epoch=on_epoch, checkpoint=checkpoint)
            checkpoint.unlink(missing_ok=True)  # it served its purpose: the run was not cut short
            bar.update(total - bar.n)
        return model, history, histories

    def _calibrate(
        self,
        inputs: InputSet,
        masks: NDArray[np.bool_],
        folds: Sequence[Rows],
        errors: NDArray[np.float32],
        params: dict[str, Any],
    ) -> dict[str, Calibration]:
        calibrations = {}
        for index, name in enumerate(params["types"]):
            calibrations[name] = calibrate(
                errors,
                _of_type(inputs, index, folds),
                mask=masks[index],
                weights=np.asarray(params["channel_weights"], np.float32),
                smoothing=self.config.validation.map_smoothing,
            )
        return calibrations

    def _save(
        self, model: ModelFamily, states: dict[str, PreprocessingState], calibrations: dict[str, Calibration]
    ) -> list[Path]:
        folder = self._folder("model_path")
        # A model is of one piece: while it is being replaced there is no metadata that would vouch for it.
        (self._folder("metadata_path") / MODEL_RECORD).unlink(missing_ok=True)
        for stale in (*folder.glob("*.keras"), *folder.glob("*.h5")):  # of another model name or family
            stale.unlink()
        files = model.save(folder)
        files.append(save_calibrations(folder, calibrations))
        for name in states:
            origin = self.path.parent / name if self.owner is None else self.path.parent
            target = state_file(folder, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(origin / "metadata" / STATE_FILE, target)
            files.append(target)
        return files

    def _record(
        self,
        model: ModelFamily,
        states: dict[str, PreprocessingState],
        calibrations: dict[str, Calibration],
        history: History,
        count: int,
        seconds: float,
    ) -> dict[str, Any]:
        validation = self.config.validation
        thresholds = {}
        for name, calibration in calibrations.items():
            rate = validation.false_alarm_rate
            threshold, method = set_threshold(calibration.scores, rate, validation.threshold)
            thresholds[name] = {"threshold": threshold, "method": method, "false_alarm_rate": rate}
        return (
            dict(model.params)
            | provenance()
            | {
                "component": self.config.paths.component,
                "input": self.path,
                "input_sha256": file_hash(self.path),
                "n_images": count,
                "map_smoothing": validation.map_smoothing,
                "epochs_trained": len(history.loss),
                "final_loss": history.loss[-1] if history.loss else None,
                "training_seconds": round(seconds, 1),
                "calibration": thresholds,
                "hardware": self.hardware,
                "settings": self.config.parameters.model_dump(),
                "files": {
                    path.relative_to(self._folder("model_path")).as_posix(): file_hash(path)
                    for path in sorted(self._folder("model_path").rglob("*"))
                    if path.is_file()
                },
            }
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


def _folds(inputs: InputSet, count: int, seed: int) -> list[Rows]:
    """Random parts of the rows, as equal as can be in each type."""
    generator = np.random.default_rng(seed)
    labels = np.zeros(len(inputs), int) if inputs.labels is None else inputs.labels.argmax(1)
    folds: list[list[int]] = [[] for _ in range(min(count, len(inputs)))]
    for label in np.unique(labels):
        for position, row in enumerate(generator.permutation(np.flatnonzero(labels == label))):
            folds[position % len(folds)].append(int(row))
    return [np.sort(np.array(fold, np.intp)) for fold in folds if fold]  # few parts of many types leave some empty


def _of_type(inputs: InputSet, index: int, folds: Sequence[Rows]) -> list[Rows]:
    """The rows of one type in each fold that has any."""
    if inputs.labels is None:
        return list(folds)
    own = np.flatnonzero(inputs.labels[:, index])
    return [part for part in (np.intersect1d(fold, own) for fold in folds) if len(part)]
