"""``pixal train`` in a separate process: interrupted, killed, resumed. Resumed runs write identical files."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers import write_configs

from pixal.cli import main
from pixal.synthetic import write_batch
from pixal.tracking.environment import SWITCH

EPOCHS, FOLDS = 60, 2
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


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    write_batch(folder, component="Part", types=("front",), train=8, good=0, bad=0, frame_size=(320, 180))
    return folder / "train" / "Part" / "front"


@pytest.fixture(scope="module")
def uninterrupted(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    write_configs(folder, PARAMETERS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv(SWITCH, "off")
        assert main(["preprocess", "-q", "-i", str(photographs)]) == 0
    assert run_train(folder, "-q") == (0, "")
    return folder


@pytest.fixture(scope="module")
def interrupted(uninterrupted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the same inputs, and a run that was interrupted in its first fit."""
    folder = tmp_path_factory.mktemp("interrupted")
    shutil.copytree(uninterrupted / "configs", folder / "configs")
    model = {"model", "model_training.yaml", "figures", "logs"}
    shutil.copytree(uninterrupted / "out", folder / "out", ignore=lambda _, names: model & set(names))
    status, output = run_train(folder, at_epoch=EPOCHS // 4)
    assert status == 130
    assert 1 <= stopped_in(output, fit=1) < EPOCHS
    return folder


@pytest.fixture
def interrupted_run(interrupted: Path, tmp_path: Path) -> Path:
    """Return a copy of the interrupted run."""
    return shutil.copytree(interrupted, tmp_path / "interrupted_run")


def run_train(folder: Path, *options: str, at_epoch: int | None = None, number: int = signal.SIGINT) -> tuple[int, str]:
    """Run ``pixal train``; return its exit status and its standard error without progress bars and TensorFlow messages.

    If ``at_epoch`` is given, signal ``number`` is sent when the progress bar reaches this epoch, counted over all fits.
    """
    terminal, stderr = os.openpty()  # on which a progress bar shows each epoch
    fcntl.ioctl(stderr, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "pixal.cli", "train", *options],
        cwd=folder,
        stderr=stderr,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUNBUFFERED": "1"},
        # A background job of a shell script ignores Ctrl-C, and its child processes inherit this.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    os.close(stderr)
    output = []
    with process:
        for line in _lines(terminal):
            bar = re.search(r"(\d+)/\d+ \[", line)
            if bar is None:
                output.append(line)
            elif at_epoch is not None and int(bar[1]) >= at_epoch:
                process.send_signal(number)
                at_epoch = None
    assert at_epoch is None, f"the training ended before epoch {at_epoch}: {output}"
    foreign = ("WARNING: All log messages", "I0000", "W0000", "E0000")
    return process.returncode, "\n".join(line for line in output if line.strip() and not line.startswith(foreign))


def _lines(terminal: int) -> Iterator[str]:
    """Yield the lines that a process writes to a terminal; each update of a progress bar is a line."""
    text = b""
    with contextlib.suppress(OSError):  # raised when the process has ended
        while block := os.read(terminal, 1000):
            *lines, text = re.split(rb"[\r\n]", text + block)
            yield from (line.decode() for line in lines)
    os.close(terminal)
    yield text.decode()


def stopped_in(output: str, *, fit: int) -> int:
    """Return the epoch in which the run stopped, from its last line of output; check that it stopped in this fit."""
    pattern = r"pixal: training stopped and saved in fit (\d+), epoch (\d+); run the same command with --resume "
    match = re.fullmatch(pattern + "to continue", output.splitlines()[-1])
    assert match, output
    assert int(match[1]) == fit
    return int(match[2])


def files(folder: Path) -> dict[str, str]:
    """Return the digest of each file in the model folder."""
    (model,) = folder.glob("out/**/model")
    return {
        str(path.relative_to(model)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(model.rglob("*"))
        if path.is_file()
    }


def record(folder: Path) -> dict[str, Any]:
    """Return the model record without the entries that differ between runs: times, folder, and the hash over all."""
    (path,) = folder.glob("out/**/metadata/model_training.yaml")
    content = dict(yaml.safe_load(path.read_text()))
    for name in ("created", "training_seconds", "input", "record_sha256"):
        content.pop(name)
    return content


def curves(folder: Path) -> list[tuple[str, int, float]]:
    """Return all metrics of the finished run from the MLflow store."""
    with sqlite3.connect(folder / "mlflow.db") as store:
        rows = store.execute(
            "select key, step, value from metrics join runs using (run_uuid) where status = 'FINISHED' order by 1, 2"
        ).fetchall()
    store.close()
    return rows


def check_same(folder: Path, other: Path) -> None:
    assert files(folder) == files(other)
    assert {"pixal_autoencoder.weights.h5", "pixal_autoencoder.keras", "calibration.npz"} <= set(files(folder))
    assert record(folder) == record(other)
    assert curves(folder) == curves(other)
    names = [name for name, _, _ in curves(folder)]
    assert names.count("val_loss") == EPOCHS
    assert names.count("loss") == names.count("learning_rate") == record(folder)["epochs_trained"]


@pytest.mark.slow
def test_an_interrupted_and_killed_run_resumes_with_the_same_files(
    interrupted_run: Path, uninterrupted: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not list(interrupted_run.glob("out/**/metadata/model_training.yaml"))
    status, output = run_train(
        interrupted_run,
        "--resume",
        at_epoch=EPOCHS + EPOCHS // 4,
        number=signal.SIGKILL,  # in the second fit
    )
    assert status == -signal.SIGKILL
    status, output = run_train(interrupted_run, "--resume")
    assert status == 0
    assert "resuming after 1 finished fits" in output
    check_same(interrupted_run, uninterrupted)

    before = {path: path.stat().st_mtime_ns for path in (interrupted_run / "out").rglob("model/*")}
    monkeypatch.chdir(interrupted_run)
    assert main(["train", "--resume"]) == 0
    assert "front: skipped, already trained on the same input with the same settings" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in (interrupted_run / "out").rglob("model/*")} == before


def test_the_record_names_the_conditions_for_the_same_bytes(uninterrupted: Path) -> None:
    content = record(uninterrupted)
    assert "byte for byte" in content["repeatable"]
    for name in ("input", "settings", "versions", "hardware"):
        assert name in content["repeatable"]
        assert {"input": "input_sha256"}.get(name, name) in content
    assert content["hardware"]["deterministic"] is True
    assert content["settings"]["model_training"]["seed"] == 42
    assert {name: content["files"][name] for name in files(uninterrupted)} == files(uninterrupted)


@pytest.mark.slow
def test_resume_with_another_setting_or_input_is_refused_in_one_line(
    interrupted_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(interrupted_run)
    (state,) = interrupted_run.glob("out/**/checkpoint/state.npz")
    state_before, to_start_again = state.read_bytes(), "; train without --resume to start again"

    def refused(*options: str) -> str:
        capsys.readouterr()
        assert main(["train", "-q", "--resume", *options]) == 2
        return capsys.readouterr().err.removesuffix("\n")

    line = refused("--set", "model_training.learning_rate=0.002")
    assert re.fullmatch(
        rf"pixal: error: .* belongs to a run with another model_training\.learning_rate{to_start_again}", line
    )
    (path,) = interrupted_run.glob("out/**/out.npz")
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(b"other")
    assert re.fullmatch(r"pixal: error: .*out\.npz is not the file that make_input recorded; .*", refused())
    (record_path,) = interrupted_run.glob("out/**/metadata/preprocessing.yaml")
    content = yaml.safe_load(record_path.read_text())
    record_path.write_text(yaml.safe_dump(content | {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}))
    assert re.fullmatch(rf"pixal: error: .* belongs to a run with another input{to_start_again}", refused())
    assert state.read_bytes() == state_before
