"""Tests of init, check, status and doctor."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import yaml
from helpers import write_configs

import pixal
from pixal import cli
from pixal.commands import doctor as doctor_module
from pixal.errors import ConfigError, InputError


@pytest.fixture(autouse=True)
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def photographs(folder: str, count: int, size: tuple[int, int] = (40, 30)) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    for index in range(count):
        PIL.Image.new("RGB", size, (index, 0, 0)).save(Path(folder, f"{index}.png"))


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> Any:
    capsys.readouterr()
    assert cli.main([*arguments, "--json"]) == status
    return json.loads(capsys.readouterr().out)


def test_init_writes_settings_that_load_and_names_the_next_command(capsys: pytest.CaptureFixture[str]) -> None:
    photographs("photos/My Part/front", 2)
    photographs("photos/My Part/back", 3)
    assert cli.main(["init", "-i", "photos/My Part"]) == 0
    text = capsys.readouterr().out
    assert "for the component My Part" in text
    assert "  back: 3 photographs\n  front: 2 photographs\n" in text
    assert "next: pixal preprocess -i 'photos/My Part' && pixal train" in text
    config = pixal.load_config()
    assert config.source == Path("configs")
    assert config.paths.component == "My Part"
    assert config.parameters == pixal.load_config(pixal.config.loading.DEFAULTS).parameters


@pytest.mark.parametrize("name", ["007", "a: b", "yes", "ä #1", "'"])
def test_init_quotes_a_name_that_yaml_would_read_as_something_else(name: str) -> None:
    written = pixal.init(name, config="mine")
    assert pixal.load_config("mine").paths.component == name
    entries = yaml.safe_load(Path("mine/paths.yaml").read_text(encoding="utf-8"))
    assert entries["component_validate_path"]["component"] == name
    assert written.summary().endswith("-c mine && pixal train -c mine")


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\nb"])
def test_init_refuses_a_name_that_cannot_be_a_folder(name: str) -> None:
    with pytest.raises(InputError, match="cannot be the name of a component"):
        pixal.init(name)
    assert not Path("configs").exists()


def test_init_overwrites_nothing_and_needs_a_name() -> None:
    with pytest.raises(InputError, match="name the component, or the folder"):
        pixal.init()
    pixal.init("A")
    before = Path("configs/paths.yaml").read_bytes()
    Path("configs/parameters.yaml").unlink()
    with pytest.raises(InputError, match=r"paths\.yaml exists"):
        pixal.init("B")
    assert Path("configs/paths.yaml").read_bytes() == before
    assert not Path("configs/parameters.yaml").exists()


def test_check_names_every_problem_and_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    write_configs(Path(), "")
    photographs("photos/Part/front", 9)
    photographs("photos/Part/back", 3)
    PIL.Image.new("RGB", (50, 30)).save("photos/Part/front/zz.png")
    Path("photos/Part/front/damaged.jpg").write_bytes(b"no image")
    before = sorted(Path().rglob("*"))
    found = as_json(capsys, "check", "-i", "photos/Part", status=2)
    assert [(row["name"], row["photographs"], row["size"]) for row in found["types"]] == [
        ("back", 3, [40, 30]),
        ("front", 11, [40, 30]),
    ]
    assert found["problems"] == [
        "front/damaged.jpg: is not an image that can be read",
        "front/zz.png: is 50x30, most photographs of its type are 40x30",
    ]
    assert found["warnings"] == ["back: 3 photographs; for training, 8 or more are recommended"]
    assert found["plan"] == []
    assert sorted(Path().rglob("*")) == before
    for name in ("zz.png", "damaged.jpg"):
        Path("photos/Part/front", name).unlink()
    assert cli.main(["check", "-i", "photos/Part"]) == 0
    text = capsys.readouterr().out
    assert "would prepare 12 photographs (back, front)" in text
    assert "warning: back: 3 photographs" in text


def test_check_finds_a_turned_photograph_of_the_same_size_fine() -> None:
    write_configs(Path(), "")
    photographs("photos/Part/front", 8)
    PIL.Image.new("RGB", (30, 40)).save("photos/Part/front/turned.png")
    assert not pixal.check("photos/Part").problems


def test_check_refuses_the_folder_above_and_bad_options(capsys: pytest.CaptureFixture[str]) -> None:
    write_configs(Path(), "model_training: {model: padim, model_options: {levles: 2}}")
    photographs("photos/Part/front", 8)
    found = as_json(capsys, "check", "-i", "photos", status=2)
    assert "model_options.levles" in found["problems"][0]
    assert found["problems"][1].endswith(f"use -i {Path('photos/Part')}")
    with pytest.raises(ConfigError):
        pixal.check(config="nowhere")


@pytest.fixture(scope="module")
def finished(rendered: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a trained type and a validated batch. Read only."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        quick = "{draw_matches: False, save_metrics: False, save_overlays: False}"
        write_configs(folder, f"model_training: {{model: gaussian}}\npreprocessing: {quick}\n")
        for part, count in (("train", 4), ("production", 2)):
            Path(part, "front").mkdir(parents=True)
            for path in sorted((rendered / part / "Part/front").glob("*.jpg"))[:count]:
                shutil.copy(path, Path(part, "front"))
        pixal.preprocess("train", quiet=True)
        pixal.train(quiet=True)
        pixal.validate("production", quiet=True)
    return folder


def test_status_from_nothing_to_a_finished_batch(
    finished: Path, workdir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_configs(Path(), "")
    state = as_json(capsys, "status")
    assert (state["types"], state["batches"]) == ([], [])
    assert state["next"]["command"] == "pixal preprocess -i photos/Part"
    monkeypatch.chdir(finished)
    before = sorted(path for path in finished.rglob("*"))
    state = as_json(capsys, "status")
    (row,), (batch,) = state["types"], state["batches"]
    assert (row["name"], row["input"]["photographs"], row["input"]["stale"]) == ("front", 4, [])
    assert row["input"]["source"] == str(finished / "train/front")
    assert (row["model"]["family"], row["model"]["good_parts"], row["model"]["stale"]) == ("gaussian", 4, [])
    assert (batch["newest"], batch["parts"], batch["errors"], batch["stale"]) == (True, 2, 0, [])
    assert state["next"]["command"] is None
    assert sorted(path for path in finished.rglob("*")) == before
    assert cli.main(["status"]) == 0
    assert "next: everything is up to date; open validate" in capsys.readouterr().out.replace(os.sep, "/")


def test_status_says_what_is_out_of_date_and_what_to_run(
    finished: Path, workdir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    state = as_json(capsys, "status", "--set", "model_training.seed=7")
    assert state["types"][0]["model"]["stale"] == ["changed since: model_training.seed"]
    assert state["next"] == {"command": "pixal train", "reason": "changed since: model_training.seed"}
    state = as_json(capsys, "status", "--set", "preprocessing.preprocessor.pool_size=5")
    assert state["types"][0]["input"]["stale"] == ["changed since: preprocessing.preprocessor.pool_size"]
    assert state["next"]["command"] == f"pixal preprocess -i {finished / 'train'}"
    state = as_json(capsys, "status", "--set", "validation.false_alarm_rate=0.05")
    assert state["batches"][0]["stale"] == ["validation.false_alarm_rate was 0.01"]
    assert state["next"]["command"] == "pixal detect"


def test_status_sees_photographs_models_and_results_that_changed(
    finished: Path, workdir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished, copy := workdir / "copy")
    monkeypatch.chdir(copy)
    first, second, third, _ = sorted((copy / "train/front").iterdir())
    shutil.copy(first, copy / "train/front/added.jpg")
    os.utime(second, (4e9, 4e9))
    third.unlink()
    assert as_json(capsys, "status")["types"][0]["input"]["stale"] == [
        "front: 1 photograph missing",
        "front: 1 photograph changed",
        f"front: 1 photograph added in {copy / 'train/front'}",
    ]
    os.utime(second, (1e9, 1e9))
    (copy / "train/front/added.jpg").unlink()
    shutil.copy2(first, third)
    Path("out/Part/front/model/calibration.npz").write_bytes(b"")
    Path("validate/Part/results.json").unlink()
    state = as_json(capsys, "status")
    assert "is not the file that training wrote" in state["types"][0]["model"]["stale"][0]
    assert state["next"]["command"] == "pixal train"
    assert state["batches"][0]["stale"] == ["interrupted before its results were written"]


def test_doctor_names_versions_weights_and_the_store(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor_module, "_tensorflow", lambda: {"version": "2.21.0", "gpu": "none"})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://user:secret@server:5000")
    found = as_json(capsys, "doctor")
    assert found["packages"]["numpy"] == np.__version__
    assert found["tracking"]["store"] == "server:5000"
    assert "secret" not in json.dumps(found)
    assert found["problems"] == []
    assert cli.main(["doctor"]) == 0
    assert f"  pixal: {pixal.__version__} in " in capsys.readouterr().out
    assert not list(Path().iterdir())


def test_doctor_says_why_there_is_no_gpu_and_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_module.shutil, "which", lambda name: None)
    assert "no NVIDIA driver" in doctor_module._no_gpu(True)
    monkeypatch.setattr(doctor_module.shutil, "which", lambda name: "/usr/bin/nvidia-smi")
    assert "no GPU support; pip install 'pixal[gpu]'" in doctor_module._no_gpu(False)
    assert "cannot load CUDA" in doctor_module._no_gpu(True)
    monkeypatch.setattr(doctor_module, "_ASK_TENSORFLOW", "raise ImportError('libcuda is broken')")
    found = pixal.doctor()
    assert found.problems == ("TensorFlow cannot be imported: ImportError: libcuda is broken",)
    monkeypatch.setattr(doctor_module, "find_spec", lambda name: None)
    assert "all models but gaussian need TensorFlow, which is not installed: pip install" in pixal.doctor().problems[0]


def test_dir_lists_the_functions() -> None:
    assert set(pixal.__all__) <= set(dir(pixal))
    assert sys.modules["pixal"] is pixal
