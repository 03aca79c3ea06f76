"""The report in headless Chromium: sorting, filters, zoom, marks, and no request to another machine."""

from __future__ import annotations

import csv
import io
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsers import axe_violations, launch, needs_chromium, sync_api
from numpy.typing import NDArray

from pixal.report import ResultsDocument, write_report
from pixal.report.document import PartResult

pytestmark = needs_chromium

SCORES = {
    "a.jpg": 9.0,
    "b.jpg": 0.7,
    "=c.jpg": 2.2,
    "d.jpg": 1.8,
    "e.jpg": None,
    "f10.jpg": 1.0,
    "f9.jpg": 1.1,
}
WIDTH, HEIGHT = 320, 180
REGION: dict[str, Any] = {
    "x": 200,
    "y": 40,
    "width": 32,
    "height": 20,
    "area_px": 500,
    "peak": 9.0,
    "channel": "LAB_a",
    "reference": (90, 20, 16, 10),
}


DRIFT: dict[str, Any] = {
    **{"type": "front", "quantity": "brightness", "training": 0.4, "batch": 0.34, "p_value": 3e-9, "test": "rank"},
    **{"message": "Light: 15% darker (mean level 87 of 255, in training 102)", "advice": "Set lamp and exposure."},
}


def results() -> ResultsDocument:
    parts: list[dict[str, Any]] = []
    for name, score in SCORES.items():
        verdict = "error" if score is None else "fail" if score > 2 else "pass"
        parts.append(
            {
                "type": "back" if name.startswith("f") else "front",
                "image": name,
                "source": f"batch/{name}",
                "score": score,
                "p_value": None if score is None else 0.01 if score > 2 else 0.5,
                "threshold": None if score is None else 2.0,
                "verdict": verdict,
                "reason": "cannot be aligned" if score is None else "",
                "overlay": None,
                "width": WIDTH,
                "height": HEIGHT,
                "regions": [REGION, {**REGION, "x": 20, "peak": 3.0}] if name == "a.jpg" else [],
                "truth": None if score is None else {"label": int(score > 1.5), "kind": "scratch"},
            }
        )
    kind = {"threshold": 2.0, "method": "tail", "false_alarm_rate": 0.01, "training_scores": [0.6, 0.9, 1.4]}
    kind |= {"failed": 2, "errors": 1, "parts": 5}
    model = {"family": "autoencoder", "name": "dense", "trained": "2025-11-01T08:00:00", "good_images": 12}
    content: dict[str, Any] = {
        "schema_version": 1,
        "component": "FLEX",
        "created": "2025-11-21T09:42:10Z",
        "pixal_version": "0.1",
        "model": model,
        "drift": {"level": 0.01, "findings": [DRIFT]},
        "notes": ["a note"],
        "types": {"front": kind, "back": {**kind, "parts": 2, "failed": 0, "errors": 0}},
        "metrics": {"types": {}, "overall": {"image_auroc": 0.98}},
        "parts": parts,
    }
    return ResultsDocument.model_validate(content)


def images_of(part: PartResult) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | None:
    if part.verdict == "error":
        return None
    photo = np.full((HEIGHT, WIDTH, 3), (40, 160, 60), np.uint8)
    photo[40:60, 200:232] = (250, 20, 20)
    return photo, 255 - photo


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        started = launch(playwright)
        yield started
        started.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, results(), images_of)
    return path


@pytest.fixture
def page(browser: Any, report: Path) -> Iterator[Any]:
    with opened(browser, report) as opened_page:
        yield opened_page


@contextmanager
def opened(browser: Any, path: Path) -> Iterator[Any]:
    """Open a page. A console message, an error or a request to another machine fails the test."""
    context = browser.new_context(offline=True, viewport={"width": 1400, "height": 900}, accept_downloads=True)
    context.set_default_timeout(8000)
    opened_page = context.new_page()
    problems: list[str] = []
    opened_page.on("console", lambda message: problems.append(f"{message.type}: {message.text}"))
    opened_page.on("pageerror", lambda error: problems.append(str(error)))
    opened_page.on("requestfailed", lambda request: problems.append(f"failed: {request.url[:80]}"))
    opened_page.on("request", lambda request: problems.append(request.url) if request.url.startswith("http") else None)
    opened_page.goto(path.as_uri())
    yield opened_page
    context.close()
    assert problems == []


def names(page: Any) -> list[str]:
    texts: list[str] = page.locator("#parts tbody tr:not([hidden]) .open").all_text_contents()
    return texts


