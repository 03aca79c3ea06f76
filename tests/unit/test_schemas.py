"""The JSON schemas of ``results.json`` and ``metrics.json``: sound, complete, and strict.

``tests/unit/test_cluster_validation.py`` compares that of charge clusters with what is written.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError
from referencing import Registry, Resource

from pixal.report.document import (
    SCHEMA_VERSION,
    BatchOrigin,
    DriftFinding,
    DriftSummary,
    MetricsDocument,
    ModelSummary,
    PartResult,
    PartTruth,
    PartVerdict,
    ResultsDocument,
    TypeSummary,
)
from pixal.report.measures import MEASURES
from pixal.report.part_verdicts import join_views
from pixal.tasks.photographs.verdicts.drift import QUANTITIES
from pixal.validation.metrics import LabelledPart, compute_measures
from pixal.validation.pixel_metrics import PixelCounts, compute_pixel_measures
from pixal.validation.regions import Region

DOCS = Path(__file__).parents[2] / "docs"
NAMES = ("results", "metrics", "cluster_metrics")
SCHEMAS = {name: json.loads((DOCS / f"{name}.schema.json").read_text("utf-8")) for name in NAMES}
REGISTRY = Registry().with_resources((schema["$id"], Resource.from_contents(schema)) for schema in SCHEMAS.values())


def check(name: str, document: Any) -> None:
    """Raise ValidationError where the document is not as its schema says."""
    Draft202012Validator(SCHEMAS[name], registry=REGISTRY).validate(document)


def measures() -> dict[str, Any]:
    parts = [LabelledPart(int(i > 3), "a+b" if i > 5 else "", float(i), i > 4) for i in range(8)]
    return compute_measures(parts, PixelCounts()).as_dict() | asdict(compute_pixel_measures(PixelCounts()))


def document() -> dict[str, Any]:
    region = Region(1, 2, 3, 4, 5.0, 6.0, "R", (0, 1, 1, 2), 0.1, 0.2, 0.3)
    part = PartResult(
        type="front",
        image="a.jpg",
        source="x/a.jpg",
        score=2.5,
        p_value=0.01,
        threshold=2.0,
        verdict="fail",
        reason="",
        overlay=None,
        width=640,
        height=480,
        regions=(region,),
        truth=PartTruth(1, "scratch"),
    )
    unknown = dict.fromkeys(("score", "p_value", "threshold", "width", "height", "truth"))
    error = {**unknown, "verdict": "error", "reason": "is truncated", "regions": ()}
    finding = DriftFinding("front", "score", 1.0, 2.0, 1e-9, "rank", "Scores: higher", "Look.")
    summary = TypeSummary(
        threshold=2.0,
        method="tail",
        false_alarm_rate=0.01,
        training_scores=(1.0, 1.5),
        parts=2,
        failed=1,
        errors=1,
    )
    return ResultsDocument(
        component="Part",
        batch=BatchOrigin(name="lot 7", source="/x", started="2026-01-01T00:00:00+00:00"),
        created="2026-01-01T00:00:00+00:00",
        pixal_version="0.1.0",
        model=ModelSummary(family="f", name="n", trained="2026-01-01T00:00:00+00:00", good_images=5),
        drift=DriftSummary(level=0.001, findings=(finding,)),
        notes=("a note",),
        types={"front": summary},
        metrics=MetricsDocument(types={"front": measures()}, overall=measures()),
        parts=(part, part.model_copy(update=error)),
        part_verdicts=join_views((part, part.model_copy(update=error | {"type": "back"}))),
    ).as_json()


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_schemas_are_sound_versioned_and_describe_every_field(name: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[name])
    assert SCHEMAS[name]["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    assert SCHEMAS[name]["$id"] == f"urn:pixal:{name}:{SCHEMA_VERSION}"
    for place, schema in _objects(SCHEMAS[name], name):
        assert schema["additionalProperties"] is False, place
        for key, field in schema["properties"].items():
            assert field.get("description", "").endswith("."), f"{place}.{key}"


def _objects(schema: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each object with named fields, and where in the schema it is."""
    if isinstance(schema, dict):
        if schema.get("type") == "object" and "properties" in schema:
            yield place, schema
        for key, inner in schema.items():
            yield from _objects(inner, f"{place}.{key}")
    elif isinstance(schema, list):
        for inner in schema:
            yield from _objects(inner, place)


def test_the_schemas_have_the_fields_of_the_code() -> None:
    definitions = SCHEMAS["results"]["$defs"]
    for name, model in (
        ("batch", BatchOrigin),
        ("part", PartResult),
        ("type", TypeSummary),
        ("part_verdict", PartVerdict),
    ):
        assert list(definitions[name]["properties"]) == list(model.model_fields)
    for name, kind in (("region", Region), ("finding", DriftFinding)):
        assert list(definitions[name]["properties"]) == [field.name for field in fields(kind)]
    assert set(SCHEMAS["results"]["properties"]) == set(ResultsDocument.model_fields)
    finding = definitions["finding"]["properties"]
    assert set(finding["quantity"]["enum"]) == set(QUANTITIES)
    known = SCHEMAS["metrics"]["$defs"]["measures"]["properties"].keys()
    assert known == measures().keys()
    assert known >= MEASURES.keys()


def test_what_the_code_writes_is_valid() -> None:
    whole = json.loads(json.dumps(document()))
    assert whole["model"]["good images"] == 5
    assert "type" not in whole["model"]
    assert whole["parts"][1]["score"] is None
    check("results", whole)
    check("metrics", whole["metrics"])
    check("results", whole | {"metrics": None, "batch": None})


FAULTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "another version": lambda d: d.update(schema_version=2),
    "a field too many": lambda d: d.update(comment="x"),
    "a field too few": lambda d: d["parts"][0].pop("source"),
    "a verdict of its own": lambda d: d["parts"][0].update(verdict="maybe"),
    "an error with a score": lambda d: d["parts"][1].update(score=1.0),
    "an error without a reason": lambda d: d["parts"][1].update(reason=""),
    "a pass without a score": lambda d: d["parts"][0].update(verdict="pass", score=None),
    "a region without an area": lambda d: d["parts"][0]["regions"][0].pop("area_px"),
    "a reference of three numbers": lambda d: d["parts"][0]["regions"][0].update(reference=[1, 2, 3]),
    "half of the millimetres": lambda d: d["parts"][0]["regions"][0].pop("area_mm2"),
    "a drift without a level": lambda d: d["drift"].pop("level"),
    "a drift of something else": lambda d: d["drift"]["findings"][0].update(quantity="mood"),
    "a label that is none": lambda d: d["parts"][0]["truth"].update(label=2),
    "a share above 1": lambda d: d["metrics"]["overall"].update(aupimo=1.2),
    "an interval without an end": lambda d: d["metrics"]["overall"]["intervals"].update(image_ap=[0.5]),
    "a kind without parts": lambda d: d["metrics"]["overall"]["kinds"]["a"].update(parts=0),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str) -> None:
    broken = copy.deepcopy(document())
    FAULTS[fault](broken)
    with pytest.raises(ValidationError):
        check("results", json.loads(json.dumps(broken)))
