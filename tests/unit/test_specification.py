"""The specification of a model: what it accepts, what it refuses, and what it stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from specifications import specification

from pixal.errors import ConfigError, ModelError
from pixal.io.records import read_record, write_record
from pixal.train_model.conv_autoencoder.options import ConvSpecification
from pixal.train_model.family import AnomalyModel, ModelFamily, as_anomaly_model
from pixal.train_model.gaussian import Gaussian
from pixal.train_model.history import History
from pixal.train_model.specification import ModelSpecification

SHAPE = (4, 5, 3)


class Predictor(ModelFamily):
    """A family that shows no anomalies."""

    def fit(self, *_: Any, **__: Any) -> History:
        return History()

    def save(self, folder: Path) -> list[Path]:
        return []

    @classmethod
    def load(cls, folder: Path, specification: Any) -> Predictor:
        return cls(specification)


def test_a_specification_survives_the_metadata_file(tmp_path: Path) -> None:
    spec = specification(SHAPE, types=("back", "front"), learning_rate=0.25)
    path = tmp_path / "model_training.yaml"
    write_record(path, spec.model_dump() | {"created": "today", "a key of a task": [1, 2]})
    assert ModelSpecification.read(read_record(path)) == spec


def test_missing_keys_are_all_named() -> None:
    content = specification(SHAPE).model_dump()
    for key in ("input_dim", "shape", "autoencoder_architecture"):
        del content[key]
    with pytest.raises(ModelError, match="lack 'autoencoder_architecture', 'input_dim', 'shape'; run train again"):
        Gaussian(content)


@pytest.mark.parametrize(
    ("key", "value"), [("shape", [4, 5]), ("input_dim", "many"), ("batchsize", 0), ("model", "forest")]
)
def test_a_bad_value_is_named(key: str, value: Any) -> None:
    with pytest.raises(ModelError, match=rf"have a bad value for {key}\b.*; run train again"):
        Gaussian(specification(SHAPE).model_dump() | {key: value})


def test_a_setting_added_after_training_has_its_default() -> None:
    content = specification(SHAPE).model_dump()
    del content["jit_compile"]
    assert ModelSpecification.read(content).jit_compile is False


def test_a_model_keeps_what_its_family_stores() -> None:
    stored = specification(SHAPE).model_dump() | {"spread": [0.1, 0.2, 0.3]}
    assert ConvSpecification.read(stored).spread == (0.1, 0.2, 0.3)
    assert "spread" not in ModelSpecification.read(stored).model_dump()


def test_options_of_another_family_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model_options\.coreset: extra .* the options of gaussian are: none"):
        Gaussian(specification(SHAPE, model_options={"coreset": 0.5}))


def test_the_error_has_one_weight_per_channel_or_one_for_a_distance() -> None:
    spec = specification(SHAPE, channel_weights=(1.0, 2.0, 0.5))
    assert spec.error_weights == {"R": 1.0, "G": 2.0, "B": 0.5}
    assert specification(SHAPE, gives_distance=True).error_weights == {"distance": 1.0}


def test_a_family_without_error_maps_is_refused_by_a_task_that_needs_them(tmp_path: Path) -> None:
    model = Predictor(specification(SHAPE))
    assert not isinstance(model, AnomalyModel)
    with pytest.raises(ConfigError, match=r"^model_training\.model: gaussian does not show where a part differs"):
        as_anomaly_model(model)
    gaussian = Gaussian(specification(SHAPE))
    assert as_anomaly_model(gaussian) is gaussian


def test_weights_of_a_family_without_weights_are_refused(tmp_path: Path) -> None:
    for use in (Gaussian(specification(SHAPE)).write_weights, Gaussian(specification(SHAPE)).load_weights):
        with pytest.raises(ModelError, match=r"^gaussian has no weights"):
            use(tmp_path / "gaussian.weights.h5")
