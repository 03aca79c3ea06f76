"""``pixal serve`` in headless Chromium: parts reviewed with keys alone, by two people, over a killed server."""

from __future__ import annotations

import csv
import io
import signal
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from browsers import axe_violations, launch, needs_chromium, sync_api
from served import command, free_port, running, write_results, write_settings

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytestmark = [needs_chromium, pytest.mark.slow]

PARTS = 200
BATCH = "/c/Part/b/lot1"
SHOWN = ".stage:not(.loading)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        started = launch(playwright)
        yield started
        started.close()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of six parts with two views each."""
    config = write_settings(tmp_path_factory.mktemp("shared"))
    write_results(config, 6, types=("back", "front"))
    with running(config) as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def opened(browser: Any, address: str, *, expect: str = "", name: str = "Ann", **options: Any) -> Iterator[Any]:
    """Open a page in a browser of its own. Any message of the console or failed request that is not expected fails."""
    context = browser.new_context(viewport={"width": 1440, "height": 900}, accept_downloads=True, **options)
    context.set_default_timeout(40000)  # the machine may be busy
    base = "/".join(address.split("/")[:3])
    cookie = {"name": f"pixal_inspector_{base.rpartition(':')[2]}", "value": name, "url": base}
    context.add_cookies([cookie] if name else [])
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: problems.append(request.url) if not request.url.startswith(base) else None)
    page.goto(address)
    yield page
    context.close()
    assert [problem for problem in problems if not expect or expect not in problem] == []


def exported(address: str) -> list[dict[str, str]]:
    with urllib.request.urlopen(f"{address}{BATCH}/marks.csv") as answer:
        return list(csv.DictReader(io.StringIO(answer.read().decode("utf-8-sig"))))


def at(page: Any, number: int) -> None:
    page.locator("#position", has_text=f"{number} of").wait_for()
    page.wait_for_selector(SHOWN)


def marks(page: Any) -> str:
    return str(page.locator("#mark-list").inner_text())


def test_two_hundred_parts_are_reviewed_with_keys_alone_over_a_killed_server(browser: Any, tmp_path: Path) -> None:
    write_results(write_settings(tmp_path), PARTS + 1)  # the last one could not be processed
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    fails, half = PARTS // 3 + 1, PARTS // 2
    with command(tmp_path, port) as process, opened(browser, address + BATCH, expect="net::ERR_") as page:
        page.keyboard.press("Enter")  # review these parts
        at(page, 1)
        for number in range(1, half + 1):  # faster than the pictures come: each key waits for its part
            page.keyboard.press("f" if number % 10 == 1 and number <= fails else "c")
        at(page, half + 1)
        page.locator("#progress", has_text=f"{half} of {PARTS} reviewed, {PARTS - half} left").wait_for()
        process.send_signal(signal.SIGKILL)
        process.wait()
        page.keyboard.press("c")
        page.locator("#waiting", has_text="1 mark is not stored yet").wait_for()
        page.keyboard.press("k")
        with command(tmp_path, port) as process:
            page.locator("#progress", has_text=f"{half + 1} of {PARTS} reviewed").wait_for()
            assert not page.locator("#waiting").is_visible()
            page.keyboard.press("n")
            for _ in range(half + 2, PARTS + 1):
                page.keyboard.press("c")
            page.locator("#progress", has_text=f"all {PARTS} reviewed").wait_for()
            page.keyboard.press("Escape")
            page.locator("[data-count=left]", has_text="0").wait_for()
            rows = exported(address)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=20)
    assert len({row["image"] for row in rows}) == len(rows) == PARTS
    assert {row["made_by"] for row in rows} == {"Ann"}
    assert sum(row["mark"] == "false alarm" for row in rows) == -(-fails // 10)
    assert process.returncode == 130
    assert errors == "pixal: serve stopped; all marks are stored; the same command starts it again\n"


def test_missed_comment_undo_and_who_with_keys_and_pointer(browser: Any, shared: str) -> None:
    with opened(browser, f"{shared}{BATCH}?order=name", expect="409") as page:
        page.keyboard.press("Enter")
        at(page, 1)
        page.keyboard.press("m")
        for key in ("ArrowRight", "ArrowRight", "ArrowDown", "Shift+ArrowRight", "Shift+ArrowUp"):
            page.keyboard.press(key)
        page.keyboard.press("Enter")
        page.locator("#mark-list", has_text="missed at x").locator("text=Ann").wait_for()
        page.keyboard.press("m")
        page.keyboard.press("Escape")
        page.keyboard.press("m")
        stage = page.locator(".stage").bounding_box()
        page.mouse.move(stage["x"] + 300, stage["y"] + 300)
        page.mouse.down()
        page.mouse.move(stage["x"] + 400, stage["y"] + 380, steps=4)
        page.mouse.up()
        page.locator("#mark-list li >> nth=1").wait_for()
        page.keyboard.press("t")
        page.keyboard.type("a scratch, c and f are typed")
        page.keyboard.press("Enter")
        page.locator("#mark-list li", has_text="a scratch, c and f").locator("text=Ann").wait_for()
        assert page.locator(".missed .stored").count() == 2
        stored = exported(shared)
        assert [row["mark"] for row in stored] == ["missed", "missed", "comment"]
        zoom = 640 / page.locator("#photo").bounding_box()["width"]
        assert float(stored[1]["width"]) == pytest.approx(100 * zoom, abs=1.5)
        assert float(stored[1]["height"]) == pytest.approx(80 * zoom, abs=1.5)
        page.reload()
        at(page, 1)
        for left in (2, 1, 0):
            page.keyboard.press("u")
            page.wait_for_selector(f"#mark-list:not(:has(li:nth-child({left + 1})))", state="attached")
        assert exported(shared) == []
        page.keyboard.press("u")
        page.locator("#problem", has_text="no mark in this batch").wait_for()


def test_two_people_see_each_others_marks_and_lose_none(browser: Any, shared: str) -> None:
    address = f"{shared}{BATCH}/part?order=name&only=front"
    with opened(browser, address) as first, opened(browser, address, name="Ben") as second:
        for page in (first, second):
            at(page, 1)
            page.uncheck("#advance")
        first.keyboard.press("c")
        second.keyboard.press("f")
        for page in (first, second):
            page.locator("#mark-list", has_text="Ann").locator("text=Ben").wait_for()
        assert {(row["made_by"], row["mark"]) for row in exported(shared)} == {
            ("Ann", "confirmed"),
            ("Ben", "false alarm"),
        }
        for page in (first, second):
            page.keyboard.press("u")
        for page in (first, second):
            page.wait_for_selector("#mark-list:not(:has(li))", state="attached")


def test_other_views_of_a_part_and_the_keys_of_the_view(browser: Any, shared: str) -> None:
    with opened(browser, f"{shared}{BATCH}/part?order=name&type=front&image=0003.png") as page:
        at(page, 10)
        assert page.locator("#views a").all_inner_texts()[0].startswith("back")
        page.keyboard.press("o")
        at(page, 4)
        assert "type=back" in page.url
        page.keyboard.press("v")
        assert page.locator(".stage").get_attribute("data-mode") == "side"
        page.keyboard.press("r")
        assert page.locator(".stage").get_attribute("data-mode") == "reference"
        page.keyboard.press("?")
        assert page.locator("#help").is_visible()
        page.keyboard.press("Escape")
        assert page.locator("#help").is_hidden()
        assert "/part" in page.url
        outlines = page.locator(".outlines")
        before = float(outlines.evaluate("node => getComputedStyle(node).opacity"))
        page.keyboard.press("[")
        assert float(outlines.evaluate("node => getComputedStyle(node).opacity")) == pytest.approx(before - 0.1)
        assert page.locator("#tint").get_attribute("src") is None
        page.locator("#tint-opacity").fill("50")
        page.wait_for_selector('#tint[src*="/tint?"]', state="attached")
        assert float(page.locator("#tint").evaluate("node => getComputedStyle(node).opacity")) == 0.5
        page.locator(".stage").focus()
        page.keyboard.press("f")  # 0003 failed
        page.keyboard.press("k")
        page.locator("#marks", has_text="false alarm").wait_for()
        page.keyboard.press("u")
        page.locator("#marks", has_text="not reviewed").wait_for()
        page.keyboard.press("j")
        page.keyboard.press("f")  # 0004 passed
        page.locator("#problem", has_text="passed, so it cannot be a false alarm").wait_for()


def test_parts_that_are_added_appear_without_a_reload(browser: Any, tmp_path: Path) -> None:
    config = write_settings(tmp_path)
    write_results(config, 3)
    with running(config) as port, opened(browser, f"http://127.0.0.1:{port}{BATCH}/part?order=name") as page:
        page.locator("#position", has_text="1 of 3").wait_for()
        time.sleep(1.2)  # the first event is that of the page as it was loaded
        write_results(config, 6)
        page.locator("#position", has_text="1 of 6").wait_for()
        for number in range(1, 7):
            at(page, number)
            page.keyboard.press("ArrowRight")


def test_marks_go_out_and_come_in_as_a_table(browser: Any, shared: str, tmp_path: Path) -> None:
    with opened(browser, f"{shared}{BATCH}/part?order=name&type=front&image=0000.png", expect="409") as page:
        page.wait_for_selector(SHOWN)
        page.keyboard.press("f")
        page.locator("#progress", has_text="1 of").wait_for()
        page.keyboard.press("Escape")
        with page.expect_download() as download:
            page.get_by_text("Save marks as CSV").click()
        table = tmp_path / "marks.csv"
        download.value.save_as(table)
        page.set_input_files("#marks-file", table)
        page.locator("#imported", has_text="0 stored, 1 known before").wait_for()
        row = next(csv.DictReader(io.StringIO(table.read_text("utf-8-sig"))))
        report = (
            "component,created,type,image,source,verdict,score,threshold,mark\nPart,,back,0001.png,,,1.00001,2,missed\n"
        )
        assert row["mark"] == "false alarm"
        table.write_text(report)
        page.set_input_files("#marks-file", table)
        page.locator("#imported", has_text="1 stored").wait_for()
        page.locator("[data-count=reviewed]", has_text="2").wait_for()
        table.write_text("no,marks\n1,2\n")
        page.set_input_files("#marks-file", table)
        page.locator("#problem", has_text="holds no marks").wait_for()


@pytest.mark.parametrize("path", ["/c/Part", BATCH, f"{BATCH}/part", "/c/Part/figures"])
def test_axe_finds_nothing_and_nothing_is_wider_than_the_page(browser: Any, shared: str, path: str) -> None:
    with opened(browser, shared + path) as page:
        for scheme, width in (("light", 1440), ("dark", 1024), ("light", 390)):
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": 844})
            if path.endswith("/part"):
                page.wait_for_selector(SHOWN)
            assert axe_violations(page) == []
            assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_controls_of_a_part_are_in_one_line_and_the_verbs_on_the_first_screen(browser: Any, shared: str) -> None:
    with opened(browser, f"{shared}{BATCH}/part") as page:
        page.wait_for_selector(SHOWN)
        boxes = [page.locator(name).bounding_box() for name in ("[data-zoom=fit]", ".modes")]
        centres = [box["y"] + box["height"] / 2 for box in boxes]
        assert abs(centres[0] - centres[1]) < 8
        page.set_viewport_size({"width": 390, "height": 844})
        last = page.locator("[data-verb=undo]").bounding_box()
        assert last["y"] + last["height"] <= 844


def test_a_zoomed_part_shows_the_photograph_itself(browser: Any, tmp_path: Path) -> None:
    config = write_settings(tmp_path)
    write_results(config, 2, scale=3)
    with running(config) as port, opened(browser, f"http://127.0.0.1:{port}{BATCH}/part") as page:
        page.wait_for_selector(SHOWN)
        assert page.locator("#photo").evaluate("node => node.naturalWidth") == 1280
        page.keyboard.press("1")
        page.wait_for_selector('#photo[src*="/full?"]')


def test_the_name_is_needed_where_other_machines_may_ask(browser: Any, tmp_path: Path) -> None:
    config = write_settings(tmp_path)
    write_results(config, 3)
    with running(config, token="t") as port:
        address = f"http://127.0.0.1:{port}{BATCH}/part?order=name&token=t"
        with opened(browser, address, expect="409", name="") as page:
            page.wait_for_selector(SHOWN)
            assert "token" not in page.url
            page.keyboard.press("c")
            page.locator("#problem", has_text="Say first who you are").wait_for()
            page.fill("#inspector", "Zoë, <b>")
            page.keyboard.press("Enter")
            page.wait_for_selector("#problem", state="hidden")
            page.locator(".stage").focus()
            page.keyboard.press("k")
            at(page, 1)
            page.keyboard.press("c")
            page.keyboard.press("k")
            page.locator("#mark-list", has_text="Zoë, <b>").wait_for()
