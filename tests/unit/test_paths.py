"""Tests of output paths: entries of ``paths.yaml`` are followed to their root, with the type below the component."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pixal.config import Paths, load_config
from pixal.config.loading import DEFAULTS
from pixal.errors import ConfigError

OUT = "out/Part/front"
VALIDATE = "validate/Part/front"
# The folders that users rely on.
TREE = {
    "background_removed_path": f"{OUT}/preprocessed_images/background_removed",
    "aligned_images_path": f"{OUT}/preprocessed_images/aligned_images",
    "model_path": f"{OUT}/model",
    "metadata_path": f"{OUT}/metadata",
    "figures_path": f"{OUT}/figures",
    "aligned_metrics_path": f"{OUT}/figures/aligned_metrics",
    "log_path": f"{OUT}/logs",
    "validate_metadata_path": f"{VALIDATE}/metadata",
    "validate_figures_path": f"{VALIDATE}/figures",
    "validate_aligned_metrics_path": f"{VALIDATE}/aligned_metrics",
    "validate_anomaly_maps_path": f"{VALIDATE}/anomaly_maps",
    "validate_log_path": f"{VALIDATE}/logs",
}
TWO = {
    "component_model_path": {"component": "Part", "base": "./out"},
    "component_validate_path": {"component": "Part", "base": "./validate"},
}

names = st.text("abcXYZ019_.- é", min_size=1, max_size=8).filter(lambda name: name not in (".", ".."))


@pytest.mark.parametrize("entries", ["shipped", "two"])
def test_the_shipped_and_the_smallest_file_give_the_same_folders(tmp_path: Path, entries: str) -> None:
    if entries == "shipped":
        text = (DEFAULTS / "paths.yaml").read_text().replace("R0_Triplet_Data_Flex_F1", "Part")
    else:
        text = yaml.safe_dump(TWO)
    (tmp_path / "paths.yaml").write_text(text)
    paths = load_config(tmp_path).paths
    assert paths.component == "Part"
    assert {name: paths.resolve(name, "front") for name in TREE} == {name: Path(path) for name, path in TREE.items()}
    # One-hot mode: the folder of the component.
    assert paths.resolve("model_path") == Path("out/Part/model")
    assert paths.resolve("component_validate_path") == Path("validate/Part")


@pytest.mark.parametrize("below", [None, "here"])
def test_another_component_has_the_same_folders(tmp_path: Path, below: str | None) -> None:
    text = (DEFAULTS / "paths.yaml").read_text()
    for entries in (yaml.safe_load(text), TWO, {**TWO, "log_path": {"folder": "logs", "base": "/var"}}):
        paths = Paths(entries)
        other = paths.for_component("Other", None if below is None else Path(below))
        assert other.component == "Other"
        for name in TREE:
            own = paths.resolve(name, "front")
            moved = Path(*["Other" if part == paths.component else part for part in own.parts])
            assert other.resolve(name, "front") == Path(below or "") / moved  # an absolute path does not change
        assert paths.component != "Other"


@given(
    root=names,
    above=st.lists(names, max_size=4),
    component=names,
    below=st.lists(names, max_size=5),
    type_name=st.none() | names,
)
def test_a_path_has_its_names_in_order_at_any_depth(
    root: str, above: list[str], component: str, below: list[str], type_name: str | None
) -> None:
    entry: Any = root
    for name in above:
        entry = {"folder": name, "base": entry}
    entry = {"component": component, "base": entry}
    part = entry
    for name in below:
        entry = {"folder": name, "base": entry}
    text = yaml.safe_dump({**TWO, "component_model_path": part, "deep": entry}, allow_unicode=True)
    paths = Paths(yaml.safe_load(text))  # safe_dump writes shared mappings as anchors
    expected = [root, *above, component, *([] if type_name is None else [type_name]), *below]
    assert paths.resolve("deep", type_name) == Path("/".join(expected))
    assert paths.resolve("component_model_path").name == paths.component == PurePosixPath(component).name


@given(depth=st.integers(1, 6), back=st.integers(0, 5))
def test_a_cycle_is_refused_at_any_depth(depth: int, back: int) -> None:
    chain: list[dict[str, Any]] = [{"folder": f"f{i}", "base": None} for i in range(depth)]
    for i in range(depth - 1):
        chain[i]["base"] = chain[i + 1]
    chain[-1]["base"] = chain[min(back, depth - 1)]
    with pytest.raises(ConfigError, match="entry loop contains itself"):
        Paths({**TWO, "loop": chain[0]})


def test_two_entries_with_the_same_base_are_not_a_cycle() -> None:
    base = {"folder": "shared", "base": "root"}
    paths = Paths({**TWO, "a": {"folder": "a", "base": base}, "b": {"folder": "b", "base": base}})
    assert paths.resolve("a").parent == paths.resolve("b").parent == Path("root/shared")


def test_the_user_s_home_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    paths = Paths({**TWO, "component_model_path": {"component": "Part", "base": "~/out"}})
    assert paths.resolve("model_path", "front") == tmp_path / "out" / "Part" / "front" / "model"


FAULTS = {
    "no base": ("{component: Part}", "component_model_path"),
    "two names": ("{component: Part, folder: x, base: out}", "component_model_path"),
    "a number for a name": ("{component: 7, base: out}", "component_model_path"),
    "an empty name": ("{component: '', base: out}", "component_model_path"),
    "a list for a base": ("{component: Part, base: [out]}", "component_model_path"),
    "nothing at all": ("", "component_model_path"),
    "itself": ("&me {component: Part, base: *me}", "component_model_path"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_entry_is_named_with_its_file(tmp_path: Path, fault: str) -> None:
    text, word = FAULTS[fault]
    file = tmp_path / "paths.yaml"
    file.write_text(f"component_validate_path: {{component: Part, base: v}}\ncomponent_model_path: {text}\n")
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path)
    assert str(caught.value).startswith(f"{file}, line 2: ")
    assert word in str(caught.value)


@pytest.mark.parametrize("missing", TWO)
def test_a_missing_component_entry_is_named(tmp_path: Path, missing: str) -> None:
    (tmp_path / "paths.yaml").write_text(yaml.safe_dump({k: v for k, v in TWO.items() if k != missing}))
    with pytest.raises(ConfigError, match=f"paths.yaml: entry {missing} is missing"):
        load_config(tmp_path)
