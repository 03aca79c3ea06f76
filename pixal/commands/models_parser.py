"""The options of ``export`` and ``import``."""

from __future__ import annotations

from pixal.commands.options import AddCommand, describe

_EXPORT = """\
Write a trained model into one file, to use it on another computer.

The file holds the model, the preprocessing and the calibration stored with it, a manifest with
versions and hashes, and the licence of pretrained weights. It holds no photographs.

  pixal export front                      writes COMPONENT_front.pixal
  pixal validate -i batch/COMPONENT --model COMPONENT_front.pixal
"""

_IMPORT = """\
Store a model file that pixal export wrote as a model of the component. It gives the same verdicts as
the exported model.

The file is checked first: one that a newer version wrote, or that was changed in any way, is refused.
Another model of the type is replaced only with --force; it is kept as a file in replaced_models, in
the folder of the type.

  pixal import COMPONENT_front.pixal
"""


def add_model_commands(add: AddCommand) -> None:
    """Add the two commands.

    Args:
        add: Adds a command by its name and its line in the help, with the options that all commands have.
    """
    command = describe(add("export", "write a trained model into one file, for another computer"), _EXPORT)
    command.add_argument(
        "type", nargs="?", metavar="TYPE", help="the type whose model is written (default: the only one)"
    )
    command.add_argument(
        "-o", "--out", metavar="FILE", help="the file to write (default: ./COMPONENT_TYPE.pixal); it ends in .pixal"
    )
    command.add_argument("--force", action="store_true", help="replace a model file of the same name")
    command = describe(add("import", "store an exported model as a model of the component"), _IMPORT)
    command.add_argument("file", metavar="FILE", help="a file that pixal export wrote")
    command.add_argument("--force", action="store_true", help="replace another model of the type, which is kept")
