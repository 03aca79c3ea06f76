"""The checkpoint: which files it accepts, when it is written, how it ends a run."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pixal.errors import ConfigError, ModelError
from pixal.train_model import checkpoint as module
from pixal.train_model.checkpoint import Checkpoint, read_dependencies
from pixal.train_model.history import History
from pixal.train_model.state_file import FitState

SHAPE = (3, 2, 2, 1)
MADE_OF = {"input": "a1", "model_training.seed": 3, "validation.threshold": {"method": "auto", "value": None}}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What ``time.monotonic`` says; a write takes no time unless a test lets it."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def opened(folder: Path, *, resume: bool = False, **change: Any) -> Checkpoint:
    return Checkpoint(folder / "run", MADE_OF | change, SHAPE, resume=resume)


def fit_state(checkpoint: Checkpoint) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arrays and notes of the interrupted fit."""
    state = checkpoint.take_fit_state()
    assert isinstance(state, FitState)
    return state.arrays, state.notes


def state(epoch: int) -> Callable[[], tuple[Any, dict[str, Any]]]:
    arrays = [("weights", np.full((4,), epoch, np.float32)), ("count", np.array(epoch, np.int64))]
    return lambda: (iter(arrays), {"epoch": epoch, "generator": {"state": 2**100 + epoch}})


def run(folder: Path, *steps: Callable[[Checkpoint], Any], resume: bool = False) -> None:
    """A run of the given steps."""
    with opened(folder, resume=resume) as checkpoint:
        for step in steps:
            step(checkpoint)


def signalled(number: int) -> Callable[[Checkpoint], None]:
    return lambda _: signal.raise_signal(number)


def raised(error: Exception) -> Callable[[Checkpoint], None]:
    def step(_: Checkpoint) -> None:
        raise error

    return step


def after_epoch(number: int) -> Callable[[Checkpoint], None]:
    return lambda checkpoint: checkpoint.epoch_done(state(number))


def test_a_saved_checkpoint_is_read_by_the_next_process(tmp_path: Path, clock: list[float]) -> None:
    first = opened(tmp_path)
    first.errors[1] = 0.5
    first.fit_done(History(loss=[1 / 3], best_epoch=1), {"projection_rank": 5})
    clock[0] += 60
    first.epoch_done(state(7))
    again = opened(tmp_path, resume=True)
    assert again.histories == [History(loss=[1 / 3], best_epoch=1)]
    assert again.specification == {"projection_rank": 5}
    np.testing.assert_array_equal(again.errors, np.array([0, 0.5, 0], np.float32)[:, None, None, None] * np.ones(SHAPE))
    assert again.seconds == 60
    clock[0] += 5
    assert again.seconds == 65
    arrays, notes = fit_state(again)
    assert notes == {"epoch": 7, "generator": {"state": 2**100 + 7}}
    assert arrays["weights"].tolist() == [7.0] * 4
    assert (arrays["count"], arrays["count"].dtype) == (7, np.int64)
    assert again.take_fit_state() is None  # the next fit is another one


def test_a_finished_fit_leaves_no_state(tmp_path: Path, clock: list[float]) -> None:
    first = opened(tmp_path)
    clock[0] += 60
    first.epoch_done(state(7))
    first.fit_done(History(), {})
    assert opened(tmp_path, resume=True).take_fit_state() is None


def test_checkpoints_are_written_at_intervals_that_grow_with_the_writing_time(
    tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, takes, written = module.fingerprint, [0.0], []

    def slow(*parts: Any) -> str:
        clock[0] += takes[0]
        written.append(clock[0])
        return real(*parts)

    monkeypatch.setattr(module, "fingerprint", slow)
    actual = opened(tmp_path)
    for epoch in range(1, 101):
        clock[0] += 1
        actual.epoch_done(state(epoch))
    assert np.diff(written).tolist() == [10.0] * 9
    written.clear()
    takes[0] = 4.0  # a large model
    for epoch in range(101, 500):
        clock[0] += 1
        actual.epoch_done(state(epoch))
    assert np.diff(written[1:]).min() >= 20 * 4  # 5 % of the time
    assert len(written) >= 4


def test_without_resume_the_old_checkpoint_is_deleted(tmp_path: Path) -> None:
    opened(tmp_path).fit_done(History(), {})
    fresh = opened(tmp_path)
    assert (fresh.histories, fresh.specification) == ([], {})
    assert not fresh.errors.any()
    assert opened(tmp_path, resume=True).histories == []  # nor is it left for the next one


def test_resume_without_a_checkpoint_starts_a_new_run(tmp_path: Path) -> None:
    assert opened(tmp_path, resume=True).histories == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"input": "b2"}, "another input;"),
        ({"model_training.seed": 4, "input": "b2"}, r"another input and model_training\.seed;"),
        ({"validation.threshold": {"method": "tail", "value": None}}, r"another validation\.threshold;"),
        ({"new key": 1}, "another new key;"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_with_the_names_of_the_differences(
    tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    opened(tmp_path).fit_done(History(), {})
    with pytest.raises(ModelError, match=named):
        opened(tmp_path, resume=True, **change)
    assert opened(tmp_path, resume=True).histories == [History()]


@pytest.mark.parametrize(
    "harm",
    [
        lambda data: data[:-40],
        lambda data: data[: len(data) // 2],
        lambda data: data.replace(b'"histories"', b'"hist_ries"'),
        lambda data: b"",
        lambda data: b"PK\x03\x04 but no archive",
    ],
    ids=["end cut", "half", "a byte", "empty", "something else"],
)
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, harm: Callable[[bytes], bytes]) -> None:
    opened(tmp_path).fit_done(History(), {})
    path = tmp_path / "run" / "state.npz"
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(ModelError, match=r"run is damaged .*; train without --resume to start again"):
        opened(tmp_path, resume=True)


@pytest.mark.parametrize("harm", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:100])])
def test_a_missing_or_truncated_error_file_is_refused(tmp_path: Path, harm: Callable[[Path], Any]) -> None:
    opened(tmp_path).fit_done(History(), {})
    harm(tmp_path / "run" / "errors.npy")
    with pytest.raises(ModelError, match="is damaged"):
        opened(tmp_path, resume=True)


