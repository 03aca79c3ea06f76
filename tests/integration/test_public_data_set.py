"""A data set with the folders of MVTec AD, from its images to the metrics, without renaming any file."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from jsonschema import Draft202012Validator
from numpy.typing import NDArray
from referencing import Registry, Resource

import pixal

SIZE = (90, 101)
DOCS = Path(__file__).parents[2] / "docs"
TEXTURE = [  # as in docs/howto/textures.md
    "preprocessing.remove_background.method=none",
    "preprocessing.alignment.apply_alignment=False",
    "preprocessing.alignment.MIN_SCORE_THRESHOLD=-1",
    "preprocessing.alignment.MAX_MSE_THRESHOLD=65025",
]
FIGURES = ("loss", "accuracy", "distributions", "mse_per_pixel", "abs_loss_per_pixel", "pixel_predictions")
SMALL = [
    *(f"plotting.plot_{figure}=False" for figure in (*FIGURES, "roc_recall_curve", "confusion_matrix")),
    *("model_training.autoencoder_architecture=[8,4]", "model_training.n_epochs=8"),
    *("model_training.calibration_folds=3", "preprocessing.draw_matches=False", "preprocessing.save_overlays=False"),
    "validation.sensitivity=off",
]


def texture(generator: np.random.Generator) -> NDArray[np.uint8]:
    """An image of stripes with a random phase, and noise: no two images agree pixel by pixel."""
    stripes = 25 * np.sin(np.arange(SIZE[1]) / 3 + generator.uniform(0, 6))
    plane = 128 + stripes + 20 * cv2.GaussianBlur(generator.normal(0, 2, SIZE), (0, 0), 1)
    return np.clip(np.dstack([plane, plane, 0.8 * plane]), 0, 255).astype(np.uint8)


def write(path: Path, image: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)


@pytest.fixture(scope="module")
def validated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of ``validate`` for a data set with one object, ``sets/felt``."""
    folder = tmp_path_factory.mktemp("public")
    generator = np.random.default_rng(0)
    root = folder / "sets" / "felt"
    for name, count in (("train/good", 10), ("test/good", 4)):
        for index in range(count):
            write(root / name / f"{index:03d}.png", texture(generator))
    for kind, colour in (("hole", (5, 5, 5)), ("paint", (20, 40, 230))):
        for index in range(3):
            image, mask = texture(generator), np.zeros(SIZE, np.uint8)
            cv2.circle(mask, tuple(generator.integers(20, 70, 2).tolist()), 8, 255, -1)
            image[mask > 0] = colour
            write(root / "test" / kind / f"{index:03d}.png", image)
            write(root / "ground_truth" / kind / f"{index:03d}_mask.png", mask)
    (root / "license.txt").write_text("as in the archive")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        config = pixal.load_config(None, [*TEXTURE, *SMALL])
        pixal.preprocess("sets", config=config, quiet=True)
        pixal.train(config=config, quiet=True)
        pixal.validate("sets", truth="sets", config=config, quiet=True)
    return next((folder / "validate").iterdir())


def test_images_of_the_same_name_in_different_folders_are_kept_apart(validated: Path) -> None:
    with (validated / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    images = [f"{kind}/{i:03d}.png" for kind, count in (("good", 4), ("hole", 3), ("paint", 3)) for i in range(count)]
    assert [(row["type"], row["image"]) for row in rows] == [("felt", image) for image in images]
    for row in rows:
        name = row["image"].replace("/", "_").removesuffix(".png")
        values = tifffile.imread(validated / "felt/anomaly_maps" / f"{name}.tiff")
        assert values.shape == SIZE
        assert (validated / "felt/figures" / f"anomaly_overlay_{name}.png").is_file()
        assert (values > 0).mean() > 0.99  # the part fills the photograph


def test_defect_kinds_and_masks_come_from_the_folders(validated: Path) -> None:
    metrics = json.loads((validated / "metrics.json").read_text())["types"]["felt"]
    assert (metrics["good"], metrics["defective"]) == (4, 6)
    assert {kind: values["parts"] for kind, values in metrics["kinds"].items()} == {"hole": 3, "paint": 3}
    assert metrics["image_auroc"] >= 0.9
    assert metrics["pixel_auroc"] >= 0.95
    assert metrics["aupro"] >= 0.8
    assert metrics["aupro_near_part"] == pytest.approx(metrics["aupro"], abs=0.01)  # all pixels are near the part
    assert 0 <= metrics["aupimo"] <= 1


@pytest.mark.parametrize("name", ["results", "metrics"])
def test_documents_match_their_schemas(validated: Path, name: str) -> None:
    schemas = {kind: json.loads((DOCS / f"{kind}.schema.json").read_text("utf-8")) for kind in ("results", "metrics")}
    registry = Registry().with_resources((schema["$id"], Resource.from_contents(schema)) for schema in schemas.values())
    document = json.loads((validated / f"{name}.json").read_text("utf-8"))
    Draft202012Validator(schemas[name], registry=registry).validate(document)
