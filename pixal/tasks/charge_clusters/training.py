"""``pixal train`` for charge clusters."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.config.section import result_settings
from pixal.errors import InputError
from pixal.io import ownership
from pixal.io.files import file_hash
from pixal.io.images import write_figure
from pixal.io.locking import lock_folder
from pixal.io.logs import log_to_file
from pixal.io.output_folders import check_outputs, claim_outputs, remove_unfinished
from pixal.io.provenance import fingerprint, provenance
from pixal.io.records import with_hash, write_record
from pixal.outcome import Outcome
from pixal.tasks.charge_clusters.fitting import StreamFit, StreamFitSettings
from pixal.tasks.charge_clusters.measuring import Centroids
from pixal.tasks.charge_clusters.model_input import ModelInput, read_model_input, record_path
from pixal.tasks.charge_clusters.models import ClusterNetwork, ClusterSpecification, specification
from pixal.tasks.charge_clusters.settings import ClusterConfig
from pixal.tasks.charge_clusters.shards import EventStream
from pixal.tasks.charge_clusters.usual import UsualClusters, quantities_of
from pixal.tracking import MODEL_TAG, EpochLog, start_tracking, tracked_run
from pixal.train_model.checkpoint import Checkpoint
from pixal.train_model.family import checked_options, family_named
from pixal.train_model.history import History
from pixal.train_model.keras_training.schedule import learning_rate
from pixal.train_model.resume import ResumePlan
from pixal.train_model.specification import ModelRecord
from pixal.train_model.stored_model import MODEL_RECORD

_log = logging.getLogger(__name__)


def train(
    source: str | Path | None, config: ClusterConfig, *, resume: bool, epochs: int | None, quiet: bool
) -> Outcome:
    """Train a network on the model input that ``preprocess`` wrote.

    Raises:
        InputError: There is no model input, or ``source`` is given.
        ConfigError: The settings do not fit the network, or training diverges.
        ModelError: The checkpoint belongs to another run, or there is no model to continue.
        Stopped: The run was interrupted; the message says how to continue.
    """
    if source is not None:
        raise InputError("train reads the model input that preprocess wrote; leave out the input")
    if epochs is not None and not (resume and epochs >= 1):
        raise InputError(f"{epochs} epochs: the number of additional epochs must be at least 1, and needs resume")
    model_input = read_model_input(config)
    family: Any = family_named(config.model_training.model)
    checked_options(family, config.model_training)
    start_tracking(config)
    hardware = family.set_up(config.model_training)
    check_outputs(config.paths, "component_model_path", [None], planned=_planned_files(config))
    run = _TrainingRun(config, model_input, family, hardware, resume, epochs, quiet)
    if epochs is not None:
        run.plan.check_more_epochs(family(run.specification))
    with lock_folder(config.paths.resolve("component_model_path")), ExitStack() as stack:
        claim_outputs(config.paths, "component_model_path", [None])
        remove_unfinished(config.paths, "component_model_path", [None])
        stack.enter_context(log_to_file(config.paths.resolve("log_path"), "train"))
        return Outcome(run.run())


def _planned_files(config: ClusterConfig) -> list[Path]:
    folder, start = config.paths.resolve("model_path"), f"{config.model_training.model_name}."
    models = [path for path in folder.iterdir() if path.name.startswith(start)] if folder.is_dir() else []
    return [*models, config.paths.resolve("metadata_path") / MODEL_RECORD]


@dataclass
class _TrainingRun:
    """The training of one network."""

    config: ClusterConfig
    model_input: ModelInput
    family: type[ClusterNetwork]
    hardware: dict[str, Any]
    resume: bool
    epochs: int | None
    quiet: bool

    def run(self) -> int:
        """Fit and store the network; return the number of training events."""
        events = self.model_input.events["train"]
        if self.plan.is_done:
            _log.info("skipped, already trained on the same input with the same settings")
            return events
        settings, network = self.config.model_training, self.family(self.specification)
        trained = network.compiled()
        checkpoint = self.plan.open_checkpoint((1, 1, 1, 1))  # there are no errors of held-out parts
        checkpoint.keeps_last_state = True
        _log.info("training %s, %d weights, on %d events", settings.model, trained.count_params(), events)
        with tracked_run(self.config, self.config.paths.component, "train") as tracker:
            log_epochs = EpochLog(tracker)
            fit = StreamFit(trained, self._stream("train", settings.seed), self._stream("validation"), quiet=self.quiet)
            with checkpoint:
                history = fit.run(
                    self._fit_settings(network),
                    checkpoint,
                    partial(self.plan.save_epoch_weights, network),
                    on_history=log_epochs,
                )
            record, files, figure = self._store(network, history, checkpoint)
            metadata = [record_path(self.config), self.config.paths.resolve("metadata_path") / MODEL_RECORD]
            tracker.set_tags({MODEL_TAG: record.fingerprint, "pixal.model_family": record.model})
            tracker.log_artifacts({"model": files, "figures": [figure], "metadata": metadata})
        text = "trained on %d events in %.0f s; best epoch %d of %d, validation loss %.4f"
        best = history.validation_loss[history.best_epoch - 1]
        _log.info(text, events, record.training_seconds, history.best_epoch, len(history.loss), best)
        return events

    @cached_property
    def specification(self) -> ClusterSpecification:
        """What the network is built from."""
        settings = self.config.model_training
        return specification(
            settings.model_dump() | {"model_options": checked_options(self.family, settings).model_dump()},
            self.model_input.shape,
            slices=self.config.clusters.used_slices,
            normalization=self.model_input.normalization,
            clusters=self.model_input.settings,
            memory_limit=self.config.execution.memory_limit,
        )

    @cached_property
    def plan(self) -> ResumePlan:
        """Where the run starts."""
        dependencies = {
            "input": self.model_input.fingerprint,
            **{f"model_training.{key}": value for key, value in result_settings(self.specification).items()},
            "version of TensorFlow": self.hardware.get("tensorflow"),
        }
        return ResumePlan(self.config, None, dependencies, resume=self.resume, epochs=self.epochs)

    def _fit_settings(self, network: ClusterNetwork) -> StreamFitSettings:
        settings = self.config.model_training
        return StreamFitSettings(
            epochs=settings.n_epochs,
            rate=partial(learning_rate, settings),
            patience=settings.patience,
            min_delta=settings.min_delta,
            warm_up_epochs=min(self.specification.warm_up_epochs, settings.n_epochs // 2),
            set_warm_up=network.loss.is_warm_up.assign,
        )

    def _stream(self, split: Any, seed: int | None = None) -> EventStream:
        return self.model_input.stream(self.config, split, batch_size=self.config.model_training.batchsize, seed=seed)

    def _store(
        self, network: ClusterNetwork, history: History, checkpoint: Checkpoint
    ) -> tuple[ModelRecord, list[Path], Path]:
        """Write the model's files, its figure and its record. The record comes last: without it there is no model."""
        folder, metadata = self.config.paths.resolve("model_path"), self.config.paths.resolve("metadata_path")
        ownership.remove(metadata / MODEL_RECORD)
        for pattern in ("*.keras", "*.h5", "*.weights.*"):  # also files of models with another name or family
            for stale in folder.glob(pattern):
                ownership.remove(stale)
        charge, labels = next(self._stream("validation").raw())
        network.calibrate(charge, labels)
        files = [*network.save(folder), *self._save_references(network, charge, labels, folder)]
        figure = self._draw_loss(network, history)
        content = with_hash(self._record(network, history, files, checkpoint) | self.plan.store_last_state(checkpoint))
        record = ModelRecord.read(content)
        write_record(metadata / MODEL_RECORD, content)
        checkpoint.remove()
        return record, files, figure

    def _save_references(
        self, network: ClusterNetwork, charge: NDArray[np.float32], labels: NDArray[np.float32], folder: Path
    ) -> list[Path]:
        """What validation compares with, from the validation events: usual clusters, and centroids."""
        mean, covariance = network.predict(charge)
        usual = UsualClusters.fit(quantities_of(charge, labels - mean, covariance))
        x, y = self.config.clusters.pitch
        return [usual.save(folder), Centroids.fit(charge, labels, (x, y)).save(folder)]

    def _draw_loss(self, network: ClusterNetwork, history: History) -> Path:
        from pixal.plotting.training import loss_curve

        path = self.config.paths.resolve("figures_path") / "loss.png"
        figure = loss_curve(
            np.array(history.loss),
            np.array(history.validation_loss),
            best_epoch=history.best_epoch,
            loss_name=network.loss_name,
            title=f"{self.config.paths.component}: loss",
        )
        write_figure(path, figure)
        return path

    def _record(
        self, network: ClusterNetwork, history: History, files: list[Path], checkpoint: Checkpoint
    ) -> dict[str, Any]:
        path, folder = record_path(self.config), self.config.paths.resolve("model_path")
        return (
            network.spec.model_dump()
            | provenance()
            | {
                "component": self.config.paths.component,
                "input": path,
                "input_sha256": file_hash(path),
                "input_fingerprint": self.model_input.fingerprint,
                "fingerprint": fingerprint(self.plan.dependencies),
                "n_images": self.model_input.events["train"],
                "training_files": sorted(self.model_input.training_files()),
                "epochs_trained": len(history.loss),
                "best_epoch": history.best_epoch,
                "final_loss": history.loss[-1],
                "validation_loss": history.validation_loss[history.best_epoch - 1],
                "training_seconds": round(checkpoint.seconds, 1),
                "hardware": self.hardware,
                "settings": self.config.parameters.model_dump(),
                "files": {path.relative_to(folder).as_posix(): file_hash(path) for path in sorted(files)},
            }
        )
