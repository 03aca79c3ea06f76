"""From inputs that were prepared before to new verdicts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pixal.errors import ModelError
from pixal.execution import worker_count
from pixal.inputs import InputSet
from pixal.io.files import file_hash
from pixal.io.logs import log_to_file
from pixal.io.records import read_record
from pixal.tasks.photographs.preprocessing.folders import PREPROCESSING_RECORD
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.training.stored import TrainedModel, state_file
from pixal.tasks.photographs.verdicts.truth import Truth
from pixal.tasks.photographs.verdicts.type_verdicts import PORTION, TypeVerdicts
from pixal.tasks.photographs.verdicts.verdict_store import Entry, JudgedParts


class TypeRejudging:
    """Judges the inputs of one type anew: with other thresholds, or another model of the same inputs."""

    def __init__(self, name: str, model: TrainedModel, truth: Truth | None, config: PhotographConfig) -> None:
        """Raises ModelError where the inputs are not as the model needs them."""
        self.name, self.config, self.model = name, config, model
        self.verdicts = TypeVerdicts(name, model, truth, config)
        self._metadata = config.paths.resolve("validate_metadata_path", name)
        folder = config.paths.resolve("component_validate_path", name)
        self._path = folder / config.preprocessing.preprocessor.file_name
        self._record = read_record(self._metadata / PREPROCESSING_RECORD)
        self.records: list[dict[str, Any]] = self._record["images"]
        self._inputs = InputSet.load(self._path)
        self._check()

    def judge(self) -> Iterator[Entry]:
        """Judge all parts, and gather them; yields their entries."""
        key = self.verdicts.key(self._record["key"])
        judged = JudgedParts(self._metadata, self._path, self._inputs.shape)
        judged.entries = {}
        judged.rewrite()
        portion = PORTION * worker_count(self.config.execution)
        done = 0
        with log_to_file(self.config.paths.resolve("validate_log_path", self.name), "detect"), judged:
            for start in range(0, len(self.records), portion):
                records = self.records[start : start + portion]
                ok = sum(row["status"] == "ok" for row in records)
                inputs = self._inputs.subset(slice(done, done + ok))
                done += ok
                for entry in self.verdicts.judge(records, inputs, key, self.verdicts.summary):
                    judged.add(entry, None)
                    yield entry
        self.verdicts.gather(list(judged.entries.values()))

    def _check(self) -> None:
        """The inputs against the model."""
        params, record, inputs = self.model.params, self._record, self._inputs
        for what, ours, theirs in (
            ("shape", list(inputs.shape), list(params["shape"])),
            ("channels", list(inputs.channels), list(params["channels"])),
            (
                "preprocessing",
                record["preprocessing_sha256"],
                file_hash(state_file(self.model.folder, self.model.states[self.name].type_name)),
            ),
            ("names", list(inputs.names), [row["image"] for row in self.records if row["status"] == "ok"]),
        ):
            if ours != theirs:
                raise ModelError(
                    f"{self._path} does not match the model of {self.name} (its {what} differ); run validate again"
                )
