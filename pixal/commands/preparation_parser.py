"""The options of ``inspect``, ``preprocess``, ``remove_bg``, ``align`` and ``make_input``."""

from __future__ import annotations

from pixal.commands.options import PHOTOGRAPHS, AddCommand, add_workers, count, describe

_INSPECT = """\
Find problems with photographs before training: damaged, out of focus, badly exposed, of another
size, unusual, or duplicates. Each finding says what to do.

It works on any folder of photographs, and needs no model and no settings.
Results: inspection.html (open this first), photographs.csv with one row per photograph and a
suggested use (train, check, leave out), and inspection.yaml for programs.
The component's history.db has the same rows, and pixal serve shows them.

With --against it also compares light, colour, contrast, noise and sharpness with another folder,
for example new photographs with those for training, and lists photographs that are in both.

  pixal inspect -i photos/COMPONENT
  pixal inspect -i photos/june --against photos/may
  pixal inspect -i archive --sample 200
"""

_ARRANGE = """\
Make an input folder from tables that describe photographs.

Good parts go to DIR/TYPE/train/good, others to DIR/TYPE/test/KIND, the layout of MVTec AD, which
preprocess, validate and benchmark read. With --truth, only DIR/TYPE/labels.csv is written, for
validate --truth. Without --type there are no folders of types.

Photographs are found by their path below a folder, else by their name, else by their name without
extension. Rows without a photograph are listed (exit status 3). Nothing is overwritten; arranged.yaml
lists the source of each file.

  pixal arrange -t parts.xlsx -i photos -o data --file image --label result --kind defect
  pixal arrange -t a.csv b.csv -i lot1 lot2 -o data --type side --link
  pixal arrange -t parts.csv -i photos -o truth --label result --truth
"""


def add_preparation_commands(add: AddCommand) -> None:
    """Add the commands that look at photographs and prepare them.

    Args:
        add: Adds a command by its name and its line in the help, with the options that all commands have.
    """
    _add_inspect(add)
    _add_arrange(add)
    _add_preprocessing(add)


def _add_inspect(add: AddCommand) -> None:
    command = add("inspect", "find blurred, dark, damaged and duplicate photographs before training")
    describe(command, _INSPECT)
    command.add_argument("-i", "--input", metavar="DIR", required=True, help=PHOTOGRAPHS)
    command.add_argument("--against", metavar="DIR", help="compare with the photographs in this folder, type by type")
    command.add_argument(
        "--sample", metavar="N", type=count, help="inspect N photographs of each type, chosen at random (default: all)"
    )
    command.add_argument(
        "-o", "--out", metavar="DIR", help="folder for the results (default: ./inspection/NAME, the name of the input)"
    )
    add_workers(command)


def _add_arrange(add: AddCommand) -> None:
    command = add("arrange", "make an input folder, or true labels, from tables (CSV, XLSX) and folders")
    describe(command, _ARRANGE)
    command.add_argument("-t", "--tables", metavar="TABLE", nargs="+", required=True, help="CSV or XLSX files")
    command.add_argument("-i", "--inputs", metavar="DIR", nargs="+", required=True, help="folders of photographs")
    command.add_argument("-o", "--out", metavar="DIR", required=True, help="the folder to make")
    command.add_argument("--file", metavar="COLUMN", default="file", help="column with the file name (default: file)")
    command.add_argument("--type", metavar="COLUMN", help="column with the image type (default: there is one type)")
    command.add_argument(
        "--label",
        metavar="COLUMN",
        help="column with the label: good (0, good, ok) or not (1, bad, nok); default: good without a kind",
    )
    command.add_argument("--kind", metavar="COLUMN", help="column with the kind of the defect")
    command.add_argument("--split", metavar="COLUMN", help="column that says train or test (default: good ones train)")
    command.add_argument("--test-ratio", metavar="R", type=float, default=0.0, help="share of good parts for test/good")
    command.add_argument("--truth", action="store_true", help="write labels.csv for validate --truth, no photographs")
    command.add_argument("--link", action="store_true", help="make symbolic links instead of copies")
    command.add_argument(
        "--steps",
        metavar="STEP",
        nargs="+",
        default=[],
        help="what to do with each photograph, in this order: grey, equalize (histogram), canny (edges)",
    )


def _add_preprocessing(add: AddCommand) -> None:
    for name, required, text, input_help in (
        ("preprocess", True, "make the model input of photographs: remove_bg, align and make_input", PHOTOGRAPHS),
        ("remove_bg", True, "find the part on each photograph; write RGBA images", PHOTOGRAPHS),
        ("align", True, "align the images of remove_bg to one reference per type", PHOTOGRAPHS),
        ("make_input", False, "crop, match the light, pool; write out.npz", f"{PHOTOGRAPHS} (default: all types)"),
    ):
        command = add(name, text)
        command.add_argument("-i", "--input", metavar="DIR", required=required, help=input_help)
        command.add_argument(
            "--force",
            action="store_true",
            help="do all work again (default: skip work already done on the same files with the same settings)",
        )
        add_workers(command)
