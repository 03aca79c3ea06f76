"""Models whose files were edited, removed or damaged: refused with one line and status 2, never another score."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import write_configs
from tries import tries

import pixal
from pixal.cli import main
from pixal.config import load_config
from pixal.errors import PixalError
from pixal.io.arrays import load_arrays, save_arrays
from pixal.io.files import file_hash
from pixal.io.records import read_record, with_hash, write_record
from pixal.synthetic import write_batch
from pixal.tasks.photographs.settings import PhotographConfig, photograph_config
from pixal.tasks.photographs.training.stored import load_trained

pytestmark = pytest.mark.slow

MODEL, METADATA, RECORD = (Path(path) for path in ("model", "metadata", "metadata/model_training.yaml"))
FRONT = Path("out/Part/front")
RESULTS = Path("validate/Part")
TRIED: list[object] = []  # the changes that a test has made so far
SETTINGS = """\
model_training: {model: gaussian, calibration_folds: 2}
preprocessing: {draw_matches: False, save_metrics: False, save_overlays: False, preprocessor: {pool_size: 8}}
plotting: {plot_anomaly_heatmap: False, plot_distributions: False, plot_latent_space: False}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The working directory: a small model, and the results of two photographs."""
    folder = tmp_path_factory.mktemp("tampered")
    write_configs(folder, SETTINGS)
    write_batch(folder, component="Part", types=("front",), train=6, good=1, bad=1, frame_size=(320, 180))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        pixal.preprocess("train/Part", quiet=True)
        pixal.train(quiet=True)
        pixal.validate("production/Part", quiet=True)
        shutil.copytree(FRONT, "whole")
        yield folder


@pytest.fixture(autouse=True)
def model(trained: Path) -> Iterator[Path]:
    """The folder of the model, restored after the test, which prints how many changed models it has tried."""
    TRIED.clear()
    yield FRONT
    print(f"{len(TRIED)} changed models")  # noqa: T201
    shutil.rmtree(FRONT)
    shutil.copytree("whole", FRONT)


def scores() -> bytes:
    return (RESULTS / "results.csv").read_bytes()


def validate(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    status = main(["validate", "-q", "-i", "production/Part", *arguments])
    return int(status), capsys.readouterr().err


def assert_refused(capsys: pytest.CaptureFixture[str], what: object) -> None:
    """``validate`` ends with status 2 and one line, and the earlier results stay."""
    TRIED.append(what)
    before = scores()
    status, said = validate(capsys)
    assert (status, said.count("\n")) == (2, 1), (what, said)
    assert "unexpected failure" not in said, (what, said)
    assert "run train" in said, (what, said)
    assert scores() == before, what


def is_refused(what: object) -> bool:
    """Whether the model is refused when it is loaded. Any error but one of PIXAL's ends the test."""
    TRIED.append(what)
    try:
        load_trained(config_of_test(), "front").load_anomaly_model()
    except PixalError:
        return True
    return False


@cache
def config_of_test() -> PhotographConfig:
    return photograph_config(load_config("configs"))


def edits(value: Any) -> list[Any]:
    """Values of other types, and other values of the same type."""
    others: list[Any] = [None, "other", -1, 0, 10**12, 0.5, float("nan"), [], [1], {}, {"a": 1}, True]
    if isinstance(value, bool):
        others.append(not value)
    elif isinstance(value, int | float):
        others += [value + 1, -value, float(value) * 1e6]
    elif isinstance(value, str):
        others += [value + "x", ""]
    elif isinstance(value, list):
        others += [value[:-1], [*value, *value[-1:]], value[::-1]]
    elif isinstance(value, dict):
        others += [dict(list(value.items())[1:]), value | {"another": 1}]
    return [other for other in others if (type(other), repr(other)) != (type(value), repr(value))]


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of each key and item of a record."""
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in inner:
        yield (*path, key)
        yield from places(value, (*path, key))


def changed(record: dict[str, Any], path: tuple[Any, ...], value: Any = None, *, remove: bool = False) -> Any:
    """A copy of a record with one value replaced or removed."""
    copied = copy.deepcopy(record)
    target: Any = copied
    for key in path[:-1]:
        target = target[key]
    if remove:
        del target[path[-1]]
    else:
        target[path[-1]] = value
    return copied


def value_at(record: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        record = record[key]
    return record


def test_each_key_of_the_record_is_protected(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each key, also inside others, is removed, and gets values of other types and other values.

    In the shorter run, every second key inside others is removed, and the others get a value.
    """
    record = read_record(model / RECORD)
    step, turns = tries(8, 1), tries(2, 1)
    for number, path in enumerate(places(record)):
        is_inside = len(path) > 1
        if not is_inside or number % turns == 0:
            write_record(model / RECORD, changed(record, path, remove=True))
            assert_refused(capsys, ("removed", path))
        values = edits(value_at(record, path))
        if is_inside:
            values = values[-tries(1, 2) :] if (number + 1) % turns == 0 else []
        for value in values if is_inside else values[number % step :: step]:
            write_record(model / RECORD, changed(record, path, value))
            assert_refused(capsys, (path, value))
    for extra in ({"another": 1}, {"files2": {}}):
        write_record(model / RECORD, record | extra)
        assert_refused(capsys, extra)
    assert len(TRIED) > tries(250, 1000)


