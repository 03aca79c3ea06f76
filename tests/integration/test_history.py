"""The history of rendered batches, one of which drifts: as the user finds it, and rebuilt from the files."""

from __future__ import annotations

import csv
import json
import logging
import os
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from browsers import launch, needs_chromium, sync_api
from helpers import NO_FIGURES

import pixal
from pixal import cli
from pixal.config import load_config
from pixal.database.schema import DERIVED
from pixal.database.store import Store
from pixal.errors import InputError
from pixal.io import ownership

RESULTS = Path("validate/Part")
DATABASE = RESULTS / "history.db"
LOTS = ("lot1", "lot2", "lot3", "lot4", "lot5")
DRIFTED = "lot4"
OPTIONS = [option for setting in (*NO_FIGURES, "execution.workers=1") for option in ("--set", setting)]


def make_lots(source: Path) -> None:
    """Five lots of six good photographs, taken on five days; those of the fourth are darker, with dirt on the lens."""
    for day, name in enumerate(LOTS, start=1):
        folder = Path("lots", name, "front")
        folder.mkdir(parents=True)
        for index, path in enumerate(sorted((source / "train/Part/front").iterdir())[4:10]):
            target = folder / f"{name}_{index}.png"
            photo = cv2.imread(str(path))
            assert photo is not None
            if name == DRIFTED:
                photo = (0.75 * photo).astype(np.uint8)
                cv2.circle(photo, (photo.shape[1] // 2, photo.shape[0] // 2), 12, (20, 160, 20), -1)
            photo[0, :day] = index  # outside the part: another file in each lot
            cv2.imwrite(str(target), photo)
            stamp = datetime(2026, 11, day, 9, index).timestamp()
            os.utime(target, (stamp, stamp))


@pytest.fixture(scope="module")
def validated(trained_front: Path, rendered: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory in which the lots were validated, one after the other. Read only."""
    folder = tmp_path_factory.mktemp("history") / "work"
    shutil.copytree(trained_front, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        make_lots(rendered)
        for name in LOTS:
            pixal.validate(f"lots/{name}", batch=name, config=load_config(overrides=OPTIONS[1::2]), quiet=True)
    return folder


@pytest.fixture
def work(validated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the working directory."""
    folder = tmp_path / "work"
    shutil.copytree(validated, folder)
    monkeypatch.chdir(folder)
    return folder


def run(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    assert cli.main(["history", *arguments]) == status
    captured = capsys.readouterr()
    return captured.err if status else captured.out


def content() -> dict[str, list[Any]]:
    """The rows that come from files, without their numbers."""
    store = Store(DATABASE)
    with store.reading() as connection:
        return {
            table.name: sorted(
                str([value for name, value in row._mapping.items() if name != "id" and not name.endswith("_id")])
                for row in connection.execute(table.select())
            )
            for table in DERIVED
        }


def test_the_history_says_what_happened_when(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = run(capsys)
    rows = {line.split()[1]: line for line in text.splitlines() if line.startswith("front")}
    assert list(rows) == list(LOTS)
    assert [name for name, row in rows.items() if "ABOVE THE LIMITS" in row] == [DRIFTED]
    assert "2026-11-04 09:00" in rows[DRIFTED]
    after = text.splitlines()[text.splitlines().index(rows[DRIFTED]) + 1]
    assert after.split()[0] == "drift:"
    with (RESULTS / "history.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [(row["group"], row["parts"], row["outside"]) for row in table] == [
        (name, "6", "above" if name == DRIFTED else "") for name in LOTS
    ]
    assert ownership.owns(RESULTS / "history.csv")
    assert ownership.owns(DATABASE)


@needs_chromium
def test_the_page_names_the_lot_that_drifted_and_its_day(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys)
    with sync_api.sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page()
        page.goto((work / RESULTS / "history.html").as_uri())
        changes = page.locator("#events-title + ul li").all_inner_texts()
        points = page.locator("svg").first.locator("circle")
        titles = points.evaluate_all("nodes => nodes.map((node) => node.textContent)")
        outside = points.evaluate_all("nodes => nodes.map((node) => node.classList.contains('outside'))")
        top = page.locator("polygon.band").first.evaluate("node => node.getBBox().y")
        heights = points.evaluate_all("nodes => nodes.map((node) => node.cy.baseVal.value)")
        browser.close()
    assert len(changes) == 1
    assert changes[0].startswith(f"2026-11-04 {DRIFTED}, front: 6 of 6 parts failed, above the limits")
    assert "darker" in changes[0]
    assert [title.partition(":")[0] for title in titles] == list(LOTS)
    assert outside == [name == DRIFTED for name in LOTS]
    assert [height < top for height in heights] == outside


def test_json_and_filters(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(run(capsys, "--json", "--by", "day", "--since", "2026-11-02", "--until", "2026-11-04"))
    assert [rate["group"] for rate in document["rates"]] == ["2026-11-02", "2026-11-03", "2026-11-04"]
    assert document["component"] == "Part"
    assert not (RESULTS / "history.csv").exists()
    document = json.loads(run(capsys, "--json", "--batch", "lot2", DRIFTED, "--type", "front"))
    assert [rate["failed"] for rate in document["rates"]][1] == 6
    assert "known: front" in run(capsys, "--type", "left", status=2)
    assert "--by week" in run(capsys, "--by", "week", status=2)


def test_marks_of_a_report_come_in_once(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frame = pixal.history(batches=[DRIFTED, "lot5"]).verdicts_frame().set_index("image")
    rows = [
        *((name, float(frame.score[name]), "false alarm") for name in (f"{DRIFTED}_0.png", f"{DRIFTED}_1.png")),
        ("gone.png", 1.0, "missed"),
    ]
    lines = ["component,created,type,image,source,verdict,score,threshold,mark"]
    lines += [f'"Part","","front","{name}","","",{score!r},1,"{mark}"' for name, score, mark in rows]
    Path("marks.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n".join([*lines, ""]).encode())
    assert "marked: 2 false alarms, 0 missed" in run(capsys, "--marks", "marks.csv")
    for arguments in (["--marks", "marks.csv"], ["--rebuild"]):
        rates = {rate["group"]: rate for rate in json.loads(run(capsys, "--json", *arguments))["rates"]}
        assert [rates[name]["false_alarms"] for name in LOTS] == [0, 0, 0, 2, 0]
    Path("marks.csv").write_text(lines[0] + "\nPart,,front,x.png,,,high,1,missed\n")
    assert "marks.csv, line 2: the score 'high' is not a number" in run(capsys, "--marks", "marks.csv", status=2)
    assert "holds no marks" in run(capsys, "--marks", str(RESULTS / "history.csv"), status=2)


@pytest.mark.slow
def test_the_threshold_adapts_to_false_alarms_of_earlier_batches(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def threshold(*settings: str) -> tuple[float, str]:
        config = load_config(overrides=[*OPTIONS[1::2], *settings])
        batch = pixal.validate("lots/lot5", batch="again", config=config, quiet=True)
        document = json.loads((batch.folder / "results.json").read_text())
        return document["types"]["front"]["threshold"], " ".join(document["notes"])

    before, _ = threshold()
    after, notes = threshold("validation.adapt=True")
    assert after <= before
    assert "0 of 18 good parts of earlier batches failed" in notes
    assert "batch lot4 and later ones do not count, because parts of it that failed have no mark" in notes
    lines = ["type,image,mark", *(f"front,{DRIFTED}_{index}.png,false alarm" for index in range(6))]
    Path("marks.csv").write_text("\n".join(lines) + "\n")
    run(capsys, "--marks", "marks.csv")
    after, notes = threshold("validation.adapt=True")
    assert after > before
    assert "6 of 30 good parts of earlier batches failed; the threshold is set for a rate of 0.112 %" in notes
    assert threshold()[0] == before


def test_frames_have_each_photograph_and_each_rate(work: Path) -> None:
    history = pixal.history(batches=[DRIFTED])
    frame = history.verdicts_frame()
    assert list(frame["image"]) == [f"{DRIFTED}_{index}.png" for index in range(6)]
    assert set(frame["verdict"]) == {"fail"}
    assert frame["taken"].dt.day.unique().tolist() == [4]
    assert frame["sha256"].is_unique
    assert pixal.history().rates_frame()["failed"].sum() >= 6


def test_the_database_stays_when_batches_move_and_rebuilding_gives_the_same(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not list(RESULTS.glob("batches/*/history*"))
    before = content()
    assert len(before["verdicts"]) == 30
    run(capsys, "--rebuild")
    assert content() == before
    DATABASE.unlink()
    run(capsys)
    assert content() == before
    DATABASE.write_bytes(b"damaged" * 1000)
    assert "--rebuild" in run(capsys, status=2)
    run(capsys, "--rebuild")
    assert content() == before
    assert [path.read_bytes()[:7] for path in RESULTS.glob("history_damaged_*.db")] == [b"damaged"]


def test_a_deleted_batch_stays_until_it_is_rebuilt_and_a_renamed_one_has_its_new_name(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(RESULTS / "batches/lot1")
    (RESULTS / "batches/lot2").rename(RESULTS / "batches/second")
    groups = [rate["group"] for rate in json.loads(run(capsys, "--json"))["rates"]]
    assert groups == ["lot1", "second", "lot3", "lot4", "lot5"]
    groups = [rate["group"] for rate in json.loads(run(capsys, "--json", "--rebuild"))["rates"]]
    assert groups == ["second", "lot3", "lot4", "lot5"]


def test_a_failed_database_fails_no_verdict_and_the_next_run_adds_what_is_missing(
    work: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = load_config(overrides=OPTIONS[1::2])
    DATABASE.write_bytes(b"damaged" * 1000)
    shutil.copytree("lots/lot1", "lots/lot6")
    batch = pixal.validate("lots/lot6", batch="lot6", config=config, quiet=True)
    assert len(batch.parts) == 6
    assert [text for text in caplog.messages if "not in the history yet" in text and "--rebuild" in text]
    rates = pixal.history(rebuild=True).rates
    assert sorted(rate.group for rate in rates) == [*LOTS, "lot6"]
    pixal.detect(batch="lot2", config=load_config(overrides=[*OPTIONS[1::2], "plotting.loss_cut=-20"]))
    assert [rate.failed for rate in pixal.history(batches=["lot2"]).rates] == [6]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs permissions")
def test_results_that_may_not_be_written_are_read(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    DATABASE.unlink()
    RESULTS.chmod(0o555)
    try:
        assert len(pixal.history().rates) == len(LOTS)
    finally:
        RESULTS.chmod(0o755)


def test_a_component_without_verdicts(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree("validate")
    assert "run validate first" in run(capsys, status=2)
    RESULTS.mkdir(parents=True)
    with pytest.raises(InputError, match="run validate first"):
        pixal.history()
    logging.getLogger("pixal").handlers.clear()
