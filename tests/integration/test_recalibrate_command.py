"""``pixal recalibrate``: after a drift, good parts pass again, without a new fit; the fit and its files stay."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import lot_config, write_marks

import pixal
from pixal.errors import InputError
from pixal.io.files import file_hash
from pixal.io.records import read_record
from pixal.synthetic import write_batch
from pixal.tasks.photographs.learning.candidate import candidate_config
from pixal.tasks.photographs.training.stored import load_trained

CANDIDATE = Path("out/Part/learning/candidate/front")
WEIGHTS = "model/pixal_gaussian.weights.npz"


@pytest.fixture
def work(validated_lot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the working directory."""
    shutil.copytree(validated_lot, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def write_drifted(name: str, seed: int, good: int) -> str:
    """Photographs of good parts with a darker side and a soft focus."""
    write_batch(name, component="Part", types=("front",), train=0, good=good, bad=0, seed=seed, frame_size=(240, 135))
    shade = 0.8 + 0.25 * np.arange(240) / 240
    for path in Path(name, "production/Part/front").iterdir():
        photo = cv2.imread(str(path))
        assert photo is not None
        cv2.imwrite(str(path), cv2.GaussianBlur(photo * shade[None, :, None], (0, 0), 0.8).astype(np.uint8))
    return f"{name}/production/Part"


def test_good_parts_pass_again_after_a_drift(work: Path) -> None:
    drifted = pixal.validate(write_drifted("dim", 21, 12), batch="dim", config=lot_config(), quiet=True)
    assert drifted.failed > 6
    weights = file_hash(Path("out/Part/front") / WEIGHTS)
    result = pixal.recalibrate(["front"], batch="dim", config=lot_config(), quiet=True)
    for word in ("light and focus: red", "scale: the errors spread", "threshold:", "candidate"):
        assert word in result.summary()
    assert file_hash(CANDIDATE / WEIGHTS) == file_hash(Path("out/Part/front") / WEIGHTS) == weights
    model = load_trained(candidate_config(lot_config()), "front")
    assert len(model.calibrations["front"].scores) == 12
    change = read_record(CANDIDATE / "metadata/model_training.yaml")["recalibrated"]["types"]["front"]
    assert change["scale"] > 1.2
    pixal.promote(["front"], force=True, kinds=["scratch"], sizes=[3], defects=3, config=lot_config(), quiet=True)
    later = pixal.validate(write_drifted("dim2", 22, 12), batch="dim2", config=lot_config(), quiet=True)
    assert later.failed <= 4  # 10 % are asked for: 5 or more of 12 have a probability of 0.004
    assert later.drift is not None
    assert not later.drift.findings
    pixal.promote(["front"], back=True, config=lot_config())
    assert pixal.detect(config=lot_config(), quiet=True).failed > 6


def test_an_odd_part_does_not_set_the_threshold_and_is_named(work: Path) -> None:
    batch = write_drifted("dim", 21, 12)
    path = Path(batch, "front/part_003.jpg")
    photo = cv2.imread(str(path))
    assert photo is not None
    height, width = photo.shape[:2]
    photo[height // 2 - 6 : height // 2 + 6, width // 2 - 6 : width // 2 + 6] = (0, 0, 255)
    cv2.imwrite(str(path), photo)
    pixal.validate(batch, batch="dim", config=lot_config(), quiet=True)
    result = pixal.recalibrate(["front"], batch="dim", config=lot_config(), quiet=True)
    assert "calibrated on 11 good parts" in result.summary()
    assert "far from the other good parts: part_003.jpg" in result.summary()
    model = load_trained(candidate_config(lot_config()), "front")
    calibration, threshold = model.calibrations["front"], model.record.calibration["front"].threshold
    assert len(calibration.scores) == len(calibration.losses) == 11
    assert calibration.selected_scores[0] > threshold >= calibration.scores.max()
    change = read_record(CANDIDATE / "metadata/model_training.yaml")["recalibrated"]["types"]["front"]
    assert change["odd_parts"] == ["part_003.jpg"]


def test_too_few_good_parts_change_nothing(work: Path) -> None:
    write_marks({"part_000.jpg": "false alarm"})
    pixal.accept("marks.csv", config=lot_config())
    with pytest.raises(InputError, match="at least 8 are needed"):
        pixal.recalibrate(config=lot_config(), quiet=True)
    with pytest.raises(InputError, match=r"there is no batch lot9 .*known: lot1"):
        pixal.recalibrate(batch="lot9", config=lot_config(), quiet=True)
    assert not CANDIDATE.exists()
