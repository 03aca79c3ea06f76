"""Requests to ``pixal serve`` that must not be answered: of other pages, from other hosts, and for other files."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from served import command, free_port, running, write_results, write_settings
from sqlalchemy import select
from tries import tries

from pixal.database.schema import MARKS
from pixal.database.store import Store
from pixal.io import ownership
from pixal.server.security import Access, is_loopback
from pixal.tasks.photographs.settings import PhotographConfig

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

BATCH = "/c/Part/b/lot1"
FILES = "/c/Part/files/results"
MARK = {"type": "front", "image": "0000.png", "mark": "confirmed"}
SECRET = "the content of another file"


@dataclass
class Client:
    """Sends requests as they are, without making paths shorter."""

    port: int
    csrf: str = ""

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        data = None if body is None else json.dumps(body).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, data, named)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, content

    def post(self, path: str, body: Any, **headers: str) -> int:
        """Ask as a page of the server does; ``headers`` change that."""
        cookie = f"pixal_csrf_{self.port}={self.csrf}"
        own = {"content_type": "application/json", "cookie": cookie, "x_pixal_csrf": self.csrf}
        own |= {"origin": f"http://127.0.0.1:{self.port}", "sec_fetch_site": "same-origin"}
        return self.ask("POST", path, body, **{k: v for k, v in (own | headers).items() if v})[0]

    def stored(self) -> int:
        return len(self.ask("GET", f"{BATCH}/marks.csv")[2].splitlines()) - 1


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> PhotographConfig:
    folder = tmp_path_factory.mktemp("served")
    settings = write_settings(folder)
    write_results(settings, 4)
    root = folder / "validate/Part"
    (folder / "secret.csv").write_text(SECRET)
    (folder / "validate/Part_other").mkdir()
    (folder / "validate/Part_other/table.csv").write_text(SECRET)
    (root / "users.csv").write_text(SECRET)  # in the folder, but not written by PIXAL
    for name, content in (("results.csv", "type,image\n"), ("front/figures/good.png", "x"), ("notes.txt", SECRET)):
        ownership.note(root / name)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    for name, target in (("link.csv", folder / "secret.csv"), ("linked", folder)):
        ownership.note(root / name)
        (root / name).symlink_to(target)
    return settings


@pytest.fixture(scope="module")
def client(config: PhotographConfig) -> Iterator[Client]:
    with running(config) as port:
        client = Client(port)
        cookie = client.ask("GET", BATCH)[1]["set-cookie"]
        client.csrf = cookie.split("=", 1)[1].split(";")[0]
        yield client


def test_files_that_pixal_wrote_are_shown(client: Client) -> None:
    status, headers, content = client.ask("GET", f"{FILES}/results.csv")
    assert (status, content) == (200, b"type,image\n")
    assert "default-src 'none'" in headers["content-security-policy"]
    assert client.ask("GET", f"{FILES}/front/figures/good.png")[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "../../secret.csv",
        "%2e%2e/%2e%2e/secret.csv",
        "..%2f..%2fsecret.csv",
        "..%5c..%5csecret.csv",
        "%252e%252e/%252e%252e/secret.csv",
        "front/../../../secret.csv",
        "../Part_other/table.csv",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "link.csv",
        "linked/secret.csv",
        "users.csv",
        "notes.txt",
        ".pixal-files.log",
        "results.csv%00.png",
        "batch.yaml/../users.csv",
        "",
        ".",
        "front",
        "C:/secret.csv",
        "a" * 5000 + ".csv",
    ],
)
def test_no_path_leaves_the_folder_or_shows_what_pixal_did_not_write(client: Client, path: str) -> None:
    for address in (f"{FILES}/{path}", f"/c/Part/figure?file={quote('results/' + path)}", f"/inspections/{path}"):
        status, _, content = client.ask("GET", address)
        assert status in (400, 404), address
        assert SECRET.encode() not in content


@pytest.mark.parametrize("image", ["../../secret.csv", "/etc/passwd", "0000.png\0", "..\\secret"])
def test_a_photograph_is_looked_up_and_never_a_path(client: Client, image: str) -> None:
    for kind in ("photo", "full", "tint", "reference", "thumbnail"):
        assert client.ask("GET", f"{BATCH}/picture/{kind}?type=front&image={quote(image)}")[0] == 404
    assert client.ask("GET", f"{BATCH}/picture/full?type=../../..&image=0000.png")[0] == 404


def test_a_photograph_that_was_replaced_is_not_shown(config: PhotographConfig, client: Client) -> None:
    path = f"{BATCH}/picture/full?type=front&image=0001.png"
    assert config.source is not None
    photograph = config.source / "photographs/front/0001.png"
    data = photograph.read_bytes()
    assert client.ask("GET", path)[2] == data
    photograph.unlink()
    photograph.symlink_to(config.source / "secret.csv")
    assert client.ask("GET", path)[::2] == (204, b"")
    photograph.unlink()
    photograph.write_bytes(data)


def test_a_page_of_the_server_can_write(client: Client) -> None:
    before = client.stored()
    assert client.post(f"{BATCH}/marks", MARK) == 200
    assert client.stored() == before + 1
    assert client.post(f"{BATCH}/marks/undo", {}) == 200
    assert client.stored() == before


@pytest.mark.parametrize(
    "headers",
    [
        {"x_pixal_csrf": ""},
        {"x_pixal_csrf": "wrong"},
        {"cookie": ""},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "https://127.0.0.1"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "navigate"},
        {"host": "evil.example"},
        {"host": "evil.example:80", "origin": "http://evil.example:80"},
        {"host": "127.0.0.1.evil.example"},
    ],
    ids=str,
)
@pytest.mark.parametrize("path", ["/marks", "/marks/undo", "/marks/withdraw", "/marks.csv"])
def test_other_pages_cannot_write(client: Client, path: str, headers: dict[str, str]) -> None:
    before = client.stored()
    assert client.post(BATCH + path, MARK, **headers) in (403, 421)
    assert client.stored() == before


def test_other_hosts_and_other_pages_read_nothing(client: Client) -> None:
    for address in ("/", BATCH, f"{BATCH}/order.json", f"{FILES}/results.csv"):
        assert client.ask("GET", address, host=f"evil.example:{client.port}")[0] == 421
        assert client.ask("GET", address, sec_fetch_site="cross-site", sec_fetch_mode="no-cors")[0] == 403
    headers = client.ask("GET", BATCH)[1]
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["x-frame-options"] == "DENY"
    assert "'unsafe" not in headers["content-security-policy"]


@pytest.mark.parametrize(
    "body",
    [
        None,
        {},
        [],
        {**MARK, "mark": "nonsense"},
        {**MARK, "box": [1, 2, 3]},
        {**MARK, "box": [-1, 2, 3, 4]},
        {**MARK, "box": [1, 2, 3, 10**12]},
        {**MARK, "comment": "x" * 5000},
        {**MARK, "more": 1},
        {**MARK, "image": "gone.png"},
        {**MARK, "mark": "false alarm", "image": "0001.png"},
    ],
    ids=str,
)
def test_a_mark_that_cannot_be_is_refused_in_one_line(client: Client, body: Any) -> None:
    before = client.stored()
    assert client.post(f"{BATCH}/marks", body) in (404, 409, 411, 422)
    assert client.stored() == before


def test_markup_in_names_stays_text(tmp_path: Path) -> None:
    settings = write_settings(tmp_path)
    name = "<script>alert(1)</script>" if os.name != "nt" else "&lt;b"
    write_results(settings, 2, name="lot&'\"x", types=(name.replace("/", "_"),))
    with running(settings) as port:
        client = Client(port)
        for address in ("/c/Part", f"/c/Part/b/{quote(chr(108) + 'ot&' + chr(39) + chr(34) + 'x')}"):
            status, _, content = client.ask("GET", address)
            assert status == 200
            assert b"<script>alert" not in content


def test_with_a_token_nothing_is_shown_without_it(config: PhotographConfig) -> None:
    with running(config, token="secret-token") as port:
        client = Client(port)
        for headers in ({}, {"cookie": f"pixal_token_{port}=wrong"}, {"cookie": "pixal_token=secret-token"}):
            status, _, content = client.ask("GET", f"{BATCH}/order.json", **headers)
            assert (status, b"0000.png" in content) == (401, False)
        assert client.ask("GET", "/?token=wrong")[0] == 401
        assert client.post(f"{BATCH}/marks?token=secret-token", MARK) == 401
        status, answer, _ = client.ask("GET", f"{BATCH}?verdict=fail&token=secret-token")
        assert (status, answer["location"]) == (303, f"{BATCH}?verdict=fail")
        assert "HttpOnly" in answer["set-cookie"]
        cookie = answer["set-cookie"].split(";")[0]
        assert client.ask("GET", f"{BATCH}/order.json", cookie=cookie)[0] == 200
        assert client.ask("GET", "//evil.example/?token=secret-token")[1]["location"].startswith("/evil")


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
@pytest.mark.parametrize("seed", range(tries(1, 20)))
def test_a_server_that_is_killed_loses_no_mark_that_it_acknowledged(tmp_path: Path, seed: int) -> None:
    write_results(write_settings(tmp_path), 400)
    port, chance = free_port(), random.Random(seed)
    acknowledged: list[str] = []
    with command(tmp_path, port) as process:
        client = Client(port)
        client.csrf = client.ask("GET", BATCH)[1]["set-cookie"].split("=", 1)[1].split(";")[0]
        kill = threading.Timer(chance.uniform(0, 2), process.kill)
        try:
            for number in itertools.count():  # a fast server goes round several times
                image = f"{number % 400:04d}.png"
                if client.post(f"{BATCH}/marks", {**MARK, "image": image}) == 200:
                    acknowledged.append(image)
                if number == 0:
                    kill.start()
        except (OSError, http.client.HTTPException):  # the server was killed
            pass
        process.wait(10)
    with Store(tmp_path / "validate/Part/history.db").reading() as connection:
        stored = [row.image for row in connection.execute(select(MARKS).order_by(MARKS.c.id))]
    assert acknowledged
    assert stored[: len(acknowledged)] == acknowledged
    assert len(stored) <= len(acknowledged) + 1  # the last one may be stored without an answer


def test_only_loopback_needs_no_token() -> None:
    for host in ("127.0.0.1", "localhost", "::1", "127.8.9.1"):
        assert is_loopback(host)
        assert not Access.to(host, 1).token
    for host in ("0.0.0.0", "::", "192.168.0.7", "myhost", "localhost.evil.example"):
        assert not is_loopback(host)
        assert len(Access.to(host, 1).token) >= 24
