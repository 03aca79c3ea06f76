"""Tests of parallel execution: all backends give the results of a loop, in its order, and raise its errors."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dask_processes import local_cluster, separate_cluster
from numpy.typing import NDArray

from pixal import execution, worker_processes
from pixal.config.schema import Execution
from pixal.errors import ClusterError, ConfigError, InputError
from pixal.execution import check_cluster, in_background, map_parallel, worker_count


def work(seed: int) -> tuple[int, NDArray[np.float64]]:
    """Later items finish first."""
    time.sleep(0.02 if seed % 3 == 0 else 0)
    return seed, np.random.default_rng(seed).random(4)


def fail_at_three(item: int) -> int:
    if item == 3:
        raise InputError("item 3 is bad")
    return item


def process(_: int) -> int:
    time.sleep(0.01)
    return os.getpid()


def blocked_signals(_: int) -> tuple[int, set[signal.Signals]]:
    time.sleep(0.1)  # so that each worker gets an item
    return os.getpid(), {signal.Signals(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])}


def working_directory(_: int) -> str:
    return str(Path.cwd())


@pytest.fixture(scope="module")
def dask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Execution]:
    with local_cluster(tmp_path_factory.mktemp("dask")) as settings:
        yield settings


def collected(function: Any, items: list[int], settings: Execution, **options: Any) -> list[Any]:
    return list(map_parallel(function, items, settings, step="test", quiet=True, **options))


def test_worker_processes_follow_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Execution(backend="processes", workers=2)
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert set(collected(working_directory, list(range(4)), settings)) == {str(tmp_path / name)}


@pytest.mark.parametrize("backend", ["one", "threads", "processes", "dask"])
def test_every_backend_gives_the_results_of_a_loop_in_order(backend: str, request: pytest.FixtureRequest) -> None:
    if backend == "dask":
        settings: Execution = request.getfixturevalue("dask")
    else:
        values = {"one": {"workers": 1}, "threads": {"workers": 3}, "processes": {"backend": backend, "workers": 2}}
        settings = Execution.model_validate(values[backend])
    actual = collected(work, list(range(12)), settings)
    assert [number for number, _ in actual] == list(range(12))
    for number, values in actual:
        np.testing.assert_array_equal(values, work(number)[1])
    assert collected(work, [], settings) == []
    if backend == "processes":  # the workers have started by now
        processes = set(collected(process, list(range(12)), settings))
        assert os.getpid() not in processes
        assert 1 <= len(processes) <= 2
    with pytest.raises(InputError, match="item 3 is bad"):
        collected(fail_at_three, list(range(6)), settings)


@pytest.mark.parametrize(("workers", "of_step", "expected"), [(1, None, 1), (3, None, 3), (1, 2, 2), (4, 1, 1)])
def test_the_number_of_items_in_work_is_the_number_of_workers(workers: int, of_step: int | None, expected: int) -> None:
    lock, now, most = threading.Lock(), 0, 0

    def watched(_: int) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.02)
        with lock:
            now -= 1

    collected(watched, list(range(4 * expected)), Execution(workers=workers), workers=of_step)
    assert most == expected


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="Windows has no signals to block")
def test_worker_processes_ignore_signals_also_where_more_of_them_are_started_later() -> None:
    """A terminal sends Ctrl-C to the workers, too; a worker that is being imported would print a traceback."""
    for workers in (2, 3):
        execution, found = Execution(backend="processes", workers=workers), {}
        while len(found) < workers:  # until all have started
            found |= dict(map_parallel(blocked_signals, range(workers), execution, step="test", quiet=True))
        assert all({signal.SIGINT, signal.SIGTERM} <= blocked for blocked in found.values())


def test_workers_are_killed_while_more_calls_wait_than_are_sent_to_them() -> None:
    """An exception in a thread of loky would be an error here."""
    workers = worker_processes._workers()
    futures = [workers.submit(time.sleep, 0.05, size=2) for _ in range(20)]
    workers.kill()
    assert all(future.done() for future in futures)
    settings = Execution(backend="processes", workers=2)
    assert collected(abs, list(range(-4, 0)), settings) == [4, 3, 2, 1]  # others are started


def test_the_progress_bar_is_on_standard_error_and_off_when_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    settings = Execution(workers=1)
    list(map_parallel(abs, [1, 2], settings, step="front: alignment", quiet=True))
    assert capsys.readouterr() == ("", "")
    list(map_parallel(abs, [1, 2], settings, step="front: alignment"))
    out, err = capsys.readouterr()
    assert out == ""
    assert "front: alignment" in err
    assert "2/2" in err


def test_a_scheduler_that_does_not_answer_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("Timed out trying to connect")

    monkeypatch.setattr(distributed, "Client", refuse)
    settings = Execution(backend="dask", scheduler="tcp://nowhere:1")
    with pytest.raises(ConfigError, match=r"execution\.scheduler tcp://nowhere:1 does not answer"):
        collected(abs, [1], settings)


def write_and_tell(item: tuple[int, NDArray[np.float64]], *, shared: NDArray[np.float64]) -> tuple[int, float]:
    """Write a file at a relative path. The first item waits until the test has killed its worker."""
    number, values = item
    Path("out").mkdir(exist_ok=True)
    Path(f"out/{number}.txt").write_text(str(os.getpid()))
    while number == 0 and not Path("killed").exists():
        time.sleep(0.02)
    return number, float(values.sum() + shared[0])


def test_workers_in_other_folders_write_here_and_a_killed_one_costs_only_its_own_items(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    items = [(number, np.full(3, number, float)) for number in range(24)]
    shared = np.ones(3_000_000)  # 24 MB, of which Dask warns where it is in each call
    with separate_cluster(tmp_path, 2) as (settings, processes), warnings.catch_warnings():
        warnings.simplefilter("error")
        check_cluster(settings, reads=[Path()], writes=[Path()])
        assert sorted(Path().iterdir()) == []  # the marks of the check are gone
        assert worker_count(settings) == 2

        def kill() -> None:
            while not Path("out/0.txt").exists() or not Path("out/0.txt").read_text():
                time.sleep(0.02)
            number = int(Path("out/0.txt").read_text())
            next(process for process in processes if process.pid == number).kill()
            Path("killed").touch()

        killer = threading.Thread(target=kill)
        killer.start()
        results = collected(partial(write_and_tell, shared=shared), items, settings)
        killer.join()
        assert results == [(number, 3.0 * number + 1) for number in range(24)]
        assert len(list(Path("out").iterdir())) == 24
        execution._cluster(settings.scheduler).client._timeout = 0.5  # for which it tries to connect again
        processes[0].kill()  # the scheduler
        with pytest.raises(ClusterError, match="was lost; what is done is stored"):
            collected(abs, list(range(50)), settings)


def test_a_worker_that_cannot_be_used_is_named_before_the_work_starts(
    tmp_path: Path, dask: Execution, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pixal import dask_cluster

    with pytest.raises(ConfigError, match=r"it cannot read .*nowhere; mount it there at the same path"):
        check_cluster(dask, reads=[tmp_path / "nowhere"])
    with monkeypatch.context() as patch:
        patch.setattr(dask_cluster, "_SEEN", 0.1)
        patch.setattr(dask_cluster, "_marked", lambda *_: nullcontext())  # as if the folder were another one there
        with pytest.raises(ConfigError, match="it does not see the folder"):
            check_cluster(dask, writes=[tmp_path])
    check_cluster(dask, writes=[tmp_path])
    assert list(tmp_path.iterdir()) == []
    with monkeypatch.context() as patch:
        own = dask_cluster._versions()
        versions = iter([("9.9", own[1])])
        patch.setattr(dask_cluster, "_versions", lambda: next(versions, own))
        with pytest.raises(ConfigError, match=r"it has PIXAL .* and this command 9\.9 .*; install the same"):
            check_cluster(dask, reads=[tmp_path])


def test_background_calls_run_in_order_and_the_first_error_is_raised_at_the_end() -> None:
    numbers: list[int] = []

    def fail(number: int, *, reason: str) -> None:
        numbers.append(number)
        raise InputError(f"{reason} {number}")

    def run() -> None:
        with in_background() as submit:
            submit(numbers.append, 0)
            submit(fail, 1, reason="bad")
            submit(fail, 2, reason="bad")
            submit(numbers.append, 3)

    with pytest.raises(InputError, match="bad 1"):
        run()
    assert numbers == [0, 1, 2, 3]


def test_background_calls_that_have_not_started_are_dropped_when_the_block_fails() -> None:
    numbers: list[int] = []
    started, go_on = threading.Event(), threading.Event()

    def first() -> None:
        started.set()
        go_on.wait(60)
        numbers.append(1)

    def run() -> None:
        with in_background() as submit:
            submit(first)
            submit(numbers.append, 2)
            started.wait(60)
            threading.Timer(0.1, go_on.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert numbers == [1]


def test_background_calls_are_finished_where_the_block_waits_for_them() -> None:
    numbers: list[int] = []
    with in_background() as submit:
        submit(time.sleep, 0.1)
        submit(numbers.append, 1)
        submit.wait()
        assert numbers == [1]
        submit(int, "no number")
        with pytest.raises(ValueError, match="no number"):
            submit.wait()


@pytest.mark.parametrize("workers", [1, 2])
def test_threads_wait_little_for_each_other_while_they_work(workers: int) -> None:
    before = sys.getswitchinterval()
    intervals = list(
        map_parallel(lambda _: sys.getswitchinterval(), range(3), Execution(workers=workers), step="", quiet=True)
    )
    assert intervals == [pytest.approx(5e-4)] * 3
    assert sys.getswitchinterval() == before
