"""Tests of loading settings: existing users' files, merging of files, and error messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pixal.config import as_config, load_config
from pixal.config.document import section_names
from pixal.config.loading import DEFAULTS
from pixal.errors import ConfigError
from pixal.tasks.photographs.network_input.channels import CHANNELS
from pixal.tasks.photographs.settings import PhotographConfig, PhotographParameters

PATHS = """
out: &out ./out
validate: &validate ./validate
component_model_path: {component: PART, base: *out}
component_validate_path: {component: PART, base: *validate}
"""

# Every key of existing users' files, with a value that is not the default.
CONTRACT: dict[str, Any] = {
    "experimentName": "Flex line 2",
    "preprocessing.rename_images": True,
    "preprocessing.draw_matches": False,
    "preprocessing.save_metrics": False,
    "preprocessing.save_overlays": False,
    "preprocessing.remove_background.max_workers": 3,
    "preprocessing.remove_background.method": "border",
    "preprocessing.remove_background.model": "isnet-general-use",
    "preprocessing.remove_background.rename_images": True,
    "preprocessing.alignment.apply_alignment": False,
    "preprocessing.alignment.knn_ratio": 0.6,
    "preprocessing.alignment.number_of_points": 500,
    "preprocessing.alignment.ransac_threshold": 5.0,
    "preprocessing.alignment.MIN_SCORE_THRESHOLD": 0.9,
    "preprocessing.alignment.MAX_MSE_THRESHOLD": 100.0,
    "preprocessing.alignment.MIN_GOOD_MATCHES": 10,
    "preprocessing.alignment.draw_matches": False,
    "preprocessing.alignment.save_metrics": False,
    "preprocessing.alignment.save_overlays": False,
    "preprocessing.preprocessor.file_name": "flex.npz",
    "preprocessing.preprocessor.pool_size": 4,
    "preprocessing.preprocessor.channels": ["H", "S", "LCh_sinH", "LocalStd"],
    "preprocessing.preprocessor.weights": [1.0, 2.0, 0.0, 0.5],
    "preprocessing.preprocessor.zero_pruning": False,
    "preprocessing.preprocessor.zero_pruning_padding": 5,
    "preprocessing.preprocessor.bg_threshold": 10.0,
    "model_training.enable_memory_growth": False,
    "model_training.TF_GPU_ALLOCATOR": "cuda_malloc_async",
    "model_training.mixed_precision": True,
    "model_training.Available_CPU": 2,
    "model_training.CPU_MULTI_THREADING": False,
    "model_training.HYBRID_MODE": True,
    "model_training.model": "autoencoder",
    "model_training.model_name": "flex_v2",
    "model_training.model_file_extension": "h5",
    "model_training.seed": 7,
    "model_training.one_hot_encoding": True,
    "model_training.autoencoder_architecture": [64, 8],
    "model_training.label_latent_size": 4,
    "model_training.use_gradient_tape": True,
    "model_training.n_epochs": 12,
    "model_training.batchsize": 4,
    "model_training.learning_rate": 0.01,
    "model_training.optimizer": "sgd",
    "model_training.regularization": "l1_l2",
    "model_training.l1_regularization": 0.1,
    "model_training.l2_regularization": 0.2,
    "model_training.loss_function": "charbonnier",
    "model_training.huber_delta": 0.5,
    "model_training.masked_loss": True,
    "model_training.metric_accuracy": False,
    "model_training.output_activation": "sigmoid",
    "model_training.patience": 3,
    "model_training.min_delta": 0.001,
    **{
        f"plotting.{key}": False
        for key in (
            "plot_loss",
            "plot_accuracy",
            "plot_confusion_matrix",
            "plot_roc_recall_curve",
            "plot_anomaly_heatmap",
            "plot_abs_loss_per_pixel",
            "plot_mse_per_pixel",
            "plot_pixel_predictions",
            "plot_distributions",
            "plot_latent_space",
            "use_log_loss",
        )
    },
    "plotting.loss_cut": -3.5,
    "validation.false_alarm_rate": 0.05,
    "validation.threshold.method": "tail",
    "validation.pixel_size_mm": 0.02,
    "execution.backend": "dask",
    "execution.workers": 2,
    "execution.scheduler": "tcp://somewhere:8786",
    "execution.memory_limit": 1.5,
    "tracking.loggers": ["csv", "mlflow"],
    "tracking.register": True,
}
# Keys that need another key.
NEEDS = {
    "preprocessing.preprocessor.weights": ["preprocessing.preprocessor.channels"],
    "execution.scheduler": ["execution.backend"],
}


def write(folder: Path, **files: str) -> Path:
    """Write a configuration folder: ``paths.yaml`` and the given files, named without extension."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in ({"paths": PATHS} | files).items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


