"""Read-only disks, and folders without permission: one line with the file and what to do, status 2, nothing lost."""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from pixal import cli

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
SIZE = 100_000_000  # bytes of the disk
COMMANDS = (
    "preprocess -i photographs/front --force",
    "remove_bg -i photographs/front --force",
    "align -i photographs/front --force",
    "make_input -i photographs/front --force",
    "train",
    "validate -i photographs/front --force",
    "validate -i new/front",
    "detect",
    "encode -i photographs/front",
    "evaluate -i photographs/front",
    "demo demo",
)

# In one process, because importing TensorFlow takes seconds: each COMMAND, or with "FOLDER: COMMAND" while nobody may
# write into FOLDER and the folders below it, or (FILE) while nobody may read FILE.
ATTEMPTS = """
import os, sys
from pathlib import Path
from matplotlib.figure import Figure
from pixal import cli

Figure.draw = lambda *_: None  # drawing takes long, and is not what is attacked

def close(path):
    inner = [path, *(p for p in path.rglob("*"))] if path.is_dir() else [path]
    before = {p: p.stat().st_mode for p in inner}
    for p in reversed(inner):
        p.chmod(0o555 if p.is_dir() else 0o444 if path.is_dir() else 0)
    if os.access(path, os.W_OK):
        sys.exit("this process may write everywhere")
    return before

for attempt in sys.argv[1:]:
    folder, _, command = attempt.rpartition(": ")
    before = close(Path(folder)) if folder else {}
    print("attempt", attempt, file=sys.stderr, flush=True)
    status = int(cli.main([*command.split(), "-q"]))
    for path, mode in before.items():
        path.chmod(mode)
    print("status", status, file=sys.stderr, flush=True)
"""


def without_privileges() -> None:
    """Let permissions count for root too: programs that are started from here on may not write where others may not."""
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        if prctl is not None:
            prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


def attempt(folder: Path, *attempts: str) -> dict[str, tuple[int, list[str]]]:
    """The status and the lines on standard error of each attempt."""
    environment = {"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin", "HOME": str(folder.parent)}
    run = subprocess.run(
        [sys.executable, "-c", ATTEMPTS, *attempts],
        cwd=folder,
        env=environment | {"PIXAL_TRACKING": "off"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        preexec_fn=without_privileges,
    )
    if "this process may write everywhere" in run.stderr:
        pytest.skip("this process may write everywhere")
    assert run.returncode == 0, run.stderr
    found = {}
    for text in run.stderr.split("attempt ")[1:]:
        name, *lines = text.splitlines()
        status = next(line for line in lines if line.startswith("status "))
        found[name] = (int(status.split()[1]), [line for line in lines if line != status])
    return found


def succeed(folder: Path, *commands: str) -> None:
    """Run commands that must succeed, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        statuses = [int(cli.main([*command.split(), "-q"])) for command in commands]
    assert statuses == [0] * len(commands)


def hashes(folder: Path) -> Mapping[str, str]:
    """The SHA-256 of each file but logs and lists of files, which a command that is refused later may have extended."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".log"
    }


def assert_refused(found: dict[str, tuple[int, list[str]]], cause: str) -> None:
    for name, (status, lines) in found.items():
        assert status == 2, (name, status, lines)
        (line,) = errors(name, lines)
        assert cause in line, (name, lines)
        assert "change its permissions, or name another folder in paths.yaml" in line, (name, lines)


def errors(name: str, lines: list[str]) -> list[str]:
    """The errors on standard error; a warning on the number of photographs may stand above them."""
    assert not any("Traceback" in line for line in lines), (name, lines)
    return [line for line in lines if line.startswith("pixal: ")]


def fill(folder: Path, trained: Path, rendered: Path) -> None:
    """A trained model, a batch with results, and a photograph that has none yet."""
    shutil.copytree(trained, folder, dirs_exist_ok=True)
    (folder / "new/front").mkdir(parents=True)
    shutil.copy(next((rendered / "production/Part/front").iterdir()), folder / "new/front")
    succeed(folder, "validate -i photographs/front")


def test_a_read_only_disk_is_one_line(new_disk: Callable[[int], Path], trained_front: Path, rendered: Path) -> None:
    disk = new_disk(SIZE)
    fill(disk, trained_front, rendered)
    before = hashes(disk)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    found = attempt(disk, *COMMANDS)
    assert list(found) == list(COMMANDS)
    assert_refused(found, "Read-only file system")
    assert hashes(disk) == before
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    succeed(disk, "validate -i new/front", "train", "preprocess -i photographs/front")


def test_folders_without_permission_are_one_line(tmp_path: Path, trained_front: Path, rendered: Path) -> None:
    fill(tmp_path, trained_front, rendered)
    before = hashes(tmp_path)
    outputs = {
        "out": (*COMMANDS[:5], "encode -i photographs/front", "evaluate -i photographs/front"),
        "out/Part/front/metadata": COMMANDS[:5],
        "out/Part/front/preprocessed_images": COMMANDS[:3],
        "out/Part/front/figures": ("train",),
        "out/Part/front/model": ("train",),
        "validate": ("validate -i photographs/front --force", "validate -i new/front", "detect"),
        "validate/Part/front/metadata": ("validate -i photographs/front --force", "validate -i new/front"),
    }
    attempts = [f"{folder}: {command}" for folder, commands in outputs.items() for command in commands]
    found = attempt(tmp_path, *attempts)
    assert list(found) == attempts
    assert_refused(found, "Permission denied")
    after = hashes(tmp_path)  # may hold more, for example the checkpoint of a training that was stopped
    assert {name: after.get(name) for name in before} == before
    succeed(tmp_path, "validate -i new/front", "train", "preprocess -i photographs/front")


def test_files_that_may_not_be_read_are_one_line(tmp_path: Path, trained_front: Path, rendered: Path) -> None:
    fill(tmp_path, trained_front, rendered)
    model = sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "out/Part/front/model").glob("*.*"))
    attempts = [f"{file}: validate -i new/front" for file in (*model, "out/Part/front/metadata/model_training.yaml")]
    attempts += [f"{file}: train" for file in ("out/Part/front/out.npz", "out/Part/front/metadata/preprocessing.npz")]
    attempts += [f"{file}: train" for file in ("out/Part/front/metadata/preprocessing.yaml", "configs/paths.yaml")]
    found = attempt(tmp_path, *attempts)
    for name, (status, lines) in found.items():
        assert status == 2, (name, status, lines)
        (line,) = errors(name, lines)
        assert line.startswith("pixal: error: "), (name, line)
        assert Path(name.partition(":")[0]).name in line, (name, line)
        assert "Permission denied" in line, (name, line)
