"""The evaluate command: its measures against their formulas, its files against its measures, and its errors."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

import pixal
from pixal import cli
from pixal.config import load_config
from pixal.errors import InputError, ModelError
from pixal.inputs import InputSet
from pixal.io.arrays import load_arrays, save_arrays
from pixal.io.files import file_hash
from pixal.io.records import read_record, with_hash, write_record
from pixal.tasks.photographs.probing.reconstruction import reconstruction_measures
from pixal.tasks.photographs.probing.sample import PartSample
from pixal.tasks.photographs.training.stored import load_trained
from pixal.tracking import Tracker

METADATA = Path("out/Part/front/metadata")
FIGURE = Path("out/Part/front/figures/evaluation_reconstructions.png")
Image = NDArray[np.float32]


@pytest.fixture
def work(trained_front: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracked_runs: list[Tracker]) -> Path:
    """A copy of the trained model, as the working directory."""
    shutil.copytree(trained_front, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def drawn(seed: int = 0) -> tuple[Image, Image, NDArray[np.bool_]]:
    """An image (12, 15, 2), an error, and a mask."""
    generator = np.random.default_rng(seed)
    mask = np.zeros((12, 15), bool)
    mask[2:11, 3:13] = True
    image = generator.random((12, 15, 2), np.float32)
    return image, 0.2 * generator.standard_normal((12, 15, 2)).astype(np.float32), mask


def similarity(one: NDArray[Any], other: NDArray[Any], row: int, column: int, reach: int = 3) -> float:
    """SSIM of two planes in one window, by the formula of Wang et al. (2004), with the sample covariance."""
    ours, theirs = (
        np.pad(plane.astype(np.float64), reach, "symmetric")[row : row + 2 * reach + 1, column : column + 2 * reach + 1]
        for plane in (one, other)
    )
    covariance = np.cov(ours.ravel(), theirs.ravel())
    first, second = 0.01**2, 0.03**2
    top = (2 * ours.mean() * theirs.mean() + first) * (2 * covariance[0, 1] + second)
    bottom = (ours.mean() ** 2 + theirs.mean() ** 2 + first) * (covariance[0, 0] + covariance[1, 1] + second)
    return float(top / bottom)


def test_measures_are_their_formulas_over_the_mask() -> None:
    image, error, mask = drawn()
    found = reconstruction_measures(image, error, mask)
    right = image - np.where(mask[..., None], error, 0)
    for channel in range(2):
        values = [error[row, column, channel] for row, column in np.argwhere(mask)]
        assert found["mse"][channel] == pytest.approx(sum(float(v) ** 2 for v in values) / len(values), rel=1e-6)
        assert found["mae"][channel] == pytest.approx(sum(abs(float(v)) for v in values) / len(values), rel=1e-6)
        planes = image[..., channel], right[..., channel]
        windows = [similarity(*planes, row, column) for row, column in np.argwhere(mask)]
        assert found["ssim"][channel] == pytest.approx(np.mean(windows), abs=1e-5)


def test_pixels_outside_the_mask_do_not_count_and_a_perfect_reconstruction_has_ssim_1() -> None:
    image, error, mask = drawn()
    other = np.where(mask[..., None], error, 7)
    for name, values in reconstruction_measures(image, error, mask).items():
        np.testing.assert_array_equal(values, reconstruction_measures(image, other, mask)[name])
    perfect = reconstruction_measures(image, np.zeros_like(error), mask)
    assert [perfect[name].tolist() for name in ("mse", "mae", "ssim")] == [[0, 0], [0, 0], [1, 1]]


@pytest.mark.parametrize("size", [(4, 20), (3, 3), (6, 7)])
def test_an_image_smaller_than_the_window_is_measured_too(size: tuple[int, int]) -> None:
    found = reconstruction_measures(
        np.ones((*size, 1), np.float32), np.zeros((*size, 1), np.float32), np.ones(size, bool)
    )
    assert found["ssim"][0] == pytest.approx(1)


def test_the_sample_is_random_and_depends_on_the_seed() -> None:
    blank = np.zeros((1, 1, 1), np.float32)

    def names(total: int, added: int, seed: int) -> list[str]:
        sample = PartSample(total, 3, seed)
        for number in range(added):
            sample.add(f"{number:02d}", blank, blank)
            assert len(sample.names) <= 3
        return sample.names

    assert names(20, 20, 1) == names(20, 20, 1) == sorted(names(20, 20, 1))
    assert len({tuple(names(20, 20, seed)) for seed in range(8)}) > 4
    assert names(20, 2, 1) == ["00", "01"]
    counts = np.bincount([int(name) for seed in range(400) for name in names(6, 6, seed)], minlength=6)
    assert (np.abs(counts - 200) < 5 * np.sqrt(400 * 0.25)).all()


def test_the_files_hold_the_measures_of_the_reconstructions(
    work: Path, tracked_runs: list[Tracker], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["evaluate", "-q", "--samples", "2"]) == cli.ExitStatus.DONE
    printed = capsys.readouterr().out
    model = load_trained(load_config("configs"), "front")
    inputs, mask = InputSet.load(work / "out/Part/front/out.npz"), model.states["front"].mask
    errors = model.load_anomaly_model().error(inputs, slice(None))
    expected = [reconstruction_measures(*pair, mask) for pair in zip(inputs.images(), errors, strict=True)]
    with (METADATA / "evaluation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == list(inputs.names)
    record = yaml.safe_load((METADATA / "evaluation.yaml").read_text())
    for name in ("mse", "mae", "ssim"):
        values = np.array([one[name] for one in expected])
        np.testing.assert_allclose([float(row[name]) for row in rows], values.mean(1), rtol=1e-5)
        for index, channel in enumerate(inputs.channels):
            np.testing.assert_allclose([float(row[f"{name}_{channel}"]) for row in rows], values[:, index], rtol=1e-5)
            spread = record["measures"][name]["channels"][channel]
            assert spread["mean"] == pytest.approx(values[:, index].mean(), rel=1e-5)
            assert spread["std"] == pytest.approx(values[:, index].std(), rel=1e-3)
        assert record["measures"][name]["mean"] == pytest.approx(values.mean(), rel=1e-5)
        assert f"{values.mean():.3g} +- " in printed
    assert record["n_images"] == 5
    assert record["model_fingerprint"] == model.record.fingerprint
    assert len(record["drawn"]) == 2
    assert set(record["drawn"]) <= set(inputs.names)
    tracker = tracked_runs[-1]
    assert (tracker.command, tracker.status) == ("evaluate", "FINISHED")
    assert {row.name: row.value for row in tracker.metrics}["front/ssim"] == record["measures"]["ssim"]["mean"]
    assert {path.name for path, _ in tracker.artifacts} == {"evaluation.yaml", "evaluation.csv", FIGURE.name}

    figure = FIGURE.read_bytes()
    pixal.evaluate(samples=2, quiet=True)
    assert FIGURE.read_bytes() == figure
    pixal.evaluate(samples=0, quiet=True)
    assert not FIGURE.exists()


def test_a_checkpoint_replaces_the_weights(work: Path) -> None:
    before = pixal.evaluate(samples=0, quiet=True).types["front"].measures
    family = load_trained(load_config("configs"), "front").load_anomaly_model()
    weights = family.model.get_weights()  # type: ignore[attr-defined]
    without = [np.zeros_like(values) if values.ndim else values for values in weights]  # the scale divides
    family.model.set_weights(without)  # type: ignore[attr-defined]
    folder = work / "out/Part/front/model/checkpoints"
    folder.mkdir()
    family.model.save_weights(folder / "pixal_autoencoder_epoch_0003.weights.h5")  # type: ignore[attr-defined]
    inputs = InputSet.load(work / "out/Part/front/out.npz")
    mask = load_trained(load_config("configs"), "front").states["front"].mask
    expected = float((inputs.images()[:, mask] ** 2).mean())  # with zero weights the reconstruction is zero
    for checkpoint in (3, "3", folder / "pixal_autoencoder_epoch_0003.weights.h5"):
        found = pixal.evaluate(checkpoint=checkpoint, samples=0, quiet=True).types["front"]
        assert found.measures["mse"].mean == pytest.approx(expected, rel=1e-5)
        assert str(found.checkpoint).endswith("epoch_0003.weights.h5")
    assert pixal.evaluate(samples=0, quiet=True).types["front"].measures == before


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        ("7", r"epoch_0007\.weights\.h5 does not exist \(stored epochs: 3, 12\)"),
        ("out/Part/front/nowhere.weights.h5", "nowhere.weights.h5 does not exist"),
        ("out/Part/front/model/calibration.npz", "does not match this model"),
    ],
)
def test_a_missing_or_wrong_checkpoint_is_a_one_line_error(
    work: Path, capsys: pytest.CaptureFixture[str], checkpoint: str, message: str
) -> None:
    for epoch in (12, 3):
        path = work / f"out/Part/front/model/checkpoints/pixal_autoencoder_epoch_{epoch:04d}.weights.h5"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    assert cli.main(["evaluate", "-q", "--checkpoint", checkpoint]) == cli.ExitStatus.BAD_INPUT
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert re.search(message, error), error


@pytest.mark.parametrize("samples", ["-1", "some"])
def test_a_bad_number_of_samples_is_an_error(samples: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["evaluate", f"--samples={samples}"])
    assert stop.value.code == cli.ExitStatus.BAD_INPUT
    assert "is not a whole number from 0" in capsys.readouterr().err


def test_families_without_reconstructions_or_checkpoints_are_an_error(work: Path) -> None:
    record = METADATA / "model_training.yaml"
    before = read_record(record)
    calibration = METADATA.parent / "model/calibration.npz"
    arrays = load_arrays(calibration)
    save_arrays(calibration, **(arrays | {"variance_0": arrays["variance_0"][..., :1]}))
    files = before["files"] | {"calibration.npz": file_hash(calibration)}
    write_record(record, with_hash(before | {"gives_distance": True, "files": files}))
    with pytest.raises(ModelError, match="makes no reconstruction"):
        pixal.evaluate(quiet=True)
    config = load_config("configs", ["model_training.model=gaussian"])
    pixal.train(config=config, quiet=True)
    with pytest.raises(ModelError, match="gaussian has no checkpoints; leave --checkpoint out"):
        pixal.evaluate(checkpoint=1, config=config, quiet=True)
    assert pixal.evaluate(samples=0, config=config, quiet=True).types["front"].model == "gaussian"


def test_photographs_give_the_measures_of_their_inputs(work: Path) -> None:
    of_file = pixal.evaluate(samples=0, quiet=True).types["front"]
    (work / "photographs/front/broken.png").write_bytes(b"none")
    found = pixal.evaluate("photographs/front", samples=0, quiet=True)
    assert [failure.image for failure in found.failures] == ["broken.png"]
    for name in ("mse", "mae", "ssim"):
        assert found.types["front"].measures[name].mean == pytest.approx(of_file.measures[name].mean, rel=1e-6)
    with pytest.raises(InputError, match=r"nothing could be evaluated; the first failure: front/broken\.png"):
        pixal.evaluate("photographs/front/broken.png", quiet=True)


def test_the_folder_of_an_npz_gives_its_type(work: Path) -> None:
    arrays = load_arrays(work / "out/Part/front/out.npz")
    save_arrays(work / "front/two.npz", **(arrays | {"data": arrays["data"][:2], "names": arrays["names"][:2]}))
    assert pixal.evaluate("front/two.npz", samples=0, quiet=True).types["front"].n_images == 2
