"""``pixal train`` in processes of its own: interrupted, killed, gone on with, refused; the same files byte for byte."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import write_configs

from pixal.synthetic import write_batch

EPOCHS, FOLDS = 120, 2
PARAMETERS = f"""
preprocessing: {{draw_matches: False, save_metrics: False, save_overlays: False}}
plotting: {{plot_loss: False, plot_accuracy: False}}
model_training:
  autoencoder_architecture: [16, 4]
  n_epochs: {EPOCHS}
  patience: 0
  calibration_folds: {FOLDS}
  learning_rate_schedule: plateau
  plateau_patience: 5
"""

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="Windows has no signals to send to another process"),
    pytest.mark.usefixtures("tracking_on"),
]

Mode = tuple[str, ...]
ONE_HOT: Mode = ("--set", "model_training.one_hot_encoding=True")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    write_batch(folder, component="Part", types=("back", "front"), train=8, good=0, bad=0, frame_size=(320, 180))
    return folder / "train" / "Part"


def prepared(folder: Path, photographs: Path, mode: Mode) -> Path:
    """A working directory with inputs: of one type, or in one-hot mode of two."""
    write_configs(folder, PARAMETERS)
    shutil.copytree(photographs if mode else photographs / "front", folder / "photos" / ("" if mode else "front"))
    done = subprocess.run(
        command("preprocess", "-q", "-i", "photos", *mode), cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def unbroken(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained in one go, one type."""
    folder = prepared(tmp_path_factory.mktemp("unbroken"), photographs, ())
    assert pixal(folder, "-q") == (0, "")
    return folder


