"""Tests of metadata files and tables: any YAML or CSV reader reads the values that were written."""

from __future__ import annotations

import csv
import hashlib
import logging
from pathlib import Path

import numpy as np
import pytest
import yaml

import pixal
from pixal.errors import InputError
from pixal.io.files import file_hash
from pixal.io.logs import log_to_file
from pixal.io.names import printable
from pixal.io.provenance import provenance
from pixal.io.records import read_record, write_record, write_table
from pixal.tasks.photographs.preprocessing.records import step_hash


def test_a_record_converts_values_to_builtin_types(tmp_path: Path) -> None:
    write_record(
        tmp_path / "new" / "a.yaml",
        {
            "path": Path("out/Prüfling"),
            "array": np.arange(4, dtype=np.float32).reshape(2, 2),
            "number": np.float32(0.5),
            "count": np.int64(3),
            "flag": np.bool_(True),
            "tuple": (1, (2, np.uint8(3))),
            "names": frozenset({"only"}),
            "nested": {1: {"x": None}},
            "long": "word " * 60,
            "text that looks otherwise": ["yes", "1e3", "null", "2026-01-01"],
        },
    )
    expected = {
        "path": str(Path("out/Prüfling")),
        "array": [[0.0, 1.0], [2.0, 3.0]],
        "number": 0.5,
        "count": 3,
        "flag": True,
        "tuple": [1, [2, 3]],
        "names": ["only"],
        "nested": {"1": {"x": None}},
        "long": "word " * 60,
        "text that looks otherwise": ["yes", "1e3", "null", "2026-01-01"],
    }
    text = (tmp_path / "new" / "a.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(text) == expected
    assert list(read_record(tmp_path / "new" / "a.yaml")) == list(expected)
    assert "Prüfling" in text


@pytest.mark.parametrize("content", ["[1, 2]", "", "a: [1", "\x00", "a: !!python/name:os.system"])
def test_a_file_that_is_not_a_record_is_refused_by_name(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.yaml").write_text(content)
    with pytest.raises(InputError, match=r"a\.yaml: ") as caught:
        read_record(tmp_path / "a.yaml")
    assert "\n" not in str(caught.value)


def test_a_missing_record_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.yaml does not exist"):
        read_record(tmp_path / "a.yaml")


def test_a_table_can_be_read_back(tmp_path: Path) -> None:
    rows = [
        {"image": 'he said "no", twice.png', "score": np.float64(1 / 3), "n": 3, "left out": 1},
        {"image": "ä\nb.png", "score": None},
        {"image": "c.png", "score": float("inf"), "n": np.int64(10**12)},
    ]
    write_table(tmp_path / "t.csv", ("image", "score", "n"), rows)
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        actual = list(csv.DictReader(file))
    assert [row["image"] for row in actual] == [printable(str(row["image"])) for row in rows]
    assert float(actual[0]["score"]) == pytest.approx(1 / 3, rel=1e-8)
    assert [row["score"] for row in actual[1:]] == ["", "inf"]
    assert [row["n"] for row in actual] == ["3", "", str(10**12)]


def test_no_name_tears_a_table(tmp_path: Path) -> None:
    names = ["a\rb.png", "a\nb.png", "a\r\nb.png", "a\tb.png", 'a"b.png', "a,b.png", "a;b.png", " a.png", "ä.png"]
    write_table(tmp_path / "t.csv", ("image", "score"), [{"image": name, "score": 1} for name in names])
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert [(row["image"], row["score"]) for row in found] == [(printable(name), "1") for name in names]
    assert found[0]["image"] == "a\\rb.png"
    text = (tmp_path / "t.csv").read_bytes().decode()
    assert text.count("\n") == len(names) + 1  # also for a reader that ends a row at any line break
    assert not set("\r\t") & set(text)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_no_text_is_a_formula_and_numbers_stay_numbers(tmp_path: Path, start: str) -> None:
    name = f"{start}cmd|' /C calc'!A0.png"
    write_table(tmp_path / "t.csv", ("image", "score", "n"), [{"image": name, "score": -1.5, "n": -2}])
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        header, row = csv.reader(file)
    assert header == ["image", "score", "n"]
    assert row == [f"'{printable(name)}", "-1.5", "-2"]


def test_a_name_that_is_not_utf_8_is_escaped(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", ["image"], [{"image": "caf\udce9.png"}])
    assert (tmp_path / "t.csv").read_text(encoding="utf-8") == "image\ncaf\\xe9.png\n"


def test_equal_values_of_different_types_are_written_as_they_are(tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", ["x"], [{"x": True}, {"x": 1}, {"x": 0.0}, {"x": False}])
    assert (tmp_path / "t.csv").read_text().split() == ["x", "True", "1", "0", "False"]


def test_floats_have_nine_digits(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(0, 10.0 ** np.arange(-6, 6))
    write_table(tmp_path / "t.csv", ["x"], [{"x": value} for value in values])
    actual = np.loadtxt(tmp_path / "t.csv", skiprows=1)
    np.testing.assert_allclose(actual, values, rtol=1e-8)
    assert np.abs(actual / values - 1).max() > 1e-12  # otherwise the tolerance above tests nothing


def test_provenance_has_the_versions_of_pixal_and_its_libraries() -> None:
    actual = provenance()
    assert actual["pixal_version"] == pixal.__version__
    assert actual["versions"]["numpy"] == np.__version__
    assert actual["created"].endswith("+00:00")


def test_file_hash_is_the_sha256(tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes((1 << 20) + 17)
    (tmp_path / "a").write_bytes(data)
    assert file_hash(tmp_path / "a") == hashlib.sha256(data).hexdigest()


def test_the_log_file_has_the_messages_logged_in_the_block(tmp_path: Path) -> None:
    log, package = logging.getLogger("pixal.somewhere"), logging.getLogger("pixal")
    handlers = package.handlers[:]
    package.setLevel(logging.INFO)
    log.info("before")
    for number in (1, 2):
        with log_to_file(tmp_path / "logs", "align"):
            log.info("run %d", number)
    with pytest.raises(ZeroDivisionError), log_to_file(tmp_path / "logs", "align"):
        _ = 1 / 0
    log.info("after")
    lines = (tmp_path / "logs" / "align.log").read_text().splitlines()
    assert [line.rpartition(": ")[2] for line in lines] == ["run 1", "run 2"]
    assert package.handlers == handlers


def test_a_record_of_a_step_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "preprocessing.yaml", tmp_path):
        with pytest.raises(InputError, match=rf"{path}: cannot be read: .*; run make_input again"):
            step_hash(path, "make_input")
