"""The validate and detect commands: from photographs, or from inputs made of them, to verdicts."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from pixal import mlflow_utils
from pixal.errors import InputError
from pixal.execution import in_background, progress
from pixal.io.records import read_record
from pixal.tasks.photographs.discovery import list_photographs
from pixal.tasks.photographs.preprocessing.folders import PREPROCESSING_RECORD
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.verdicts.detect_type import TypeRejudging
from pixal.tasks.photographs.verdicts.models import Models
from pixal.tasks.photographs.verdicts.reporting import clear, say, track, write_up, writing
from pixal.tasks.photographs.verdicts.results import Batch
from pixal.tasks.photographs.verdicts.truth import Truth, read_truth
from pixal.tasks.photographs.verdicts.validate_type import TypeJudging

_log = logging.getLogger(__name__)


def validate(
    input_path: str | Path,
    *,
    truth: str | Path | None = None,
    model: str | None = None,
    config: PhotographConfig,
    force: bool = False,
    quiet: bool = False,
) -> Batch:
    """See ``pixal.validate``."""
    models = Models(config, model)
    photographs = models.sort(list_photographs(input_path, test=True), quiet=quiet)
    for name in photographs:
        models.check(name)
    for name in photographs:
        models.of(name)
    truths = _truths(truth, list(photographs))  # a truth that cannot be used is known before the work, not after
    types = {name: TypeJudging(name, models.of(name), truths.get(name), config) for name in photographs}
    judged_now, seconds = 0, 0.0
    with writing(config) as tracker:
        clear(config, keep=set(types))
        with in_background() as later:  # draws the figures
            for name, judging in types.items():
                photos = photographs[name]
                judging.take_up(photos, force=force)
                missing = judging.missing(photos)
                if len(missing) < len(photos):
                    _log.info("%s: %d of %d parts were judged before", name, len(photos) - len(missing), len(photos))
                start = time.perf_counter()
                judged = progress(judging.judge(missing), len(missing), step=f"{name}: verdicts", quiet=quiet)
                for number, _ in enumerate(judged):
                    if number == 0:  # now that TensorFlow is imported: two imports at a time can be in each other's way
                        later(mlflow_utils.import_mlflow)
                judged_now, seconds = judged_now + len(missing), seconds + time.perf_counter() - start
                judging.gather()
                judging.count()
                judging.finish()
                later(judging.draw)
            verdicts = [judging.verdicts for judging in types.values()]
            batch, written = write_up(verdicts, config, with_truth=truth is not None)
            batch.seconds_a_part = seconds / judged_now if judged_now else None
        track(tracker, verdicts, batch, written, config)
    say(batch)
    return batch


def detect(
    input_path: str | Path | None = None,
    *,
    truth: str | Path | None = None,
    config: PhotographConfig,
    quiet: bool = False,
) -> Batch:
    """See ``pixal.detect``."""
    root = config.paths.resolve("component_validate_path")
    ready = sorted(path.parent.parent.name for path in root.glob(f"*/metadata/{PREPROCESSING_RECORD}"))
    if input_path is not None and Path(input_path).resolve() != root.resolve():
        name = Path(input_path).resolve().name
        if Path(input_path).resolve().parent != root.resolve() or name not in ready:
            raise InputError(
                f"{input_path} holds nothing that validate prepared; name {root}, or a type's folder in it"
            )
        ready = [name]
    if not ready:
        raise InputError(f"{root} holds nothing that validate prepared; run validate first")
    named = {name: _judged_by(name, config) for name in ready}
    models = {one: Models(config, one) for one in dict.fromkeys(named.values())}
    truths = _truths(truth, ready)
    types = [TypeRejudging(name, models[one].of(name), truths.get(name), config) for name, one in named.items()]
    with writing(config) as tracker:
        with in_background() as later:
            for judging in types:
                step = f"{judging.name}: verdicts"
                for _ in progress(judging.judge(), len(judging.records), step=step, quiet=quiet):
                    pass
                later(judging.verdicts.draw_summary)
            verdicts = [judging.verdicts for judging in types]
            batch, written = write_up(verdicts, config, with_truth=truth is not None)
        track(tracker, verdicts, batch, written, config)
    say(batch)
    return batch


def _truths(path: str | Path | None, types: list[str]) -> dict[str, Truth]:
    return {} if path is None else read_truth(Path(path), types)


def _judged_by(name: str, config: PhotographConfig) -> str | None:
    """The model that ``validate --model`` prepared a type's inputs for; None: its own."""
    record = read_record(config.paths.resolve("validate_metadata_path", name) / PREPROCESSING_RECORD)
    return record.get("judged_by")
