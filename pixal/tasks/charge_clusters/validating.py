"""``pixal validate`` for charge clusters: predict, compare with the truth, write results."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.io.files import file_hash, write_bytes
from pixal.io.locking import lock_folder
from pixal.io.logs import log_to_file
from pixal.io.output_folders import check_outputs, claim_outputs, remove_unfinished
from pixal.outcome import Failure
from pixal.progress import progress_bar
from pixal.tasks.charge_clusters.drawing import Displayed, draw, write_page
from pixal.tasks.charge_clusters.files import find_files
from pixal.tasks.charge_clusters.measuring import Centroids, Kept, bound_of, measure_all
from pixal.tasks.charge_clusters.model_input import read_model_input
from pixal.tasks.charge_clusters.models import ClusterNetwork
from pixal.tasks.charge_clusters.prediction import predict
from pixal.tasks.charge_clusters.reading import EventReader, Events, add_noise
from pixal.tasks.charge_clusters.results import METRICS_FILE, REPORT_FILE, RESULTS_FILE, ClusterResults, ResultsWriter
from pixal.tasks.charge_clusters.settings import ClusterConfig, Clusters
from pixal.tasks.charge_clusters.simulation import Sensor
from pixal.tasks.charge_clusters.splitting import SPLITS, split_of
from pixal.tasks.charge_clusters.usual import UsualClusters
from pixal.tracking import tracked_run
from pixal.train_model.stored_model import StoredModel, load_stored

_log = logging.getLogger(__name__)

_TEST = SPLITS.index("test")


def validate(
    source: str | Path | None, config: ClusterConfig, *, quiet: bool, sensor: Sensor | None = None
) -> ClusterResults:
    """Predict the events of ``source``, or without one the test events of the model input, and write the results.

    Of a file that training events came from, only the test events are used.

    Args:
        source: A folder of parquet files, a file, or None.
        config: The settings.
        quiet: Whether progress bars are hidden.
        sensor: The simulated sensor that the events are from, if it is known; the measures then have the Cramér-Rao
            bound.

    Raises:
        InputError: No event can be used, or the model input is not the one that the network was trained on.
        ModelError: There is no trained network.
    """
    stored = load_stored(config, None)
    network: Any = stored.load_model()
    usual = UsualClusters.load(stored.folder)
    events = _test_events(config, stored) if source is None else _FileEvents(Path(source), network, stored)
    folder = config.paths.resolve("component_validate_path")
    planned = [folder / name for name in (RESULTS_FILE, METRICS_FILE, REPORT_FILE)]
    check_outputs(config.paths, "component_validate_path", [None], source=source, planned=planned)
    with lock_folder(folder), ExitStack() as stack:
        claim_outputs(config.paths, "component_validate_path", [None])
        remove_unfinished(config.paths, "component_validate_path", [None])
        stack.enter_context(log_to_file(config.paths.resolve("validate_log_path"), "validate"))
        tracker = stack.enter_context(tracked_run(config, config.paths.component, "validate"))
        kept, displayed = Kept(Centroids.load(stored.folder)), Displayed(config.validation.displays)
        with ResultsWriter(folder / RESULTS_FILE, config.validation.unusual_rate) as writer:
            bar = progress_bar(total=None, title="predicting", unit="event", quiet=quiet)
            for part in predict(network, usual, iter(events)):
                writer.add(part)
                kept.add(part)
                displayed.add(part)
                bar.update(len(part.events))
            bar.close()
            if not writer.events:
                first = f"; the first: {events.failures[0]}" if events.failures else ""
                raise InputError(f"{source}: there is no event to validate{first}")
        arrays = kept.arrays()
        metrics = {"events": writer.events, "unusual": writer.unusual, **measure_all(arrays, network.interval_factors)}
        if sensor is not None:
            metrics["bound"] = bound_of(arrays, sensor, network.spec.clusters)
        write_bytes(folder / METRICS_FILE, (json.dumps(metrics, indent=1, allow_nan=False) + "\n").encode())
        for name, values in metrics["network"]["targets"].items():
            for measure, value in values.items():
                if isinstance(value, dict):
                    tracker.log_metric(f"{name}/{measure}", value["value"])
        shown = _draw(config, network, stored, metrics, arrays, displayed)
        tracker.log_artifacts({"results": planned, "figures": shown})
    results = ClusterResults(
        folder=folder, events=writer.events, unusual=writer.unusual, failures=events.failures, metrics=metrics
    )
    _log.info("%s", results.summary())
    return results


def _draw(
    config: ClusterConfig,
    network: Any,
    stored: StoredModel,
    metrics: dict[str, Any],
    arrays: dict[str, NDArray[Any]],
    displayed: Displayed,
) -> list[Path]:
    """Write the figures and the page; return the figures of all events."""
    settings = Clusters.model_validate(network.spec.clusters)
    component, record = config.paths.component, stored.record
    x, y = settings.pitch
    drawn = draw(
        config.paths.resolve("validate_figures_path"),
        arrays,
        displayed,
        component=component,
        pitch=(x, y),
        slices=settings.used_slices,
        unusual_rate=config.validation.unusual_rate,
    )
    about = {
        "model": record.model,
        "weights": network.model.count_params(),
        "trained": record.created,
        "training events": record.n_images,
        "slices": ", ".join(map(str, settings.used_slices)),
    }
    path = config.paths.resolve("component_validate_path") / REPORT_FILE
    write_page(path, component, metrics, drawn, notes=[], about=about)
    return [figure.path for figure in drawn[0]]


@dataclass
class _TestEvents:
    """The test events of the model input, in its order."""

    config: ClusterConfig
    failures: list[Failure] = field(default_factory=list)

    def __iter__(self) -> Iterator[tuple[str, Events]]:
        row = 0
        for charge, labels in read_model_input(self.config).stream(self.config, "test", batch_size=1).raw():
            yield "test events", Events(np.arange(row, row + len(labels)), charge, labels)
            row += len(labels)


def _test_events(config: ClusterConfig, stored: StoredModel) -> _TestEvents:
    """The test events. Raise ``InputError``, before any work, if they are missing or of another model input."""
    trained = getattr(stored.record, "input_fingerprint", None)  # models of older versions have none
    if trained not in (None, read_model_input(config).fingerprint):
        raise InputError(
            f"preprocess has made another model input of {config.paths.component} since the training; run train, or "
            "name files with -i"
        )
    return _TestEvents(config)


class _FileEvents:
    """The events of files, prepared as for training; of files that were trained on, the test events alone."""

    def __init__(self, source: Path, network: ClusterNetwork, stored: StoredModel) -> None:
        self._settings = Clusters.model_validate(network.spec.clusters)
        self._seed = network.spec.seed
        self._trained = frozenset(getattr(stored.record, "training_files", ()))
        self._files, self.failures = find_files(source, self._settings)

    def __iter__(self) -> Iterator[tuple[str, Events]]:
        settings = self._settings
        for file in self._files:
            was_trained = file_hash(file.path) in self._trained
            if was_trained:
                _log.info("%s: training has seen this file; only its test events are used", file.path.name)
            reader = EventReader(file, settings)
            for events in reader:
                noisy = add_noise(events, settings.noise, self._seed)
                if was_trained:
                    splits = split_of(
                        events, seed=self._seed, validation=settings.validation_fraction, test=settings.test_fraction
                    )
                    noisy = noisy.select(splits == _TEST)
                if len(noisy):
                    yield file.path.name, noisy
            self.failures += reader.failures