def test_reading_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    """An array of objects is a pickle, and a pickle is a program."""
    opened(tmp_path).fit_done(History(), {})

    class Trap:
        def __reduce__(self) -> Any:
            return (tmp_path.joinpath("sprung").touch, ())

    np.savez(tmp_path / "run" / "state.npz", notes=np.array([Trap()], object))
    with pytest.raises(ModelError, match="is damaged"):
        opened(tmp_path, resume=True)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_the_epoch_is_saved(tmp_path: Path, number: int) -> None:
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt, match="saved in fit 1, epoch 3; run the same command with --resume"):
        run(tmp_path, after_epoch(2), signalled(number), after_epoch(3), after_epoch(4))
    assert signal.getsignal(number) is before
    arrays, _ = fit_state(opened(tmp_path, resume=True))
    assert arrays["count"] == 3


def test_a_signal_between_two_fits_ends_the_run_with_the_results_saved(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt, match="stopped and saved after fit 1; run the same command with --resume"):
        run(tmp_path, signalled(signal.SIGINT), lambda actual: actual.fit_done(History(loss=[0.5]), {"rank": 3}))
    again = opened(tmp_path, resume=True)
    assert (again.histories, again.specification, again.take_fit_state()) == ([History(loss=[0.5])], {"rank": 3}, None)


def test_a_second_signal_ends_the_run_at_once(tmp_path: Path) -> None:
    reached: list[int] = []
    twice = (
        signalled(signal.SIGINT),
        lambda _: reached.append(1),
        signalled(signal.SIGTERM),
        lambda _: reached.append(2),
    )
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, *twice)
    assert reached == [1]


def test_a_signal_after_the_last_epoch_is_not_lost(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt, match="--resume"):
        run(tmp_path, after_epoch(1), signalled(signal.SIGINT))


def test_ignored_signals_stay_ignored_and_other_threads_set_no_handlers(tmp_path: Path) -> None:
    """As under nohup. Python delivers signals to its main thread only."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        run(tmp_path, signalled(signal.SIGINT), after_epoch(1))
    finally:
        signal.signal(signal.SIGINT, before)
    failed: list[BaseException] = []

    def work() -> None:
        try:
            run(tmp_path, after_epoch(1))
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert failed == []


def test_a_checkpoint_is_kept_after_a_crash_and_deleted_after_an_error_of_the_settings(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="disk"):
        run(tmp_path, lambda checkpoint: checkpoint.fit_done(History(), {}), raised(OSError("disk")))
    assert (tmp_path / "run" / "state.npz").is_file()
    with pytest.raises(ConfigError):
        run(tmp_path, raised(ConfigError("diverged")), resume=True)
    assert not (tmp_path / "run").exists()


def test_another_run_starts_from_the_state_after_the_last_epoch(tmp_path: Path, clock: list[float]) -> None:
    first = opened(tmp_path)
    first.last_epoch_done(state(3))
    assert not first.last_state.exists()  # nobody asked for it
    first.keeps_last_state = True
    first.last_epoch_done(state(3))
    kept = tmp_path / "kept.npz"
    first.last_state.replace(kept)
    clock[0] += 60
    first.last_epoch_done(state(3))
    assert first.last_state.read_bytes() == kept.read_bytes()
    first.remove()
    assert read_dependencies(tmp_path / "run") == {}
    second = opened(tmp_path, resume=True, epochs=5)
    assert not second.resumed
    second.start_from(kept, 100.0)
    assert read_dependencies(tmp_path / "run") == MADE_OF | {"epochs": 5}  # known from the first moment on
    for run_ in (second, opened(tmp_path, resume=True, epochs=5)):
        assert run_.seconds == 100.0
        arrays, notes = fit_state(run_)
        assert (notes["epoch"], arrays["weights"].tolist()) == (3, [3.0] * 4)


@pytest.mark.parametrize("content", [None, b"", b"PK\x05\x06" + bytes(18)])
def test_a_missing_or_damaged_state_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "kept.npz").write_bytes(content)
    with pytest.raises(ModelError, match=r"kept.npz is missing or damaged .*train without --resume"):
        opened(tmp_path).start_from(tmp_path / "kept.npz", 0.0)
