"""What docs/extending.md shows, taken from the page and used as it says: a model family of a package of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pixal
from pixal.calibration.maps import calibrated_maps, part_scores
from pixal.config import Paths
from pixal.errors import ConfigError
from pixal.inputs import InputSet
from pixal.io.records import read_record
from pixal.outcome import Outcome
from pixal.registry import MODELS
from pixal.synthetic import write_batch
from pixal.tasks.photographs.network_input import channels
from pixal.tasks.photographs.settings import PhotographConfig, PhotographParameters
from pixal.tasks.photographs.training.stored import load_trained

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
MODEL, CHANNEL = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)[:2]
FASTER: dict[str, Any] = {
    "preprocessing": {"draw_matches": False, "save_metrics": False, "save_overlays": False},
    "plotting": {"plot_anomaly_heatmap": False},
    "validation": {"save_anomaly_maps": False},
}


def config_in(folder: Path, **model_training: Any) -> PhotographConfig:
    parameters = PhotographParameters.model_validate(FASTER | {"model_training": model_training})
    base = {"component": "Part", "base": str(folder / "out")}
    paths = Paths({"component_model_path": base, "component_validate_path": {**base, "base": str(folder / "validate")}})
    return PhotographConfig(parameters, paths, folder)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The page's package, as pip would leave it in a folder that Python looks into."""
    site = tmp_path / "site-packages"
    name, place = re.findall(r'^\[project.entry-points."pixal.models"\]\n(\w+) = "([\w:]+)"$', PAGE, re.MULTILINE)[0]
    information = site / "pixal_nearest-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: pixal-nearest\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[{MODELS.group}]\n{name} = {place}\n")
    (site / f"{place.split(':')[0]}.py").write_text(MODEL)
    monkeypatch.syspath_prepend(str(site))
    yield site
    sys.modules.pop("pixal_nearest", None)


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A batch of one type, preprocessed: photographs, and ``out/Part``."""
    folder = tmp_path_factory.mktemp("batch")
    write_batch(
        folder, component="Part", types=("front",), train=8, good=2, bad=2, frame_size=(480, 270), kinds=("stain",)
    )
    pixal.preprocess(folder / "train" / "Part", config=config_in(folder), quiet=True)
    return folder


@pytest.mark.parametrize("model", ["nearest", "gaussian"])
def test_a_family_goes_the_whole_way(
    model: str, batch: Path, installed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    options = {"neighbours": 2} if model == "nearest" else {}
    config = config_in(batch, model=model, model_name="flex", model_options=options)
    outcome = pixal.train(config=config, quiet=True)
    assert isinstance(outcome, Outcome)
    assert outcome.done == 8
    folder = batch / "out" / "Part" / "front"
    record = read_record(folder / "metadata" / "model_training.yaml")
    assert (record["model"], record["model_options"]) == (model, options)
    assert (record["epochs_trained"], record["final_loss"]) == (0, None)
    assert {path.name for path in (folder / "model").glob("flex*")} == {"flex.weights.npz"}

    found = pixal.validate(batch / "production" / "Part", truth=batch / "truth", config=config, quiet=True)
    assert found.metrics is not None
    assert found.metrics.overall["image_auroc"] == 1
    trained = load_trained(config, "front")
    inputs = InputSet.load(batch / "validate" / "Part" / "front" / "out.npz")
    errors = trained.load_anomaly_model().error(inputs, slice(None))
    mask = trained.states["front"].mask
    weights = np.ones(inputs.shape[2], np.float32)
    maps = calibrated_maps(errors, trained.calibrations["front"].variance, mask, weights, 1.0)
    scores = {part.image: part.score for part in found.parts}
    np.testing.assert_allclose(part_scores(maps), [scores[name] for name in inputs.names], rtol=1e-6)


def test_the_gaussian_needs_no_tensorflow(batch: Path, tmp_path: Path) -> None:
    configs = tmp_path / "configs"
    configs.mkdir()
    (configs / "parameters.yaml").write_text(json.dumps(FASTER))
    (configs / "paths.yaml").write_text(
        f"component_model_path: {{component: Part, base: '{batch / 'out'}'}}\n"
        f"component_validate_path: {{component: Part, base: '{tmp_path / 'validate'}'}}\n"
    )
    code = f"""
import sys
from pixal.cli import main
chosen = ["-q", "--set", "model_training.model=gaussian"]
assert main(["train", *chosen]) == 0
assert main(["validate", "-i", {str(batch / "production" / "Part")!r}, *chosen]) == 0
print({{"tensorflow", "keras"}} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "set()\n"), done.stderr


def test_names_of_families(installed: Path, batch: Path) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "pixal.cli", "train", "--help"],
        env={**os.environ, "PYTHONPATH": str(installed), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "autoencoder" in shown
    assert "gaussian" in shown
    assert "nearest" in shown
    with pytest.raises(
        ValueError, match=r"'nearset' is not one of autoencoder, .*gaussian, nearest, .*; the nearest is nearest"
    ):
        PhotographParameters.model_validate({"model_training": {"model": "nearset"}})
    config = config_in(batch, model="nearest")
    (installed / "pixal_nearest.py").write_text("import a_package_that_nobody_has")
    with pytest.raises(
        ConfigError, match=r"nearest \(pixal_nearest:Nearest\) cannot be imported: No module named 'a_p"
    ):
        pixal.train(config=config, quiet=True)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("nearest", {"neighbours": 0}, r"model_options.neighbours: input should be greater .*are: neighbours$"),
        ("nearest", {"neighbors": 3}, r"model_options.neighbors: extra inputs are not permitted.*are: neighbours$"),
        ("gaussian", {"sigma": 2}, r"model_options.sigma: extra inputs .* the options of gaussian are: none$"),
    ],
)
def test_options_that_a_family_does_not_take(
    model: str, options: dict[str, Any], message: str, installed: Path, batch: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        pixal.train(config=config_in(batch, model=model, model_options=options), quiet=True)


def test_the_channel_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "CHANNELS", dict(channels.CHANNELS))
    exec(CHANNEL, vars(channels))
    image = np.zeros((4, 5, 3), np.uint8)
    image[:, 0], image[:, 1] = (255, 0, 0), (0, 255, 255)
    found = channels.compute_channels(image, ["Redness"])
    np.testing.assert_allclose(found[0, :3, 0], [1, 0, 0.5], atol=1e-6)
    del vars(channels)["_redness"]
