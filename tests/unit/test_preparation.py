"""Preparation of a batch: what a prepared part holds, and how often a photograph is read."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from pixal.config import load_config
from pixal.errors import InputError
from pixal.io.files import file_stat
from pixal.io.images import read_image, write_image
from pixal.io.records import read_record, write_record
from pixal.report.document import BatchOrigin
from pixal.tasks.photographs.discovery import Photograph
from pixal.tasks.photographs.preprocessing.folders import read_validation_inputs
from pixal.tasks.photographs.settings import PhotographConfig, photograph_config
from pixal.tasks.photographs.training.stored import TrainedModel, load_trained
from pixal.tasks.photographs.verdicts import preparation
from pixal.tasks.photographs.verdicts.preparation import KnownType, Preparation, choose_types


@pytest.fixture
def trained(
    trained_front: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[TrainedModel, PhotographConfig]:
    shutil.copytree(trained_front, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    config = photograph_config(load_config("configs"))
    return load_trained(config, "front"), config


def photographs(folder: Path) -> list[Photograph]:
    return [Photograph("front", path, path.name, path.stem) for path in sorted(folder.iterdir())]


def test_parts_hold_their_photographs_if_asked(trained: tuple[TrainedModel, PhotographConfig]) -> None:
    model, config = trained
    folder = Path("photographs/front")
    first = sorted(folder.iterdir())[0]
    write_image(folder / "a_deep.png", read_image(first).astype(np.uint16) * 257)
    write_image(folder / "b_plate.png", np.full((270, 480, 3), (243, 112, 96), np.uint8))
    (folder / "c_broken.png").write_bytes(b"none")
    listed = photographs(folder)
    parts = list(Preparation("front", model, config, draw_figures=False, keep_photos=True)(listed))
    assert [part.record.image for part in parts] == [photo.image for photo in listed]
    deep, plate, broken, *others = parts
    for part, path in [(deep, first), (plate, folder / "b_plate.png"), (others[0], first)]:
        assert part.photo is not None
        assert part.photo.dtype == np.uint8
        np.testing.assert_array_equal(part.photo, read_image(path))
    assert [part.record.is_ok for part in parts] == [True, False, False] + [True] * 5
    assert [part.input is not None for part in parts] == [part.record.is_ok for part in parts]
    assert [part.is_readable for part in (plate, broken)] == [True, False]
    assert broken.photo is None
    assert broken.record.stat == file_stat(folder / "c_broken.png")
    assert broken.record.stat[0] == 4
    without = Preparation("front", model, config, draw_figures=False)
    assert all(part.photo is None for part in without(listed))


def test_a_mixed_folder_decodes_each_photograph_once_and_finds_equal_foregrounds_once(
    trained: tuple[TrainedModel, PhotographConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, config = trained
    state = model.states["front"]
    border = state.settings.remove_background
    whole = dataclasses.replace(
        state,
        settings=state.settings.model_copy(update={"remove_background": border.model_copy(update={"method": "none"})}),
    )
    mixed = dataclasses.replace(model, owner=None, states={"front": state, "same": state, "whole": whole})
    decoded: list[Path] = []
    methods: list[str] = []
    read, find = preparation.read_image, preparation.find_foreground
    monkeypatch.setattr(preparation, "read_image", lambda path: (decoded.append(path), read(path))[1])
    monkeypatch.setattr(
        preparation,
        "find_foreground",
        lambda image, settings: (methods.append(settings.method), find(image, settings))[1],
    )
    listed = photographs(Path("photographs/front"))[:2]
    chosen = choose_types(listed, mixed, config, quiet=True, known={})
    assert [photo.image for photos in chosen.values() for photo in photos] == [photo.image for photo in listed]
    assert sorted(decoded) == [photo.path for photo in listed]
    assert sorted(methods) == sorted([border.method, "none"] * 2)
    stat = file_stat(listed[0].path)
    known = {listed[0].path.absolute(): KnownType("whole", stat)}
    assert choose_types(listed[:1], mixed, config, quiet=True, known=known).keys() == {"whole"}
    assert len(decoded) == 2
    stale = {listed[0].path.absolute(): KnownType("whole", (stat[0], 0, stat[2]))}
    assert choose_types(listed[:1], mixed, config, quiet=True, known=stale).keys() == {"front"}


def test_the_record_of_the_inputs_is_validated_when_it_is_read(
    trained: tuple[TrainedModel, PhotographConfig],
) -> None:
    model, config = trained
    prepare = Preparation("front", model, config, draw_figures=False)
    parts = list(prepare(photographs(Path("photographs/front"))[:1]))
    batch = BatchOrigin(name="new", source="photographs", started="2026-11-28T10:00:00")
    prepare.write_record([part.record for part in parts], batch)
    folder = config.paths.resolve("validate_metadata_path", "front")
    record = read_validation_inputs(folder)
    assert record.images == tuple(part.record for part in parts)
    assert (record.type, record.model, record.judged_by) == ("front", "front", None)
    assert (record.key, record.preprocessing_sha256) == (prepare.key, prepare.state_sha256)
    assert (record.channels, record.shape) == (prepare.channels, prepare.shape)
    assert record.settings.alignment == prepare.settings
    path = folder / "preprocessing.yaml"
    content = read_record(path)
    for key, value in (("key", None), ("shape", [1, 2]), ("images", [{"image": "a.jpg"}]), ("settings", {"a": 1})):
        write_record(path, content | {key: value})
        with pytest.raises(InputError, match=rf"preprocessing\.yaml is damaged \({key}.*; run validate again"):
            read_validation_inputs(folder)
    path.unlink()
    with pytest.raises(InputError, match="does not exist; run validate again"):
        read_validation_inputs(folder)
