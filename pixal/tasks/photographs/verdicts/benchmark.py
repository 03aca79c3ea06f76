"""The benchmark command: each class of a data set trained and validated by itself, all in one table."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from pixal import mlflow_utils
from pixal.errors import InputError, PixalError
from pixal.io.files import file_hash
from pixal.io.provenance import fingerprint
from pixal.io.records import read_record, write_record, write_table
from pixal.outcome import Failure
from pixal.tasks.photographs.mvtec import find_data_set
from pixal.tasks.photographs.preprocessing.pipeline import preprocess
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.training.train import train
from pixal.tasks.photographs.verdicts.preparation import file_stat
from pixal.tasks.photographs.verdicts.results import Batch
from pixal.tasks.photographs.verdicts.validate import validate
from pixal.train_model.family import family_named, options_of
from pixal.train_model.stored_model import MODEL_RECORD

_log = logging.getLogger(__name__)

MASTER_TABLE = "master_results.csv"
MEASURES = (
    *("image_auroc", "image_ap", "f1_max", "false_alarm_rate", "detection_rate"),
    *("pixel_auroc", "pixel_ap", "aupro", "aupimo"),
)
_NUMBERS = ("images_trained", "parts", *MEASURES, "training_seconds", "seconds_a_part")
MASTER_COLUMNS = ("class", "model", *_NUMBERS, "status", "reason")
_RECORD = "benchmark.yaml"


@dataclass
class MasterResults:
    """The table of a benchmark: ``path``, and ``rows``, a dict a class with the table's columns; None: not known."""

    path: Path
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def mean(self) -> dict[str, Any]:
        """The table's last row: the mean of each number over the classes that have it."""
        row: dict[str, Any] = {"class": "mean", "model": self.rows[0]["model"], "status": "ok", "reason": ""}
        for column in _NUMBERS:
            known = [one[column] for one in self.rows if one[column] is not None]
            row[column] = sum(known) / len(known) if known else None
        if failed := sum(one["status"] == "failed" for one in self.rows):
            row |= {"status": "incomplete", "reason": f"without {failed} of {len(self.rows)} classes, which failed"}
        return row

    @property
    def failures(self) -> list[str]:
        """The classes that failed, or some of whose photographs did, with the reason."""
        return [f"{row['class']}: {row['reason']}" for row in self.rows if row["status"] != "ok"]

    @property
    def all_failed(self) -> bool:
        """Whether no class has a result."""
        return all(row["status"] == "failed" for row in self.rows)

    @property
    def failed(self) -> int:
        """See ``Results``."""
        return 0

    def summary(self) -> str:
        """The mean over the classes, and where the table is."""
        return f"mean of {len(self.rows)} classes: {_told(self.mean)}; table: {self.path}"

    def write(self, rows: Iterable[dict[str, Any]]) -> None:
        """Make the table that of ``rows``, in the order of their classes."""
        self.rows = sorted(rows, key=lambda row: str(row["class"]))
        write_table(self.path, MASTER_COLUMNS, [*self.rows, self.mean])


def benchmark(
    input_path: str | Path,
    *,
    out: str | Path = "benchmark",
    classes: Sequence[str] | None = None,
    config: PhotographConfig,
    force: bool = False,
    quiet: bool = False,
) -> MasterResults:
    """See ``pixal.benchmark``."""
    options_of(family_named(config.model_training.model), config.model_training)  # amiss: known before there is work
    runs = [_Run(one, config, Path(out)) for one in _find_classes(Path(input_path), classes)]
    done = {} if force else {run.name: row for run in runs if (row := run.finished())}
    results = MasterResults(Path(out) / MASTER_TABLE)
    with mlflow_utils.tracked_run(config, Path(input_path).resolve().name, "benchmark") as tracker:
        for number, run in enumerate(runs, 1):
            before = run.name in done
            if not before:
                _log.info("class %s, %d of %d", run.name, number, len(runs))
                done[run.name] = run.run(force=force, quiet=quiet)
            results.write(done.values())
            _log.info("class %s%s: %s", run.name, ", finished before" if before else "", _told(done[run.name]))
        for row in (*results.rows, results.mean):
            for column in _NUMBERS:
                if row[column] is not None:
                    tracker.log_metric(f"{row['class']}/{column}", row[column])
        tracker.log_params(config.parameters.model_dump())
        tracker.log_artifacts({"results": [results.path]})
    _log.info("%s", results.summary())
    return results


@dataclass(frozen=True)
class _Class:
    """A class's good photographs to train on, those to validate, and what is known of these."""

    name: str
    train: Path
    test: Path
    truth: Path | None