def value_at(config: PhotographConfig, key: str) -> Any:
    actual: Any = config
    for part in key.split("."):
        actual = getattr(actual, part)
    return actual


def nested(values: dict[str, Any]) -> dict[str, Any]:
    """Dotted keys as nested dictionaries."""
    whole: dict[str, Any] = {}
    for key, value in values.items():
        *sections, last = key.split(".")
        inner = whole
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[last] = value
    return whole


def message(folder: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(folder, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("key", CONTRACT)
def test_each_key_of_the_contract_loads_from_a_file_and_from_set(tmp_path: Path, key: str) -> None:
    assert value_at(load_config(DEFAULTS), key) != CONTRACT[key] or key == "model_training.model"
    wanted = {name: CONTRACT[name] for name in (key, *NEEDS.get(key, []))}
    folder = write(tmp_path, parameters=yaml.safe_dump(nested(wanted)))
    assert value_at(load_config(folder), key) == CONTRACT[key]
    overrides = [f"{name}={yaml.safe_dump(value, default_flow_style=True)}" for name, value in wanted.items()]
    assert value_at(load_config(DEFAULTS, overrides), key) == CONTRACT[key]


def test_the_shipped_parameters_have_every_key_with_its_default() -> None:
    shipped = yaml.safe_load((DEFAULTS / "parameters.yaml").read_text())
    defaults = PhotographParameters().model_dump()
    # These keys have two possible places; the file has the upper one.
    del defaults["preprocessing"]["remove_background"]["rename_images"]
    for key in ("draw_matches", "save_metrics", "save_overlays"):
        del defaults["preprocessing"]["alignment"][key]
    defaults["model_training"]["model_name"] = None  # set from the family when the settings are checked
    assert shipped == defaults
    assert PhotographParameters.model_validate(shipped) == PhotographParameters()


def test_the_model_name_is_that_of_the_family_unless_set() -> None:
    for family in ("autoencoder", "gaussian"):
        assert (
            PhotographParameters.model_validate({"model_training": {"model": family}}).model_training.model_name
            == f"pixal_{family}"
        )
    named = {"model": "gaussian", "model_name": "flex"}
    assert PhotographParameters.model_validate({"model_training": named}).model_training.model_name == "flex"


def test_without_a_folder_configs_in_the_working_directory_are_used_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config().source == DEFAULTS
    write(tmp_path / "configs", parameters="model_training: {n_epochs: 4}")
    config = load_config()
    assert config.source == Path("configs")
    assert (config.model_training.n_epochs, config.paths.component) == (4, "PART")


def test_settings_are_nested_attributes_and_read_only(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, parameters="preprocessing: {preprocessor: {pool_size: 3}}"))
    assert config.preprocessing.preprocessor.pool_size == 3
    with pytest.raises(ValueError, match="frozen"):
        config.preprocessing.preprocessor.pool_size = 4
    with pytest.raises(AttributeError):
        _ = config.preprocesing
    assert as_config(config) is config


EXISTING_PARAMETERS = """
experimentName: Flex Circuits
preprocessing:
  rename_images: True
  draw_matches: False
  save_metrics: True
  save_overlays: False
  remove_background: {max_workers: 4}
  alignment: {knn_ratio: 0.55, number_of_points: 50000, ransac_threshold: 7.0, MIN_SCORE_THRESHOLD: 0.5,
              MAX_MSE_THRESHOLD: 5000, MIN_GOOD_MATCHES: 10}
  preprocessor:
    channels: "ALL"
    weights: null
    pool_size: 1
model_training:
  model_file_extension: '.keras'
  regularization: none
  learning_rate: 1e-4
plotting: &plots
  loss_cut: 0.02
validation:
"""
EXISTING_PATHS = """
component_model_path:
  component: Chip
  base: ./out
component_validate_path:
  component: Chip
  base: ./validate
"""


def test_files_of_existing_users_load(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, parameters=EXISTING_PARAMETERS, paths=EXISTING_PATHS))
    preprocessing = config.preprocessing
    assert tuple(preprocessing.preprocessor.channels) == tuple(CHANNELS)
    assert preprocessing.remove_background.rename_images is True
    assert (preprocessing.alignment.draw_matches, preprocessing.alignment.save_overlays) == (False, False)
    assert (preprocessing.alignment.save_metrics, preprocessing.save_metrics) == (True, True)
    assert config.model_training.model_file_extension == "keras"
    assert config.model_training.regularization is None
    assert config.model_training.learning_rate == pytest.approx(1e-4)  # YAML 1.1 reads 1e-4 as text
    assert config.validation == PhotographParameters().validation
    assert config.paths.resolve("model_path", "front") == Path("out/Chip/front/model")
    assert config.paths.resolve("validate_anomaly_maps_path", "front") == Path("validate/Chip/front/anomaly_maps")


