"""Run the server until the command is stopped."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable

from pixal.errors import InputError
from pixal.server.app import build_app
from pixal.server.security import Access
from pixal.server.site import Site

_LONGEST_END = 3  # seconds that open requests have when the server ends


def run_server(site: Site, *, host: str, port: int, started: Callable[[str], None]) -> None:
    """Answer requests until the main thread is interrupted.

    Args:
        site: What is shown.
        host: The name or the address to listen at.
        port: The port; 0: any that is free.
        started: Called with the address of the pages, with the token if there is one.

    Raises:
        InputError: The address cannot be used.
    """
    import uvicorn

    logging.getLogger("uvicorn").addHandler(logging.NullHandler())
    logging.getLogger("uvicorn").propagate = False  # the application says what has failed
    listener = _listen(host, port)
    access = Access.to(host, listener.getsockname()[1])
    stopping = threading.Event()
    config = uvicorn.Config(
        build_app(site, access, stopping),
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=_LONGEST_END - 1,
    )
    server = uvicorn.Server(config)
    # In a thread of its own: the server would handle signals otherwise, and ends a command in its own way.
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    started(_address(host, access))
    try:
        while thread.is_alive():
            thread.join(0.5)
    finally:
        stopping.set()
        server.should_exit = True
        thread.join(_LONGEST_END)
        listener.close()


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError, UnicodeError) as error:
        reason = str(getattr(error, "strerror", None) or error).partition(" (while")[0]  # Python repeats the address
        raise InputError(f"cannot listen at {host}, port {port}: {reason}; choose another --port or --host") from error


def _address(host: str, access: Access) -> str:
    shown = f"[{host}]" if ":" in host else host
    if host in ("0.0.0.0", "::"):
        shown = socket.gethostname()
    return f"http://{shown}:{access.port}/" + (f"?token={access.token}" if access.token else "")
