"""``preprocess`` and ``validate`` make the same input of the same photograph, byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import NO_FIGURES, config_in
from numpy.typing import NDArray

import pixal
from pixal.inputs import InputSet
from pixal.io.images import read_image, write_image
from pixal.synthetic import write_batch
from pixal.tasks.photographs.settings import PhotographConfig

BASE = ("model_training.model=gaussian", *NO_FIGURES)
FIELD = (
    "preprocessing.preprocessor.light_matching=field",
    "preprocessing.preprocessor.pool_size=3",
    "preprocessing.preprocessor.channels=[S,LAB_L,GradMag,LocalStd]",
    "preprocessing.preprocessor.edge_margin=0",
)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of two types, each in every kind of file that a camera or an editor writes."""
    folder = tmp_path_factory.mktemp("batch")
    write_batch(folder, component="Part", train=5, good=0, bad=0, frame_size=(320, 180))
    for type_folder in (folder / "train/Part").iterdir():
        jpg, png, tiff, alpha = sorted(type_folder.iterdir())[1:]
        image = read_image(png)
        deep = image.astype(np.uint16) * 257
        write_image(png.with_suffix(".png"), deep)
        write_image(tiff.with_suffix(".tiff"), read_image(tiff))
        opaque = np.full((*image.shape[:2], 1), 255, np.uint8)
        write_image(alpha.with_name("with_alpha.png"), np.dstack([read_image(alpha), opaque]))
        write_image(jpg.with_name("a.bmp"), read_image(jpg))
        for path in (png, tiff, alpha):
            path.unlink()
    return folder / "train/Part"


def in_one_run(photographs: Path, config: PhotographConfig) -> None:
    pixal.preprocess(photographs, config=config, quiet=True)


def step_by_step(photographs: Path, config: PhotographConfig) -> None:
    """Each step reads the files of the step before it."""
    pixal.remove_bg(photographs, config=config, quiet=True)
    pixal.align(photographs, config=config, quiet=True)
    pixal.make_input(config=config, quiet=True)


def inputs_by_name(path: Path) -> dict[str, NDArray[np.float32]]:
    inputs = InputSet.load(path)
    return dict(zip(inputs.names, inputs.images(), strict=True))


@pytest.mark.parametrize(
    ("settings", "run"),
    [((), in_one_run), (FIELD, step_by_step), (("execution.backend=processes", "execution.workers=2"), in_one_run)],
    ids=["one run", "step by step", "processes"],
)
def test_a_training_photograph_gives_the_same_bytes(
    photographs: Path, tmp_path: Path, settings: tuple[str, ...], run: Callable[[Path, PhotographConfig], Any]
) -> None:
    config = config_in(tmp_path, *BASE, *settings)
    run(photographs, config)
    pixal.train(config=config, quiet=True)
    pixal.validate(photographs, config=config, quiet=True)
    for name in ("front", "back"):
        trained = inputs_by_name(tmp_path / "out/Part" / name / "out.npz")
        validated = inputs_by_name(tmp_path / "validate/Part" / name / "out.npz")
        assert len(trained) == 6
        assert set(trained) == set(validated)
        for image, values in trained.items():
            assert values.tobytes() == validated[image].tobytes(), f"{name}/{image}"


def test_a_mixed_folder_gives_the_same_bytes(photographs: Path, tmp_path: Path) -> None:
    config = config_in(tmp_path, *BASE, "model_training.one_hot_encoding=true")
    pixal.preprocess(photographs, config=config, quiet=True)
    pixal.train(config=config, quiet=True)
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for path in photographs.rglob("*.*"):
        (mixed / f"{path.parent.name}_{path.name}").write_bytes(path.read_bytes())
    pixal.validate(mixed, config=config, quiet=True)
    trained = inputs_by_name(tmp_path / "out/Part/out.npz")
    assert len(trained) == 12
    for name in ("front", "back"):
        for image, values in inputs_by_name(tmp_path / "validate/Part" / name / "out.npz").items():
            own_type, _, own_name = image.partition("_")
            assert own_type == name
            assert values.tobytes() == trained[f"{name}/{own_name}"].tobytes()
