"""Tests of the command line: exit statuses, error messages in one line, no output with -q."""

from __future__ import annotations

import gc
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from helpers import write_configs

import pixal
from pixal import cli
from pixal.config.loading import DEFAULTS
from pixal.errors import StorageError
from pixal.io.images import read_image

COMMANDS = (
    *("inspect", "preprocess", "remove_bg", "align", "make_input", "train", "validate", "detect"),
    *("encode", "evaluate", "history", "benchmark", "demo", "init", "check", "status", "doctor"),
)
HEAVY = (
    *("tensorflow", "keras", "rembg", "onnxruntime", "mlflow", "matplotlib", "cv2", "sklearn", "skimage", "pandas"),
    "sqlalchemy",
)
NO_FIGURES = "preprocessing: {draw_matches: False, save_metrics: False, save_overlays: False}"


@pytest.fixture(autouse=True)
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a configuration without figures."""
    monkeypatch.chdir(tmp_path)
    configure()
    return tmp_path


def configure() -> None:
    write_configs(Path(), NO_FIGURES)


@pytest.fixture
def photos(rendered: Path) -> Path:
    """Four good photographs of one type, in the working directory."""
    folder = Path("photos/front")
    folder.mkdir(parents=True)
    for index in range(4):
        shutil.copy(rendered / f"train/Part/front/image_{index:03d}.jpg", folder)
    return folder.parent


@pytest.fixture(scope="module")
def preprocessed(rendered: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of ``preprocess`` on four good photographs of one type."""
    folder = tmp_path_factory.mktemp("preprocessed")
    (folder / "front").mkdir()
    for index in range(4):
        shutil.copy(rendered / f"train/Part/front/image_{index:03d}.jpg", folder / "front")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        configure()
        assert cli.main(["preprocess", "-i", str(folder / "front"), "-q"]) == 0
    return folder / "out"


@pytest.fixture
def prepared(preprocessed: Path, workdir: Path) -> None:
    """A copy of ``preprocessed`` in the working directory."""
    shutil.copytree(preprocessed, workdir / "out")


def failed(capsys: pytest.CaptureFixture[str], *arguments: str | Path, status: int = 2) -> str:
    """Run a command that must fail with one line on standard error; return that line."""
    capsys.readouterr()
    assert cli.main([*map(str, arguments), "-q"]) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("pixal: "), err
    assert err.count("\n") == 1, err
    assert err.endswith("\n")
    return err


