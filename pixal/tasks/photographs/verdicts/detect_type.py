"""New verdicts for one type from the inputs that ``validate`` stored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixal.errors import InputError, ModelError
from pixal.execution import worker_count
from pixal.inputs import InputSet
from pixal.io.files import file_hash, has_hash
from pixal.io.logs import log_to_file
from pixal.report.document import PartResult
from pixal.tasks.photographs.parts import PhotographRecord, PreparedPart
from pixal.tasks.photographs.preprocessing.folders import PREPROCESSING_RECORD, read_validation_inputs
from pixal.tasks.photographs.preprocessing.records import step_hash
from pixal.tasks.photographs.training.stored import state_file
from pixal.tasks.photographs.verdicts.type_verdicts import TypeVerdicts
from pixal.tasks.photographs.verdicts.validate_type import PARTS_PER_WORKER
from pixal.tasks.photographs.verdicts.verdict_store import StoredVerdict, VerdictStore, input_hash


class TypeDetection:
    """Gives the stored inputs of one type new verdicts, with other thresholds or another model for the same inputs.

    Attributes:
        name: The type.
        verdicts: Scores the parts, and holds the results of the batch.
        records: How the photographs were prepared.
    """

    def __init__(self, verdicts: TypeVerdicts) -> None:
        """Read the inputs that ``validate`` stored.

        Raises:
            InputError: If a file is missing or damaged.
            ModelError: If the inputs do not match the model.
        """
        self.verdicts, self.name, self._config, self._model = verdicts, verdicts.name, verdicts.config, verdicts.model
        name, config = self.name, self._config
        self._metadata = config.paths.resolve("validate_metadata_path", name)
        folder = config.paths.resolve("component_validate_path", name)
        self._archive = folder / config.preprocessing.preprocessor.file_name
        self._record_file = self._metadata / PREPROCESSING_RECORD
        self._record_sha256 = step_hash(self._record_file, "validate")
        self._record = read_validation_inputs(self._metadata)
        self.records = self._record.images
        self._inputs = InputSet.load(self._archive)
        self._before: dict[str, PartResult] = {}
        self._check()

    def check_unchanged(self) -> None:
        """Raise ``InputError`` if ``validate`` has run since the inputs were read. It removes their record first."""
        if not has_hash(self._record_file, self._record_sha256):
            raise InputError(f"another run has changed the inputs in {self._archive}; run the same command again")

    def detect(self) -> Iterator[StoredVerdict]:
        """Yield one new verdict per part; after the last one, set the batch that the results show."""
        verdicts = self.verdicts
        key = verdicts.key(self._record.key)
        store = VerdictStore(
            self._metadata,
            self._archive,
            shape=verdicts.shape,
            channels=verdicts.channels,
            type_name=self.name,
            types=verdicts.types,
        )
        self._before = {verdict.part.image: verdict.part for verdict in store.verdicts.values()}
        store.verdicts = {}
        store.rewrite_journal()
        with log_to_file(self._config.paths.resolve("validate_log_path", self.name), "detect"), store:
            for parts in self._chunks():
                for verdict in verdicts.validate_parts(parts, key, verdicts.summary):
                    yield store.add(verdict)
        verdicts.set_batch(list(store.verdicts.values()))

    def is_new(self, verdict: StoredVerdict) -> bool:
        """Whether a verdict that ``detect`` has yielded says something else than the stored one that it replaces."""
        before, part = self._before.get(verdict.part.image), verdict.part
        return before is None or any(
            getattr(before, name) != getattr(part, name) for name in ("verdict", "score", "threshold", "reason")
        )

    def _chunks(self) -> Iterator[list[PreparedPart]]:
        """Yield the parts with their inputs, in chunks."""
        size = PARTS_PER_WORKER * worker_count(self._config.execution)
        rows = {name: row for row, name in enumerate(self._inputs.names)}
        for start in range(0, len(self.records), size):
            chunk = []
            for record in self.records[start : start + size]:
                row = rows[record.image] if record.is_ok else None
                chunk.append(PreparedPart(record, None if row is None else self._input(record, row)))
            yield chunk

    def _input(self, record: PhotographRecord, row: int) -> NDArray[np.float32]:
        """The input of a part, (H, W, C). Raise ``InputError`` if it was changed."""
        image: NDArray[np.float32] = self._inputs.images(slice(row, row + 1))[0]
        if record.input_sha256 not in (None, input_hash(image)):  # records of earlier versions have no hash
            raise InputError(
                f"{self._archive}: the input of {record.image} was changed or is damaged; run validate again"
            )
        return image

    def _check(self) -> None:
        """Check that the inputs match the model."""
        model_record, inputs = self._model.record, self._inputs
        state = file_hash(state_file(self._model.folder, self._model.states[self.name].type_name))
        names = [record.image for record in self.records if record.is_ok]
        compared: tuple[tuple[str, Any, Any], ...] = (
            ("shape differs", list(inputs.shape), list(model_record.shape)),
            ("channels differ", list(inputs.channels), list(model_record.channels)),
            ("preprocessing differs", self._record.preprocessing_sha256, state),
            ("names differ", list(inputs.names), names),
        )
        for difference, actual, expected in compared:
            if actual != expected:
                raise ModelError(
                    f"{self._archive} does not match the model of {self.name} (its {difference}); run validate again"
                )
