"""The results of a benchmark: one row per class, and their table ``master_results.csv``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pixal.io.records import write_table
from pixal.outcome import Tabular

MASTER_TABLE = "master_results.csv"
MEASURES = (
    *("image_auroc", "image_ap", "f1_max", "false_alarm_rate", "detection_rate"),
    *("pixel_auroc", "pixel_ap", "aupro", "aupro_near_part", "aupimo"),
)
NUMBERS = ("images_trained", "parts", *MEASURES, "training_seconds", "seconds_a_part")
MASTER_COLUMNS = ("class", "model", *NUMBERS, "status", "reason")


class ClassResult(BaseModel):
    """The result of one class: a row of ``master_results.csv``, and an entry of ``benchmark.yaml``.

    The measures are those of ``metrics.json`` over all types. A number is None if it is not known.

    Attributes:
        class_name: The name of the class; "mean" for the mean over all classes.
        model: The name of the model family.
        images_trained: The number of good images that the models were trained on.
        parts: The number of parts validated.
        image_auroc: Area under the ROC curve of the scores, in [0, 1].
        image_ap: Average precision of the scores, in [0, 1].
        f1_max: The highest F1 score over all thresholds, in [0, 1].
        false_alarm_rate: The share of good parts that failed.
        detection_rate: The share of defective parts that failed.
        pixel_auroc: Area under the ROC curve of the pixels, in [0, 1].
        pixel_ap: Average precision of the pixels, in [0, 1].
        aupro: Area under the per-region overlap curve, in [0, 1].
        aupro_near_part: The same, against the pixels near the part.
        aupimo: Mean AUPIMO, in [0, 1].
        training_seconds: How long training took, seconds.
        seconds_a_part: How long validation took per part, seconds.
        status: "ok"; "incomplete" if photographs (or classes, for the mean) failed; "failed" if there is no result.
        reason: The reason for a status other than "ok", or "".
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    class_name: str = Field(validation_alias="class", serialization_alias="class")
    model: str
    images_trained: int | float | None = None
    parts: int | float | None = None
    image_auroc: float | None = None
    image_ap: float | None = None
    f1_max: float | None = None
    false_alarm_rate: float | None = None
    detection_rate: float | None = None
    pixel_auroc: float | None = None
    pixel_ap: float | None = None
    aupro: float | None = None
    aupro_near_part: float | None = None
    aupimo: float | None = None
    training_seconds: float | None = None
    seconds_a_part: float | None = None
    status: Literal["ok", "incomplete", "failed"]
    reason: str = ""

    @property
    def numbers(self) -> dict[str, float]:
        """The known numbers, by column."""
        values = {name: getattr(self, name) for name in NUMBERS}
        return {name: value for name, value in values.items() if value is not None}

    def as_row(self) -> dict[str, Any]:
        """Return the content for the table and for ``benchmark.yaml``, by column."""
        return self.model_dump(by_alias=True)

    def __str__(self) -> str:
        numbers = self.numbers
        shown = ("image_auroc", "detection_rate", "aupro")
        words = [f"{name} {numbers[name]:.3f}" for name in shown if name in numbers]
        return ", ".join([*words, *([self.reason] if self.reason else [])]) or "no measures"


@dataclass
class MasterResults(Tabular):
    """The results of a benchmark.

    Attributes:
        path: The file of the table.
        classes: The results of the classes, in the order of their names.
    """

    path: Path
    classes: list[ClassResult] = field(default_factory=list)

    @property
    def mean(self) -> ClassResult:
        """The last row of the table: the mean of each number over the classes for which it is known."""
        means: dict[str, float | None] = {}
        for name in NUMBERS:
            known = [result.numbers[name] for result in self.classes if name in result.numbers]
            means[name] = sum(known) / len(known) if known else None
        failed = sum(result.status == "failed" for result in self.classes)
        reason = f"without {failed} of {len(self.classes)} classes, which failed" if failed else ""
        content = {"class": "mean", "model": self.classes[0].model, **means}
        return ClassResult.model_validate(content | {"status": "incomplete" if failed else "ok", "reason": reason})

    @property
    def failures(self) -> list[str]:
        """The classes that failed, or had photographs that failed, with the reason."""
        return [f"{result.class_name}: {result.reason}" for result in self.classes if result.status != "ok"]

    @property
    def all_failed(self) -> bool:
        """Whether no class has a result."""
        return all(result.status == "failed" for result in self.classes)

    @property
    def failed(self) -> int:
        """See ``Results``; a benchmark gives no verdict."""
        return 0

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of the table."""
        return MASTER_COLUMNS

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of the table: one per class, then the mean."""
        return [result.as_row() for result in (*self.classes, self.mean)] if self.classes else []

    @property
    def headline(self) -> str:
        """The mean over the classes."""
        return f"mean of {len(self.classes)} classes: {self.mean}" if self.classes else "no classes"

    @property
    def written(self) -> tuple[Path, ...]:
        """The table, if it exists."""
        return (self.path,) if self.path.is_file() else ()

    def summary(self) -> str:
        """Return the mean over the classes, and where the table is."""
        return f"{self.headline}; table: {self.path}"

    def write(self, results: Iterable[ClassResult]) -> None:
        """Replace the results, and write the table."""
        self.classes = sorted(results, key=lambda result: result.class_name)
        write_table(self.path, MASTER_COLUMNS, self.rows)
