"""The training of one model: fits, held-out errors, what the task adds, and everything that is stored."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pixal.config import Config, PathEntry
from pixal.config.schema import Execution
from pixal.config.section import result_settings
from pixal.io import ownership
from pixal.io.files import file_hash
from pixal.io.logs import log_to_file
from pixal.io.provenance import fingerprint, provenance
from pixal.io.records import with_hash, write_record
from pixal.tracking import MODEL_TAG, EpochLog, TrackedDataset, TrackedModel, tracked_run
from pixal.train_model.family import AnomalyModel, ModelFamily, Rows, checked_options
from pixal.train_model.folds import Fitted, cross_validation_folds, fit_all, folds_of_type, make_folds
from pixal.train_model.resume import ResumePlan
from pixal.train_model.specification import ModelRecord, ModelSpecification
from pixal.train_model.stored_model import MODEL_RECORD
from pixal.train_model.training_task import Finished, FinishedFit, TrainingSet, TrainingTask

_log = logging.getLogger(__name__)

_REPEATABLE = (
    "the same input, settings, versions and hardware give the same weights file, byte for byte; "
    "on other hardware sums are rounded in another order"
)


@dataclass
class TrainingRun:
    """The training of one model."""

    training_set: TrainingSet
    task: TrainingTask
    family: type[ModelFamily]
    config: Config
    hardware: dict[str, Any]
    resume: bool
    epochs: int | None
    quiet: bool
    execution: Execution | None
    summary: str = ""

    def run(self) -> int:
        """Fit, finish and store the model; return the number of images."""
        with log_to_file(self._folder("log_path"), "train"):
            return self._run()

    def _run(self) -> int:
        data, plan, folds = self.training_set, self.plan, self._folds
        if plan.is_done:
            _log.info("%s: skipped, already trained on the same input with the same settings", data.label)
            return len(data.inputs)
        held_out = [sum(map(len, folds_of_type(data.inputs, index, folds))) for index in range(len(data.types))]
        self.task.check_held_out(min(held_out))
        count = max(1, sum(len(fold) for fold in folds))  # an empty file cannot be mapped
        shape = (count, *data.inputs.shape[:2], len(self.specification.error_weights))
        checkpoint = plan.open_checkpoint(shape)
        tags = {"pixal.type": data.owner} if data.owner else {}
        with tracked_run(self.config, data.label, "train", tags=tags) as tracker:
            tracker.log_dataset(self._dataset())
            log_epochs = EpochLog(tracker)
            with checkpoint:
                fitted = fit_all(
                    self.family,
                    self.specification,
                    data.inputs,
                    data.masks,
                    folds,
                    checkpoint,
                    name=data.label,
                    quiet=self.quiet,
                    on_final_epoch=plan.save_epoch_weights,
                    on_history=log_epochs,
                    execution=self.execution,
                )
            log_epochs.finish(fitted.history, fitted.fold_histories)
            finished = self.task.finish(FinishedFit(data, fitted, folds, checkpoint.errors, self.specification))
            files = self._save(fitted.model, finished)
            content = self._record(fitted, files, finished, checkpoint.seconds) | plan.store_last_state(checkpoint)
            content = with_hash(content)
            record = ModelRecord.read(content)
            write_record(self._folder("metadata_path") / MODEL_RECORD, content)
            checkpoint.remove()
            metadata = sorted(self._folder("metadata_path").glob("*.yaml"))
            tracker.set_tags({MODEL_TAG: record.fingerprint, "pixal.model_family": record.model})
            tracker.log_model(self._tracked_model())
            tracker.log_artifacts({"model": files, "figures": finished.figures, "metadata": metadata})
        best, epochs = fitted.history.best_epoch, plan.target_epochs or self.config.model_training.n_epochs
        self.summary = f"{data.label}: trained on {len(data.inputs)} good images in {record.training_seconds:.0f} s"
        self.summary += f"; best epoch {best} of {epochs}" if fitted.history.loss else ""
        _log.info("%s", self.summary)
        return len(data.inputs)

    def _folder(self, entry: PathEntry) -> Path:
        return self.config.paths.resolve(entry, self.training_set.owner)

    @cached_property
    def specification(self) -> ModelSpecification:
        """The specification of the model."""
        data, settings = self.training_set, self.config.model_training
        return ModelSpecification.read(
            settings.model_dump()
            | {
                "model_options": checked_options(self.family, settings).model_dump(),
                "input_dim": int(data.inputs.data.shape[1]),
                "shape": data.inputs.shape,
                "channels": data.inputs.channels,
                "channel_weights": data.channel_weights,
                "gives_distance": issubclass(self.family, AnomalyModel) and self.family.gives_distance,
                "gives_reconstruction": issubclass(self.family, AnomalyModel) and self.family.gives_reconstruction,
                "types": data.types,
                "aligned": data.aligned,
                "memory_limit": self.config.execution.memory_limit,
            }
        )

    @cached_property
    def plan(self) -> ResumePlan:
        """The start of the run: new, from a checkpoint, or from a trained model."""
        settings = result_settings(self.specification)
        dependencies = {
            "input": self.training_set.sha256,
            **self.training_set.depends_on,
            **{f"model_training.{key}": value for key, value in settings.items()},
            **self.task.settings,
            "version of TensorFlow": self.hardware.get("tensorflow"),
        }
        return ResumePlan(self.config, self.training_set.owner, dependencies, resume=self.resume, epochs=self.epochs)

    @cached_property
    def _folds(self) -> list[Rows]:
        """The rows to hold out, fit by fit; a single fold for a family whose fits are costly, else row by row."""
        if not self.task.holds_out:
            return []
        inputs, model = self.training_set.inputs, self.family(self.specification)
        if model.leaves_one_out:
            return make_folds(inputs, len(inputs), self.config.model_training.seed)
        return cross_validation_folds(model, inputs, self.config.model_training)

    def _tracked_model(self) -> TrackedModel:
        record_file = self._folder("metadata_path") / MODEL_RECORD
        return TrackedModel(
            self.config.parameters.task,
            self.config.paths.component,
            self.training_set.owner,
            record_file,
            file_hash(record_file),
            self._folder("model_path"),
        )

    def _dataset(self) -> TrackedDataset:
        data = self.training_set
        name = " ".join(dict.fromkeys((self.config.paths.component, data.label)))
        profile = {"good parts": len(data.inputs), "shape": list(data.inputs.shape), "channels": data.inputs.channels}
        return TrackedDataset(name, data.sha256[:16], str(data.path.absolute()), "training", profile)

    def _save(self, model: ModelFamily, finished: Finished) -> list[Path]:
        folder = self._folder("model_path")
        # Without its record a model counts as untrained. So no record matches a mixture of old and new files.
        ownership.remove(self._folder("metadata_path") / MODEL_RECORD)
        for pattern in (
            "*.keras",
            "*.h5",
            "*.weights.*",
            "*.inference.*",
        ):  # also files of models with another name or family
            for stale in folder.glob(pattern):
                ownership.remove(stale)
        return [*model.save(folder), *finished.save(folder)]

    def _record(self, fitted: Fitted, files: list[Path], finished: Finished, seconds: float) -> dict[str, Any]:
        """The content of the model's record, without what ``ResumePlan`` adds, and without its hash."""
        data, folder, losses = self.training_set, self._folder("model_path"), fitted.history.loss
        return (
            fitted.model.spec.model_dump()
            | provenance()
            | {
                "component": self.config.paths.component,
                "input": data.path,
                "input_sha256": data.sha256,
                "fingerprint": fingerprint(self.plan.dependencies),
                "n_images": len(data.inputs),
                "epochs_trained": len(losses),
                "final_loss": losses[-1] if losses else None,
                "training_seconds": round(seconds, 1),
                **finished.record,
                "hardware": self.hardware,
                "repeatable": _REPEATABLE,
                "settings": self.config.parameters.model_dump(),
                "files": {path.relative_to(folder).as_posix(): file_hash(path) for path in sorted(files)},
            }
        )
