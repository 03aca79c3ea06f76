"""The parser of the command line: the commands, their options, and the help texts."""

from __future__ import annotations

import argparse
import re
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import shtab

from pixal.commands.batches_parser import add_batch_commands
from pixal.commands.exit_status import ExitStatus
from pixal.commands.learning_parser import add_learning_commands
from pixal.commands.models_parser import add_model_commands
from pixal.commands.overview_parser import add_overview_commands
from pixal.commands.planted_parser import add_planted_commands
from pixal.commands.preparation_parser import add_preparation_commands
from pixal.commands.probe_parser import add_probe_commands
from pixal.commands.serve_parser import add_serve_command
from pixal.commands.verdict_parser import add_verdict_commands
from pixal.errors import nearest_hint
from pixal.version import __version__

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction["_Parser"]

LOG_LEVELS = ("debug", "info", "warning", "error")

_EPILOG = """\
exit status:
  0 done
  1 unexpected failure (--debug shows where)
  2 bad usage, configuration or input
  3 done, but some images could not be processed; each is named with its reason
  4 with --fail-on-anomaly, at least one part failed

usual steps:
  pixal init COMPONENT                     write the folder of settings (configs)
  pixal inspect -i photos/COMPONENT        find problems with the photographs, before training
  pixal preprocess -i photos/COMPONENT     photographs of good parts, one folder per image type
  pixal train                              one model per type, or one for all (one_hot_encoding)
  pixal validate -i batch/COMPONENT        a verdict per part; then open validate/COMPONENT/report.html
  pixal serve                              review parts in a browser; show all batches and their history
  pixal accept && pixal train --candidate  train a new model on the marks of inspectors; then pixal promote
  pixal export TYPE                        the model as one file, for another computer
  pixal status                             show what is out of date, and the next command
  mlflow ui                                show the tracked runs; start it in the same folder

Settings are in configs/parameters.yaml and configs/paths.yaml. See also: pixal COMMAND --help
"""


def build_parser() -> argparse.ArgumentParser:
    """Build the parser. The parsed options have the name of the command as ``command``."""
    parser = _Parser(
        prog="pixal",
        description="Find defects on photographs of hardware. PIXAL learns from photographs of good parts only.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"pixal {__version__}")
    shtab.add_argument_to(parser, help="print the completion script of a shell (see docs/usage.md)")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add = partial(_add_command, commands)
    for add_group in (
        add_overview_commands,
        add_preparation_commands,
        add_verdict_commands,
        add_model_commands,
        add_probe_commands,
        add_planted_commands,
        add_batch_commands,
        add_serve_command,
        add_learning_commands,
    ):
        add_group(add)
    _complete_paths(commands)
    return parser


def _complete_paths(commands: Commands) -> None:
    """Enable the completion of file and folder names for options that take one."""
    for command in commands.choices.values():
        for action in command._actions:
            if set(re.findall("[A-Z]+", str(action.metavar))) & {"DIR", "FILE", "NPZ", "IMAGE", "TABLE"}:
                action.complete = shtab.FILE  # type: ignore[attr-defined]


class _Parser(argparse.ArgumentParser):
    """Parser that reports an error in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Exit with the status of bad input."""
        self.exit(ExitStatus.BAD_INPUT, f"pixal: error: {message} (see {self.prog} --help)\n")

    def _check_value(self, action: argparse.Action, value: object) -> None:
        """Refuse a value that is not one of the choices, and name the nearest one."""
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            hint = nearest_hint(str(value), choices)
            raise argparse.ArgumentError(action, f"{str(value)!r} is not one of {', '.join(choices)}{hint}")


def _add_command(commands: Commands, name: str, text: str) -> argparse.ArgumentParser:
    """Add a command with the options that all commands have."""
    command = commands.add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog="exit status: see pixal --help"
    )
    command.set_defaults(command=name)
    command.add_argument("-q", "--quiet", action="store_true", help="show no progress bars; only warnings and errors")
    command.add_argument(
        "-c",
        "--config",
        metavar="DIR",
        help="folder with parameters.yaml and paths.yaml (default: ./configs, else the shipped defaults)",
    )
    command.add_argument(
        "--set",
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a setting, for example model_training.n_epochs=100 (repeatable)",
    )
    command.add_argument(
        "--log-level",
        choices=LOG_LEVELS,
        help="show messages from this level on (default: info; with --quiet: warning)",
    )
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return command