@pytest.mark.parametrize("place", ["preprocessing", "preprocessing.alignment"])
def test_a_switch_has_two_places_and_the_inner_one_wins(place: str) -> None:
    config = load_config(DEFAULTS, [f"{place}.save_overlays=False"])
    assert config.preprocessing.alignment.save_overlays is False
    both = load_config(DEFAULTS, ["preprocessing.save_overlays=False", "preprocessing.alignment.save_overlays=True"])
    assert both.preprocessing.alignment.save_overlays is True


@pytest.mark.parametrize("on_top", [False, True])
@pytest.mark.parametrize("section", section_names(PhotographParameters))
def test_a_section_may_have_its_own_file(tmp_path: Path, section: str, on_top: bool) -> None:
    values = nested({key: value for key, value in CONTRACT.items() if key.startswith(f"{section}.")})
    content = values if on_top else values[section]
    config = load_config(write(tmp_path, **{section: yaml.safe_dump(content), "parameters": "experimentName: X"}))
    assert config.experimentName == "X"
    for key, value in CONTRACT.items():
        if key.startswith(f"{section}."):
            assert value_at(config, key) == value


def test_files_that_set_different_keys_of_a_section_merge(tmp_path: Path) -> None:
    parameters = "preprocessing: {rename_images: True, preprocessor: {pool_size: 3}}"
    config = load_config(write(tmp_path, parameters=parameters, preprocessing="preprocessor: {channels: [R]}"))
    assert config.preprocessing.rename_images is True
    assert (config.preprocessing.preprocessor.pool_size, config.preprocessing.preprocessor.channels) == (3, ["R"])


@pytest.mark.parametrize("own", ["preprocessor:\n  pool_size: 3\n", "preprocessing:\n  preprocessor: {pool_size: 2}\n"])
def test_a_key_in_two_files_is_an_error_that_names_both_places(tmp_path: Path, own: str) -> None:
    folder = write(tmp_path, parameters="\npreprocessing: {preprocessor: {pool_size: 2}}", preprocessing=own)
    assert message(folder) == (
        f"{tmp_path / 'preprocessing.yaml'}, line 2: key preprocessing.preprocessor.pool_size is also set in "
        f"{tmp_path / 'parameters.yaml'}, line 2; keep one"
    )