@pytest.fixture(scope="module")
def interrupted(unbroken: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same inputs in another directory, and a run that was interrupted in its first fit."""
    folder = tmp_path_factory.mktemp("interrupted")
    shutil.copytree(unbroken / "configs", folder / "configs")
    model = {"model", "model_training.yaml", "figures", "logs"}
    shutil.copytree(unbroken / "out", folder / "out", ignore=lambda _, names: model & set(names))
    status, said = pixal(folder, at=EPOCHS // 4)
    assert status == 1
    assert 1 <= stopped_in(said, fit=1) < EPOCHS
    return folder


@pytest.fixture
def cut(interrupted: Path, tmp_path: Path) -> Path:
    """A copy of that, to go on with."""
    return shutil.copytree(interrupted, tmp_path / "cut")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pixal.cli", *arguments]


def pixal(folder: Path, *options: str, at: int | None = None, number: int = signal.SIGINT) -> tuple[int, str]:
    """Run ``pixal train``: its exit status, and what it said on standard error but for progress and TensorFlow.

    ``at``: the epoch, counted over all fits, at which the progress bar shows for the signal ``number`` to be sent.
    """
    process = subprocess.Popen(
        command("train", *options),
        cwd=folder,
        stderr=subprocess.PIPE,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUNBUFFERED": "1"},
        # A job in the background of a shell script ignores Ctrl-C, and so would what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    said = []
    with process:
        for line in _lines(process):
            bar = re.search(r"(\d+)/\d+ \[", line)
            if bar is None:
                said.append(line)
            elif at is not None and int(bar[1]) >= at:
                process.send_signal(number)
                at = None
    assert at is None, f"the training ended before epoch {at}: {said}"
    theirs = ("WARNING: All log messages", "I0000", "W0000", "E0000")
    return process.returncode, "\n".join(line for line in said if line.strip() and not line.startswith(theirs))


def _lines(process: subprocess.Popen[bytes]) -> Iterator[str]:
    """Standard error, also where a progress bar is drawn over itself."""
    assert process.stderr is not None
    line = b""
    while byte := process.stderr.read(1):
        if byte in b"\r\n":
            yield line.decode()
            line = b""
        else:
            line += byte
    yield line.decode()


def stopped_in(said: str, *, fit: int) -> int:
    """The epoch in which a run says, in its last line, to have stopped; it must be one of the fit."""
    pattern = r"pixal: training stopped and saved in fit (\d+), epoch (\d+); run the same command with --resume "
    found = re.fullmatch(pattern + "to continue", said.splitlines()[-1])
    assert found, said
    assert int(found[1]) == fit
    return int(found[2])


def files(folder: Path) -> dict[str, str]:
    """Digests of what lies in the model folder: weights, model, calibration, latents, preprocessing."""
    (model,) = folder.glob("out/**/model")
    return {
        str(path.relative_to(model)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(model.rglob("*"))
        if path.is_file()
    }


def record(folder: Path) -> dict[str, Any]:
    """The metadata, but for what is of a run: when, how long, where."""
    (path,) = folder.glob("out/**/metadata/model_training.yaml")
    content = dict(yaml.safe_load(path.read_text()))
    for name in ("created", "training_seconds", "input"):
        content.pop(name)
    return content


def curves(folder: Path) -> list[tuple[str, int, float]]:
    """All metrics of the finished run that MLflow knows."""
    with sqlite3.connect(folder / "mlflow.db") as store:
        found = store.execute(
            "select key, step, value from metrics join runs using (run_uuid) where status = 'FINISHED' order by 1, 2"
        ).fetchall()
    store.close()
    return found


def check_same(folder: Path, other: Path) -> None:
    assert files(folder) == files(other)
    assert {"pixal_autoencoder.weights.h5", "pixal_autoencoder.keras", "calibration.npz"} <= set(files(folder))
    assert record(folder) == record(other)
    assert curves(folder) == curves(other)
    names = [name for name, _, _ in curves(folder)]
    assert names.count("val_loss") == EPOCHS
    assert names.count("loss") == names.count("learning_rate") == record(folder)["epochs_trained"]


@pytest.mark.slow
def test_an_interrupted_and_killed_run_resumes_with_the_same_files(cut: Path, unbroken: Path) -> None:
    assert not list(cut.glob("out/**/metadata/model_training.yaml"))
    status, _ = pixal(cut, "--resume", at=EPOCHS + EPOCHS // 4, number=signal.SIGKILL)  # in the second fit
    assert status == -signal.SIGKILL
    status, said = pixal(cut, "--resume", at=EPOCHS * FOLDS + 2)  # in the last one
    assert status == 1
    assert "resuming after 1 finished fits" in said
    stopped_in(said, fit=FOLDS + 1)
    assert pixal(cut, "-q", "--resume") == (0, "")
    check_same(cut, unbroken)

    before = {path: path.stat().st_mtime_ns for path in (cut / "out").rglob("model/*")}
    status, said = pixal(cut, "--resume")
    assert status == 0
    assert "front: skipped, already trained on the same input with the same settings" in said
    assert {path: path.stat().st_mtime_ns for path in (cut / "out").rglob("model/*")} == before


def test_the_record_names_the_conditions_for_the_same_bytes(unbroken: Path) -> None:
    content = record(unbroken)
    assert "byte for byte" in content["repeatable"]
    for name in ("input", "settings", "versions", "hardware"):
        assert name in content["repeatable"]
        assert {"input": "input_sha256"}.get(name, name) in content
    assert content["hardware"]["deterministic"] is True
    assert content["settings"]["model_training"]["seed"] == 42
    assert {name: content["files"][name] for name in files(unbroken)} == files(unbroken)


@pytest.mark.slow
def test_resume_with_another_setting_or_input_is_refused_in_one_line(cut: Path) -> None:
    (state,) = cut.glob("out/**/checkpoint/state.npz")
    saved, refused = state.read_bytes(), "; train without --resume to start again"
    status, said = pixal(cut, "-q", "--resume", "--set", "model_training.learning_rate=0.002")
    assert status == 2
    assert re.fullmatch(rf"pixal: error: .* belongs to a run with another model_training\.learning_rate{refused}", said)
    (path,) = cut.glob("out/**/out.npz")
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"other")
    status, said = pixal(cut, "-q", "--resume")
    assert status == 2
    assert re.fullmatch(r"pixal: error: .*out\.npz is not the file that make_input recorded; .*", said)
    (note,) = cut.glob("out/**/metadata/preprocessing.yaml")
    content = yaml.safe_load(note.read_text())
    note.write_text(yaml.safe_dump(content | {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}))
    status, said = pixal(cut, "-q", "--resume")
    assert status == 2
    assert re.fullmatch(rf"pixal: error: .* belongs to a run with another input{refused}", said)
    assert state.read_bytes() == saved


@pytest.mark.slow
def test_an_interrupted_one_hot_run_gives_the_same_files(photographs: Path, tmp_path: Path) -> None:
    whole = prepared(tmp_path / "whole", photographs, ONE_HOT)
    broken = tmp_path / "broken"
    shutil.copytree(whole, broken)
    assert pixal(whole, "-q", *ONE_HOT) == (0, "")
    status, said = pixal(broken, *ONE_HOT, at=EPOCHS + EPOCHS // 4)
    assert status == 1
    stopped_in(said, fit=2)
    assert pixal(broken, "-q", "--resume", *ONE_HOT) == (0, "")
    check_same(broken, whole)
    assert record(whole)["types"] == ["back", "front"]
