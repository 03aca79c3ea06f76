"""The options of the commands that make the next model from marks."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

import pixal
from pixal.commands.options import AddCommand, add_workers, count, describe
from pixal.commands.planted_parser import add_planted_defects, defect_options

if TYPE_CHECKING:
    from pixal.config import Config
    from pixal.outcome import Results

_PROMOTE = """\
Compare the candidate of a type with the model in use, and replace that model unless the candidate is worse.

train --candidate trains a candidate. Both models are compared part by part: on all marked parts (a part
that a model was trained on gets a held-out score), on the last three batches, and on planted defects.
out/COMPONENT/learning/candidate/TYPE/promotion.html shows which defects are newly found or lost, which
verdicts change, how many good parts fail, and a recommendation with reasons. --check only compares.

The replaced model is kept in out/COMPONENT/learning/earlier; --back returns to it. Every verdict names
its model; pixal detect repeats the verdicts of the newest batch.

  pixal promote front --check
  pixal promote front
  pixal promote front --back
  pixal promote --list
"""
_ACCEPT = """\
Make training photographs and known defects from the marks of inspectors.

A part marked as a false alarm becomes a training photograph of its type. A part marked as missed or
confirmed becomes a known defect, cut out in the reference frame: the box that was drawn, else the
regions that were found. Both are data sets with versions, in out/COMPONENT/TYPE/accepted: a copy of
each photograph, and accepted.yaml with its source, hash, inspector and time. No part is added twice.

Marks come from the database (validate/COMPONENT/history.db), where pixal serve and
pixal history --marks store them, or from a table: exported from a report.html, or with the columns
 type, image, mark (false alarm, missed or confirmed), and optionally x, y, width, height
(a box in pixels of the photograph), comment, made_by, batch, score.

With --confirmed, parts whose pass was confirmed also become training photographs.
The same command adds new parts, and removes parts whose mark was undone.

  pixal accept
  pixal accept --marks marks.csv --type front
  pixal accept --undo                      remove what the last run added
"""

_RECALIBRATE = """\
Adapt the calibration of a model to confirmed good parts, in seconds, without a new fit.

Use it when validate reports drift, for example in other light, and the parts are good. The spread of the
errors, the threshold, and the light that batches are compared with are computed anew from confirmed good
parts: parts marked as false alarms or whose pass was confirmed, or with --batch all parts of a batch that
are not marked as defective. At least 8 are needed.

The changes are printed, and stored in the record of the model. The result is a candidate;
pixal promote --check compares it with the model in use.

  pixal recalibrate front --batch lot7
  pixal recalibrate
"""


def add_learning_commands(add: AddCommand) -> None:
    """Add the commands.

    Args:
        add: Adds a command by its name and its line in the help, with the options that all commands have.
    """
    _add_accept(add)
    _add_promote(add)
    _add_recalibrate(add)


def run_learning(options: argparse.Namespace, config: Config) -> Results:
    """Run one of the commands."""
    return _RUN[options.command](options, config)


def _add_accept(add: AddCommand) -> None:
    command = describe(
        add("accept", "make training photographs and known defects from the marks of inspectors"), _ACCEPT
    )
    command.add_argument("--marks", metavar="CSV", help="first store the marks of this table in the database")
    command.add_argument(
        "--type", dest="types", metavar="TYPE", nargs="+", help="only these image types (default: all)"
    )
    command.add_argument(
        "--confirmed",
        action="store_true",
        help="also use parts whose pass was confirmed as training photographs",
    )
    command.add_argument(
        "--undo",
        metavar="RUN",
        nargs="?",
        type=count,
        const=True,
        default=False,
        help="remove what the last run added, or the run with this number (run in accepted.yaml)",
    )


def _add_promote(add: AddCommand) -> None:
    command = describe(
        add("promote", "replace the model in use by a candidate, or return to an earlier model"), _PROMOTE
    )
    command.add_argument("types", nargs="*", metavar="TYPE", help="image types (default: all that have a candidate)")
    what = command.add_mutually_exclusive_group()
    what.add_argument("--check", action="store_true", help="only compare the two models, and write the page")
    what.add_argument(
        "--back",
        metavar="NAME",
        nargs="?",
        const=True,
        default=False,
        help="return to the previous model, or to the earlier one of this name (see --list)",
    )
    what.add_argument("--list", dest="overview", action="store_true", help="list the models of each type")
    what.add_argument("--force", action="store_true", help="replace the model in use even if the candidate is worse")
    add_planted_defects(command, widths="1 to 4", sizes="2 to 16", contrasts="-0.2 0.2")
    add_workers(command)


def _add_recalibrate(add: AddCommand) -> None:
    command = describe(add("recalibrate", "adapt light, scale and threshold to confirmed good parts"), _RECALIBRATE)
    command.add_argument("types", nargs="*", metavar="TYPE", help="image types (default: all that have a model)")
    command.add_argument(
        "--batch", metavar="NAME", help="a batch whose parts are all good, except those marked as defective"
    )


def _recalibrate(options: argparse.Namespace, config: Config) -> Results:
    return pixal.recalibrate(options.types or None, batch=options.batch, config=config, quiet=options.quiet)


def _accept(options: argparse.Namespace, config: Config) -> Results:
    return pixal.accept(
        options.marks, types=options.types, confirmed=options.confirmed, undo=options.undo, config=config
    )


def _promote(options: argparse.Namespace, config: Config) -> Results:
    return pixal.promote(
        options.types or None,
        check=options.check,
        back=options.back,
        overview=options.overview,
        force=options.force,
        config=config,
        quiet=options.quiet,
        **defect_options(options),
    )


_RUN: dict[str, Callable[[argparse.Namespace, Config], Results]] = {
    "accept": _accept,
    "promote": _promote,
    "recalibrate": _recalibrate,
}
