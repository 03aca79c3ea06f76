"""The options of ``history``, ``benchmark`` and ``demo``."""

from __future__ import annotations

from pixal.commands.options import AddCommand, add_workers, describe

_HISTORY = """\
Show how many parts failed in each batch.

All batches of the component count, the newest and those in validate/COMPONENT/batches. For each image
type, a control chart (p-chart) compares the failure rates: a rate outside its limits differs from the
others by more than chance. Drift that validate found is listed with the batch.

validate writes each batch into a database, validate/COMPONENT/history.db, which any SQLite browser
opens. This command adds batches that are missing there, prints the rates, and writes history.html
(charts, and a map of the places where regions were found) and history.csv next to it.

  pixal history                                       all batches
  pixal history --by day --since 2026-11-01           one row per day, from November on
  pixal history --type front --json                   one image type, as JSON
"""

_BENCHMARK = """\
Train and validate each class of a data set; write master_results.csv.

ROOT contains one folder per class, in the layout of MVTec AD (CLASS/train/good, CLASS/test/KIND,
CLASS/ground_truth) or MVTec AD 2 (test_public). Or it is a batch that PIXAL rendered
(train/COMPONENT, production/COMPONENT, truth); then each component is a class.

Each class is preprocessed, trained, and validated against its truth. The table has one row per
class (images, measures, seconds, status, reason), and the mean as the last row. It is written
again after each class. In DIR each class is a component: out/CLASS, and validate/CLASS with its
report.html.

The same command resumes an interrupted run. A class that fails gets a row with the reason.

  pixal benchmark -i mvtec --set model_training.model=gaussian -o gaussian
  pixal benchmark -i mvtec --classes bottle screw
"""


def add_batch_commands(add: AddCommand) -> None:
    """Add the commands that work on many batches, or on photographs of their own.

    Args:
        add: Adds a command by its name and its line in the help, with the options that all commands have.
    """
    _add_history(add)
    _add_benchmark(add)
    _add_demo(add)


def _add_history(add: AddCommand) -> None:
    command = add("history", "show failure rates of all batches")
    describe(command, _HISTORY)
    command.add_argument(
        "--by",
        metavar="WHAT",
        default="batch",
        help="group by batch, day (of the photographs), type or model (default: batch)",
    )
    command.add_argument(
        "--type", dest="types", metavar="TYPE", nargs="+", help="count only these image types (default: all)"
    )
    command.add_argument(
        "--batch", dest="batches", metavar="NAME", nargs="+", help="count only these batches (default: all)"
    )
    command.add_argument(
        "--since", metavar="DAY", help="count photographs taken from this day or time on, for example 2026-11-28"
    )
    command.add_argument(
        "--until", metavar="DAY", help="count photographs taken up to the end of this day, or this time"
    )
    command.add_argument(
        "--marks",
        metavar="CSV",
        help="first store the marks that were exported from a report.html; the table then shows how many failed parts "
        "were false alarms, and how many that passed were missed",
    )
    command.add_argument("--json", action="store_true", help="print JSON, and write no files")
    command.add_argument(
        "--rebuild",
        action="store_true",
        help="make the database again from the files of the batches; batches whose folder was deleted are removed, "
        "marks are kept",
    )


def _add_benchmark(add: AddCommand) -> None:
    command = add("benchmark", "train and validate each class of a data set; write master_results.csv")
    describe(command, _BENCHMARK)
    command.add_argument("-i", "--input", metavar="ROOT", required=True, help="folder with one folder per class")
    command.add_argument(
        "-o", "--out", metavar="DIR", default="benchmark", help="folder for all output (default: ./benchmark)"
    )
    command.add_argument("--classes", metavar="NAME", nargs="+", help="run only these classes (default: all)")
    command.add_argument(
        "--force",
        action="store_true",
        help="run all classes again (default: skip a class that is finished, with the same files and settings)",
    )
    add_workers(command)


def _add_demo(add: AddCommand) -> None:
    command = add("demo", "render photographs of a small component with defects, and run all steps on them")
    command.add_argument(
        "--task",
        metavar="NAME",
        help="demonstrate another task: charge_clusters simulates tracks in a pixel sensor (default: photographs)",
    )
    command.add_argument(
        "dir", nargs="?", default="pixal_demo", metavar="DIR", help="folder for all output (default: ./pixal_demo)"
    )
