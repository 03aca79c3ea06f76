"""Outputs that were changed after ``validate`` wrote them are noticed, and are made again from the photographs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import PLOTS, record_verdicts, train_front

import pixal
from pixal.config import load_config
from pixal.errors import InputError
from pixal.inputs import InputSet
from pixal.io.arrays import load_arrays
from pixal.io.files import file_hash
from pixal.tasks.photographs.discovery import Photograph
from pixal.tasks.photographs.parts import PreparedPart
from pixal.tasks.photographs.settings import photograph_config
from pixal.tasks.photographs.verdicts.validate_type import TypeValidation
from pixal.tasks.photographs.verdicts.watch import watch

SETTINGS = f"""
preprocessing:
  preprocessor: {{channels: [R, G, B], pool_size: 4}}
  remove_background: {{method: border}}
model_training: {{model: gaussian, calibration_folds: 3, one_hot_encoding: False}}
plotting: {{{", ".join(f"{flag}: {flag == 'plot_anomaly_heatmap'}" for flag in PLOTS)}}}
execution: {{workers: 2}}
validation: {{watch_interval: 1}}
"""
FRONT = Path("validate/Part/front")
STORED = {
    "part_000": "anomaly_maps/part_000.tiff",
    "part_001": "figures/anomaly_overlay_part_001.png",
    "part_002": "aligned_metrics/matches/part_002_matches.jpg",
    "part_003": "aligned_metrics/overlay_diagnostics/part_003_overlay.jpg",
}
"""One file of each part."""


@pytest.fixture(scope="module")
def trained(rendered: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a small model of the type front. Read only."""
    folder = tmp_path_factory.mktemp("trained")
    train_front(folder, rendered, SETTINGS)
    return folder


@pytest.fixture
def workdir(trained: Path, rendered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with four photographs and their results."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    (tmp_path / "new/front").mkdir(parents=True)
    for path in sorted((rendered / "production/Part/front").iterdir())[: len(STORED)]:
        shutil.copy(path, tmp_path / "new/front")
    monkeypatch.chdir(tmp_path)
    validate()
    return tmp_path


@pytest.fixture
def validated(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The photographs that get a new verdict."""
    return record_verdicts(monkeypatch, lambda _, verdict: str(verdict.part.image))


def validate() -> None:
    pixal.validate("new", batch="one", quiet=True)


def hashes() -> dict[str, str]:
    """The hash of each output that has no time in it."""
    files = (path for path in sorted(FRONT.rglob("*")) if path.suffix in {".tiff", ".png", ".jpg", ".npz", ".csv"})
    return {str(path): file_hash(path) for path in files if path.name != "sums.npz"}


def change_a_byte(path: Path, position: int = -40) -> None:
    """Change one byte, and keep the size and the time of modification."""
    data, stat = bytearray(path.read_bytes()), path.stat()
    data[position] ^= 255
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def change_an_input(name: str) -> None:
    inputs = InputSet.load(FRONT / "out.npz")
    offset = inputs.data.offset  # type: ignore[attr-defined]
    change_a_byte(FRONT / "out.npz", offset + inputs.names.index(name) * inputs.data[0].nbytes)


def test_changed_files_of_a_part_are_made_again(validated: list[str]) -> None:
    expected = hashes()
    for name, file in STORED.items():
        change_a_byte(FRONT / file)
        assert file_hash(FRONT / file) != expected[str(FRONT / file)], name
    validate()
    assert validated == [f"{name}.jpg" for name in STORED]
    assert hashes() == expected
    validated.clear()
    change_a_byte(sorted((FRONT / "report").iterdir())[0])
    validate()
    assert len(validated) == 1
    assert hashes() == expected


def test_a_changed_input_is_made_again(validated: list[str]) -> None:
    expected, sums = hashes(), load_arrays(FRONT / "metadata/sums.npz")
    change_an_input("part_002.jpg")
    validate()
    assert validated == ["part_002.jpg"]
    assert hashes() == expected
    for name, values in load_arrays(FRONT / "metadata/sums.npz").items():
        if values.dtype.kind == "f":
            np.testing.assert_allclose(values, sums[name], rtol=1e-5)


def test_detect_refuses_a_changed_input(workdir: Path) -> None:
    pixal.detect(quiet=True)
    change_an_input("part_002.jpg")
    with pytest.raises(InputError, match=r"the input of part_002\.jpg was changed or is damaged; run validate again"):
        pixal.detect(quiet=True)


def test_verdicts_hold_after_detect_and_for_files_that_were_copied(
    validated: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixal.detect(quiet=True)
    assert len(validated) == len(STORED)
    shutil.copytree(FRONT, tmp_path / "copy")
    shutil.rmtree(FRONT)
    shutil.move(tmp_path / "copy", FRONT)
    validated.clear()
    read: list[Path] = []
    monkeypatch.setattr("pixal.io.written_files.file_hash", lambda path: read.append(path) or file_hash(path))
    validate()
    assert len(read) > len(STORED)
    read.clear()
    validate()
    assert read == []  # the times of the copies are stored
    assert validated == []


@pytest.mark.parametrize("is_stopped", [False, True])
def test_figures_follow_a_photograph_that_changes_and_changes_back(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, is_stopped: bool
) -> None:
    """Its other content is prepared, but gets no verdict: the file changes again, or the watch is stopped."""
    expected, photo = hashes(), Path("new/front/part_001.jpg")
    content, other = photo.read_bytes(), Path("new/front/part_003.jpg").read_bytes()
    prepare = TypeValidation._prepare
    prepared: list[str] = []

    def change_meanwhile(self: TypeValidation, photographs: list[Photograph]) -> list[PreparedPart]:
        os.utime(photo, (1, 1))  # so that the photograph has to wait
        parts = prepare(self, photographs)
        photo.write_bytes(content)
        prepared.extend(part.record.image for part in parts)
        if is_stopped:
            raise KeyboardInterrupt
        return parts

    def scan_with(*steps: Callable[[], object]) -> None:
        remaining = iter(steps)

        def pause(_: float) -> None:
            next(remaining, stop)()

        config = photograph_config(load_config("configs"))
        watch("new", batch="one", config=config, pause=pause)

    with monkeypatch.context() as patch:
        patch.setattr(TypeValidation, "_prepare", change_meanwhile)
        scan_with(lambda: photo.write_bytes(other), list)
    assert prepared == ["part_001.jpg"]
    scan_with(list, list, list)
    assert hashes() == expected


def stop() -> None:
    raise KeyboardInterrupt
