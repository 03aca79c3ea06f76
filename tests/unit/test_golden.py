"""Each model family on one small stored input: its map does not change, also after saving and loading.

``python tests/unit/test_golden.py`` updates the stored input and maps after an intended change.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pixal.calibration.calibration import calibrate, calibrate_scores
from pixal.calibration.maps import above, calibrated_maps
from pixal.config.schema import ModelTraining
from pixal.inputs import InputSet
from pixal.io.arrays import load_arrays, save_arrays
from pixal.registry import MODELS
from pixal.train_model.family import AnomalyModel, FitControl, anomaly_family_named

STORED = Path(__file__).parent / "data" / "golden.npz"
GOOD, SHAPE = 9, (12, 14, 2)  # the stored input has two more, new parts: one good, one with a spot
FAMILIES = [name for name, path in MODELS.builtin.items() if path.startswith("pixal.train_model.")]  # they give maps
FOLDS = [np.arange(0, 3), np.arange(3, 6), np.arange(6, 9)]
SETTINGS = {
    "autoencoder_architecture": [8, 4],
    "projection_rank": 4,
    "n_epochs": 4,
    "metric_accuracy": False,
    "batchsize": 4,
}
# The families of patch features want colours; these are cut after the first stage of a network, which is soon built.
_FIRST_STAGE = {"backbone": "resnet18", "weights": "random", "layers": ["layer1"], "resize": 48}
PATCH_OPTIONS = {"padim": {**_FIRST_STAGE, "features": 20}, "patchcore": {**_FIRST_STAGE, "coreset": 0.1}}
COLOURED_FAMILIES = {"combined", *PATCH_OPTIONS}
# What makes the fits of a test short.
OPTIONS: dict[str, dict[str, Any]] = {**PATCH_OPTIONS, "conv_autoencoder": {"poolings": 1, "bottleneck": 4}}
BATCH = {"conv_autoencoder": 3}
# Rounding differs between processors, and four epochs of training, or many layers, carry it on.
TOLERANCE = {"autoencoder": 1e-3, "combined": 1e-3, "conv_autoencoder": 1e-3, "padim": 1e-3, "patchcore": 1e-3}


def mask() -> NDArray[np.bool_]:
    part = np.zeros(SHAPE[:2], bool)
    part[1:-1, 1:-1] = True
    return part


def build(name: str) -> AnomalyModel:
    own = {"model": name, "model_options": OPTIONS.get(name, {}), "batchsize": BATCH.get(name, SETTINGS["batchsize"])}
    family, settings = anomaly_family_named(name), ModelTraining.model_validate({**SETTINGS, **own})
    family.set_up(settings)
    channels = channels_of(name)
    shape = [*SHAPE[:2], len(channels)]
    described: dict[str, Any] = {"shape": shape, "input_dim": int(np.prod(shape)), "channels": channels}
    described |= {"types": ["front"], "channel_weights": [1.0] * len(channels), "memory_limit": 1.0}
    return family(settings.model_dump() | described)


def channels_of(name: str) -> list[str]:
    return ["R", "G", "B"] if name in COLOURED_FAMILIES else ["R", "G"]


def inputs_of(name: str, images: NDArray[np.float32]) -> InputSet:
    names, channels = tuple(f"{number}.png" for number in range(len(images))), channels_of(name)
    images = np.concatenate([images, images[..., :1]], axis=-1)[..., : len(channels)]
    return InputSet(images.reshape(len(images), -1), (*SHAPE[:2], len(channels)), tuple(channels), names)


def maps(name: str, inputs: InputSet) -> tuple[AnomalyModel, NDArray[np.float32]]:
    """Fit a model to the good parts; return it and the calibrated maps of the new parts."""
    model = build(name)
    weights = np.ones(1 if model.gives_distance else SHAPE[2], np.float32)
    settings: dict[str, Any] = {"mask": mask(), "weights": weights, "smoothing": 1.0}
    if model.leaves_one_out:
        model.fit(inputs, np.arange(GOOD), mask()[None])
        calibration = calibrate_scores(model.left_out_error(inputs, np.arange(GOOD)), np.arange(GOOD), **settings)
    else:
        held_out = np.empty((GOOD, *SHAPE[:2], len(weights)), np.float32)
        folds = FOLDS if model.folds_are_cheap else FOLDS[:1]
        for fold in folds:
            model.fit(inputs, np.setdiff1d(np.arange(GOOD), fold), mask()[None], FitControl(validation_rows=fold))
            held_out[fold] = model.error(inputs, fold)
        if model.folds_are_cheap:
            model.fit(inputs, np.arange(GOOD), mask()[None])
        calibration = calibrate(held_out[: sum(map(len, folds))], folds, distances=model.gives_distance, **settings)
    errors = above(model.error(inputs, np.arange(GOOD, len(inputs))), calibration.center)
    return model, calibrated_maps(errors, calibration.variance, **settings)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_the_map_of_the_stored_input_agrees_with_the_stored_map(name: str, tmp_path: Path) -> None:
    stored = load_arrays(STORED)
    inputs = inputs_of(name, stored["images"])
    model, actual = maps(name, inputs)
    np.testing.assert_allclose(actual, stored[name], rtol=TOLERANCE.get(name, 1e-4), atol=1e-4)
    assert actual[1].max() > 2 * actual[0].max()  # the spot
    files = model.save(tmp_path)
    assert all(path.parent == tmp_path and path.is_file() for path in files)
    before = {path: path.read_bytes() for path in files}
    loaded = type(model).load(tmp_path, model.spec)
    for ask in ("error", "latent"):
        actual, other = (getattr(one, ask)(inputs, slice(None)) for one in (model, loaded))
        assert actual.dtype == np.float32
        assert actual.tobytes() == other.tobytes(), ask
    again, _ = maps(name, inputs)
    again.save(tmp_path)
    assert {path: path.read_bytes() for path in files} == before


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_one_or_two_good_images_give_finite_errors(name: str) -> None:
    inputs = inputs_of(name, load_arrays(STORED)["images"])
    for count in (1, 2):
        model = build(name)
        model.fit(inputs, np.arange(count), mask()[None])
        assert np.isfinite(model.error(inputs, slice(None))).all()
        assert np.isfinite(model.latent(inputs, slice(None))).all()


def store() -> None:
    """Draw the input, and store it with the maps of the current models."""
    generator = np.random.default_rng(20)
    drawn = 0.3 + 0.3 * generator.random(SHAPE) + 0.05 * generator.normal(size=(GOOD + 2, 1, 1, 1))
    drawn = drawn + 0.01 * generator.normal(size=(GOOD + 2, *SHAPE))
    drawn[-1, 5:8, 6:9] += 0.15
    images = np.asarray(drawn * mask()[..., None], np.float32)
    actual = {name: maps(name, inputs_of(name, images))[1] for name in FAMILIES}
    STORED.parent.mkdir(exist_ok=True)
    save_arrays(STORED, images=images, **actual)


if __name__ == "__main__":
    store()
