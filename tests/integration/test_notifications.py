"""Messages about verdicts: signed, in order, kept while the receiver is down, and never in the way of a verdict."""

from __future__ import annotations

import hashlib
import hmac
import json
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from helpers import lot_config
from jsonschema import Draft202012Validator

import pixal
from pixal.errors import ConfigError
from pixal.notifications import notifier as notifier_module
from pixal.notifications import outbox as outbox_module
from pixal.notifications.notifier import Notifier
from pixal.notifications.outbox import Outbox
from pixal.notifications.settings import Notify
from pixal.report.document import BatchOrigin, ModelOrigin, PartResult

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/notification.schema.json").read_text("utf-8"))
BATCH = BatchOrigin(name="lot", source="/x", started="2026-01-01T00:00:00+00:00")
MODEL = ModelOrigin(family="gaussian", name="m", trained="2026-01-01T00:00:00+00:00", good_images=3)


class Receiver:
    """A real web server on the loopback that can be slow, refuse, or be down."""

    def __init__(self) -> None:
        self.messages: list[tuple[dict[str, str], bytes]] = []
        self.status, self.delay, self.port = 200, 0.0, 0
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> str:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                time.sleep(receiver.delay)
                if receiver.status == 200:
                    receiver.messages.append((dict(self.headers), body))
                self.send_response(receiver.status)
                if receiver.status == 302:
                    self.send_header("Location", f"http://127.0.0.1:{receiver.port}/elsewhere")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self.port}/hook"

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        self._server = None


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "_FIRST_PAUSE", 0.05)
    monkeypatch.setattr(notifier_module, "_LAST_WAIT", 1.0)


def part(image: str, verdict: str = "fail") -> PartResult:
    return PartResult(
        type="front",
        image=image,
        source=f"/x/{image}",
        score=2.0,
        p_value=0.01,
        threshold=1.0,
        verdict=verdict,  # type: ignore[arg-type]
        reason="",
        overlay=None,
        width=4,
        height=3,
    )


