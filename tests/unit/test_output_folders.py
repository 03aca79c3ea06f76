"""Output folders that are not PIXAL's own are refused before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pixal.config import Paths
from pixal.errors import InputError
from pixal.io import ownership
from pixal.io.output_folders import Side, check_outputs, claim_outputs

VALIDATE: Side = "component_validate_path"
MODEL: Side = "component_model_path"


def paths(root: Path, **entries: Any) -> Paths:
    return Paths(
        {
            "component_model_path": {"component": "Part", "base": str(root / "out")},
            "component_validate_path": {"component": "Part", "base": str(root / "validate")},
            **entries,
        }
    )


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs/Part"
    (folder / "front").mkdir(parents=True)
    (folder / "front/a.png").write_bytes(b"a photograph")
    return folder


@pytest.mark.parametrize(
    "output", ["photographs/Part", "photographs", "photographs/Part/front", "photographs/Part/new"]
)
def test_an_output_folder_among_the_photographs_is_refused(tmp_path: Path, photographs: Path, output: str) -> None:
    configured = paths(tmp_path, component_validate_path=str(tmp_path / output))
    with pytest.raises(InputError, match=r"the output folder .* the photographs"):
        check_outputs(configured, VALIDATE, [None, "front"], source=photographs)
    linked = paths(tmp_path, component_validate_path=str(tmp_path / "link"))
    (tmp_path / output).mkdir(exist_ok=True)
    (tmp_path / "link").symlink_to(tmp_path / output)
    with pytest.raises(InputError, match=r"the output folder .* the photographs"):
        check_outputs(linked, VALIDATE, [None, "front"], source=photographs)
    assert (photographs / "front/a.png").read_bytes() == b"a photograph"


def test_a_single_photograph_next_to_the_output_folder(tmp_path: Path) -> None:
    photo = tmp_path / "a.png"
    photo.touch()
    check_outputs(paths(tmp_path), VALIDATE, [None, "front"], source=photo)
    inside = tmp_path / "validate/Part/a.png"
    inside.parent.mkdir(parents=True)
    inside.touch()
    with pytest.raises(InputError, match="holds the photographs"):
        check_outputs(paths(tmp_path), VALIDATE, [None, "front"], source=inside)


@pytest.mark.parametrize(("model", "validate"), [("o/P", "o/P"), ("o", "o/P"), ("o/P", "o"), ("o/P", "o/../o/P")])
def test_roots_must_be_separate(tmp_path: Path, model: str, validate: str) -> None:
    roots = {MODEL: str(tmp_path / model), VALIDATE: str(tmp_path / validate)}
    for side in (MODEL, VALIDATE):
        with pytest.raises(InputError, match=r"are the same folder|are inside one another"):
            claim_outputs(paths(tmp_path, **roots), side, [None, "front"])
    assert list(tmp_path.iterdir()) == []


def test_linked_roots_must_be_separate(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "validate").symlink_to(tmp_path / "out")
    with pytest.raises(InputError, match="are the same folder"):
        check_outputs(paths(tmp_path), VALIDATE, ["front"])


def test_types_must_have_separate_folders(tmp_path: Path) -> None:
    configured = paths(tmp_path, background_removed_path=str(tmp_path / "cut_outs"))
    check_outputs(configured, MODEL, ["front"])
    with pytest.raises(InputError, match="for the types front and back"):
        check_outputs(configured, MODEL, ["front", "back"])


def test_cut_outs_and_aligned_images_must_be_separate(tmp_path: Path) -> None:
    folder = str(tmp_path / "images")
    with pytest.raises(InputError, match="are the same folder"):
        check_outputs(paths(tmp_path, background_removed_path=folder, aligned_images_path=folder), MODEL, ["front"])


def test_a_new_output_folder_must_not_hold_images(tmp_path: Path, photographs: Path) -> None:
    configured = paths(tmp_path, background_removed_path=str(photographs / "front"))
    with pytest.raises(InputError, match=r"holds an image that PIXAL did not write, a\.png"):
        claim_outputs(configured, MODEL, ["front"])
    assert not ownership.is_claimed(photographs / "front")


def test_a_planned_file_that_exists_is_refused_unless_pixal_wrote_it(tmp_path: Path) -> None:
    table = tmp_path / "validate/Part/results.csv"
    table.parent.mkdir(parents=True)
    table.write_text("of the user")
    with pytest.raises(InputError, match=r"results\.csv was not written by PIXAL"):
        check_outputs(paths(tmp_path), VALIDATE, [None], planned=[table])
    (table.parent / "results.json").touch()  # as the version before this one left it
    check_outputs(paths(tmp_path), VALIDATE, [None], planned=[table])
    claim_outputs(paths(tmp_path), VALIDATE, [None])
    assert ownership.owns(table)


def test_a_file_in_the_place_of_an_output_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "validate").mkdir()
    (tmp_path / "validate/Part").touch()
    with pytest.raises(InputError, match="is a file"):
        check_outputs(paths(tmp_path), VALIDATE, [None])
