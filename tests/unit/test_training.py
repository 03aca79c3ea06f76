"""The train command on synthetic inputs: what it writes and what it refuses."""

from __future__ import annotations

import dataclasses
import logging
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import yaml
from helpers import collect_runs, make_config

from pixal.calibration.spread import error_variance
from pixal.calibration.thresholds import choose_threshold
from pixal.cli import main
from pixal.commands.train import train
from pixal.errors import ConfigError, InputError, ModelError
from pixal.inputs import InputSet, InputSetWriter
from pixal.io.files import file_hash
from pixal.io.ownership import MANIFEST
from pixal.io.records import read_record, with_hash, write_record
from pixal.tasks.photographs.alignment.align import Reference
from pixal.tasks.photographs.alignment.features import Features
from pixal.tasks.photographs.geometry import Box
from pixal.tasks.photographs.preprocessing.records import InputStep, TypeRecord
from pixal.tasks.photographs.preprocessing.state import PreprocessingState
from pixal.tasks.photographs.settings import PhotographConfig, PhotographParameters
from pixal.tasks.photographs.training import figures
from pixal.tasks.photographs.training.stored import load_trained
from pixal.tracking import Tracker
from pixal.train_model.autoencoder.model import Autoencoder
from pixal.train_model.family import FitControl, ModelFamily
from pixal.train_model.folds import HELD_OUT, held_out_positions, make_folds
from pixal.train_model.stored_model import trained_types

HEIGHT, WIDTH = 8, 10
SETTINGS: dict[str, Any] = {
    "validation": {"false_alarm_rate": 0.1},
    "model_training": {"metric_accuracy": True, "projection_rank": 5},
}
TRACKED: list[Tracker] = []


