"""The encode command: it gives the latent vectors of validation for every kind of input, and they find a copy."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray

import pixal
from pixal import cli
from pixal.config import load_config
from pixal.errors import InputError, ModelError
from pixal.inputs import InputSet
from pixal.io.arrays import load_arrays
from pixal.io.images import read_image, write_image
from pixal.tasks.photographs.probing import sources
from pixal.tasks.photographs.training.stored import load_trained
from pixal.tasks.photographs.verdicts.models import Models
from pixal.tasks.photographs.verdicts.preparation import Preparation

LATENTS = Path("out/Part/front/latents")


@pytest.fixture
def work(trained_front: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the trained model, as the working directory."""
    shutil.copytree(trained_front, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def batch(work: Path, rendered: Path, count: int) -> Path:
    """A flat folder of good and defective parts."""
    folder = work / "batch/front"
    folder.mkdir(parents=True)
    for path in sorted((rendered / "production/Part/front").iterdir())[:count]:
        shutil.copy(path, folder)
    return folder


def manifest(folder: Path) -> list[dict[str, str]]:
    with (folder / "manifest.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def written(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in ("latents.npy", "manifest.csv")}


def cosine(vector: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    vector, others = vector.astype(np.float64), others.astype(np.float64)
    return np.asarray(others @ vector / np.linalg.norm(others, axis=1) / np.linalg.norm(vector))


def test_latents_equal_those_of_validation(work: Path, rendered: Path) -> None:
    folder = batch(work, rendered, 4)
    pixal.validate(folder, quiet=True)
    journal = Path("validate/Part/front/metadata/judged.journal")
    latents = {entry["part"]["image"]: entry["latent"] for entry in map(json.loads, journal.read_text().splitlines())}
    before = {path: path.stat().st_mtime_ns for path in Path("validate").rglob("*")}

    outcome = pixal.encode(folder, quiet=True)
    assert (outcome.done, outcome.failures) == (4, [])
    actual, rows = np.load(LATENTS / "latents.npy"), manifest(LATENTS)
    assert (actual.dtype, actual.shape) == (np.dtype(np.float32), (4, 4))
    assert [row["row"] for row in rows] == ["0", "1", "2", "3"]
    assert [row["image"] for row in rows] == sorted(latents) == [path.name for path in sorted(folder.iterdir())]
    np.testing.assert_allclose(actual, [latents[row["image"]] for row in rows], rtol=1e-4, atol=1e-6)
    for row in rows:
        assert hashlib.sha256((folder / row["source"]).read_bytes()).hexdigest() == row["sha256"]
    assert {path: path.stat().st_mtime_ns for path in Path("validate").rglob("*")} == before

    record = yaml.safe_load((LATENTS / "latents.yaml").read_text())
    model = yaml.safe_load(Path("out/Part/front/metadata/model_training.yaml").read_text())
    assert record["model_fingerprint"] == model["fingerprint"]
    assert (record["component"], record["type"], record["n_images"], record["latent_size"]) == ("Part", "front", 4, 4)
    assert record["files"] == {name: hashlib.sha256(data).hexdigest() for name, data in written(LATENTS).items()}

    # The inputs that validate wrote are the same, bit by bit.
    pixal.encode("validate/Part/front/out.npz", out="again", quiet=True)
    assert (work / "again/front/latents.npy").read_bytes() == (LATENTS / "latents.npy").read_bytes()
    assert [row["image"] for row in manifest(work / "again/front")] == [row["image"] for row in rows]
    assert {row["sha256"] for row in manifest(work / "again/front")} == {""}


def test_latents_do_not_depend_on_chunk_size_or_workers(
    work: Path, rendered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_CHUNK", 2)
    folder = batch(work, rendered, 5)
    pixal.encode(folder, quiet=True)
    first = written(LATENTS)
    pixal.encode(folder, quiet=True, config=load_config("configs", ["execution.workers=3"]))
    assert written(LATENTS) == first
    assert not [path for path in LATENTS.iterdir() if path.name.startswith(".")]


def test_the_nearest_latent_is_that_of_a_copy_of_the_photograph(work: Path, rendered: Path) -> None:
    folder = batch(work, rendered, 6)
    pixal.encode(folder, quiet=True)
    known = np.load(LATENTS / "latents.npy")
    for path in sorted(folder.iterdir()):
        copy = work / "copies/front" / f"copy_of_{path.stem}.png"  # another name and format
        copy.parent.mkdir(parents=True, exist_ok=True)
        write_image(copy, read_image(path))
    assert pixal.encode("copies/front", out="copies_out", quiet=True).done == 6
    for row, vector in zip(
        manifest(work / "copies_out/front"), np.load(work / "copies_out/front/latents.npy"), strict=True
    ):
        similarity = cosine(vector, known)
        assert manifest(LATENTS)[int(similarity.argmax())]["image"] == Path(row["image"]).stem[8:] + ".jpg"
        assert similarity.max() == pytest.approx(1, abs=1e-9)


def test_a_photograph_that_cannot_be_prepared_is_reported_and_the_others_are_encoded(
    work: Path, rendered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = batch(work, rendered, 3)
    (folder / "a_broken.jpg").write_bytes(b"no image")
    write_image(folder / "z_empty.png", np.full((270, 480, 3), 30, np.uint8))
    assert cli.main(["encode", "-q", "-i", str(folder)]) == cli.ExitStatus.INCOMPLETE
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[2].strip() for line in lines] == ["front/a_broken.jpg", "front/z_empty.png"]
    assert len(manifest(LATENTS)) == len(np.load(LATENTS / "latents.npy")) == 3
    record = yaml.safe_load((LATENTS / "latents.yaml").read_text())
    assert [row["image"] for row in record["not_encoded"]] == ["a_broken.jpg", "z_empty.png"]

    # A batch with nothing to encode removes the files of the last batch.
    assert cli.main(["encode", "-q", "-i", str(folder / "z_empty.png")]) == cli.ExitStatus.BAD_INPUT
    assert "none of 1 images" in capsys.readouterr().err
    assert not list(LATENTS.iterdir())


def test_the_input_may_be_one_image_or_the_folder_of_the_component(work: Path, rendered: Path) -> None:
    folder = batch(work, rendered, 2)
    for source in (folder / "part_001.jpg", folder.parent):
        pixal.encode(source, quiet=True)
        row = manifest(LATENTS)[-1]
        assert (row["image"], (source if source.is_dir() else folder) / row["source"]) == (
            "part_001.jpg",
            folder / "part_001.jpg",
        )
    assert len(manifest(LATENTS)) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": np.array(["R", "G", "B", "Y"])}, "different channels"),
        ({"labels": np.ones((5, 1), np.float32), "types": np.array(["front"])}, "holds one-hot labels"),
    ],
)
def test_inputs_that_do_not_match_the_model_are_an_error(work: Path, change: dict[str, object], message: str) -> None:
    path = work / "out/Part/front/out.npz"
    arrays = load_arrays(path)
    np.savez(path, **(arrays | change))  # type: ignore[arg-type]
    with pytest.raises((InputError, ModelError), match=message):
        pixal.encode(path, quiet=True)


def test_inputs_of_another_preprocessing_are_an_error(work: Path) -> None:
    state = work / "out/Part/front/metadata/preprocessing.npz"
    state.write_bytes(state.read_bytes() + b" ")
    with pytest.raises(ModelError, match="different preprocessing"):
        pixal.encode("out/Part/front", quiet=True)
    (work / "back").mkdir()
    shutil.move(work / "out/Part/front/out.npz", work / "back")
    with pytest.raises(ModelError, match="type back was never trained"):
        pixal.encode("back/out.npz", quiet=True)


@pytest.mark.slow
def test_a_one_hot_model_finds_the_types_of_a_mixed_folder(
    rendered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("back", "front"):
        (tmp_path / "photographs" / name).mkdir(parents=True)
        (tmp_path / "mixed").mkdir(exist_ok=True)
        for path in sorted((rendered / "train/Part" / name).iterdir())[:2]:
            shutil.copy(path, tmp_path / "photographs" / name)
            shutil.copy(path, tmp_path / "mixed" / f"{path.stem}_{name}.jpg")
    monkeypatch.chdir(tmp_path)
    settings = ["model_training.one_hot_encoding=True", "model_training.model=gaussian", "validation.sensitivity=off"]
    config = load_config(None, [*settings, "preprocessing.draw_matches=False", "preprocessing.save_overlays=False"])
    pixal.preprocess("photographs", config=config, quiet=True)
    pixal.train(config=config, quiet=True)
    assert pixal.encode("mixed", out="latents", config=config, quiet=True).done == 4
    root = config.paths.resolve("component_model_path")
    inputs = InputSet.load(root / "out.npz")
    family = Models(config).load("front").load_anomaly_model()
    for index, name in enumerate(("back", "front")):
        rows = manifest(tmp_path / "latents" / name)
        assert [row["source"] for row in rows] == [f"image_{number:03d}_{name}.jpg" for number in range(2)]
        expected = family.latent(inputs, np.flatnonzero(inputs.labels[:, index]))  # type: ignore[index]
        np.testing.assert_allclose(np.load(tmp_path / "latents" / name / "latents.npy"), expected, atol=2e-3)
    pixal.encode(root / "out.npz", out="latents", config=config, quiet=True)
    assert [row["image"] for row in manifest(tmp_path / "latents/back")] == list(inputs.names[:2])
    types = pixal.evaluate(config=config, samples=0, quiet=True).types
    assert {name: evaluation.n_images for name, evaluation in types.items()} == {"back": 2, "front": 2}


def test_latents_of_the_training_inputs_equal_those_stored_with_the_model(work: Path) -> None:
    pixal.encode("out/Part", quiet=True)
    stored = load_trained(load_config("configs"), "front").latents["front"]
    np.testing.assert_array_equal(np.load(LATENTS / "latents.npy"), stored)
    assert manifest(LATENTS)[0]["image"] == "image_000.jpg"


def test_only_one_chunk_of_inputs_is_in_memory(work: Path, rendered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_CHUNK", 2)
    sizes = []
    original = Preparation.inputs

    def counted(self: Preparation, images: list[NDArray[np.float32]], names: list[str]) -> InputSet:
        sizes.append(len(images))
        return original(self, images, names)

    monkeypatch.setattr(Preparation, "inputs", counted)
    pixal.encode(batch(work, rendered, 5), quiet=True)
    assert sizes == [2, 2, 1]
