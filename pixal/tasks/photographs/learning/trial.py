"""Compare a candidate with the model in use: on marked parts, on the last batches, and on planted defects."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pixal.errors import InputError, ModelError, PixalError, StorageError
from pixal.io import ownership
from pixal.io.journal import Journal
from pixal.io.provenance import fingerprint, provenance
from pixal.io.records import read_record, write_record, write_table
from pixal.tasks.photographs.comparison.cost import Cost
from pixal.tasks.photographs.comparison.results import TypeComparison
from pixal.tasks.photographs.comparison.scoring import CandidateScores
from pixal.tasks.photographs.learning.candidate import candidate_config
from pixal.tasks.photographs.learning.expected_missed import TRIAL_RECORD
from pixal.tasks.photographs.learning.model_scores import ModelScores
from pixal.tasks.photographs.learning.past_parts import past_parts
from pixal.tasks.photographs.learning.trial_results import (
    CANDIDATE,
    IN_USE,
    ComparedPart,
    Recommendation,
    TypeTrial,
    recommend,
)
from pixal.tasks.photographs.sensitivity.measuring import PhotographOutcome, TypeMeasurement, smallest_gap
from pixal.tasks.photographs.sensitivity.plan import Budget
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.training.stored import TrainedModel, load_trained
from pixal.tasks.photographs.training.training_data import TrainingData, find_training_data
from pixal.tasks.photographs.verdicts.history import open_history
from pixal.train_model.stored_model import MODEL_RECORD

if TYPE_CHECKING:
    from pixal.database.stored_marks import Mark

_log = logging.getLogger(__name__)

TABLE, PAGE = "promotion.csv", "promotion.html"
TABLE_COLUMNS = (
    *("type", "image", "batch", "mark", "change", "score_in_use", "threshold_in_use", "verdict_in_use"),
    *("score_candidate", "threshold_candidate", "verdict_candidate", "held_out", "reason"),
)
LAST_BATCHES = 3
"""Number of batches whose parts are compared although nobody marked them."""


@dataclass(frozen=True)
class Trial:
    """The trial of a candidate.

    Attributes:
        owner: The type that both models are for; None: one model serves all types.
        label: The name of the models in messages.
        types: The trial of each type.
        recommendation: Whether the candidate should replace the model in use.
        page: The page.
    """

    owner: str | None
    label: str
    types: tuple[TypeTrial, ...]
    recommendation: Recommendation
    page: Path

    def summary(self) -> str:
        """The recommendation, its reasons and the numbers as text."""
        lines = [f"{self.label}: {self.recommendation.sentence}"]
        lines += [f"  {reason}" for reason in self.recommendation.reasons]
        lines += [f"  caution: {caution}" for caution in self.recommendation.cautions]
        for trial in self.types:
            for model in (IN_USE, CANDIDATE):
                failed, count = trial.good[model]
                sentences = [f"{failed} of {count} held-out good parts fail.", trial.missed_sentence(model) or ""]
                lines.append(f"  {trial.name}, {model}: {' '.join(sentences).strip()}")
            lines += [f"  {trial.name}: {trial.planted_sentence}"] if trial.planted else []
        return "\n".join([*lines, f"  page: {self.page}"])


def run_trial(owner: str | None, config: PhotographConfig, budget: Budget, *, quiet: bool = False) -> Trial:
    """Compare the candidate with the model in use; write the record, the table and the page.

    Args:
        owner: The type that both models are for; None: one model serves all types.
        config: The settings.
        budget: Which defects to plant.
        quiet: Show no progress bars.

    Raises:
        ModelError: There is no candidate.
    """
    target = candidate_config(config)
    label = owner or config.paths.component
    models = load_both(owner, config)
    data = {IN_USE: _data_of(models[IN_USE], config), CANDIDATE: _data_of(models[CANDIDATE], target)}
    trials = []
    for name in models[CANDIDATE].states:
        marks = marks_of(config, name)
        scores = {model: ModelScores(name, models[model], data[model], config) for model in models}
        parts = past_parts(config, name, marks, batches=LAST_BATCHES)
        found = {model: scores[model].score(parts) for model in scores}
        thresholds = [scores[model].cut.threshold for model in (IN_USE, CANDIDATE)]
        compared = tuple(
            ComparedPart(name, part, before, after, *thresholds)
            for part, before, after in zip(parts, found[IN_USE], found[CANDIDATE], strict=True)
        )
        planted, problem = _plant(name, models, data, config, budget, quiet)
        good = {
            model: (sum(score > each.cut.threshold for score in each.good_scores), len(each.good_scores))
            for model, each in scores.items()
        }
        trials.append(TypeTrial(name, compared, planted, problem, config.validation.rate_per_photograph, good))
    return _write(owner, label, models, trials, budget, config)


def load_both(owner: str | None, config: PhotographConfig) -> dict[str, TrainedModel]:
    """The model in use and the candidate, by ``IN_USE`` and ``CANDIDATE``. Raise ``ModelError`` if one is missing."""
    target = candidate_config(config)
    if not (target.paths.resolve("metadata_path", owner) / MODEL_RECORD).is_file():
        raise ModelError(f"{owner or config.paths.component} has no candidate; run train --candidate first")
    return {IN_USE: load_trained(config, owner), CANDIDATE: load_trained(target, owner)}


def marks_of(config: PhotographConfig, type_name: str) -> list[Mark]:
    """The marks of a type; none where there are no verdicts yet."""
    from pixal.database.stored_marks import read_marks

    try:
        with open_history(config.paths).reading() as connection:
            return read_marks(connection, (type_name,))
    except InputError as error:
        _log.warning("there are no marks: %s", error)
        return []


def trial_key(models: dict[str, TrainedModel], config: PhotographConfig, budget: Budget) -> str:
    """Fingerprint of everything that a trial depends on, except batches that nobody marked."""
    marks = [mark for name in models[CANDIDATE].states for mark in marks_of(config, name)]
    return fingerprint(
        "trial",
        [model.record_sha256 for model in models.values()],
        [(mark.type, mark.image, mark.photograph, mark.mark, mark.boxes) for mark in marks],
        budget.as_record(),
        config.validation.model_dump(mode="json"),
    )


def stored_recommendation(owner: str | None, config: PhotographConfig, key: str) -> Recommendation | None:
    """The recommendation of a trial that was made already; None if there is none with this key."""
    path = candidate_config(config).paths.resolve("metadata_path", owner) / TRIAL_RECORD
    try:
        record = read_record(path)
        if record.get("key") != key:
            return None
        content = record["recommendation"]
        return Recommendation(content["verdict"], tuple(content["reasons"]), tuple(content["cautions"]))
    except (InputError, KeyError, TypeError):
        return None


def _data_of(model: TrainedModel, config: PhotographConfig) -> TrainingData | None:
    """What a model was trained on; None if that does not exist any more."""
    try:
        found = find_training_data(config.paths.resolve("component_model_path", model.owner), config)
    except InputError:
        return None
    same = [data for data in found if data.sha256 == model.record.input_sha256]
    return same[0] if same else None


def _plant(
    name: str,
    models: dict[str, TrainedModel],
    data: dict[str, TrainingData | None],
    config: PhotographConfig,
    budget: Budget,
    quiet: bool,
) -> tuple[TypeComparison | None, str]:
    """Plant the same defects on the same parts for both models; or the reason why that is not possible."""
    try:
        measurements = _measurements(name, models, data, config, budget)
        scored = {model: _score_planted(each, models[model], config, quiet) for model, each in measurements.items()}
    except StorageError:  # a full disk is no property of the models
        raise
    except PixalError as error:
        return None, str(error)
    return TypeComparison(name, config.validation.rate_per_photograph, scored), ""


def _measurements(
    name: str,
    models: dict[str, TrainedModel],
    data: dict[str, TrainingData | None],
    config: PhotographConfig,
    budget: Budget,
) -> dict[str, TypeMeasurement]:
    missing = [model for model, of_model in data.items() if of_model is None]
    if missing:
        raise InputError(f"the parts that the model {missing[0]} was trained on were prepared again since")
    if any(not model.load_model().folds_are_cheap for model in models.values()):
        budget = replace(budget, folds=1)
    gap = max(smallest_gap(m.record.map_smoothing, m.states[name].pooling) for m in models.values())
    targets = {IN_USE: config, CANDIDATE: candidate_config(config)}

    def measurement(model: str, images: Sequence[str] | None) -> TypeMeasurement:
        of_model = data[model]
        if of_model is None:
            raise InputError(f"the parts that the model {model} was trained on are not there any more")
        prepared = targets[model]
        return TypeMeasurement(name, of_model, models[model], config, budget, prepared=prepared, gap=gap, images=images)

    held_out = {model: [part.image for part in measurement(model, None).parts] for model in models}
    both = [image for image in held_out[IN_USE] if image in set(held_out[CANDIDATE])]
    if not both:
        raise InputError("no part is held out from both models")
    return {model: measurement(model, both) for model in models}


def _score_planted(
    measurement: TypeMeasurement, model: TrainedModel, config: PhotographConfig, quiet: bool
) -> CandidateScores:
    folder = candidate_config(config).paths.resolve("metadata_path", measurement.name)
    path = folder / f"trial_{model.record_sha256[:12]}.journal"
    ownership.note(path)
    with Journal(path, (PhotographOutcome,)) as journal:
        outcomes = measurement.outcomes(journal, quiet=quiet)
    peaks = [np.nan if peak is None else peak for outcome in outcomes for peak in outcome.peaks]
    good = [outcome.score for outcome in outcomes if not outcome.peaks]
    threshold = measurement.cut(config.validation.rate_per_photograph).on_map
    cost = Cost(model.record.training_seconds, None, 0.0)
    return CandidateScores(measurement.plan, np.array(peaks, np.float64), np.array(good, np.float64), threshold, cost)


def _write(
    owner: str | None,
    label: str,
    models: dict[str, TrainedModel],
    trials: Sequence[TypeTrial],
    budget: Budget,
    config: PhotographConfig,
) -> Trial:
    from pixal.report.promotion import PageRow, write_promotion_page

    target = candidate_config(config).paths
    folder = target.resolve("component_model_path", owner)
    recommendation = recommend(trials)
    trial = Trial(owner, label, tuple(trials), recommendation, folder / PAGE)
    write_table(folder / TABLE, TABLE_COLUMNS, [part.as_row() for each in trials for part in each.parts])
    content: dict[str, Any] = {
        "key": trial_key(models, config, budget),
        "component": config.paths.component,
        "model": label,
        "models": {
            name: {
                "family": model.record.model,
                "trained": model.record.created,
                "record_sha256": model.record.record_sha256,
                "good_images": model.record.n_images,
                "accepted": (model.record.model_extra or {}).get("accepted", {}),
            }
            for name, model in models.items()
        },
        "recommendation": {
            "verdict": recommendation.verdict,
            "sentence": recommendation.sentence,
            "reasons": recommendation.reasons,
            "cautions": recommendation.cautions,
        },
        "budget": budget.as_record(),
        "types": {each.name: each.as_record() for each in trials},
    }
    write_record(target.resolve("metadata_path", owner) / TRIAL_RECORD, provenance() | content)
    rows = [
        PageRow(part.as_row(), part.part.source, part.part.boxes, part.after.boxes)
        for each in trials
        for part in each.parts
        if part.part.mark or part.change not in ("", "not compared")
    ]
    write_promotion_page(trial.page, content, rows)
    return trial
