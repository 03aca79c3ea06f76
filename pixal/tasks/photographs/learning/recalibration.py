"""Adapt the calibration of a model to confirmed good parts, without a new fit. The result is a candidate."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.calibration.calibration import Calibration, calibrate, calibrate_scores, maps_of_held_out
from pixal.calibration.odd_parts import leave_out_odd_parts
from pixal.calibration.recurrence import places_in, raise_places
from pixal.calibration.thresholds import check_enough, choose_threshold
from pixal.errors import InputError
from pixal.io import ownership
from pixal.io.files import file_hash, read_bytes, write_bytes
from pixal.io.locking import lock_folder
from pixal.io.output_folders import Side, claim_outputs
from pixal.io.provenance import provenance
from pixal.io.records import read_record, with_hash, write_record
from pixal.outcome import WithoutVerdicts
from pixal.tasks.photographs.learning.candidate import candidate_config, model_owners
from pixal.tasks.photographs.learning.model_scores import ModelScores
from pixal.tasks.photographs.learning.past_parts import PastPart, parts_by_batch
from pixal.tasks.photographs.learning.promotion import model_files
from pixal.tasks.photographs.learning.trial import marks_of
from pixal.tasks.photographs.parts import PreparedPart
from pixal.tasks.photographs.preprocessing.conditions import CONDITIONS, Conditions
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.training.stored import (
    StoredThreshold,
    TrainedModel,
    load_trained,
    save_calibrations,
    save_conditions,
)
from pixal.train_model.stored_model import MODEL_RECORD
from pixal.validation.loss_cut import part_losses

_log = logging.getLogger(__name__)

FEWEST = 8
"""Good parts that are needed."""

_MOST = 64  # parts; their errors are in memory together
_SIDE: Side = "component_model_path"


@dataclass
class Recalibration(WithoutVerdicts):
    """What ``recalibrate`` did.

    Attributes:
        lines: What has changed, one sentence each.
        failures: Types that could not be recalibrated, each with the reason.
    """

    lines: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """The sentences."""
        return "\n".join(self.lines)


@dataclass(frozen=True)
class _Adapted:
    """The new calibration of a type.

    Attributes:
        calibration: The calibration.
        conditions: How the confirmed photographs were taken.
        threshold: The new threshold, and how it was chosen.
        change: What changed, for the record.
    """

    calibration: Calibration
    conditions: Conditions
    threshold: StoredThreshold
    change: dict[str, Any]


def recalibrate(
    types: Sequence[str] | None, batch: str | None, config: PhotographConfig, *, quiet: bool = False
) -> Recalibration:
    """See ``pixal.recalibrate``."""
    result = Recalibration()
    owners = model_owners(config, types)
    if not owners:
        raise InputError("there is no model in use; run train first")
    for owner in owners:
        model = load_trained(config, owner)
        label = owner or config.paths.component
        adapted: dict[str, _Adapted] = {}
        problems = []
        for name in model.states:
            try:
                adapted[name] = _adapt(name, model, batch, config)
            except InputError as error:
                problems.append(f"{name}: {error}")
        if not adapted:
            if types or len(owners) == 1:
                raise InputError("; ".join(problems))
            result.failures += problems
            continue
        _write_candidate(owner, model, adapted, config)
        for name, each in adapted.items():
            result.lines += [f"{name}: {sentence}" for sentence in each.change["sentences"]]
        result.lines += [f"{problem}; its calibration stays" for problem in problems]
        result.lines.append(f"{label}: this is a candidate; next: pixal promote{f' {owner}' if owner else ''} --check")
    return result


def _adapt(name: str, model: TrainedModel, batch: str | None, config: PhotographConfig) -> _Adapted:
    """Calibrate a type on its confirmed good parts. Raise ``InputError`` if they are too few."""
    scores = ModelScores(name, model, None, config)
    chosen, marked_high = _good_parts(name, batch, config)
    parts = scores.prepared(chosen[-_MOST:])
    if len(parts) < FEWEST:
        where = f"in batch {batch}" if batch else "confirmed by marks"
        raise InputError(
            f"only {len(parts)} good parts {where}, at least {FEWEST} are needed; confirm more of them in pixal serve, "
            "or name a batch whose parts are all good with --batch"
        )
    validation = config.validation
    check_enough(len(parts), validation.rate_per_photograph, validation.threshold)
    calibration, odd_parts = _calibrate(model, scores, parts, config)
    odd = [parts[position].record.image for position in odd_parts]
    conditions = Conditions.from_records([part.record for part in parts], len(parts))
    threshold, method = choose_threshold(calibration, validation.false_alarm_rate, validation.threshold)
    before = model.calibrations[name]
    old_threshold = scores.cut.threshold
    new_threshold, _ = choose_threshold(calibration, validation.rate_per_photograph, validation.threshold)
    ratio = float(np.median(np.sqrt(calibration.variance / before.variance)[scores.mask]))
    sentences = [
        f"calibrated on {len(calibration.scores)} good parts instead of {len(before.scores)}",
        *_light_sentences(model.conditions[name], conditions),
        f"scale: the errors spread {ratio:.2f} times as much as at training (median over the part)",
        f"threshold: {old_threshold:.4g} before, {new_threshold:.4g} now, for {100 * validation.false_alarm_rate:g} % "
        "false alarms",
    ]
    if odd:
        sentences.append(
            f"far from the other good parts: {', '.join(odd)}; the threshold does not allow for such parts. If good "
            "parts may look so, confirm more of them"
        )
    if marked_high:
        sentences.append(
            f"{marked_high} of the parts are false alarms: unless the parts that passed are confirmed as well, the "
            "threshold is too high"
        )
    change = {
        "parts": [part.record.image for part in parts],
        "odd_parts": odd,
        "batch": batch,
        "threshold_before": old_threshold,
        "threshold": new_threshold,
        "scale": ratio,
        "sentences": sentences,
    }
    stored = StoredThreshold(threshold=threshold, method=method, false_alarm_rate=validation.false_alarm_rate)
    return _Adapted(calibration, conditions, stored, change)


def _good_parts(name: str, batch: str | None, config: PhotographConfig) -> tuple[list[PastPart], int]:
    """The good parts, the oldest first, and how many of them are false alarms where marks chose them."""
    by_batch = parts_by_batch(config, name)
    if batch is not None:
        if batch not in by_batch:
            raise InputError(f"there is no batch {batch} with stored inputs (known: {', '.join(by_batch) or 'none'})")
        defective = {mark.photograph for mark in marks_of(config, name) if mark.is_defective}
        return [part for part in by_batch[batch] if part.sha256 not in defective], 0
    good = {mark.photograph: mark.mark for mark in marks_of(config, name) if mark.is_good}
    parts = {part.sha256: part for parts in by_batch.values() for part in parts if part.sha256 in good}
    return list(parts.values()), sum(good[sha256] == "false alarm" for sha256 in parts)


def _calibrate(
    model: TrainedModel, scores: ModelScores, parts: Sequence[PreparedPart], config: PhotographConfig
) -> tuple[Calibration, NDArray[np.intp]]:
    """Calibrate on parts that the model has not seen. Each score uses the spread of the other parts.

    Returns:
        The calibration without the scores of odd parts, and the positions of these.
    """
    family, record = scores.verdicts.family, model.record
    images = [part.input for part in parts if part.input is not None]
    inputs = scores.preparation.inputs(images, [part.record.image for part in parts])
    errors = np.concatenate([family.error(inputs, slice(row, row + 1)) for row in range(len(inputs))])
    mask, rows = scores.mask, np.arange(len(errors))
    weights = np.array(list(record.error_weights.values()), np.float32)
    smoothing = record.map_smoothing
    if family.is_calibrated:
        made = calibrate_scores(errors, rows, mask=mask, weights=weights, smoothing=smoothing)
    else:
        made = calibrate(
            errors, [rows], mask=mask, weights=weights, smoothing=smoothing, distances=family.gives_distance
        )
    made = replace(made, losses=part_losses(errors, rows, record, mask=mask, weights=weights, smoothing=smoothing))
    gain, maps = model.calibrations[scores.name].gain, []
    if gain is not None:
        lowered = np.minimum(gain, 1)
        maps = [
            values * lowered
            for values in maps_of_held_out(
                errors,
                [rows],
                is_calibrated=family.is_calibrated,
                mask=mask,
                weights=weights,
                smoothing=smoothing,
                distances=family.gives_distance,
            )
        ]
        made = replace(made, gain=lowered, scores=np.array([values.max() for values in maps], np.float64))
    made, odd_parts = leave_out_odd_parts(made, np.zeros(len(rows), bool))
    if gain is not None:
        made = raise_places(
            made, places_in(gain), maps, config.validation.false_alarm_rate, config.validation.threshold
        )
    try:
        made.check((record.shape[0], record.shape[1], len(record.error_weights)))
    except ValueError as error:
        raise InputError(f"the parts cannot be used: {error}") from error
    return made, odd_parts


def _light_sentences(before: Conditions, now: Conditions) -> list[str]:
    """The colours and the sharpness that batches are compared with from now on."""
    sentences = []
    for index, name in enumerate(CONDITIONS[:4]):
        old, new = (
            float(np.nanmedian(each.values[:, index])) if np.isfinite(each.values[:, index]).any() else np.nan
            for each in (before, now)
        )
        if np.isfinite([old, new]).all() and old > 0:
            sentences.append(f"{name} {old:.3g} → {new:.3g} ({100 * (new / old - 1):+.0f} %)")
    return [f"light and focus: {', '.join(sentences)}"] if sentences else []


def _write_candidate(
    owner: str | None, model: TrainedModel, adapted: dict[str, _Adapted], config: PhotographConfig
) -> None:
    """Copy the model in use with the new calibration; its record is written last."""
    target = candidate_config(config).paths
    owners: list[str | None] = [owner] if owner is not None else [None, *model.states]
    with ExitStack() as locks:
        for paths in (config.paths, target):
            locks.enter_context(lock_folder(paths.resolve(_SIDE, owner)))
        claim_outputs(target, _SIDE, owners)
        ownership.remove(target.resolve("metadata_path", owner) / MODEL_RECORD)
        for old in model_files(target, config.paths, owners):
            for path in old.sources:
                ownership.remove(path)
        record_file = config.paths.resolve("metadata_path", owner) / MODEL_RECORD
        for move in model_files(config.paths, target, owners):
            for source, copy in zip((move.source / file.name for file in move.files), move.targets, strict=True):
                if source != record_file and not source.name.startswith("promotion."):
                    write_bytes(copy, read_bytes(source))
        folder = target.resolve("model_path", owner)
        calibrations = {
            name: adapted[name].calibration if name in adapted else model.calibrations[name] for name in model.states
        }
        conditions = [adapted[name].conditions if name in adapted else model.conditions[name] for name in model.states]
        written = [save_calibrations(folder, calibrations), save_conditions(folder, conditions)]
        content = read_record(record_file)
        content["created"] = provenance()["created"]
        content["files"] = content["files"] | {path.relative_to(folder).as_posix(): file_hash(path) for path in written}
        content["calibration"] = content["calibration"] | {
            name: each.threshold.model_dump() for name, each in adapted.items()
        }
        content["recalibrated"] = {
            "from": model.record.record_sha256,
            "types": {name: each.change for name, each in adapted.items()},
        }
        write_record(target.resolve("metadata_path", owner) / MODEL_RECORD, with_hash(content))
    model.check_unchanged()
