"""``pixal arrange``: tables and folders become an input folder that the other commands read; nothing is overwritten."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

import pixal
from pixal import cli
from pixal.errors import InputError
from pixal.io.images import read_image
from pixal.io.records import read_record
from pixal.tasks.photographs.discovery import list_photographs
from pixal.tasks.photographs.verdicts.truth import read_truth


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two folders of photographs, and the working directory."""
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for name in ("lot1/a.png", "lot1/b.png", "lot1/deep/c.png", "lot2/d.png", "lot2/e.png", "lot2/a.png"):
        path = Path("photos", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), generator.integers(0, 255, (8, 9, 3), np.uint8))
    return Path("photos")


def write(name: str, rows: list[list[str]]) -> str:
    if name.endswith(".xlsx"):
        pd.DataFrame(rows[1:], columns=rows[0]).to_excel(name, index=False)
    else:
        with Path(name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter=";").writerows(rows)
    return name


def tree(folder: str) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def test_several_tables_and_folders_become_an_input_folder(photos: Path) -> None:
    first = write("one.csv", [["image", "result", "defect", "side"], ["lot1/a.png", "ok", "", "front"]])
    rows = [["image", "result", "defect", "side"], ["b", "NOK", "scratch", "front"], ["C.PNG", "0", "good", "back"]]
    rows += [["d.png", "1", "", "back"], ["missing.png", "0", "", "back"], ["a.png", "0", "", "back"]]
    second = write("two.xlsx", rows)
    columns = {"file": "image", "label": "result", "kind": "defect", "type": "side"}
    result = pixal.arrange([first, second], [photos], "data", **columns)
    assert tree("data") == [
        "arranged.yaml",
        "back/test/defective/d.png",
        "back/train/good/c.png",
        "front/test/scratch/b.png",
        "front/train/good/a.png",
    ]
    problems = "\n".join(map(str, result.failures))
    assert "two.xlsx, line 5: no photograph missing.png" in problems
    assert "a.png may be any of 2 files" in problems
    assert "in no table, left out: 2" in result.summary()
    assert Path("data/front/train/good/a.png").read_bytes() == (photos / "lot1/a.png").read_bytes()
    assert {name: len(found) for name, found in list_photographs("data").items()} == {"back": 1, "front": 1}
    assert [photo.image for photo in list_photographs("data", test=True)["front"]] == ["scratch/b.png"]
    origin = {entry["file"]: entry for entry in read_record(Path("data/arranged.yaml"))["photographs"]}
    assert origin["front/test/scratch/b.png"]["source"].endswith("photos/lot1/b.png")
    again = pixal.arrange([first, second], [photos], "data", **columns)
    assert "there already: 4" in again.summary()


def test_nothing_is_overwritten(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write("t.csv", [["file"], ["b.png"], ["d.png"]])
    mine = Path("data/train/good/b.png")
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    assert cli.main(["arrange", "-t", table, "-i", "photos", "-o", "data"]) == 3
    assert "nothing is overwritten" in capsys.readouterr().err
    assert mine.read_bytes() == b"mine"
    assert Path("data/train/good/d.png").is_file()


def test_a_truth_is_what_validate_reads(photos: Path) -> None:
    table = write("t.csv", [["file", "kind"], ["b.png", "stain"], ["d.png", ""]])
    pixal.arrange([table], [photos], "truth", kind="kind", truth=True)
    truth = read_truth(Path("truth"), ["front"])["front"]
    assert (truth.parts["b"].label, truth.parts["b"].kind, truth.parts["d"].label) == (1, "stain", 0)
    with pytest.raises(InputError, match="nothing is overwritten"):
        pixal.arrange([table], [photos], "truth", kind="kind", truth=True)


def test_links_and_steps(photos: Path) -> None:
    table = write("t.csv", [["file"], ["b.png"]])
    pixal.arrange([table], [photos], "linked", link=True)
    linked = Path("linked/train/good/b.png")
    assert linked.is_symlink()
    assert linked.read_bytes() == (photos / "lot1/b.png").read_bytes()
    pixal.arrange([table], [photos], "edges", steps=["grey", "canny"])
    expected = cv2.Canny(cv2.cvtColor(read_image(photos / "lot1/b.png"), cv2.COLOR_RGB2GRAY), 100, 200)
    np.testing.assert_array_equal(read_image(Path("edges/train/good/b.png"))[..., 0], expected)
    assert read_record(Path("edges/arranged.yaml"))["steps"] == ["grey", "canny"]
    with pytest.raises(InputError, match="the nearest is canny"):
        pixal.arrange([table], [photos], "x", steps=["cany"])


def test_a_share_of_the_good_parts_is_for_the_test(photos: Path) -> None:
    for number in range(60):
        (photos / f"n{number}.png").write_bytes((photos / "lot1/b.png").read_bytes())
    table = write("t.csv", [["file"], *([f"n{number}.png"] for number in range(60))])
    result = pixal.arrange([table], [photos], "data", test_ratio=0.3)
    assert "there already" not in result.summary()
    assert 8 <= len(tree("data/test/good")) <= 28
    assert len(tree("data/test/good")) + len(tree("data/train/good")) == 60


@pytest.mark.parametrize(
    ("rows", "arguments", "message"),
    [
        ([["file"], ["b.png"]], ["--label", "labl"], "has no column labl"),
        ([["file", "label"], ["b.png", "perhaps"]], ["--label", "label"], "'perhaps' is neither good"),
        ([["file", "kind"], ["b.png", "../x"]], ["--kind", "kind"], "cannot be the name of a folder"),
        ([["file"], ["zzz.png"]], [], "no row of the tables matches"),
        ([["file"], ["b.png"]], ["-o", "photos/data"], "lies in the folder of the photographs"),
        ([["file"], ["b.png"]], ["--link", "--steps", "grey"], "--link makes no new files"),
    ],
)
def test_bad_input_is_one_clear_line(
    photos: Path, capsys: pytest.CaptureFixture[str], rows: list[list[str]], arguments: list[str], message: str
) -> None:
    table = write("t.csv", rows)
    assert cli.main(["arrange", "-t", table, "-i", "photos", "-o", "data", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1
    assert not Path("data").exists()
