"""The code blocks of docs/extending.md work as the page describes: a model family, a channel, a defect, a task."""

from __future__ import annotations

import csv
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
from helpers import make_config

import pixal
from pixal.calibration.maps import calibrated_maps, part_scores
from pixal.cli import main
from pixal.defects import PlantedDefect, load_kind, plant
from pixal.errors import ConfigError
from pixal.inputs import InputSet
from pixal.io.records import read_record
from pixal.outcome import Outcome
from pixal.registry import DEFECTS, MODELS, TASKS
from pixal.synthetic import write_batch
from pixal.tasks.photographs.network_input import channels
from pixal.tasks.photographs.settings import PhotographConfig, PhotographParameters
from pixal.tasks.photographs.training.stored import load_trained

PAGE = (Path(__file__).parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
_BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
MODEL, CHANNEL, DEFECT, TASK = _BLOCKS[0], _BLOCKS[1], _BLOCKS[-2], _BLOCKS[-1]
QUICK: dict[str, Any] = {
    "preprocessing": {"draw_matches": False, "save_metrics": False, "save_overlays": False},
    "plotting": {"plot_anomaly_heatmap": False},
    "validation": {"save_anomaly_maps": False, "sensitivity": "off"},
}


def config_in(folder: Path, **model_training: Any) -> PhotographConfig:
    return make_config(folder, **QUICK, model_training=model_training)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Install the model package of the page in a folder on Python's path, in the way pip does."""
    site = tmp_path / "site-packages"
    name, target = re.findall(r'^\[project.entry-points."pixal.models"\]\n(\w+) = "([\w:]+)"$', PAGE, re.MULTILINE)[0]
    information = site / "pixal_nearest-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: pixal-nearest\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[{MODELS.group}]\n{name} = {target}\n")
    (site / f"{target.split(':')[0]}.py").write_text(MODEL)
    monkeypatch.syspath_prepend(str(site))
    yield site
    sys.modules.pop("pixal_nearest", None)


@pytest.fixture(scope="module")
def batch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a rendered batch of one type and of its preprocessed inputs."""
    folder = tmp_path_factory.mktemp("batch")
    write_batch(
        folder, component="Part", types=("front",), train=8, good=2, bad=2, frame_size=(480, 270), kinds=("stain",)
    )
    pixal.preprocess(folder / "train" / "Part", config=config_in(folder), quiet=True)
    return folder


@pytest.mark.parametrize("model", ["nearest", "gaussian"])
def test_a_family_trains_stores_and_validates(
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

    result = pixal.validate(batch / "production" / "Part", truth=batch / "truth", config=config, quiet=True)
    assert result.metrics is not None
    assert result.metrics.overall["image_auroc"] == 1
    trained = load_trained(config, "front")
    inputs = InputSet.load(batch / "validate" / "Part" / "front" / "out.npz")
    errors = trained.load_anomaly_model().error(inputs, slice(None))
    mask = trained.states["front"].mask
    weights = np.ones(inputs.shape[2], np.float32)
    maps = calibrated_maps(errors, trained.calibrations["front"].variance, mask, weights, 1.0)
    scores = {part.image: part.score for part in result.parts}
    np.testing.assert_allclose(part_scores(maps), [scores[name] for name in inputs.names], rtol=1e-6)


@pytest.mark.slow
def test_the_gaussian_needs_no_tensorflow(batch: Path, tmp_path: Path) -> None:
    configs = tmp_path / "configs"
    configs.mkdir()
    (configs / "parameters.yaml").write_text(json.dumps(QUICK))
    (configs / "paths.yaml").write_text(
        f"component_model_path: {{component: Part, base: '{batch / 'out'}'}}\n"
        f"component_validate_path: {{component: Part, base: '{tmp_path / 'validate'}'}}\n"
    )
    code = f"""
import sys
from pixal.cli import main
options = ["-q", "--set", "model_training.model=gaussian"]
assert main(["train", *options]) == 0
assert main(["validate", "-i", {str(batch / "production" / "Part")!r}, *options]) == 0
print({{"tensorflow", "keras"}} & set(sys.modules))
"""
    process = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (process.returncode, process.stdout) == (0, "set()\n"), process.stderr


def test_help_lists_all_families_and_bad_names_are_errors(installed: Path, batch: Path) -> None:
    help_text = subprocess.run(
        [sys.executable, "-m", "pixal.cli", "train", "--help"],
        env={**os.environ, "PYTHONPATH": str(installed), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "autoencoder" in help_text
    assert "gaussian" in help_text
    assert "nearest" in help_text
    with pytest.raises(
        ValueError, match=r"'nearset' is not one of autoencoder, .*gaussian, .*nearest, .*; the nearest is nearest"
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
def test_invalid_options_of_a_family_are_errors(
    model: str, options: dict[str, Any], message: str, installed: Path, batch: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        pixal.train(config=config_in(batch, model=model, model_options=options), quiet=True)


def test_the_channel_of_the_page_computes_its_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "CHANNELS", dict(channels.CHANNELS))
    exec(CHANNEL, vars(channels))
    image = np.zeros((4, 5, 3), np.uint8)
    image[:, 0], image[:, 1] = (255, 0, 0), (0, 255, 255)
    result = channels.compute_channels(image, ["Redness"])
    np.testing.assert_allclose(result[0, :3, 0], [1, 0, 0.5], atol=1e-6)
    del vars(channels)["_redness"]


@pytest.fixture
def ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Install the kind of defect of the page, and return its module."""
    site = tmp_path / "site-packages"
    information = site / "pixal_ring-1.0.dist-info"
    information.mkdir(parents=True)
    group = re.escape(DEFECTS.group)
    entry = re.findall(rf'^\[project.entry-points."{group}"\]\n(ring = )"(pixal_ring:ring)"$', PAGE, re.MULTILINE)[0]
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: pixal-ring\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[{DEFECTS.group}]\n{''.join(entry)}\n")
    (site / "pixal_ring.py").write_text(DEFECT)
    monkeypatch.syspath_prepend(str(site))
    yield site / "pixal_ring.py"
    sys.modules.pop("pixal_ring", None)
    load_kind.cache_clear()


