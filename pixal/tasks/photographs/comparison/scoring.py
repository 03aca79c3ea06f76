"""Train one candidate of a comparison, and score planted defects with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.errors import InputError
from pixal.io import ownership
from pixal.io.arrays import load_arrays, save_arrays
from pixal.io.files import read_bytes, write_bytes
from pixal.io.journal import Journal
from pixal.io.output_folders import claim_outputs
from pixal.io.records import read_record, write_record
from pixal.tasks.photographs.comparison.candidates import Candidate
from pixal.tasks.photographs.comparison.cost import Cost, measured_memory, seconds_per_part
from pixal.tasks.photographs.preprocessing.folders import ALIGNMENT, BACKGROUND, REFERENCE_FILE, TypeFolder
from pixal.tasks.photographs.preprocessing.pipeline import make_input
from pixal.tasks.photographs.sensitivity.measuring import PhotographOutcome, TypeMeasurement, smallest_gap
from pixal.tasks.photographs.sensitivity.plan import Budget, Plan
from pixal.tasks.photographs.settings import LARGEST_AUTO_POOLING, PhotographConfig, Preprocessor
from pixal.tasks.photographs.training.stored import TrainedModel, load_trained
from pixal.tasks.photographs.training.train import train
from pixal.tasks.photographs.training.training_data import TrainingData, find_training_data
from pixal.train_model.family import anomaly_family_named
from pixal.validation.paired import Floats, PlantedScores

_RECORD, _PEAKS, _JOURNAL = "cost.yaml", "planted.npz", "planted.journal"


@dataclass(frozen=True)
class Prepared:
    """The prepared good parts on which all candidates are trained.

    Attributes:
        source: Where ``train`` finds them; None for those of the component.
        config: The settings whose folders hold them.
        types: The types.
        preprocessor: The settings with which their model input was made.
        sha256: The SHA-256 of each file with model input.
    """

    source: str | Path | None
    config: PhotographConfig
    types: tuple[str, ...]
    preprocessor: Preprocessor
    sha256: tuple[str, ...]

    @classmethod
    def find(cls, source: str | Path | None, config: PhotographConfig) -> Prepared:
        """Find the prepared good parts. Raise ``InputError`` if there are none."""
        found = find_training_data(source, config)
        states = {name: state for data in found for name, state in data.states.items()}
        preprocessor = next(iter(states.values())).settings.preprocessor
        return cls(source, config, tuple(states), preprocessor, tuple(data.sha256 for data in found))


@dataclass(frozen=True)
class CandidateScores:
    """The scores of a candidate for the planted defects of one type.

    Attributes:
        plan: The planted defects of each part.
        peaks: (D,), the largest value of the map at each planned defect; NaN if it could not be drawn.
        good: (P,), the scores of the held-out parts without a defect.
        threshold: The threshold on the map at the configured false-alarm rate.
        cost: Time and memory of the model.
    """

    plan: Plan
    peaks: Floats
    good: Floats
    threshold: float
    cost: Cost

    def paired(self, drawn: NDArray[np.bool_]) -> PlantedScores:
        """The defects at the positions ``drawn`` (D,), in the form that is compared."""
        parts = [photograph.part for photograph in self.plan.photographs for _ in photograph.defects]
        return PlantedScores(self.peaks[drawn], np.array(parts, np.intp)[drawn], self.good, self.threshold)


class CandidateRun:
    """Trains one candidate, and scores planted defects with it. Results of earlier runs are kept.

    Attributes:
        candidate: The candidate.
    """

    def __init__(self, candidate: Candidate, prepared: Prepared) -> None:
        self.candidate, self._prepared = candidate, prepared

    @property
    def gap(self) -> int:
        """The smallest distance between planted defects that the candidate needs, in reference pixels."""
        settings = self.candidate.config
        pooling = settings.preprocessing.preprocessor.pool_size
        return smallest_gap(settings.validation.map_smoothing, LARGEST_AUTO_POOLING if pooling == "auto" else pooling)

    @property
    def needs_one_fold(self) -> bool:
        """Whether the trained models are themselves those that did not see the first fold: their fits are costly."""
        return any(not model.load_model().folds_are_cheap for _, model in self._models)

    def train(self, *, quiet: bool) -> None:
        """Train the models of the candidate, unless that is already done."""
        config = self.candidate.config
        claim_outputs(config.paths, "component_model_path", self._prepared.types)
        if self.candidate.changes_input:
            self._make_input(quiet)
        anomaly_family_named(self.candidate.family).set_up(config.model_training)  # loads the libraries
        with measured_memory() as memory:
            train(self._source, config, resume=True, quiet=quiet)
        for name, _, model in self._by_type():
            if self._record(name).get("model_record_sha256") != model.record_sha256:
                content = {"model_record_sha256": model.record_sha256, "memory_gb": memory.gb}
                write_record(self._metadata(name) / _RECORD, content)

    def score(self, budget: Budget, gap: int, *, force: bool, quiet: bool) -> dict[str, CandidateScores]:
        """Plant the defects and score them, unless that is already done.

        Args:
            budget: Which defects to plant.
            gap: The smallest distance between two defects on a photograph, in reference pixels.
            force: Score them in any case.
            quiet: Show no progress bars.

        Returns:
            The scores of each type.
        """
        return {
            name: self._score_type(name, data, model, budget, gap, force, quiet)
            for name, data, model in self._by_type()
        }

    def _score_type(
        self, name: str, data: TrainingData, model: TrainedModel, budget: Budget, gap: int, force: bool, quiet: bool
    ) -> CandidateScores:
        config, folder = self.candidate.config, self._metadata(name)
        measurement = TypeMeasurement(name, data, model, config, budget, prepared=self._prepared.config, gap=gap)
        stored = self._record(name)
        if force or stored.get("key") != measurement.key or not ownership.owns(folder / _PEAKS):
            if force:
                ownership.remove(folder / _JOURNAL)
            ownership.note(folder / _JOURNAL)
            with Journal(folder / _JOURNAL, (PhotographOutcome,)) as journal:
                outcomes = measurement.outcomes(journal, quiet=quiet)
                peaks = [np.nan if peak is None else peak for outcome in outcomes for peak in outcome.peaks]
                good = [outcome.score for outcome in outcomes if not outcome.peaks]
                save_arrays(folder / _PEAKS, peaks=np.array(peaks), good=np.array(good))
                stored |= {
                    "key": measurement.key,
                    "seconds_per_part": seconds_per_part(measurement.trained, data.inputs),
                }
                write_record(folder / _RECORD, stored)
        arrays = load_arrays(folder / _PEAKS)
        cost = Cost(model.record.training_seconds, stored.get("memory_gb"), float(stored["seconds_per_part"]))
        threshold = measurement.cut(config.validation.false_alarm_rate).on_map
        return CandidateScores(measurement.plan, arrays["peaks"], arrays["good"], threshold, cost)

    def _make_input(self, quiet: bool) -> None:
        """Make another model input of the component's aligned photographs."""
        for name in self._prepared.types:
            source, target = (TypeFolder(name, config) for config in (self._prepared.config, self.candidate.config))
            for file in (BACKGROUND.file, ALIGNMENT.file, REFERENCE_FILE):
                content = read_bytes(source.metadata / file)
                if not (target.metadata / file).is_file() or read_bytes(target.metadata / file) != content:
                    write_bytes(target.metadata / file, content)
        make_input(None, config=self.candidate.config, quiet=quiet)

    @property
    def _source(self) -> str | Path | None:
        if self.candidate.changes_input:
            return None
        return self._prepared.source or self._prepared.config.paths.resolve("component_model_path")

    @cached_property
    def _models(self) -> list[tuple[TrainingData, TrainedModel]]:
        config = self.candidate.config
        return [(data, load_trained(config, data.owner)) for data in find_training_data(self._source, config)]

    def _by_type(self) -> Iterator[tuple[str, TrainingData, TrainedModel]]:
        for data, model in self._models:
            for name in model.states:
                yield name, data, model

    def _metadata(self, name: str) -> Path:
        return self.candidate.config.paths.resolve("metadata_path", name)

    def _record(self, name: str) -> dict[str, Any]:
        try:
            return read_record(self._metadata(name) / _RECORD)
        except InputError:
            return {}