@pytest.fixture(autouse=True)
def _track_runs_without_figures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Collect the tracked runs in ``TRACKED``; write no figures, except in ``trained``."""
    TRACKED.clear()
    collect_runs(monkeypatch, TRACKED)
    monkeypatch.setattr(figures, "write_figure", lambda path, figure: path.parent.mkdir(exist_ok=True) or path.touch())
    monkeypatch.chdir(tmp_path)


def config_in(folder: Path, **sections: Any) -> PhotographConfig:
    tiny = {"autoencoder_architecture": [8, 4], "n_epochs": 3, "learning_rate": 0.01, "calibration_folds": 3}
    tiny["metric_accuracy"] = False
    sections["model_training"] = tiny | sections.get("model_training", {})
    return make_config(folder, **sections)


def state_of(name: str, rows: int) -> PreprocessingState:
    """Return a state whose crop box is the whole frame of ``rows`` rows, without pooling.

    The consensus mask leaves one pixel free along the border.
    """
    consensus = np.zeros((rows, WIDTH), bool)
    consensus[1:-1, 1:-1] = True
    features = Features(np.zeros((0, 2), np.float32), np.zeros((0, 128), np.float32))
    reference = Reference(np.zeros((rows, WIDTH, 3), np.uint8), consensus, features)
    settings = PhotographParameters.model_validate(
        {
            "preprocessing": {
                "preprocessor": {"pool_size": 1, "edge_margin": 1, "channels": ["R", "G"], "weights": [1.0, 2.0]}
            }
        }
    ).preprocessing
    return PreprocessingState(name, reference, consensus, ~consensus, Box(0, 0, WIDTH, rows), None, settings)


def state_path(path: Path, name: str) -> Path:
    """The preprocessing that belongs to an ``out.npz``, of one type or of all."""
    folder = path.parent if path.parent.name == name else path.parent / name
    return folder / "metadata" / "preprocessing.npz"


def make_input_record(path: Path, states: dict[str, PreprocessingState], count: int) -> None:
    """Write the record that belongs to an ``out.npz`` of ``count`` rows."""
    InputStep(
        component="Part",
        input=path.name,
        input_dim=HEIGHT * WIDTH * 2,
        shape=(HEIGHT, WIDTH, 2),
        channels=("R", "G"),
        n_images=count,
        sha256=file_hash(path),
        types={
            name: TypeRecord(
                background_method="none",
                pool_size=1,
                crop_box=state.box,
                shape=state.shape,
                part_pixels=int(state.mask.sum()),
                state_sha256=file_hash(state_path(path, name)),
            )
            for name, state in states.items()
        },
        settings=next(iter(states.values())).settings,
    ).write(path.parent / "metadata" / "preprocessing.yaml")


def write_inputs(folder: Path, counts: dict[str, int], *, one_hot: bool = False, seed: int = 0, odd: str = "") -> Path:
    """Write the output of ``make_input``: ``out.npz``, its record and the states. Each type has its own height.

    The image named ``odd`` differs from the others at a few pixels.
    """
    generator = np.random.default_rng(seed)
    component = folder / "out" / "Part"
    states = {name: state_of(name, HEIGHT - index) for index, name in enumerate(counts)}
    for name, state in states.items():
        state.save(component / name / "metadata" / "preprocessing.npz")
    groups = {"": list(counts)} if one_hot else {name: [name] for name in counts}
    for below, names in groups.items():
        path = component / below / "out.npz"
        with InputSetWriter(path, (HEIGHT, WIDTH, 2), ("R", "G"), names if one_hot else ()) as out:
            for name in names:
                pattern = generator.random((HEIGHT, WIDTH, 2))
                mask = np.zeros((HEIGHT, WIDTH, 1), bool)
                mask[: len(states[name].mask), :, 0] = states[name].mask
                for n in range(counts[name]):
                    image = 0.4 + 0.2 * pattern + 0.1 * generator.normal() * pattern[::-1]
                    image += generator.normal(0, 0.01, image.shape)
                    if f"{name}_{n}.png" == odd:
                        image[3:5, 4:6] += 1
                    out.append((image * mask).astype(np.float32), f"{name}_{n}.png", name)
        make_input_record(path, {name: states[name] for name in names}, sum(counts[name] for name in names))
    return component


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PhotographConfig, dict[str, Any], list[Any]]:
    """Train one type with nine good parts; return its folder, its settings, its record and the tracked runs."""
    folder = tmp_path_factory.mktemp("trained")
    component = write_inputs(folder, {"front": 9})
    config = config_in(folder, **SETTINGS)
    with pytest.MonkeyPatch.context() as patch:
        collect_runs(patch, TRACKED)
        patch.chdir(folder)
        outcome = train(config=config, quiet=True)
    assert outcome.done == 9
    return (
        component / "front",
        config,
        read_record(component / "front" / "metadata" / "model_training.yaml"),
        TRACKED[:],
    )


Trained = tuple[Path, PhotographConfig, dict[str, Any], list[Tracker]]


def test_the_record_holds_settings_inputs_and_files(trained: Trained) -> None:
    folder, config, record, _ = trained
    assert record["component"] == "Part"
    assert record["types"] == ["front"]
    assert (record["input_dim"], record["shape"]) == (HEIGHT * WIDTH * 2, [HEIGHT, WIDTH, 2])
    assert (record["channels"], record["channel_weights"]) == (["R", "G"], [1.0, 2.0])
    assert record["n_images"] == 9
    assert record["input_sha256"] == file_hash(folder / "out.npz")
    assert record["settings"] == yaml.safe_load(yaml.safe_dump(config.parameters.model_dump()))
    for key, value in (config.model_training.model_dump() | {"model_options": {"output": "values"}}).items():
        assert record[key] == value, key
    assert 1 <= record["epochs_trained"] <= 3
    assert record["final_loss"] > 0
    assert record["pixal_version"]
    assert record["hardware"]["precision"] == "float32"
    assert set(record["files"]) == {
        "pixal_autoencoder.keras",
        "pixal_autoencoder.weights.h5",
        "pixal_autoencoder.inference.npz",
        "calibration.npz",
        "latents.npz",
        "conditions.npz",
        "preprocessing/front.npz",
    }
    assert record["repeatable"].startswith("the same input, settings, versions and hardware give the same weights")
    for name, digest in record["files"].items():
        assert file_hash(folder / "model" / name) == digest


def test_training_writes_exactly_these_files(trained: Trained) -> None:
    folder = trained[0]
    written = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert written == {
        "out.npz",
        "metadata/preprocessing.npz",
        "metadata/preprocessing.yaml",
        "metadata/model_training.yaml",
        "model/pixal_autoencoder.keras",
        "model/pixal_autoencoder.weights.h5",
        "model/pixal_autoencoder.inference.npz",
        "model/calibration.npz",
        "model/latents.npz",
        "model/conditions.npz",
        "model/preprocessing/front.npz",
        "figures/loss.png",
        "figures/accuracy.png",
        "figures/reconstructions.png",
        "logs/train.log",
        MANIFEST,
    }
    assert "trained on 9 good images" in (folder / "logs" / "train.log").read_text()


def test_the_recorded_threshold_comes_from_the_held_out_scores(trained: Trained) -> None:
    _, config, record, _ = trained
    calibration = load_trained(config, "front").calibrations["front"]
    scores = calibration.scores
    assert len(scores) == 9
    assert np.isfinite(scores).all()
    assert not calibration.stand_ins
    threshold, method = choose_threshold(calibration, 0.1, config.validation.threshold)
    assert record["calibration"] == {"front": {"threshold": threshold, "method": method, "false_alarm_rate": 0.1}}
    assert (method, threshold) == ("conformal", scores.max())


def test_calibration_errors_are_larger_than_errors_of_the_final_model(trained: Trained) -> None:
    folder, config, record, _ = trained
    model = load_trained(config, "front")
    inputs = InputSet.load(folder / "out.npz")
    training_errors = model.load_anomaly_model().error(inputs, slice(None))
    mask = state_of("front", HEIGHT).mask
    variance = model.calibrations["front"].variance
    assert variance.shape == (HEIGHT, WIDTH, 2)
    # Errors of held-out parts are larger than errors of the final model on parts it was trained on.
    assert variance[mask].mean() > 1.1 * error_variance((training_errors**2).mean(0), mask)[mask].mean()
    assert record["map_smoothing"] == config.validation.map_smoothing


def test_a_run_is_tracked_with_metrics_settings_and_files(trained: Trained) -> None:
    folder, _, record, tracked = trained
    (tracker,) = tracked
    assert (tracker.command, tracker.experiment, tracker.name, tracker.status) == (
        "train",
        "PIXAL",
        "front",
        "FINISHED",
    )
    epochs = {metric: [row.step for row in tracker.metrics if row.name == metric] for metric in ("loss", "val_loss")}
    assert epochs["loss"] == list(range(1, record["epochs_trained"] + 1))
    assert epochs["val_loss"] == [1, 2, 3]
    names = {row.name for row in tracker.metrics}
    folds = {f"fold_{number}/{name}" for number in range(1, 4) for name in ("loss", "val_loss")}
    assert {"loss", "val_loss", "accuracy", "val_accuracy", "learning_rate"} <= names
    assert names - folds == {"loss", "val_loss", "accuracy", "val_accuracy", "learning_rate"}
    assert {"fold_1/loss", "fold_2/val_loss"} <= names
    times = [row.time for row in tracker.metrics if row.name in ("fold_1/loss", "fold_2/loss", "loss")]
    assert tracker.start_time <= times[0] <= times[-1] <= (tracker.end_time or 0)
    assert times == sorted(times)
    assert tracker.model is not None
    assert (tracker.model.component, tracker.model.owner) == ("Part", "front")
    assert tracker.params["model_training.n_epochs"] == "3"
    stored = {(path.name, folder_name) for path, folder_name in tracker.artifacts}
    assert {
        ("pixal_autoencoder.keras", "model"),
        ("loss.png", "figures"),
        ("model_training.yaml", "metadata"),
    } <= stored
    assert all((folder.parents[2] / path).is_file() for path, _ in tracker.artifacts)


@pytest.mark.slow
def test_training_again_gives_the_same_files_byte_for_byte(trained: Trained, tmp_path: Path) -> None:
    """The second training is in another folder, after another type, so that the layer counters of Keras differ."""
    folder = write_inputs(tmp_path, {"back": 3, "front": 9}, seed=1)
    shutil.rmtree(folder / "front")
    write_inputs(tmp_path, {"front": 9})
    train(config=config_in(tmp_path, **SETTINGS), quiet=True)
    first, second = (load_trained(config, "front").record for config in (trained[1], config_in(tmp_path)))
    assert first.files == second.files
    assert first.calibration == second.calibration
    assert first.fingerprint == second.fingerprint


def test_the_latent_vectors_of_good_parts_are_stored(trained: Trained) -> None:
    folder, config, *_ = trained
    model = load_trained(config, "front")
    inputs = InputSet.load(folder / "out.npz")
    np.testing.assert_array_equal(model.latents["front"], model.load_anomaly_model().latent(inputs, slice(None)))
    assert model.latents["front"].shape == (9, 4)


def test_a_model_that_is_replaced_while_it_is_read_is_refused(trained: Trained) -> None:
    """Training removes the record first, and writes the new one last."""
    folder, config, *_ = trained
    record = folder / "metadata/model_training.yaml"
    before = record.read_bytes()
    model = load_trained(config, "front")
    try:
        write_record(record, with_hash(read_record(record) | {"created": "later"}))
        with pytest.raises(ModelError, match="was replaced while it was read; run the same command again"):
            model.load_anomaly_model()
        record.unlink()
        with pytest.raises(ModelError, match="was replaced while it was read"):
            model.load_anomaly_model()
    finally:
        record.write_bytes(before)
    model.load_anomaly_model()


def test_a_changed_or_missing_model_file_is_refused(trained: Trained) -> None:
    folder, config, *_ = trained
    path = folder / "model" / "pixal_autoencoder.weights.h5"
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(ModelError, match="is not the file that training wrote"):
            load_trained(config, "front")
        path.unlink()
        with pytest.raises(ModelError, match="is missing"):
            load_trained(config, "front")
    finally:
        path.write_bytes(whole)
    assert trained_types(config) == ["front"]
    with pytest.raises(ModelError, match="back was never trained"):
        load_trained(config, "back")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("input_dim", None, "lack 'input_dim'; run train again"),
        ("map_smoothing", None, "lack 'map_smoothing'; run train again"),
        ("n_images", "some", "have a bad value for n_images .*; run train again"),
    ],
)
def test_a_damaged_record_is_refused_with_the_name_of_the_key(
    trained: Trained, key: str, value: Any, message: str
) -> None:
    folder, config, record, _ = trained
    path = folder / "metadata" / "model_training.yaml"
    original = path.read_bytes()
    changed = {name: content for name, content in record.items() if name != key}
    try:
        write_record(path, with_hash(changed if value is None else changed | {key: value}))
        with pytest.raises(ModelError, match=message):
            load_trained(config, "front")
    finally:
        path.write_bytes(original)


def test_a_family_that_shows_no_anomalies_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Predictor(ModelFamily):
        """A family without error maps."""

    write_inputs(tmp_path, {"front": 3})
    monkeypatch.setattr("pixal.train_model.family.family_named", lambda name: Predictor)
    with pytest.raises(ConfigError, match=r"^model_training\.model: gaussian does not show where a part differs"):
        train(config=config_in(tmp_path, model_training={"model": "gaussian"}), quiet=True)
    assert not (tmp_path / "out/Part/front/model").exists()


def test_in_one_hot_mode_one_model_serves_types_with_different_masks(tmp_path: Path) -> None:
    component = write_inputs(tmp_path, {"back": 5, "front": 4}, one_hot=True)
    config = config_in(tmp_path, model_training={"one_hot_encoding": True, "masked_loss": True, "n_epochs": 1})
    assert train(config=config, quiet=True).done == 9
    record = read_record(component / "metadata" / "model_training.yaml")
    assert record["types"] == trained_types(config) == ["back", "front"]
    assert set(record["calibration"]) == {"back", "front"}
    assert {"preprocessing/back.npz", "preprocessing/front.npz"} <= set(record["files"])
    model = load_trained(config, None)
    assert [len(calibration.scores) for calibration in model.calibrations.values()] == [5, 4]
    assert [state.mask.shape for state in model.states.values()] == [(HEIGHT, WIDTH), (HEIGHT - 1, WIDTH)]
    assert model.load_anomaly_model().error(InputSet.load(component / "out.npz"), slice(None)).shape == (
        9,
        HEIGHT,
        WIDTH,
        2,
    )
    assert [run.name for run in TRACKED] == ["Part"]


def test_a_threshold_does_not_allow_for_an_odd_part_which_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_inputs(tmp_path, {"back": 12, "front": 12}, one_hot=True, odd="front_7.png")
    config = config_in(tmp_path, model_training={"model": "gaussian", "one_hot_encoding": True})
    with caplog.at_level(logging.WARNING, logger="pixal"):
        train(config=config, quiet=True)
    assert re.search(r"front: far from the other good parts, .*: front_7\.png\.", caplog.text)
    model = load_trained(config, None)
    assert (model.record.model_extra or {})["odd_parts"] == {"front": ["front_7.png"]}
    calibration, threshold = model.calibrations["front"], model.record.calibration["front"].threshold
    assert len(calibration.scores) == 11
    assert calibration.selected_scores[0] > threshold >= calibration.scores.max()
    assert len(model.calibrations["back"].scores) == 12


@pytest.mark.parametrize("types", [["front"], ["back", "front"]])
def test_two_good_parts_per_type_give_a_warning_and_finite_calibration(
    tmp_path: Path, types: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    one_hot = len(types) > 1
    write_inputs(tmp_path, dict.fromkeys(types, 2), one_hot=one_hot)
    config = config_in(tmp_path, model_training={"one_hot_encoding": one_hot, "n_epochs": 2, "metric_accuracy": False})
    with caplog.at_level(logging.WARNING, logger="pixal"):
        train(config=config, quiet=True)
    assert "front: only 2 good images" in caplog.text
    model = load_trained(config, None if one_hot else "front")
    for name in types:
        calibration = model.calibrations[name]
        assert len(calibration.scores) == 2
        assert np.isfinite(calibration.scores).all()
        assert np.isfinite(calibration.variance).all()
        assert (calibration.variance > 0).all()
        assert model.record.calibration[name].method == "conformal+tail"
        assert np.isfinite(model.record.calibration[name].threshold)
    assert model.record.final_loss is not None  # and finite, as the record is validated


def test_a_costly_model_is_fitted_once_and_calibrated_on_a_held_out_fold(tmp_path: Path) -> None:
    component = write_inputs(tmp_path, {"front": 9})
    network = {"input_projection": "none", "n_epochs": 2, "metric_accuracy": False, "model_file_extension": ".h5"}
    config = config_in(tmp_path, model_training=network, plotting={"plot_loss": False})
    train(config=config, quiet=True)
    model = load_trained(config, "front")
    assert len(model.calibrations["front"].scores) == 3  # one of three folds
    assert (component / "front" / "model" / "pixal_autoencoder.h5").is_file()
    assert [path.name for path in (component / "front" / "figures").iterdir()] == ["reconstructions.png"]
    fold = make_folds(InputSet.load(component / "front" / "out.npz"), 3, 42)[0]
    errors = model.load_anomaly_model().error(InputSet.load(component / "front" / "out.npz"), fold)
    mask = state_of("front", HEIGHT).mask
    np.testing.assert_allclose(
        model.calibrations["front"].variance, error_variance((errors**2).mean(0), mask), rtol=1e-4
    )


def test_training_that_diverges_fails_and_leaves_no_model(tmp_path: Path) -> None:
    component = write_inputs(tmp_path, {"front": 6})
    settings = {"learning_rate": 1e30, "optimizer": "sgd", "n_epochs": 20}
    config = config_in(tmp_path, model_training=settings)
    with pytest.raises(ConfigError, match=r"diverged; lower model_training\.learning_rate"):
        train(config=config, quiet=True)
    assert trained_types(config) == []
    assert not (component / "front" / "model" / "checkpoint").exists()  # nothing to resume
    assert [run.status for run in TRACKED] == ["FAILED"]


def assert_refused(config: PhotographConfig, message: str, source: Path | None = None) -> None:
    with pytest.raises(InputError, match=message):
        train(source, config=config, quiet=True)
    assert trained_types(config) == []


def test_an_input_that_changed_after_make_input_is_refused(tmp_path: Path) -> None:
    component = write_inputs(tmp_path, {"front": 3})
    record = (component / "front" / "metadata" / "preprocessing.yaml").read_bytes()
    write_inputs(tmp_path, {"front": 3}, seed=1)
    (component / "front" / "metadata" / "preprocessing.yaml").write_bytes(record)
    assert_refused(config_in(tmp_path), "is not the file that make_input recorded")


@pytest.mark.parametrize("one_hot", [False, True])
def test_inputs_of_the_other_mode_are_refused(tmp_path: Path, one_hot: bool) -> None:
    component = write_inputs(tmp_path, {"back": 3, "front": 3}, one_hot=not one_hot)
    inputs = component / ("front/out.npz" if one_hot else "out.npz")
    content = "no labels" if one_hot else "one-hot labels"
    config = config_in(tmp_path, model_training={"one_hot_encoding": one_hot})
    assert_refused(config, f"holds {content}, but one_hot_encoding is {one_hot}", inputs)


def test_one_good_part_is_calibrated_by_its_texture_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    component = write_inputs(tmp_path, {"front": 1})
    config = config_in(tmp_path)
    with caplog.at_level(logging.WARNING, logger="pixal"):
        train(config=config, quiet=True)
    assert "front: only 1 good image, so none can be held out; spread and threshold are estimated" in caplog.text
    model = load_trained(config, "front")
    calibration = model.calibrations["front"]
    assert calibration.stand_ins
    assert (calibration.variance > 0).all()
    assert np.isfinite(calibration.variance).all()
    assert model.record.calibration["front"].method == "texture"
    assert model.record.calibration["front"].threshold > calibration.scores.max() > 0
    assert model.record.final_loss is not None  # and finite, as the record is validated
    assert [path.name for path in (component / "front" / "figures").iterdir()] == ["loss.png"]


def test_in_one_hot_mode_a_type_with_one_good_part_is_in_every_fit(tmp_path: Path) -> None:
    write_inputs(tmp_path, {"back": 1, "front": 6}, one_hot=True)
    config = config_in(tmp_path, model_training={"one_hot_encoding": True})
    train(config=config, quiet=True)
    model = load_trained(config, None)
    assert [model.calibrations[name].stand_ins for name in ("back", "front")] == [True, False]
    assert [len(model.latents[name]) for name in ("back", "front")] == [1, 6]
    inputs = InputSet.load(tmp_path / "out" / "Part" / "out.npz")
    # The model knows this part and reconstructs it. Held out, its error would be as large as the part itself.
    assert np.abs(model.load_anomaly_model().error(inputs, slice(0, 1))).max() < 0.1


def test_a_type_without_any_good_part_is_named(tmp_path: Path) -> None:
    write_inputs(tmp_path, {"back": 0, "front": 4}, one_hot=True)
    assert_refused(config_in(tmp_path, model_training={"one_hot_encoding": True}), "back: .* holds no good image")


def test_a_missing_input_file_is_named(tmp_path: Path) -> None:
    config = config_in(tmp_path)
    assert_refused(config, r"TYPE.out\.npz does not exist; run preprocess first")
    assert_refused(config, r"none\.npz does not exist", tmp_path / "none.npz")
    assert_refused(config_in(tmp_path, model_training={"one_hot_encoding": True}), r"Part.out\.npz does not exist")


def test_an_unknown_family_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'forest' is not one of autoencoder"):
        config_in(tmp_path, model_training={"model": "forest"})


@pytest.fixture
def always_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save a checkpoint after every epoch."""
    monkeypatch.setattr("pixal.train_model.checkpoint._SECONDS", 0.0)
    monkeypatch.setattr("pixal.train_model.checkpoint._SHARE", 0.0)


