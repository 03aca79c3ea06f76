"""Run commands of PIXAL in processes that a test can kill.

Importing PIXAL takes two seconds. So a server process imports it once, and forks itself for each command: the command
runs ``pixal.cli.main`` in a process group of its own, as a shell starts it. The server imports no TensorFlow and starts
no threads, with which a fork would not be safe; commands that need TensorFlow run in processes of their own.
"""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

LIMIT = 240.0  # seconds after which a command counts as hanging
PRELOADED = (
    *("matplotlib.figure", "matplotlib.backends.backend_agg", "scipy.ndimage", "scipy.stats", "sklearn.metrics"),
    *("skimage.metrics", "tifffile", "pixal.cli", "pixal.report", "pixal.train_model.gaussian.model"),
    *("pixal.plotting.classification", "pixal.plotting.latent_space", "pixal.plotting.pixel_values"),
    *("pixal.plotting.scores", "pixal.plotting.training", "pixal.plotting.anomaly_overlay"),
    *("pixal.tasks.photographs.preprocessing.pipeline", "pixal.tasks.photographs.training.train"),
    *("pixal.tasks.photographs.verdicts.watch", "pixal.tasks.photographs.verdicts.validate"),
    *("pixal.tasks.photographs.comparison.choice", "pixal.database.recording", "alembic.command"),
    *("pixal.commands.parser", "pixal.commands.runners", "pixal.commands.preprocess", "pixal.commands.train"),
    "pixal.commands.validate",
)


class Command:
    """A running command.

    Attributes:
        pid: Its process, which leads a process group.
        folder: Its working directory.
        line: The command and its options.
    """

    def __init__(self, pid: int, folder: Path, line: str, output: Path, wait: Callable[[float], int | None]) -> None:
        self.pid, self.folder, self.line, self._output, self._wait = pid, folder, line, output, wait
        self._status: int | None = None

    @property
    def output(self) -> str:
        """What it has printed, on standard output and standard error."""
        return self._output.read_text(errors="replace")

    def is_running(self) -> bool:
        return any(pid == self.pid for pid in living(self.pid))

    def has_handlers(self) -> bool:
        """Whether the command has come so far that signals stop it in an orderly way."""
        found = re.search(r"^SigCgt:\s*(\w+)$", Path(f"/proc/{self.pid}/status").read_text(), re.MULTILINE)
        return found is not None and bool(int(found[1], 16) >> (signal.SIGTERM - 1) & 1)

    def kill(self, number: signal.Signals, *, group: bool = True) -> None:
        """Send a signal to the process, or to all processes of its group."""
        (os.killpg if group else os.kill)(self.pid, number)

    def wait(self, limit: float = LIMIT) -> int:
        """Wait until it has ended; return its exit status, or minus the number of the signal that ended it."""
        if self._status is None:
            self._status = self._wait(limit)
        if self._status is None:
            os.killpg(self.pid, signal.SIGKILL)
            self._wait(10)
            raise AssertionError(f"the command hangs after {limit:g} s:\n{self.output}")
        return self._status

    def wait_for_group(self, limit: float = 60) -> None:
        """Wait until no process of the group lives. A worker that still imports PIXAL ends afterwards."""
        end = time.monotonic() + limit
        while left := living(self.pid):
            if time.monotonic() > end:
                os.killpg(self.pid, signal.SIGKILL)
                raise AssertionError(f"the processes {left} are left:\n{self.output}")
            time.sleep(0.02)


class ForkServer:
    """Starts commands without the time to import PIXAL. Use as a context manager."""

    def __init__(self, main: str = "pixal.cli:main", preloaded: Sequence[str] = PRELOADED) -> None:
        """``main``: the function that a command calls, which returns its status. ``preloaded``: the modules."""
        self._arguments = [sys.executable, __file__, main, *preloaded]

    def __enter__(self) -> ForkServer:
        self._process = subprocess.Popen(
            self._arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=_environment({})
        )
        assert self._ask({"do": "start"}) == "ready"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.stdin.close()  # type: ignore[union-attr]
        self._process.wait()
        self._process.stdout.close()  # type: ignore[union-attr]

    def start(self, folder: Path, command: str, **environment: str) -> Command:
        """Start ``pixal COMMAND`` in ``folder``."""
        output = _new_output(folder)
        request = {"do": "run", "folder": str(folder), "command": command.split(), "output": str(output)}
        pid = int(self._ask(request | {"environment": environment}))

        def wait(limit: float) -> int | None:
            answer = self._ask({"do": "wait", "pid": pid, "limit": limit})
            return None if answer == "running" else int(answer)

        return Command(pid, folder, command, output, wait)

    def _ask(self, request: Mapping[str, Any]) -> str:
        self._process.stdin.write(json.dumps(request) + "\n")  # type: ignore[union-attr]
        self._process.stdin.flush()  # type: ignore[union-attr]
        return self._process.stdout.readline().strip()  # type: ignore[union-attr]


def start_process(folder: Path, command: str, **environment: str) -> Command:
    """Start ``pixal COMMAND`` in ``folder`` in a new interpreter."""
    output = _new_output(folder)
    with output.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "pixal.cli", *command.split()],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=_environment(environment),
            start_new_session=True,
        )

    def wait(limit: float) -> int | None:
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            return None

    return Command(process.pid, folder, command, output, wait)


def living(group: int) -> list[int]:
    """The processes of a group, without those that have ended and that nobody has waited for."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of_group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # it has ended meanwhile
            continue
        if int(of_group) == group and state not in "ZX":
            found.append(int(stat.parent.name))
    return found


def _new_output(folder: Path) -> Path:
    """A file for what a command prints, next to its working directory."""
    path = folder.with_name(f"{folder.name}-{time.monotonic_ns()}.txt")
    path.touch()
    return path


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **more}


def _serve() -> None:
    """Answer one request per line of standard input."""
    import importlib

    module, function = sys.argv[1].split(":")
    for name in (*sys.argv[2:], module):
        importlib.import_module(name)
    from matplotlib.figure import Figure

    # The figures are written, but blank: drawing would take most of the time, and is not what is attacked.
    Figure.draw = lambda *_: None  # type: ignore[method-assign]
    os.fsync = lambda _: None  # processes are killed, but no power is cut
    assert "tensorflow" not in sys.modules
    gc.freeze()  # otherwise each command goes over, and so copies, all objects of the imported modules, for a second
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        request = json.loads(line)
        answer = "ready"
        if request["do"] == "run":
            pid = os.fork()
            if pid == 0:
                _run(request, getattr(sys.modules[module], function))
            with suppress(OSError):  # the child has done it already
                os.setpgid(pid, pid)
            answer = str(pid)
        elif request["do"] == "wait":
            answer = _wait(request["pid"], request["limit"])
        answers.write(f"{answer}\n")
        answers.flush()


def _run(request: Mapping[str, Any], main: Callable[[], int]) -> None:
    """Be the command."""
    with suppress(OSError):  # the server has done it already
        os.setpgid(0, 0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    output = os.open(request["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(request["folder"])
    os.environ.update(request["environment"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv[1:] = request["command"]
    sys.exit(int(main()))


def _wait(pid: int, limit: float) -> str:
    end = time.monotonic() + limit
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return str(os.waitstatus_to_exitcode(status))
        if time.monotonic() > end:
            return "running"
        time.sleep(0.005)


if __name__ == "__main__":
    _serve()
