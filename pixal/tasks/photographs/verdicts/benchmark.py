"""The benchmark command: train and validate each class of a data set separately, with all results in one table."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from pixal.config.schema import AUTO_MODEL
from pixal.config.section import result_settings
from pixal.errors import InputError, PixalError
from pixal.execution import check_cluster, map_parallel
from pixal.io import ownership
from pixal.io.files import file_hash, file_stat
from pixal.io.names import printable
from pixal.io.output_folders import Side, check_outputs, claim_outputs
from pixal.io.provenance import fingerprint
from pixal.io.records import read_record, write_record
from pixal.outcome import Failure
from pixal.tasks.photographs.comparison.choice import with_chosen_family
from pixal.tasks.photographs.mvtec import find_data_set
from pixal.tasks.photographs.preprocessing.pipeline import preprocess
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.training.train import train
from pixal.tasks.photographs.verdicts.benchmark_results import MASTER_TABLE, MEASURES, ClassResult, MasterResults
from pixal.tasks.photographs.verdicts.group_work import of_one_worker
from pixal.tasks.photographs.verdicts.results import Batch
from pixal.tasks.photographs.verdicts.validate import validate
from pixal.tracking import tracked_run
from pixal.train_model.family import anomaly_family_named, checked_options
from pixal.train_model.stored_model import load_stored
from pixal.train_model.training_processes import TrainingOnWorker

_log = logging.getLogger(__name__)

_RECORD = "benchmark.yaml"
_RESULTS: Side = "component_validate_path"


def benchmark(
    input_path: str | Path,
    *,
    out: str | Path = "benchmark",
    classes: Sequence[str] | None = None,
    config: PhotographConfig,
    force: bool = False,
    quiet: bool = False,
) -> MasterResults:
    """Train and validate each class; see ``pixal.benchmark``."""
    if config.model_training.model != AUTO_MODEL:  # raises before any work starts
        checked_options(anomaly_family_named(config.model_training.model), config.model_training)
    runs = [_ClassRun(folders, config, Path(out)) for folders in _find_classes(Path(input_path), classes)]
    _claim(Path(out), runs)
    done = {} if force else {run.name: result for run in runs if (result := run.stored_result())}
    results = MasterResults(Path(out) / MASTER_TABLE)
    with tracked_run(config, Path(input_path).resolve().name, "benchmark", component="") as tracker:
        missing = [run for run in runs if run.name not in done]
        check_cluster(config.execution, reads=[Path(input_path)], writes=[Path(out)])
        new = _run_all(missing, config, force=force, quiet=quiet)
        for run in runs:
            is_done = run.name in done
            if not is_done:
                done[run.name] = next(new)
            results.write(done.values())
            _log.info("class %s%s: %s", run.name, ", already done" if is_done else "", done[run.name])
        for result in (*results.classes, results.mean):
            for name, value in result.numbers.items():
                tracker.log_metric(f"{result.class_name}/{name}", value)
        tracker.log_artifacts({"results": [results.path]})
    _log.info("%s", results.summary())
    return results


def _run_all(runs: list[_ClassRun], config: PhotographConfig, *, force: bool, quiet: bool) -> Iterator[ClassResult]:
    """Run classes, one after the other or on the workers of a cluster; yield their results in order."""
    if config.execution.backend == "dask":
        work = TrainingOnWorker(partial(_ClassRun.run, force=force, quiet=True))
        of_workers = [run.on_worker() for run in runs]
        yield from map_parallel(work, of_workers, config.execution, step="classes", quiet=quiet)
        return
    for number, run in enumerate(runs, 1):
        _log.info("class %s, %d of %d", run.name, number, len(runs))
        yield run.run(force=force, quiet=quiet)


def _claim(out: Path, runs: Sequence[_ClassRun]) -> None:
    """Check and claim the output folders of all classes, before the first one is trained."""
    for run in runs:
        run.check()
    is_earlier = not ownership.is_claimed(out) and any(run.has_record for run in runs)
    if not is_earlier:
        ownership.refuse_strangers([out / MASTER_TABLE])
    ownership.claim(out, adopted=[out / MASTER_TABLE] if (out / MASTER_TABLE).is_file() else [])
    for run in runs:
        run.claim()


@dataclass(frozen=True)
class _ClassFolders:
    """The folders of one class.

    Attributes:
        name: The name of the class.
        train: The folder with the good photographs to train on.
        test: The folder with the photographs to validate.
        truth: The folder with their truth; None if there is none.
    """

    name: str
    train: Path
    test: Path
    truth: Path | None


class _BenchmarkRecord(BaseModel):
    """The content of ``benchmark.yaml``, which says whether a class is done.

    Attributes:
        key: The fingerprint of the files of the class and of the settings that change a result.
        results_sha256: The SHA-256 of ``results.json``; None if the run is not finished.
        row: The result; None if the run is not finished.
    """

    model_config = ConfigDict(frozen=True)

    key: str
    results_sha256: str | None = None
    row: ClassResult | None = None


class _ClassRun:
    """Preprocesses, trains and validates one class; a record next to its results says whether it is done."""

    def __init__(self, folders: _ClassFolders, config: PhotographConfig, out: Path) -> None:
        self.name, self._folders = folders.name, folders
        self._config = replace(config, paths=config.paths.for_component(folders.name, out))
        self._results_folder = self._config.paths.resolve("component_validate_path")

    @property
    def has_record(self) -> bool:
        """Whether an earlier run has started on this class."""
        return (self._results_folder / _RECORD).is_file()

    def on_worker(self) -> _ClassRun:
        """The same run for a worker of a cluster, which does all of it itself."""
        copied = copy.copy(self)
        copied._config = of_one_worker(self._config)
        return copied

    def check(self) -> None:
        """Raise InputError where the output folders are not separate from the photographs."""
        check_outputs(self._config.paths, "component_model_path", [None], source=self._folders.train)
        check_outputs(self._config.paths, _RESULTS, [None], source=self._folders.test)

    def claim(self) -> None:
        """Claim the folder of the results."""
        claim_outputs(self._config.paths, _RESULTS, [None])

    def stored_result(self) -> ClassResult | None:
        """Return the result of an earlier, finished run with the same input and settings; None if there is none."""
        record = self._read_record()
        results = self._results_folder / "results.json"
        if record is None or record.key != self._key or not results.is_file():
            return None
        return record.row if file_hash(results) == record.results_sha256 else None

    def run(self, *, force: bool, quiet: bool) -> ClassResult:
        """Run all steps; return the result, also of a class that fails."""
        record = self._read_record()
        is_interrupted = not force and record is not None and record.key == self._key
        write_record(self._results_folder / _RECORD, {"key": self._key, "row": None})
        try:
            result = self._run(force=force, resume=is_interrupted, quiet=quiet)
        except Exception as error:  # any error: the other classes must still run
            text = " ".join(str(error).split())
            reason = text if isinstance(error, PixalError) else f"unexpected failure: {type(error).__name__}: {text}"
            _log.debug("class %s failed", self.name, exc_info=True)
            model = self._config.model_training.model
            return ClassResult(class_name=self.name, model=model, status="failed", reason=reason)
        sha256 = file_hash(self._results_folder / "results.json")
        content = {"key": self._key, "results_sha256": sha256, "row": result.as_row()}
        write_record(self._results_folder / _RECORD, content)
        return result

    def _run(self, *, force: bool, resume: bool, quiet: bool) -> ClassResult:
        folders, config = self._folders, self._config
        prepared = preprocess(folders.train, config=config, force=force, quiet=quiet)
        train(None, with_chosen_family(None, config, resume=resume, quiet=quiet), resume=resume, quiet=quiet)
        batch = validate(folders.test, truth=folders.truth, config=config, force=force, quiet=quiet)
        if len(batch.failures) == len(batch.parts):
            raise InputError(f"none of {len(batch.parts)} photographs could be validated: {batch.failures[0]}")
        return self._class_result(batch, [*prepared.failures, *batch.failures])

    def _class_result(self, batch: Batch, failures: Sequence[Failure]) -> ClassResult:
        one_hot = self._config.model_training.one_hot_encoding
        owners = [None] if one_hot else sorted({part.type for part in batch.parts})
        models = [load_stored(self._config, owner).record for owner in owners]
        measures = {} if batch.metrics is None else batch.metrics.overall
        count = len(failures)
        columns = {
            "class": self.name,
            "model": models[0].model,
            "images_trained": sum(model.n_images for model in models),
            "parts": len(batch.parts),
            **{name: measures.get(name) for name in MEASURES},
            "training_seconds": sum(model.training_seconds for model in models),
            "seconds_a_part": batch.seconds_per_part,
            "status": "incomplete" if failures else "ok",
            "reason": f"{count} photograph{'s' * (count > 1)} not processed: {failures[0]}" if failures else "",
        }
        return ClassResult.model_validate(columns)

    def _read_record(self) -> _BenchmarkRecord | None:
        """Return the record of an earlier run; None if there is none, or another version wrote it."""
        try:
            return _BenchmarkRecord.model_validate(read_record(self._results_folder / _RECORD))
        except (InputError, ValidationError):
            return None

    @cached_property
    def _key(self) -> str:
        """The fingerprint of the files of the class and of the settings that change a result."""
        folders = self._folders
        roots = sorted({str(path.absolute()) for path in (folders.train, folders.test, folders.truth) if path})
        files = [path for root in roots for path in sorted(Path(root).rglob("*")) if path.is_file()]
        settings = result_settings(self._config.parameters)
        return fingerprint("benchmark", settings, [(path, file_stat(path)) for path in files])


def _find_classes(root: Path, wanted: Sequence[str] | None) -> list[_ClassFolders]:
    """Return the classes below ``root`` in the order of their names; only those in ``wanted``, if given.

    Raises:
        InputError: There is no class, or not the one that is wanted.
    """
    if not root.is_dir():
        raise InputError(f"{root} does not exist; name a folder with one folder per class, such as that of MVTec AD")
    if find_data_set(root):
        raise InputError(f"{root} is a class itself; name the folder above it, with --classes {root.resolve().name}")
    named = {printable(path.name): path for path in _folders(root) if find_data_set(path)}
    classes = {name: _ClassFolders(name, path, path, path) for name, path in named.items()}
    for path in _folders(root / "train") if (root / "production").is_dir() else ():
        truths = (root / "truth" / path.name, root / "truth")
        truth = next((folder for folder in truths if folder.is_dir()), None)
        name = printable(path.name)
        classes.setdefault(name, _ClassFolders(name, path, root / "production" / path.name, truth))
    if not classes:
        raise InputError(
            f"{root} holds no class: a folder with train/good and test/good (MVTec AD) or test_public/good (MVTec AD 2)"
        )
    if unknown := [name for name in wanted or () if name not in classes]:
        raise InputError(f"{root} holds no class {unknown[0]}; its classes are {', '.join(sorted(classes))}")
    return [classes[name] for name in sorted(classes) if wanted is None or name in wanted]


def _folders(root: Path) -> list[Path]:
    entries = root.iterdir() if root.is_dir() else ()
    return [path for path in entries if path.is_dir() and not path.name.startswith(".")]
