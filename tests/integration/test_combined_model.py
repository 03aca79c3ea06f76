"""The combined model through the public functions: train, interrupt, resume, validate, and refuse changed files."""

from __future__ import annotations

import dataclasses
import shutil
import signal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from helpers import write_configs

import pixal
from pixal.errors import ModelError, Stopped
from pixal.io.files import file_hash
from pixal.tracking import Tracker
from pixal.train_model.autoencoder.model import Autoencoder
from pixal.train_model.family import FitControl

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def prepared(rendered: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the prepared photographs of the type front. Read only."""
    folder = tmp_path_factory.mktemp("combined")
    write_configs(
        folder,
        "model_training: {model: combined, autoencoder_architecture: [8, 4], n_epochs: 4, calibration_folds: 2,\n"
        "  checkpoint_every: 2}\n"
        "validation: {false_alarm_rate: 0.1}\n"
        "preprocessing: {draw_matches: False, save_metrics: False, save_overlays: False}\n"
        "plotting: {plot_anomaly_heatmap: False}\n",
    )
    shutil.copytree(rendered / "train/Part/front", folder / "photographs/front")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        pixal.preprocess("photographs/front", quiet=True)
    return folder


def hashes(folder: Path) -> dict[str, str]:
    """The hash of each file in the model's folder, by its path there."""
    model = next(folder.glob("out/*/front/model"))
    return {path.relative_to(model).as_posix(): file_hash(path) for path in model.rglob("*") if path.is_file()}


def stopped_in(fit: int, patch: pytest.MonkeyPatch) -> None:
    """Send SIGTERM to this process in a fit of the autoencoder, after its second epoch."""
    started, real = [0], Autoencoder.fit

    def interrupted(self: Autoencoder, inputs: Any, rows: Any, masks: Any, control: FitControl) -> Any:
        started[0] += 1

        def on_epoch(number: int, loss: float) -> None:
            assert control.on_epoch is not None
            control.on_epoch(number, loss)
            if (started[0], number) == (fit, 2):
                signal.raise_signal(signal.SIGTERM)

        return real(self, inputs, rows, masks, dataclasses.replace(control, on_epoch=on_epoch))

    patch.setattr(Autoencoder, "fit", interrupted)


def test_train_resume_and_validate(
    prepared: Path, rendered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracked_runs: list[Tracker]
) -> None:
    whole, resumed = (shutil.copytree(prepared, tmp_path / name) for name in ("whole", "resumed"))
    monkeypatch.chdir(whole)
    pixal.train(quiet=True)
    logged = [(row.name, row.step) for row in tracked_runs[0].metrics]
    assert len(logged) == len(set(logged))
    curves = ("fold_1/loss", "fold_2/val_loss", "loss", "learning_rate")  # those of its autoencoder
    assert {(name, epoch) for name in curves for epoch in (1, 2)} <= set(logged)
    expected = hashes(whole)
    assert {name for name in expected if name.startswith(("pixal_combined", "checkpoints"))} == {
        "pixal_combined.keras",
        "pixal_combined.weights.h5",
        "pixal_combined.weights.npz",
        "pixal_combined.inference.npz",
        "pixal_combined.backbone.weights.h5",
        "pixal_combined.backbone.inference.onnx",
        "pixal_combined.scales.weights.npz",
        "checkpoints/pixal_combined_epoch_0002.weights.h5",
        "checkpoints/pixal_combined_epoch_0004.weights.h5",
    }

    monkeypatch.chdir(resumed)
    for fit, where in ((2, "fit 2, epoch 2"), (2, "fit 3, epoch 2")):  # in a fold, then in the last fit
        with pytest.MonkeyPatch.context() as patch:
            stopped_in(fit, patch)
            with pytest.raises(Stopped, match=where):
                pixal.train(quiet=True, resume=where.startswith("fit 3"))
    pixal.train(quiet=True, resume=True)
    assert hashes(resumed) == expected
    assert not (next(resumed.glob("out/*/front/model")) / "checkpoint").exists()

    monkeypatch.chdir(whole)
    outcome = pixal.validate(rendered / "production/Part/front", truth=rendered / "truth/front", quiet=True)
    assert outcome.metrics is not None
    scores = {part.image: part.score for part in outcome.parts}
    assert len(scores) == 8
    assert all(score is not None and score > 0 for score in scores.values())
    assert outcome.metrics.overall["image_auroc"] > 0.9
    # Its reconstructions are those of the autoencoder.
    figures = next(whole.glob("validate/*/front/figures"))
    assert {"combined_distribution_log.png", "value_distributions.png", "pixel_predictions_LAB_L.png"} <= {
        path.name for path in figures.iterdir()
    }
    assert pixal.evaluate(quiet=True).types["front"].measures["mse"].mean < 0.01

    # Each file of a member is protected by the manifest of the model.
    for name in expected:
        if name.startswith("pixal_combined"):
            path = next(whole.glob("out/*/front/model")) / name
            content = path.read_bytes()
            path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            with pytest.raises(ModelError, match="not the file that training wrote"):
                pixal.validate(rendered / "production/Part/front", quiet=True)
            path.write_bytes(content)


def test_what_preprocessing_found_to_be_a_texture_is_trained_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_configs(
        tmp_path,
        "model_training: {model: combined, autoencoder_architecture: [8, 4], n_epochs: 2, calibration_folds: 2}\n"
        "preprocessing: {alignment: {apply_alignment: texture}, remove_background: {method: none}}\n",
    )
    generator = np.random.default_rng(5)
    (tmp_path / "grain").mkdir()
    for index in range(4):
        grain = cv2.GaussianBlur(generator.normal(size=(128, 128, 3)), (0, 0), 2)
        cv2.imwrite(str(tmp_path / f"grain/{index}.png"), 128 + 100 * grain)
    monkeypatch.chdir(tmp_path)
    pixal.preprocess("grain", quiet=True)
    pixal.train(quiet=True)
    record = yaml.safe_load(next(tmp_path.glob("out/*/grain/metadata/model_training.yaml")).read_text())
    assert record["aligned"] is False
    assert record["shape"] == [128, 128, 4]  # a small texture is not pooled
