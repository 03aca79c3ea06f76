"""The verdicts on the parts of one type: scored, drawn, and noted."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.config import Config
from pixal.errors import ModelError
from pixal.execution import map_parallel, progress
from pixal.inputs import InputSet
from pixal.outcome import Failure
from pixal.preprocessing.folders import PREPROCESSING_RECORD
from pixal.records import file_hash, read_record
from pixal.train_model.model_folder import TrainedModel, state_file
from pixal.validation import pictures
from pixal.validation.metrics import PixelCounts, Truth
from pixal.validation.scoring import Scored, Summary, choose_cut, score_parts


class TypeVerdicts:
    """The verdicts on the parts of one type."""

    def __init__(self, name: str, model: TrainedModel, truth: Truth | None, config: Config, quiet: bool) -> None:
        self.name, self.model, self.truth, self.config, self.quiet = name, model, truth, config, quiet
        self.state = model.states[name]
        self.calibration = model.calibrations[name]
        self.cut = choose_cut(self.calibration, config)
        self.parts: list[dict[str, Any]] = []
        self.failures: list[Failure] = []
        self.labelled: list[dict[str, Any]] = []
        self.notes: list[str] = []
        self.counts = PixelCounts()

    def run(self) -> None:
        """Score every prepared part, draw it, and note its row; parts that could not be prepared are noted too."""
        records, ok, inputs = self._load()
        self.summary = Summary((*self.state.mask.shape, inputs.shape[2]))
        outcomes = {scored[0]["image"]: scored for scored in self._scored(inputs, ok)}
        for record in records:
            if record["image"] in outcomes:
                self._note(*outcomes[record["image"]])
            else:
                self._note_error(record)
        if self.truth is not None:
            unknown = [part["image"] for part in self.parts if part["truth"] is None]
            if unknown:
                self.notes.append(
                    f"{self.name}: the truth does not name {len(unknown)} parts, as {unknown[0]}; they are not measured"
                )
        folder = self.config.paths.resolve("validate_figures_path", self.name)
        pictures.save_summary(folder, self, self.config)

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

    def _load(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]], InputSet]:
        paths = self.config.paths
        record = read_record(paths.resolve("validate_metadata_path", self.name) / PREPROCESSING_RECORD)
        path = paths.resolve("component_validate_path", self.name) / self.config.preprocessing.preprocessor.file_name
        inputs = InputSet.load(path)
        ok = [row for row in record["images"] if row["status"] == "ok"]
        params = self.model.params
        for what, ours, theirs in (
            ("shape", list(inputs.shape), list(params["shape"])),
            ("channels", list(inputs.channels), list(params["channels"])),
            (
                "preprocessing",
                record["preprocessing_sha256"],
                file_hash(state_file(self.model.folder, self.name)),
            ),
            ("names", list(inputs.names), [row["image"] for row in ok]),
        ):
            if ours != theirs:
                raise ModelError(
                    f"{path} does not match the model of {self.name} (its {what} differ); run validate again"
                )
        return record["images"], ok, inputs

    def _scored(self, inputs: InputSet, ok: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], Scored, Any]]:
        """Score all parts, then draw them in parallel; yields record, outcome, and pixel counts of each."""
        if not ok:
            return
        to_input = [self.state.photo_to_input(_homography(row)) for row in ok]
        scored = score_parts(
            inputs,
            ok,
            self.model.load_family(),
            self.calibration,
            mask=self.state.mask,
            cut=self.cut,
            params=self.model.params,
            config=self.config,
            to_input=to_input,
            summary=self.summary,
        )
        results = list(progress(scored, len(ok), step=f"{self.name}: scoring", quiet=self.quiet))
        work = partial(
            pictures.save_part,
            truth=self.truth,
            cut=self.cut,
            figures=self.config.paths.resolve("validate_figures_path", self.name),
            maps=self.config.paths.resolve("validate_anomaly_maps_path", self.name)
            if self.config.validation.save_anomaly_maps
            else None,
            overlays=self.config.plotting.plot_anomaly_heatmap,
        )
        jobs = list(zip(ok, results, to_input, strict=True))
        step = f"{self.name}: maps and overlays"
        for (row, result, _), counts in zip(
            jobs, map_parallel(work, jobs, self.config.execution, step=step, quiet=self.quiet), strict=True
        ):
            yield row, result, counts

    def _note(self, record: dict[str, Any], scored: Scored, counts: PixelCounts | None) -> None:
        part = self._part(record) | {
            "score": scored.score,
            "p_value": scored.p_value,
            "threshold": self.cut.threshold,
            "verdict": "fail" if scored.failed else "pass",
            "regions": [region.as_dict() for region in scored.regions],
        }
        if self.config.plotting.plot_anomaly_heatmap:
            part["overlay"] = f"{self.name}/figures/{pictures.overlay_name(record)}"
        self.parts.append(part)
        if part["truth"] is not None:
            self.labelled.append({**part["truth"], "score": scored.score, "failed": scored.failed})
            if counts is not None:
                self.counts = self.counts + counts

    def _note_error(self, record: dict[str, Any]) -> None:
        self.failures.append(Failure(self.name, record["image"], "preprocessing", record["reason"]))
        self.parts.append(self._part(record) | {"verdict": "error", "reason": record["reason"]})

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
            "truth": None if self.truth is None else self.truth.of(record["image"], record["name"]),
        }


def _homography(row: dict[str, Any]) -> NDArray[np.float64]:
    return np.array([[row[f"h{i}{j}"] for j in range(3)] for i in range(3)], np.float64)
