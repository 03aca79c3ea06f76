"""Degenerate photographs and extreme settings: a verdict that makes sense, or one clear line; never a NaN or a warning.

Warnings are errors in the tests, also those of NumPy.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import tifffile
from helpers import NO_FIGURES
from numpy.typing import NDArray
from tries import tries

import pixal
from pixal.config import Config
from pixal.errors import PixalError
from pixal.io.images import decode_image, write_image
from pixal.outcome import Results

pytestmark = pytest.mark.slow

Image = NDArray[Any]

FAMILIES = ("gaussian", "autoencoder")
WHOLE_FRAME = (  # all pixels count as part, and stay where they are
    "preprocessing.remove_background.method=none",
    "preprocessing.alignment.apply_alignment=False",
    "preprocessing.alignment.MIN_SCORE_THRESHOLD=-1",
    "preprocessing.alignment.MAX_MSE_THRESHOLD=65025",
)
SMALL = (
    "model_training.autoencoder_architecture=[4, 2]",
    "model_training.n_epochs=2",
    "model_training.calibration_folds=2",
    "preprocessing.preprocessor.pool_size=2",
    "preprocessing.preprocessor.channels=[R, G, B]",
    "validation.sensitivity=off",
)


def textured(seed: int, height: int = 24, width: int = 32) -> Image:
    """A smooth image with some noise, (H, W, 3) uint8. Another ``seed`` is another photograph of the same part."""
    y, x = np.mgrid[0:height, 0:width]
    values = 128 + 80 * np.sin(x / 5 + np.arange(3)[:, None, None]) * np.cos(y / 4)
    noise = np.random.default_rng(seed).normal(0, 3, (height, width, 3))
    return np.asarray((values.transpose(1, 2, 0) + noise).clip(0, 255), np.uint8)


def flat(value: int) -> Image:
    return np.full((24, 32, 3), value, np.uint8)


def six(make: Callable[[int], Image]) -> list[Image]:
    return [make(seed) for seed in range(6)]


GOOD: dict[str, list[Image]] = {
    "one": [textured(0)],
    "two": [textured(0), textured(1)],
    "grey": six(lambda seed: np.dstack([textured(seed)[..., 0]] * 3)),
    "saturated": six(lambda seed: np.where(textured(seed) > 128, 255, 0).astype(np.uint8)),
    "flat, of different brightness": six(lambda seed: flat(90 + 10 * seed)),
    "one pixel": six(lambda seed: textured(seed, 1, 1)),
    "one row": six(lambda seed: textured(seed, 1, 32)),
    "one column": six(lambda seed: textured(seed, 32, 1)),
    "2x2 pixels": six(lambda seed: textured(seed, 2, 2)),
    "16 bits": six(lambda seed: textured(seed).astype(np.uint16) * 257),
    "16 bits, nearly black": six(lambda seed: textured(seed).astype(np.uint16) // 64),
    "8 and 16 bits": [textured(seed).astype(np.uint16) * 257 if seed % 2 else textured(seed) for seed in range(6)],
}
"""Good photographs that a model can be trained on."""

WITHOUT_SPREAD: dict[str, list[Image]] = {
    "black": [flat(0)] * 6,
    "white": [flat(255)] * 6,
    "grey": [flat(120)] * 6,
    "identical": [textured(0)] * 6,
}
"""Photographs without a difference, by which no defect could be told from a good part."""


class Line:
    """Trains a model in the working directory, and validates parts with it."""

    def __init__(self, family: str, *settings: str) -> None:
        changed = {setting.split("=")[0] for setting in settings}
        small = [setting for setting in SMALL if setting.split("=")[0] not in changed]
        options = [*NO_FIGURES, *WHOLE_FRAME, *small, f"model_training.model={family}", *settings]
        self.config: Config = pixal.load_config(None, options)

    def train(self, good: list[Image]) -> None:
        for number, image in enumerate(good):
            Path("train/front").mkdir(parents=True, exist_ok=True)
            write_image(Path(f"train/front/{number}.png"), image)
        assert pixal.preprocess("train", config=self.config, quiet=True).done == len(good)
        pixal.train(config=self.config, quiet=True)

    def validate(self, first: Image) -> Results:
        """Validate a photograph that is as good as any, noise, and a black and a white frame of its size."""
        shape = (*first.shape[:2], 3)
        noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
        Path("batch/front").mkdir(parents=True)
        parts = {
            "same": first,
            "noise": noise,
            "black": np.zeros(shape, np.uint8),
            "white": np.full(shape, 255, np.uint8),
        }
        for name, image in parts.items():
            write_image(Path(f"batch/front/{name}.png"), image)
        return pixal.validate("batch", config=self.config, quiet=True)


def verdicts_of(batch: Results) -> dict[str, str]:
    """The verdict of each part. All numbers in the results are finite."""
    (results,) = Path("validate").glob("*/results.json")
    content = json.loads(results.read_text(encoding="utf-8"), parse_constant=lambda name: pytest.fail(name))
    for part in content["parts"]:
        assert math.isfinite(part["score"])
        assert part["p_value"] is None or 0 <= part["p_value"] <= 1
    return {Path(part["image"]).stem: part["verdict"] for part in content["parts"]}


@pytest.fixture(autouse=True)
def _in_new_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", GOOD)
def test_the_good_part_passes_and_noise_fails(kind: str, family: str) -> None:
    if family == "autoencoder" and list(GOOD).index(kind) >= tries(3, len(GOOD)):
        pytest.skip("runs with PIXAL_ATTACKS=full")
    line = Line(family, *(["preprocessing.preprocessor.pool_size=1"] if kind == "one pixel" else []))
    line.train(GOOD[kind])
    verdicts = verdicts_of(line.validate(GOOD[kind][0]))
    assert verdicts == {"same": "pass", "noise": "fail", "black": "fail", "white": "fail"}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", WITHOUT_SPREAD)
def test_photographs_without_a_difference_cannot_be_trained_on(kind: str, family: str) -> None:
    if family == "autoencoder" and list(WITHOUT_SPREAD).index(kind) >= tries(1, len(WITHOUT_SPREAD)):
        pytest.skip("runs with PIXAL_ATTACKS=full")
    with pytest.raises(PixalError, match="cannot be calibrated: the score of every good part is 0"):
        Line(family).train(WITHOUT_SPREAD[kind])
    assert not list(Path("out").glob("*/front/model/*.keras"))


@pytest.mark.parametrize(
    "image",
    [flat(0), flat(255), flat(120), textured(0, 1, 1), textured(0, 1, 32), textured(0, 2, 2)],
    ids=["black", "white", "grey", "one pixel", "one row", "2x2 pixels"],
)
def test_the_default_settings_find_no_part_and_say_so(image: Image) -> None:
    Path("train/front").mkdir(parents=True)
    for number in range(3):
        write_image(Path(f"train/front/{number}.png"), image)
    with pytest.raises(PixalError, match=r"none of 3 images could be processed; the first: front/0\.png: \w+"):
        pixal.preprocess("train", config=pixal.load_config(None, NO_FIGURES), quiet=True)


@pytest.mark.parametrize("alpha", [0, 255])
def test_alpha_that_is_the_same_everywhere(alpha: int) -> None:
    good = six(lambda seed: np.dstack([textured(seed), np.full((24, 32), alpha, np.uint8)]))
    line = Line("gaussian")
    if alpha:
        line.train(good)
        assert verdicts_of(line.validate(textured(0)))["same"] == "pass"
        return
    with pytest.raises(PixalError, match="no part found: nothing differs from the background"):
        line.train(good)


# --- kinds of files


def saved(image: PIL.Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def tiff(image: Image) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, image, photometric="rgb" if image.ndim == 3 else "minisblack")
    return file.getvalue()


def test_float_and_integer_images_are_refused_with_their_type() -> None:
    values = textured(0)[..., 0].astype(np.float32) / 255
    for bad in (values, np.where(values > 0.5, np.nan, values), np.where(values > 0.5, np.inf, values)):
        for image in (bad, bad.astype(np.float64), np.dstack([bad] * 3)):
            with pytest.raises(PixalError, match=r"float(32|64) values; PIXAL reads 8- and 16-bit|not an image"):
                decode_image(tiff(image))
    for kind in (np.int32, np.uint32, np.int16, np.int8):
        with pytest.raises(PixalError, match=r"values; PIXAL reads 8- and 16-bit|not an image"):
            decode_image(tiff(textured(0)[..., 0].astype(kind)))


def test_other_colour_models_and_several_frames_are_read() -> None:
    picture, other = PIL.Image.fromarray(textured(0)), PIL.Image.fromarray(255 - textured(0))
    palette = picture.quantize(64)
    expected = {
        "palette": (saved(palette, "PNG"), palette),
        "bits": (saved(picture.convert("1"), "PNG"), picture.convert("1")),
        "animated PNG": (saved(picture, "PNG", save_all=True, append_images=[other]), picture),
        "animated WebP": (saved(picture, "WEBP", save_all=True, append_images=[other], lossless=True), picture),
        "several pages": (saved(picture, "TIFF", save_all=True, append_images=[other]), picture),
    }
    for name, (data, image) in expected.items():
        np.testing.assert_array_equal(decode_image(data), np.asarray(image.convert("RGB")), err_msg=name)
    for data in (saved(picture.convert("CMYK"), "JPEG", quality=95), saved(picture.convert("CMYK"), "TIFF")):
        assert np.abs(decode_image(data).astype(int) - textured(0)).mean() < 8


# --- extreme settings

VALID = (
    "preprocessing.preprocessor.pool_size=32",  # one cell per photograph
    "validation.false_alarm_rate=1e-300",
    "validation.false_alarm_rate=0.999999",
    "preprocessing.preprocessor.channels=ALL",
    "preprocessing.preprocessor.channels=[R]",
    "preprocessing.preprocessor.channels=[Laplacian]",
    "preprocessing.preprocessor.weights=[1e-300, 1, 0]",
    "preprocessing.preprocessor.weights=[1e9, 1e9, 1e9]",
    "preprocessing.preprocessor.zero_pruning_padding=1000000000",
    "model_training.calibration_folds=1000000",
    "validation.pixel_size_mm=1e-300",
    "validation.pixel_size_mm=1e6",
    "validation.region_threshold=1e-300",
    "validation.drift_level=1e-300",
    "execution.workers=500",
    "execution.memory_limit=1",
)
VALID_NETWORKS = (
    "model_training.autoencoder_architecture=[1]",
    "model_training.batchsize=1000000000",
    "model_training.patience=0",
    "model_training.min_delta=1e300",
    "model_training.learning_rate=1e-300",
)


@pytest.mark.parametrize(
    ("family", "setting"),
    [*(("gaussian", setting) for setting in VALID), *(("autoencoder", setting) for setting in VALID_NETWORKS)],
)
def test_extreme_settings_give_verdicts(family: str, setting: str) -> None:
    line = Line(family, setting)
    line.train(GOOD["8 and 16 bits"])
    verdicts = verdicts_of(line.validate(textured(0)))
    assert verdicts["same"] == "pass"
    assert verdicts["noise"] == "fail" or "Laplacian" in setting
    assert "error" not in verdicts.values()


@pytest.mark.parametrize("cut", ["1e308", "-1e308", "0", "1e-320"])
def test_extreme_cuts_give_verdicts(cut: str) -> None:
    line = Line("gaussian", f"plotting.loss_cut={cut}")
    line.train(GOOD["8 and 16 bits"])
    verdicts = verdicts_of(line.validate(textured(0)))
    assert set(verdicts.values()) == {"fail" if cut.startswith("-") else "pass"}


def test_a_training_that_diverges_is_one_line() -> None:
    for setting in ("model_training.learning_rate=1e30", "model_training.l2_regularization=1e30"):
        line = Line("autoencoder", "model_training.regularization=l2", "model_training.input_projection=none", setting)
        try:
            line.train(GOOD["8 and 16 bits"])
        except PixalError as error:
            assert len(str(error).splitlines()) == 1  # noqa: PT017
        else:
            assert verdicts_of(line.validate(textured(0)))["same"] == "pass"


@pytest.mark.parametrize(
    "setting",
    [
        *("preprocessing.preprocessor.pool_size=0", "preprocessing.preprocessor.channels=[]"),
        *("preprocessing.preprocessor.weights=[0, 0, 0]", "preprocessing.preprocessor.weights=[1e308, 1, 1]"),
        *("validation.false_alarm_rate=0", "validation.false_alarm_rate=1", "validation.false_alarm_rate=.nan"),
        *("validation.pixel_size_mm=0", "validation.pixel_size_mm=1e300", "validation.pixel_size_mm=.inf"),
        *("plotting.loss_cut=.nan", "plotting.loss_cut=.inf", "validation.drift_level=0"),
        *("model_training.autoencoder_architecture=[0]", "model_training.autoencoder_architecture=[]"),
        *("model_training.autoencoder_architecture=[100000000]", "model_training.n_epochs=0"),
        *("model_training.learning_rate=.nan", "model_training.batchsize=0", "execution.workers=0"),
    ],
)
def test_settings_without_a_meaning_are_refused_when_they_are_loaded(setting: str) -> None:
    with pytest.raises(PixalError) as caught:
        Line("gaussian", setting)
    assert setting.split("=")[0] in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_pool_that_is_larger_than_the_photographs_is_refused() -> None:
    with pytest.raises(PixalError, match=r"pool_size: 1000000 is larger than the photographs of front, 32x24 pixels"):
        Line("gaussian", "preprocessing.preprocessor.pool_size=1000000").train(GOOD["two"])
