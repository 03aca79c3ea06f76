"""The benchmark command on a data set of several classes, and validation with the model of another type."""

from __future__ import annotations

import csv
import json
import os
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
import yaml
from jsonschema import Draft202012Validator
from numpy.typing import NDArray
from referencing import Registry, Resource

import pixal
from pixal import cli
from pixal.config.loading import DEFAULTS
from pixal.errors import ConfigError, InputError, ModelError, PixalError
from pixal.tasks.photographs.settings import PhotographConfig
from pixal.tasks.photographs.verdicts import benchmark as benchmark_module
from pixal.tasks.photographs.verdicts.benchmark_results import MASTER_COLUMNS, MEASURES, ClassResult, MasterResults
from pixal.tasks.photographs.verdicts.watch import watch

SIZE = (60, 70)
FIGURES = ("loss", "accuracy", "distributions", "mse_per_pixel", "abs_loss_per_pixel", "pixel_predictions")
SETTINGS = [
    *("preprocessing.remove_background.method=none", "preprocessing.alignment.apply_alignment=False"),
    *("preprocessing.alignment.MIN_SCORE_THRESHOLD=-1", "preprocessing.alignment.MAX_MSE_THRESHOLD=65025"),
    *("preprocessing.draw_matches=False", "preprocessing.save_metrics=False", "preprocessing.save_overlays=False"),
    *("model_training.model=gaussian", "model_training.calibration_folds=3", "execution.workers=1"),
    "validation.sensitivity=off",
    *(
        f"plotting.plot_{name}=False"
        for name in (*FIGURES, "roc_recall_curve", "confusion_matrix", "latent_space", "anomaly_heatmap")
    ),
]
OPTIONS = [word for setting in SETTINGS for word in ("--set", setting)]
DOCS = Path(__file__).parents[2] / "docs"


def texture(generator: np.random.Generator, pitch: float) -> NDArray[np.uint8]:
    plane = 128 + 25 * np.sin(np.arange(SIZE[1]) / pitch) + cv2.GaussianBlur(generator.normal(0, 40, SIZE), (0, 0), 1)
    return np.clip(np.dstack([plane, plane, 0.8 * plane]), 0, 255).astype(np.uint8)


def write(path: Path, image: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)


def write_class(root: Path, seed: int, pitch: float, contrast: int) -> None:
    """Write a class in the layout of MVTec AD: 8 good training images, 4 good test images, 4 with a spot.

    The spot is ``contrast`` grey levels darker than its surroundings.
    """
    generator = np.random.default_rng(seed)
    for name, count in (("train/good", 8), ("test/good", 4)):
        for index in range(count):
            write(root / name / f"{index:03d}.png", texture(generator, pitch))
    for index in range(4):
        image, mask = texture(generator, pitch), np.zeros(SIZE, np.uint8)
        cv2.circle(mask, tuple(generator.integers(15, 45, 2).tolist()), 5, 255, -1)
        image[mask > 0] -= np.minimum(image[mask > 0], contrast).astype(np.uint8)
        write(root / "test/spot" / f"{index:03d}.png", image)
        write(root / "ground_truth/spot" / f"{index:03d}_mask.png", mask)


@pytest.fixture(scope="module")
def config() -> PhotographConfig:
    return pixal.load_config(DEFAULTS, SETTINGS)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, config: PhotographConfig) -> tuple[Path, MasterResults]:
    """Return the folder of a benchmark of three classes in ``sets``, one of them damaged; and its results."""
    folder = tmp_path_factory.mktemp("benchmark")
    for seed, (name, pitch, contrast) in enumerate([("cord", 2.0, 25), ("felt", 3.0, 120)]):
        write_class(folder / "sets" / name, seed, pitch, contrast)
    for index in range(3):
        path = folder / "sets/broken/train/good" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"no image")
    (folder / "sets/license.txt").write_text("as in the archive")
    (folder / "sets/notes").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return folder, pixal.benchmark("sets", config=config, quiet=True)


