"""The candidates of a comparison: how they are written, which settings may differ, and where their models are."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import make_config

from pixal.config.paths import DEFAULT_ENTRIES, Paths
from pixal.errors import ConfigError
from pixal.tasks.photographs.comparison.candidates import Candidate, default_candidates, make_candidates
from pixal.tasks.photographs.settings import PhotographConfig, Preprocessor

CONFIG = make_config(Path(), model_training={"model": "autoencoder", "model_options": {"output": "gaussian"}})


def candidate(text: str, config: PhotographConfig = CONFIG) -> Candidate:
    return make_candidates([text], config, config.preprocessing.preprocessor)[0]


def test_a_family_with_settings_by_short_and_by_full_names() -> None:
    made = candidate("padim, map_smoothing=2,channels=[LAB_L, LAB_a],model_options.layers=[layer1],n_epochs=3")
    settings = made.config
    assert (made.family, made.name.partition(",")[0]) == ("padim", "padim")
    assert settings.validation.map_smoothing == 2
    assert settings.preprocessing.preprocessor.channels == ["LAB_L", "LAB_a"]
    assert settings.model_training.model_options == {"layers": ["layer1"]}
    assert settings.model_training.n_epochs == 3
    assert settings.model_training.model_name == "pixal_padim"
    assert made.changes_input
    full = candidate("padim,validation.map_smoothing=2,preprocessing.preprocessor.channels=[LAB_L,LAB_a]")
    assert full.config.preprocessing == settings.preprocessing


def test_settings_alone_are_of_the_configured_family_and_keep_its_options() -> None:
    made = candidate("map_smoothing=2")
    assert (made.family, made.config.model_training.model_options) == ("autoencoder", {"output": "gaussian"})
    assert not made.changes_input
    assert candidate("gaussian").config.model_training.model_options == {}


def test_the_settings_of_the_prepared_input_are_the_start() -> None:
    prepared = Preprocessor(pool_size=3)
    (made,) = make_candidates(["gaussian,channels=[LAB_L]"], CONFIG, prepared)
    assert made.config.preprocessing.preprocessor == prepared.model_copy(update={"channels": ["LAB_L"]})
    (made,) = make_candidates(["gaussian,pool_size=3"], CONFIG, prepared)
    assert not made.changes_input


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gausian", "--candidate gausian: model_training.model: 'gausian' is not one of .*nearest is gaussian"),
        ("auto", "auto is not a model family; begin with one, for example gaussian"),
        ("gaussian,seed=3", "seed cannot differ between candidates"),
        ("gaussian,model_training.calibration_folds=3", "calibration_folds cannot differ between candidates"),
        ("gaussian,preprocessing.preprocessor.mask=a.png", "mask cannot differ"),
        ("gaussian,consensus=0.3", "consensus cannot differ"),
        ("gaussian,map_smothing=3", "map_smothing cannot differ .*nearest is map_smoothing"),
        ("gaussian,3", "'3' is not KEY=VALUE"),
        ("gaussian,map_smoothing=-1", "--candidate gaussian,map_smoothing=-1.*greater than or equal to 0"),
        ("gaussian,channels=[Red]", "channels"),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        candidate(text)
    assert "\n" not in str(caught.value)


def test_the_same_candidate_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="gaussian,pool_size=1 is given twice"):
        make_candidates(["gaussian,pool_size=1", "gaussian, pool_size=1"], CONFIG, Preprocessor())


def test_settings_alone_need_a_configured_family() -> None:
    config = make_config(Path(), model_training={"model": "auto"})
    with pytest.raises(ConfigError, match="--candidate map_smoothing=2: auto is not a model family"):
        candidate("map_smoothing=2", config)
    assert default_candidates("auto") == ["gaussian", "padim", "autoencoder"]


def test_the_configured_family_is_the_default_baseline() -> None:
    assert default_candidates("padim") == ["padim", "gaussian", "autoencoder"]
    assert default_candidates("patchcore")[0] == "patchcore"


def test_each_candidate_has_folders_of_its_own_and_shares_the_photographs() -> None:
    names = ["gaussian", "gaussian,map_smoothing=2", "gaussian,map_smoothing=[2]", "channels=[LAB_L]"]
    names.remove("gaussian,map_smoothing=[2]")
    folders = set()
    for made in make_candidates(names, CONFIG, Preprocessor()):
        paths = made.config.paths
        assert paths.component == "Part"
        model = paths.resolve("model_path", "front")
        assert model.parts[:3] == ("out", "Part", "comparison")
        assert model.parts[4:] == ("front", "model")
        folders.add(model)
        for entry in ("background_removed_path", "aligned_images_path"):
            assert paths.resolve(entry, "front") == CONFIG.paths.resolve(entry, "front")
        assert paths.resolve("validate_metadata_path") == CONFIG.paths.resolve("validate_metadata_path")
    assert len(folders) == len(names)


def test_every_entry_of_a_candidate_keeps_its_place_in_the_tree() -> None:
    paths = Paths(
        {
            "component_model_path": {"component": "Part", "base": "out"},
            "component_validate_path": {"component": "Part", "base": "validate"},
            "figures_path": {"component": "Part", "base": "elsewhere"},
        }
    ).for_candidate("a")
    assert paths.resolve("component_model_path", "front") == Path("out/Part/comparison/a/front")
    assert paths.resolve("component_model_path") == Path("out/Part/comparison/a")
    assert paths.resolve("figures_path", "front") == Path("elsewhere/Part/front/comparison/a")
    for entry, (base, path) in DEFAULT_ENTRIES.items():
        if base == "component_model_path" and "images" not in path and "figures" not in path:
            assert paths.resolve(entry, "front") == Path("out/Part/comparison/a/front") / path
