"""Tests of configurations of the first version, and of the settings that a run stored."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from helpers import PATHS

from pixal.config import load_config
from pixal.errors import ConfigError
from pixal.io.provenance import provenance
from pixal.io.records import write_record
from pixal.tasks.photographs.settings import PhotographConfig, PhotographParameters, photograph_config

FORMER = """\
preprocessing:
  alignment:
    knn_ratio: 0.55
    number_of_points: 5
    MAX_MSE_THRESHOLD: 10.0
"""


@pytest.fixture(autouse=True)
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logging.getLogger("pixal"), "propagate", True)
    return tmp_path


def load(folder: str | Path, *overrides: str) -> PhotographConfig:
    return photograph_config(load_config(folder, overrides))


def configuration(text: str) -> Path:
    Path("configs").mkdir(exist_ok=True)
    Path("configs/parameters.yaml").write_text(text)
    Path("configs/paths.yaml").write_text(PATHS)
    return Path("configs")


def test_values_of_the_first_version_load_and_say_what_is_used(caplog: pytest.LogCaptureFixture) -> None:
    alignment = load(configuration(FORMER)).preprocessing.alignment
    default = PhotographParameters().preprocessing.alignment
    assert (alignment.number_of_points, alignment.MAX_MSE_THRESHOLD, alignment.knn_ratio) == (
        *(default.number_of_points, default.MAX_MSE_THRESHOLD),
        0.55,
    )
    first, second = [record.getMessage() for record in caplog.records]
    file = Path("configs/parameters.yaml")
    assert first.startswith(f"{file}, line 4: preprocessing.alignment.number_of_points: 5 are too few SIFT features")
    assert first.endswith("; 2000 is used")
    assert second.startswith(f"{file}, line 5: preprocessing.alignment.MAX_MSE_THRESHOLD: 10.0 looks like a limit on")
    assert second.endswith("; 2000.0 is used")


@pytest.mark.parametrize("value", ["50", "500"])
def test_other_values_are_kept(value: str, caplog: pytest.LogCaptureFixture) -> None:
    text = FORMER.replace("points: 5", f"points: {value}").replace("10.0", "10.5")
    alignment = load(configuration(text)).preprocessing.alignment
    assert (alignment.number_of_points, alignment.MAX_MSE_THRESHOLD) == (int(value), 10.5)
    assert not caplog.records


def test_a_value_on_the_command_line_is_meant_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    alignment = load(configuration(""), "preprocessing.alignment.MAX_MSE_THRESHOLD=9").preprocessing.alignment
    assert alignment.MAX_MSE_THRESHOLD == 9
    assert not caplog.records
    with pytest.raises(ConfigError, match="number_of_points"):
        load("configs", "preprocessing.alignment.number_of_points=5")


@pytest.mark.parametrize("value", ["0", "-1", "five", "[5]", "true"])
def test_a_value_that_meant_nothing_is_an_error(value: str) -> None:
    with pytest.raises(ConfigError, match=r"line 2: preprocessing\.alignment\.number_of_points"):
        load(configuration(f"preprocessing:\n  alignment: {{number_of_points: {value}}}\n"))


def record_of_a_run(folder: str, parameters: PhotographParameters, *, trained: bool) -> Path:
    """Write the records that ``preprocess`` and ``train`` leave in ``metadata``, with a row per photograph."""
    metadata = Path(folder)
    rows = [{"image": f"{index}.png", "status": "ok"} for index in range(3000)]
    stored = parameters.model_dump(mode="json")
    content = provenance() | {"component": "Run", "images": rows}
    write_record(metadata / "background.yaml", content | {"settings": stored["preprocessing"]["remove_background"]})
    write_record(metadata / "preprocessing.yaml", content | {"settings": stored["preprocessing"]})
    if trained:
        write_record(metadata / "model_training.yaml", content | {"settings": stored})
    return metadata


def test_the_settings_of_a_run_load_from_its_metadata(caplog: pytest.LogCaptureFixture) -> None:
    parameters = PhotographParameters.model_validate(
        {"preprocessing": {"preprocessor": {"pool_size": 5}}, "model_training": {"seed": 7}, "experimentName": "Lab"}
    )
    config = load(record_of_a_run("out/Run/front/metadata", parameters, trained=True))
    assert config.parameters == parameters
    assert config.paths.resolve("component_model_path") == Path("out/Run")
    assert not caplog.records
    configuration("")  # its folders are used, with the component of the run
    Path("configs/paths.yaml").write_text(PATHS.replace("./out", "./elsewhere"))
    config = load("out/Run/front/metadata", "model_training.seed=8")
    assert (config.model_training.seed, config.paths.resolve("component_model_path")) == (8, Path("elsewhere/Run"))


def test_before_training_the_settings_of_preprocessing_load() -> None:
    parameters = PhotographParameters.model_validate({"preprocessing": {"preprocessor": {"pool_size": 5}}})
    config = load(record_of_a_run("metadata", parameters, trained=False))
    assert config.parameters == parameters


def test_a_changed_record_names_its_line() -> None:
    metadata = record_of_a_run("metadata", PhotographParameters(), trained=True)
    text = (metadata / "model_training.yaml").read_text()
    (metadata / "model_training.yaml").write_text(text.replace("    seed: 42", "    sed: 42"))
    line = text[: text.index("    seed: 42")].count("\n") + 1
    with pytest.raises(ConfigError, match=rf"model_training\.yaml, line {line}: unknown key model_training\.sed"):
        load(metadata)
