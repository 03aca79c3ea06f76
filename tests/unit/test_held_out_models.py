"""Models that did not see a fold, fitted again after training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from specifications import specification

from pixal.inputs import InputSet
from pixal.train_model.checkpoint import Checkpoint
from pixal.train_model.family import anomaly_family_named, as_anomaly_model
from pixal.train_model.folds import cross_validation_folds, fit_all, held_out_models, held_out_positions

SHAPE = (6, 7, 2)


def good_parts(count: int = 11) -> InputSet:
    generator = np.random.default_rng(0)
    pattern = generator.random(SHAPE)
    images = np.clip(pattern + generator.normal(0, 0.05, (count, *SHAPE)), 0, 1).astype(np.float32)
    return InputSet(images.reshape(count, -1), SHAPE, ("R", "G"), tuple(f"{i}.png" for i in range(count)))


@pytest.mark.parametrize("model", ["gaussian", "autoencoder"])
@pytest.mark.parametrize("options", [{}, {"input_projection": "none"}], ids=["folds", "single fit"])
def test_they_are_those_of_training(model: str, options: dict[str, Any], tmp_path: Path) -> None:
    """Also of a fold in the middle alone, and for a family whose stored model is the one that did not see its fold."""
    inputs, masks = good_parts(), np.ones((1, *SHAPE[:2]), bool)
    settings = specification(SHAPE, model=model, calibration_folds=4, n_epochs=6, **options)
    family = anomaly_family_named(model)
    folds = cross_validation_folds(family(settings), inputs, settings)
    assert len(folds) == (1 if model == "autoencoder" and options else 4)
    held_out = np.sort(np.concatenate(folds))
    with Checkpoint(tmp_path, {}, (len(held_out), *SHAPE), resume=False) as checkpoint:
        fitted = fit_all(family, settings, inputs, masks, folds, checkpoint, name="front", quiet=True)
        errors = np.array(checkpoint.errors)
    wanted = [0] if len(folds) == 1 else [2]
    ((index, found),) = held_out_models(fitted.model, inputs, masks, folds, wanted)
    rows = folds[index]
    np.testing.assert_allclose(
        as_anomaly_model(found).error(inputs, rows), errors[held_out_positions(rows, folds)], rtol=1e-4, atol=1e-6
    )
