"""Collect messages, and deliver them in the background while verdicts are made."""

from __future__ import annotations

import json
import logging
import sqlite3
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pixal.errors import PixalError
from pixal.io.provenance import provenance
from pixal.notifications.delivery import deliver
from pixal.notifications.outbox import Outbox
from pixal.notifications.settings import Notify
from pixal.report.document import BatchOrigin, ModelOrigin, PartResult

_log = logging.getLogger(__name__)

OUTBOX = "notifications.db"
"""Name of the file of messages that are not delivered yet, in the folder of the component's results."""

SCHEMA_VERSION = 1
_LAST_WAIT = 5.0  # seconds that the end of a run waits for messages that are still being delivered


def message_of(part: PartResult, component: str, batch: BatchOrigin, model: ModelOrigin) -> dict[str, Any]:
    """The content of a message about a verdict; ``docs/notification.schema.json`` describes it."""
    made = provenance()
    return {
        "schema_version": SCHEMA_VERSION,
        "event": "verdict",
        "created": made["created"],
        "pixal_version": made["pixal_version"],
        "component": component,
        "batch": batch.name,
        "type": part.type,
        "image": part.image,
        "source": part.source,
        "verdict": part.verdict,
        "score": part.score,
        "threshold": part.threshold,
        "p_value": part.p_value,
        "reason": part.reason,
        "regions": [
            {name: getattr(region, name) for name in ("x", "y", "width", "height", "area_px", "peak", "channel")}
            for region in part.regions
        ],
        "model": {"family": model.family, "trained": model.trained, "record_sha256": model.record_sha256},
    }


class Notifier:
    """Takes messages, which takes milliseconds, and delivers them in a thread.

    A message that cannot be delivered stays in the outbox; this run, and later ones, try it again.
    """

    def __init__(self, folder: Path, settings: Notify) -> None:
        """Start to deliver what waits.

        Args:
            folder: The folder of the component's results.
            settings: Who is told.
        """
        self._settings, self._outbox = settings, Outbox(folder / OUTBOX)
        self._changed, self._is_closing = threading.Event(), threading.Event()
        self._warned: set[str] = set()
        self._thread = threading.Thread(target=self._deliver_all, name="pixal-notifications", daemon=True)
        with self._tolerating("read"):
            self._outbox.release()
        self._thread.start()

    def verdict(self, part: PartResult, component: str, batch: BatchOrigin, model: ModelOrigin) -> None:
        """Send a verdict, if the settings select it. Raises no errors: verdicts do not depend on it."""
        if self._settings.verdicts == "failures" and part.verdict == "pass":
            return
        content = message_of(part, component, batch, model)
        message_id = uuid.uuid4().hex
        with self._tolerating("kept"):
            self._outbox.add(message_id, json.dumps(content | {"id": message_id}, allow_nan=False))
            self._changed.set()

    def close(self, wait: float = _LAST_WAIT) -> None:
        """Deliver what can be delivered in a few seconds, and say what waits for a later run."""
        end = time.monotonic() + wait
        with self._tolerating("read"):
            while self._outbox.next_due()[0] is not None and time.monotonic() < end and self._thread.is_alive():
                self._changed.set()
                time.sleep(0.02)
        self._is_closing.set()
        self._changed.set()
        self._thread.join(max(0.0, end - time.monotonic()))
        with self._tolerating("read"):
            if left := self._outbox.count():
                _log.warning(
                    "notifications not delivered yet: %d; they are kept, and the next validate or detect tries again",
                    left,
                )

    def _deliver_all(self) -> None:
        while not self._is_closing.is_set():
            self._changed.clear()
            wait = 1.0
            with self._tolerating("delivered"):
                wait = self._deliver_next()
            if wait > 0:
                self._changed.wait(min(wait, 60.0))

    def _deliver_next(self) -> float:
        """Deliver the next message. Return the seconds until there is something to do."""
        message, wait = self._outbox.next_due()
        if message is None:
            return wait
        attempt = deliver(message, self._settings)
        if not attempt.problem:
            self._outbox.delivered(message)
            return 0.0
        pause = self._outbox.failed(message, attempt.problem, hold_all=attempt.hold_all)
        self._warn(f"{attempt.problem}; trying again, first in {pause:.0f} s")
        return 0.0

    @contextmanager
    def _tolerating(self, what: str) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error, PixalError) as error:
            self._warn(f"cannot be {what}: {error}")

    def _warn(self, text: str) -> None:
        """Log a warning once."""
        kind = text.split(";")[0]
        if kind not in self._warned:
            self._warned.add(kind)
            _log.warning("notifications: %s", text)


@contextmanager
def notifying(folder: Path, settings: Notify) -> Iterator[Notifier | None]:
    """A notifier while the block runs; None if nobody is to be told."""
    if not settings.is_on:
        yield None
        return
    notifier = Notifier(folder, settings)
    try:
        yield notifier
    finally:
        notifier.close()
