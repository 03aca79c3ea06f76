"""``pixal accept``: marks become training photographs and known defects, never twice, and can be taken back."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers import lot_config, lot_parts, write_configs, write_marks

import pixal
from pixal import cli
from pixal.database.schema import MARKS
from pixal.database.store import Store
from pixal.errors import InputError
from pixal.io.files import file_hash
from pixal.io.records import read_record
from pixal.report.document import read_results

ACCEPTED = Path("out/Part/front/accepted")


@pytest.fixture
def work(validated_lot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the working directory. The sources of its photographs are those of the fixture."""
    shutil.copytree(validated_lot, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def parts() -> dict[str, dict[str, Any]]:
    return {part["image"]: part for part in read_record(ACCEPTED / "accepted.yaml")["parts"]}


def test_marks_become_data_sets_that_are_never_doubled(work: Path) -> None:
    confirmed = dict.fromkeys(("part_001.jpg", "part_004.jpg"), "confirmed")  # the first one passed: it has no defect
    write_marks({"part_000.jpg": "false alarm"} | confirmed, made_by="anna")
    pixal.accept("marks.csv", config=lot_config())
    write_marks({"part_002.jpg": "missed"}, x=60, y=40, width=20, height=12, made_by="bob")
    result = pixal.accept("marks.csv", config=lot_config())
    assert "+1 known defects" in result.summary()
    assert "nothing new" in pixal.accept("marks.csv", config=lot_config()).summary()
    assert "+1 training photographs" in pixal.accept(confirmed=True, config=lot_config()).summary()
    assert "nothing new" in pixal.accept(config=lot_config()).summary()
    assert parts()["part_001.jpg"]["mark"] == "confirmed good"
    pixal.accept(undo=True, config=lot_config())
    found = parts()
    assert {image: part["kind"] for image, part in found.items()} == {
        "part_000.jpg": "good_parts",
        "part_004.jpg": "known_defects",
        "part_002.jpg": "known_defects",
    }
    for part in found.values():
        copy = ACCEPTED / part["kind"] / part["file"]
        assert file_hash(copy) == file_hash(Path(part["source"])) == part["sha256"]
        assert part["accepted_at"]
    assert [part["made_by"] for part in found.values()] == ["anna", "anna", "bob"]
    versions = [(v["kind"], v["version"], v["parts"]) for v in read_record(ACCEPTED / "accepted.yaml")["versions"]]
    assert versions[:3] == [("good_parts", 1, 1), ("known_defects", 1, 1), ("known_defects", 2, 2)]
    assert versions[3:] == [("good_parts", 2, 2), ("good_parts", 3, 1)]


def test_a_drawn_box_is_cut_out_where_the_reference_has_it(work: Path) -> None:
    """The box of a place on the part, found by its pose in the truth, is that of the place in the reference frame."""
    verdict = next(row for row in read_record(Path("validate/Part/front/metadata/preprocessing.yaml"))["images"])
    pose = np.array([[verdict[f"h{i}{j}"] for j in range(3)] for i in range(3)])
    x, y = cv2.perspectiveTransform(np.array([[[110.0, 60.0]]]), np.linalg.inv(pose))[0, 0]
    write_marks({verdict["image"]: "missed"}, x=round(x) - 6, y=round(y) - 4, width=12, height=8)
    pixal.accept("marks.csv", config=lot_config())
    part = parts()[verdict["image"]]
    left, top, width, height = part["reference_boxes"][0]
    assert left < 110 < left + width
    assert top < 60 < top + height
    assert width < 18
    assert height < 14
    assert len(part["cut_outs"]) == 1
    assert (ACCEPTED / "known_defects" / part["cut_outs"][0]).is_file()


def test_undo_and_withdrawn_marks_remove_the_files(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_marks({"part_000.jpg": "false alarm"})
    pixal.accept("marks.csv", config=lot_config())
    write_marks({"part_001.jpg": "false alarm"})
    pixal.accept("marks.csv", config=lot_config())
    pixal.accept(undo=True, config=lot_config())
    assert set(parts()) == {"part_000.jpg"}
    assert len(list((ACCEPTED / "good_parts").iterdir())) == 1
    store = Store(Path("validate/Part/history.db"))
    with store.writing() as connection:
        connection.execute(MARKS.update().values(withdrawn_at="2026-11-29T12:00:00+00:00"))
    result = pixal.accept(config=lot_config())
    assert "-1 training photographs" in result.summary()
    assert not parts()
    assert not list((ACCEPTED / "good_parts").glob("*"))
    with pytest.raises(InputError, match="nothing was accepted"):
        pixal.accept(undo=True, config=lot_config())


def test_what_cannot_be_taken_over_is_named(
    work: Path, validated_lot: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_configs(work, "model_training: {model: gaussian}\n")
    write_marks({"part_003.jpg": "false alarm", "part_004.jpg": "false alarm"})
    source = validated_lot / "r/production/Part/front/part_003.jpg"
    content = source.read_bytes()
    try:
        source.write_bytes(content + b"\0")
        assert cli.main(["accept", "--marks", "marks.csv"]) == 3
    finally:
        source.write_bytes(content)
    assert "front/part_003.jpg" in capsys.readouterr().err
    assert set(parts()) == {"part_004.jpg"}
    Path("marks.csv").write_text("type,image,mark,x\nfront,part_001.jpg,missed,3\n")
    assert cli.main(["accept", "--marks", "marks.csv"]) == 2
    assert "a box needs all of x, y, width, height" in capsys.readouterr().err
    assert cli.main(["accept", "--type", "left"]) == 2


def test_preprocess_takes_accepted_photographs_once(work: Path) -> None:
    good = lot_parts(0)[0]
    write_marks({good: "false alarm"})
    pixal.accept("marks.csv", config=lot_config())
    assert pixal.preprocess("r/train/Part", config=lot_config(), quiet=True).done == 8
    shutil.copy(f"r/production/Part/front/{good}", "r/train/Part/front")
    assert pixal.preprocess("r/train/Part", config=lot_config(), quiet=True).done == 8


def test_the_good_parts_of_a_batch_that_is_judged_completely_are_a_sample(work: Path) -> None:
    results = read_results(Path("validate/Part/results.json")).parts
    marks = {part.image: "confirmed" if part.verdict == "pass" else "false alarm" for part in results}
    left_out = next(iter(marks))
    write_marks({image: mark for image, mark in marks.items() if image != left_out})
    pixal.accept("marks.csv", confirmed=True, config=lot_config())
    assert not any(part["sampled"] for part in parts().values())
    pixal.accept(undo=True, config=lot_config())
    write_marks({left_out: marks[left_out]})
    pixal.accept("marks.csv", confirmed=True, config=lot_config())
    assert len(parts()) == 6
    assert all(part["sampled"] for part in parts().values())
    pixal.accept(undo=True, config=lot_config())
    pixal.accept(config=lot_config())
    assert not any(part["sampled"] for part in parts().values())
