"""The checkpoint of a training run: a run that was cut short goes on from it, with the same numbers to the bit."""

from __future__ import annotations

import json
import logging
import shutil
import signal
import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from pixal.errors import ModelError, PixalError
from pixal.io.arrays import load_arrays
from pixal.io.files import atomic_write
from pixal.io.provenance import fingerprint
from pixal.io.records import to_builtin
from pixal.train_model.family import History

_log = logging.getLogger(__name__)

_STATE = "state.npz"
_DATE = (1980, 1, 1, 0, 0, 0)  # a fixed one, so that the same state gives the same file
_SECONDS = 10.0  # between two checkpoints, at least
_SHARE = 20  # … and this many times as long as it took to write the last one

Named = Iterable[tuple[str, NDArray[Any]]]
GO_ON = "the same command with --resume goes on from there"


class Checkpoint:
    """Where a training run is: its finished fits, their errors of held-out parts, the state of the fit at work.

    Arrays and JSON (nothing that could run when it is read) in a folder of their own: ``state.npz``, replaced as a
    whole, and ``errors.npy``, written before the state that vouches for it. Use as a context manager around the fits:
    Ctrl-C and SIGTERM then end the run, saved, when the epoch at work is done; a second one ends it at once.

    histories: of the finished fits. params: the model's after them. errors: (n, H, W, C) float32 of the n held-out
    parts, a memory map to be filled fit by fit. resumed: whether it was there before. until: the number of epochs that
    the fit at work ends with, where that is not as the settings say. keeps_last: whether the state after the last epoch
    of the fit at work is of use, and is written to ``last_state``.
    """

    def __init__(self, folder: Path, made_of: Mapping[str, Any], shape: tuple[int, ...], *, resume: bool) -> None:
        """``made_of``: all that the run depends on, by name. ``shape``: of the errors.

        Raises ModelError where there is a checkpoint to ``resume`` that is damaged, or of something else.
        """
        self.histories: list[History] = []
        self.params: dict[str, Any] = {}
        self.until: int | None = None
        self.keeps_last = False
        self.last_state = folder / "last_epoch.npz"
        self._folder, self._made_of = folder, to_builtin(made_of)
        self._fit: tuple[dict[str, NDArray[Any]], dict[str, Any]] | None = None
        self._began, self._before = time.monotonic(), 0.0
        self._due = self._began + _SECONDS
        self._asked_to_stop = False
        self._handlers: dict[int, Any] = {}
        found = self._state.is_file()
        self.resumed = resume and found
        if self.resumed:
            self._read()
            _log.info("%s: going on after %d finished fits", folder, len(self.histories))
        elif found:
            _log.warning("%s: starting anew (--resume would have gone on from there)", folder)
        mode: Any = "r+" if self.resumed else "w+"
        if mode == "w+":
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        try:
            self.errors = np.lib.format.open_memmap(folder / "errors.npy", mode, np.float32, shape)
        except (OSError, ValueError) as error:
            raise self._unusable(f"is damaged ({error})") from error

    def __enter__(self) -> Checkpoint:
        if threading.current_thread() is threading.main_thread():  # Python allows it nowhere else
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._handlers[number] = signal.signal(number, self._stop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)
        if isinstance(error, PixalError):  # as where training diverges: going on would not help
            self.remove()
        if self._asked_to_stop and error is None:
            raise KeyboardInterrupt(f"training stopped after its last fit; {GO_ON}")

    @property
    def seconds(self) -> float:
        """What the run has taken so far, in all its parts."""
        return self._before + time.monotonic() - self._began

    def go_on_from(self, path: Path, seconds: float) -> None:
        """Take the fit at work from what ``last_state`` was of a run that took ``seconds``.

        Raises ModelError where it is missing or damaged.
        """
        try:
            arrays, notes = read_state(path)
        except (FileNotFoundError, ValueError, KeyError) as error:
            raise ModelError(f"{path} is missing or damaged ({error}); train without --resume") from error
        self._before = seconds
        self._write(arrays.items(), notes)  # from here on it is known how far to go
        self._fit = arrays, notes

    def fit_at_work(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]] | None:
        """The arrays and notes that ``epoch_done`` saved of the fit that was cut short; once, then None."""
        saved, self._fit = self._fit, None
        return saved

    def epoch_done(self, state: Callable[[], tuple[Named, Mapping[str, Any]]]) -> None:
        """Save the ``state`` of the fit at work if it is time, or if the run is to end: then raise KeyboardInterrupt.

        ``state`` gives arrays, one after the other, and notes for JSON with the epoch's number as ``epoch``.
        """
        if not self._asked_to_stop and time.monotonic() < self._due:
            return
        arrays, notes = state()
        self._write(arrays, notes)
        if self._asked_to_stop:
            where = f"fit {len(self.histories) + 1}, epoch {notes['epoch']}"
            raise KeyboardInterrupt(f"training stopped and saved in {where}; {GO_ON}")

    def fit_ended(self, state: Callable[[], tuple[Named, Mapping[str, Any]]]) -> None:
        """Keep the ``state`` after a fit's last epoch, if it ``keeps_last``: training can go on from there."""
        if self.keeps_last:
            write_state(self.last_state, *state())

    def fit_done(self, history: History, params: Mapping[str, Any]) -> None:
        """Note that a fit has ended, and that ``errors`` holds what it found; raise KeyboardInterrupt if asked to."""
        self.histories.append(history)
        self.params = to_builtin(params)
        self.errors.flush()
        self._write((), None)
        if self._asked_to_stop:
            raise KeyboardInterrupt(f"training stopped and saved after fit {len(self.histories)}; {GO_ON}")

    def remove(self) -> None:
        """Delete the checkpoint: the run has served its purpose."""
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def _state(self) -> Path:
        return self._folder / _STATE

    def _write(self, arrays: Named, notes: Mapping[str, Any] | None) -> None:
        began = time.monotonic()
        whole = {
            "fingerprint": fingerprint(self._made_of),
            "made_of": self._made_of,
            "histories": [asdict(history) for history in self.histories],
            "params": self.params,
            "seconds": self.seconds,
            "fit": notes,
        }
        write_state(self._state, arrays, whole)
        ended = time.monotonic()
        self._due = ended + max(_SECONDS, _SHARE * (ended - began))

    def _read(self) -> None:
        try:
            arrays, notes = read_state(self._state)
            made_of, same = notes["made_of"], notes["fingerprint"] == fingerprint(self._made_of)
            if same:
                self.histories = [History(**history) for history in notes["histories"]]
                self.params = dict(notes["params"])
                self._before = float(notes["seconds"])
                self._fit = (arrays, notes["fit"]) if notes["fit"] is not None else None
        except (ValueError, KeyError, TypeError) as error:
            raise self._unusable(f"is damaged ({error})") from error
        if not same:
            names = [key for key, value in self._made_of.items() if made_of.get(key) != value]
            other = " and ".join(names) or "version of PIXAL or its libraries"
            raise self._unusable(f"is of a run with another {other}")

    def _unusable(self, reason: str) -> ModelError:
        return ModelError(f"the checkpoint in {self._folder} {reason}; train without --resume to start anew")

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self._asked_to_stop:
            raise KeyboardInterrupt
        self._asked_to_stop = True


def begun(folder: Path) -> dict[str, Any]:
    """What the run of the checkpoint in ``folder`` is made of; nothing where there is none that can be read."""
    try:
        return dict(read_state(folder / _STATE)[1]["made_of"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return {}


def write_state(path: Path, arrays: Named, notes: Mapping[str, Any]) -> None:
    """Write arrays, one in memory at a time, and notes for JSON into one file; the same give the same bytes."""
    text = np.frombuffer(json.dumps(notes).encode(), np.uint8)
    with atomic_write(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, array in (("notes", text), *arrays):
            with archive.open(zipfile.ZipInfo(f"{name}.npy", _DATE), "w", force_zip64=True) as member:
                npy_format.write_array(member, np.asanyarray(array), allow_pickle=False)


def read_state(path: Path) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
    """What ``write_state`` wrote. Raises FileNotFoundError, ValueError or KeyError where it did not."""
    arrays = load_arrays(path)
    return arrays, json.loads(arrays.pop("notes").tobytes())
