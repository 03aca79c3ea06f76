"""A trained model depends on every validation setting except those that are marked."""

from __future__ import annotations

from typing import Any

import pytest

from pixal.config import load_config
from pixal.config.section import Mark, marked
from pixal.tasks.photographs.settings import PhotographConfig, PhotographParameters, Validation
from pixal.tasks.photographs.training.train import _PhotographTraining

CHANGED: dict[str, Any] = {
    "false_alarm_rate": 0.2,
    "adapt": True,
    "views_per_part": 2,
    "part_pattern": "(part_[0-9]+)",
    "notify": {"command": "true"},
    "threshold": {"method": "fixed", "value": 3.0},
    "map_smoothing": 2.5,
    "region_threshold": 0.3,
    "pixel_size_mm": 0.7,
    "drift_level": 0.3,
    "save_anomaly_maps": False,
    "watch_interval": 7.0,
    "sensitivity": "full",
}
UNUSED = marked(Validation, Mark.NOT_IN_TRAINING) | marked(Validation, Mark.NO_RESULT)


def training_settings(validation: dict[str, Any]) -> dict[str, Any]:
    shipped = load_config()
    parameters = PhotographParameters.model_validate({"validation": validation})
    return _PhotographTraining(None, PhotographConfig(parameters, shipped.paths, shipped.source)).settings


def test_every_validation_setting_is_tested() -> None:
    assert CHANGED.keys() == Validation.model_fields.keys()
    assert {"region_threshold", "pixel_size_mm", "save_anomaly_maps"} <= UNUSED


@pytest.mark.parametrize("name", CHANGED)
def test_a_setting_changes_what_a_model_depends_on_unless_it_is_marked(name: str) -> None:
    default, changed = training_settings({}), training_settings({name: CHANGED[name]})
    assert (changed == default) == (name in UNUSED)
    if name not in UNUSED:
        assert {key for key in default if default[key] != changed[key]} == {f"validation.{name}"}
