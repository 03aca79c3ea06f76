"""The verdicts on the parts of one type: scored, drawn, and noted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.execution import map_parallel
from pixal.inputs import InputSet
from pixal.io.provenance import fingerprint
from pixal.outcome import Failure
from pixal.tasks.photographs.preprocessing.conditions import Conditions
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.training.stored import TrainedModel
from pixal.tasks.photographs.verdicts import figures as pictures
from pixal.tasks.photographs.verdicts import part_files
from pixal.tasks.photographs.verdicts.drift import Sample
from pixal.tasks.photographs.verdicts.truth import Truth
from pixal.tasks.photographs.verdicts.verdict_store import Entry
from pixal.train_model.family import ModelFamily, error_weights, family_named
from pixal.validation.metrics import LabelledPart
from pixal.validation.pixel_metrics import PixelCounts
from pixal.validation.scoring import PartGeometry, Prediction, Summary, choose_cut, score_parts

PORTION = 8  # parts a worker that are prepared, scored and drawn in turn: so many are in memory, or lost by a kill


class TypeVerdicts:
    """The verdicts on the parts of one type."""

    def __init__(self, name: str, model: TrainedModel, truth: Truth | None, config: PhotographConfig) -> None:
        self.name, self.model, self.truth, self.config = name, model, truth, config
        self.state = model.states[name]
        self.calibration = model.calibrations[name]
        self.cut = choose_cut(
            self.calibration,
            config.validation.false_alarm_rate,
            config.validation.threshold,
            loss_cut=config.plotting.loss_cut,
            log_loss=config.plotting.use_log_loss,
        )
        paths = config.paths
        self.figures = paths.resolve("validate_figures_path", name)
        self.maps = paths.resolve("validate_anomaly_maps_path", name) if config.validation.save_anomaly_maps else None
        self.report = paths.resolve("component_validate_path", name) / "report"
        self.summary = self.new_summary()
        self.counts = PixelCounts()
        self.gather([])

    def key(self, prepared: str) -> str:
        """The fingerprint of all that a verdict comes from but the photograph; ``prepared``: that of its input."""
        validation = self.config.validation
        settings = (validation.region_threshold, validation.pixel_size_mm, validation.save_anomaly_maps)
        drawn = (self.config.plotting.plot_anomaly_heatmap, self.config.plotting.plot_latent_space)
        files = self.model.params.get("files", {})
        return fingerprint("judge", prepared, files, vars(self.cut), settings, drawn)

    def new_summary(self) -> Summary:
        """Sums over no parts."""
        params = self.model.params
        return Summary((*self.state.mask.shape, len(error_weights(params))), bool(params.get("gives_distance")))

    def judge(self, records: list[dict[str, Any]], inputs: InputSet, key: str, summary: Summary) -> Iterator[Entry]:
        """Score a few prepared parts, draw them, and yield their entries; also of those that could not be prepared.

        ``records``: a row a part. ``inputs``: of those whose status is ok, in order; ``summary`` counts them.
        """
        ok = [record for record in records if record["status"] == "ok"]
        scored = self.score(ok, inputs, summary)
        latents = self.family.latent(inputs, slice(None)) if self.config.plotting.plot_latent_space and ok else None
        jobs: list[part_files.Job] = []
        for record in records:
            jobs.append((record, *next(scored)) if record["status"] == "ok" else (record, None, None))
        work = partial(
            part_files.save_part,
            truth=self.truth,
            cut=self.cut,
            figures=self.figures,
            maps=self.maps,
            report=self.report,
            overlays=self.config.plotting.plot_anomaly_heatmap,
        )
        index = 0
        drawn = map_parallel(work, jobs, self.config.execution, step=self.name, quiet=True)
        for (record, result, _), (counts, files) in zip(jobs, drawn, strict=True):
            latent = None
            if result is not None:
                latent = None if latents is None else latents[index].tolist()
                index += 1
            if counts is not None:
                self.counts = self.counts + counts
            part = self._error(record) if result is None else self._verdict(record, result)
            source = str(Path(record["source"]).absolute())
            yield {
                **{"source": source, "stat": record.get("stat"), "key": key, "record": record, "part": part},
                **{"latent": latent, "pictures": files, "row": None},
            }

    def score(
        self, records: list[dict[str, Any]], inputs: InputSet, summary: Summary
    ) -> Iterator[tuple[Prediction, NDArray[np.float64]]]:
        """Score prepared parts, and count them in ``summary``; yields outcome, and photograph to input (3, 3)."""
        if not records:
            return
        geometries = [
            PartGeometry((row["height"], row["width"]), self.state.photo_to_input(_homography(row))) for row in records
        ]
        scored = score_parts(
            inputs,
            geometries,
            self.family,
            self.calibration,
            mask=self.state.mask,
            cut=self.cut,
            params=self.model.params,
            region_threshold=self.config.validation.region_threshold,
            pixel_size_mm=self.config.validation.pixel_size_mm,
            summary=summary,
        )
        yield from zip(scored, (geometry.photo_to_input for geometry in geometries), strict=True)

    def count_again(self, entries: list[Entry]) -> None:
        """Count the pixels of parts that were judged before, from their maps."""
        if self.truth is not None and self.maps is not None:
            work = partial(part_files.count_part, truth=self.truth, maps=self.maps)
            rows = [entry["record"] for entry in entries if entry["record"]["status"] == "ok"]
            for counts in map_parallel(work, rows, self.config.execution, step=self.name, quiet=True):
                if counts is not None:
                    self.counts = self.counts + counts

    def gather(self, entries: list[Entry]) -> None:
        """Make ``entries`` the batch: what the tables, the figures and the report tell of, in this order."""
        self.parts = [entry["part"] | {"truth": self._known(entry["record"])} for entry in entries]
        self.pictures = {entry["part"]["image"]: entry["pictures"] for entry in entries}
        self.failures = [
            Failure(self.name, part["image"], "preprocessing", part["reason"])
            for part in self.parts
            if part["verdict"] == "error"
        ]
        self.labelled = [
            LabelledPart(**part["truth"], score=part["score"], failed=part["verdict"] == "fail")
            for part in self.parts
            if part["truth"] is not None and part["verdict"] != "error"
        ]
        readable = [entry["record"] for entry in entries if "width" in entry["record"]]  # a damaged file is no drift
        self.conditions = Conditions.of(readable, len(readable))
        self.latents = np.array([entry["latent"] for entry in entries if entry["latent"] is not None], np.float32)
        self.notes = self._notes() if entries else []

    def table(self) -> dict[str, Any]:
        """The type's entry in ``results.json``."""
        return {
            "threshold": self.cut.threshold,
            "method": self.cut.method,
            "false_alarm_rate": self.config.validation.false_alarm_rate,
            "training_scores": [] if self.cut.raw else [float(score) for score in self.calibration.scores],
            "parts": len(self.parts),
            "failed": sum(part["verdict"] == "fail" for part in self.parts),
            "errors": len(self.failures),
        }

    def samples(self) -> tuple[Sample, Sample]:
        """Training and this batch, to be compared: photographs, and the scores of parts that do not fail."""
        good = self.calibration.scores[self.calibration.scores <= self.cut.threshold]
        passed = np.array([part["score"] for part in self.parts if part["verdict"] == "pass"], np.float64)
        if self.cut.raw or self.calibration.stand_ins:  # held-out scores are of another kind, or there are none
            good = passed = np.zeros(0)
        return Sample(self.model.conditions[self.name], good), Sample(self.conditions, passed)

    def draw_summary(self) -> None:
        """Draw the type's figures."""
        pictures.save_summary(self.figures, self, self.config)

    @cached_property
    def family(self) -> ModelFamily:
        """The model; TensorFlow starts with it, where it needs that."""
        family_named(self.model.params["model"]).set_up(self.config.model_training)
        return self.model.load_family()

    def _notes(self) -> list[str]:
        if self.truth is None:
            return []
        notes = []
        unknown = [part["image"] for part in self.parts if part["truth"] is None]
        if unknown:
            notes.append(
                f"{self.name}: the truth does not name {len(unknown)} parts, as {unknown[0]}; they are not measured"
            )
        if len({part.label for part in self.labelled}) != 2:
            notes.append(
                f"{self.name}: the truth has not both good and defective parts; no ROC, PR or confusion matrix"
            )
        return notes

    def _known(self, record: dict[str, Any]) -> dict[str, Any] | None:
        truth = None if self.truth is None else self.truth.part(record["image"], record["name"])
        return None if truth is None else asdict(truth)

    def _verdict(self, record: dict[str, Any], scored: Prediction) -> dict[str, Any]:
        part = self._part(record) | {
            "score": scored.score,
            "p_value": scored.p_value,
            "threshold": self.cut.threshold,
            "verdict": "fail" if scored.failed else "pass",
            "regions": [region.as_dict() for region in scored.regions],
        }
        if self.config.plotting.plot_anomaly_heatmap:
            part["overlay"] = f"{self.name}/figures/{part_files.overlay_name(record)}"
        return part

    def _error(self, record: dict[str, Any]) -> dict[str, Any]:
        return self._part(record) | {"verdict": "error", "reason": record["reason"]}

    def _part(self, record: dict[str, Any]) -> dict[str, Any]:
        return {
            "type": self.name,
            "image": record["image"],
            "source": str(record["source"]),
            "score": None,
            "p_value": None,
            "threshold": None,
            "verdict": "",
            "reason": "; ".join(record.get("notes", ())),
            "overlay": None,
            "width": record.get("width"),
            "height": record.get("height"),
            "regions": [],
            "truth": self._known(record),
        }


def _homography(row: dict[str, Any]) -> NDArray[np.float64]:
    return np.array([[row[f"h{i}{j}"] for j in range(3)] for i in range(3)], np.float64)
