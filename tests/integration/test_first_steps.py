"""Tests of what a new user meets: misspelt commands, the wrong folder, messages in files, and ways to call PIXAL."""

from __future__ import annotations

import io
import logging
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers import write_configs

import pixal
from pixal import cli
from pixal.config.loading import as_config
from pixal.errors import ConfigError
from pixal.execution import progress
from pixal.extras import require_for_model
from pixal.outcome import Outcome
from pixal.progress import progress_bar


@pytest.fixture(autouse=True)
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def usage_error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    return capsys.readouterr().err


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main([*arguments, "-q"]) == 2
    return capsys.readouterr().err


def test_python_m_pixal_is_the_command_line() -> None:
    done = subprocess.run([sys.executable, "-m", "pixal", "--version"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"pixal {pixal.__version__}\n", "")


def test_a_misspelt_command_or_choice_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    message = usage_error(capsys, "validat")
    assert "'validat' is not one of " in message
    assert "; the nearest is validate (" in message
    assert "nearest" not in usage_error(capsys, "xyz")
    message = usage_error(capsys, "train", "--log-level", "inf")
    assert "'inf' is not one of debug, info, warning, error; the nearest is info" in message


def test_epochs_without_resume_says_how_to_set_the_number_of_epochs(capsys: pytest.CaptureFixture[str]) -> None:
    write_configs(Path(), "")
    message = error_of(capsys, "train", "--epochs", "5")
    assert "--epochs 5 adds epochs to a finished model" in message
    assert "needs --resume" in message
    assert "--set model_training.n_epochs=5" in message


def test_without_a_configuration_the_component_of_the_package_is_named(
    capsys: pytest.CaptureFixture[str], workdir: Path
) -> None:
    component = pixal.load_config().paths.component
    message = error_of(capsys, "train")
    assert message.startswith(f"there is no folder configs in {workdir}: using the settings of the package")
    assert f"the component {component}; name yours with --config\n" in message
    write_configs(Path(), "")
    assert "there is no folder configs" not in error_of(capsys, "train")


def test_below_the_folder_with_a_configuration_that_folder_is_named(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_configs(workdir, "")
    monkeypatch.chdir(workdir / "configs")
    monkeypatch.setattr(logging.getLogger("pixal"), "propagate", True)
    with caplog.at_level(logging.WARNING, "pixal"):
        config = as_config(None)
        as_config(config)
        as_config(workdir / "configs")
    (record,) = caplog.records
    assert record.getMessage().endswith(f"change to {workdir}, which has one")


def test_one_folder_too_high_names_the_folder_to_use(workdir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in ("out/Part/front/metadata/model_training.yaml", "batch/lot7/front/1.png"):
        Path(path).parent.mkdir(parents=True)
        Path(path).write_bytes(b"")
    write_configs(workdir, "")
    message = error_of(capsys, "validate", "-i", "batch")
    folders = Path("out/Part"), Path("batch/lot7")
    assert (
        f"type lot7 was never trained (trained in {folders[0]}: front); its folders are types: use -i {folders[1]}"
        in (message)
    )
    (workdir / "batch/lot7/front").rename(workdir / "batch/lot7/fornt")
    assert "type fornt was never trained" in (message := error_of(capsys, "validate", "-i", "batch/lot7"))
    assert message.endswith("; the nearest is front\n")


def test_preprocess_refuses_the_folder_above_that_of_the_component(capsys: pytest.CaptureFixture[str]) -> None:
    write_configs(Path(), "")
    for name in ("front", "back"):
        Path("photos/Part", name).mkdir(parents=True)
        Path("photos/Part", name, "1.png").write_bytes(b"")
    message = error_of(capsys, "preprocess", "-i", "photos")
    assert "photos holds the folder of the component Part, whose sub-folders (back, front) are its types" in message
    assert message.endswith(f"; use -i {Path('photos/Part')}\n")
    assert not Path("out").exists()
    assert "the file is empty" in error_of(capsys, "preprocess", "-i", "photos/Part")


def test_a_bar_is_lines_in_a_file_and_is_redrawn_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    assert list(progress(range(3), 3, step="front: input")) == [0, 1, 2]
    assert stream.getvalue().startswith("front: input: 3/3 [")
    assert stream.getvalue().count("\n") == 1
    assert "\r" not in stream.getvalue()
    monkeypatch.setattr(sys, "stderr", stream := Terminal())
    assert list(progress(range(3), 3, step="front: input")) == [0, 1, 2]
    assert "\rfront: input" in stream.getvalue()
    assert "100%" in stream.getvalue()
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    assert list(progress(range(3), 3, step="front: input", quiet=True)) == [0, 1, 2]
    assert stream.getvalue() == ""


def test_a_long_step_shows_lines_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixal.progress._SECONDS", 0.01)
    monkeypatch.setattr(sys, "stderr", stream := io.StringIO())
    with progress_bar(total=3, title="training", unit="epoch", quiet=False) as bar:
        for _ in range(3):
            time.sleep(0.02)
            bar.update()
    lines = [line.split(" [")[0] for line in stream.getvalue().splitlines()]
    assert lines[0] == "training: 1/3"
    assert lines[-1] == "training: 3/3"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], {"an info", "a warning"}),
        (["-q"], {"a warning"}),
        (["--log-level", "debug"], {"a detail", "an info", "a warning"}),
        (["--log-level", "debug", "-q"], {"a detail", "an info", "a warning"}),
        (["--log-level", "error"], set()),
    ],
)
def test_log_level(
    options: list[str], expected: set[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log = logging.getLogger("pixal.test")

    def speak(*_: object, **__: object) -> Outcome:
        log.debug("a detail")
        log.info("an info")
        log.warning("a warning")
        return Outcome()

    write_configs(Path(), "")
    monkeypatch.setattr(pixal, "train", speak, raising=False)
    assert cli.main(["train", *options]) == 0
    assert set(capsys.readouterr().err.splitlines()) == expected


def test_a_demo_without_tensorflow_says_what_to_install_before_it_renders(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pixal.extras.find_spec", lambda name: None)
    message = error_of(capsys, "demo", "new")
    assert "needs TensorFlow, which is not installed: pip install 'pixal[cpu]'" in message
    assert not Path("new/photographs").exists()
    require_for_model("gaussian")
    require_for_model("a family of another package")
    with pytest.raises(ConfigError, match=r"model_training\.model: padim needs TensorFlow"):
        require_for_model("padim")


@pytest.mark.parametrize(
    ("words", "expected"),
    [(["val"], "validate"), (["validate", "--fail"], "--fail-on-anomaly"), (["train", "--log-level", "deb"], "debug")],
)
@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_a_shell_completes_commands_options_and_values(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli.main(["--print-completion", "bash"])
    script = capsys.readouterr().out
    ask = f"COMP_WORDS=(pixal {' '.join(words)}); COMP_CWORD={len(words)}; _shtab_pixal; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", f"{script}\n{ask}"], capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == ([expected], "")


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("demo", "new", "--task", "charge_clusters"), "clusters"),
        (("preprocess", "-i", "photos", "--set", "preprocessing.remove_background.method=rembg"), "rembg"),
    ],
)
def test_a_command_without_its_packages_names_the_extra_before_any_work(
    arguments: tuple[str, ...], extra: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("photos/front").mkdir(parents=True)
    for name in "ab":
        cv2.imwrite(f"photos/front/{name}.png", np.zeros((32, 32, 3), np.uint8))
    write_configs(Path(), "")
    monkeypatch.setattr("pixal.extras.find_spec", lambda name: None)
    assert f"which is not installed: pip install 'pixal[{extra}]'" in error_of(capsys, *arguments)
    assert not list(Path("out").rglob("*.png"))
    assert not Path("new/photographs").exists()
