"""Two commands at once on one component: each is done, or says that the other one is running; the results are whole."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from output_trees import content, differences, strangers, unfinished
from processes import Command, ForkServer
from running import WorkOf, finish, wait_for_verdicts
from tries import tries

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="needs process groups")]

PAIRS = {
    # The command after which the pair starts, and whose output both together must leave.
    ("preprocess", "preprocess"): "preprocess",
    ("preprocess", "train"): "train",
    ("train", "train"): "train",
    ("validate", "validate"): "validate",
    ("validate", "detect"): "detect",
    ("validate", "train"): "validate",
    ("preprocess", "validate"): "validate",
    ("watch", "validate"): "validate",
}
REFUSALS = (
    "another run of pixal is writing in",
    "another run has changed the ",
    "was replaced while it was read; run the same command again",
    "has changed since train was started; run train again",
)


@pytest.mark.parametrize("seed", range(tries(1, 12)))
@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_two_commands_at_once(
    server: ForkServer, work_of: WorkOf, tmp_path: Path, pair: tuple[str, str], seed: int
) -> None:
    generator = random.Random(f"{pair} {seed}")
    expected, folder = work_of(PAIRS[pair]), tmp_path / "work"
    is_repeated = pair[0] == pair[1] or "watch" in pair
    shutil.copytree(expected.start if is_repeated else expected.end, folder)
    works = [work_of(name) for name in generator.sample(pair, 2)]
    commands = []
    for work in works:
        force = "" if is_repeated or work.command in ("train", "detect") else " --force"
        commands.append(server.start(folder, work.command + force))
        time.sleep(generator.uniform(0, works[0].seconds))
    statuses = [end(command) for command in commands]
    assert 0 in statuses, [command.output for command in commands]
    for command, status in zip(commands, statuses, strict=True):
        if status != 0:
            check_refusal(command, status)
    assert unfinished(folder) == []
    for name in dict.fromkeys(pair):  # what was refused is done now
        if name != "watch":
            finish(server.start(folder, work_of(name).command))
    assert differences(content(folder), expected.expected) == []
    assert strangers(folder) == []


def end(command: Command) -> int:
    while "--watch" in command.line and command.is_running():
        if "watching" in command.output:
            wait_for_verdicts(command)
            command.kill(signal.SIGINT)
            break
        time.sleep(0.02)
    return command.wait()


def check_refusal(command: Command, status: int) -> None:
    lines = [line for line in command.output.splitlines() if line.startswith("pixal: ")]
    assert (status, len(lines)) == (2, 1), command.output
    assert any(refusal in lines[0] for refusal in REFUSALS), lines[0]
