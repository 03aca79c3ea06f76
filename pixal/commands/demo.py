"""The ``demo`` command: make a small input, then preprocess, train and validate."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pixal.commands.starting import copy_settings
from pixal.config import load_config
from pixal.extras import require_analysis, require_for_model
from pixal.io.demo_folder import open_demo_folder, working_directory
from pixal.outcome import Results
from pixal.registry import TASKS
from pixal.synthetic.batch import write_batch
from pixal.tasks import Task
from pixal.tasks.photographs.comparison.choice import with_chosen_family
from pixal.tasks.photographs.preprocessing.pipeline import preprocess
from pixal.tasks.photographs.settings import photograph_config
from pixal.tasks.photographs.task import Photographs
from pixal.tasks.photographs.training.train import train
from pixal.tasks.photographs.verdicts.validate import validate

_log = logging.getLogger(__name__)

COMPONENT = "Demo_Flex"
PHOTOGRAPHS = "photographs"
_FRAME = (960, 540)


def demo(
    folder: str | Path = "pixal_demo",
    *,
    task: str | None = None,
    config: str | Path | None = None,
    overrides: Sequence[str] = (),
    quiet: bool = False,
    train_images: int = 24,
    parts: int = 10,
    frame_size: tuple[int, int] = _FRAME,
) -> Results:
    """Render photographs of a component with two types, then preprocess, train and validate.

    Another task makes an input of its own, with its default settings. All files are written below ``folder``. The
    configuration is copied to ``folder/configs`` with the name of the component, so that a user can continue there.

    Args:
        folder: An empty or new folder, or the folder of an earlier demo.
        task: Name of the task. None: that of the configuration, which is ``photographs`` by default.
        config: Folder of the configuration. None: as for ``load_config``.
        overrides: Settings of the form ``KEY=VALUE``.
        quiet: Whether progress bars are hidden.
        train_images: Number of good photographs per type to train on.
        parts: Number of good photographs per type to validate, and of defective ones.
        frame_size: Width and height of the photographs in pixels.

    Returns:
        The verdicts, or what ``validate`` of the task returns.

    Raises:
        InputError: If ``folder`` contains something else.
    """
    folder = Path(folder)
    name = task or load_config(config, overrides).parameters.task
    if name != Photographs.name:
        other: Task = TASKS.load(name)()
        return other.demo(folder, config=config, overrides=overrides, quiet=quiet)
    settings = load_config(config, overrides)
    require_for_model(settings.model_training.model)
    require_analysis("pixal demo")
    open_demo_folder(folder, Path(PHOTOGRAPHS) / "train" / COMPONENT)
    source = settings.source
    copy_settings(source, folder / "configs", COMPONENT)
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
    folders = (batch.train, batch.production, batch.truth)
    train_folder, production, truth = (path.relative_to(folder) for path in folders)
    with working_directory(folder):
        settings = photograph_config(load_config("configs", overrides))
        preprocess(train_folder, config=settings, quiet=quiet)
        train(None, with_chosen_family(None, settings, resume=False, quiet=quiet), quiet=quiet)
        verdicts = validate(production, truth=truth, config=settings, quiet=quiet)
    return replace(verdicts, folder=folder / verdicts.folder)
