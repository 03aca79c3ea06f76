"""The options of ``serve``."""

from __future__ import annotations

from pixal.commands.options import AddCommand, count, describe

LOOPBACK = "127.0.0.1"
PORT = 8765

_SERVE = """\
Show results in a browser, and judge parts there with keys: confirm, false alarm, missed, comment.

Shown are all batches of the component and of those next to it, with histories, figures and
inspections. A batch that validate --watch is working on grows on the page. Each mark is stored in
validate/COMPONENT/history.db before the page says so; several people can judge at the same time.
The marks of a batch can be saved as CSV, and those of a report.html can be loaded.

Only this machine can open the pages, unless --host is given. Then the address that is printed
holds a token, without which nothing is shown. The connection is not encrypted: use it in a network
that you trust.

  pixal serve
  pixal serve --port 9000
  pixal serve --host 0.0.0.0              for other machines, with a token
"""


def add_serve_command(add: AddCommand) -> None:
    """Add the command.

    Args:
        add: Adds a command by its name and its line in the help, with the options that all commands have.
    """
    command = describe(add("serve", "show results in a browser, and judge parts there"), _SERVE)
    command.add_argument(
        "--host",
        metavar="HOST",
        default=LOOPBACK,
        help=f"name or address to listen at; other than this machine, a token is needed (default: {LOOPBACK})",
    )
    command.add_argument(
        "--port", metavar="N", type=count, default=PORT, help=f"port; 0 takes a free one (default: {PORT})"
    )
