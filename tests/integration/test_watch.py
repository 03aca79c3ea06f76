"""``validate --watch`` and resumed batches: each part is validated once, with the same result as in one batch."""

from __future__ import annotations

import csv
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers import PLOTS, record_verdicts, write_configs

import pixal
from pixal import cli
from pixal.config import load_config
from pixal.database.store import Store
from pixal.errors import InputError, ModelError
from pixal.inputs import InputSet
from pixal.io.arrays import load_arrays
from pixal.report import images as report_images
from pixal.tasks.photographs.settings import PhotographConfig, photograph_config
from pixal.tasks.photographs.verdicts import watch
from pixal.tasks.photographs.verdicts.type_verdicts import TypeVerdicts
from pixal.tasks.photographs.verdicts.verdict_store import StoredVerdict, VerdictStore, read_journal
from pixal.tracking import Tracker

Step = Callable[[], object]
SETTINGS = f"""
model_training: {{autoencoder_architecture: [8, 4], n_epochs: 4, calibration_folds: 2, one_hot_encoding: False}}
preprocessing: {{draw_matches: False, save_metrics: False, save_overlays: False}}
plotting: {{{", ".join(f"{flag}: False" for flag in PLOTS)}}}
execution: {{workers: 2}}
validation: {{watch_interval: 10}}
"""