def test_anchors_and_merge_keys_work_in_parameters(tmp_path: Path) -> None:
    text = "preprocessing:\n  alignment: &a {knn_ratio: 0.5}\nmodel_training:\n  <<: {n_epochs: 3}\n  seed: 1\n"
    config = load_config(write(tmp_path, parameters=text))
    assert (config.preprocessing.alignment.knn_ratio, config.model_training.n_epochs) == (0.5, 3)
    assert config.model_training.seed == 1


# A faulty file, the line that the message must name, and other words that it must contain.
FAULTS = {
    "unknown key": ("model_training:\n  n_epoch: 3\n", 2, ["model_training.n_epoch", "model_training.n_epochs"]),
    "key in the wrong section": ("plotting:\n  pool_size: 3\n", 2, ["preprocessing.preprocessor.pool_size"]),
    "unknown section": ("\n\npreprocesing:\n  rename_images: True\n", 3, ["preprocesing", "nearest is preprocessing"]),
    "unknown merged key": ("model_training:\n  <<: {n_epoch: 3}\n", 1, ["model_training.n_epoch"]),
    "value below its range": ("model_training:\n  seed: 1\n  n_epochs: 0\n", 3, ["n_epochs", "0"]),
    "value of another type": ("preprocessing:\n  preprocessor:\n    pool_size: two\n", 3, ["pool_size", "'two'"]),
    "not a number": ("validation:\n  false_alarm_rate: .nan\n", 2, ["validation.false_alarm_rate", "nan"]),
    "unknown loss": ("model_training:\n  loss_function: charbonier\n", 2, ["loss_function", "charbonnier"]),
    "unknown channel": (
        "preprocessing:\n  preprocessor:\n    channels: [R, LAB_1]\n",
        3,
        ["preprocessing.preprocessor.channels", "LAB_1", "LAB_L"],
    ),
    "a channel twice": ("preprocessing:\n  preprocessor:\n    channels: [R, R]\n", 3, ["channels", "R"]),
    "channels as a number": ("preprocessing:\n  preprocessor: {channels: 3}\n", 2, ["channels", "ALL"]),
    "weights and channels": (
        "preprocessing:\n  preprocessor:\n    channels: [R, G, B]\n    weights: [1, 2]\n",
        4,
        ["2 values for 3 channels"],
    ),
    "weights all zero": ("preprocessing:\n  preprocessor:\n    channels: [R]\n    weights: [0]\n", 4, ["weights"]),
    "a weight below zero": (
        "preprocessing:\n  preprocessor:\n    channels: [R, G]\n    weights: [1, -1]\n",
        4,
        ["weights", "-1"],
    ),
    "threshold without value": ("validation:\n  threshold:\n    method: sigma\n", 2, ["validation.threshold", "value"]),
    "scheduler without dask": ("execution:\n  scheduler: tcp://a:1\n", 2, ["execution", "dask"]),
    "a section's name for a value": ("validation: 3\n", 1, ["validation", "3"]),
    "a key given twice": ("model_training:\n  seed: 1\n  seed: 2\n", 3, ["model_training.seed", "line 2"]),
    "a section given twice": ("plotting: {plot_loss: True}\nplotting: {loss_cut: 1}\n", 2, ["plotting", "line 1"]),
    "a key below a value": ("experimentName:\n  name: X\n", 2, ["experimentName", "name"]),
    "bad YAML": ("model_training:\n  seed: [1, 2\nplotting: {}\n", 3, ["not valid YAML"]),
    "tab": ("model_training:\n\tseed: 1\n", 2, ["not valid YAML"]),
    "unknown anchor": ("validation:\n  threshold: *nowhere\n", 2, ["nowhere"]),
    "section within itself": ("preprocessing: &p\n  alignment: *p\n", 2, ["preprocessing.alignment"]),
    "tag": ("experimentName: !!python/object/apply:os.getcwd []\n", 1, ["not valid YAML"]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_file_line_and_key(tmp_path: Path, fault: str) -> None:
    text, line, words = FAULTS[fault]
    error = message(write(tmp_path, parameters=text))
    assert error.startswith(f"{tmp_path / 'parameters.yaml'}, line {line}"), error
    assert error.removeprefix(f"{tmp_path / 'parameters.yaml'}, line {line}")[0] in ",:", error
    assert all(word in error for word in words), error


def test_a_fault_in_the_file_of_a_section_is_named(tmp_path: Path) -> None:
    error = message(write(tmp_path, validation="false_alarm_rate: 0.1\nfalse_alarm_rat: 2\n"))
    assert error.startswith(f"{tmp_path / 'validation.yaml'}, line 2: unknown key validation.false_alarm_rat")
    assert error.endswith("the nearest is validation.false_alarm_rate")


@pytest.mark.parametrize(
    ("text", "word"),
    [("- 1\n- 2\n", "list"), ("just words\n", "str"), ("\x00", "cannot be read"), ("a: 1\n---\nb: 2\n", "line 2")],
)
def test_a_file_that_is_not_a_mapping_is_refused(tmp_path: Path, text: str, word: str) -> None:
    error = message(write(tmp_path, parameters=text))
    assert str(tmp_path / "parameters.yaml") in error
    assert word in error


def test_a_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    (write(tmp_path) / "parameters.yaml").write_bytes("experimentName: Prüfung".encode("latin-1"))
    assert str(tmp_path / "parameters.yaml") in message(tmp_path)


def test_text_is_read_as_utf_8(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, parameters="experimentName: Prüfung")).experimentName == "Prüfung"


def test_an_empty_file_means_the_defaults(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, parameters="# nothing\n")).parameters == PhotographParameters()


