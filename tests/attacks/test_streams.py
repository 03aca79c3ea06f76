"""Closed, broken and full output streams, and little memory: the work is done, and its exit status is kept."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import PREPROCESSING_FIGURES

import pixal
from pixal import cli

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs a POSIX shell")

FULL = "2>/dev/full >/dev/full"
STREAMS = ["2>&-", ">&-", "<&- >&- 2>&-", "2>&1 | head -c 1", "2>&1 | true", FULL]


def status_of(command: str, streams: str, folder: Path) -> int:
    """Run ``pixal COMMAND`` in a shell; return its exit status, not that of what reads its output."""
    if streams == FULL and not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    redirect, pipe, reader = streams.partition("|")
    script = f"{{ {sys.executable} -m pixal.cli {command} {redirect}; echo $? >status; }} {pipe} {reader}"
    subprocess.run(["sh", "-c", script], cwd=folder, timeout=300, check=False, capture_output=True)
    return int((folder / "status").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("streams", STREAMS)
@pytest.mark.parametrize(("command", "status"), [("--help", 0), ("preprocess -i nowhere", 2), ("nonsense", 2)])
def test_the_status_is_kept(tmp_path: Path, command: str, status: int, streams: str) -> None:
    assert status_of(command, streams, tmp_path) == status


@pytest.mark.slow
@pytest.mark.parametrize("streams", STREAMS)
def test_the_work_is_done(rendered: Path, tmp_path: Path, streams: str) -> None:
    (tmp_path / "front").mkdir()
    for number in range(2):
        shutil.copy(rendered / f"train/Part/front/image_{number:03d}.jpg", tmp_path / "front")
    quick = " ".join(f"--set preprocessing.{figure}=False" for figure in PREPROCESSING_FIGURES)
    assert status_of(f"preprocess -i front {quick}", streams, tmp_path) == 0
    assert list((tmp_path / "out").glob("*/front/out.npz"))


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("can't start new thread"), ImportError("x.so: failed to map segment")]
)
def test_too_little_memory_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(pixal, "preprocess", fails)
    assert cli.main(["preprocess", "-i", "x", "-q"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "not enough memory" in lines[0]
