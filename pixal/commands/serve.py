"""The command ``serve``: results in a browser, where parts are reviewed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pixal.commands.serve_parser import LOOPBACK, PORT
from pixal.config import Config, as_config
from pixal.errors import InputError
from pixal.extras import require_extra
from pixal.tasks import configured_task


def serve(
    *,
    host: str = LOOPBACK,
    port: int = PORT,
    config: Config | str | Path | None = None,
    started: Callable[[str], None] = lambda address: None,
) -> None:
    """Show results in a browser until the process is interrupted (Ctrl-C). Marks are stored in ``history.db``.

    Args:
        host: The name or address to listen at. Default: only this machine. With any other, the address of the pages
            holds a token, without which nothing is shown.
        port: The port, in [0, 65535]; 0: any that is free.
        config: Loaded settings, or the folder to load them from. Default: ``./configs`` or the shipped defaults.
        started: Called with the address of the pages when they can be opened.

    Raises:
        InputError: The address cannot be used, or the database is damaged.
        ConfigError: The configuration is not valid, or the packages of the extra ``serve`` are not installed.
    """
    for module in ("fastapi", "uvicorn"):
        require_extra(module, "pixal serve")
    if not 0 <= port <= 65535:
        raise InputError(f"--port {port}: a port is a number from 0 to 65535")
    config = as_config(config)
    site = configured_task(config).site(config)
    for component in site.components().values():
        component.store()  # a damaged database is an error now
    from pixal.server.run import run_server

    run_server(site, host=host, port=port, started=started)