def test_a_missing_file_has_the_default_values(tmp_path: Path) -> None:
    (tmp_path / "parameters.yaml").write_text("experimentName: X")
    config = load_config(tmp_path)
    assert config.paths.component == load_config(DEFAULTS).paths.component


@pytest.mark.parametrize("make", [False, True])
def test_a_folder_without_configuration_is_refused(tmp_path: Path, make: bool) -> None:
    folder = tmp_path / "nowhere"
    if make:
        folder.mkdir()
    assert str(folder) in message(folder)


def test_a_yaml_file_that_is_not_read_causes_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    load_config(write(tmp_path, plots="plot_loss: False"))
    assert f"{tmp_path / 'plots.yaml'} is not read" in caplog.text


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("model_training.n_epochs", ["KEY=VALUE"]),
        ("=3", ["KEY=VALUE"]),
        ("model_training..seed=3", ["KEY=VALUE"]),
        ("model_training.n_epoch=3", ["unknown key model_training.n_epoch", "model_training.n_epochs"]),
        ("n_epochs=3", ["unknown key n_epochs", "model_training.n_epochs"]),
        ("model_training.n_epochs=many", ["model_training.n_epochs", "'many'"]),
        ("model_training.n_epochs=[1", ["not valid YAML"]),
        ("model_training.n_epochs.more=1", ["model_training.n_epochs", "more"]),
        ("preprocessing.preprocessor.channels=[X]", ["'X'"]),
    ],
)
def test_a_bad_override_is_quoted_in_the_message(override: str, words: list[str]) -> None:
    error = message(DEFAULTS, override)
    assert error.startswith(f"--set {override}"), error
    assert all(word in error for word in words), error


def test_overrides_win_over_files_and_the_last_one_wins(tmp_path: Path) -> None:
    folder = write(tmp_path, parameters="model_training: {n_epochs: 5, seed: 1}", validation="pixel_size_mm: 0.1")
    overrides = ["model_training.n_epochs=6", "model_training.n_epochs=7", "validation.pixel_size_mm=null"]
    config = load_config(folder, overrides)
    assert (config.model_training.n_epochs, config.model_training.seed) == (7, 1)
    assert config.validation.pixel_size_mm is None
