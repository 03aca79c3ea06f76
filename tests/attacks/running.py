"""Run a command from a prepared working directory, to its end."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from output_trees import Content
from processes import Command, ForkServer, start_process

from pixal.tasks.photographs.verdicts.verdict_store import read_journal

PARTS = 4  # photographs to validate
SETTINGS = """
preprocessing:
  preprocessor: {channels: [R, G, B], pool_size: 4}
model_training:
  model: MODEL
  autoencoder_architecture: [8, 4]
  n_epochs: 30
  calibration_folds: 3
  one_hot_encoding: False
plotting: {plot_pixel_predictions: False, plot_mse_per_pixel: False, plot_abs_loss_per_pixel: False}
execution: {workers: 2}
validation: {watch_interval: 0.05}
"""


@dataclass(frozen=True)
class Work:
    """A command, where it starts from, and what it leaves when nothing disturbs it.

    Attributes:
        command: The command.
        start: A working directory with all that it needs. Read only.
        end: That directory after the command. Read only.
        expected: The output in ``end``.
        seconds: How long the command took.
    """

    command: str
    start: Path
    end: Path
    expected: Content
    seconds: float


WorkOf = Callable[..., Work]
"""Returns the work of a command, by name, with a model family (default: gaussian)."""


def launch(server: ForkServer, folder: Path, command: str, model: str = "gaussian") -> Command:
    """Start a command. The autoencoder needs TensorFlow, and so a new interpreter."""
    return server.start(folder, command) if model == "gaussian" else start_process(folder, command)


def finish(command: Command) -> None:
    """Let a command end; stop a watch when each photograph has a verdict."""
    if "--watch" in command.line:
        wait_for_verdicts(command)
        command.kill(signal.SIGINT)
    assert command.wait() == 0, command.output
    command.wait_for_group()
    assert "Traceback" not in command.output, command.output


def wait_for_verdicts(command: Command, parts: int = PARTS) -> None:
    """Wait until a watch has verdicts on so many photographs."""
    end = time.monotonic() + 120
    journal = command.folder / "validate/Part/front/metadata/judged.journal"
    while "watching" not in command.output or len({verdict.source for verdict in read_journal(journal)}) < parts:
        assert command.is_running(), command.output
        assert time.monotonic() < end, command.output
        time.sleep(0.02)