def kill() -> None:
    raise SystemExit


def killed_in(fit: int, epoch: int, how: Callable[[], None] = kill) -> pytest.MonkeyPatch:
    """Call ``how`` in the given fit, after this epoch and before its checkpoint; the caller undoes the patch."""
    patch, started, real = pytest.MonkeyPatch(), [0], Autoencoder.fit

    def interrupted_fit(self: Autoencoder, inputs: InputSet, rows: Any, masks: Any, control: FitControl) -> Any:
        started[0] += 1

        def on_epoch(number: int, loss: float) -> None:
            assert control.on_epoch is not None
            control.on_epoch(number, loss)
            if (started[0], number) == (fit, epoch):
                how()

        return real(self, inputs, rows, masks, dataclasses.replace(control, on_epoch=on_epoch))

    patch.setattr(Autoencoder, "fit", interrupted_fit)
    return patch


@pytest.mark.slow
@pytest.mark.usefixtures("always_saved")
@pytest.mark.parametrize("one_hot", [False, True])
def test_a_killed_run_resumes_with_the_same_files(one_hot: bool, tmp_path: Path) -> None:
    """Of a costly model, which is fitted once; and, in one-hot mode, in the second fit of three."""
    records = []
    settings = {"one_hot_encoding": True, "calibration_folds": 2} if one_hot else {"input_projection": "none"}
    config = config_in(tmp_path, model_training=settings)
    write_inputs(tmp_path, {"back": 4, "front": 3} if one_hot else {"front": 7}, one_hot=one_hot)
    for killed in (False, True):
        if killed:
            patch = killed_in(2 if one_hot else 1, 2)
            with pytest.raises(SystemExit):
                train(config=config, quiet=True)
            patch.undo()
        train(config=config, resume=killed, quiet=True)
        records.append(load_trained(config, None if one_hot else "front").record)
        (tmp_path / "out/Part" / ("" if one_hot else "front") / "metadata/model_training.yaml").unlink()
    assert records[0].files == records[1].files
    runs = [run for run in TRACKED if run.status == "FINISHED"]
    curves = [sorted((row.name, row.step, row.value) for row in run.metrics) for run in runs]
    assert curves[0] == curves[1]


