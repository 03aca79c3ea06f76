"""Links, pipes, devices, folders that may not be opened, and files that change: named, and never waited for."""

from __future__ import annotations

import csv
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers import NO_FIGURES, write_configs
from processes import ForkServer
from tries import tries

import pixal
from pixal.errors import InputError
from pixal.io.files import read_bytes
from pixal.tasks.photographs import discovery
from pixal.tasks.photographs.preprocessing import pipeline
from pixal.tasks.photographs.settings import photograph_config
from pixal.tasks.photographs.verdicts import watch as watching

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such files"),
]

OPTIONS = " ".join(["-q", *(f"--set={setting}" for setting in NO_FIGURES)])
TIMEOUT = 240  # seconds; a command that opens a pipe waits for ever
# Appends to a file, and starts again from an empty one at 2 MB.
GROW = """
import sys
with open(sys.argv[1], "ab", buffering=0) as file:
    while True:
        if file.write(b"0123456789") and file.tell() > 2_000_000:
            file.truncate(0)
"""
SPECIAL = {
    "gone.jpg": "cannot be read: No such file",
    "self.jpg": "levels of symbolic links",
    "pipe.jpg": "not a regular file",
    "socket.png": "not a regular file",
    "endless.png": "not a regular file",
    "empty.jpg": "the file is empty",
    "missing drive": "cannot be opened: No such file",
    "huge.png": "is too large: the file has",
    "text.jpg": "is not an image",
}
"""What lies among the photographs, and the reason that is given for each."""


