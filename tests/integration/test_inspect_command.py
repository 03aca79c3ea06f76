"""``pixal inspect``: each planted fault is found and named, a usual folder has no findings, and files are safe."""

from __future__ import annotations

import csv
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from browsers import axe_violations, launch, needs_chromium, sync_api
from helpers import write_configs
from numpy.typing import NDArray

import pixal
from pixal import cli
from pixal.config import load_config
from pixal.errors import InputError
from pixal.io.images import read_image, write_image
from pixal.synthetic import draw_component, render_photograph
from pixal.tasks.photographs.inspection.results import COLUMNS, Inspection
from pixal.tasks.photographs.verdicts.history import up_to_date

COUNT = 16
SIZE = (640, 360)

Change = Callable[[NDArray[Any]], NDArray[Any]]
CHANGES: dict[str, Change] = {
    "blurred.png": lambda image: cv2.GaussianBlur(image, (0, 0), 2.5),
    "dark.png": lambda image: (image * 0.5).astype(np.uint8),
    "bright.png": lambda image: np.clip(image * 2.0, 0, 255).astype(np.uint8),
    "cool.png": lambda image: (image * np.array([0.7, 0.9, 1.0])).astype(np.uint8),
    "noisy.png": lambda image: np.clip(image + np.random.default_rng(0).normal(0, 20, image.shape), 0, 255).astype(
        "u1"
    ),
    "size.png": lambda image: image[:300],
    "duplicate.jpg": lambda image: image,
}
DAMAGED = {"cut.png": "unreadable", "text.jpg": "unreadable"}


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of good parts, all taken alike: ``may/front`` and ``june/front``."""
    folder = tmp_path_factory.mktemp("photographs")
    component = draw_component("front", SIZE)
    for seed in range(2 * COUNT):
        image = render_photograph(*component, (), np.random.default_rng(seed), frame_size=SIZE).image
        month = "may" if seed < COUNT else "june"
        write_image(folder / month / "front" / f"{seed:03d}.png", image)
    return folder


@pytest.fixture
def photographs(usual: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the usual photographs in a new working directory without configuration."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(usual, tmp_path / "photographs")
    return Path("photographs")


def plant(folder: Path) -> None:
    """Add one photograph for each fault. Each is another part, except the duplicate."""
    component = draw_component("front", SIZE)
    for seed, (name, change) in enumerate(CHANGES.items(), start=100):
        image = read_image(folder / "003.png")
        if name != "duplicate.jpg":
            image = render_photograph(*component, (), np.random.default_rng(seed), frame_size=SIZE).image
        write_image(folder / name, change(image), quality=70)
    data = (folder / "004.png").read_bytes()
    (folder / "cut.png").write_bytes(data[: len(data) // 2])
    (folder / "text.jpg").write_text("no image")


def inspect(*arguments: Any, **options: Any) -> Inspection:
    result = pixal.inspect(*arguments, quiet=True, **options)
    assert isinstance(result, Inspection)
    return result


def found(inspection: Inspection) -> dict[str, set[str]]:
    """The kinds of findings of each photograph that has any."""
    return {row["image"]: set(row["findings"].split("+")) for row in inspection.rows if row["findings"]}


def test_usual_photographs_have_no_findings(photographs: Path) -> None:
    inspection = inspect(photographs / "may", against=photographs / "june")
    assert [str(finding) for finding in inspection.findings] == []
    assert inspection.document.types[0].split == {"train": 13, "check": 3, "leave out": 0}
    assert inspection.headline == "16 photographs, nothing remarkable"
    assert not inspection.failures


def test_each_planted_fault_is_found_in_its_photograph_only(photographs: Path) -> None:
    plant(photographs / "may/front")
    inspection = inspect(photographs / "may")
    kinds = found(inspection)
    assert {name for name, of_photo in kinds.items() if of_photo - {"formats"}} == {*CHANGES, *DAMAGED, "003.png"}
    for name in CHANGES:
        assert Path(name).stem in kinds[name], (name, kinds[name])
    assert {failure.image for failure in inspection.failures} == set(DAMAGED)
    uses = {row["image"]: (row["use"], row["reason"]) for row in inspection.rows}
    assert {name for name, (use, _) in uses.items() if use == "leave out"} == {*CHANGES, *DAMAGED}
    assert uses["duplicate.jpg"][1] == "nearly the same picture as 003.png"
    assert "truncated" in uses["cut.png"][1]


def test_the_command_writes_a_page_a_table_and_a_record(photographs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plant(photographs / "may/front")
    (photographs / "may/front/=1+1.png").write_bytes((photographs / "june/front/020.png").read_bytes())
    assert cli.main(["inspect", "-i", "photographs/may", "-q"]) == 3
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 2)
    assert "pixal: not processed: front/text.jpg: is not an image, or is damaged\n" in err
    with Path("inspection/may/photographs.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == COUNT + len(CHANGES) + len(DAMAGED) + 1
    assert "'=1+1.png" in [row["image"] for row in rows]
    record = yaml.safe_load(Path("inspection/may/inspection.yaml").read_text())
    assert (record["photographs"], record["types"]["front"]["unreadable"]) == (len(rows), 2)
    assert {finding["kind"] for finding in record["findings"]} >= {"unreadable", "blurred", "duplicate"}
    page = Path("inspection/may/inspection.html").read_text()
    assert "one photograph is out of focus" in page
    assert "blurred.png" in page


def stored(query: str, component: str = "Part") -> list[tuple[Any, ...]]:
    """What the database of a component holds."""
    with closing(sqlite3.connect(f"validate/{component}/history.db")) as connection:
        return connection.execute(query).fetchall()


def test_the_database_holds_what_the_files_hold_and_is_made_from_them_again(photographs: Path) -> None:
    write_configs(Path(), "")
    plant(photographs / "may/front")
    (photographs / "may/front/=1+1.png").write_bytes((photographs / "june/front/020.png").read_bytes())
    inspection = inspect(photographs / "may", against=photographs / "june", out="elsewhere/look")
    columns = ("type", "image", "findings", "use", "reason", "hash", "noise", "bytes")
    query = f"SELECT {', '.join(columns)} FROM inspected_photographs ORDER BY id"
    rows = stored(query)
    expected = [tuple(row.get(name) for name in columns) for row in inspection.rows]
    assert rows == [tuple(pytest.approx(v, rel=1e-8) if isinstance(v, float) else v for v in row) for row in expected]
    assert "=1+1.png" in [row[1] for row in rows]
    named = stored("SELECT message, photographs FROM inspection_findings ORDER BY id")
    assert named == [(finding.message, len(finding.photographs)) for finding in inspection.findings]
    hashes = {row["sha256"] for row in inspection.rows if not row["reason"].startswith("is not")}
    assert {row[0] for row in stored("SELECT sha256 FROM photographs")} <= hashes
    to_look_at = {row[0] for row in stored("SELECT image FROM photographs_to_look_at")}
    assert to_look_at == {row["image"] for row in inspection.rows if row["findings"]}

    config = load_config("configs")
    up_to_date(config.paths, rebuild=True)  # the folder is not in inspection/, but known
    assert stored(query) == rows
    (photographs / "may/front/blurred.png").unlink()
    inspect(photographs / "may", out="elsewhere/look")
    assert len(stored(query)) == len(rows) - 1
    assert len(stored("SELECT id FROM inspections")) == 1


def test_an_inspection_before_any_settings_joins_the_component_that_its_folder_names(photographs: Path) -> None:
    for month in ("may", "june"):
        inspect(photographs / month)
    assert not Path("validate").exists()  # the settings of the package name a component that is not the user's
    write_configs(Path(), "")
    paths = load_config("configs").paths.for_component("may")
    Path("validate/may").mkdir(parents=True)
    up_to_date(paths)
    assert stored("SELECT name, source FROM inspections", "may") == [("may", "photographs/may")]
    Path("inspection/june/inspection.yaml").write_text("component: may\nsource: 3\n")
    up_to_date(paths)  # damaged: left out, with a warning
    assert len(stored("SELECT id FROM inspections", "may")) == 1


def test_another_light_and_shared_photographs_are_named(photographs: Path) -> None:
    for path in (photographs / "june/front").iterdir():
        write_image(path, (read_image(path) * np.array([0.8, 0.8, 0.75])).astype(np.uint8))
    shutil.copy(photographs / "may/front/002.png", photographs / "june/front/again.png")
    inspection = inspect(photographs / "june", against=photographs / "may")
    kinds = {
        finding.kind: str(finding) for finding in inspection.findings if finding.kind.startswith(("differ", "in_"))
    }
    assert "the photographs are darker than in may" in kinds["differs_light"]
    assert kinds["in_both"].startswith("front: one photograph is the same as in may: again.png.")
    assert set(kinds) <= {"differs_light", "differs_colour", "in_both"}


def test_folders_of_one_type_are_compared_whatever_their_names(photographs: Path) -> None:
    shutil.move(photographs / "june/front", "other")
    inspection = inspect(photographs / "may/front", against="other")
    assert inspection.document.notes == ()
    (photographs / "may/back").mkdir()
    shutil.copy("other/020.png", photographs / "may/back")
    notes = inspect(photographs / "may", against="other").document.notes
    assert notes == tuple(
        f"{name} was not compared, because other has no photographs of this type" for name in ("back", "front")
    )


def test_a_sample_is_the_same_each_time(photographs: Path) -> None:
    first, second = (inspect(photographs / "may", sample=5, out=name) for name in ("a", "b"))
    assert len(first.rows) == 5
    assert [row["image"] for row in first.rows] == [row["image"] for row in second.rows]
    assert first.headline.startswith("5 of 16 photographs")
    assert "5 of 16 photographs were inspected" in first.files.page.read_text()


def test_the_number_of_workers_changes_no_file(photographs: Path) -> None:
    plant(photographs / "may/front")
    for workers in ("1", "3"):
        arguments = ["inspect", "-i", "photographs/may", "-o", workers, "--workers", workers, "-q"]
        assert cli.main(arguments) == 3
    assert Path("1/photographs.csv").read_bytes() == Path("3/photographs.csv").read_bytes()


@pytest.mark.parametrize("out", ["photographs", "photographs/may/front", "photographs/may/front/new", "."])
def test_results_never_lie_among_the_photographs(photographs: Path, out: str) -> None:
    before = sorted(Path().rglob("*"))
    with pytest.raises(InputError, match="-o DIR"):
        inspect(photographs / "may", out=out)
    assert sorted(Path().rglob("*")) == before


def test_files_of_the_user_are_not_replaced(photographs: Path) -> None:
    Path("mine").mkdir()
    Path("mine/photographs.csv").write_text("mine")
    with pytest.raises(InputError, match=r"photographs\.csv was not written by PIXAL"):
        inspect(photographs / "may", out="mine")
    assert os.listdir("mine") == ["photographs.csv"]  # noqa: PTH208
    inspect(photographs / "may", out="new")
    inspect(photographs / "may", out="new")  # its own files


def test_a_folder_without_any_readable_photograph_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photographs").mkdir()
    Path("photographs/a.jpg").write_text("no image")
    with pytest.raises(
        InputError, match=r"photographs: no photograph can be read; the first is a\.jpg: is not an image"
    ):
        inspect("photographs")


def test_one_photograph_can_be_inspected(photographs: Path) -> None:
    inspection = inspect(photographs / "may/front/000.png")
    assert [finding.kind for finding in inspection.findings] == ["few"]
    assert inspection.files.page == Path("inspection/000/inspection.html")


def test_the_result_is_a_data_frame_and_shows_itself_in_a_notebook(photographs: Path) -> None:
    pytest.importorskip("pandas")
    plant(photographs / "may/front")
    (photographs / "may/front/<b>.png").write_text("no image")
    inspection = inspect(photographs / "may")
    frame = inspection.to_pandas()
    assert tuple(frame.columns) == COLUMNS
    assert len(frame) == len(inspection.rows)
    assert frame["sharpness"].idxmin() == frame.index[frame["image"] == "blurred.png"][0]
    text = inspection._repr_html_()
    assert "out of focus" in text
    assert "<b>" not in text


@pytest.mark.slow
@needs_chromium
def test_the_page_is_accessible_and_fits_a_phone(photographs: Path) -> None:
    plant(photographs / "may/front")
    page_file = inspect(photographs / "may", against=photographs / "june").files.page.resolve()
    problems: list[str] = []
    with sync_api.sync_playwright() as playwright:
        browser = launch(playwright)
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.on("request", lambda request: problems.append(request.url) if request.url.startswith("http") else None)
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.goto(page_file.as_uri())
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert axe_violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        browser.close()
    assert problems == []