@pytest.mark.slow
@pytest.mark.usefixtures("always_saved")
def test_resume_skips_finished_models_continues_the_interrupted_one_and_trains_the_rest(tmp_path: Path) -> None:
    component = write_inputs(tmp_path, {"back": 2, "front": 3, "side": 1})
    config = config_in(tmp_path)
    patch = killed_in(5, 2)  # the second fit of the second type
    with pytest.raises(SystemExit):
        train(config=config, quiet=True)
    patch.undo()
    assert trained_types(config) == ["back"]
    written = (component / "back" / "model" / "pixal_autoencoder.keras").stat().st_mtime_ns
    assert train(config=config, resume=True, quiet=True).done == 6
    assert trained_types(config) == ["back", "front", "side"]
    assert (component / "back" / "model" / "pixal_autoencoder.keras").stat().st_mtime_ns == written
    assert [(run.name, run.status) for run in TRACKED] == [
        ("back", "FINISHED"),
        ("front", "FAILED"),
        ("front", "FINISHED"),
        ("side", "FINISHED"),
    ]
    # A finished model with other settings is trained again.
    other = config_in(tmp_path, model_training={"n_epochs": 2})
    train(component / "back" / "out.npz", config=other, resume=True, quiet=True)
    assert (component / "back" / "model" / "pixal_autoencoder.keras").stat().st_mtime_ns != written


