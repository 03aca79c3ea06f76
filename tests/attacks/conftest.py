"""Working directories with a small component, from which the attacks on running commands start."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import write_configs
from output_trees import content
from processes import ForkServer
from running import SETTINGS, Work, WorkOf, finish, launch

from pixal.synthetic import write_batch


@pytest.fixture(scope="session")
def server() -> Iterator[ForkServer]:
    with ForkServer() as started:
        yield started


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of one type: ``train/Part``, ``production/Part``. Read only."""
    folder = tmp_path_factory.mktemp("photographs")
    write_batch(
        folder, component="Part", types=("front",), train=5, good=3, bad=1, frame_size=(240, 135), kinds=("stain",)
    )
    return folder


@pytest.fixture(scope="session")
def work_of(server: ForkServer, photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> WorkOf:
    """See ``WorkOf``. Each command is run once."""
    done: dict[tuple[str, str], Work] = {}
    commands = {
        "preprocess": ("", f"preprocess -i {photographs}/train/Part"),
        "train": ("preprocess", "train"),
        "validate": ("train", f"validate -i {photographs}/production/Part"),
        "watch": ("train", f"validate -i {photographs}/production/Part --watch"),
        "detect": ("validate", "detect"),
    }

    def get(name: str, model: str = "gaussian") -> Work:
        if (name, model) not in done:
            before, command = commands[name]
            start, end = tmp_path_factory.mktemp(f"before_{name}"), tmp_path_factory.mktemp(f"after_{name}")
            if before:
                shutil.copytree(get(before, model).end, start, dirs_exist_ok=True)
            else:
                write_configs(start, SETTINGS.replace("MODEL", model))
            shutil.copytree(start, end, dirs_exist_ok=True)
            began = time.monotonic()
            finish(launch(server, end, command, model))
            done[name, model] = Work(command, start, end, content(end), time.monotonic() - began)
        return done[name, model]

    return get
