"""A stored model without TensorFlow gives the maps of the Keras model, for every family."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from patch_parts import SHAPE, TINY, input_set, part
from specifications import specification

from pixal.inputs import InputSet
from pixal.registry import MODELS, PREDICTORS
from pixal.train_model.combined import Combined
from pixal.train_model.family import AnomalyModel
from pixal.train_model.patch_features.resnets import RESNETS
from pixal.train_model.prediction import Predictor

GOOD = 6
TINY_OPTIONS = {"backbone": "tiny", "weights": "random"}
LITE_OPTIONS = {"backbone": "efficientnet_lite0", "weights": "random"}


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RESNETS, "tiny", replace(TINY, blocks=(1, 1, 1)))
    monkeypatch.setattr(Combined, "_patch_options", TINY_OPTIONS)


def load(path: str) -> Any:
    module, _, attributes = path.partition(":")
    __import__(module)
    found: Any = sys.modules[module]
    for name in attributes.split("."):
        found = getattr(found, name)
    return found


def inputs_of(types: int) -> InputSet:
    """Good parts, the last one with a spot; with several types, in turn."""
    generator = np.random.default_rng(0)
    pattern = 0.2 + 0.6 * np.random.default_rng(99).random(SHAPE)
    images = np.clip(pattern + 0.02 * generator.normal(size=(GOOD + 1, *SHAPE)), 0, 1).astype(np.float32)
    images[-1, 15:20, 20:26] += 0.3
    inputs = input_set(images)
    if types == 1:
        return inputs
    labels = np.eye(types, dtype=np.float32)[np.arange(len(images)) % types]
    return replace(inputs, labels=labels, types=("front", "back"))


def trained(family: str, folder: Path, types: int = 1, **changes: Any) -> tuple[AnomalyModel, Predictor, InputSet]:
    """A trained model that was saved, loaded again by Keras, and to be applied."""
    inputs, model_class = inputs_of(types), MODELS.load(family)
    chosen = {"model": family, "n_epochs": 2, "autoencoder_architecture": [8, 4], "seed": 3} | changes
    settings = specification(shape=SHAPE, types=("front", "back")[:types], one_hot_encoding=types > 1, **chosen)
    model = model_class(settings)
    model.fit(inputs, np.arange(GOOD), np.stack([part()] * types))
    if family == "conv_autoencoder":  # after a short training, much of it is still 0
        generator = np.random.default_rng(1)
        for variable in model.model.trainable_weights:
            variable.assign_add(0.1 * generator.standard_normal(variable.shape))
    files = {path.name for path in model.save(folder)}
    assert any(".inference." in name for name in files), "the file is listed, so that its hash is stored"
    stored = model.spec.model_dump()
    return model_class.load(folder, stored), load(PREDICTORS[family])(folder, stored), inputs


def compare(expected: NDArray[np.float32], actual: NDArray[np.float32]) -> None:
    assert actual.dtype == expected.dtype == np.float32
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5 * max(1.0, float(np.abs(expected).max())))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "types", "changes"),
    [
        ("autoencoder", 1, {}),
        ("autoencoder", 2, {"autoencoder_architecture": [8, 6, 4]}),
        *(("autoencoder", 1, {"output_activation": name}) for name in ("relu", "sigmoid", "tanh")),
        ("autoencoder", 2, {"input_projection": "none", "output_activation": "sigmoid", "input_noise": 0.01}),
        ("autoencoder", 2, {"model_options": {"output": "gaussian"}}),
        ("conv_autoencoder", 2, {"model_options": {"tile": 32, "overlap": 8, "poolings": 3, "dropout": 0.1}}),
        ("conv_autoencoder", 1, {"model_options": {"tile": None, "poolings": 4, "output": "gaussian"}}),
        ("padim", 2, {"model_options": TINY_OPTIONS | {"features": 7}}),
        ("padim", 1, {"model_options": LITE_OPTIONS}),
        ("patchcore", 1, {"model_options": TINY_OPTIONS}),
        ("combined", 2, {}),
        ("combined", 1, {"aligned": False}),
    ],
)
def test_the_maps_are_those_of_keras(family: str, types: int, changes: Mapping[str, Any], tmp_path: Path) -> None:
    model, predictor, inputs = trained(family, tmp_path, types, **changes)
    assert type(predictor).__module__ != type(model).__module__ or family in ("padim", "patchcore")
    for name in ("error", "latent", "difference"):
        if name != "difference" or not model.gives_distance or model.gives_reconstruction:
            compare(getattr(model, name)(inputs, slice(None)), getattr(predictor, name)(inputs, slice(None)))
    assert (predictor.gives_distance, predictor.gives_reconstruction) == (
        model.gives_distance,
        model.gives_reconstruction,
    )
    assert predictor.rows_are_independent
    alone = predictor.error(inputs, slice(2, 3))
    np.testing.assert_array_equal(alone, predictor.error(inputs, slice(None))[2:3])
