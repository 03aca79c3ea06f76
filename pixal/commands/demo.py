"""The demo command: render a small component, and run everything on it as a user would."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pixal.config import load_config
from pixal.errors import InputError
from pixal.io.files import write_bytes
from pixal.synthetic.batch import write_batch
from pixal.tasks.photographs.preprocessing.pipeline import preprocess
from pixal.tasks.photographs.settings import photograph_config
from pixal.tasks.photographs.training.train import train
from pixal.tasks.photographs.verdicts.results import Batch
from pixal.tasks.photographs.verdicts.validate import validate

_log = logging.getLogger(__name__)

COMPONENT = "Demo_Flex"
PHOTOGRAPHS = "photographs"
_FRAME = (960, 540)


def demo(
    folder: str | Path = "pixal_demo",
    *,
    config: str | Path | None = None,
    overrides: Sequence[str] = (),
    quiet: bool = False,
    train_images: int = 24,
    parts: int = 10,
    frame_size: tuple[int, int] = _FRAME,
) -> Batch:
    """Render a component of two types into ``folder``, then preprocess, train and validate there; return the verdicts.

    ``train_images`` good photographs a type to train on, ``parts`` good and as many defective ones to validate, each of
    ``frame_size`` (width, height) pixels. The configuration (the shipped one, or ``config``) is copied to
    ``folder/configs`` with the component's name edited, so the folder can be worked on from there. Raises InputError
    for a folder that holds something else.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()) and not (folder / PHOTOGRAPHS).is_dir():
        raise InputError(f"{folder} is not empty and holds no demo; name a new folder")
    source = load_config(config, overrides).source
    write_configs(source, folder / "configs")
    _log.info("rendering photographs of %s in %s", COMPONENT, folder)
    batch = write_batch(
        folder / PHOTOGRAPHS,
        component=COMPONENT,
        train=train_images,
        good=parts,
        bad=parts,
        severity=0.7,
        frame_size=frame_size,
    )
    found = [path.relative_to(folder) for path in (batch.train, batch.production, batch.truth)]
    with _working_in(folder):
        settings = photograph_config(load_config("configs", overrides))
        preprocess(found[0], config=settings, quiet=quiet)
        train(None, settings, quiet=quiet)
        verdicts = validate(found[1], truth=found[2], config=settings, quiet=quiet)
    return replace(verdicts, folder=folder / verdicts.folder)


def write_configs(source: Path, target: Path) -> None:
    """Copy a configuration, with the component's name in ``paths.yaml`` edited to the demo's."""
    name = load_config(source).paths.component
    for path in sorted(source.glob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        if path.name == "paths.yaml":
            text = text.replace(f"component: {name}\n", f"component: {COMPONENT}\n")
        write_bytes(target / path.name, text.encode())


@contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    """Work in ``folder``, where the paths of the configuration, and MLflow's store, then are."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
