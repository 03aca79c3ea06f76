"""``pixal preprocess`` for charge clusters: from parquet files to shards of training, validation and test events."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pixal.config.section import result_settings
from pixal.errors import InputError
from pixal.io import ownership
from pixal.io.files import file_hash
from pixal.io.locking import lock_folder
from pixal.io.logs import log_to_file
from pixal.io.output_folders import check_outputs, claim_outputs, remove_unfinished
from pixal.io.provenance import fingerprint, provenance
from pixal.outcome import Failure, Outcome
from pixal.progress import progress_bar
from pixal.tasks.charge_clusters.files import ClusterFile, find_files
from pixal.tasks.charge_clusters.model_input import (
    SHARDS,
    ModelInput,
    read_model_input,
    record_path,
    write_model_input,
)
from pixal.tasks.charge_clusters.normalization import NormalizationFit
from pixal.tasks.charge_clusters.reading import EventReader, add_noise
from pixal.tasks.charge_clusters.settings import ClusterConfig
from pixal.tasks.charge_clusters.shards import ShardWriter
from pixal.tasks.charge_clusters.splitting import SPLITS, split_of

_log = logging.getLogger(__name__)


def preprocess(source: str | Path, config: ClusterConfig, *, force: bool, quiet: bool) -> Outcome:
    """Read the files of ``source``, split their events, fit the normalisation on the training events, write shards.

    The work is skipped if the model input of the same files with the same settings exists, unless ``force``.

    Raises:
        InputError: No file can be read, or a split would be empty.
    """
    files, failures = find_files(source, config.clusters)
    paths = sorted({path for file in files for path in (file.path, file.labels) if path})
    planned = [record_path(config)]
    check_outputs(config.paths, "component_model_path", [None], source=source, files=paths, planned=planned)
    root = config.paths.resolve("component_model_path")
    with lock_folder(root), ExitStack() as stack:
        claim_outputs(config.paths, "component_model_path", [None])
        remove_unfinished(config.paths, "component_model_path", [None])
        stack.enter_context(log_to_file(config.paths.resolve("log_path"), "preprocess"))
        hashes = [file_hash(file.path) for file in files]
        label_hashes = [file_hash(file.labels) for file in files if file.labels]
        depends_on = [hashes, label_hashes, result_settings(config.clusters)]
        digest = fingerprint(*depends_on, config.model_training.seed)
        done = None if force else _finished(config, digest)
        if done is not None:
            _log.info("skipped: the model input of the same files with the same settings exists")
            return Outcome(sum(done.events.values()), failures)
        _remove_old(config)
        model_input, left_out = _write(files, hashes, config, digest, quiet)
    _log.info("%s", _summary(model_input))
    return Outcome(sum(model_input.events.values()), [*failures, *left_out])


def _finished(config: ClusterConfig, digest: str) -> ModelInput | None:
    """The stored model input, if it is complete and has this fingerprint."""
    try:
        stored = read_model_input(config)
    except InputError:
        return None
    folder = config.paths.resolve("component_model_path") / SHARDS
    shards = [shard for split in stored.shards.values() for shard in split]
    is_complete = all((folder / shard.file).is_file() for shard in shards)
    return stored if stored.fingerprint == digest and is_complete else None


def _remove_old(config: ClusterConfig) -> None:
    """Remove an earlier model input; its record first, so that none names shards of another input."""
    ownership.remove(record_path(config))
    ownership.remove_tree(config.paths.resolve("component_model_path") / SHARDS)


def _write(
    files: Sequence[ClusterFile], hashes: Sequence[str], config: ClusterConfig, digest: str, quiet: bool
) -> tuple[ModelInput, list[Failure]]:
    """Write the shards and their record. Return what was written, and what was left out."""
    settings, seed = config.clusters, config.model_training.seed
    fit, failures, used = NormalizationFit(settings), [], []
    with _writers(config) as writers, _progress(files, quiet) as bar:
        for file in files:
            reader, before = EventReader(file, settings), sum(writer.events for writer in writers)
            for events in reader:
                splits = split_of(
                    events, seed=seed, validation=settings.validation_fraction, test=settings.test_fraction
                )
                noisy = add_noise(events, settings.noise, seed)
                fit.add(noisy.select(splits == 0))
                for index, writer in enumerate(writers):
                    writer.add(noisy.select(splits == index))
                bar.update(len(events))
            failures += reader.failures
            used.append(sum(writer.events for writer in writers) - before)
    folder = config.paths.resolve("component_model_path") / SHARDS
    for name, writer in zip(SPLITS, writers, strict=True):
        if not writer.events:
            first = f"; {failures[0]}" if failures else "; give more events, or a larger share"
            raise InputError(f"no event is in the split {name}, of {sum(used)} events{first}")
    content: dict[str, Any] = {
        **provenance(),
        "fingerprint": digest,
        "seed": seed,
        "settings": settings.model_dump(mode="json"),
        "shape": settings.shape,
        "normalization": fit.result().model_dump(),
        "events": {name: writer.events for name, writer in zip(SPLITS, writers, strict=True)},
        "files": [
            {"file": file.path.name, "sha256": sha256, "events": events}
            for file, sha256, events in zip(files, hashes, used, strict=True)
        ],
        "shards": {
            name: [shard | {"sha256": file_hash(folder / shard["file"])} for shard in writer.shards]
            for name, writer in zip(SPLITS, writers, strict=True)
        },
    }
    return write_model_input(config, content), failures


@contextmanager
def _writers(config: ClusterConfig) -> Iterator[list[ShardWriter]]:
    """The writers of the three splits."""
    folder = config.paths.resolve("component_model_path") / SHARDS
    with ExitStack() as stack:
        yield [stack.enter_context(ShardWriter(folder, name, config.clusters.shape)) for name in SPLITS]


def _progress(files: Sequence[ClusterFile], quiet: bool) -> Any:
    total = sum(file.rows for file in files)
    return progress_bar(total=total, title="reading", unit="event", quiet=quiet)


def _summary(model_input: ModelInput) -> str:
    events = model_input.events
    rows, columns, slices = model_input.shape
    return (
        f"{sum(events.values())} events of {rows} x {columns} pixels and {slices} slices: {events['train']} to train, "
        f"{events['validation']} to validate, {events['test']} to test"
    )
