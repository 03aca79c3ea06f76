"""Score planted defects of one type by the models that did not see their parts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from pixal.calibration.maps import part_scores
from pixal.errors import InputError, ModelError
from pixal.execution import map_parallel, progress
from pixal.inputs import InputSet
from pixal.io.journal import Journal, OutputRecord
from pixal.io.provenance import fingerprint
from pixal.tasks.photographs.preprocessing.folders import ALIGNMENT, BACKGROUND, TypeFolder
from pixal.tasks.photographs.preprocessing.input_step import on_canvas
from pixal.tasks.photographs.sensitivity.plan import Budget, Plan, PlannedPhotograph, plan_photographs
from pixal.tasks.photographs.sensitivity.planting import HeldOutPart, PlantedInput, make_planted_input
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.training.stored import TrainedModel
from pixal.tasks.photographs.training.training_data import TrainingData
from pixal.train_model.family import AnomalyModel, Rows, as_anomaly_model
from pixal.train_model.folds import cross_validation_folds, held_out_models
from pixal.validation.scoring import Cut, anomaly_maps, choose_cut, model_errors

_MARGIN = 8  # input pixels by which a peak of the map may lie beside its defect, besides the smoothing
_MAX_ROWS = 4  # photographs that the model gets together


class PhotographOutcome(OutputRecord):
    """The result of one photograph with planted defects, in the journal. There is no file: ``file`` is its number.

    Attributes:
        drawn: Per planned defect its contrast as drawn; None if it could not be drawn.
        peaks: Per planned defect the largest value of the anomaly map in its neighbourhood; None if it was not drawn.
        score: The score of the part: the largest value of the whole map.
        reasons: Why defects could not be drawn.
    """

    drawn: tuple[float | None, ...]
    peaks: tuple[float | None, ...]
    score: float
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class ScoredDefect:
    """A planted defect and how far it stands out.

    Attributes:
        kind: Its kind.
        size: Its size in reference pixels.
        contrast: The contrast that was asked for.
        drawn: The contrast as drawn.
        x: Column of its centre in the reference frame.
        y: Row of its centre in the reference frame.
        image: The photograph it was planted on.
        peak: The largest value of the anomaly map in its neighbourhood.
    """

    kind: str
    size: float
    contrast: float
    drawn: float
    x: float
    y: float
    image: str
    peak: float


@dataclass(frozen=True)
class Scores:
    """The results of planting and scoring defects.

    Attributes:
        defects: The defects that were drawn.
        not_drawn: Why others could not be drawn, one sentence each.
        clean: The scores of the held-out parts without any defect.
    """

    defects: list[ScoredDefect]
    not_drawn: list[str]
    clean: list[float]


def smallest_gap(map_smoothing: float, pool_size: int) -> int:
    """The distance between two planted defects at which their neighbourhoods do not touch, in reference pixels."""
    return 2 * (int(np.ceil(3 * map_smoothing)) + _MARGIN) * pool_size


class TypeMeasurement:
    """Plants defects on the held-out parts of one type, and scores them.

    Attributes:
        name: The type.
        model: The trained model.
        plan: What is planted.
        parts: The held-out parts.
        key: Fingerprint of everything that the result depends on.
    """

    def __init__(
        self,
        name: str,
        data: TrainingData,
        model: TrainedModel,
        config: PhotographConfig,
        budget: Budget,
        *,
        prepared: PhotographConfig | None = None,
        gap: int | None = None,
        images: Sequence[str] | None = None,
    ) -> None:
        """Plan the measurement.

        Args:
            name: The type.
            data: The data that the model was trained on.
            model: The trained model.
            config: The settings.
            budget: Which defects to plant.
            prepared: The settings whose folders hold the prepared photographs. Default: ``config``.
            gap: Smallest distance between two defects on a photograph, in reference pixels; half of it is the width of
                a neighbourhood. Default: what the smoothing of the model's maps needs, see ``smallest_gap``.
            images: The photographs of held-out parts to plant on, in this order. Default: all.

        Raises:
            InputError: No part was held out, a photograph is missing, or no defect has a place on the part.
            ModelError: The model was trained on other data.
        """
        self.name, self.model, self._data, self._config = name, model, data, config
        if model.record.input_sha256 != data.sha256:
            raise ModelError(f"the model of {name} was trained on other photographs; run train again")
        self._state = model.states[name]
        self._type_index = list(model.states).index(name)
        self.parts = self._held_out_parts(prepared or config, budget.folds)
        if images is not None:
            by_image = {part.image: part for part in self.parts}
            self.parts = [by_image[image] for image in images]
        pool = self._state.pooling
        gap = smallest_gap(model.record.map_smoothing, pool) if gap is None else gap
        self._margin = gap // (2 * pool)  # input pixels
        self.plan: Plan = plan_photographs(
            self._state.consensus,
            self._state.reference.image,
            budget,
            parts=len(self.parts),
            gap=gap,
            seed=model.record.seed,
        )
        self.key = fingerprint(
            "sensitivity",
            model.record_sha256,
            budget.as_record(),
            [(part.image, part.fold) for part in self.parts],
            config.plotting.loss_cut,
            self._margin,
        )

    def cut(self, rate: float) -> Cut:
        """The rule of the verdict at a false-alarm rate."""
        plotting = self._config.plotting
        return choose_cut(
            self.model.calibrations[self.name],
            rate,
            self._config.validation.threshold,
            loss_cut=plotting.loss_cut,
            log_loss=plotting.use_log_loss,
        )

    def result_key(self, thresholds: dict[float, float]) -> str:
        """Fingerprint of everything that the written results depend on; ``thresholds`` by false-alarm rate."""
        return fingerprint(self.key, thresholds)

    def run(self, journal: Journal[PhotographOutcome], *, quiet: bool) -> Scores:
        """Plant and score all defects; see ``outcomes``."""
        in_order = self.outcomes(journal, quiet=quiet)
        return Scores(
            self._tested(in_order),
            [reason for outcome in in_order for reason in outcome.reasons],
            [outcome.score for outcome in in_order if not outcome.peaks],
        )

    def outcomes(self, journal: Journal[PhotographOutcome], *, quiet: bool) -> list[PhotographOutcome]:
        """Plant and score all defects; those that an interrupted run has scored are not planted again.

        Args:
            journal: Keeps the outcome of each photograph until the results are written.
            quiet: Show no progress bar.

        Returns:
            One outcome per photograph of the plan, in its order.
        """
        outcomes = {int(str(outcome.file)): outcome for outcome in journal.entries.values() if outcome.key == self.key}
        missing = [photograph for photograph in self.plan.photographs if photograph.number not in outcomes]
        step = f"{self.name}: planted defects"
        for outcome in progress(self._measure(missing), len(missing), step=step, quiet=quiet):
            journal.add(outcome)
            outcomes[int(str(outcome.file))] = outcome
        return [outcomes[photograph.number] for photograph in self.plan.photographs]

    @cached_property
    def trained(self) -> AnomalyModel:
        """The trained model."""
        return self.model.load_anomaly_model()

    @cached_property
    def _folds(self) -> list[Rows]:
        return cross_validation_folds(self.trained, self._data.inputs, self.model.record)

    def _held_out_parts(self, prepared: PhotographConfig, folds: int | None) -> list[HeldOutPart]:
        folder = TypeFolder(self.name, prepared)
        cut_outs = {record.image: record.file for record in folder.read(BACKGROUND).images}
        poses = {record.image: record for record in folder.read(ALIGNMENT).aligned}
        parts = []
        rows_of_type = self._data.inputs.rows_of_type(self._type_index)
        held_out = [(fold, np.intersect1d(rows, rows_of_type)) for fold, rows in enumerate(self._folds)]
        for fold, rows in [(fold, rows) for fold, rows in held_out if len(rows)][:folds]:
            for row in rows:
                name = self._data.inputs.names[row]
                image = name if self._data.owner is not None else name.removeprefix(f"{self.name}/")
                if image not in poses or cut_outs.get(image) is None:
                    raise InputError(f"{self.name}/{image}: was trained on, but is not prepared; run preprocess again")
                path = folder.background_removed / str(cut_outs[image])
                parts.append(HeldOutPart(image, path, poses[image].homography, fold))
        if not parts:
            raise InputError(f"{self.name}: only one good part, which cannot be held out; at least 2 are needed")
        return parts

    def _measure(self, photographs: Sequence[PlannedPhotograph]) -> Iterator[PhotographOutcome]:
        """Plant defects on photographs and score them, fold by fold."""
        by_fold: dict[int, list[PlannedPhotograph]] = {}
        for photograph in photographs:
            by_fold.setdefault(self.parts[photograph.part].fold, []).append(photograph)
        folds = self._folds
        for fold, model in held_out_models(self.trained, self._data.inputs, self._data.masks, folds, sorted(by_fold)):
            yield from self._measure_fold(as_anomaly_model(model), by_fold[fold])

    def _measure_fold(
        self, model: AnomalyModel, photographs: Sequence[PlannedPhotograph]
    ) -> Iterator[PhotographOutcome]:
        work = partial(make_planted_input, parts=self.parts, state=self._state, margin=self._margin)
        inputs = map_parallel(work, photographs, self._config.execution, step=self.name, quiet=True)
        count = self._data.inputs.rows_per_chunk(_MAX_ROWS)
        waiting: list[tuple[PlannedPhotograph, PlantedInput]] = []
        for number, pair in enumerate(zip(photographs, inputs, strict=True), 1):
            waiting.append(pair)
            if len(waiting) == count or number == len(photographs):
                yield from self._score(model, waiting, count)
                waiting = []

    def _score(
        self, model: AnomalyModel, photographs: Sequence[tuple[PlannedPhotograph, PlantedInput]], count: int
    ) -> Iterator[PhotographOutcome]:
        inputs: InputSet = self._data.inputs
        images = np.stack([on_canvas(planted.values, inputs.shape) for _, planted in photographs])
        height, width = self._state.mask.shape
        rows = slice(0, len(images))
        errors = model_errors(model, inputs.with_images(images, self._type_index), rows, count)[:, :height, :width]
        _, maps = anomaly_maps(
            errors,
            self.model.calibrations[self.name],
            mask=self._state.mask,
            specification=self.model.record,
            map_smoothing=self.model.record.map_smoothing,
            raw=self._config.plotting.loss_cut != "auto",
        )
        for (photograph, planted), anomaly_map in zip(photographs, maps, strict=True):
            yield self._outcome(photograph, planted, anomaly_map)

    def _outcome(
        self, photograph: PlannedPhotograph, planted: PlantedInput, anomaly_map: NDArray[np.float32]
    ) -> PhotographOutcome:
        drawn: list[float | None] = []
        peaks: list[float | None] = []
        reasons = []
        for defect in planted.drawn:
            if isinstance(defect, str):
                reasons.append(defect)
                drawn.append(None)
                peaks.append(None)
            else:
                drawn.append(defect.contrast)
                peaks.append(defect.neighbourhood.peak(anomaly_map))
        return PhotographOutcome(
            file=str(photograph.number),
            key=self.key,
            file_sha256="",
            drawn=tuple(drawn),
            peaks=tuple(peaks),
            score=float(part_scores(anomaly_map[None])[0]),
            reasons=tuple(reasons),
        )

    def _tested(self, outcomes: Sequence[PhotographOutcome]) -> list[ScoredDefect]:
        tested = []
        for photograph, outcome in zip(self.plan.photographs, outcomes, strict=True):
            image = self.parts[photograph.part].image
            for defect, drawn, peak in zip(photograph.defects, outcome.drawn, outcome.peaks, strict=True):
                if drawn is not None and peak is not None:
                    tested.append(
                        ScoredDefect(
                            defect.kind, defect.size, defect.contrast, drawn, *defect.place, image=image, peak=peak
                        )
                    )
        return tested
