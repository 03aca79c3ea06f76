"""The options of ``serve``."""

from __future__ import annotations

from pixal.commands.options import AddCommand, count, describe

LOOPBACK = "127.0.0.1"
PORT = 8765

_SERVE = """\
Show results in a browser, and review parts with the keyboard: confirm, false alarm, missed, comment.

The pages show all batches of the component and of the components next to it, with history, figures
and inspections. Parts that validate --watch processes appear as they are done. Each mark is stored in
validate/COMPONENT/history.db before the page shows it as stored; several people can review at the same
time. The marks of a batch can be saved as CSV, and those exported from a report.html can be loaded.

Only this computer can open the pages, unless --host is given. Then the printed address contains a
token, which each request needs. The connection is not encrypted: use it only in a network that you
trust.

  pixal serve
  pixal serve --port 9000
  pixal serve --host 0.0.0.0              for other computers, with a token
"""


def add_serve_command(add: AddCommand) -> None:
    """Add the command.

    Args:
        add: Adds a command by its name and its line in the help, with the options that all commands have.
    """
    command = describe(add("serve", "show results in a browser, and review parts"), _SERVE)
    command.add_argument(
        "--host",
        metavar="HOST",
        default=LOOPBACK,
        help=f"name or address to listen at; for other computers a token is needed (default: {LOOPBACK})",
    )
    command.add_argument(
        "--port", metavar="N", type=count, default=PORT, help=f"port; 0: any free port (default: {PORT})"
    )
