"""Runs that are killed while a batch moves: the next run completes the move; nothing is lost, doubled or mixed."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from helpers import NO_FIGURES
from tries import tries

import pixal
from pixal.config import load_config
from pixal.io import handover, ownership
from pixal.tasks.photographs.settings import PhotographConfig, photograph_config
from pixal.tasks.photographs.verdicts.batches import HISTORY_FILES, Batches

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")]

RESULTS = Path("validate/Part")
TEMPORARY = re.compile(r"\.[0-9a-f]{12}\.")  # of atomic_write; the next move removes it
CALLS = ("rename", "replace", "unlink", "rmdir", "fsync", "mkdir")


def settings() -> PhotographConfig:
    return photograph_config(load_config(overrides=[*NO_FIGURES, "plotting.plot_anomaly_heatmap=True"]))


@pytest.fixture
def work(trained_front: Path, rendered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with two batches of two photographs: ``a`` is kept, ``b`` is the newest."""
    shutil.copytree(trained_front, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    photographs = sorted((rendered / "production/Part/front").iterdir())
    for name, chosen in (("a", photographs[:2]), ("b", photographs[1:3]), ("c", photographs[3:4])):
        Path(name, "front").mkdir(parents=True)
        for path in chosen:
            shutil.copy(path, Path(name, "front"))
    for name in ("a", "b"):
        pixal.validate(name, batch=name, config=settings(), quiet=True)
    (RESULTS / "front/figures/notes.txt").write_text("of the user")
    (RESULTS / "batches/a/front/notes.txt").write_text("of the user")
    shutil.copytree("validate", "before")
    return tmp_path


def begin(name: str) -> None:
    """What ``validate`` does before it looks at a photograph."""
    (photo,) = sorted(Path(name, "front").iterdir())[:1]
    Batches(settings().paths).begin(Path(name), name, {"front"}, photo)


def killed(function: str, k: int, work: Callable[[], object]) -> bool:
    """Run ``work`` in a process that ends, without any cleaning up, at the ``k``-th call of ``os.FUNCTION``."""
    child = os.fork()
    if child:
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, 9), status
        return status == 9
    try:
        original, calls = getattr(os, function), 0

        def counted(*arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == k:
                os._exit(9)
            return original(*arguments, **options)

        setattr(os, function, counted)
        work()
        os._exit(0)
    finally:
        os._exit(1)


def batches() -> dict[str, dict[str, str]]:
    """The files of each batch, by the name in its record, with their hashes."""
    found = {}
    for folder in (RESULTS, *(RESULTS / "batches").iterdir()):
        record = folder / "batch.yaml"
        files = [path for path in folder.rglob("*") if path.is_file() and not TEMPORARY.match(path.name)]
        if folder == RESULTS:
            files = [path for path in files if not path.is_relative_to(RESULTS / "batches")]
        names = {path.relative_to(folder).as_posix(): path for path in files if path.name not in HIDDEN}
        owned = {name: _hash(path) for name, path in names.items() if ownership.owns(path)}
        if record.is_file():
            found[record.read_text().splitlines()[0].removeprefix("name: ")] = owned
        else:
            assert not owned, folder
    return found


HIDDEN = (ownership.MANIFEST, handover.PLAN, *HISTORY_FILES)  # of no batch


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("function", CALLS)
def test_a_kill_at_every_call(work: Path, function: str) -> None:
    """The newest batch and a kept one change places, or a new one begins; the next run is of any kind."""
    before = batches()
    assert before.keys() == {"a", "b"}
    assert all(len(files) > 12 for files in before.values())
    next_runs: list[Callable[[], object]] = [
        partial(begin, "a"),
        partial(begin, "b"),
        partial(begin, "c"),
        lambda: Batches(settings().paths).finish_handover(),
    ]
    step = tries(fast=9 if function in ("fsync", "mkdir") else 5, full=1)
    count = 0
    for first in ("a", "c"):
        k = 1
        while killed(function, k, partial(begin, first)):
            count += 1
            next_run = next_runs[count % len(next_runs)]
            killed("rename", 1 + count % 5, next_run)  # also while it is completed
            next_run()
            after = batches()
            after.pop("c", None)
            assert after == before, (first, k)
            for path in ("front/figures/notes.txt", "batches/a/front/notes.txt"):
                assert (RESULTS / path).read_text() == "of the user"
            assert not handover.is_unfinished(RESULTS)
            restore()
            k += step
        assert {"a", "b"} <= batches().keys()
        restore()
    assert count >= (2 if function in ("unlink", "rmdir") else 4)


def restore() -> None:
    shutil.rmtree("validate")
    shutil.copytree("before", "validate")


def test_whole_runs_after_a_kill(work: Path) -> None:
    """The verdicts of a batch that comes back are those of a run that was not killed."""
    before = batches()
    for k in range(1, tries(fast=40, full=200), tries(fast=13, full=3)):
        if not killed("rename", k, partial(begin, "a")):
            break
        batch = pixal.detect(config=settings(), quiet=True)
        assert [part.image for part in batch.parts] == ["part_000.jpg", "part_001.jpg"]
        restored = pixal.validate("b", config=settings(), quiet=True)
        assert [part.image for part in restored.parts] == ["part_001.jpg", "part_002.jpg"]
        after = batches()
        for name in ("a", "b"):
            for file in ("results.csv", "front/out.npz", "batch.yaml"):
                assert after[name][file] == before[name][file]
        restore()
    assert k > 1
