"""Names of photographs and types that other systems, or ill-meaning people, chose: through the whole pipeline."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import shutil
import sys
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers import NO_FIGURES, PLOTS, write_configs
from tries import tries

from pixal import cli
from pixal.config import load_config
from pixal.io.names import comparable, printable
from pixal.tasks.photographs.settings import photograph_config
from pixal.tasks.photographs.verdicts import watch as watching

pytestmark = [
    pytest.mark.slow,
    pytest.mark.figures,
    pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names"),
]

NAMES = (  # the first twelve are also in the shorter run
    *("a\rb.jpg", "a\nb.jpg", "\x1b[31mred.jpg", "x" * 251 + ".jpg", "x" * 250 + "y.jpg", "A.jpg", "a.jpg"),
    *("\u00e9.jpg", "e\u0301.jpg", "=cmd|' 'A0'!A1.jpg", "<script>alert(1)<!--.jpg", "$\\frac$.jpg"),
    *("ü" * 125 + ".jpg", "a.JPG", "a.jpeg", "--help.jpg"),
    *("%s%d{0}{x}.jpg", "🙂漢字.jpg", "\u202egpj.exe.jpg", "-rf.jpg"),
    *("tab\t.jpg", "CON.jpg", "NUL.jpg", "dot..jpg", "space .jpg", " lead.jpg", "$x$.jpg", "a,b;c\"d'.jpg"),
    *("back\\slash.jpg", "a\u2028b.jpg", "@SUM(1).jpg", "+1.jpg", "*.jpg", "?.jpg", "[a].jpg", "~.jpg", "#.jpg"),
    *("&amp;.jpg", "'.jpg", "\x07bell.jpg", "x_no_bg.jpg", "\x7f.jpg", "a\x00".replace("\x00", "\x01") + ".jpg"),
)
NOT_UTF8 = b"caf\xe9.jpg"
TYPES = (
    *("$x$", "a\nb", "front (1)", "=cmd|'x'!A1", "t" * 255, "logs", "figures", "--help", "<b>", "end.", "end "),
    *("metadata", "model", "latents", "-rf", "[a]*?", "%s{0}", "🙂漢字", "ü" * 127, "out.npz", "Front", "front"),
    *("back\\slash", "\x1b[31m", "a:b", "#x?y=1&z", "preprocessed_images", "aligned_metrics", "NUL", "a;b'c\"d"),
)
RESERVED = ("results.csv", "Results.CSV", "results.json", "report.html", "metrics.json", "report_images", "history.db")
CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u202e]")  # all but the line end
STEPS = ("preprocess", "train", "validate", "detect", "encode", "evaluate")


@dataclass(frozen=True)
class Run:
    """A command that has ended."""

    status: int
    text: str


def run(*arguments: str) -> Run:
    """Run a command; return its exit status, and what it wrote on the terminal."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        status = cli.main(list(arguments))
    return Run(int(status), out.getvalue())


def copy_as(source: Path, folder: Path, names: tuple[str, ...]) -> None:
    folder.mkdir(parents=True)
    files = sorted(source.iterdir())
    for index, name in enumerate(names):
        shutil.copy(files[index % len(files)], folder / name)


@pytest.fixture(scope="module")
def names() -> tuple[str, ...]:
    return NAMES[: tries(12, len(NAMES))]


@pytest.fixture(scope="module")
def runs(
    photographs: Path, names: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory, tracking_on: None
) -> dict[str, Run]:
    """All commands on photographs with strange names, tracked in MLflow. The working directory is that of the runs."""
    folder = tmp_path_factory.mktemp("names")
    write_configs(
        folder,
        "experimentName: names\n"
        "model_training: {autoencoder_architecture: [8, 4], n_epochs: 2, calibration_folds: 2}\n"
        "plotting: {plot_latent_space: True}\n",
    )
    copy_as(photographs / "train/Part/front", folder / "train/front", names)
    copy_as(photographs / "production/Part/front", folder / "batch/front", names)
    for side in ("train", "batch"):
        good = next((folder / side / "front").iterdir())
        shutil.copy(good, os.fsencode(folder / side / "front") + b"/" + NOT_UTF8)
    before = Path.cwd()
    os.chdir(folder)
    try:
        given = {"preprocess": ("-i", "train"), "validate": ("-i", "batch"), "encode": ("-i", "batch")}
        done = {step: run(step, *given.get(step, ()), "-q") for step in STEPS}
    finally:
        os.chdir(before)
    done["folder"] = Run(0, str(folder))
    return done


