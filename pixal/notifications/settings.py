"""The settings of notifications."""

from __future__ import annotations

import shlex
from typing import Literal
from urllib.parse import urlsplit

from pydantic import field_validator, model_validator

from pixal.config.section import Positive, Section


class Notify(Section):
    """Who is told about new verdicts.

    Attributes:
        webhook: Address (http or https) to which each message is posted as JSON. None: none.
        command: Command that is run for each message, with the JSON on its standard input; split like in a shell, but
            not run by one. None: none.
        verdicts: Which verdicts: those that are not a pass (``failures``), or all.
        timeout: Seconds after which a delivery counts as failed.
    """

    webhook: str | None = None
    command: str | None = None
    verdicts: Literal["failures", "all"] = "failures"
    timeout: Positive = 10.0

    @property
    def is_on(self) -> bool:
        """Whether anybody is told."""
        return self.webhook is not None or self.command is not None

    @field_validator("webhook")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        try:
            parts = urlsplit(value)
            is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            is_address = False
        if not is_address:
            raise ValueError(f"{value!r} is not an address like https://example.org/pixal")
        if parts.username or parts.password:
            raise ValueError(
                "an address must not hold a password, because records show settings; messages are signed with the key "
                "in the environment variable PIXAL_WEBHOOK_KEY"
            )
        return value

    @field_validator("command")
    @classmethod
    def _is_a_command(cls, value: str | None) -> str | None:
        try:
            words = shlex.split(value or "-")
        except ValueError as error:
            raise ValueError(f"{value!r} is not a command: {error}") from error
        if not words:
            raise ValueError("the command is empty")
        return value

    @model_validator(mode="after")
    def _one_of_them(self) -> Notify:
        if self.webhook is not None and self.command is not None:
            raise ValueError("webhook and command are both set; choose one of them")
        return self
