"""``pixal detect`` for charge clusters: predict events whose truth is not known."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from pixal.errors import InputError
from pixal.io.locking import lock_folder
from pixal.io.logs import log_to_file
from pixal.io.output_folders import check_outputs, claim_outputs, remove_unfinished
from pixal.progress import progress_bar
from pixal.tasks.charge_clusters.files import ClusterFile, find_files
from pixal.tasks.charge_clusters.prediction import predict
from pixal.tasks.charge_clusters.reading import EventReader, Events
from pixal.tasks.charge_clusters.results import PREDICTIONS_FILE, ClusterPredictions, ResultsWriter
from pixal.tasks.charge_clusters.settings import ClusterConfig, Clusters
from pixal.tasks.charge_clusters.usual import UsualClusters
from pixal.train_model.stored_model import load_stored

_log = logging.getLogger(__name__)


def detect(source: str | Path, config: ClusterConfig, *, quiet: bool) -> ClusterPredictions:
    """Predict all events of ``source``, and write ``predictions.parquet``. Labels are not read, and no noise is added.

    Args:
        source: A folder of parquet files, or a file.
        config: The settings.
        quiet: Whether progress bars are hidden.

    Raises:
        InputError: No event can be used.
        ModelError: There is no trained network.
    """
    stored = load_stored(config, None)
    network: Any = stored.load_model()
    settings = Clusters.model_validate(network.spec.clusters)
    files, failures = find_files(source, settings, labelled=False)
    folder = config.paths.resolve("component_validate_path")
    planned = [folder / PREDICTIONS_FILE]
    paths = [file.path for file in files]
    check_outputs(config.paths, "component_validate_path", [None], source=source, files=paths, planned=planned)
    with lock_folder(folder), ExitStack() as stack:
        claim_outputs(config.paths, "component_validate_path", [None])
        remove_unfinished(config.paths, "component_validate_path", [None])
        stack.enter_context(log_to_file(config.paths.resolve("validate_log_path"), "detect"))
        usual, total = UsualClusters.load(stored.folder), sum(file.rows for file in files)
        bar = stack.enter_context(progress_bar(total=total, title="predicting", unit="event", quiet=quiet))
        readers = [(file, EventReader(file, settings)) for file in files]
        with ResultsWriter(folder / PREDICTIONS_FILE, config.validation.unusual_rate) as writer:
            for part in predict(network, usual, _events(readers), labelled=False):
                writer.add(part)
                bar.update(len(part.events))
            failures += [failure for _, reader in readers for failure in reader.failures]
            if not writer.events:
                raise InputError(f"{source}: there is no event to predict; the first: {failures[0]}")
    results = ClusterPredictions(folder=folder, events=writer.events, unusual=writer.unusual, failures=failures)
    _log.info("%s", results.summary())
    return results


def _events(readers: list[tuple[ClusterFile, EventReader]]) -> Iterator[tuple[str, Events]]:
    for file, reader in readers:
        for events in reader:
            yield file.path.name, events