@pytest.mark.usefixtures("always_saved")
def test_resume_with_another_setting_or_input_is_refused(tmp_path: Path) -> None:
    component = write_inputs(tmp_path, {"front": 5})
    config = config_in(tmp_path)
    patch = killed_in(2, 1)
    with pytest.raises(SystemExit):
        train(config=config, quiet=True)
    patch.undo()
    state = component / "front" / "model" / "checkpoint" / "state.npz"
    saved = state.read_bytes()
    for change, name in (
        ({"model_training": {"learning_rate": 0.02}}, r"model_training\.learning_rate"),
        ({"model_training": {"loss_function": "mae", "n_epochs": 9}}, r"n_epochs and model_training\.loss_function"),
        ({"validation": {"map_smoothing": 2.0}}, r"validation\.map_smoothing"),
    ):
        with pytest.raises(ModelError, match=rf"another (model_training\.)?{name}; train without --resume"):
            train(config=config_in(tmp_path, **change), resume=True, quiet=True)
    with pytest.MonkeyPatch.context() as other:
        other.setattr("pixal.io.provenance.__version__", "9.9")
        with pytest.raises(ModelError, match="version of PIXAL or its libraries"):
            train(config=config, resume=True, quiet=True)
    write_inputs(tmp_path, {"front": 5}, seed=3)
    with pytest.raises(ModelError, match="another input"):
        train(config=config, resume=True, quiet=True)
    assert state.read_bytes() == saved


