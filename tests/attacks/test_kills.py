"""Commands that are killed at any moment: the next run ends with the same output tree as a run without a kill."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from helpers import write_configs
from output_trees import content, differences, strangers, unfinished
from processes import PRELOADED, Command, ForkServer
from running import SETTINGS, Work, WorkOf, finish, launch
from tries import tries

from pixal.config import Paths, load_config
from pixal.errors import InputError, ModelError
from pixal.inputs import InputSet
from pixal.io.files import file_hash
from pixal.tasks.photographs.preprocessing.folders import read_validation_inputs
from pixal.tasks.photographs.settings import PhotographConfig, photograph_config
from pixal.tasks.photographs.training.stored import load_trained
from pixal.tasks.photographs.training.training_data import find_training_data

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="needs process groups")]

BATCH_NAME = re.compile(rb"Demo_Flex_\d{4}-\d\d-\d\dT\d\d-\d\d")
PREPARED = ("front/figures/channels.png", "front/figures/consensus.png", "front/figures/aligned_metrics/metrics.png")


@dataclass(frozen=True)
class Case:
    """How a command is run and killed.

    Attributes:
        number: The signal.
        backend: ``execution.backend``.
        model: The family. The autoencoder needs TensorFlow, and so a new interpreter.
        group: Whether the whole group gets the signal, as from a terminal, or the process alone.
    """

    number: signal.Signals
    backend: str = "threads"
    model: str = "gaussian"
    group: bool = True


CASES = [
    Case(signal.SIGKILL),
    Case(signal.SIGINT),
    Case(signal.SIGTERM, group=False),
    Case(signal.SIGKILL, "processes"),
    Case(signal.SIGKILL),
    Case(signal.SIGINT, group=False),
    Case(signal.SIGTERM),
    Case(signal.SIGKILL),
    Case(signal.SIGKILL),
    Case(signal.SIGKILL),
    Case(signal.SIGINT, "processes"),
    Case(signal.SIGKILL),
    Case(signal.SIGTERM, "processes"),
    Case(signal.SIGKILL, model="autoencoder"),
    Case(signal.SIGKILL),
    Case(signal.SIGTERM),
    Case(signal.SIGKILL, "processes"),
    Case(signal.SIGINT, model="autoencoder"),
    Case(signal.SIGKILL),
    Case(signal.SIGKILL),
]
SEEDS = range(tries(2, 50))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["preprocess", "train", "validate", "watch", "detect"])
def test_a_command_that_is_killed_runs_again(
    server: ForkServer, work_of: WorkOf, tmp_path: Path, name: str, seed: int
) -> None:
    case, generator = CASES[seed % len(CASES)], random.Random(f"{name} {seed}")
    work, folder = work_of(name, case.model), tmp_path / "work"
    line = f"{work.command} --set execution.backend={case.backend}"
    has_workers = case.backend == "processes" and name != "train"
    longest = work.seconds * (4 if has_workers else 1)  # the workers import PIXAL
    kill(lambda: launch(server, folder, line, case.model), work.start, folder, case, longest, generator)
    assert unfinished(folder) == []
    check_vouched(folder)
    again = line + (" --resume" if name == "train" and generator.random() < 0.5 else "")
    finish(launch(server, folder, again, case.model))
    assert differences(content(folder), work.expected) == []
    assert strangers(folder) == []


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ForkServer, Work]]:
    """The server of a small ``pixal demo``, and what it leaves when nothing disturbs it."""
    start, end = tmp_path_factory.mktemp("before_demo"), tmp_path_factory.mktemp("after_demo")
    write_configs(start, SETTINGS.replace("MODEL", "gaussian"))
    shutil.copytree(start, end, dirs_exist_ok=True)
    with ForkServer("small_demo:main", (*PRELOADED, "small_demo")) as server:
        began = time.monotonic()
        command = server.start(end, "demo shown")
        assert command.wait() == 0, command.output
        yield (
            server,
            Work("demo shown", start, end, without_file_times(content(end / "shown")), time.monotonic() - began),
        )


@pytest.mark.parametrize("seed", SEEDS)
def test_a_demo_that_is_killed_runs_again(demo: tuple[ForkServer, Work], tmp_path: Path, seed: int) -> None:
    """Also while it renders its photographs."""
    case, generator = CASES[seed % len(CASES)], random.Random(f"demo {seed}")
    (server, work), folder = demo, tmp_path / "work"
    line = f"{work.command} --set execution.backend={case.backend}"
    longest = work.seconds * (4 if case.backend == "processes" else 1)
    kill(lambda: server.start(folder, line), work.start, folder, case, longest, generator)
    assert unfinished(folder / "shown") == []
    again = server.start(folder, line)
    assert again.wait() == 0, again.output
    assert "Traceback" not in again.output
    assert differences(without_file_times(content(folder / "shown")), work.expected) == []
    assert strangers(folder / "shown") == []
    photographs = Path("shown/photographs")
    assert files_of(folder / photographs) == files_of(work.end / photographs)


def kill(
    start: Callable[[], Command], prepared: Path, folder: Path, case: Case, longest: float, generator: random.Random
) -> None:
    """Start a command in a copy of ``prepared``, and send it a signal while it runs, ``longest`` seconds at most."""
    for _ in range(10):  # until the signal meets a running command
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(prepared, folder)
        began, command = time.monotonic(), start()
        while command.is_running() and not command.has_handlers() and case.number != signal.SIGKILL:
            time.sleep(0.005)  # Python itself is starting
        time.sleep(generator.uniform(0, longest))
        if command.is_running():
            command.kill(case.number, group=case.group)
            status = command.wait(60)
            if status != 0 or "--watch" in command.line:
                break
        finish(command)
        longest = min(longest, time.monotonic() - began)
    else:
        pytest.fail("no signal has met a running command")
    command.wait_for_group()
    check_stop(command, case, status)


def without_file_times(value: Any) -> Any:
    """What records hold, without the times of the photographs, which each demo renders anew, and the batch's name.

    The default name of a batch has the time of its first photograph, in minutes.
    """
    if isinstance(value, dict):
        kept = {key: inner for key, inner in value.items() if key not in ("stat", "batch")}
        return {key: without_file_times(inner) for key, inner in kept.items() if not str(key).endswith("batch.yaml")}
    if isinstance(value, bytes):
        return BATCH_NAME.sub(b"BATCH", value)
    return [without_file_times(inner) for inner in value] if isinstance(value, list) else value


def files_of(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): file_hash(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def check_stop(command: Command, case: Case, status: int) -> None:
    """An interrupted command ends with one line and the status that shells expect."""
    if status == -case.number:  # killed, or at its end: shells show the same status as for 128 + number
        return
    assert "Traceback" not in command.output, command.output
    is_stopped_watch = "--watch" in command.line and "stopped watching" in command.output
    assert status == (0 if is_stopped_watch else 128 + case.number), command.output
    if not is_stopped_watch:
        lines = [line for line in command.output.splitlines() if line.startswith("pixal: ")]
        assert len(lines) == 1, command.output
        assert "stopped" in lines[0] or "interrupted" in lines[0]


def check_vouched(folder: Path) -> None:
    """What a record says to be complete is complete, and can be used by the next command."""
    config = config_of(folder)
    metadata = folder / "out/Part/front/metadata"
    try:
        find_training_data(None, config)
    except InputError:
        assert not (metadata / "preprocessing.yaml").exists()
    else:
        assert [name for name in PREPARED if not (folder / "out/Part" / name).is_file()] == []
    try:
        load_trained(config, "front")
    except ModelError:
        assert not (metadata / "model_training.yaml").exists()
    else:
        assert (folder / "out/Part/front/figures/reconstructions.png").is_file()
    results = folder / "validate/Part/front"
    if (results / "metadata/preprocessing.yaml").exists():
        record = read_validation_inputs(results / "metadata")
        assert InputSet.load(results / "out.npz").names == tuple(image.image for image in record.images)


def config_of(folder: Path) -> PhotographConfig:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        config = photograph_config(load_config("configs"))
    entries = {"component_model_path": "out", "component_validate_path": "validate"}
    paths = Paths({entry: {"component": "Part", "base": str(folder / root)} for entry, root in entries.items()})
    return PhotographConfig(config.parameters, paths, folder)
