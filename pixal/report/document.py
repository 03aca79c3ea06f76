"""The content of ``results.json``. The report and all tables are written from it.

``docs/results.schema.json`` describes the file; ``tests/unit/test_schemas.py`` compares the two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_serializer,
    model_serializer,
)

from pixal.errors import InputError
from pixal.io.files import read_bytes
from pixal.io.json_text import parse_json
from pixal.validation.regions import Region

SCHEMA_VERSION: Literal[1] = 1


def _finite(value: Any) -> float | None:
    """JSON has no NaN and no infinity: both become None."""
    return None if value is None or not math.isfinite(value) else float(value)


FiniteOrNone = Annotated[float | None, BeforeValidator(_finite)]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", from_attributes=True, protected_namespaces=())


@dataclass(frozen=True)
class PartTruth:
    """The true label of a part.

    Attributes:
        label: 0 for a good part, 1 for a defective one.
        kind: The kind of its defect; kinds are joined by "+"; may be empty.
    """

    label: int
    kind: str


class PartResult(_Model):
    """The verdict on one part: a row of ``results.csv``.

    Attributes:
        type: The image type.
        image: The photograph's file name.
        source: The photograph's path.
        score: The largest value of the anomaly map; None with verdict "error".
        p_value: How often a good part scores this high, in [0, 1]; None with verdict "error" or a numeric ``loss_cut``.
        p_value_extrapolated: Whether ``p_value`` is below 1 / (1 + number of held-out good parts), and comes from a
            distribution fitted to their scores.
        threshold: The part fails above this score; None with verdict "error".
        verdict: "pass", "fail", or "error" for a photograph that could not be processed.
        reason: Why the photograph could not be processed; otherwise notes on the part, or "".
        overlay: Path of the overlay relative to the folder of ``results.json``; None if there is none.
        width: The photograph's width in pixels; None if it could not be read.
        height: The photograph's height in pixels; None if it could not be read.
        regions: Regions above the threshold, worst first.
        truth: What ``--truth`` says about the part; None if it says nothing.
    """

    type: str
    image: str
    source: str
    score: FiniteOrNone
    p_value: FiniteOrNone
    p_value_extrapolated: bool = False
    threshold: FiniteOrNone
    verdict: Literal["pass", "fail", "error"]
    reason: str
    overlay: str | None
    width: int | None
    height: int | None
    regions: tuple[Region, ...] = ()
    truth: PartTruth | None = None

    @field_serializer("regions")
    def _known_values(self, regions: tuple[Region, ...]) -> list[dict[str, Any]]:
        return [region.as_dict() for region in regions]


class PartVerdict(_Model):
    """The verdict on a part of which there are several views: photographs of different image types.

    Attributes:
        part: The name that its photographs have in common.
        verdict: "fail" if a view fails, else "error" if one could not be processed, else "pass".
        p_value: How often a good part would have a view that deviates this much, in [0, 1]: the smallest p-value of its
            views times their number (Bonferroni 1936), which holds however views depend on each other. None if no view
            has a p-value.
        views: The photograph of each view, by image type.
        failed: The image types of the views that fail.
        missing: The image types of the batch of which the part has no photograph.
    """

    part: str
    verdict: Literal["pass", "fail", "error"]
    p_value: FiniteOrNone
    views: dict[str, tuple[str, ...]]
    failed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


class ModelOrigin(_Model):
    """The model that gave the verdicts on the parts of a type.

    Attributes:
        family: The model family.
        name: Name of its files.
        trained: When it was trained, ISO 8601.
        good_images: Number of good images it was trained on.
        record_sha256: Hash of its record; "" if not known.
        data_sha256: SHA-256 of the file of its training data; "" if not known.
        frame: Height and width of its input in pixels; None if not known.
    """

    family: str
    name: str
    trained: str
    good_images: int
    record_sha256: str = ""
    data_sha256: str = ""
    frame: tuple[int, int] | None = None


class TypeSummary(_Model):
    """Threshold, model and counts of the parts of one type.

    Attributes:
        threshold: A part fails above this score.
        method: How the threshold was chosen.
        false_alarm_rate: Requested share of good parts that may fail, in [0, 1].
        adapted_rate: The rate of photographs that the threshold is set for, in [0, 1], with ``validation.adapt``; else
            None.
        training_scores: Scores of the held-out good parts; empty with a numeric ``loss_cut``.
        parts: Number of parts.
        failed: Number of parts with verdict "fail".
        errors: Number of parts with verdict "error".
        model: The model that gave the verdicts; None in results of earlier versions.
    """

    threshold: float
    method: str
    false_alarm_rate: float
    training_scores: tuple[float, ...]
    parts: int
    failed: int
    errors: int
    model: ModelOrigin | None = None
    adapted_rate: float | None = None


@dataclass(frozen=True)
class DriftFinding:
    """A quantity in which a batch differs from training.

    Attributes:
        type: The image type.
        quantity: Name of the quantity, such as "brightness".
        training: Median over the good parts of training.
        batch: Median over the batch.
        p_value: Probability of so large a difference by chance, corrected for the number of tests.
        test: "rank", "interval" or "share".
        message: The finding in words.
        advice: What to do about it.
    """

    type: str
    quantity: str
    training: float
    batch: float
    p_value: float
    test: str
    message: str
    advice: str


class DriftSummary(_Model):
    """The drift of a batch against training.

    Attributes:
        level: Probability that a batch taken like training has any finding.
        findings: The differences found.
    """

    level: float
    findings: tuple[DriftFinding, ...] = ()


class BatchOrigin(_Model):
    """Which batch the results are of.

    Attributes:
        name: The name of the batch.
        source: Absolute path of the folder of its photographs, or of its only photograph; "" if not known.
        started: When its first run began, ISO 8601.
    """

    name: str
    source: str
    started: str


class ModelSummary(_Model):
    """The model that gave the verdicts; for several types, that of the first.

    Attributes:
        family: The model family.
        name: Name of its files.
        trained: When it was trained, ISO 8601.
        good_images: Number of good images it was trained on.
        type: The type that ``validate --model`` named; None if each type has its own model.
    """

    family: str
    name: str
    trained: str
    good_images: int = Field(
        validation_alias=AliasChoices("good_images", "good images"), serialization_alias="good images"
    )
    type: str | None = None

    @model_serializer(mode="wrap")
    def _without_none(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in handler(self).items() if value is not None}


class MetricsDocument(_Model):
    """The content of ``metrics.json``: measures against the known truth.

    Attributes:
        types: Measures of each type, by name of the measure.
        overall: Measures of all parts together.
    """

    types: dict[str, dict[str, JsonValue]]
    overall: dict[str, JsonValue]


class ResultsDocument(_Model):
    """The content of ``results.json``.

    Attributes:
        schema_version: Changes when a field changes its meaning or is removed.
        component: Name of the component.
        batch: Which batch it is; None for a task without batches.
        created: When the results were written, ISO 8601.
        pixal_version: The version of PIXAL that wrote them.
        model: The model that gave the verdicts.
        drift: How the batch differs from training.
        notes: Notes for the reader, one sentence each.
        sensitivity: Which planted defects the model of each type finds, one sentence per kind; by type. Types whose
            model was not tried out are missing.
        types: Summary of each type, by name.
        metrics: Measures against the truth; None without truth.
        parts: All parts, by type and then by photograph.
        part_verdicts: The parts of which there can be several views; empty in a batch of one type.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    component: str
    batch: BatchOrigin | None = None
    created: str
    pixal_version: str
    model: ModelSummary
    drift: DriftSummary
    notes: tuple[str, ...] = ()
    sensitivity: dict[str, tuple[str, ...]] = {}
    types: dict[str, TypeSummary]
    metrics: MetricsDocument | None = None
    parts: tuple[PartResult, ...]
    part_verdicts: tuple[PartVerdict, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The document for ``json.dumps``."""
        return self.model_dump(mode="json", by_alias=True)


def read_results(path: Path) -> ResultsDocument:
    """Read a ``results.json``. Raise ``InputError`` if it cannot be read, or is none of this version."""
    try:
        return ResultsDocument.model_validate(parse_json(read_bytes(path)))
    except InputError as error:
        raise InputError(f"{path} {error}") from error
    except (ValueError, ValidationError) as error:
        raise InputError(
            f"{path} is not a results.json of this version of PIXAL; run validate or detect again"
        ) from error