def row(page: Any, name: str) -> Any:
    return page.locator("#parts tbody tr").filter(has=page.get_by_role("button", name=name, exact=True))


def zoom(page: Any) -> float:
    matrix = page.evaluate("getComputedStyle(document.querySelector('.photo .world')).transform")
    return float(re.match(r"matrix\(([^,]+)", matrix)[1])  # type: ignore[index]


def pixel(page: Any) -> list[int]:
    return [int(digits) for digits in re.findall(r"[xy] (\d+)", page.locator("#readout").inner_text())]


def open_first(page: Any) -> None:
    page.locator("#parts .open").first.click()
    page.wait_for_function("document.querySelector('#overlay').naturalWidth === 320")


def test_the_worst_part_comes_first_and_every_column_sorts(page: Any) -> None:
    assert names(page) == ["a.jpg", "=c.jpg", "d.jpg", "f9.jpg", "f10.jpg", "b.jpg", "e.jpg"]
    page.locator("[data-sort=image]").click()
    ascending = names(page)
    assert ascending.index("f9.jpg") < ascending.index("f10.jpg")  # numbers in names are compared as numbers
    assert page.locator("th.c-image").get_attribute("aria-sort") == "ascending"
    page.locator("[data-sort=image]").click()
    assert names(page) == ascending[::-1]
    page.locator("[data-sort=score]").click()
    page.locator("[data-sort=score]").click()
    assert names(page) == ["b.jpg", "f10.jpg", "f9.jpg", "d.jpg", "=c.jpg", "a.jpg", "e.jpg"]
    for key in ("type", "verdict", "p_value", "count", "largest", "truth", "mark"):
        page.locator(f"[data-sort={key}]").click()
        assert page.locator("th[aria-sort]").get_attribute("class") == f"c-{key}"
    page.locator("[data-sort=verdict]").click()
    assert sorted(names(page)[:2]) == ["=c.jpg", "a.jpg"]


def test_filters_by_verdict_type_text_and_bar(page: Any) -> None:
    page.locator(".card.fail").click()
    assert names(page) == ["a.jpg", "=c.jpg"]
    page.locator("#verdict").select_option("all")
    page.locator("#type").select_option("back")
    assert names(page) == ["f9.jpg", "f10.jpg"]
    page.locator("#type").select_option("")
    page.keyboard.press("Escape")
    page.locator("body").press("/")
    page.keyboard.type("ALIGNED")
    assert names(page) == ["e.jpg"]
    assert page.locator("#shown").inner_text() == "1 of 7 photographs"
    page.locator("#text").fill("nothing has this")
    page.locator("#clear").click()
    assert len(names(page)) == 7
    page.locator("figure").first.locator("rect[data-low]").last.click()
    assert names(page) == ["a.jpg"]
    page.locator("#range").click()
    assert len(names(page)) == 7


def test_the_distribution_has_a_bar_for_every_part(page: Any) -> None:
    titles = page.locator("figure").first.locator("rect[data-low] title").all_text_contents()
    assert sum(int(title.split()[0]) for title in titles) == 4
    assert page.locator("figure").first.locator("path.threshold").count() == 1


def test_keys_step_through_the_visible_parts(page: Any) -> None:
    page.locator("#parts .open").nth(1).click()
    title = page.locator("#detail-title")
    assert title.inner_text() == "=c.jpg"
    for key, expected in (("j", "d.jpg"), ("ArrowRight", "f9.jpg"), ("k", "d.jpg"), ("ArrowLeft", "=c.jpg")):
        page.keyboard.press(key)
        assert title.inner_text() == expected
    assert page.locator("#detail-position").inner_text().startswith("2 of 7")
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("Escape")
    assert page.locator("#detail").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#detail").is_visible()
    assert page.evaluate("document.activeElement.textContent") == "=c.jpg"
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    assert title.inner_text() == "d.jpg"


def test_a_part_without_an_image_says_so(page: Any) -> None:
    page.locator("#parts .open").last.click()
    assert page.locator(".missing").inner_text() == "There is no image of this part."
    assert page.locator("#detail-reason").inner_text() == "cannot be aligned"
    page.keyboard.press("k")
    assert not page.locator(".missing").is_visible()


