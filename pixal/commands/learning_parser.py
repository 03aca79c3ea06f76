"""The options of the commands that make the next model from marks."""

from __future__ import annotations

from pixal.commands.options import AddCommand, count, describe

_ACCEPT = """\
Make training photographs and known defects from the marks of inspectors.

A part marked as a false alarm becomes a training photograph of its type. A part marked as missed or
confirmed becomes a known defect, with the box that was drawn or the regions that were found, cut out
in the reference frame. Both are data sets with versions, in out/COMPONENT/TYPE/accepted: a copy of
each photograph, and accepted.yaml with its origin, hash, who and when. No part is in it twice.

Marks come from the database (validate/COMPONENT/history.db), where pixal serve and
pixal history --marks store them, or from a table: that of the button in a report.html, or one with
the columns type, image, mark (false alarm, missed or confirmed), and optionally x, y, width, height
(a box in pixels of the photograph), comment, made_by, batch, score.

The same command adds what is new, and removes parts whose mark was taken back.

  pixal accept
  pixal accept --marks marks.csv --type front
  pixal accept --undo                      what the last run has added is removed again
"""


def add_learning_commands(add: AddCommand) -> None:
    """Add the commands.

    Args:
        add: Adds a command by its name and its line in the help, with the options that all commands have.
    """
    _add_accept(add)


def _add_accept(add: AddCommand) -> None:
    command = describe(add("accept", "make training photographs and known defects from marks"), _ACCEPT)
    command.add_argument("--marks", metavar="CSV", help="first store the marks of this table in the database")
    command.add_argument(
        "--type", dest="types", metavar="TYPE", nargs="+", help="only these image types (default: all)"
    )
    command.add_argument(
        "--undo",
        metavar="RUN",
        nargs="?",
        type=count,
        const=True,
        default=False,
        help="remove what the last run has added, or the run of this number (run in accepted.yaml)",
    )