def test_a_kind_of_defect_of_another_package_is_planted(ring: Path) -> None:
    photograph = np.full((60, 80, 3), 120, np.uint8)
    planted = plant(photograph, PlantedDefect("ring", 30, 0.4, (40, 30)), np.eye(3))
    distance = np.hypot(*(np.mgrid[0:60, 0:80] - np.array([30, 40])[:, None, None]))
    assert set(planted.image[(distance > 11) & (distance < 13)].ravel()) == {72}  # 0.4 darker
    assert not planted.mask[(distance < 6.5) | (distance > 17.5)].any()


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import a_package_that_nobody_has", "cannot be imported: No module named 'a_p"),
        ("ring = 1 / 0", "cannot be imported: division by zero"),
        ("def ring(site): pass", "is no kind of defect; decorate its function"),
        (DEFECT.replace("np.zeros_like(site.pixels)", "np.zeros((2, 2))"), r"pixels .2, 2. must have the shapes"),
    ],
)
def test_a_broken_kind_of_defect_is_one_clear_line(code: str, message: str, ring: Path) -> None:
    ring.write_text(code)
    with pytest.raises(ConfigError, match=message) as caught:
        plant(np.full((60, 80, 3), 120, np.uint8), PlantedDefect("ring", 30, 0.4, (40, 30)), np.eye(3))
    assert "ring" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture
def curves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a working directory with 3 CSV files to train on and 2 new ones, and install the task of the page."""
    site = tmp_path / "site-packages"
    information = site / "pixal_curves-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: pixal-curves\nVersion: 1.0\n")
    groups = re.findall(r'^\[project.entry-points."(pixal.\w+)"\]\n(\w+ = )"(pixal_curves:\w+)"$', PAGE, re.MULTILINE)
    assert [group for group, _, _ in groups] == [TASKS.group, MODELS.group]
    (information / "entry_points.txt").write_text(
        "".join(f"[{group}]\n{name}{target}\n" for group, name, target in groups)
    )
    (site / "pixal_curves.py").write_text(TASK)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(5)
    for name, count in (("good", 3), ("new", 2)):
        (tmp_path / name).mkdir()
        for number in range(count):
            samples = generator.random((20, 8))
            target = 2 * samples[:, :2].mean(1) - samples[:, 4:6].mean(1) + 0.5
            np.savetxt(tmp_path / name / f"{number}.csv", np.column_stack([target, samples]), delimiter=",")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/parameters.yaml").write_text("task: curves\ncurves: {average: 2}\n")
    (tmp_path / "configs/paths.yaml").write_text(
        "component_model_path: {component: Curves, base: ./out}\n"
        "component_validate_path: {component: Curves, base: ./validate}\n"
    )
    yield tmp_path
    sys.modules.pop("pixal_curves", None)


def test_a_task_of_another_package_runs_through_the_same_commands(
    curves: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["preprocess", "-q", "-i", "good"]) == 0
    inputs = InputSet.load(curves / "out/Curves/out.npz")
    assert inputs.targets is not None
    assert (inputs.shape, inputs.targets.shape) == ((1, 4, 1), (60, 1))
    assert main(["train", "-q"]) == 0
    record = read_record(curves / "out/Curves/metadata/model_training.yaml")
    assert (record["model"], record["n_images"], record["settings"]["curves"]) == ("linear", 60, {"average": 2})

    (curves / "new/2.csv").write_text("voltage,current\n")
    capsys.readouterr()
    assert main(["validate", "-q", "-i", "new"]) == 3
    assert "curves/2.csv: could not convert" in capsys.readouterr().err
    with (curves / "validate/Curves/results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == ["0.csv"] * 20 + ["1.csv"] * 20
    np.testing.assert_allclose(
        [float(row["predicted"]) for row in rows], [float(row["target"]) for row in rows], atol=1e-5
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["align", "-i", "good"], "pixal align does not apply to task curves"),
        (["validate", "-i", "new", "--watch"], "pixal validate --watch does not apply to task curves"),
        (["preprocess", "-i", "good", "--set", "curves.averages=2"], "unknown key curves.averages"),
        (["preprocess", "-i", "good", "--set", "plotting.plot_loss=False"], "unknown key plotting"),
        (["preprocess", "-i", "good", "--set", "curves.average=0"], "curves.average: input should be greater"),
        (
            ["preprocess", "-i", "good", "--set", "task=curve"],
            "'curve' is not one of charge_clusters, curves, photographs; the nearest",
        ),
    ],
)
def test_commands_and_keys_that_a_task_does_not_have_are_one_line_errors(
    arguments: list[str], message: str, curves: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    stderr = capsys.readouterr().err
    assert stderr.count("\n") == 1
    assert message in stderr


def test_a_task_names_the_models_that_it_supports(curves: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["preprocess", "-q", "-i", "good"])
    assert main(["train", "-q", "--set", "model_training.model=gaussian"]) == 2
    assert "the only model of the task curves is linear" in capsys.readouterr().err


def test_photographs_need_a_model_with_error_maps(
    curves: Path, batch: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_in(batch, model="linear")
    with pytest.raises(ConfigError, match="linear does not show where a part differs"):
        pixal.train(config=config, quiet=True)
