"""Deliver one message: post it to a webhook, or give it to a command."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import os
import shlex
import subprocess
import time
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from pixal.notifications.outbox import Message
from pixal.notifications.settings import Notify
from pixal.version import __version__

KEY_VARIABLE = "PIXAL_WEBHOOK_KEY"
"""The environment variable with the key that messages are signed with."""

ID_HEADER, TIME_HEADER, SIGNATURE_HEADER = "X-Pixal-Id", "X-Pixal-Timestamp", "X-Pixal-Signature"

_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})  # the receiver has a problem, not the message
_LONGEST_PROBLEM = 200  # characters


@dataclass(frozen=True)
class Attempt:
    """An attempt to deliver a message.

    Attributes:
        problem: What was wrong; "" if it was delivered.
        hold_all: Whether the other messages cannot be delivered either.
    """

    problem: str = ""
    hold_all: bool = False


def signature(key: str, timestamp: str, body: bytes) -> str:
    """The signature of a message: ``sha256=`` and the HMAC-SHA256 (RFC 2104) of ``TIMESTAMP.BODY`` in hexadecimal.

    With the time in it, a receiver can refuse old messages that somebody sends again.
    """
    return "sha256=" + hmac.new(key.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def deliver(message: Message, settings: Notify) -> Attempt:
    """Deliver a message."""
    if settings.webhook is not None:
        return _post(settings.webhook, message, settings.timeout)
    if settings.command is not None:
        return _run(settings.command, message, settings.timeout)
    return Attempt("nobody is to be told (validation.notify)", hold_all=True)


class _NoRedirects(HTTPRedirectHandler):
    """A redirect counts as a failure: it may lead a signed message elsewhere, and it turns a POST into a GET."""

    def redirect_request(self, *_: Any) -> None:
        """Follow no redirect."""
        return


def _post(address: str, message: Message, timeout: float) -> Attempt:
    body, timestamp = message.body.encode(), str(int(time.time()))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": f"pixal/{__version__}",
        ID_HEADER: message.id,
        TIME_HEADER: timestamp,
    }
    if key := os.environ.get(KEY_VARIABLE):
        headers[SIGNATURE_HEADER] = signature(key, timestamp, body)
    request = Request(address, data=body, headers=headers, method="POST")  # the scheme was checked
    try:
        with build_opener(_NoRedirects).open(request, timeout=timeout):
            return Attempt()
    except HTTPError as error:
        with error:
            return Attempt(f"the webhook answered {error.code}", hold_all=error.code in _BUSY)
    except (URLError, OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        return Attempt(f"the webhook cannot be reached: {_short(reason)}", hold_all=True)


def _run(command: str, message: Message, timeout: float) -> Attempt:
    try:
        done = subprocess.run(  # the user's own command, without a shell
            shlex.split(command), input=message.body.encode(), capture_output=True, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired:
        return Attempt(f"the command has not ended after {timeout:g} s")
    except OSError as error:
        return Attempt(f"the command cannot be run: {_short(error)}", hold_all=True)
    if done.returncode:
        said = _short(done.stderr.decode(errors="replace"))
        return Attempt(f"the command ended with status {done.returncode}{f': {said}' if said else ''}")
    return Attempt()


def _short(text: object) -> str:
    return " ".join(str(text).split())[:_LONGEST_PROBLEM]