@pytest.fixture(scope="module")
def trained(rendered: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a working directory with one model per type; read only."""
    folder = tmp_path_factory.mktemp("trained")
    write_configs(folder, SETTINGS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        pixal.preprocess(rendered / "train/Part", quiet=True)
        pixal.train(quiet=True)
    return folder


@pytest.fixture(scope="module")
def one_batch(trained: Path, rendered: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the output of one ``validate`` of all photographs; read only."""
    folder = tmp_path_factory.mktemp("one_batch")
    shutil.copytree(trained, folder, dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        pixal.validate(rendered / "production/Part", quiet=True)
    return folder / "validate/Part"


@pytest.fixture
def workdir(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tracked_runs: list[Tracker]) -> Path:
    """Copy the trained folder to a new working directory, and add the empty folder ``new`` to watch."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    (tmp_path / "new").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def photos(rendered: Path) -> Path:
    return rendered / "production/Part"


@pytest.fixture
def validated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list to which each photograph is added that gets a new verdict."""
    return record_verdicts(monkeypatch, lambda of_type, verdict: f"{of_type.name}/{verdict.part.image}")


def run_watch(*steps: Step, config: PhotographConfig | None = None, **options: Any) -> Any:
    """Watch ``new``. After each scan, run the next of ``steps``; stop after the last one."""
    remaining = iter(steps)

    def pause(seconds: float) -> None:
        assert seconds == 10
        step = next(remaining, None)
        if step is None:
            raise KeyboardInterrupt
        step()

    return watch.watch("new", config=photograph_config(config), pause=pause, **options)


def wait() -> None:
    pass


def add_photo(source: Path, name: str) -> Step:
    def copy() -> None:
        target = Path("new") / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)

    return copy


def rows(folder: Path = Path("validate/Part")) -> list[dict[str, str]]:
    with (folder / "results.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def images(folder: Path = Path("validate/Part")) -> list[str]:
    return [f"{row['type']}/{row['image']}" for row in rows(folder)]


def assert_same_sums(actual: Path, expected: Path) -> None:
    """Check that the sums behind the figures agree up to rounding: parts were added in another order."""
    sums, expected = (load_arrays(folder / "metadata/sums.npz") for folder in (actual, expected))
    for name in ("losses", "pairs"):
        np.testing.assert_array_equal(sums[name], expected[name])
    for name in ("squared", "absolute", "anomaly"):
        np.testing.assert_allclose(sums[name], expected[name], rtol=1e-5)


def report() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(Path("validate/Part/results.json").read_text("utf-8"))
    return document


def test_watch_gives_the_same_results_as_one_batch(
    workdir: Path,
    photos: Path,
    one_batch: Path,
    validated: list[str],
    tracked_runs: list[Tracker],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "pixal")
    paths = [path.relative_to(photos) for path in sorted(photos.rglob("*.jpg"))]
    steps = [add_photo(photos / path, str(path)) for path in reversed(paths)]
    batch = run_watch(*steps, wait, wait)
    assert sorted(validated) == [path.as_posix() for path in paths]
    actual = Path("validate/Part")
    assert (actual / "results.csv").read_bytes() == (one_batch / "results.csv").read_bytes()
    assert [part.verdict for part in batch.parts] == [row["verdict"] for row in rows(one_batch)]
    for name in ("back", "front"):
        inputs, expected = InputSet.load(actual / name / "out.npz"), InputSet.load(one_batch / name / "out.npz")
        assert inputs.names == expected.names
        np.testing.assert_array_equal(inputs.data, expected.data)
        maps = sorted(path.relative_to(one_batch) for path in (one_batch / name / "anomaly_maps").iterdir())
        assert len(maps) == 8
        assert all((actual / path).read_bytes() == (one_batch / path).read_bytes() for path in maps)
        assert_same_sums(actual / name, one_batch / name)
    messages = [record.getMessage() for record in caplog.records]
    assert messages[0] == "watching new, stop with Ctrl-C; 0 parts already done"
    lines = [line for line in messages if line.startswith(("pass  ", "fail  "))]
    assert [line.split()[:2] for line in lines] == [
        [row["verdict"], f"{row['type']}/{row['image']}"] for row in reversed(rows())
    ]
    (run,) = tracked_runs
    assert run.name.startswith("new_")  # the name of the batch
    assert run.status == "FINISHED"
    with Store(actual / "history.db").reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM verdicts").scalar() == len(paths)


def test_a_growing_file_is_validated_once_when_it_is_complete(
    workdir: Path, photos: Path, one_batch: Path, validated: list[str]
) -> None:
    data = (photos / "front/part_004.jpg").read_bytes()
    path = Path("new/front/part_004.jpg")

    def grow(share: float) -> Step:
        def write() -> None:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data[: int(share * len(data))])

        return write

    def none_validated() -> None:
        assert validated == []

    run_watch(grow(0), grow(0.4), none_validated, wait, grow(0.7), wait, grow(1), none_validated, wait, wait)
    assert validated == ["front/part_004.jpg"]
    assert rows() == [row for row in rows(one_batch) if (row["type"], row["image"]) == ("front", "part_004.jpg")]


def test_a_file_that_stays_incomplete_is_an_error_until_it_changes(
    workdir: Path, photos: Path, validated: list[str]
) -> None:
    source = photos / "front/part_000.jpg"

    def half() -> None:
        Path("new/front").mkdir()
        Path("new/front/a.jpg").write_bytes(source.read_bytes()[:4000])

    waits = int(watch.PATIENCE / 10)
    run_watch(half, *[wait] * (waits - 1))
    assert validated == []
    batch = run_watch(*[wait] * waits)
    assert validated == ["front/a.jpg"]
    assert "truncated" in rows()[0]["reason"]
    assert (rows()[0]["verdict"], len(batch.failures)) == ("error", 1)
    run_watch(wait, add_photo(source, "front/a.jpg"), wait, wait)
    assert validated == ["front/a.jpg"] * 2
    assert rows()[0]["verdict"] == "pass"


def test_a_second_watch_validates_new_and_changed_photographs(
    workdir: Path, photos: Path, one_batch: Path, validated: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pixal")
    for index in range(3):
        add_photo(photos / f"front/part_00{index}.jpg", f"front/part_00{index}.jpg")()
    run_watch(wait, wait)
    assert len(validated) == 3
    before = rows()
    Path("new/front/part_000.jpg").unlink()  # deleted: its verdict stays
    os.utime("new/front/part_001.jpg")  # touched: its bytes are the same
    shutil.copy(photos / "front/part_005.jpg", "new/front/part_002.jpg")
    add_photo(photos / "back/part_003.jpg", "back/part_003.jpg")()
    validated.clear()
    run_watch(wait, wait)
    assert sorted(validated) == ["back/part_003.jpg", "front/part_002.jpg"]
    assert "watching new, stop with Ctrl-C; 2 parts already done" in caplog.text
    known = {(row["type"], row["image"]): row for row in rows(one_batch)}
    changed = known["front", "part_005.jpg"] | {"image": "part_002.jpg"}
    assert rows() == [known["back", "part_003.jpg"], before[0], before[1], changed]
    validated.clear()
    pixal.validate("new", quiet=True)  # uses the verdicts of the watch, and drops those of deleted photographs
    assert validated == []
    assert rows() == [known["back", "part_003.jpg"], before[1], changed]
    run_watch(wait, config=load_config(overrides=["validation.false_alarm_rate=0.05"]))
    assert sorted(validated) == ["back/part_003.jpg", "front/part_001.jpg", "front/part_002.jpg"]


def test_tables_and_report_are_updated_without_repeating_work_for_earlier_parts(
    workdir: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, encoded, drawn = [0.0], [], []
    save_jpeg, draw_figures = report_images._save_jpeg, TypeVerdicts.draw_figures

    def tick(seconds: float) -> None:
        clock[0] += seconds

    def count_images(*arguments: Any) -> Path:
        encoded.append(1)
        return save_jpeg(*arguments)

    def note_time(self: TypeVerdicts) -> None:
        drawn.append(clock[0])
        draw_figures(self)

    monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=None))
    monkeypatch.setattr(report_images, "_save_jpeg", count_images)
    monkeypatch.setattr(TypeVerdicts, "draw_figures", note_time)
    row_counts: list[int] = []

    def check_results() -> None:
        tick(10)
        if Path("validate/Part/results.csv").is_file():
            page = Path("validate/Part/report.html").read_text("utf-8")
            assert all(f"part_{index:03d}.jpg" in page for index in range(len(rows())))
            assert len(report()["parts"]) == len(rows())
        row_counts.append(len(rows()) if Path("validate/Part/results.csv").is_file() else 0)

    steps: list[Step] = []
    for index in range(3):
        steps += [
            add_photo(photos / f"front/part_{index:03d}.jpg", f"front/part_{index:03d}.jpg"),
            check_results,
            check_results,
        ]
    run_watch(*steps, *[check_results] * 6)
    assert row_counts == [0, 1, 1, 2, 2, 3, 3, 3, 3, 3, 3, 3]
    images = [name for verdict in journal("front") for name in verdict.images or () if name is not None]
    assert len(encoded) == len(set(images))  # photograph and overlay of a part are one file where they are equal
    assert drawn == [60]  # one minute after the start: no part waits for the figures of the first one


def journal(name: str) -> list[StoredVerdict]:
    return list(read_journal(Path(f"validate/Part/{name}/metadata/judged.journal")))


KILLED_RUN = """
import os, sys
import pixal
from pixal.tasks.photographs.verdicts.verdict_store import VerdictStore

add = VerdictStore.add

def kill_at_the_fourth(self, verdict, image):
    if len(self.verdicts) == 3:
        with self._growing.path.open("ab") as file:
            file.write(b"half an input")
        self._journal_file.write(b'{"source": "half a li')
        os.kill(os.getpid(), 9)
    return add(self, verdict, image)

VerdictStore.add = kill_at_the_fourth
pixal.validate(sys.argv[1], quiet=True)
"""


@pytest.mark.slow
def test_a_killed_run_resumes_without_incomplete_files(
    workdir: Path, photos: Path, one_batch: Path, validated: list[str]
) -> None:
    shutil.copytree(photos, "new", dirs_exist_ok=True)
    run = subprocess.run([sys.executable, "-c", KILLED_RUN, "new"], capture_output=True, text=True, check=False)
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert not Path("validate/Part/results.csv").exists()
    with pytest.raises(InputError, match="run validate first"):
        pixal.detect(quiet=True)
    shutil.copytree("validate", "killed")
    everything = {f"{name}/part_00{index}.jpg" for name in ("back", "front") for index in range(8)}
    before = {f"back/part_00{index}.jpg" for index in range(3)}
    for resume in (lambda: pixal.validate("new", quiet=True), lambda: run_watch(wait)):
        validated.clear()
        resume()
        assert set(validated) == everything - before
        assert len(validated) == len(everything - before)
        assert (Path("validate/Part") / "results.csv").read_bytes() == (one_batch / "results.csv").read_bytes()
        actual, expected = (
            {path.relative_to(folder) for path in folder.rglob("*")}
            for folder in (workdir / "validate/Part", one_batch)
        )
        assert actual == expected
        for name in ("back", "front"):
            inputs, expected_inputs = (
                InputSet.load(folder / name / "out.npz") for folder in (Path("validate/Part"), one_batch)
            )
            np.testing.assert_array_equal(inputs.data, expected_inputs.data)
            assert_same_sums(Path("validate/Part") / name, one_batch / name)
        shutil.rmtree("validate")
        shutil.copytree("killed", "validate")


def test_ctrl_c_during_a_part_leaves_a_complete_report(
    workdir: Path, photos: Path, one_batch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(photos / "front", "new/front")
    drawn: list[int] = []
    monkeypatch.setattr(TypeVerdicts, "draw_figures", lambda self: drawn.append(len(self.parts)))
    with monkeypatch.context() as patch:
        add = VerdictStore.add

        def stopped(self: VerdictStore, *arguments: Any) -> StoredVerdict:
            if len(self.verdicts) == 2:
                raise KeyboardInterrupt
            return add(self, *arguments)

        patch.setattr(VerdictStore, "add", stopped)
        batch = run_watch(wait, wait)
    expected = [row for row in rows(one_batch) if row["type"] == "front"]
    assert rows() == expected[:2]
    assert len(batch.parts) == 2
    assert drawn == [2]
    assert InputSet.load(Path("validate/Part/front/out.npz")).names == ("part_000.jpg", "part_001.jpg")
    pixal.detect(quiet=True)
    assert rows() == expected[:2]
    run_watch(wait)
    assert rows() == expected


def test_a_watch_resumes_after_detect_with_the_same_settings(workdir: Path, photos: Path, validated: list[str]) -> None:
    config = load_config(overrides=[f"plotting.{name}=True" for name in ("plot_anomaly_heatmap", "plot_latent_space")])
    for index in range(3):
        add_photo(photos / f"front/part_00{index}.jpg", f"front/part_00{index}.jpg")()
    run_watch(wait, config=config)
    before = Path("validate/Part/results.csv").read_bytes()
    pixal.detect(config=config, quiet=True)
    assert Path("validate/Part/results.csv").read_bytes() == before
    validated.clear()
    run_watch(wait, config=config)
    assert validated == []
    assert Path("validate/Part/results.csv").read_bytes() == before
    Path("validate/Part/front/figures/anomaly_overlay_part_001.png").unlink()
    run_watch(wait, config=config)
    assert validated == ["front/part_001.jpg"]  # one of its files was missing
    validated.clear()
    run_watch(wait, config=config, force=True)
    assert len(validated) == 3


def test_photographs_of_an_untrained_type_wait_with_one_warning(
    workdir: Path, photos: Path, validated: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    run_watch(
        *(add_photo(photos / "front/part_000.jpg", "side/a.jpg"), wait, wait),
        *(add_photo(photos / "front/part_000.jpg", "front/a.jpg"), wait, wait),
    )
    assert validated == ["front/a.jpg"]
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert messages == [
        "type side was never trained; its photographs wait until it is trained",
        "1 photograph without a verdict, for example new/side/a.jpg",
    ]


def test_watch_waits_while_the_folder_is_missing(
    workdir: Path, photos: Path, validated: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    away = (lambda: Path("new").rename("away"), wait, wait, lambda: Path("away").rename("new"))
    run_watch(add_photo(photos / "front/part_000.jpg", "front/a.jpg"), *away, wait, wait)
    assert validated == ["front/a.jpg"]
    assert len([record for record in caplog.records if "does not exist" in record.getMessage()]) == 1


def test_a_new_photograph_replaces_a_deleted_one_of_that_name(workdir: Path, photos: Path, one_batch: Path) -> None:
    add_photo(photos / "front/part_000.jpg", "front/monday/a.jpg")()
    run_watch(
        wait, lambda: shutil.rmtree("new/front/monday"), add_photo(photos / "front/part_005.jpg", "front/b.jpg"), wait
    )
    assert images() == ["front/b.jpg", "front/a.jpg"]
    run_watch(add_photo(photos / "front/part_006.jpg", "front/tuesday/a.jpg"), wait, wait)
    known = {row["image"]: row["score"] for row in rows(one_batch) if row["type"] == "front"}
    assert {row["image"]: row["score"] for row in rows()} == {
        "a.jpg": known["part_006.jpg"],
        "b.jpg": known["part_005.jpg"],
    }
    assert Path("validate/Part/front/anomaly_maps").is_dir()
    names = {path.name for path in Path("validate/Part/front/anomaly_maps").iterdir()}
    assert names == {"a.tiff", "b.tiff"}


def test_exit_status_and_messages_of_the_watch_command(
    workdir: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(seconds: float) -> None:
        if pauses:
            pauses.pop()()
            return
        raise KeyboardInterrupt

    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    pauses: list[Step] = []
    monkeypatch.setattr(pixal, "watch", partial(watch.watch, pause=stop), raising=False)
    assert cli.main(["validate", "-i", "new", "--watch"]) == 0
    assert "0 parts" in capsys.readouterr().err
    add_photo(photos / "front/part_000.jpg", "front/part_000.jpg")()
    pauses[:] = [wait]
    assert cli.main(["validate", "-i", "new", "--watch", "--fail-on-anomaly"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "watching new, stop with Ctrl-C; 0 parts already done"
    assert lines[1].startswith("pass   front/part_000.jpg  score ")
    assert lines[-1] == "1 photograph: 1 pass, 0 fail, 0 could not be processed; report: validate/Part/report.html"
    add_photo(photos / "front/part_005.jpg", "front/part_005.jpg")()
    pauses[:] = [wait]
    assert cli.main(["validate", "-i", "new", "--watch", "--fail-on-anomaly", "-q"]) == 4
    assert capsys.readouterr().err == ""
    for arguments, message in (
        (("-i", "new", "--truth", "new"), "--truth cannot be used with --watch"),
        (("-i", "new/front/part_000.jpg"), "is not a folder"),
        (("-i", "nowhere"), "is not a folder"),
    ):
        assert cli.main(["validate", "--watch", *arguments]) == 2
        assert message in capsys.readouterr().err
    monkeypatch.setattr(pixal, "validate", stopped, raising=False)
    assert cli.main(["validate", "-i", "new"]) == 130
    assert "the same command resumes" in capsys.readouterr().err
    shutil.rmtree("out")
    with pytest.raises(ModelError, match="run train first"):
        run_watch()