def test_help_imports_no_heavy_library() -> None:
    """This needs a new process, because the test process has imported everything."""
    code = f"""
import sys
from pixal.cli import main
for arguments in [["-h"], ["--version"], *([name, "--help"] for name in {COMMANDS})]:
    try:
        main(arguments)
    except SystemExit as stop:
        assert stop.code == 0, arguments
sys.stderr.write(" ".join(sorted(set({HEAVY}) & set(sys.modules))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"pixal {pixal.__version__}" in done.stdout
    for name in COMMANDS:
        assert f"usage: pixal {name} " in done.stdout
        assert re.search(rf"\n +{name}\s+[a-z]", done.stdout)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_the_common_options(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "-h"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert all(option in text for option in ("-q, --quiet", "-c", "--config DIR", "--set KEY=VALUE", "--debug"))
    assert ("--truth" in text) == ("--fail-on-anomaly" in text) == (command in ("validate", "detect"))


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "COMMAND"),
        (["preproces"], "'preproces'"),
        (["preprocess"], "-i/--input"),
        (["train", "--resume", "--epochs", "three"], "--epochs"),
        (["validate", "-i"], "expected one argument"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(
    arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(arguments)
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith("pixal: error: ")
    assert word in err


STEPS = ("preprocess", "remove_bg", "validate")


@pytest.mark.parametrize("command", STEPS)
def test_a_folder_that_is_missing_or_empty(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nowhere does not exist" in failed(capsys, command, "-i", "nowhere")
    Path("empty/front").mkdir(parents=True)
    assert "empty holds no image" in failed(capsys, command, "-i", "empty")
    Path("empty/front/notes.txt").write_text("no image")
    assert "empty holds no image" in failed(capsys, command, "-i", "empty")
    assert "notes.txt is not an image" in failed(capsys, command, "-i", "empty/front/notes.txt")


def spoil(name: str, folder: Path, whole: Path) -> Path:
    """Write a copy of the photograph ``whole`` that cannot be processed."""
    path = folder / f"zz_{name}{'.jpg' if name != 'black' else '.png'}"
    if name == "text":
        path.write_text("I am no image")
    elif name == "empty":
        path.write_bytes(b"")
    elif name == "truncated":
        path.write_bytes(whole.read_bytes()[:5000])
    elif name == "black":
        PIL.Image.fromarray(np.zeros_like(read_image(whole))).save(path)
    elif name == "size":
        with PIL.Image.open(whole) as image:
            image.resize((400, 300)).save(path)
    elif name == "other":  # the other side of the part
        PIL.Image.fromarray(np.ascontiguousarray(read_image(whole)[:, ::-1])).save(path)
    return path


BAD = {
    "text": "is not an image",
    "empty": "the file is empty",
    "truncated": "truncated",
    "black": "no part found",
}


@pytest.mark.parametrize("name", BAD)
def test_a_batch_of_only_bad_images(name: str, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path("bad/front")
    folder.mkdir(parents=True)
    path = spoil(name, folder, photos / "front/image_000.jpg")
    for source in ("bad", path):
        stderr = failed(capsys, "preprocess", "-i", source)
        assert f"front/{path.name}: " in stderr
        assert BAD[name] in stderr


def test_bad_images_are_named_and_the_others_are_processed(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reasons = BAD | {"size": "is 400x300, the photographs of its type are 480x270", "other": "not aligned"}
    for name in reasons:
        spoil(name, photos / "front", photos / "front/image_000.jpg")
    capsys.readouterr()
    assert cli.main(["preprocess", "-i", str(photos), "-q"]) == 3
    out, err = capsys.readouterr()
    lines = err.splitlines()
    assert out == ""
    assert len(lines) == len(reasons)
    assert all(line.startswith("pixal: not processed: front/zz_") for line in lines)
    for name, reason in reasons.items():
        (line,) = [line for line in lines if f"front/zz_{name}." in line]
        assert reason in line
    with np.load("out/Part/front/out.npz", allow_pickle=False) as file:
        assert list(file["names"]) == [f"image_{index:03d}.jpg" for index in range(4)]
    table = Path("out/Part/front/figures/aligned_metrics/results.csv").read_text().splitlines()
    assert len(table) == 1 + 4 + len(reasons)
    assert sum(",ok," in row for row in table) == 4
    # The single steps give the same result, each with its own failures.
    whole = Path("out/Part/front/out.npz").read_bytes()
    assert cli.main(["remove_bg", "-i", str(photos), "-q"]) == 3
    assert len(capsys.readouterr().err.splitlines()) == len(reasons) - 1
    assert cli.main(["align", "-i", str(photos), "-q"]) == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert reasons["other"] in line
    assert cli.main(["make_input", "-q"]) == 0
    assert Path("out/Part/front/out.npz").read_bytes() == whole


def test_each_step_has_a_progress_bar_unless_quiet(photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["preprocess", "-i", str(photos), "-q"]) == 0
    assert capfd.readouterr() == ("", "")
    assert cli.main(["preprocess", "-i", str(photos), "--force"]) == 0
    out, err = capfd.readouterr()
    assert out == ""
    assert "Traceback" not in err
    assert "background method border" in err
    for step in ("front: background", "front: alignment", "front: input"):
        assert step in err
    assert "4/4" in err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model_training:\n  n_epoch: 3\n", ["line 2", "model_training.n_epoch", "nearest is model_training.n_epochs"]),
        ("preprocessing:\n  preprocessor: {channels: [LAB_X]}\n", ["line 2", "channels", "LAB_X"]),
        ("model_training: {loss_function: rmse}\n", ["line 1", "model_training.loss_function", "'rmse'", "mse"]),
        ("preprocessing:\n  preprocessor:\n    weights: [1, 2]\n", ["line 3", "weights", "2 values for 4 channels"]),
        ("model_training: [1\n", ["line", "not valid YAML"]),
    ],
)
@pytest.mark.parametrize("command", ["preprocess", "train", "validate"])
def test_a_faulty_configuration(
    command: str, text: str, words: list[str], photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("configs/parameters.yaml").write_text(text)
    stderr = failed(capsys, command, "-i", photos)
    assert stderr.startswith(f"pixal: error: {Path('configs/parameters.yaml')}, line ")
    assert all(word in stderr for word in words), stderr
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("override", "word"),
    [
        ("model_training.n_epoch=3", "n_epochs"),
        ("model_training.model=autoencodr", "autoencoder"),
        ("preprocessing.preprocessor.channels=[R,Q]", "'Q'"),
    ],
)
@pytest.mark.usefixtures("prepared")
def test_a_faulty_override(override: str, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    stderr = failed(capsys, "train", "--set", override)
    assert override.partition("=")[0] in stderr
    assert word in stderr


def test_a_folder_that_is_not_a_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert "nowhere does not exist" in failed(capsys, "train", "-c", "nowhere")
    Path("other").mkdir()
    assert "other contains neither" in failed(capsys, "train", "-c", "other")


@pytest.mark.parametrize("one_hot", [False, True])
def test_steps_in_wrong_order_name_the_step_to_run_first(
    one_hot: bool, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mode = ("--set", f"model_training.one_hot_encoding={one_hot}")
    assert "run remove_bg" in failed(capsys, "align", "-i", photos, *mode)
    assert "first" in failed(capsys, "make_input", *mode)
    assert "run preprocess first" in failed(capsys, "train", *mode)
    assert "run train first" in failed(capsys, "validate", "-i", photos, *mode)
    assert "run validate first" in failed(capsys, "detect", *mode)
    assert "does not exist" in failed(capsys, "train", "-i", "other.npz", *mode)
    shutil.copytree(photos / "front", photos / "back")
    assert cli.main(["remove_bg", "-i", str(photos), "-q", *mode]) == 0
    assert "run align" in failed(capsys, "make_input", *mode)


@pytest.mark.slow
def test_training_on_one_image_works_with_a_warning(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in sorted(photos.glob("front/*"))[1:]:
        path.unlink()
    assert cli.main(["preprocess", "-i", str(photos), "-q"]) == 0
    capsys.readouterr()
    assert cli.main(["train", "-q"]) == 0
    assert "1 good image" in capsys.readouterr().err
    with np.load("out/Part/front/model/calibration.npz", allow_pickle=False) as file:
        assert all(np.isfinite(file[name]).all() for name in file.files)


@pytest.mark.usefixtures("prepared")
def test_a_damaged_npz_or_one_of_another_tool_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("out/Part/front/out.npz")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "is damaged" in failed(capsys, "train")
    path.write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    assert "run make_input again" in failed(capsys, "train")
    np.savez(path, data=np.zeros((3, 4)))
    assert "was not written by PIXAL" in failed(capsys, "train", "-i", path)
    path.write_bytes(whole)
    assert "one_hot_encoding is True" in failed(
        capsys, "train", "-i", path, "--set", "model_training.one_hot_encoding=True"
    )


def test_only_debug_shows_a_traceback(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli.main(["preprocess", "-i", "nowhere", "--debug"]) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("pixal: error: nowhere does not exist")

    def explode(*_: object, **__: object) -> None:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(pixal, "preprocess", explode, raising=False)
    assert "unexpected failure: RuntimeError: two lines" in failed(capsys, "preprocess", "-i", "x", status=1)
    assert cli.main(["preprocess", "-i", "x", "--debug"]) == 1
    assert "in explode" in capsys.readouterr().err

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pixal, "preprocess", interrupt)
    assert "preprocess stopped; the same command resumes" in failed(capsys, "preprocess", "-i", "x", status=130)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("is_swallowed", [False, True])
def test_a_signal_stops_a_command_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, number: int, status: int, is_swallowed: bool
) -> None:
    """Also where a library turns the interruption into an error of its own, as imports in C do."""

    def signalled(*_: object, **__: object) -> None:
        try:
            signal.raise_signal(number)
            time.sleep(60)
        except KeyboardInterrupt:
            if is_swallowed:
                raise ImportError("cannot import name x") from None
            raise

    monkeypatch.setattr(pixal, "preprocess", signalled, raising=False)
    before = signal.getsignal(number), sys.unraisablehook
    assert "preprocess stopped; " in failed(capsys, "preprocess", "-i", "x", status=status)
    assert (signal.getsignal(number), sys.unraisablehook) == before


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_pixal_is_imported_is_one_line(workdir: Path, number: int, status: int) -> None:
    """Signals are handled before anything that takes long to import. A module of that name stands for the import."""
    (workdir / "pydantic.py").write_text(f"import signal, time\nsignal.raise_signal({int(number)})\ntime.sleep(60)\n")
    root = str(Path(pixal.__file__).parents[1])
    process = subprocess.run(
        [sys.executable, "-m", "pixal.cli", "train"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(workdir), root])},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (
        process.stderr == "pixal: train stopped; to resume from the last checkpoint, add --resume to the same command\n"
    )
    assert process.returncode == status


def test_a_signal_before_the_options_are_read_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> None:
        signal.raise_signal(signal.SIGINT)
        time.sleep(60)

    monkeypatch.setattr("pixal.commands.parser.build_parser", interrupted)
    assert failed(capsys, "train", status=130) == "pixal: the command stopped; run the same command again\n"


def test_a_full_disk_is_reported_also_after_a_signal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A watch that was stopped writes its results then."""

    def writes_results_when_stopped(*_: object, **__: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
            time.sleep(60)
        except KeyboardInterrupt:
            raise StorageError("results.csv cannot be written: No space left on device") from None

    monkeypatch.setattr(pixal, "preprocess", writes_results_when_stopped, raising=False)
    assert "results.csv cannot be written" in failed(capsys, "preprocess", "-i", "x", status=2)


def test_what_is_interrupted_half_made_prints_no_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A progress bar that is interrupted in its constructor fails when it is deleted."""

    class HalfMade:
        def __init__(self) -> None:
            signal.raise_signal(signal.SIGTERM)
            time.sleep(60)

        def __del__(self) -> None:
            raise AttributeError("no attribute 'pos'")

    monkeypatch.setattr(pixal, "preprocess", lambda *_, **__: HalfMade(), raising=False)
    assert "preprocess stopped; " in failed(capsys, "preprocess", "-i", "x", status=143)
    gc.collect()
    assert capsys.readouterr().err == ""


def test_where_the_configuration_is_searched(capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(DEFAULTS, "mine")
    with Path("mine/parameters.yaml").open("a") as file:
        file.write("\nunknown: 1\n")
    assert "unknown key unknown" in failed(capsys, "train", "-c", "mine")
    assert str(Path("out/Part")) in failed(capsys, "train")  # ./configs
    shutil.rmtree("configs")
    capsys.readouterr()
    assert cli.main(["train", "-q"]) == 2
    warning, message = capsys.readouterr().err.splitlines()
    assert "no folder configs" in warning
    assert "R0_Triplet_Data_Flex_F1" in message  # the shipped defaults


def test_tables_have_the_original_names_of_renamed_images(photos: Path) -> None:
    setting = ("--set", "preprocessing.rename_images=True")
    assert cli.main(["preprocess", "-i", str(photos), "-q", *setting]) == 0
    folder = Path("out/Part/front")
    made = sorted(path.name for path in (folder / "preprocessed_images").rglob("*.png"))
    assert made == sorted(f"front_00{i}_{kind}.png" for i in range(4) for kind in ("aligned", "no_bg"))
    with np.load(folder / "out.npz", allow_pickle=False) as file:
        assert list(file["names"]) == [f"image_{index:03d}.jpg" for index in range(4)]
    table = (folder / "figures/aligned_metrics/results.csv").read_text().splitlines()
    assert [row.partition(",")[0] for row in table[1:]] == [f"image_{index:03d}.jpg" for index in range(4)]