@pytest.fixture
def folder(runs: dict[str, Run], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of ``runs``."""
    monkeypatch.chdir(runs["folder"].text)
    return Path(runs["folder"].text)


def test_each_command_names_the_one_file_that_is_not_utf_8(runs: dict[str, Run]) -> None:
    statuses = {step: runs[step].status for step in STEPS}
    named = {"preprocess": 3, "train": 0, "validate": 3, "detect": 3, "encode": 3, "evaluate": 0}
    assert statuses == named, {step: runs[step].text[-500:] for step in STEPS}
    for step, status in named.items():
        lines = [line for line in runs[step].text.splitlines() if "not processed" in line]
        assert len(lines) == (status == 3)
        assert all(r"front/caf\xe9.jpg" in line and "not valid UTF-8" in line for line in lines)


def test_no_control_character_reaches_the_terminal(runs: dict[str, Run]) -> None:
    for step in STEPS:
        assert not CONTROL.search(runs[step].text), step
        assert "Glyph" not in runs[step].text
        assert "not in MLflow" not in runs[step].text


def test_each_table_has_each_photograph_once(folder: Path, names: tuple[str, ...]) -> None:
    shown = {printable(name) for name in names}
    assert len(shown) == len(names)
    tables = {
        "validate/Part/results.csv": shown | {r"caf\xe9.jpg"},
        "validate/Part/front/aligned_metrics/results.csv": shown | {r"caf\xe9.jpg"},
        "out/Part/front/figures/aligned_metrics/results.csv": shown | {r"caf\xe9.jpg"},
        "out/Part/front/latents/manifest.csv": shown,
    }
    for path, expected in tables.items():
        text = (folder / path).read_bytes().decode()
        assert not CONTROL.search(text), path
        rows = [row["image"] for row in csv.DictReader(io.StringIO(text, newline=""))]
        assert sorted(rows) == sorted(f"'{name}" if name[0] in "=+-@" else name for name in expected)
    parts = json.loads((folder / "validate/Part/results.json").read_text(encoding="utf-8"))["parts"]
    assert sorted(part["image"] for part in parts) == sorted(shown | {r"caf\xe9.jpg"})
    for part in parts:
        assert (part["verdict"] == "error") == (part["image"] == r"caf\xe9.jpg")
        assert part["verdict"] == "error" or Path(part["source"]).is_file()  # the path is not escaped


def test_the_report_shows_names_as_text(folder: Path) -> None:
    page = (folder / "validate/Part/report.html").read_text(encoding="utf-8")
    assert not CONTROL.search(page)
    assert "<script>alert" not in page
    assert "alert(1)" in page


def test_no_output_replaces_another(folder: Path, names: tuple[str, ...]) -> None:
    for path in (
        *("validate/Part/front/anomaly_maps", "validate/Part/front/aligned_metrics/matches"),
        *(
            "validate/Part/front/aligned_metrics/overlay_diagnostics",
            "out/Part/front/preprocessed_images/aligned_images",
        ),
        "out/Part/front/preprocessed_images/background_removed",
    ):
        files = [file.name for file in (folder / path).iterdir()]
        assert len(set(map(comparable, files))) == len(files) == len(names), path
        assert all(unicodedata.is_normalized("NFC", name) or "e\u0301" in name for name in files)
    overlays = list((folder / "validate/Part/front/figures").glob("anomaly_overlay_*.png"))
    assert len(overlays) == len(names)


def test_the_runs_are_in_mlflow(folder: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("names")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    commands = {run.data.tags["pixal.command"]: run.info.status for run in found}
    assert {"train", "validate"} <= set(commands)
    assert set(commands.values()) == {"FINISHED"}


def test_a_watch_judges_strange_names_once(
    folder: Path, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.setattr(watching, "PATIENCE", 0.0)
    verdicts: list[str] = []
    describe = watching._describe
    monkeypatch.setattr(watching, "_describe", lambda verdict: verdicts.append(verdict.part.image) or describe(verdict))
    scans = iter(range(4))

    def pause(_: float) -> None:
        if next(scans) == 3:
            raise KeyboardInterrupt

    batch = watching.watch("batch", config=photograph_config(load_config(None)), pause=pause)
    assert sorted(part.image for part in batch.parts) == sorted([*map(printable, names), r"caf\xe9.jpg"])
    assert len(verdicts) == len(set(verdicts))


@pytest.mark.parametrize("chosen", [TYPES[:2], TYPES[2 : tries(5, len(TYPES))]], ids=["figures", "no figures"])
def test_types_may_have_almost_any_name(
    chosen: tuple[str, ...], photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plots = [] if chosen == TYPES[:2] else PLOTS
    write_configs(
        tmp_path,
        "model_training: {model: gaussian}\n"
        "preprocessing: {draw_matches: False, save_metrics: False, save_overlays: False}\n"
        f"plotting: {{{', '.join(f'{name}: False' for name in plots)}}}\n",
    )
    for name in chosen:
        copy_as(photographs / "train/Part/front", tmp_path / "train" / name, ("1.jpg", "2.jpg", "3.jpg"))
        copy_as(photographs / "production/Part/front", tmp_path / "batch" / name, ("1.jpg",))
    for command in (
        ("preprocess", "-i", "train"),
        ("train",),
        ("validate", "-i", "batch"),
        ("validate", "-i", "batch"),
    ):
        done = run(*command, "-q")
        assert done.status == 0, done.text
        assert not CONTROL.search(done.text)
    with (tmp_path / "validate/Part/results.csv").open(newline="", encoding="utf-8") as file:
        rows = [(row["type"].removeprefix("'"), row["verdict"]) for row in csv.DictReader(file)]
    assert sorted(name for name, _ in rows) == sorted(printable(name) for name in chosen)
    assert {verdict for _, verdict in rows} <= {"pass", "fail"}


def test_a_benchmark_of_strange_names(photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    classes = ("a\nb", "=cmd|'x'!A1")
    for name in classes:
        good, bad = photographs / "train/Part/front", photographs / "production/Part/front"
        copy_as(good, tmp_path / "data" / name / "train/good", ("a\rb.jpg", "x" * 251 + ".jpg", "3.jpg"))
        copy_as(good, tmp_path / "data" / name / "test/good", ("a\rb.jpg",))
        copy_as(bad, tmp_path / "data" / name / "test/\x1b[31m", ("A.jpg", "a.jpg"))
        shutil.copy(next(good.iterdir()), os.fsencode(tmp_path / "data" / name / "test/good") + b"/" + NOT_UTF8)
        (tmp_path / "data" / name / "test/good/gone.jpg").symlink_to("nowhere")
    settings = [f"--set={setting}" for setting in ("model_training.model=gaussian", *NO_FIGURES)]
    done = run("benchmark", "-i", "data", "-o", "results", "-q", *settings)
    assert done.status == 3, done.text
    assert not CONTROL.search(done.text)
    table = (tmp_path / "results/master_results.csv").read_bytes().decode()
    assert not CONTROL.search(table)
    rows = list(csv.DictReader(io.StringIO(table, newline="")))
    assert [row["status"] for row in rows[:2]] == ["incomplete", "incomplete"]
    again = run("benchmark", "-i", "data", "-o", "results", "-q", *settings)
    assert again.status == 3


@pytest.mark.parametrize("name", RESERVED)
def test_a_type_with_the_name_of_a_result_is_one_line(
    name: str, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_configs(tmp_path, "")
    copy_as(photographs / "train/Part/front", tmp_path / "train" / name, ("1.jpg", "2.jpg"))
    done = run("preprocess", "-i", "train", "-q")
    assert done.status == 2
    assert (
        done.text
        == f"pixal: error: a type cannot be called {name}, which is a name in the results; rename its folder\n"
    )


def test_names_of_types_that_one_model_for_all_cannot_have(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    copy_as(photographs / "train/Part/front", tmp_path / "train/model", ("1.jpg", "2.jpg"))
    done = run("preprocess", "-i", "train", "-q", "--set", "model_training.one_hot_encoding=True")
    assert done.status == 2
    assert "a type cannot be called model" in done.text


@pytest.mark.parametrize(
    "name", ["-rf", "--help", "a\nb", "\x1b[31m", "t" * 300, "no\x00file", os.fsdecode(b"caf\xe9")]
)
def test_a_missing_folder_with_a_strange_name_is_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_configs(tmp_path, "")
    for command in ("preprocess", "validate"):
        done = run(command, f"--input={name}", "-q")
        assert done.status == 2, done.text
        assert len(done.text.splitlines()) == 1
        assert not CONTROL.search(done.text)