def test_the_wheel_zooms_about_the_pointer_and_dragging_pans(page: Any) -> None:
    open_first(page)
    before, box = zoom(page), page.locator(".stage").bounding_box()
    x, y = box["x"] + 0.3 * box["width"], box["y"] + 0.5 * box["height"]
    page.mouse.move(x, y)
    page.wait_for_function("document.querySelector('#readout').textContent.startsWith('x')")
    pixel_before = pixel(page)
    page.mouse.wheel(0, -600)
    page.wait_for_function("document.querySelector('.stage').matches('.close-by')")
    assert zoom(page) > 2 * before
    assert pixel(page) == pytest.approx(pixel_before, abs=1)
    page.mouse.down()
    page.mouse.move(x - 60, y - 30, steps=3)
    page.mouse.up()
    assert pixel(page) == pytest.approx(pixel_before, abs=1)  # the image moved with the pointer
    page.keyboard.press("0")
    assert zoom(page) == pytest.approx(before)


def test_regions_are_drawn_listed_and_zoomed_to(page: Any) -> None:
    open_first(page)
    assert page.locator("#regions tbody tr").count() == 2
    assert "LAB_a" in page.locator("#regions tbody tr").first.inner_text()
    before = zoom(page)
    page.keyboard.press("1")
    assert zoom(page) > before
    drawn = page.locator(".photo .boxes g").first.locator("rect").last.bounding_box()
    stage = page.locator(".stage").bounding_box()
    assert drawn["x"] + drawn["width"] / 2 == pytest.approx(stage["x"] + stage["width"] / 2, abs=2)
    assert drawn["width"] == pytest.approx(REGION["width"] * zoom(page) + 10, abs=4)  # and 5 px to each side
    page.keyboard.press("b")
    assert not page.locator(".photo .boxes rect").first.is_visible()


def test_the_divider_uncovers_the_photograph(page: Any) -> None:
    open_first(page)
    box = page.locator(".stage").bounding_box()
    middle, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(middle, y)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.8 * box["width"], y, steps=3)
    page.mouse.up()
    assert float(page.locator("#cut").input_value()) == pytest.approx(80, abs=1)
    pane = page.evaluate("([x, y]) => document.elementFromPoint(x, y).closest('.pane').className", [middle, y])
    assert pane == "pane photo"
    page.locator("#cut").focus()
    page.keyboard.press("Home")
    assert page.locator("#detail-title").inner_text() == "a.jpg"  # the key moved the divider, not the part
    pane = page.evaluate("([x, y]) => document.elementFromPoint(x, y).closest('.pane').className", [middle, y])
    assert pane == "pane overlay"
    page.get_by_label("Side by side").check()
    photo, overlay = (page.locator(f".pane.{name}").bounding_box() for name in ("photo", "overlay"))
    separate = photo["x"] + photo["width"] <= overlay["x"] or photo["y"] + photo["height"] <= overlay["y"]
    assert separate


def test_what_if_shows_new_verdicts_and_keeps_the_stored_ones(page: Any) -> None:
    page.locator("#factor").focus()
    for _ in range(8):  # 4 ** 0.08 = 1.12: the threshold passes 2.2
        page.keyboard.press("ArrowRight")
    assert "1 would fail instead of 2 (0 more, 1 fewer)" in page.locator("#what-if-text").inner_text()
    assert row(page, "=c.jpg").locator(".would").inner_text() == "would pass"
    assert row(page, "=c.jpg").locator(".chip").inner_text().endswith("fail")
    page.locator("#verdict").select_option("changed")
    assert names(page) == ["=c.jpg"]
    page.locator("#factor").fill("-12")  # 0.85: below 1.8
    assert names(page) == ["d.jpg"]
    assert "Detected: 66.7 % → 100 %" in page.locator("#what-if-text").inner_text()
    page.locator("#factor-reset").click()
    assert names(page) == []
    assert page.locator(".card.fail strong").inner_text() == "2"


def test_marks_are_kept_and_exported_as_safe_csv(page: Any) -> None:
    row(page, "=c.jpg").locator(".mark").click()
    page.locator("#parts .open").nth(2).click()
    page.keyboard.press("m")
    assert page.locator("#detail-mark").inner_text() == "Marked as missed"
    page.keyboard.press("Escape")
    page.wait_for_function("!location.hash")  # reloading shows the table, not the last open part
    page.reload()
    page.locator("#verdict").select_option("marked")
    assert names(page) == ["=c.jpg", "d.jpg"]
    with page.expect_download() as download:
        page.locator("#export").click()
    assert download.value.suggested_filename == "FLEX_marks.csv"
    text = Path(download.value.path()).read_text(encoding="utf-8-sig")
    lines = list(csv.DictReader(io.StringIO(text)))
    assert [(line["image"], line["mark"]) for line in lines] == [
        ("'=c.jpg", "false alarm"),
        ("d.jpg", "missed"),
    ]
    assert [float(line["score"]) for line in lines] == [2.2, 1.8]
    row(page, "d.jpg").locator(".mark").click()
    assert page.locator("#mark-count").inner_text() == "1 marked"


