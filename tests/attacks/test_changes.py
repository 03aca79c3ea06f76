"""Photographs that vanish, change or appear while a command runs; outputs that do so between runs; clocks set back."""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from output_trees import content, differences, strangers, unfinished
from processes import ForkServer
from running import WorkOf, finish
from tries import tries

import pixal
from pixal.io.files import file_hash
from pixal.tasks.photographs.verdicts.verdict_store import StoredVerdict, read_journal

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="needs process groups")]

JOURNAL = Path("validate/Part/front/metadata/judged.journal")


class Photographs:
    """A folder of photographs that a thread changes. All are bitmaps of one size, as of a machine's camera.

    Attributes:
        folder: The folder of the type.
    """

    def __init__(self, folder: Path, sources: list[Path]) -> None:
        self.folder = folder
        self._contents = [cv2.imencode(".bmp", cv2.imread(str(path)))[1].tobytes() for path in sources]
        folder.mkdir(parents=True)
        for index, data in enumerate(self._contents):
            (folder / f"part_{index}.bmp").write_bytes(data)

    def change(self, generator: random.Random) -> None:
        """Replace, overwrite, remove or add a photograph; the content of each is one of a few."""
        path = self.folder / f"part_{generator.randrange(len(self._contents) + 2)}.bmp"
        data = generator.choice(self._contents)
        kind = generator.choice(["replaced", "overwritten", "removed", "half"])
        if kind == "removed" and len(list(self.folder.iterdir())) > 3:
            path.unlink(missing_ok=True)
        elif kind == "overwritten":
            with path.open("r+b" if path.exists() else "wb") as file:
                file.write(data[: len(data) // 2])
                file.flush()
                time.sleep(generator.uniform(0, 0.01))
                file.write(data[len(data) // 2 :])
        elif kind == "half":
            path.write_bytes(data[: len(data) // 2])
            time.sleep(generator.uniform(0, 0.01))
            path.write_bytes(data)
        else:
            temporary = path.with_suffix(".tmp")
            temporary.write_bytes(data)
            temporary.replace(path)

    @contextmanager
    def changing(self, generator: random.Random) -> Iterator[None]:
        """Change photographs all the time while the block runs."""
        ended = threading.Event()

        def work() -> None:
            while not ended.wait(generator.uniform(0, 0.05)):
                self.change(generator)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def verdicts(folder: Path) -> dict[str, StoredVerdict]:
    """The stored verdicts, by the hash of the photograph."""
    return {str(verdict.record.sha256): verdict for verdict in read_journal(folder / JOURNAL) if verdict.record.is_ok}


@pytest.mark.parametrize("seed", range(tries(1, 20)))
def test_photographs_change_during_preprocess(
    server: ForkServer, work_of: WorkOf, photographs: Path, tmp_path: Path, seed: int
) -> None:
    generator = random.Random(seed)
    folder, photos = tmp_path / "work", Photographs(tmp_path / "new/front", train_photographs(photographs))
    shutil.copytree(work_of("preprocess").start, folder)
    line = f"preprocess -i {tmp_path}/new"
    with photos.changing(generator):
        command = server.start(folder, line)
        status = command.wait()
    assert status in (0, 2, 3), command.output
    assert "Traceback" not in command.output, command.output
    named = [text for text in command.output.splitlines() if text.startswith("pixal: ")]
    assert bool(named) == (status != 0), command.output
    assert unfinished(folder) == []
    assert server.start(folder, line).wait() == 0
    fresh = tmp_path / "fresh"
    shutil.copytree(work_of("preprocess").start, fresh)
    assert server.start(fresh, line).wait() == 0
    assert differences(content(folder), content(fresh)) == []
    assert strangers(folder) == []


@pytest.mark.parametrize("command", ["validate", "watch"])
@pytest.mark.parametrize("seed", range(tries(1, 20)))
def test_photographs_change_during_validation(
    server: ForkServer, work_of: WorkOf, photographs: Path, tmp_path: Path, command: str, seed: int
) -> None:
    """No verdict is stored under the hash of another photograph, and the next run validates what has changed."""
    generator = random.Random(f"{command} {seed}")
    known, folder = tmp_path / "known", tmp_path / "work"
    photos = Photographs(tmp_path / "new/front", validation_photographs(photographs))
    line = f"validate -i {tmp_path}/new --batch one"  # the default name has the time of the first photograph
    for path in (known, folder):
        shutil.copytree(work_of("train").end, path)
    assert server.start(known, line).wait() == 0
    expected = verdicts(known)
    with photos.changing(generator):
        running = server.start(folder, f"{line} --watch" if command == "watch" else line)
        if command == "watch":
            time.sleep(generator.uniform(1, 3))
            while running.is_running() and not running.has_handlers():
                time.sleep(0.005)  # Python itself is starting
            if running.is_running():
                running.kill(signal.SIGINT)
        status = running.wait()
    assert status in (0, 2, 3, 130), running.output
    assert "Traceback" not in running.output
    found = verdicts(folder)
    assert not found.keys() - expected.keys(), "a verdict on a mixture of two photographs"
    for digest, verdict in found.items():
        assert verdict.part.score == expected[digest].part.score
    assert unfinished(folder) == []
    assert server.start(folder, line).wait() == 0
    fresh = tmp_path / "fresh"
    shutil.copytree(work_of("train").end, fresh)
    assert server.start(fresh, line).wait() == 0
    assert differences(content(folder), content(fresh)) == []
    assert strangers(folder) == []


@pytest.mark.parametrize("seed", range(tries(1, 20)))
@pytest.mark.parametrize("name", ["preprocess", "validate"])
def test_outputs_are_removed_between_runs(
    server: ForkServer, work_of: WorkOf, tmp_path: Path, name: str, seed: int
) -> None:
    """What a command has written is written again where it is missing; times of files mean nothing."""
    generator, work, folder = random.Random(f"{name} {seed}"), work_of(name), tmp_path / "work"
    shutil.copytree(work.end, folder)
    root = folder / ("out" if name == "preprocess" else "validate")
    files = [path for path in sorted(root.rglob("*")) if path.is_file() and not path.name.startswith(".")]
    for path in files:
        moment = time.time() + generator.uniform(-(10**8), 10**8)
        os.utime(path, (moment, moment))
    for path in generator.sample(files, generator.randint(1, 5)):
        path.unlink()
    finish(server.start(folder, work.command))
    assert differences(content(folder), work.expected) == []


def test_a_photograph_with_the_size_and_time_of_another_is_validated(
    server: ForkServer, work_of: WorkOf, photographs: Path, tmp_path: Path
) -> None:
    """As after a clock was set back, or a copy that keeps times."""
    folder = tmp_path / "work"
    shutil.copytree(work_of("train").end, folder)
    photos = Photographs(tmp_path / "new/front", validation_photographs(photographs))
    line = f"validate -i {tmp_path}/new"
    first, *_, last = sorted(photos.folder.iterdir())
    assert server.start(folder, line).wait() == 0
    stat = first.stat()
    assert last.stat().st_size == stat.st_size
    first.write_bytes(last.read_bytes())
    os.utime(first, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert server.start(folder, line).wait() == 0
    scores = {verdict.part.image: verdict.part.score for verdict in read_journal(folder / JOURNAL)}
    assert scores[first.name] == scores[last.name]
    stored = {verdict.record.sha256 for verdict in read_journal(folder / JOURNAL) if verdict.part.image == first.name}
    assert file_hash(first) in stored


def test_the_clock_is_set_back(
    work_of: WorkOf, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a day between any two calls: each command gives the same, skips what is done, and the watch goes on."""
    now = [time.time()]

    def earlier() -> float:
        now[0] -= 86400
        return now[0]

    def run(step: Callable[[], object]) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(time, "time", earlier)
            patch.setattr(time, "time_ns", lambda: int(1e9 * earlier()))
            step()

    shutil.copytree(work_of("preprocess").start, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    new = Path("new/front")
    new.mkdir(parents=True)
    scans: list[int] = []

    def pause(_: float) -> None:
        scans.append(len(list(read_journal(JOURNAL))))
        if len(scans) == 12:
            raise KeyboardInterrupt
        if len(scans) < 5:
            source = validation_photographs(photographs)[len(scans) - 1]
            shutil.copy(source, new)
            os.utime(new / source.name, (now[0], now[0]))  # older than the one before

    from pixal.tasks.photographs.settings import photograph_config
    from pixal.tasks.photographs.verdicts.watch import watch

    for _ in range(2):
        run(lambda: pixal.preprocess(photographs / "train/Part", quiet=True))
    run(lambda: pixal.train(quiet=True))
    run(lambda: watch("new", config=photograph_config(pixal.load_config()), pause=pause))
    assert scans[-1] == 4
    by_watch = Path("validate/Part/results.csv").read_bytes()
    run(lambda: pixal.validate("new", quiet=True))
    assert Path("validate/Part/results.csv").read_bytes() == by_watch
    expected = {verdict.part.image: verdict.part.score for verdict in read_journal(work_of("validate").end / JOURNAL)}
    assert {verdict.part.image: verdict.part.score for verdict in read_journal(JOURNAL)} == expected
    np.testing.assert_equal(len(expected), 4)


def train_photographs(photographs: Path) -> list[Path]:
    return sorted((photographs / "train/Part/front").iterdir())


def validation_photographs(photographs: Path) -> list[Path]:
    return sorted((photographs / "production/Part/front").iterdir())