@pytest.fixture(scope="module")
def prepared(rendered: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a model of the type front, of the family gaussian. Read only."""
    folder = tmp_path_factory.mktemp("gaussian")
    write_configs(folder, "model_training: {model: gaussian}\n")
    copy_photographs(rendered / "train/Part/front", folder / "photographs/front", 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        config = pixal.load_config(None, NO_FIGURES)
        pixal.preprocess("photographs", config=config, quiet=True)
        pixal.train(config=config, quiet=True)
    return folder


@pytest.fixture
def work(prepared: Path, tmp_path: Path) -> Path:
    """A copy of ``prepared``."""
    folder = tmp_path / "work"
    shutil.copytree(prepared, folder)
    return folder


def copy_photographs(source: Path, target: Path, count: int) -> None:
    target.mkdir(parents=True)
    for path in sorted(source.iterdir())[:count]:
        shutil.copy(path, target)


@contextmanager
def special_files(folder: Path) -> Iterator[None]:
    """Put the files of ``SPECIAL`` into a folder, and loops of links."""
    (folder / "gone.jpg").symlink_to(folder / "nowhere.jpg")
    (folder / "self.jpg").symlink_to("self.jpg")
    os.mkfifo(folder / "pipe.jpg")
    (folder / "endless.png").symlink_to("/dev/zero")
    (folder / "empty.jpg").touch()
    (folder / "huge.png").touch()
    os.truncate(folder / "huge.png", 10**13)
    (folder / "text.jpg").write_text("no image")
    (folder / "missing drive").symlink_to(folder / "nowhere")
    (folder / "around").symlink_to(".")
    (folder / "lot").mkdir(exist_ok=True)
    (folder / "lot/up").symlink_to("../..")
    before = Path.cwd()
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(folder)  # the path of a socket has at most 107 bytes
        server.bind("socket.png")
        os.chdir(before)
        yield


@dataclass(frozen=True)
class Done:
    """The exit status of a command, and what it wrote on standard error."""

    returncode: int
    stderr: str


Run = Callable[[Path, str], Done]


@pytest.fixture
def run(server: ForkServer) -> Run:
    """Run a command in a process of its own, in a folder; the test fails if it waits for ever."""

    def run_command(folder: Path, line: str) -> Done:
        command = server.start(folder, f"{line} {OPTIONS}")
        return Done(command.wait(TIMEOUT), command.output)

    return run_command


def run_without_privileges(folder: Path, line: str) -> Done:
    """As ``run``, where permissions count for root too."""
    command = [sys.executable, "-m", "pixal.cli", *line.split(), *OPTIONS.split()]
    if os.geteuid() == 0:
        command = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    return Done(done.returncode, done.stderr)


def reasons_in(done: Done) -> dict[str, str]:
    """The reasons by image, of a command that has named some images."""
    start = "pixal: not processed: front/"
    lines = [line.removeprefix(start) for line in done.stderr.splitlines() if line.startswith(start)]
    return dict(line.split(": ", 1) for line in lines)


def check_reasons(done: Done) -> None:
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    reasons = reasons_in(done)
    assert set(reasons) == set(SPECIAL)
    for image, words in SPECIAL.items():
        assert words in reasons[image]


def test_special_files_are_named_and_photographs_are_processed(run: Run, work: Path, rendered: Path) -> None:
    for folder in ("batch/front", "batch/front/lot/copy"):
        copy_photographs(rendered / "production/Part/front", work / folder, 3)
    good = {path.name for path in (work / "batch/front").glob("*.jpg")}
    with special_files(work / "photographs/front"), special_files(work / "batch/front"):
        check_reasons(run(work, "preprocess -i photographs"))
        assert run(work, "train").returncode == 0
        check_reasons(run(work, "validate -i batch"))
        check_reasons(run(work, "validate -i batch"))  # the verdicts of before are read again
    with (work / "validate/Part/results.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    assert {name for name, row in rows.items() if row["verdict"] == "error"} == set(SPECIAL)
    assert set(rows) - set(SPECIAL) == good | {f"lot/copy/{name}" for name in good}


def test_a_type_on_a_drive_that_is_missing_is_named(run: Run, work: Path, rendered: Path) -> None:
    copy_photographs(rendered / "production/Part/front", work / "batch/front", 1)
    (work / "batch/back").symlink_to(work / "nowhere")
    for command in ("validate -i batch --model front", "preprocess -i batch"):
        done = run(work, command)
        assert done.returncode == 3, done.stderr
        assert "pixal: not processed: back/back: cannot be opened: No such file or directory" in done.stderr


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv takes the rights of root away")
def test_files_and_folders_that_may_not_be_read_are_named(work: Path, rendered: Path) -> None:
    copy_photographs(rendered / "production/Part/front", work / "batch/front", 2)
    copy_photographs(rendered / "production/Part/front", work / "batch/front/shut", 2)
    shutil.copy(next((work / "batch/front/shut").iterdir()), work / "batch/front/secret.jpg")
    (work / "batch/front/secret.jpg").chmod(0)
    (work / "batch/front/shut").chmod(0)
    try:
        for command in ("validate -i batch", "preprocess -i batch"):
            done = run_without_privileges(work, command)
            assert done.returncode == 3, done.stderr
            assert reasons_in(done) == {
                "secret.jpg": "cannot be read: Permission denied",
                "shut": "cannot be opened: Permission denied",
            }
        (work / "batch/front").chmod(0)
        done = run_without_privileges(work, "validate -i batch")
        assert done.returncode == 2
        assert reasons_in(done) == {"front": "cannot be opened: Permission denied"}
    finally:
        for folder in ("batch/front", "batch/front/shut"):
            (work / folder).chmod(0o700)


@pytest.mark.parametrize(
    "command",
    ["validate -i pipe.jpg", "preprocess -i pipe.jpg", "validate -i photographs --truth pipe.jpg", "train -i pipe.npz"],
)
def test_a_pipe_as_an_argument_is_one_line(run: Run, work: Path, command: str) -> None:
    os.mkfifo(work / "pipe.jpg")
    os.mkfifo(work / "pipe.npz")
    done = run(work, command)
    assert done.returncode == 2, done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("pixal: error")]) == 1


def test_a_photograph_that_became_a_pipe_has_no_verdict(run: Run, work: Path, rendered: Path) -> None:
    copy_photographs(rendered / "production/Part/front", work / "batch/front", 2)
    first = sorted((work / "batch/front").iterdir())[0]
    (work / "batch/front/empty.png").touch()
    assert run(work, "validate -i batch").returncode == 3
    for path in (first, work / "batch/front/empty.png"):  # the pipe has the size of the empty file
        path.unlink()
        os.mkfifo(path)
    done = run(work, "validate -i batch")
    assert done.returncode == 3, done.stderr
    assert set(reasons_in(done)) == {first.name, "empty.png"}


def test_photographs_that_vanish_or_change_between_listing_and_reading(
    work: Path, rendered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_photographs(rendered / "production/Part/front", work / "batch/front", 4)
    vanishing, replaced, *others = sorted((work / "batch/front").iterdir())
    read = discovery.read_image_bytes

    def read_late(path: Path) -> bytes:
        if path.name == vanishing.name:
            path.unlink(missing_ok=True)
        if path.name == replaced.name and path.is_file():
            path.unlink()
            os.mkfifo(path)
        return read(path)

    monkeypatch.setattr(discovery, "read_image_bytes", read_late)
    monkeypatch.chdir(work)
    config = pixal.load_config(None, [*NO_FIGURES, "model_training.model=gaussian"])
    batch = pixal.validate("batch", config=config, quiet=True)
    assert [failure.image for failure in batch.failures] == [vanishing.name, replaced.name]
    assert len(batch.parts) == len(others) + 2


def test_a_photograph_that_changes_between_two_steps_is_named(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = sorted((work / "photographs/front").iterdir())[0]
    align = pipeline._align

    def align_late(*given: object) -> object:
        changed.write_bytes(changed.read_bytes() + b"more")
        return align(*given)

    monkeypatch.setattr(pipeline, "_align", align_late)
    monkeypatch.chdir(work)
    config = pixal.load_config(None, NO_FIGURES)
    outcome = pixal.preprocess("photographs", config=config, force=True, quiet=True)
    assert [(failure.image, failure.step) for failure in outcome.failures] == [(changed.name, "alignment")]
    assert "changed while it was being processed" in outcome.failures[0].reason


def test_a_file_that_grows_is_read_whole_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "growing.png"
    path.touch()
    writer = subprocess.Popen([sys.executable, "-c", GROW, str(path)])
    refused = 0
    try:
        while path.stat().st_size == 0:
            time.sleep(0.01)
        for _ in range(tries(5_000, 50_000)):
            try:
                data = read_bytes(path)
            except InputError as error:
                refused += str(error).startswith("changed while it was read")
            else:
                assert data == (b"0123456789" * (len(data) // 10 + 1))[: len(data)]
    finally:
        writer.kill()
        writer.wait()
    assert refused > 0


def test_a_watch_names_what_cannot_be_read_and_goes_on(
    work: Path, rendered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_photographs(rendered / "production/Part/front", work / "batch/front", 2)
    monkeypatch.chdir(work)
    monkeypatch.setattr(watching, "PATIENCE", 0.0)
    scans = 0

    def pause(_: float) -> None:
        nonlocal scans
        scans += 1
        if scans == 3:
            (work / "batch/front/gone.jpg").unlink()
            shutil.copy(sorted((rendered / "production/Part/front").iterdir())[3], work / "batch/front/gone.jpg")
        if scans == 7:
            raise KeyboardInterrupt

    config = pixal.load_config(None, [*NO_FIGURES, "model_training.model=gaussian"])
    with special_files(work / "batch/front"):
        batch = watching.watch("batch", config=photograph_config(config), pause=pause)
    verdicts = {part.image: part.verdict for part in batch.parts}
    assert {image for image, verdict in verdicts.items() if verdict == "error"} == set(SPECIAL) - {"gone.jpg"}
    assert verdicts["gone.jpg"] != "error"
    assert len(verdicts) == len(SPECIAL) + 2
