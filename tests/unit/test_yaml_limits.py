"""Hostile YAML: each file is refused with one message, and no other exception than the package's own comes out."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from attacks.tries import tries
from helpers import PATHS
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pixal.config import load_config
from pixal.config.loading import DEFAULTS
from pixal.config.yaml_limits import RECORDS, SETTINGS, check_limits
from pixal.errors import ConfigError, InputError
from pixal.io.records import read_record

BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join(['*' + below] * 9)}]\n" for below, name in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGE_BOMB = "a: &a {k0: 1, k1: 1}\n" + "".join(
    f"b{n}: &b{n} {{<<: [{','.join([f'*{below}'] * 9)}], k{n}: 1}}\n"
    for n, below in enumerate(["a", *(f"b{n}" for n in range(9))])
)
CHAIN = "e0: &e0 {f: x, base: y}\n" + "".join(f"e{n}: &e{n} {{f: x, base: *e{n - 1}}}\n" for n in range(1, 200))

# The text, and a word of the message.
HOSTILE = {
    "bomb of sequences": (BOMB, "aliases repeat"),
    "bomb of merge keys": (MERGE_BOMB, "aliases repeat"),
    "chain of anchors": (CHAIN, "through aliases"),
    "5,000 brackets": ("a: " + "[" * 5000, "nested"),
    "5,000 braces": ("a: " + "{b: " * 5000, "nested"),
    "5,000 dashes": ("a:\n" + "- " * 5000, "nested"),
    "5,000 levels of indentation": ("".join(" " * n + f"k{n}:\n" for n in range(200)), "nested"),
    "many keys": ("a: [" + "1," * 30_000 + "]", "more than"),
    "a number of 5,000 digits": ("a: " + "9" * 5000, "digits"),
    "a hexadecimal number": ("a: 0x" + "f" * 5000, "digits"),
    "a tagged number": ("a: !!int '" + "9" * 5000 + "'", "digits"),
    "NUL": ('experimentName: "a\\0b"', "character"),
    "NUL in a key": ('"a\\0b": 1', "character"),
    "an unknown alias": ("a: *nobody", "nobody"),
    "an empty number": ("a: !!int ''", "cannot be read"),
    "no number": ("a: !!float x", "cannot be read"),
    "no truth value": ("a: !!bool x", "cannot be read"),
    "no time": ("a: !!timestamp x", "cannot be read"),
    "no day": ("a: 2026-99-99", "cannot be read"),
}


def refused(folder: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def configs(folder: Path, parameters: str = "", paths: str = PATHS) -> Path:
    (folder / "parameters.yaml").write_text(parameters)
    (folder / "paths.yaml").write_text(paths)
    return folder


@pytest.mark.parametrize("file", ["parameters", "paths"])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_settings_are_refused(tmp_path: Path, name: str, file: str) -> None:
    text, word = HOSTILE[name]
    message = refused(configs(tmp_path, **{file: text}))
    assert message.startswith(str(tmp_path / f"{file}.yaml"))
    assert word in message


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_record_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "background.yaml"
    path.write_text(HOSTILE[name][0])
    if name == "many keys":
        assert len(read_record(path)["a"]) == 30_000
        return
    with pytest.raises(InputError, match=r"background\.yaml"):
        read_record(path)


@pytest.mark.parametrize("name", [name for name in HOSTILE if "key" not in name])
def test_a_hostile_override_is_refused(name: str) -> None:
    value = HOSTILE[name][0].partition(": ")[2].strip() or "[" * 5000
    with pytest.raises(ConfigError) as caught:
        load_config(DEFAULTS, [f"preprocessing.remove_background.max_workers={value}"])
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_a_record_that_contains_itself_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "background.yaml"
    path.write_text("a: &a [*a]\n")
    with pytest.raises(InputError, match="inside the node that it repeats"):
        read_record(path)


@pytest.mark.parametrize("text", ["plotting: &p [*p]\n", "plotting: &p [[1, *p]]\n", "plotting: &p {<<: [*p]}\n"])
def test_settings_that_contain_themselves_through_a_list_are_refused(tmp_path: Path, text: str) -> None:
    assert "contains itself" in refused(configs(tmp_path, text))


@pytest.mark.parametrize(("limits", "read"), [(SETTINGS, load_config), (RECORDS, None)])
def test_a_file_of_100_megabytes_is_refused_by_its_size(tmp_path: Path, limits: Any, read: Any) -> None:
    path = configs(tmp_path) / "parameters.yaml"
    with path.open("wb") as file:
        file.truncate(100_000_000)
    with pytest.raises((ConfigError, InputError), match=f"larger than {limits.size >> 10} kB"):
        read_record(path) if read is None else read(tmp_path)


def test_ordinary_anchors_are_kept(tmp_path: Path) -> None:
    text = "preprocessing: &p {rename_images: True}\n" + "x: &x [1, 2]\ny: [*x, *x]\n"
    assert check_limits(text, SETTINGS) == {"preprocessing", "x"}
    assert load_config(configs(tmp_path, "plotting: &p {plot_loss: False}\n")).parameters.plotting.plot_loss is False


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("~nosuchuser/out", ["component_model_path", "nosuchuser"]),
        ("'a\\0b'", ["character"]),
        ('"a\\tb"', ["component_model_path", "cannot be a file name"]),
        ("x" * 300, ["component_model_path", "255 bytes"]),
        ("./a_file", ["component_model_path", "a_file", "this is a file"]),
        ("./a_file/below", ["component_model_path", "a_file", "this is a file"]),
        ("./dangling", ["component_model_path", "a link to nothing"]),
    ],
)
def test_a_path_that_cannot_be_a_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a_file").write_text("kept")
    Path("dangling").symlink_to("nowhere")
    path = path.replace("'a", '"a').replace("b'", 'b"')
    text = f"component_validate_path: {{component: P, base: v}}\ncomponent_model_path: {{component: P, base: {path}}}\n"
    message = refused(configs(tmp_path, paths=text))
    assert message.startswith(f"{tmp_path / 'paths.yaml'}, line 2")
    assert all(word in message for word in words), message
    assert Path("a_file").read_text() == "kept"


@pytest.mark.parametrize(
    ("entry", "nearest"),
    [
        ("modle_path: {folder: m, base: x}", "model_path"),
        ("model_pathh: &own {folder: m, base: x}", "model_path"),
        ("validate_figure_path: {folder: m, base: x}", "validate_figures_path"),
    ],
)
def test_an_unknown_entry_is_refused_with_the_nearest(tmp_path: Path, entry: str, nearest: str) -> None:
    message = refused(configs(tmp_path, paths=PATHS + entry))
    assert message.startswith(f"{tmp_path / 'paths.yaml'}, line 3: unknown entry {entry.partition(':')[0]}")
    assert message.endswith(f"the nearest is {nearest}")


@pytest.mark.parametrize(
    "entry",
    [
        "disk: &disk /data",  # a folder for other entries, which no entry uses
        "validate_aligned_images_path: {folder: m, base: x}",  # in files for the first version
        "general_remove_background_path: {folder: m, base: x}",
        "latents_path: {folder: m, base: x}",
    ],
)
def test_own_and_former_entries_are_accepted(tmp_path: Path, entry: str) -> None:
    load_config(configs(tmp_path, paths=PATHS + entry))


@pytest.mark.parametrize(("base", "warned"), [("../../x", True), ("a/../../x", True), ("a/../b", False), ("/x", False)])
def test_a_path_that_leads_up_is_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, base: str, warned: bool
) -> None:
    text = (
        f"component_validate_path: {{component: P, base: v}}\ncomponent_model_path: {{component: P, base: {base!r}}}\n"
    )
    with caplog.at_level(logging.WARNING, "pixal"):
        load_config(configs(tmp_path, paths=text))
    assert len(caplog.messages) == warned
    if warned:
        assert "paths.yaml, line 2: entry component_model_path leads out of the working directory" in caplog.text
        assert os.path.abspath(f"{base}/P") in caplog.text  # noqa: PTH100


WORDS = (
    *("preprocessing", "model_training", "plotting", "validation", "execution", "experimentName", "task", "model"),
    *("preprocessor", "channels", "weights", "pool_size", "alignment", "reference", "seed", "n_epochs", "workers"),
    *("component_model_path", "component_validate_path", "component", "base", "model_path", "threshold", "method"),
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from([*WORDS, "~x", "../x", "\0", "2026-01-01", "0x1F", "1e999", ".nan", "a" * 300])
    | st.dates()
    | st.binary(max_size=4)
)
keys = st.sampled_from(WORDS) | scalars
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5), max_leaves=25
)
pieces = st.lists(
    st.sampled_from(
        [
            *WORDS,
            ": ",
            "\n",
            "  ",
            "- ",
            "[",
            "]",
            "{",
            "}",
            ",",
            "&a ",
            "*a",
            "<<",
            "!!int ",
            "!!set ",
            "? ",
            "|",
            "'",
            '"',
        ]
    )
    | st.text(max_size=3),
    max_size=40,
).map("".join)


def dumped(value: Any) -> str:
    return yaml.safe_dump(value, allow_unicode=True)


def check_only_config_errors(folder: Path, file: str, text: str) -> None:
    for old in folder.glob("*.yaml"):
        old.unlink()
    configs(folder)
    (folder / f"{file}.yaml").write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
    try:
        load_config(folder)
    except ConfigError as error:
        if len(str(error).splitlines()) != 1:
            pytest.fail(f"not one line: {error}")


@given(
    file=st.sampled_from(["parameters", "paths", "preprocessing", "plotting", "validation"]),
    text=documents.map(dumped) | pieces,
)
@example(file="parameters", text="? [a]\n: 1\n")
@example(file="parameters", text="{1: 2}")
@settings(max_examples=tries(300, 2500))
def test_only_config_errors_come_out(tmp_path_factory: pytest.TempPathFactory, file: str, text: str) -> None:
    check_only_config_errors(tmp_path_factory.getbasetemp(), file, text)
