"""Full disks: each command ends with one line and exit status 2, and works again when there is space."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
SIZE = 48_000_000  # bytes of the disk
FREE = (0, 30_000, 100_000, 200_000, 400_000, 700_000)

# Runs a command once per amount of free space, in one process, because importing TensorFlow takes seconds.
ATTEMPTS = """
import os, sys
from pathlib import Path
from matplotlib.figure import Figure
from pixal import cli
Figure.draw = lambda *_: None  # drawing takes long, and is not what is attacked
command, *sizes = sys.argv[1:]
for free in map(int, sizes):
    disk = os.statvfs(".")
    available = disk.f_bavail * disk.f_frsize
    if available > free:
        Path("filler").write_bytes(bytes(available - free))
    status = cli.main([*command.split(), "-q"])
    Path("filler").unlink(missing_ok=True)
    print("status", free, int(status), flush=True)
print("status", "all", int(cli.main([*command.split(), "-q"])), flush=True)
"""


@pytest.fixture
def disk(new_disk: Callable[[int], Path], trained_front: Path) -> Path:
    """A small disk with the working directory of a trained model."""
    folder = new_disk(SIZE)
    shutil.copytree(trained_front, folder, dirs_exist_ok=True)
    return folder


@pytest.mark.parametrize(
    "command", ["preprocess -i photographs/front --force", "train", "validate -i photographs/front --force"]
)
def test_a_full_disk_is_one_line_and_costs_no_later_run(disk: Path, command: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", ATTEMPTS, command, *map(str, FREE)],
        cwd=disk,
        env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin", "PIXAL_TRACKING": "off", "HOME": str(disk.parent)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    statuses = [line.split()[1:] for line in run.stdout.splitlines() if line.startswith("status")]
    assert run.returncode == 0, (run.returncode, statuses, run.stderr)  # -7: SIGBUS
    assert len(statuses) == len(FREE) + 1
    full = [status for _, status in statuses[:-1] if status != "0"]
    assert set(full) == {"2"}, (statuses, run.stderr)
    assert statuses[-1] == ["all", "0"]
    errors = [line for line in run.stderr.splitlines() if line.startswith("pixal: error: ")]
    assert len(errors) == len(full), run.stderr
    assert all("cannot be written: No space left on device; free some space" in line for line in errors), errors
    assert "Traceback" not in run.stderr
    assert not list(disk.rglob("." + 12 * "[0-9a-f]" + ".*"))  # temporary files of atomic_write
