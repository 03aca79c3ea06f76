"""The options of ``inspect``, ``preprocess``, ``remove_bg``, ``align`` and ``make_input``."""

from __future__ import annotations

from pixal.commands.options import PHOTOGRAPHS, AddCommand, add_workers, count, describe

_INSPECT = """\
Look at photographs before any training: what is damaged, out of focus, badly exposed, of another
size, unusual, or there twice. Each finding says what to do.

It works on any folder of photographs, and needs no model and no settings of a component.
Results: inspection.html (open this first), photographs.csv with one row per photograph and a
suggested use (train, check, leave out), and inspection.yaml for programs.

With --against it also compares light, colour, contrast, noise and sharpness with another folder,
for example new photographs with those for training, and names photographs that are in both.

  pixal inspect -i photos/COMPONENT
  pixal inspect -i photos/june --against photos/may
  pixal inspect -i archive --sample 200
"""


def add_preparation_commands(add: AddCommand) -> None:
    """Add the commands that look at photographs and prepare them.

    Args:
        add: Adds a command by its name and its line in the help, with the options that all commands have.
    """
    _add_inspect(add)
    _add_preprocessing(add)


def _add_inspect(add: AddCommand) -> None:
    command = add("inspect", "look at photographs before training: what is blurred, dark, there twice")
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
