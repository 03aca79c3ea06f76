"""Score parts of earlier batches by one model. Parts that it was trained on have their held-out scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pixal.calibration.calibration import Calibration
from pixal.calibration.recurrence import only_at
from pixal.errors import InputError, ModelError
from pixal.io.files import data_hash
from pixal.tasks.photographs.discovery import Photograph
from pixal.tasks.photographs.learning.accepted import AcceptedParts, PhotographBox
from pixal.tasks.photographs.learning.known_places import MissedDefects, missed_defects, places_of
from pixal.tasks.photographs.learning.past_parts import PastPart
from pixal.tasks.photographs.parts import PreparedPart
from pixal.tasks.photographs.preprocessing.input_step import on_canvas
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.training.stored import TrainedModel
from pixal.tasks.photographs.training.training_data import TrainingData
from pixal.tasks.photographs.verdicts.preparation import Preparation
from pixal.tasks.photographs.verdicts.type_verdicts import TypeVerdicts
from pixal.train_model.family import Rows, anomaly_family_named
from pixal.train_model.folds import cross_validation_folds, folds_of_type, make_folds
from pixal.validation.scoring import Cut

_CHUNK = 8  # parts in memory


@dataclass(frozen=True)
class PartScore:
    """What a model says about a part.

    Attributes:
        score: Its score; None if it could not be scored.
        failed: Whether the verdict is "fail".
        boxes: The regions that were found, in pixels of the photograph.
        use: "new": the model has not seen the part; "held out": it was trained on, and the score is of a model that did
            not see it; "trained on": there is no such score.
        reason: Why it could not be scored.
    """

    score: float | None
    failed: bool = False
    boxes: tuple[PhotographBox, ...] = ()
    use: str = "new"
    reason: str = ""

    @property
    def counts(self) -> bool:
        """Whether the verdict says something about the model."""
        return self.score is not None and self.use != "trained on"

    def finds(self, part: PastPart) -> bool:
        """Whether the part fails, and a region touches one of its known defects, as far as these have boxes."""
        if not self.failed:
            return False
        return not part.boxes or not self.boxes or any(_touch(box, own) for box in part.boxes for own in self.boxes)


class ModelScores:
    """Scores parts of one type by one model.

    Attributes:
        name: The type.
        model: The model.
        verdicts: How it gives verdicts.
    """

    def __init__(self, name: str, model: TrainedModel, data: TrainingData | None, config: PhotographConfig) -> None:
        """Prepare the scoring.

        Args:
            name: The type.
            model: The model.
            data: What it was trained on; None if that does not exist any more.
            config: The settings.
        """
        self.name, self.model, self._data, self._config = name, model, data, config
        self.verdicts = TypeVerdicts(name, model, None, config)

    @property
    def cut(self) -> Cut:
        """The rule of the verdict."""
        return self.verdicts.cut

    @property
    def mask(self) -> NDArray[np.bool_]:
        """The pixels of the part in the model's frame, (H, W)."""
        frame = (*self.model.record.shape[:2], 1)
        return on_canvas(self.model.states[self.name].mask[..., None], frame)[..., 0]

    @property
    def good_scores(self) -> Sequence[float]:
        """The scores of the held-out good parts that the threshold comes from; empty without any on its scale."""
        calibration = self.model.calibrations[self.name]
        return () if self.cut.raw or calibration.stand_ins else calibration.scores.tolist()

    def prepared(self, parts: Sequence[PastPart]) -> list[PreparedPart]:
        """The inputs of parts; those that cannot be prepared are left out."""
        found = []
        for part in parts:
            with suppress(InputError, ModelError):
                found.append(self._prepared(part))
        return found

    def score(self, parts: Sequence[PastPart]) -> list[PartScore]:
        """Score parts, in their order."""
        found: dict[int, PartScore] = {}
        waiting: list[tuple[int, PreparedPart]] = []
        for index, part in enumerate(parts):
            if part.sha256 in self._trained_on:
                score = self._trained_on[part.sha256]
                failed = score is not None and score > self.cut.threshold
                found[index] = PartScore(score, failed, use="trained on" if score is None else "held out")
                continue
            try:
                prepared = (index, self._prepared(part))
            except (InputError, ModelError) as error:
                found[index] = PartScore(None, reason=str(error))
                continue
            if part.sha256 in self._known_defects:
                found.update(self._score([prepared], self._calibration_without(part)))
            else:
                waiting.append(prepared)
            if len(waiting) == _CHUNK:
                found.update(self._score(waiting))
                waiting = []
        found.update(self._score(waiting))
        return [found[index] for index in range(len(parts))]

    @cached_property
    def _known_defects(self) -> set[str]:
        """The SHA-256 of the parts whose defects raise the map at places where they recur."""
        if self.model.calibrations[self.name].gain is None:
            return set()
        return {part.sha256 for part in AcceptedParts.read(self._config.paths, self.name).of("known_defects")}

    def _calibration_without(self, part: PastPart) -> Calibration:
        """The calibration as if the defects of a part were not known, so that its score says something."""
        calibration = self.model.calibrations[self.name]
        assert calibration.gain is not None
        places = places_of(self._missed_defects, self.mask, without=[part.sha256])
        return replace(calibration, gain=only_at(calibration.gain, places))

    @cached_property
    def _missed_defects(self) -> list[MissedDefects]:
        return missed_defects(self._config.paths, self.name, self.model.states[self.name])

    def _score(
        self, waiting: Sequence[tuple[int, PreparedPart]], calibration: Calibration | None = None
    ) -> dict[int, PartScore]:
        if not waiting:
            return {}
        prepared = [part for _, part in waiting]
        scored = self.verdicts.score(prepared, self.verdicts.new_summary(), calibration=calibration)
        found = {}
        for (index, _), part in zip(waiting, scored, strict=True):
            prediction = part.prediction
            if prediction is None:
                found[index] = PartScore(None, reason=part.record.reason)
            else:
                boxes = tuple((r.x, r.y, r.width, r.height) for r in prediction.regions)
                found[index] = PartScore(prediction.score, prediction.failed, boxes)
        return found

    def _prepared(self, part: PastPart) -> PreparedPart:
        """The input of a part: that of its batch, or made again if the model has another preprocessing."""
        if part.record is not None and part.preprocessing_sha256 == self.preparation.state_sha256:
            image = part.read_input()
            if image is not None and image.shape == self.verdicts.shape:
                return PreparedPart(part.record, image)
        photograph = Photograph(self.name, part.source, part.image, part.source.stem)
        if data_hash(photograph.read()) != part.sha256:
            raise InputError(f"{part.source} is not the same photograph any more")
        prepared = next(iter(self.preparation([photograph])))
        if prepared.input is None:
            raise InputError(prepared.record.reason)
        return prepared

    @cached_property
    def preparation(self) -> Preparation:
        """Makes the inputs of the model."""
        return Preparation(self.name, self.model, self._config, draw_figures=False)

    @cached_property
    def _trained_on(self) -> Mapping[str, float | None]:
        """The score when it was held out of each photograph that the model was trained on, by its SHA-256."""
        if self._data is None:
            return {}
        calibration = self.model.calibrations[self.name]
        if len(calibration.all_scores) != len(self._held_out_rows):  # recalibrated on other parts
            return dict.fromkeys((str(record.sha256) for record in self._data.records(self.name) if record.is_ok), None)
        all_scores = calibration.all_scores.tolist() if self.good_scores else []
        scores = dict(zip(self._held_out_rows, all_scores, strict=True)) if all_scores else {}
        index = list(self.model.states).index(self.name)
        prefix = f"{self.name}/" if self._data.owner is None else ""
        rows = {self._data.inputs.names[row]: int(row) for row in self._data.inputs.rows_of_type(index)}
        return {
            str(record.sha256): scores.get(rows.get(f"{prefix}{record.image}", -1))
            for record in self._data.records(self.name)
            if record.is_ok
        }

    @cached_property
    def _held_out_rows(self) -> list[int]:
        """The rows that the calibration's scores belong to, in its order."""
        if self._data is None:
            return []
        inputs, record = self._data.inputs, self.model.record
        family = anomaly_family_named(record.model)(record)  # not fitted: only its folds are asked for
        folds: list[Rows]
        if family.leaves_one_out:
            folds = make_folds(inputs, len(inputs), record.seed)
        else:
            folds = cross_validation_folds(family, inputs, record)
        of_type = folds_of_type(inputs, list(self.model.states).index(self.name), folds)
        return np.concatenate(of_type).tolist() if of_type else []


def _touch(first: PhotographBox, second: PhotographBox) -> bool:
    """Whether two boxes have a pixel in common."""
    return all(
        first[axis] < second[axis] + second[axis + 2] and second[axis] < first[axis] + first[axis + 2]
        for axis in (0, 1)
    )