def wait_for(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    assert condition()


def names(receiver: Receiver) -> list[str]:
    return [json.loads(body)["image"] for _, body in receiver.messages]


def test_a_batch_is_told_to_a_webhook_and_signed(
    validated_lot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    shutil.copytree(validated_lot, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("PIXAL_WEBHOOK_KEY", "secret")
    config = lot_config(f"validation.notify.webhook={receiver.start()}", "validation.notify.verdicts=all")
    batch = pixal.validate("r/production/Part", batch="lot2", config=config, force=True, quiet=True)
    assert sorted(names(receiver)) == sorted(part.image for part in batch.parts)
    verdicts = {part.image: part for part in batch.parts}
    for headers, body in receiver.messages:
        content = json.loads(body)
        Draft202012Validator(SCHEMA).validate(content)
        assert content["verdict"] == verdicts[content["image"]].verdict
        assert content["batch"] == "lot2"
        expected = hmac.new(b"secret", headers["X-Pixal-Timestamp"].encode() + b"." + body, hashlib.sha256).hexdigest()
        assert headers["X-Pixal-Signature"] == f"sha256={expected}"
        assert headers["X-Pixal-Id"] == content["id"]
    assert Outbox(Path("validate/Part/notifications.db")).count() == 0
    receiver.messages.clear()
    pixal.validate("r/production/Part", batch="lot2", config=config, quiet=True)
    assert not receiver.messages  # no verdict is new


def test_detect_tells_verdicts_that_have_changed(
    validated_lot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    shutil.copytree(validated_lot, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    told = (f"validation.notify.webhook={receiver.start()}", "validation.notify.verdicts=all")
    pixal.detect(config=lot_config(*told), quiet=True)
    assert not names(receiver)  # the verdicts are those that validate gave
    low = "validation.threshold={method: fixed, value: 0.01}"
    batch = pixal.detect(config=lot_config(*told, low), quiet=True)
    contents = [json.loads(body) for _, body in receiver.messages]
    assert [content["image"] for content in contents] == [part.image for part in batch.parts]
    assert {content["verdict"] for content in contents} == {"fail"}
    assert {content["batch"] for content in contents} == {"lot1"}
    assert Outbox(Path("validate/Part/notifications.db")).count() == 0


def test_a_receiver_that_is_down_gets_everything_once_when_it_comes_back(tmp_path: Path, receiver: Receiver) -> None:
    address = receiver.start()
    receiver.stop()
    settings = Notify(webhook=address, timeout=1.0)
    first = Notifier(tmp_path, settings)
    for number in range(5):
        first.verdict(part(f"{number}.png"), "Part", BATCH, MODEL)
    first.verdict(part("good.png", "pass"), "Part", BATCH, MODEL)
    first.close(wait=0.3)
    assert Outbox(tmp_path / "notifications.db").count() == 5  # kept in the file, for the next process
    second = Notifier(tmp_path, settings)
    time.sleep(0.2)
    receiver.start()
    wait_for(lambda: len(receiver.messages) == 5)
    second.close()
    assert sorted(names(receiver)) == [f"{number}.png" for number in range(5)]
    assert Outbox(tmp_path / "notifications.db").count() == 0


def test_a_slow_receiver_delays_no_verdict(tmp_path: Path, receiver: Receiver) -> None:
    receiver.delay = 0.7
    notifier = Notifier(tmp_path, Notify(webhook=receiver.start()))
    for number in range(3):
        notifier.verdict(part(f"{number}.png"), "Part", BATCH, MODEL)
    assert len(receiver.messages) < 3  # the verdicts did not wait for the receiver
    wait_for(lambda: len(receiver.messages) == 3)
    notifier.close()


@pytest.mark.parametrize("status", [500, 404, 302])
def test_a_refused_message_is_tried_again_until_it_is_taken(tmp_path: Path, receiver: Receiver, status: int) -> None:
    receiver.status = status
    notifier = Notifier(tmp_path, Notify(webhook=receiver.start()))
    notifier.verdict(part("a.png"), "Part", BATCH, MODEL)
    time.sleep(0.2)
    assert not receiver.messages
    receiver.status = 200
    wait_for(lambda: names(receiver) == ["a.png"])
    notifier.close()
    assert Outbox(tmp_path / "notifications.db").count() == 0


def test_pauses_double_and_hold_other_messages_only_if_nobody_answers(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "notifications.db")
    for name in ("a", "b", "a"):
        outbox.add(name, "{}")
    assert outbox.count() == 2
    message, _ = outbox.next_due()
    assert message is not None
    pauses = []
    for attempts in range(15):
        pauses.append(outbox.failed(message.__class__(message.number, "a", "{}", attempts), "x", hold_all=False))
    assert pauses[:4] == [0.05, 0.1, 0.2, 0.4]
    assert pauses[-1] == 300
    other, _ = outbox.next_due()
    assert other is not None
    assert other.id == "b"
    outbox.failed(other, "down", hold_all=True)
    assert outbox.next_due()[0] is None


def test_a_command_gets_the_message(tmp_path: Path) -> None:
    script = tmp_path / "tell.py"
    script.write_text(f"import sys; open({str(tmp_path / 'told.json')!r}, 'ab').write(sys.stdin.buffer.read())")
    notifier = Notifier(tmp_path, Notify(command=f"{sys.executable} {script}"))
    notifier.verdict(part("a.png"), "Part", BATCH, MODEL)
    notifier.close(wait=5)
    assert json.loads((tmp_path / "told.json").read_bytes())["image"] == "a.png"


def test_bad_settings_are_named() -> None:
    for setting in (
        "webhook=ftp://x",
        "webhook=http://user:word@x/",
        "command='a",
        "verdicts=some",
    ):
        with pytest.raises(ConfigError, match="notify"):
            lot_config(f"validation.notify.{setting}")
