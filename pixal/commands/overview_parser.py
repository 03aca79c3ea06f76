"""The options of ``init``, ``check``, ``status``, ``clean`` and ``doctor``."""

from __future__ import annotations

import argparse

from pixal.commands.options import AddCommand, describe

_INIT = """\
Write the folder configs with all settings of a component: parameters.yaml (each setting with its
default and a comment) and paths.yaml (with the name of the component filled in). With -i, the types
in the folder of photographs are listed. Existing files are never overwritten.

  pixal init MY_COMPONENT
  pixal init -i photos/MY_COMPONENT       the name of the folder is that of the component
"""

_CHECK = """\
Check the settings and the photographs before a long run, and show what the commands would do.
Nothing is written.

The checks find invalid settings, photographs that cannot be read or differ in size from the others
of their type, too few photographs, a folder one level too high, and output folders that cannot be
used. If there is a problem, the exit status is 2.

  pixal check                             the settings alone
  pixal check -i photos/MY_COMPONENT
"""

_STATUS = """\
Show the types, models and batches of the component: what is out of date and why, and the command to
run next. Nothing is written.

  pixal status
  pixal status --json
"""

_CLEAN = """\
List files that can be made again, with their sizes and the command that makes them: cut-out and
aligned photographs of trained types, models that compare has trained, the model inputs of batches
and, with --maps, their anomaly maps. With --yes, remove them.

Models, verdicts, reports, figures and marks are kept, as are files that PIXAL did not write and files
made from photographs that no longer exist.

  pixal clean
  pixal clean --maps --yes
"""

_DOCTOR = """\
Show versions, GPU (or why none is used), networks of rembg, weights of backbones, and the MLflow
store on this computer. Paste the output into a bug report. Nothing is written, and
no network is used.
"""


def add_overview_commands(add: AddCommand) -> None:
    """Add the five commands.

    Args:
        add: Adds a command by its name and its line in the help, with the options that all commands have.
    """
    command = describe(add("init", "write the folder of settings for a component"), _INIT)
    command.add_argument("component", nargs="?", metavar="COMPONENT", help="name of the component")
    command.add_argument(
        "-i", "--input", metavar="DIR", help="folder of the component's photographs: one sub-folder per image type"
    )
    command = describe(add("check", "check settings and photographs before a long run"), _CHECK)
    command.add_argument("-i", "--input", metavar="DIR", help="folder of photographs (default: check the settings)")
    _add_json(command)
    _add_json(
        describe(add("status", "show types, models and batches, what is out of date, and the next command"), _STATUS)
    )
    command = describe(add("clean", "list and remove files that can be made again"), _CLEAN)
    command.add_argument(
        "--maps", action="store_true", help="also the anomaly maps of batches, which serve needs to draw outlines"
    )
    command.add_argument("--yes", action="store_true", help="remove the files (default: only list them)")
    _add_json(describe(add("doctor", "show versions, GPU, weights and tracking, for a bug report"), _DOCTOR))


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print JSON, for programs")