class _Run:
    """One class from photographs to a row of the table; a record of it beside its results."""

    def __init__(self, one: _Class, config: PhotographConfig, out: Path) -> None:
        self.name, self._class = one.name, one
        self._config = replace(config, paths=config.paths.for_component(one.name, out))
        self._folder = self._config.paths.resolve("component_validate_path")
        self._model = config.model_training.model

    def finished(self) -> dict[str, Any] | None:
        """The row of an earlier run, where that has finished, of the same input with the same settings."""
        record = self._record()
        results = self._folder / "results.json"
        if record.get("key") != self._key or record.get("row") is None or not results.is_file():
            return None
        return dict(record["row"]) if file_hash(results) == record["results_sha256"] else None

    def run(self, *, force: bool, quiet: bool) -> dict[str, Any]:
        """Do all there is to do; returns the row, also of what fails."""
        begun = not force and self._record().get("key") == self._key
        write_record(self._folder / _RECORD, {"key": self._key, "row": None})
        try:
            row = self._run(force=force, resume=begun, quiet=quiet)
        except Exception as error:  # whatever it is, the other classes are to have their turn
            text = " ".join(str(error).split())
            reason = text if isinstance(error, PixalError) else f"unexpected failure: {type(error).__name__}: {text}"
            _log.debug("class %s failed", self.name, exc_info=True)
            return self._row(status="failed", reason=reason)
        found = file_hash(self._folder / "results.json")
        write_record(self._folder / _RECORD, {"key": self._key, "results_sha256": found, "row": row})
        return row

    def _run(self, *, force: bool, resume: bool, quiet: bool) -> dict[str, Any]:
        one, config = self._class, self._config
        prepared = preprocess(one.train, config=config, force=force, quiet=quiet)
        train(None, config, resume=resume, quiet=quiet)
        batch = validate(one.test, truth=one.truth, config=config, force=force, quiet=quiet)
        if len(batch.failures) == len(batch.parts):
            raise InputError(f"none of {len(batch.parts)} photographs could be validated: {batch.failures[0]}")
        return self._row(**self._numbers(batch), **_status([*prepared.failures, *batch.failures]))

    def _numbers(self, batch: Batch) -> dict[str, Any]:
        one_hot = self._config.model_training.one_hot_encoding
        owners = [None] if one_hot else sorted({part["type"] for part in batch.parts})
        folders = [self._config.paths.resolve("metadata_path", owner) for owner in owners]
        trained = [read_record(folder / MODEL_RECORD) for folder in folders]
        measures = (batch.metrics or {}).get("overall") or {}
        return {
            "images_trained": sum(record["n_images"] for record in trained),
            "parts": len(batch.parts),
            **{name: measures.get(name) for name in MEASURES},
            "training_seconds": sum(record["training_seconds"] for record in trained),
            "seconds_a_part": batch.seconds_a_part,
        }

    def _row(self, **known: Any) -> dict[str, Any]:
        return {"class": self.name, "model": self._model} | {name: known.get(name) for name in MASTER_COLUMNS[2:]}

    def _record(self) -> dict[str, Any]:
        try:
            return read_record(self._folder / _RECORD)
        except InputError:  # none yet
            return {}

    @cached_property
    def _key(self) -> str:
        """The fingerprint of the class's files and of the settings; how the work is shared out changes no result."""
        one = self._class
        roots = sorted({str(path.absolute()) for path in (one.train, one.test, one.truth) if path is not None})
        files = [path for root in roots for path in sorted(Path(root).rglob("*")) if path.is_file()]
        settings = self._config.parameters.model_dump(exclude={"execution"})
        return fingerprint("benchmark", settings, [(path, file_stat(path)) for path in files])


def _find_classes(root: Path, wanted: Sequence[str] | None) -> list[_Class]:
    """The classes below ``root`` in the order of their names; only those ``wanted``."""
    if not root.is_dir():
        raise InputError(f"{root} does not exist; name a folder of one folder a class, as that of MVTec AD")
    if find_data_set(root):
        raise InputError(f"{root} is a class itself; name the folder above it, with --classes {root.resolve().name}")
    found = {path.name: _Class(path.name, path, path, path) for path in _folders(root) if find_data_set(path)}
    for path in _folders(root / "train") if (root / "production").is_dir() else ():
        truths = (root / "truth" / path.name, root / "truth")
        truth = next((folder for folder in truths if folder.is_dir()), None)
        found.setdefault(path.name, _Class(path.name, path, root / "production" / path.name, truth))
    if not found:
        raise InputError(
            f"{root} holds no class: a folder with train/good and test/good (MVTec AD) or test_public/good (MVTec AD 2)"
        )
    if unknown := [name for name in wanted or () if name not in found]:
        raise InputError(f"{root} holds no class {unknown[0]}; its classes are {', '.join(sorted(found))}")
    return [found[name] for name in sorted(found) if wanted is None or name in wanted]


def _folders(root: Path) -> list[Path]:
    found = root.iterdir() if root.is_dir() else ()
    return [path for path in found if path.is_dir() and not path.name.startswith(".")]


def _status(failures: Sequence[Failure]) -> dict[str, str]:
    if not failures:
        return {"status": "ok", "reason": ""}
    count = len(failures)
    return {"status": "incomplete", "reason": f"{count} photograph{'s' * (count > 1)} not processed: {failures[0]}"}


def _told(row: Mapping[str, Any]) -> str:
    """A row's outcome in a line."""
    shown = [f"{name} {row[name]:.3f}" for name in ("image_auroc", "detection_rate", "aupro") if row[name] is not None]
    return ", ".join([*shown, *([str(row["reason"])] if row["reason"] else [])]) or "no measures"