@pytest.fixture
def workdir(run: tuple[Path, MasterResults], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy the benchmark into a new working directory; the data set is a link."""
    shutil.copytree(run[0] / "benchmark", tmp_path / "benchmark")
    (tmp_path / "sets").symlink_to(run[0] / "sets", target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(path: Path) -> dict[str, dict[str, str]]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == MASTER_COLUMNS
    assert f"\n{','.join(MASTER_COLUMNS)}\n" in (DOCS / "outputs.md").read_text("utf-8")
    return {row["class"]: row for row in rows}


def scores(folder: Path) -> dict[str, Any]:
    """Return score, p-value, threshold, verdict and regions of each photograph."""
    parts = json.loads((folder / "results.json").read_text())["parts"]
    return {
        part["image"]: [part[key] for key in ("score", "p_value", "threshold", "verdict", "regions")] for part in parts
    }


def test_the_table_holds_the_measures_of_each_class_and_their_mean(run: tuple[Path, MasterResults]) -> None:
    folder, results = run
    rows = table(folder / "benchmark/master_results.csv")
    assert list(rows) == ["broken", "cord", "felt", "mean"]
    metrics = {}
    for name in ("cord", "felt"):
        metrics[name] = json.loads((folder / "benchmark/validate" / name / "metrics.json").read_text())["types"][name]
        for measure in MEASURES:
            assert float(rows[name][measure]) == pytest.approx(metrics[name][measure], rel=1e-8), (name, measure)
        columns = ("model", "images_trained", "parts", "status", "reason")
        assert [rows[name][key] for key in columns] == ["gaussian", "8", "8", "ok", ""]
        assert float(rows[name]["seconds_a_part"]) > 0
        trained = yaml.safe_load((folder / f"benchmark/out/{name}/{name}/metadata/model_training.yaml").read_text())
        assert float(rows[name]["training_seconds"]) == trained["training_seconds"]
    for measure in MEASURES:
        mean = (metrics["cord"][measure] + metrics["felt"][measure]) / 2
        assert float(rows["mean"][measure]) == pytest.approx(mean, rel=1e-8)
    assert metrics["cord"] != metrics["felt"]
    assert [result.class_name for result in results.classes] == ["broken", "cord", "felt"]


def test_a_damaged_class_fails_and_the_others_are_validated(
    run: tuple[Path, MasterResults], workdir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, results = run
    row = table(folder / "benchmark/master_results.csv")["broken"]
    assert row["status"] == "failed"
    assert "none of 3 images could be processed" in row["reason"]
    assert all(row[name] == "" for name in MASTER_COLUMNS[2:-2])
    assert table(folder / "benchmark/master_results.csv")["mean"]["reason"] == "without 1 of 3 classes, which failed"
    assert not results.all_failed
    assert cli.main(["benchmark", "-q", "-i", "sets", "--classes", "felt", "broken", *OPTIONS]) == 3
    stderr = capsys.readouterr().err
    assert stderr == f"pixal: not processed: broken: {row['reason']}\n"
    assert list(table(workdir / "benchmark/master_results.csv")) == ["broken", "felt", "mean"]
    assert cli.main(["benchmark", "-q", "-i", "sets", "--classes", "broken", *OPTIONS]) == 2


def test_an_unexpected_failure_is_a_row_of_the_table(
    workdir: Path, config: PhotographConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise MemoryError("too large")

    monkeypatch.setattr(benchmark_module, "train", fails)
    results = pixal.benchmark("sets", classes=["cord"], config=config, force=True, quiet=True)
    assert results.failures == ["cord: unexpected failure: MemoryError: too large"]
    assert results.all_failed


def test_an_interrupted_run_is_resumed(
    run: tuple[Path, MasterResults],
    config: PhotographConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    called: list[tuple[str, str]] = []

    def stopped(path: Path, **options: Any) -> Any:
        called.append(("validate", Path(path).name))
        if called.count(("validate", "felt")) == 1 and Path(path).name == "felt":
            raise KeyboardInterrupt
        return pixal.validate(path, **options)

    def recorded(path: Path, **options: Any) -> Any:
        called.append(("preprocess", Path(path).name))
        return pixal.preprocess(path, **options)

    monkeypatch.setattr(benchmark_module, "validate", stopped)
    monkeypatch.setattr(benchmark_module, "preprocess", recorded)
    command = ["benchmark", "-q", "-i", str(run[0] / "sets"), "-o", "results", "--classes", "cord", "felt", *OPTIONS]
    assert cli.main(command) == 130
    assert capsys.readouterr().err == "pixal: benchmark stopped; the same command resumes it\n"
    killed = table(Path("results/master_results.csv"))
    assert list(killed) == ["cord", "mean"]
    trained = Path("results/out/felt/felt/metadata/model_training.yaml").read_bytes()
    called.clear()
    called.append(("validate", "felt"))  # do not interrupt it this time
    assert cli.main(command) == 0
    assert called == [("validate", "felt"), ("preprocess", "felt"), ("validate", "felt")]
    assert Path("results/out/felt/felt/metadata/model_training.yaml").read_bytes() == trained
    rows, whole = table(Path("results/master_results.csv")), table(run[0] / "benchmark/master_results.csv")
    assert rows["cord"] == killed["cord"]
    for name in ("cord", "felt"):
        assert [rows[name][key] for key in MEASURES] == [whole[name][key] for key in MEASURES]


@pytest.fixture
def classes_run(workdir: Path, monkeypatch: pytest.MonkeyPatch, run: tuple[Path, MasterResults]) -> list[str]:
    """Replace the run of a class; return the list to which the name of each class is added."""
    names: list[str] = []
    results = {result.class_name: result for result in run[1].classes}

    def recorded(self: Any, **_: Any) -> ClassResult:
        names.append(self.name)
        return results[self.name]

    monkeypatch.setattr(benchmark_module._ClassRun, "_run", recorded)
    # The first run is needed because the files of the data set have other paths than in ``run``.
    pixal.benchmark("sets", classes=["cord", "felt"], config=pixal.load_config(DEFAULTS, SETTINGS), quiet=True)
    names.clear()
    return names


def test_a_class_runs_again_only_if_its_files_or_settings_change(workdir: Path, classes_run: list[str]) -> None:
    def run_again(*more: str, force: bool = False) -> list[str]:
        settings = pixal.load_config(DEFAULTS, [*SETTINGS, *more])
        pixal.benchmark("sets", classes=["felt", "cord"], config=settings, force=force, quiet=True)
        done = classes_run[:]
        classes_run.clear()
        return done

    both = ["cord", "felt"]
    assert run_again() == []
    assert run_again("execution.workers=2") == []
    assert run_again(force=True) == both
    assert run_again("validation.false_alarm_rate=0.05") == both
    assert run_again() == both
    results = workdir / "benchmark/validate/felt/results.json"
    results.write_text(results.read_text().replace('"pass"', '"fail"', 1))  # for example by a later ``pixal validate``
    assert run_again() == ["felt"]
    (workdir / "sets").unlink()
    for name in both:
        write_class(workdir / "sets" / name, 0, 2.0, 100)
    assert run_again() == both
    added = workdir / "sets/cord/test/good/new.png"
    shutil.copy(workdir / "sets/cord/test/good/000.png", added)
    assert run_again() == ["cord"]
    os.utime(workdir / "sets/felt/ground_truth/spot/000_mask.png", (1, 1))
    assert run_again() == ["felt"]


@pytest.mark.parametrize(
    ("root", "classes", "message"),
    [
        ("nowhere", None, "nowhere does not exist"),
        ("sets/notes", None, "holds no class: a folder with train/good"),
        ("sets/felt", None, "sets/felt is a class itself; name the folder above it, with --classes felt"),
        ("sets", ["felt", "flet"], "sets holds no class flet; its classes are broken, cord, felt"),
    ],
)
def test_a_folder_that_is_no_data_set_is_an_error(
    workdir: Path, config: PhotographConfig, root: str, classes: list[str] | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        pixal.benchmark(root, classes=classes, config=config, quiet=True)


def test_the_components_of_a_rendered_batch_are_classes(tmp_path: Path) -> None:
    for name in ("train/B/front", "train/A/front", "production/A/front", "truth/front", "truth/B/front"):
        (tmp_path / name).mkdir(parents=True)
    classes = benchmark_module._find_classes(tmp_path, None)
    assert [(folders.name, folders.train, folders.test, folders.truth) for folders in classes] == [
        ("A", tmp_path / "train/A", tmp_path / "production/A", tmp_path / "truth"),
        ("B", tmp_path / "train/B", tmp_path / "production/B", tmp_path / "truth/B"),
    ]


@pytest.fixture
def felt_config(workdir: Path, config: PhotographConfig, monkeypatch: pytest.MonkeyPatch) -> PhotographConfig:
    """Return the settings of component felt, with the benchmark folder as working directory."""
    monkeypatch.chdir(workdir / "benchmark")
    return PhotographConfig(config.parameters, config.paths.for_component("felt"), config.source)


def test_the_model_of_another_type_scores_parts_like_its_own(workdir: Path, felt_config: PhotographConfig) -> None:
    shutil.copytree(workdir / "sets/cord", workdir / "renamed/felt")
    folder = Path("validate/felt")
    pixal.validate(workdir / "renamed/felt", truth=workdir / "renamed/felt", config=felt_config, quiet=True)
    expected = scores(folder)
    measures = json.loads((folder / "metrics.json").read_text())["overall"]
    maps = {path.name: tifffile.imread(path) for path in (folder / "felt/anomaly_maps").iterdir()}
    assert "type" not in json.loads((folder / "results.json").read_text())["model"]

    pixal.validate(workdir / "sets/cord", truth=workdir / "sets/cord", model="felt", config=felt_config, quiet=True)
    assert scores(folder) == expected
    assert json.loads((folder / "metrics.json").read_text())["overall"] == measures
    for name, values in maps.items():
        assert np.array_equal(tifffile.imread(folder / "cord/anomaly_maps" / name), values), name
    results = json.loads((folder / "results.json").read_text())
    schemas = {kind: json.loads((DOCS / f"{kind}.schema.json").read_text("utf-8")) for kind in ("results", "metrics")}
    registry = Registry().with_resources((schema["$id"], Resource.from_contents(schema)) for schema in schemas.values())
    Draft202012Validator(schemas["results"], registry=registry).validate(results)
    assert results["model"]["type"] == "felt"
    assert list(results["types"]) == ["cord"]
    assert "validated with the model of felt" in (folder / "report.html").read_text("utf-8")
    record = yaml.safe_load((folder / "cord/metadata/preprocessing.yaml").read_text())
    assert record["judged_by"] == "felt"

    pixal.detect(config=felt_config, quiet=True)  # the inputs were prepared for the model of felt
    assert scores(folder) == expected
    assert json.loads((folder / "results.json").read_text())["model"]["type"] == "felt"


def test_verdicts_of_different_models_never_mix(
    workdir: Path, config: PhotographConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workdir / "benchmark")
    cord = PhotographConfig(config.parameters, config.paths.for_component("cord"), config.source)
    folder = Path("validate/cord")
    before = scores(folder)
    pixal.validate(workdir / "sets/cord", model="felt/felt", config=cord, quiet=True)
    other = scores(folder)
    assert before.keys() == other.keys()
    assert all(before[name][0] != other[name][0] for name in before)
    assert json.loads((folder / "results.json").read_text())["model"]["type"] == "felt/felt"
    again = pixal.validate(workdir / "sets/cord", model="felt/felt", config=cord, quiet=True)
    assert again.seconds_per_part is None  # all verdicts were stored
    assert scores(folder) == other
    pixal.validate(workdir / "sets/cord", config=cord, quiet=True)
    assert scores(folder) == before
    pixal.validate(workdir / "sets/cord", model="cord", config=cord, quiet=True)  # the type's own model, by name
    assert scores(folder) == before
    assert "type" not in json.loads((folder / "results.json").read_text())["model"]


def test_watch_uses_the_named_model(workdir: Path, felt_config: PhotographConfig) -> None:
    incoming = workdir / "incoming/unknown"
    shutil.copytree(workdir / "sets/felt/test/spot", incoming)
    scans = iter(range(3))

    def pause(_: float) -> None:
        if next(scans, None) is None:
            raise KeyboardInterrupt

    batch = watch(workdir / "incoming", model="felt", config=felt_config, pause=pause)
    assert [part.type for part in batch.parts] == ["unknown"] * 4
    watch_scores = [part.score for part in batch.parts]
    with pytest.raises(ModelError, match="type unknown was never trained"):
        pixal.validate(workdir / "incoming", config=felt_config, quiet=True)
    pixal.validate(workdir / "sets/felt", config=felt_config, quiet=True)
    assert watch_scores == [values[0] for name, values in scores(Path("validate/felt")).items() if "spot" in name]


@pytest.mark.parametrize(
    ("name", "more", "error", "message"),
    [
        ("flet", [], ModelError, r"type flet was never trained \(trained in .*: felt\); the nearest is felt"),
        ("cord/felt", [], ModelError, r"type felt was never trained \(trained in out.cord: cord\)"),
        ("wool/felt", [], ModelError, r"nothing in out/wool is trained yet"),
        ("../cord/felt", [], InputError, "expected TYPE, or COMPONENT/TYPE"),
        ("", [], InputError, "expected TYPE, or COMPONENT/TYPE"),
        ("felt", ["model_training.one_hot_encoding=True"], InputError, "one model serves all types"),
    ],
)
def test_a_model_that_cannot_be_used_is_an_error(
    workdir: Path, felt_config: PhotographConfig, name: str, more: list[str], error: type[PixalError], message: str
) -> None:
    before = (Path("validate/felt/results.json")).read_bytes()
    settings = PhotographConfig(
        pixal.load_config(DEFAULTS, [*SETTINGS, *more]).parameters, felt_config.paths, felt_config.source
    )
    with pytest.raises(error, match=message):
        pixal.validate(workdir / "sets/cord", model=name, config=settings, quiet=True)
    assert Path("validate/felt/results.json").read_bytes() == before


def test_paths_without_a_component_name_are_an_error(workdir: Path, config: PhotographConfig) -> None:
    paths = type(config.paths)({"component_model_path": "./out/A", "component_validate_path": "./validate/A"})
    with pytest.raises(ConfigError, match="entry component_model_path must have the form"):
        pixal.benchmark("sets", config=PhotographConfig(config.parameters, paths, config.source), quiet=True)
