"""The verdicts on the parts of one type: score parts, write their files, and collect the results of the batch."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import numpy as np

from pixal.calibration.calibration import Calibration
from pixal.config.section import result_settings
from pixal.execution import map_parallel
from pixal.inputs import InputSet
from pixal.io.files import data_hash
from pixal.io.provenance import fingerprint
from pixal.outcome import Failure
from pixal.report.document import ModelOrigin, PartResult, PartTruth, TypeSummary
from pixal.report.images import PartImages
from pixal.tasks.photographs.parts import PhotographRecord, PreparedPart
from pixal.tasks.photographs.preprocessing.conditions import Conditions
from pixal.tasks.photographs.preprocessing.input_step import common_shape
from pixal.tasks.photographs.settings import PhotographConfig, Plotting, Validation
from pixal.tasks.photographs.training.stored import TrainedModel
from pixal.tasks.photographs.verdicts.adaptation import Adaptation
from pixal.tasks.photographs.verdicts.drift import Sample
from pixal.tasks.photographs.verdicts.figures import TypeFigureData, save_type_figures
from pixal.tasks.photographs.verdicts.part_files import (
    PartFolders,
    ScoredPart,
    count_pixels,
    overlay_name,
    save_part,
)
from pixal.tasks.photographs.verdicts.truth import Truth
from pixal.tasks.photographs.verdicts.verdict_store import StoredVerdict
from pixal.train_model.prediction import Predictor
from pixal.validation.loss_cut import loss_cut_warning
from pixal.validation.metrics import LabelledPart
from pixal.validation.pixel_metrics import PixelCounts
from pixal.validation.scoring import PartGeometry, Summary, choose_cut, score_parts

_NOT_FINITE = "the model's score is not a finite number; train the model again"

_log = logging.getLogger(__name__)


def verdict_key(prepared: str, files: object, validation: Validation, plotting: Plotting) -> str:
    """Fingerprint of everything that a verdict depends on, except the photograph.

    Args:
        prepared: Fingerprint of how inputs are prepared.
        files: Hashes of the model's files.
        validation: Today's settings of the validation.
        plotting: Today's settings of the figures; they say which files a verdict has.
    """
    return fingerprint("verdict", prepared, files, result_settings(validation), result_settings(plotting))


class TypeVerdicts:
    """The verdicts on the parts of one type.

    Attributes:
        name: The type.
        model: Its model.
        adaptation: The adapted false-alarm rate; None if it is the requested one.
        cut: The rule of the verdict.
        folders: Where the files of the parts go.
        summary: Sums over the parts, for the figures.
        counts: Counts of the pixels of parts with a mask of the truth.
        parts: The results of the batch, one per part.
        failures: The photographs of the batch that could not be processed.
        labelled: The parts of the batch whose truth is known.
        warnings: What is wrong with the settings; logged already.
        notes: Notes for the reader of the results.
    """

    def __init__(
        self,
        name: str,
        model: TrainedModel,
        truth: Truth | None,
        config: PhotographConfig,
        adaptation: Adaptation | None = None,
    ) -> None:
        self.name, self.model, self.truth, self.config = name, model, truth, config
        self.adaptation = adaptation
        self.state = model.states[name]
        self.calibration = model.calibrations[name]
        self.cut = choose_cut(
            self.calibration,
            config.validation.rate_per_photograph if adaptation is None else adaptation.rate,
            config.validation.threshold,
            loss_cut=config.plotting.loss_cut,
            log_loss=config.plotting.use_log_loss,
        )
        self.types = tuple(model.states) if model.owner is None else ()
        self.shape = common_shape(model.states.values())
        self.channels = tuple(self.state.settings.preprocessor.channels)
        maps = config.paths.resolve("validate_anomaly_maps_path", name)
        self.folders = PartFolders(
            figures=config.paths.resolve("validate_figures_path", name),
            maps=maps if config.validation.save_anomaly_maps else None,
            report=config.paths.resolve("component_validate_path", name) / "report",
        )
        self.summary = self.new_summary()
        self.counts = PixelCounts()
        plotting = config.plotting
        warning = loss_cut_warning(plotting.loss_cut, self.calibration.losses, log_loss=plotting.use_log_loss)
        self.warnings = [] if warning is None else [f"{name}: {warning}"]
        for text in self.warnings:
            _log.warning("%s", text)
        self.set_batch([])

    @cached_property
    def family(self) -> Predictor:
        """The loaded model. The first access may import ONNX Runtime or TensorFlow, which takes seconds."""
        return self.model.load_predictor(self.config.model_training)

    def key(self, prepared: str) -> str:
        """Fingerprint of everything that a verdict depends on, except the photograph. See ``verdict_key``."""
        files = self.model.record.files
        key = verdict_key(prepared, files, self.config.validation, self.config.plotting)
        return key if self.adaptation is None else fingerprint("adapted", key, self.adaptation.rate)

    def new_summary(self) -> Summary:
        """Return empty sums."""
        record = self.model.record
        channels = record.difference_channels
        return Summary((*self.state.mask.shape, len(channels) or len(record.error_weights)), distances=not channels)

    def validate_parts(self, parts: Sequence[PreparedPart], key: str, summary: Summary) -> Iterator[StoredVerdict]:
        """Score parts, write their files, and yield one verdict per part.

        Args:
            parts: A few prepared parts; parts that could not be prepared are included.
            key: The fingerprint that the verdicts get.
            summary: The sums to which the parts are added.
        """
        work = partial(
            save_part,
            folders=self.folders,
            truth=self.truth,
            consensus=self.state.consensus,
            cut=self.cut,
            overlays=self.config.plotting.plot_anomaly_heatmap,
        )
        scored = self.score(parts, summary, with_latent=self.config.plotting.plot_latent_space)
        saved_parts = map_parallel(work, scored, self.config.execution, step=self.name, quiet=True)
        for part, saved in zip(scored, saved_parts, strict=True):
            if saved.counts is not None:
                self.counts = self.counts + saved.counts
            yield StoredVerdict(
                source=str(Path(part.record.source).absolute()),
                stat=part.record.stat,
                key=key,
                record=part.record,
                part=self.result(part),
                latent=part.latent,
                images=saved.images,
                files=saved.files,
            )

    def score(
        self,
        parts: Sequence[PreparedPart],
        summary: Summary,
        *,
        with_latent: bool = False,
        calibration: Calibration | None = None,
    ) -> list[ScoredPart]:
        """Score prepared parts, and add them to ``summary``. Returns one item per part, in the same order.

        Args:
            parts: The parts.
            summary: The sums to which they are added.
            with_latent: Whether to compute their latent vectors.
            calibration: The calibration of their maps. Default: that of the model.
        """
        rows = [index for index, part in enumerate(parts) if part.input is not None]
        if not rows:
            return [ScoredPart(part.record, part.photo) for part in parts]
        inputs = self._inputs([parts[row] for row in rows])
        geometries = [
            PartGeometry(parts[row].record.size, self.state.photo_to_input(parts[row].record.homography))
            for row in rows
        ]
        predictions = score_parts(
            inputs,
            geometries,
            self.family,
            calibration or self.calibration,
            mask=self.state.mask,
            cut=self.cut,
            specification=self.model.record,
            map_smoothing=self.model.record.map_smoothing,
            region_threshold=self.config.validation.region_threshold,
            pixel_size_mm=self.config.validation.pixel_size_mm,
            summary=summary,
        )
        latents: Sequence[tuple[float, ...] | None] = [None] * len(rows)
        if with_latent:
            latents = [tuple(latent.tolist()) for latent in self.family.latent(inputs, slice(None))]
        scored = {}
        for row, prediction, geometry, latent in zip(rows, predictions, geometries, latents, strict=True):
            record, photo = parts[row].record, parts[row].photo
            if prediction is None:
                scored[row] = ScoredPart(record.replace(status="failed", reason=_NOT_FINITE), photo)
            else:
                scored[row] = ScoredPart(record, photo, prediction, geometry.photo_to_input, latent)
        return [scored.get(index, ScoredPart(part.record, part.photo)) for index, part in enumerate(parts)]

    def count_stored_maps(self, records: Iterable[PhotographRecord]) -> None:
        """Add to ``counts`` the pixels of parts that have an anomaly map from an earlier run."""
        if self.truth is None or self.folders.maps is None:
            return
        work = partial(count_pixels, truth=self.truth, consensus=self.state.consensus, maps=self.folders.maps)
        usable = [record for record in records if record.is_ok]
        for counts in map_parallel(work, usable, self.config.execution, step=self.name, quiet=True):
            if counts is not None:
                self.counts = self.counts + counts

    def set_batch(self, verdicts: Sequence[StoredVerdict]) -> None:
        """Make ``verdicts`` the batch that tables, figures and report show, in this order."""
        self.parts = tuple(
            verdict.part.model_copy(update={"truth": self._truth(verdict.record)}) for verdict in verdicts
        )
        self._images = {verdict.part.image: verdict.images for verdict in verdicts}
        self.failures = [
            Failure(self.name, part.image, "preprocessing", part.reason)
            for part in self.parts
            if part.verdict == "error"
        ]
        self.labelled = tuple(
            LabelledPart(part.truth.label, part.truth.kind, part.score, part.verdict == "fail")
            for part in self.parts
            if part.truth is not None and part.score is not None
        )
        names = sorted(f"{verdict.part.image}\0{verdict.record.sha256}\n" for verdict in verdicts)
        self.digest = data_hash("".join(names).encode())
        readable = [verdict.record for verdict in verdicts if verdict.record.width is not None]
        self.conditions = Conditions.from_records(readable, len(readable))
        latents = [verdict.latent for verdict in verdicts if verdict.latent is not None]
        self._latents = np.array(latents, np.float32)
        self.notes = [*self._adaptation_notes(), *self._truth_notes()] if verdicts else []

    def type_summary(self) -> TypeSummary:
        """The type's entry in ``results.json``."""
        return TypeSummary(
            threshold=self.cut.threshold,
            method=self.cut.method,
            false_alarm_rate=self.config.validation.false_alarm_rate,
            adapted_rate=None if self.adaptation is None else self.adaptation.rate,
            training_scores=() if self.cut.raw else tuple(float(score) for score in self.calibration.scores),
            parts=len(self.parts),
            failed=sum(part.verdict == "fail" for part in self.parts),
            errors=len(self.failures),
            model=self.origin,
        )

    @property
    def origin(self) -> ModelOrigin:
        """The model, as results and messages name it."""
        record = self.model.record
        return ModelOrigin(
            family=record.model,
            name=record.model_name,
            trained=record.created,
            good_images=record.n_images,
            record_sha256=record.record_sha256,
            data_sha256=record.input_sha256,
            frame=self.shape[:2],
        )

    def drift_samples(self) -> tuple[Sample, Sample]:
        """Training and this batch, to be compared: the photographs, and the scores of parts that do not fail."""
        good = self.calibration.scores[self.calibration.scores <= self.cut.threshold]
        passed = np.array([part.score for part in self.parts if part.verdict == "pass"], np.float64)
        if self.cut.raw or self.calibration.stand_ins:  # there are no held-out scores of the same kind
            good = passed = np.zeros(0)
        return Sample(self.model.conditions[self.name], good), Sample(self.conditions, passed)

    def images_of(self, part: PartResult) -> PartImages | None:
        """The report's image files of a part of the batch; None if its photograph could not be read."""
        names = self._images[part.image]
        if names is None:
            return None
        return PartImages(*(None if name is None else self.folders.report / name for name in names))

    def draw_figures(self) -> None:
        """Draw the figures of the batch."""
        record = self.model.record
        data = TypeFigureData(
            type_name=self.name,
            parts=self.parts,
            labelled=self.labelled,
            cut=self.cut,
            summary=self.summary,
            mask=self.state.mask,
            channels=self.channels,
            error_channels=record.difference_channels or tuple(record.error_weights),
            training_scores=np.zeros(0) if self.cut.raw else self.calibration.scores,
            training_latents=self.model.latents[self.name],
            latents=self._latents,
        )
        save_type_figures(self.folders.figures, data, self.config.plotting)

    def result(self, part: ScoredPart) -> PartResult:
        """The verdict on a scored part, as results show it."""
        record, prediction = part.record, part.prediction
        overlay = None
        if prediction is not None and self.config.plotting.plot_anomaly_heatmap:
            overlay = f"{self.name}/figures/{overlay_name(record)}"
        verdict: Literal["pass", "fail", "error"] = "error"
        if prediction is not None:
            verdict = "fail" if prediction.failed else "pass"
        return PartResult(
            type=self.name,
            image=record.image,
            source=record.source,
            score=None if prediction is None else prediction.score,
            p_value=None if prediction is None else prediction.p_value,
            p_value_extrapolated=prediction is not None and self.cut.is_extrapolated(prediction.p_value),
            threshold=None if prediction is None else self.cut.threshold,
            verdict=verdict,
            reason=record.reason if prediction is None else "; ".join(record.notes),
            overlay=overlay,
            width=record.width,
            height=record.height,
            regions=() if prediction is None else tuple(prediction.regions),
        )

    def _inputs(self, parts: Sequence[PreparedPart]) -> InputSet:
        """The inputs of parts that have one, as the model takes them."""
        data = np.zeros((len(parts), int(np.prod(self.shape))), np.float32)
        for row, part in zip(data, parts, strict=True):
            row[:] = part.input.ravel() if part.input is not None else 0
        labels = None
        if self.types:
            labels = np.zeros((len(parts), len(self.types)), np.float32)
            labels[:, self.types.index(self.name)] = 1
        names = tuple(part.record.image for part in parts)
        return InputSet(data, self.shape, self.channels, names, labels, self.types)

    def _adaptation_notes(self) -> list[str]:
        return [] if self.adaptation is None else [f"{self.name}: {self.adaptation.sentence}"]

    def _truth_notes(self) -> list[str]:
        if self.truth is None:
            return []
        notes = []
        unknown = [part.image for part in self.parts if part.truth is None]
        if unknown:
            notes.append(
                f"{self.name}: the truth does not name {len(unknown)} parts, for example {unknown[0]}; "
                "the measures leave them out"
            )
        if len({part.label for part in self.labelled}) != 2:
            notes.append(
                f"{self.name}: the truth names no good parts or no defective parts; "
                "there is no ROC curve, precision-recall curve or confusion matrix"
            )
        return notes

    def _truth(self, record: PhotographRecord) -> PartTruth | None:
        return None if self.truth is None else self.truth.part(record.image, record.name)