def test_with_a_corrected_hash_values_that_cannot_be_are_still_refused(model: Path) -> None:
    """Who computes the hash anew gets past it. What cannot be loaded or would give no scores is refused even then."""
    record = read_record(model / RECORD)
    refused, step = set(), tries(4, 1)
    for number, path in enumerate(places(record)):
        if len(path) > 1 and path[0] in ("settings", "hardware", "versions"):
            continue
        options = [changed(record, path, value) for value in edits(value_at(record, path))[number % step :: step]]
        for content in [changed(record, path, remove=True), *options]:
            write_record(model / RECORD, with_hash(content))
            if is_refused(path):
                refused.add(path)
    always = [("input_dim",), ("shape",), ("channels",), ("channel_weights",), ("files",), ("types",), ("model",)]
    always += [("output_activation",), ("map_smoothing",), ("gives_distance",), ("shape", 0)]
    assert not set(always) - refused
    assert len(TRIED) > tries(400, 1000)


def test_values_are_checked_before_memory_is_taken(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = read_record(model / RECORD)
    huge = {"input_dim": 4 * 50_000**2, "shape": [50_000, 50_000, 4]}
    for change in ({"input_dim": 1_000_000_000}, huge):
        write_record(model / RECORD, with_hash(record | change))
        assert_refused(capsys, change)


def test_each_file_is_protected(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = read_record(model / RECORD)
    names = [path.relative_to(model / MODEL).as_posix() for path in (model / MODEL).rglob("*") if path.is_file()]
    assert set(record["files"]) == set(names) - {".lock"}
    for name in record["files"]:
        path = model / MODEL / name
        whole = path.read_bytes()
        middle = len(whole) // 2
        for content in (
            b"",
            whole[:-1],
            whole + b"\0",
            whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
            b"not a file of PIXAL",
        ):
            path.write_bytes(content)
            assert_refused(capsys, (name, content[:10]))
        path.unlink()
        assert_refused(capsys, ("removed", name))
        path.mkdir()
        assert_refused(capsys, ("a folder", name))
        path.rmdir()
        path.write_bytes(whole)


@pytest.mark.parametrize("value", [0, float("nan"), float("inf"), -1])
def test_arrays_that_cannot_be_are_refused_with_a_corrected_hash(model: Path, value: float) -> None:
    """Each array of each file is filled with one value, cut, made text, and removed; the hashes are computed anew."""
    record = read_record(model / RECORD)
    refused = set()
    for name in record["files"]:
        path = model / MODEL / name
        whole, arrays = path.read_bytes(), load_arrays(path)
        for key, array in arrays.items():
            filled = np.full_like(array, value if array.dtype.kind == "f" else 0)
            for kind, content in (
                ("filled", arrays | {key: filled}),
                ("cut", arrays | {key: array[..., :-1] if array.ndim else array.reshape(1, 1)}),
                ("text", arrays | {key: array.astype(str)}),
                ("removed", {other: kept for other, kept in arrays.items() if other != key}),
            ):
                save_arrays(path, **content)
                write_record(model / RECORD, with_hash(record | {"files": record["files"] | {name: file_hash(path)}}))
                if is_refused((name, key, kind)):
                    refused.add((name, key, kind))
        path.write_bytes(whole)
    needed = {("calibration.npz", key, "filled") for key in ("variance_0", "scores_0")}
    needed |= {
        ("pixal_gaussian.weights.npz", "whitening", "filled"),
        ("preprocessing/front.npz", "consensus", "filled"),
    }
    needed |= {(name, key, kind) for name, key, _ in needed for kind in ("cut", "text", "removed")}
    if value == -1:
        needed.remove(("pixal_gaussian.weights.npz", "whitening", "filled"))  # a matrix may be negative
    assert not needed - refused


def test_edited_preprocessing_is_refused_at_train(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = load_arrays(model / METADATA / "preprocessing.npz")
    before = (model / RECORD).read_bytes()
    for key in ("consensus", "ignored"):
        save_arrays(model / METADATA / "preprocessing.npz", **(arrays | {key: ~arrays[key]}))
        assert main(["train", "-q"]) == 2
        said = capsys.readouterr().err
        assert "preprocessing.npz is missing, or is not the file that make_input recorded; run make_input" in said
        assert said.count("\n") == 1
    save_arrays(model / METADATA / "preprocessing.npz", **arrays)
    inputs = model / "out.npz"
    whole = inputs.read_bytes()
    inputs.write_bytes(whole[:-400] + bytes([whole[-400] ^ 1]) + whole[-399:])
    assert main(["train", "-q"]) == 2
    assert "out.npz" in capsys.readouterr().err
    assert (model / RECORD).read_bytes() == before
