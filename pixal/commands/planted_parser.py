"""The options of ``sensitivity`` and ``compare``, which plant defects."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from pixal.commands.options import AddCommand, add_workers, count, describe
from pixal.registry import DEFECTS

if TYPE_CHECKING:
    from pixal.defects.options import DefectOptions

_SENSITIVITY = """\
Measure which defects the trained model finds, with defects planted on good parts.

Each good part of the training set is scored by a model that was not trained on it. For each kind of
defect this gives the size that is found in 9 of 10 cases, and a map of the places where only larger
defects are found. Results: metadata/sensitivity.yaml and figures/sensitivity.png, sensitivity_map.png.

The same command resumes an interrupted run.

  pixal sensitivity
  pixal sensitivity --kinds scratch spot --contrasts -0.15 --rates 0.05
"""

_COMPARE = """\
Train several models on the same good parts, and compare which planted defects they find.

All candidates hold out the same parts and see the same defects at the same places. The table shows for
each how many it finds at the false-alarm rate (validation.false_alarm_rate), the area under the ROC
curve against good parts, time and memory, and how much better or worse it is than the first one, with
intervals. Results: metadata/comparison.yaml, comparison.csv and figures/comparison.png.

A candidate is a model family, settings that differ from the configured ones, or both. All settings
of model_training can differ but seed, calibration_folds and one_hot_encoding; of the others channels,
weights, pool_size, edge_margin, light_matching, map_smoothing and threshold.

The same command resumes an interrupted run. The models are kept in comparison/ in the folder of the
component; delete that folder to free its space.

  pixal compare
  pixal compare --candidate gaussian --candidate gaussian,map_smoothing=2 --candidate padim
  pixal compare --candidate channels=[LAB_L,GradMag] --candidate channels=ALL --kinds scratch spot
"""


def add_planted_commands(add: AddCommand) -> None:
    """Add the two commands.

    Args:
        add: Adds a command by its name and its line in the help, with the options that all commands have.
    """
    _add_sensitivity(add)
    _add_compare(add)


def defect_options(options: argparse.Namespace) -> DefectOptions:
    """The parsed options that say which defects are planted."""
    return {
        "kinds": options.kinds,
        "sizes": options.sizes,
        "contrasts": options.contrasts,
        "defects": options.defects,
    }


def _add_sensitivity(add: AddCommand) -> None:
    command = add("sensitivity", "measure the smallest planted defects that the trained model finds")
    describe(command, _SENSITIVITY)
    command.add_argument(
        "-i",
        "--input",
        metavar="NPZ-or-DIR",
        help="the out.npz that the model was trained on, or a folder of them (default: those of the component)",
    )
    add_planted_defects(command, widths="1 to 6", sizes="2 to 24", contrasts="-0.4 -0.2 -0.1 0.1 0.2 0.4")
    command.add_argument(
        "--rates",
        metavar="R",
        nargs="+",
        type=float,
        default=[],
        help="more false-alarm rates to report, in addition to validation.false_alarm_rate",
    )
    command.add_argument(
        "--force",
        action="store_true",
        help="measure again (default: skip a type whose model was already measured with the same options)",
    )
    add_workers(command)


def _add_compare(add: AddCommand) -> None:
    command = add("compare", "train several models, and compare which planted defects they find")
    describe(command, _COMPARE)
    command.add_argument(
        "-i",
        "--input",
        metavar="NPZ-or-DIR",
        help="an out.npz, or a folder of them (default: those of the component)",
    )
    command.add_argument(
        "--candidate",
        dest="candidates",
        metavar="FAMILY[,KEY=VALUE...]",
        action="append",
        default=[],
        help="a model to compare (repeatable, at least two); the first is the one that the others are compared with "
        "(default: the configured family, gaussian, padim, autoencoder)",
    )
    add_planted_defects(command, widths="1 to 4", sizes="2 to 16", contrasts="-0.2 0.2")
    command.add_argument(
        "--force",
        action="store_true",
        help="score the defects again (default: skip a candidate that was already scored on the same defects)",
    )
    add_workers(command)


def add_planted_defects(command: argparse.ArgumentParser, *, widths: str, sizes: str, contrasts: str) -> None:
    """Add the options that say which defects are planted; the texts are their defaults."""
    kinds = ", ".join(DEFECTS.class_paths())
    command.add_argument("--kinds", metavar="KIND", nargs="+", help=f"kinds of defects (default: all): {kinds}")
    command.add_argument(
        "--sizes",
        metavar="PX",
        nargs="+",
        type=float,
        help=f"sizes in pixels of the reference (default: {widths} for the width of lines, {sizes} for others)",
    )
    command.add_argument(
        "--contrasts",
        metavar="C",
        nargs="+",
        type=float,
        help=f"contrasts relative to the surface under the defect; negative: darker (default: {contrasts})",
    )
    command.add_argument(
        "--defects",
        metavar="N",
        type=count,
        help="number of defects per kind, size and contrast; 20 or more recommended (default: 20)",
    )
