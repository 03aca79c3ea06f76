"""Validate and detect on part of a batch: nothing is done twice, and no backend changes a result."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from dask_processes import local_cluster
from helpers import NO_FIGURES

import pixal
from pixal.config import load_config
from pixal.config.schema import Execution
from pixal.inputs import InputSet
from pixal.io.arrays import load_arrays
from pixal.io.images import read_image
from pixal.tasks.photographs.discovery import Photograph
from pixal.tasks.photographs.parts import PreparedPart
from pixal.tasks.photographs.settings import PhotographConfig, photograph_config
from pixal.tasks.photographs.verdicts import part_files, validate_type
from pixal.tasks.photographs.verdicts.preparation import Preparation
from pixal.tasks.photographs.verdicts.type_verdicts import TypeVerdicts
from pixal.train_model.autoencoder.prediction import DensePredictor

RESULTS = Path("validate/Part")
PHOTOGRAPHS = Path("new/front")


def settings(*overrides: str) -> PhotographConfig:
    return photograph_config(load_config(overrides=[*NO_FIGURES, "execution.workers=2", *overrides]))


@pytest.fixture
def batch(trained_front: Path, rendered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a trained model, and eight photographs of its type."""
    shutil.copytree(trained_front, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(rendered / "production/Part/front", PHOTOGRAPHS)
    return tmp_path


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The photographs that the model runs on, each time that it does."""
    names: list[str] = []
    score = TypeVerdicts.score

    def record(self: TypeVerdicts, parts: list[PreparedPart], *arguments: Any, **options: Any) -> Any:
        names.extend(part.record.image for part in parts)
        return score(self, parts, *arguments, **options)

    monkeypatch.setattr(TypeVerdicts, "score", record)
    return names


def table() -> list[dict[str, str]]:
    with (RESULTS / "results.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def sums() -> dict[str, Any]:
    return load_arrays(RESULTS / "front/metadata/sums.npz")


def assert_same_sums(actual: dict[str, Any], expected: dict[str, Any]) -> None:
    assert sorted(actual["counted"]) == sorted(expected["counted"])
    assert actual["parts"] == expected["parts"]
    for name in ("losses", "pairs"):
        np.testing.assert_array_equal(actual[name], expected[name])
    for name in ("squared", "absolute", "anomaly"):
        np.testing.assert_allclose(actual[name], expected[name], rtol=1e-4, atol=1e-6 * expected[name].max())


def test_the_model_runs_only_on_removed_and_new_photographs(batch: Path, scored: list[str]) -> None:
    (PHOTOGRAPHS / "part_007.jpg").rename("later.jpg")
    pixal.validate("new", config=settings(), quiet=True)
    assert sorted(scored) == [f"part_00{index}.jpg" for index in range(7)]
    scored.clear()
    (PHOTOGRAPHS / "part_002.jpg").unlink()
    shutil.move("later.jpg", PHOTOGRAPHS / "part_007.jpg")
    pixal.validate("new", config=settings(), quiet=True)
    assert sorted(scored) == ["part_002.jpg", "part_007.jpg"]  # one is subtracted, one is added
    actual, rows, inputs = sums(), table(), InputSet.load(RESULTS / "front/out.npz")
    assert inputs.names == tuple(row["image"] for row in rows)
    assert [row["image"] for row in rows] == [f"part_00{index}.jpg" for index in range(8) if index != 2]
    pixal.validate("new", config=settings(), force=True, quiet=True)
    assert table() == rows
    np.testing.assert_array_equal(inputs.data, InputSet.load(RESULTS / "front/out.npz").data)
    assert_same_sums(actual, sums())


def test_a_batch_that_is_done_needs_no_model(batch: Path, scored: list[str]) -> None:
    pixal.validate("new", config=settings(), quiet=True)
    before = (RESULTS / "results.csv").read_bytes()
    scored.clear()
    pixal.validate("new", config=settings(), quiet=True)
    assert scored == []
    assert (RESULTS / "results.csv").read_bytes() == before


def test_a_loss_cut_above_all_good_parts_is_named_before_the_verdicts(
    batch: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pixal.validate("new", config=settings("plotting.loss_cut=0.7", "plotting.use_log_loss=False"), quiet=True)
    (said,) = [record for record in caplog.records if "loss_cut 0.7 is above all" in record.getMessage()]
    assert said.levelname == "WARNING"
    assert json.loads((RESULTS / "results.json").read_text())["notes"][0] == said.getMessage()
    assert "loss_cut 0.7 is above all" in (RESULTS / "report.html").read_text()


@pytest.mark.parametrize(("cut", "log", "warned"), [(0.7, False, True), (-0.15, True, True), (-9, True, False)])
def test_a_loss_cut_above_all_good_parts_is_a_warning_at_train(
    batch: Path, caplog: pytest.LogCaptureFixture, cut: float, log: bool, warned: bool
) -> None:
    """The model is complete nevertheless, and knows what its good parts showed."""
    options = (f"plotting.loss_cut={cut}", f"plotting.use_log_loss={log}", "model_training.model=gaussian")
    pixal.train(config=settings(*options, "model_training.calibration_folds=2"), quiet=True)
    said = [record for record in caplog.records if f"loss_cut {cut:g} is above all" in record.getMessage()]
    assert [record.levelname for record in said] == ["WARNING"] * warned
    losses = load_arrays(Path("out/Part/front/model/calibration.npz"))["losses_0"]
    assert len(losses) == 5
    if warned:
        assert said[0].getMessage().startswith("front: ")
        shown = np.log10(losses) if log else losses
        assert f"{shown.min():.4g} to {shown.max():.4g}" in said[0].getMessage()


def test_a_score_that_is_not_finite_is_an_error_of_its_part(batch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In table, document and stored inputs; the other parts have their verdicts."""
    pixal.validate("new", config=settings(), quiet=True)
    before = table()
    error = DensePredictor.error
    chunks: list[int] = []

    def broken(self: DensePredictor, inputs: InputSet, rows: Any) -> Any:
        found = error(self, inputs, rows)
        found[np.array([name == "part_003.jpg" for name in inputs.names])[rows]] = np.nan
        chunks.append(len(found))
        return found

    monkeypatch.setattr(DensePredictor, "error", broken)
    done = pixal.validate("new", config=settings(), force=True, quiet=True)
    assert chunks
    rows = table()
    assert rows[3]["verdict"] == "error"
    assert rows[3]["score"] == ""
    assert "not a finite number" in rows[3]["reason"]
    assert rows[:3] + rows[4:] == before[:3] + before[4:]
    assert [failure.image for failure in done.failures] == ["part_003.jpg"]
    assert "part_003.jpg" not in InputSet.load(RESULTS / "front/out.npz").names
    assert pixal.detect(config=settings(), quiet=True).failures == done.failures


def test_a_photograph_is_decoded_once(batch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Overlay and report's images are made from the photograph that preparation decoded."""
    monkeypatch.setattr(part_files, "decode_image", lambda *_, **__: pytest.fail("a photograph is decoded again"))
    pixal.validate("new", config=settings("plotting.plot_anomaly_heatmap=True"), quiet=True)
    photo = read_image(PHOTOGRAPHS / "part_000.jpg").astype(int)
    overlay = read_image(RESULTS / "front/figures/anomaly_overlay_part_000.png").astype(int)
    assert np.median(np.abs(overlay - photo)) == 0


def test_large_photographs_are_validated_in_small_chunks(batch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first chunk has one photograph per worker; the next ones follow from the size of the photographs."""
    sizes: list[int] = []
    prepare = Preparation.__call__

    def record(self: Preparation, photographs: list[Photograph]) -> Iterator[PreparedPart]:
        sizes.append(len(photographs))
        return prepare(self, photographs)

    monkeypatch.setattr(Preparation, "__call__", record)
    pixal.validate("new", config=settings(), quiet=True)
    assert sizes == [2, 6]
    sizes.clear()
    rows = table()
    monkeypatch.setattr(validate_type, "_CHUNK_BYTES", 3 * 480 * 270 * 3 + 1)  # three photographs
    pixal.validate("new", config=settings(), force=True, quiet=True)
    assert sizes == [2, 3, 3]
    assert table() == rows


def test_detect_works_without_the_photographs(batch: Path) -> None:
    config = settings("plotting.plot_anomaly_heatmap=True")
    pixal.validate("new", config=config, quiet=True)
    rows = table()
    maps = {path.name: tifffile.imread(path) for path in (RESULTS / "front/anomaly_maps").iterdir()}
    overlay = read_image(RESULTS / "front/figures/anomaly_overlay_part_000.png")
    shutil.rmtree("new")
    actual = pixal.detect(config=config, quiet=True)
    assert table() == rows
    assert not actual.failures
    assert len(maps) == 8
    for name, values in maps.items():
        np.testing.assert_array_equal(tifffile.imread(RESULTS / "front/anomaly_maps" / name), values)
    on_grey = read_image(RESULTS / "front/figures/anomaly_overlay_part_000.png")
    assert on_grey.shape == overlay.shape
    assert np.median(on_grey) == 64
    page = (RESULTS / "report.html").read_text("utf-8")
    assert page.count('<span class="soft">no image</span>') == 8
    assert [part["overlay"] for part in json.loads((RESULTS / "results.json").read_text())["parts"]] == [
        f"front/figures/anomaly_overlay_part_00{index}.png" for index in range(8)
    ]


@pytest.fixture
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Execution]:
    with local_cluster(tmp_path_factory.mktemp("dask")) as settings:
        yield settings


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["processes", "dask"])
def test_no_backend_changes_a_result(batch: Path, backend: str, request: pytest.FixtureRequest) -> None:
    overrides = ["plotting.plot_anomaly_heatmap=True"]
    pixal.validate("new", config=settings(*overrides), quiet=True)
    table_bytes = (RESULTS / "results.csv").read_bytes()
    files = {path: path.read_bytes() for path in (RESULTS / "front").rglob("*") if path.suffix in (".tiff", ".jpg")}
    assert len(files) > 8
    if backend == "dask":
        execution: Execution = request.getfixturevalue("dask")
        overrides.append(f"execution.scheduler={execution.scheduler}")
    pixal.validate("new", config=settings(f"execution.backend={backend}", *overrides), force=True, quiet=True)
    assert (RESULTS / "results.csv").read_bytes() == table_bytes
    assert {path: path.read_bytes() for path in files} == files