def test_marks_work_without_browser_storage(browser: Any, report: Path) -> None:
    context = browser.new_context()
    context.add_init_script("Object.defineProperty(window, 'localStorage', { get() { throw new Error('blocked') } })")
    page = context.new_page()
    page.goto(report.as_uri())
    row(page, "a.jpg").locator(".mark").click()
    assert page.locator("#mark-count").inner_text() == "1 marked"
    assert page.locator("#marks-note").is_visible()
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_system_and_the_button_with_enough_contrast(page: Any, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    assert (luminance(page, "body", "background-color") < 0.2) == (scheme == "dark")
    drift = (".drift h2", ".drift strong", ".drift li", ".drift .soft")
    for selector in (*drift, ".chip.fail", ".chip.pass", ".chip.error", ".soft", "#parts .c-score", ".card span"):
        text = luminance(page, selector, "color")
        ground = luminance(page, selector, "background-color")
        assert (max(text, ground) + 0.05) / (min(text, ground) + 0.05) >= 4.5, selector  # WCAG 2.2, 1.4.3
    page.locator("#theme").click()
    assert luminance(page, "body", "background-color") < 0.2
    page.locator("#theme").click()
    assert luminance(page, "body", "background-color") > 0.8


@pytest.mark.parametrize("width", [1400, 360])
def test_drift_is_shown_above_the_verdicts(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    banner = page.get_by_role("region", name="This batch differs from training: its verdicts may be wrong")
    box = banner.bounding_box()
    assert box["y"] + box["height"] < page.locator(".cards").first.bounding_box()["y"] < 900
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    (line,) = banner.get_by_role("listitem").all_inner_texts()
    assert line == f"front · {DRIFT['message']} p < 1e-06. {DRIFT['advice']}"


@pytest.mark.parametrize("width", [800, 1020, 1100, 1200, 1300, 1400])
def test_the_name_of_a_part_is_readable_at_every_width(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    box = page.locator("#parts tbody .c-image").first.bounding_box()
    assert box["width"] >= 100
    table = page.locator("#parts").bounding_box()
    marks = page.locator("#parts tbody tr:not(.error) .c-mark").first.bounding_box()
    assert marks["x"] + marks["width"] <= table["x"] + table["width"] <= width


def luminance(page: Any, selector: str, which: str) -> float:
    """Return the relative luminance (WCAG 2.2) of the first matching element.

    For a transparent background, the background of the nearest ancestor that has one is used.
    """
    colour = page.locator(selector).first.evaluate(
        """(node, which) => {
          const at = (element) => getComputedStyle(element).getPropertyValue(which);
          while (which !== 'color' && at(node) === 'rgba(0, 0, 0, 0)') node = node.parentElement;
          return at(node);
        }""",
        which,
    )
    levels = np.array([int(level) for level in re.findall(r"\d+", colour)[:3]]) / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def test_a_link_with_a_part_opens_that_part(browser: Any, report: Path) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(report.as_uri() + "#front%2Fd.jpg")
    assert page.locator("#detail-title").inner_text() == "d.jpg"
    context.close()


def test_images_in_separate_files_are_shown(browser: Any, tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", results(), images_of, embed_limit_mb=0)
    with opened(browser, tmp_path / "report.html") as page:
        open_first(page)
        assert "/report_images/" in page.locator("#photo").evaluate("node => node.src")
        page.wait_for_function("document.querySelector('#parts img').naturalWidth === 128")
        assert page.locator("#parts img").first.get_attribute("loading") == "lazy"


def test_a_missing_image_is_reported(browser: Any, tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", results(), images_of, embed_limit_mb=0)
    shutil.rmtree(tmp_path / "report_images")
    page = browser.new_page()
    page.goto((tmp_path / "report.html").as_uri())
    page.locator("#parts .open").first.click()
    page.locator(".missing").wait_for()
    assert "Keep its folder next to this page" in page.locator(".missing").inner_text()
    page.close()


def test_a_phone_shows_every_part_in_two_lines_and_keeps_nothing_but_the_heads_at_the_top(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.reload()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.locator(".toolbar").evaluate("node => getComputedStyle(node).position") == "static"
    assert page.locator(".toolbar").bounding_box()["height"] < 844 / 4
    for row_of_part in page.locator("#parts tbody tr:not(.error)").all():
        assert row_of_part.bounding_box()["height"] < 90
        for name in (".open", ".chip", ".mark"):
            box = row_of_part.locator(name).bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 390
    page.locator("#what-if summary").click()
    assert page.locator("#factor").is_visible()


def test_at_every_width_nothing_is_wider_than_the_page_and_names_have_room(page: Any) -> None:
    for width in (1440, 1341, 1239, 1161, 1024, 901, 761, 701, 390, 320):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert row(page, "a.jpg").locator(".c-image").bounding_box()["width"] > 100


def test_the_controls_of_a_part_fit_in_one_line_and_the_images_lie_side_by_side(page: Any) -> None:
    page.set_viewport_size({"width": 1440, "height": 900})
    open_first(page)
    fit, mode = (page.locator(name).bounding_box() for name in ("[data-zoom=fit]", ".modes"))
    assert abs(fit["y"] + fit["height"] / 2 - mode["y"] - mode["height"] / 2) < 8
    page.get_by_label("Side by side").check()
    photo, overlay = (page.locator(f".pane.{name}").bounding_box() for name in ("photo", "overlay"))
    assert photo["x"] + photo["width"] <= overlay["x"]
    page.set_viewport_size({"width": 390, "height": 844})
    photo, overlay = (page.locator(f".pane.{name}").bounding_box() for name in ("photo", "overlay"))
    assert photo["y"] + photo["height"] <= overlay["y"] or photo["x"] + photo["width"] <= overlay["x"]


@pytest.mark.parametrize("cut", [45, 50, 55])
def test_the_divider_leaves_a_visited_region_free(page: Any, cut: int) -> None:
    open_first(page)
    page.locator("#cut").fill(str(cut))
    page.keyboard.press("1")
    region = page.locator(".overlay .boxes g").first.locator("rect").last.bounding_box()
    divider = page.locator(".divider").bounding_box()
    handle = divider["x"] + divider["width"] / 2 + 16  # its radius
    assert handle <= region["x"]
    page.locator("#cut").fill("10")
    page.keyboard.press("2")
    assert page.locator("#cut").input_value() == "10"  # the divider is not in the way


def test_after_a_click_on_a_view_the_arrows_change_the_part(page: Any) -> None:
    open_first(page)
    page.get_by_text("Side by side", exact=True).click()
    page.keyboard.press("ArrowRight")
    assert page.locator("#detail-title").inner_text() == "=c.jpg"
    assert page.get_by_label("Side by side").is_checked()
    page.get_by_label("Side by side").focus()
    page.keyboard.press("ArrowRight")  # reached without a pointer: the key of radio buttons
    assert page.locator("#detail-title").inner_text() == "=c.jpg"
    assert page.get_by_label("Photograph", exact=True).is_checked()


def test_without_scripts_there_are_no_empty_histograms_and_no_dead_controls(browser: Any, report: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator("noscript p").is_visible()
    for name in ("figure", ".toolbar", "#theme"):
        assert not page.locator(name).first.is_visible(), name
    assert page.get_by_text("f10.jpg").is_visible()
    context.close()


@pytest.mark.slow
def test_on_paper_marks_settings_and_forty_parts_are_on_few_pages(browser: Any, tmp_path: Path) -> None:
    content = results()
    parts = [part.model_copy(update={"image": f"{i}_{part.image}"}) for i in range(6) for part in content.parts][:40]
    write_report(tmp_path / "report.html", content.model_copy(update={"parts": tuple(parts)}), images_of)
    with opened(browser, tmp_path / "report.html") as page:
        row(page, "0_a.jpg").locator(".mark").click()
        document = page.pdf(format="A4")
        assert len(re.findall(rb"/Type\s*/Page\b", document)) <= 3
        assert not page.locator(".about").evaluate("node => node.open")  # as before printing
        page.emulate_media(media="print")
        page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert page.get_by_text("2025-11-01T08:00:00").is_visible()
        assert row(page, "0_a.jpg").locator(".mark").is_visible()
        assert not row(page, "1_a.jpg").locator(".mark").is_visible()


def test_the_theme_button_is_named_as_it_reads(page: Any) -> None:
    for _ in range(3):
        page.get_by_role("button", name=page.locator("#theme").inner_text(), exact=True).click()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(page: Any, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    assert axe_violations(page) == []
    open_first(page)
    assert axe_violations(page) == []
