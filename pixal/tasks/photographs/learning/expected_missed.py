"""The share of known defects that a model is expected to miss, as its trial has stated it."""

from __future__ import annotations

from pixal.config import Config
from pixal.errors import InputError
from pixal.io.records import read_record
from pixal.tasks.photographs.training.stored import TrainedModel

TRIAL_RECORD = "promotion.yaml"
"""The record of the trial, in the metadata folder of a model that was a candidate."""


def expected_missed(config: Config, type_name: str, model: TrainedModel) -> list[str]:
    """The sentence about known defects, if the model was compared with another one before it was put in place.

    Args:
        config: The settings.
        type_name: The type.
        model: The model.
    """
    try:
        record = read_record(config.paths.resolve("metadata_path", model.owner) / TRIAL_RECORD)
        is_same = record["models"]["candidate"]["record_sha256"] == model.record.record_sha256
        sentence = record["types"][type_name]["expected_missed"]
    except (InputError, KeyError, TypeError):
        return []
    return [sentence] if is_same and isinstance(sentence, str) else []
