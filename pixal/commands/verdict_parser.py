"""The options of ``train``, ``validate`` and ``detect``."""

from __future__ import annotations

import argparse

from pixal.commands.options import PHOTOGRAPHS, AddCommand, add_workers
from pixal.registry import MODELS


def add_verdict_commands(add: AddCommand) -> None:
    """Add the commands that train models and apply them.

    Args:
        add: Adds a command by its name and its line in the help, with the options that all commands have.
    """
    _add_train(add)
    _add_validate(add)
    _add_detect(add)


def _add_train(add: AddCommand) -> None:
    command = add("train", "train the model on out.npz, and calibrate it on held-out good parts")
    families = ", ".join(MODELS.class_paths())
    command.description = (
        f"{command.description} Model families (model_training.model): {families}; or auto: the one that finds most "
        "planted defects, chosen within model_training.budget_s seconds."
    )
    command.add_argument(
        "-i",
        "--input",
        metavar="NPZ-or-DIR",
        help="an out.npz, or a folder of them (default: those of the component)",
    )
    command.add_argument(
        "--resume",
        action="store_true",
        help="resume an interrupted run from its last checkpoint; skip models that are finished",
    )
    command.add_argument(
        "--candidate",
        action="store_true",
        help="train a candidate, also on the good parts of pixal accept, and keep the model in use; pixal promote "
        "compares the two",
    )
    command.add_argument(
        "--epochs",
        metavar="N",
        type=int,
        help="with --resume: train a finished model for N more epochs (some families have no epochs); the number of "
        "epochs of a training is --set model_training.n_epochs=N",
    )


def _add_validate(add: AddCommand) -> None:
    command = add("validate", "give each part of a batch a verdict; write tables, figures, report")
    command.add_argument(
        "-i",
        "--input",
        metavar="DIR-or-IMAGE",
        help=f"{PHOTOGRAPHS}, or one image (default: those of the known batch --batch)",
    )
    command.add_argument(
        "--batch",
        metavar="NAME",
        help="name of the batch (default: the batch of the same photographs, or for a new one the name of their folder "
        "and the time of the first one); the results of the batch before are kept in validate/COMPONENT/batches",
    )
    command.add_argument(
        "--force",
        action="store_true",
        help="repeat all verdicts (default: keep stored verdicts of the same photograph, model and settings)",
    )
    command.add_argument(
        "--watch",
        action="store_true",
        help="give new photographs in the folder a verdict when their files are complete, and keep tables and report "
        "up to date, until Ctrl-C; the same command resumes (validation.watch_interval: seconds between two scans of "
        "the folder)",
    )
    _add_verdict_options(command)
    add_workers(command)
    command.add_argument(
        "--model",
        metavar="TYPE-or-FILE",
        help="use the model of this type for all photographs, instead of the model of their own type; "
        "COMPONENT/TYPE: a model of another component; FILE.pixal: a model that pixal export wrote",
    )


def _add_detect(add: AddCommand) -> None:
    command = add(
        "detect", "repeat the verdicts of a batch with another threshold or model, without preparing it again"
    )
    command.add_argument(
        "-i", "--input", metavar="DIR", help="a folder that validate wrote (default: that of the batch)"
    )
    command.add_argument("--batch", metavar="NAME", help="name of the batch (default: the newest one)")
    _add_verdict_options(command)
    add_workers(command)


def _add_verdict_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--truth",
        metavar="DIR",
        help="compare the verdicts with the true labels in this folder: labels.csv (name,label[,kind]) and "
        "masks/NAME.png of each type",
    )
    command.add_argument("--fail-on-anomaly", action="store_true", help="exit with status 4 if a part fails")