@pytest.mark.slow
def test_signals_end_the_run_with_one_line_and_resume_gives_the_same_files(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted in a fold and in the final fit, the result is bit for bit that of ``trained``, which was not."""
    write_inputs(tmp_path, {"front": 9})
    config = config_in(tmp_path, **SETTINGS)
    monkeypatch.setattr("pixal.load_config", lambda *_: config)
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    for options, number, fit, where in (
        ([], signal.SIGTERM, 2, "fit 2, epoch 2"),
        (["--resume"], signal.SIGINT, 3, "fit 4, epoch 2"),
    ):
        patch = killed_in(fit, 2, lambda number=number: signal.raise_signal(number))
        assert main(["train", "-q", *options]) == 128 + number
        patch.undo()
        message = f"pixal: training stopped and saved in {where}; run the same command with --resume to continue\n"
        assert capsys.readouterr().err.endswith(message)
        assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
        assert trained_types(config) == []
    assert main(["train", "-q", "--resume"]) == 0
    record = load_trained(config, "front").record
    assert record.files == trained[2]["files"]
    assert record.model_dump()["calibration"] == trained[2]["calibration"]
    assert [run.status for run in TRACKED] == ["KILLED", "KILLED", "FINISHED"]
    curves = [{(row.name, row.step): row.value for row in run.metrics} for run in (TRACKED[-1], trained[3][0])]
    assert curves[0] == curves[1]
    assert not (tmp_path / "out" / "Part" / "front" / "model" / "checkpoint").exists()


def test_without_resume_a_run_starts_again_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    component = write_inputs(tmp_path, {"front": 1})
    checkpoint = component / "front" / "model" / "checkpoint"
    checkpoint.mkdir(parents=True)
    (checkpoint / "state.npz").write_bytes(b"from an earlier run")
    with caplog.at_level(logging.WARNING, logger="pixal"):
        train(config=config_in(tmp_path), quiet=True)
    assert f"{checkpoint}: starting again from the beginning (use --resume to continue)" in caplog.text
    assert trained_types(config_in(tmp_path)) == ["front"]


def labelled(counts: list[int]) -> InputSet:
    """Return inputs with one-hot labels, ``counts`` rows per type."""
    kinds = np.repeat(np.arange(len(counts)), counts)
    data = np.zeros((len(kinds), 2), np.float32)
    names = tuple(map(str, kinds))
    labels = np.eye(len(counts), dtype=np.float32)[kinds]
    return InputSet(data, (1, 2, 1), ("R",), names, labels, tuple(map(str, range(len(counts)))))


@pytest.mark.parametrize("counts", [[10], [7, 13], [2, 2, 2], [3, 20, 5]])
@pytest.mark.parametrize("count", [2, 5])
def test_folds_hold_each_row_once_and_equal_shares_of_each_type(counts: list[int], count: int) -> None:
    inputs = labelled(counts)
    folds = make_folds(inputs, count, seed=1)
    assert sorted(np.concatenate(folds).tolist()) == list(range(len(inputs)))
    assert len(folds) == min(count, max(counts))
    kinds = np.repeat(np.arange(len(counts)), counts)
    for kind, total in enumerate(counts):
        held = [int((kinds[fold] == kind).sum()) for fold in folds]
        assert max(held) - min(held) <= 1
        assert held[0] == -(-total // count)  # the first fold holds at least one part of each type
        assert max(held) < total  # the other folds hold some, too


def test_the_only_part_of_a_type_is_in_no_fold() -> None:
    assert make_folds(labelled([1]), 5, seed=0) == []
    assert sorted(np.concatenate(make_folds(labelled([1, 4, 1]), 2, seed=0)).tolist()) == [1, 2, 3, 4]


def test_folds_hold_a_limited_number_of_rows_per_type() -> None:
    inputs = labelled([HELD_OUT + 300, 7])
    folds = make_folds(inputs, 5, seed=1)
    held = np.concatenate(folds)
    assert [len(fold) for fold in folds] == [HELD_OUT // 5 + 2, HELD_OUT // 5 + 2, *[HELD_OUT // 5 + 1] * 3]
    assert len(np.unique(held)) == HELD_OUT + 7
    assert (held < HELD_OUT + 300).sum() == HELD_OUT
    assert held.max() - held.min() > HELD_OUT + 200  # chosen at random, not the first rows


def test_positions_of_held_out_errors() -> None:
    folds = [np.array([2, 9]), np.array([4]), np.array([7, 11])]
    assert [held_out_positions(fold, folds).tolist() for fold in folds] == [[0, 3], [1], [2, 4]]
    assert held_out_positions(np.array([9, 7]), folds).tolist() == [3, 2]


@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("projection", ["auto", "none"])
def test_stored_errors_come_from_models_that_did_not_see_the_part(
    one_hot: bool, projection: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error that is stored, calibrated and drawn is that of the model of the part's own fold."""
    limit = 4
    monkeypatch.setattr("pixal.train_model.folds.make_folds.__defaults__", (limit, None))
    monkeypatch.setattr("pixal.train_model.folds.HELD_OUT", limit)
    write_inputs(tmp_path, {"back": 9, "front": 9} if one_hot else {"front": 9}, one_hot=one_hot)
    settings = {"one_hot_encoding": one_hot, "input_projection": projection, "calibration_folds": 2}
    config = config_in(tmp_path, model_training=settings)
    calls: list[Any] = []
    real = figures.save_training
    monkeypatch.setattr(figures, "save_training", lambda *arguments: calls.append(arguments) or real(*arguments))
    errors: dict[int, np.ndarray] = {}
    compute = Autoencoder.error

    def recorded_error(self: Autoencoder, inputs: InputSet, rows: Any) -> np.ndarray:
        result = compute(self, inputs, rows)
        errors.update(zip(rows.tolist(), result, strict=True))
        return result

    monkeypatch.setattr(Autoencoder, "error", recorded_error)
    train(config=config, quiet=True)
    (_, _, _, inputs, stored, folds, calibrations, _) = calls[0]
    types = 2 if one_hot else 1
    assert len(stored) == sum(len(fold) for fold in folds) == limit * types == len(errors)
    for row, error in errors.items():
        np.testing.assert_array_equal(stored[held_out_positions(np.array([row]), folds)[0]], error)
    assert [len(calibration.scores) for calibration in calibrations.values()] == [limit] * types
    examples = figures.held_out_examples(inputs, stored, folds, list(calibrations.values()))
    for name, error_image in zip(examples.names, examples.errors, strict=True):
        row = inputs.names.index(name.rpartition(": ")[2])
        np.testing.assert_allclose(error_image, np.sqrt(np.mean(errors[row] ** 2, axis=-1)), rtol=1e-5)


def test_folds_depend_on_the_seed() -> None:
    inputs = labelled([20])
    first, again, other = (make_folds(inputs, 4, seed=seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_keras_stays_in_single_precision() -> None:
    assert keras.mixed_precision.global_policy().name == "float32"


PLAIN_NETWORK = {"input_projection": "none", "patience": 0, "checkpoint_every": 2}


def model_files(component: Path, *, state: bool = False) -> dict[str, str]:
    """Return hashes of the model files and checkpoints of epochs; with ``state``, also of the training state."""
    folder = component / "front" / "model"
    kinds = (
        "*.weights.h5",
        "*.keras",
        "*.inference.*",
        "calibration.npz",
        "checkpoints/*",
        *(["*_state.npz"] if state else []),
    )
    return {path.name: file_hash(path) for kind in kinds for path in folder.glob(kind)}


@pytest.mark.slow
@pytest.mark.usefixtures("always_saved")
def test_added_epochs_give_the_same_files_as_one_long_training(tmp_path: Path) -> None:
    """3 + 2 + 2 epochs, the last two interrupted twice, give bit for bit the files of 7 epochs."""
    component = write_inputs(tmp_path, {"front": 7})
    seven = config_in(tmp_path, model_training=PLAIN_NETWORK | {"n_epochs": 7})
    train(config=seven, quiet=True)
    expected = model_files(component, state=True)
    record = load_trained(seven, "front").record
    assert record.checkpoints == tuple(f"checkpoints/pixal_autoencoder_epoch_000{n}.weights.h5" for n in (2, 4, 6))
    config = config_in(tmp_path, model_training=PLAIN_NETWORK)
    train(config=config, quiet=True)
    names = [path.name for path in (component / "front" / "model" / "checkpoints").iterdir()]
    assert names == ["pixal_autoencoder_epoch_0002.weights.h5"]  # those of the earlier training are deleted
    assert train(config=config, resume=True, epochs=2, quiet=True).done == 7
    assert load_trained(config, "front").record.epochs_trained == 5
    for epochs, epoch in ((2, 6), (None, 7)):
        patch = killed_in(1, epoch)
        with pytest.raises(SystemExit):
            train(config=config, resume=True, epochs=epochs, quiet=True)
        patch.undo()
        assert load_trained(config, "front").record.epochs_trained == 5  # the model stays until the new one is complete
    with pytest.raises(ModelError, match="front: a run up to epoch 7 was interrupted; run train --res"):
        train(config=config, resume=True, epochs=4, quiet=True)
    train(config=config, resume=True, quiet=True)
    assert model_files(component, state=True) == expected
    done = load_trained(config, "front").record
    assert (done.epochs_trained, done.extended_to, done.n_epochs) == (7, 7, 3)
    assert done.checkpoints == record.checkpoints
    written = (component / "front" / "model" / "pixal_autoencoder.keras").stat().st_mtime_ns
    train(config=config, resume=True, quiet=True)  # already trained
    assert (component / "front" / "model" / "pixal_autoencoder.keras").stat().st_mtime_ns == written


def test_epochs_can_be_added_after_early_stopping(tmp_path: Path) -> None:
    write_inputs(tmp_path, {"front": 7})
    config = config_in(tmp_path, model_training=PLAIN_NETWORK | {"patience": 1, "min_delta": 1.0, "n_epochs": 20})
    train(config=config, quiet=True)
    assert load_trained(config, "front").record.epochs_trained == 2
    train(config=config, resume=True, epochs=3, quiet=True)
    assert load_trained(config, "front").record.epochs_trained == 5


def test_epochs_that_cannot_be_added_are_refused(tmp_path: Path) -> None:
    component = write_inputs(tmp_path, {"front": 5})
    config = config_in(tmp_path, model_training=PLAIN_NETWORK)
    for settings, error, message in (
        ({}, ConfigError, r"front: cannot add epochs to autoencoder, .*; set model_training.n_epochs and run train$"),
        ({"model": "gaussian"}, ConfigError, r"front: cannot add epochs to gaussian, which has no epochs; run"),
        (
            PLAIN_NETWORK,
            ModelError,
            "no trained model of this input with these settings .* run train, or",
        ),
    ):
        with pytest.raises(error, match=message):
            train(config=config_in(tmp_path, model_training=settings), resume=True, epochs=1, quiet=True)
    for resume, epochs in ((False, 3), (True, 0)):
        with pytest.raises(InputError, match=f"^--epochs {epochs} adds epochs to a finished model: it must be"):
            train(config=config, resume=resume, epochs=epochs, quiet=True)
    train(config=config, quiet=True)
    state = component / "front" / "model" / "training_state.npz"
    state.write_bytes(state.read_bytes()[:-1])
    with pytest.raises(ModelError, match=r"training_state.npz is missing, or is not the file that training wrote"):
        train(config=config, resume=True, epochs=1, quiet=True)
