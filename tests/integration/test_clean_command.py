"""``pixal clean``: it says first what it would remove, removes only what is made again, and no file of the user."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from helpers import NO_FIGURES

import pixal
from pixal import cli
from pixal.config import load_config
from pixal.io.locking import lock_folder

OUT, RESULTS = Path("out/Part/front"), Path("validate/Part")
CONFIG = [*NO_FIGURES, "execution.workers=1"]


@pytest.fixture
def work(trained_front: Path, rendered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a trained type, and a batch of its own photographs."""
    shutil.copytree(trained_front, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(rendered / "production/Part/front", "batch/front")
    pixal.validate("batch", batch="lot", config=load_config(overrides=CONFIG), quiet=True)
    return tmp_path


def files() -> dict[Path, bytes]:
    return {path: path.read_bytes() for root in ("out", "validate") for path in Path(root).rglob("*") if path.is_file()}


def made_again(removed: set[Path]) -> set[str]:
    return {path.parts[-2] if path.suffix in (".png", ".tiff") else path.name for path in removed}


def test_nothing_is_removed_before_it_was_said(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files()
    assert cli.main(["clean", "--maps"]) == 0
    said = capsys.readouterr().out
    assert files() == before
    assert "front: cut-out and aligned photographs" in said
    assert "made again by pixal validate --batch lot" in said
    assert said.endswith("nothing was removed; pixal clean --yes removes it\n")


def test_what_is_removed_is_made_again_with_the_same_bytes(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = OUT / "preprocessed_images/aligned_images/mine.png"
    mine.write_bytes(b"mine")
    before = files()
    assert cli.main(["clean", "--maps", "--yes"]) == 0
    removed = before.keys() - files().keys()
    assert made_again(removed) == {"background_removed", "aligned_images", "out.npz", "sums.npz", "anomaly_maps"}
    assert OUT / "out.npz" not in removed  # train, sensitivity and compare read it
    assert mine.read_bytes() == b"mine"
    assert not [path for path in removed if path.suffix in (".keras", ".csv", ".html", ".db")]
    assert cli.main(["clean", "--maps"]) == 0
    assert capsys.readouterr().out.endswith("there is nothing to remove\n")
    state = json.dumps(pixal.status().as_json())
    assert "stale" in state
    assert not re.findall(r'"stale": \["', state)
    pixal.validate(batch="lot", config=load_config(overrides=CONFIG), quiet=True)
    after = files()
    for path in removed:
        if path.name == "out.npz" or path.suffix == ".tiff":
            assert after[path] == before[path]
    assert after[RESULTS / "results.csv"] == before[RESULTS / "results.csv"]


def test_what_was_made_of_photographs_that_are_gone_stays(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    next(Path("batch/front").iterdir()).unlink()
    before = files()
    assert cli.main(["clean", "--maps", "--yes"]) == 0
    said = capsys.readouterr().out
    assert said.count("kept: 1 of its 8 photographs are gone, for example") == 2
    assert {path for path in before.keys() - files().keys() if path.is_relative_to(RESULTS)} == set()


def test_a_component_that_another_run_works_on_stays(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files()
    with lock_folder(RESULTS):
        assert cli.main(["clean", "--yes"]) == 2
    assert "another run of pixal is writing" in capsys.readouterr().err
    assert files() == before
