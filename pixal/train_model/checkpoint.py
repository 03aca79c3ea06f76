"""The checkpoint of a training run. An interrupted run resumes from it and gives the same numbers, bit for bit."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import numpy as np

from pixal.errors import ClusterError, ModelError, PixalError, Stopped, StorageError
from pixal.io import ownership
from pixal.io.arrays import create_map
from pixal.io.files import reserve
from pixal.io.provenance import fingerprint
from pixal.io.records import to_builtin
from pixal.train_model.history import History
from pixal.train_model.state_file import FitState, NamedArrays, read_state, write_state

_log = logging.getLogger(__name__)

_STATE = "state.npz"
_ERRORS = "errors.npy"
_SECONDS = 10.0  # least time between two checkpoints
_SHARE = 20  # least time between two checkpoints, as a multiple of the time that the last one took to write

RESUME_HINT = "run the same command with --resume to continue"


@dataclass
class _StopRequest:
    """The signal that asks a run to stop; None: there was none."""

    signal: int | None = None


class Checkpoint:
    """The state of a training run: its finished fits, their held-out errors, and the state of the current fit.

    The folder holds only arrays and JSON, nothing that could run code when it is read: ``errors.npy``, and
    ``state.npz``, which is replaced as a whole after the errors are written. Use as a context manager around the fits:
    the first Ctrl-C or SIGTERM saves and ends the run after the current epoch, a second one ends it at once.

    Attributes:
        histories: The histories of the finished fits.
        specification: The model's specification after the finished fits, as JSON values; empty before the first.
        errors: Errors of the n held-out parts, (n, H, W, C) float32. A memory map, filled fit by fit.
        resumed: Whether the run resumes from an earlier one.
        target_epochs: The number of epochs of the current fit, where it differs from the settings; else None.
        keeps_last_state: Whether to write the state after the last epoch to ``last_state``.
        last_state: The file of the state after the last epoch.
    """

    def __init__(self, folder: Path, dependencies: Mapping[str, Any], shape: tuple[int, ...], *, resume: bool) -> None:
        """Open the checkpoint in ``folder``, or start a new one.

        Args:
            folder: A folder of the checkpoint's own.
            dependencies: Everything that the run depends on, by the names that messages use.
            shape: The shape of ``errors``.
            resume: Whether to use an existing checkpoint; else it is replaced.

        Raises:
            ModelError: The checkpoint to resume from is damaged or belongs to another run.
        """
        self.histories: list[History] = []
        self.specification: dict[str, Any] = {}
        self.target_epochs: int | None = None
        self.keeps_last_state = False
        self.last_state = folder / "last_epoch.npz"
        self._folder, self._dependencies = folder, to_builtin(dependencies)
        self._fit_state: FitState | None = None
        self._start, self._seconds_before = time.monotonic(), 0.0
        self._next_write = self._start + _SECONDS
        self._request = _StopRequest()
        self._handlers: dict[int, Any] = {}
        exists = self._state.is_file()
        self.resumed = resume and exists
        if self.resumed:
            self._read()
            _log.info("%s: resuming after %d finished fits", folder, len(self.histories))
        elif exists:
            _log.warning("%s: starting again from the beginning (use --resume to continue)", folder)
        errors = folder / _ERRORS
        files = [path for path in (self._state, self.last_state, errors) if path.is_file()]
        ownership.claim(folder, adopted=files)
        if not self.resumed:
            for path in files:
                ownership.remove(path)
            ownership.note(errors)
            self.errors = create_map(errors, shape)
            return
        try:
            reserve(errors, errors.stat().st_size)  # a copy of the file may have holes
            self.errors = np.lib.format.open_memmap(errors, "r+")
        except (OSError, ValueError) as error:
            raise self._unusable(f"is damaged ({error})") from error

    def __enter__(self) -> Checkpoint:
        if threading.current_thread() is threading.main_thread():  # Python allows signal handlers only there
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._handlers[number] = signal.signal(number, self._stop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)
        if isinstance(error, PixalError) and not isinstance(error, (StorageError, ClusterError)):
            self.remove()  # for example, training diverged: resuming would not help
        if self._request.signal is not None and error is None:
            raise Stopped(f"training stopped after its last fit; {RESUME_HINT}", number=self._request.signal)

    @property
    def seconds(self) -> float:
        """The duration of the run so far, including interrupted runs."""
        return self._seconds_before + time.monotonic() - self._start

    def of_member(self, name: str, shape: tuple[int, ...]) -> Checkpoint:
        """Open the checkpoint of a member of the model that is fitted fold by fold itself.

        Args:
            name: The name of its folder in the folder of this checkpoint.
            shape: The shape of its ``errors``.
        """
        if not self.resumed:
            ownership.remove_tree(self._folder / name)
            self._write((), None)  # so that the next run resumes
        member = Checkpoint(self._folder / name, self._dependencies, shape, resume=True)
        member._request = self._request
        self._seconds_before = max(self._seconds_before, member._seconds_before)
        return member

    def start_from(self, path: Path, seconds: float) -> None:
        """Start the current fit from ``path``, the ``last_state`` of a run that took ``seconds``.

        Raises:
            ModelError: The file is missing or damaged.
        """
        try:
            state = read_state(path)
        except (FileNotFoundError, ValueError, KeyError) as error:
            raise ModelError(f"{path} is missing or damaged ({error}); train without --resume") from error
        self._seconds_before = seconds
        self._write(state.arrays.items(), state.notes)  # an interrupted run finds the number of epochs here
        self._fit_state = state

    def take_fit_state(self) -> FitState | None:
        """The state that ``epoch_done`` saved of the interrupted fit; None when called again."""
        state, self._fit_state = self._fit_state, None
        return state

    def epoch_done(self, state: Callable[[], tuple[NamedArrays, Mapping[str, Any]]]) -> None:
        """Save the state of the current fit if enough time has passed or if the run is asked to stop.

        Args:
            state: Returns the arrays, one after the other, and notes for JSON with the number of the ``epoch``.

        Raises:
            Stopped: The run is asked to stop, and is saved.
        """
        if self._request.signal is None and time.monotonic() < self._next_write:
            return
        arrays, notes = state()
        self._write(arrays, notes)
        if self._request.signal is not None:
            position = f"fit {len(self.histories) + 1}, epoch {notes['epoch']}"
            raise Stopped(f"training stopped and saved in {position}; {RESUME_HINT}", number=self._request.signal)

    def last_epoch_done(self, state: Callable[[], tuple[NamedArrays, Mapping[str, Any]]]) -> None:
        """Write the state after the last epoch of a fit if ``keeps_last_state``; training can continue from it."""
        if self.keeps_last_state:
            write_state(self.last_state, *state())

    def fit_done(self, history: History, specification: Mapping[str, Any]) -> None:
        """Save that a fit is finished and that ``errors`` holds the errors of its held-out parts.

        Raises:
            Stopped: The run is asked to stop, and is saved.
        """
        self.histories.append(history)
        self.specification = to_builtin(specification)
        self.errors.flush()
        self._write((), None)
        if self._request.signal is not None:
            message = f"training stopped and saved after fit {len(self.histories)}; {RESUME_HINT}"
            raise Stopped(message, number=self._request.signal)

    def remove(self) -> None:
        """Delete the checkpoint."""
        ownership.remove_tree(self._folder)

    @property
    def _state(self) -> Path:
        return self._folder / _STATE

    def _write(self, arrays: NamedArrays, notes: Mapping[str, Any] | None) -> None:
        start = time.monotonic()
        run_notes = {
            "fingerprint": fingerprint(self._dependencies),
            "dependencies": self._dependencies,
            "histories": [asdict(history) for history in self.histories],
            "specification": self.specification,
            "seconds": self.seconds,
            "fit": notes,
        }
        write_state(self._state, arrays, run_notes)
        end = time.monotonic()
        self._next_write = end + max(_SECONDS, _SHARE * (end - start))

    def _read(self) -> None:
        try:
            state = read_state(self._state)
            notes = state.notes
            dependencies, is_same = notes["dependencies"], notes["fingerprint"] == fingerprint(self._dependencies)
            if is_same:
                self.histories = [History.from_notes(history) for history in notes["histories"]]
                self.specification = dict(notes["specification"])
                self._seconds_before = float(notes["seconds"])
                self._fit_state = FitState(state.arrays, notes["fit"]) if notes["fit"] is not None else None
        except (ValueError, KeyError, TypeError) as error:
            raise self._unusable(f"is damaged ({error})") from error
        if not is_same:
            names = [key for key, value in self._dependencies.items() if dependencies.get(key) != value]
            changed = " and ".join(names) or "version of PIXAL or its libraries"
            raise self._unusable(f"belongs to a run with another {changed}")

    def _unusable(self, reason: str) -> ModelError:
        return ModelError(f"the checkpoint in {self._folder} {reason}; train without --resume to start again")

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self._request.signal is not None:
            raise Stopped(number=number)
        self._request.signal = number


def read_dependencies(folder: Path) -> dict[str, Any]:
    """The inputs and settings of the run of the checkpoint in ``folder``; empty without a readable checkpoint."""
    try:
        return dict(read_state(folder / _STATE).notes["dependencies"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return {}
