"""Each batch is kept: ``validate/COMPONENT`` shows the newest one, the others are in ``batches/NAME``."""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import os
import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml
from helpers import NO_FIGURES, record_verdicts

import pixal
from pixal import cli
from pixal.config import load_config
from pixal.errors import InputError
from pixal.io import ownership
from pixal.report import render
from pixal.tasks.photographs.settings import PhotographConfig, photograph_config
from pixal.tasks.photographs.verdicts import reporting, watch
from pixal.tasks.photographs.verdicts.batches import HISTORY_DATABASE
from pixal.tasks.photographs.verdicts.verdict_store import StoredVerdict, VerdictStore
from pixal.tracking import Tracker

RESULTS = Path("validate/Part")
KEPT = RESULTS / "batches"
TABLES = ("results.csv", "results.json", "report.html", "batch.yaml")


def settings(*overrides: str) -> PhotographConfig:
    """No figures but the overlays."""
    return photograph_config(
        load_config(overrides=[*NO_FIGURES, "plotting.plot_anomaly_heatmap=True", "execution.workers=2", *overrides])
    )


validate = partial(pixal.validate, quiet=True)


@pytest.fixture
def work(trained_front: Path, rendered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a trained model, and the batches ``monday`` and ``tuesday`` of two photographs each."""
    shutil.copytree(trained_front, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    photographs = sorted((rendered / "production/Part/front").iterdir())
    for name, chosen in (("monday", photographs[:2]), ("tuesday", photographs[4:6])):
        folder = Path(name, "front")
        folder.mkdir(parents=True)
        for hour, path in enumerate(chosen):
            shutil.copy(path, folder)
            set_time(folder / path.name, hour)
    return tmp_path


@pytest.fixture
def validated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The photographs that get a new verdict."""
    return record_verdicts(monkeypatch, lambda _, verdict: verdict.part.image)


def set_time(path: Path, hour: int) -> None:
    """Set the modification time to 2026-11-28, ``hour``:47 local time."""
    from datetime import datetime

    stamp = datetime(2026, 11, 28, hour, 47).timestamp()
    os.utime(path, (stamp, stamp))


def images(folder: Path = RESULTS) -> list[str]:
    with (folder / "results.csv").open(newline="", encoding="utf-8") as file:
        return [row["image"] for row in csv.DictReader(file)]


def results(folder: Path = RESULTS) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return content


def record(folder: Path = RESULTS) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((folder / "batch.yaml").read_text())
    return content


def tree(folder: Path) -> dict[str, str]:
    """The hash of each file in a folder, without those of the earlier batches, manifests, and the history of all."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and path.name not in (ownership.MANIFEST, HISTORY_DATABASE)
        and "batches" not in path.relative_to(folder).parts
    }


def known() -> list[str]:
    return sorted(path.name for path in KEPT.iterdir()) if KEPT.is_dir() else []


MONDAY, TUESDAY = ["part_000.jpg", "part_001.jpg"], ["part_004.jpg", "part_005.jpg"]
NAME = "monday_2026-11-28T00-47"


class TestTheBatchBefore:
    def test_is_kept_as_it_was(self, work: Path, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "pixal")
        validate("monday", config=settings())
        before = tree(RESULTS)
        assert len([name for name in before if name.startswith("front/")]) > 8
        assert not [text for text in caplog.messages if "earlier batch" in text]
        validate("tuesday", config=settings())
        assert images() == TUESDAY
        assert tree(KEPT / NAME) == before
        assert [text for text in caplog.messages if "earlier batch" in text] == [
            f"the earlier batch {NAME} is in {KEPT / NAME}"
        ]
        assert not [path for path in RESULTS.rglob("*") if "part_000" in path.name and "batches" not in path.parts]

    def test_has_a_report_that_opens_with_its_images(self, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Also where the images are in a folder next to it; every relative link leads to a file."""
        write_report = partial(render.write_report, embed_limit_mb=0)
        monkeypatch.setattr("pixal.report.write_report", write_report)
        validate("monday", config=settings())
        validate("tuesday", config=settings())
        for folder in (RESULTS, KEPT / NAME):
            page = (folder / "report.html").read_text("utf-8")
            links = set(re.findall(r'(?:src|href)="(?!data:|#)([^"]+)"', page)) | set(
                re.findall(r'"overlay":\s*"([^"]+)"', page)
            )
            assert len([link for link in links if link.startswith("report_images/")]) >= 3
            assert len([link for link in links if link.startswith("front/figures/anomaly_overlay")]) == 2
            for link in links:
                assert (folder / unquote(link)).is_file(), link
            for part in results(folder)["parts"]:
                assert (folder / part["overlay"]).is_file()

    def test_leaves_files_of_the_user_behind(self, work: Path) -> None:
        validate("monday", config=settings())
        notes = [path / "notes.txt" for path in (RESULTS, *RESULTS.rglob("*")) if path.is_dir()]
        for path in notes:
            path.write_text(str(path))
        validate("tuesday", config=settings())
        validate("monday", config=settings())
        assert {path: path.read_text() for path in notes} == {path: str(path) for path in notes}
        assert not list(KEPT.rglob("notes.txt"))

    def test_is_large_and_one_of_its_photographs_is_validated(self, work: Path) -> None:
        validate("monday", config=settings())
        before = tree(RESULTS)
        validate("monday/front/part_001.jpg", config=settings())
        assert images() == ["part_001.jpg"]
        assert record()["name"] == "part_001_2026-11-28T01-47"
        assert tree(KEPT / NAME) == before

    def test_may_be_of_a_version_that_recorded_none(self, work: Path) -> None:
        """Its photographs say which folder it was."""
        validate("monday", config=settings())
        (RESULTS / "batch.yaml").unlink()
        for manifest in RESULTS.rglob(ownership.MANIFEST):
            manifest.unlink()
        before = tree(RESULTS)
        validate("monday", config=settings())  # continues
        assert known() == []
        assert record()["source"] == str(work / "monday")
        (RESULTS / "batch.yaml").unlink()
        validate("tuesday", config=settings())
        assert images() == TUESDAY
        (kept,) = known()
        assert kept == "front_2026-11-28T00-47"
        assert tree(KEPT / kept).keys() == before.keys() | {"batch.yaml"}


class TestTheSameBatch:
    def test_continues_with_more_photographs_under_its_name(self, work: Path, validated: list[str]) -> None:
        validate("monday", config=settings())
        first = record()
        shutil.copy("tuesday/front/part_004.jpg", "monday/front/part_000a.jpg")
        set_time(Path("monday/front/part_000a.jpg"), 23)
        Path("monday/front/part_000.jpg").unlink()
        validated.clear()
        validate(work / "monday", config=settings())
        assert validated == ["part_000a.jpg"]
        assert images() == ["part_000a.jpg", "part_001.jpg"]
        assert record() == first | {"types": ["front"]}
        assert known() == []

    def test_becomes_the_newest_again(self, work: Path, validated: list[str]) -> None:
        validate("monday", config=settings())
        monday = tree(RESULTS)
        validate("tuesday", config=settings())
        tuesday = tree(RESULTS)
        for again in (partial(validate, "monday"), partial(validate, batch=NAME)):
            validated.clear()
            again(config=settings())
            assert validated == []  # its stored verdicts hold
            assert images() == MONDAY
            assert tree(RESULTS).keys() == monday.keys()
            for name in ("results.csv", "batch.yaml", "front/out.npz"):  # the journal has the times of the moved files
                assert tree(RESULTS)[name] == monday[name]
            assert known() == ["tuesday_2026-11-28T00-47"]
            assert tree(KEPT / known()[0]) == tuesday
            validate("tuesday", config=settings())
            assert known() == [NAME]
            tuesday = tree(RESULTS)
            monday = tree(KEPT / NAME)

    def test_is_interrupted_and_resumes_after_another(
        self, work: Path, validated: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add = VerdictStore.add

        def stopped(self: VerdictStore, *arguments: Any) -> StoredVerdict:
            if self.verdicts:
                raise KeyboardInterrupt
            return add(self, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(VerdictStore, "add", stopped)
            with pytest.raises(KeyboardInterrupt):
                validate("monday", config=settings())
        validate("tuesday", config=settings())
        assert (KEPT / NAME / "front/inputs.part").is_file()
        with pytest.raises(InputError, match="run validate first"):
            pixal.detect(batch=NAME, config=settings(), quiet=True)
        validated.clear()
        validate("monday", config=settings())
        assert (images(), validated) == (MONDAY, MONDAY[1:])

    def test_is_forced_without_touching_the_others(self, work: Path, validated: list[str]) -> None:
        validate("monday", config=settings())
        validate("tuesday", config=settings())
        monday = tree(KEPT / NAME)
        validated.clear()
        validate("tuesday", config=settings(), force=True)
        assert validated == TUESDAY
        assert tree(KEPT / NAME) == monday

    def test_is_watched(self, work: Path, validated: list[str], tracked_runs: list[Tracker]) -> None:
        """A watch of a new folder begins its batch with the first photograph; until then the one before is shown."""
        validate("monday", config=settings())
        Path("incoming/front").mkdir(parents=True)

        def add() -> None:
            assert images() == MONDAY
            shutil.copy2("tuesday/front/part_005.jpg", "incoming/front/b.jpg")

        def watched(*steps: Any) -> None:
            remaining = iter(steps)

            def pause(_: float) -> None:
                step = next(remaining, None)
                if step is None:
                    raise KeyboardInterrupt
                step()

            watch.watch("incoming", config=settings(), pause=pause)

        def wait() -> None:
            pass

        watched(wait)
        assert images() == MONDAY
        watched(add, wait, wait)
        assert images() == ["b.jpg"]
        name = "incoming_2026-11-28T01-47"
        assert record() == record() | {"name": name, "source": str(work / "incoming"), "types": ["front"]}
        assert known() == [NAME]
        validated.clear()
        shutil.copy2("tuesday/front/part_004.jpg", "incoming/front/a.jpg")
        watched(wait, wait)
        assert validated == ["a.jpg"]
        validate("incoming", config=settings())
        assert validated == ["a.jpg"]
        assert record()["name"] == name
        validate("monday", config=settings())
        watched()
        assert record()["name"] == name
        assert images() == ["a.jpg", "b.jpg"]
        assert validated == ["a.jpg"]
        assert tracked_runs[-1].tags["pixal.batch"] == name


class TestNames:
    def test_name_source_and_start_are_in_all_records(self, work: Path, tracked_runs: list[Tracker]) -> None:
        batch = validate("monday", batch="lot 7", config=settings())
        written = results()["batch"]
        assert written == {"name": "lot 7", "source": str(work / "monday"), "started": written["started"]}
        assert batch.origin.model_dump() == written
        assert record() == written | {"types": ["front"]}
        metadata = yaml.safe_load((RESULTS / "front/metadata/preprocessing.yaml").read_text())
        assert metadata["batch"] == written
        page = (RESULTS / "report.html").read_text("utf-8")
        head = page[page.index("<header") : page.index("</header>")]
        for text in ("lot 7", str(work / "monday"), written["started"]):
            assert text in head
        expected = {
            "pixal.batch": "lot 7",
            "pixal.batch.source": str(work / "monday"),
            "pixal.batch.started": written["started"],
        }
        assert expected.items() <= tracked_runs[-1].tags.items()
        validate("monday", batch="lot 7", config=settings())
        assert results()["batch"] == written

    def test_the_exif_time_comes_before_that_of_the_file(self, work: Path) -> None:
        from PIL import Image

        path = Path("monday/front/part_000.jpg")
        with Image.open(path) as image:
            exif = image.getexif()
            exif[0x0132] = "2019:02:03 04:05:06"
            exif.get_ifd(0x8769)[0x9003] = "2020:02:03 04:05:06"
            image.save(path, exif=exif)
        validate("monday", config=settings())
        assert record()["name"] == "monday_2020-02-03T04-05"

    def test_one_folder_has_several_named_batches(self, work: Path, validated: list[str]) -> None:
        """As where one folder is emptied and filled again every day. Without a name, the newest is continued."""
        validate("monday", batch="first", config=settings())
        before = tree(RESULTS)
        shutil.rmtree("monday")
        shutil.copytree("tuesday", "monday")
        validate("monday", batch="second", config=settings())
        assert tree(KEPT / "first") == before
        assert images() == TUESDAY
        validated.clear()
        validate("monday", config=settings())
        assert (record()["name"], known(), validated) == ("second", ["first"], [])
        shutil.copytree("tuesday", "other")
        validate("other", config=settings())
        validate("monday", config=settings())
        assert record()["name"] == "second"

    def test_a_name_of_another_folder_is_refused(self, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
        validate("monday", batch="lot", config=settings())
        before = tree(RESULTS)
        for source in ("tuesday", "monday/front/part_000.jpg"):
            assert cli.main(["validate", "-i", source, "--batch", "lot", "-q"]) == 2
            (line,) = capsys.readouterr().err.splitlines()
            assert "batch lot (validate/Part) has the photographs of " in line
            assert "choose another name for --batch" in line
        assert tree(RESULTS) == before
        assert known() == []

    def test_a_name_that_is_no_file_name_is_refused(self, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for name in ("", " ", "a/b", "a\\b", "..", ".a", "a.", "a\nb", "a:b", "CON", 201 * "x", "\ud800", "a\u202eb"):
            assert cli.main(["validate", "-i", "monday", f"--batch={name}", "-q"]) == 2
            (line,) = capsys.readouterr().err.splitlines()
            assert "--batch " in line
            assert "choose a name that a folder can have" in line
        assert not RESULTS.exists()

    def test_default_names_of_two_folders_differ(self, work: Path) -> None:
        for parent in ("a", "b", "c"):
            shutil.copytree("monday", f"{parent}/monday")
            validate(f"{parent}/monday", config=settings())
        assert known() == [NAME, f"{NAME}_2"]
        assert record()["name"] == f"{NAME}_3"

    def test_a_type_cannot_be_called_batches(self, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
        shutil.copytree("monday/front", "other/Batches")
        assert cli.main(["validate", "-i", "other", "-q"]) == 2
        assert "an image type cannot be called Batches" in capsys.readouterr().err
        assert not RESULTS.exists()

    def test_without_photographs_a_known_name_is_needed(self, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert cli.main(["validate", "-q"]) == 2
        assert "add -i DIR-or-IMAGE" in capsys.readouterr().err
        assert cli.main(["validate", "--batch", "unknown", "-q"]) == 2
        assert "holds no batch unknown (there are no batches yet; run validate first)" in capsys.readouterr().err


class TestDetect:
    def test_a_kept_batch_in_place(self, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
        validate("monday", config=settings())
        monday = tree(RESULTS)
        validate("tuesday", config=settings())
        newest = tree(RESULTS)
        batch = pixal.detect(batch=NAME, config=settings("validation.false_alarm_rate=0.3"), quiet=True)
        assert [part.image for part in batch.parts] == MONDAY
        assert batch.folder == KEPT / NAME
        assert tree(RESULTS) == newest
        changed = {name for name, value in tree(KEPT / NAME).items() if monday.get(name) != value}
        assert {"results.csv", "results.json", "report.html"} <= changed
        added = {name for name in tree(KEPT / NAME).keys() - monday.keys() if not name.startswith("front/report/")}
        assert added == {"front/logs/detect.log"}
        assert results(KEPT / NAME)["batch"] == {key: record(KEPT / NAME)[key] for key in ("name", "source", "started")}
        for folder in (KEPT / NAME, KEPT / NAME / "front"):
            assert [part.image for part in pixal.detect(folder, config=settings(), quiet=True).parts] == MONDAY
        assert [part.image for part in pixal.detect(config=settings(), quiet=True).parts] == TUESDAY
        assert known() == [NAME]
        assert cli.main(["detect", "--batch", "unknown", "-q"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"holds no batch unknown (known: tuesday_2026-11-28T00-47 (newest), {NAME})" in line
        with pytest.raises(InputError, match="holds no inputs stored by validate"):
            pixal.detect(RESULTS / "front", batch=NAME, quiet=True)


class TestFoldersOfTheUser:
    def test_a_kept_batch_is_deleted(self, work: Path) -> None:
        validate("monday", config=settings())
        validate("tuesday", config=settings())
        shutil.rmtree(KEPT)
        validate("monday", config=settings())
        assert images() == MONDAY
        assert known() == ["tuesday_2026-11-28T00-47"]

    @pytest.mark.parametrize("lost", ["batch.yaml", ownership.MANIFEST, "front/out.npz", "front", "results.csv"])
    def test_a_part_of_a_kept_batch_is_deleted(self, work: Path, lost: str) -> None:
        validate("monday", config=settings())
        validate("tuesday", config=settings())
        path = KEPT / NAME / lost
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        validate("monday", config=settings())
        assert images() == MONDAY
        validate("tuesday", config=settings())
        assert images() == TUESDAY
        assert images(KEPT / known()[0]) in ([], MONDAY)
        kept = [name for name in known() if (KEPT / name / "results.csv").is_file()]
        assert any(images(KEPT / name) == MONDAY for name in kept)

    def test_a_kept_batch_is_renamed(self, work: Path, validated: list[str]) -> None:
        """The name of the folder is the name of the batch."""
        validate("monday", config=settings())
        validate("tuesday", config=settings())
        (KEPT / NAME).rename(KEPT / "lot 1")
        assert [part.image for part in pixal.detect(batch="lot 1", config=settings(), quiet=True).parts] == MONDAY
        assert results(KEPT / "lot 1")["batch"]["name"] == "lot 1"
        validated.clear()
        validate("monday", config=settings())
        assert (record()["name"], validated) == ("lot 1", [])

    def test_own_files_have_the_names_of_results(self, work: Path) -> None:
        """The batch goes to another folder; nothing of the user's is replaced."""
        (KEPT / NAME).mkdir(parents=True)
        (KEPT / NAME / "report.html").write_text("mine")
        (KEPT / f"{NAME}_2").write_text("mine, too")
        (KEPT / "notes.txt").write_text("mine")
        validate("monday", batch=NAME, config=settings())
        before = tree(RESULTS)
        validate("tuesday", config=settings())
        assert tree(KEPT / f"{NAME}_3") == before
        assert (KEPT / NAME / "report.html").read_text() == "mine"
        assert (KEPT / f"{NAME}_2").read_text() == "mine, too"

    def test_own_files_are_in_the_way_back(self, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A report image of the user's in the newest batch: nothing moves."""
        validate("monday", config=settings())
        validate("tuesday", config=settings())
        image = next((KEPT / NAME / "front/report").iterdir())
        (RESULTS / "front/report" / image.name).write_text("mine")
        before = tree(RESULTS), tree(KEPT / NAME)
        assert cli.main(["validate", "-i", "monday", "-q"]) == 2
        assert f"{image.name} was not written by PIXAL and would be overwritten" in capsys.readouterr().err
        assert (tree(RESULTS), tree(KEPT / NAME)) == before

    def test_photographs_inside_the_results_are_refused(self, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
        validate("monday", config=settings())
        shutil.copytree("tuesday", KEPT / "mine")
        before = tree(RESULTS), tree(KEPT / "mine")
        for source in (KEPT / "mine", KEPT / "mine/front", KEPT / "mine/front/part_004.jpg", KEPT):
            assert cli.main(["validate", "-i", str(source), "-q"]) == 2
            assert f"the output folder {RESULTS} holds the photographs" in capsys.readouterr().err
        assert (tree(RESULTS), tree(KEPT / "mine")) == before
        validate("tuesday", config=settings())
        assert known() == ["mine", NAME]

    def test_a_record_that_leads_elsewhere_moves_nothing(self, work: Path) -> None:
        """An edited name or type must not lead out of the results."""
        validate("monday", config=settings())
        content = record()
        for field, value in (("name", "../../out/x"), ("types", ["../../out/Part/front"])):
            (RESULTS / "batch.yaml").write_text(yaml.safe_dump(content | {field: value}))
            before = tree(Path("out"))
            validate("tuesday", config=settings())
            validate("monday", config=settings())
            assert tree(Path("out")) == before
            assert images() == MONDAY

    def test_a_file_is_where_the_folder_should_be(self, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
        validate("monday", config=settings())
        KEPT.write_text("mine")
        before = tree(RESULTS)
        assert cli.main(["validate", "-i", "tuesday", "-q"]) == 2
        assert f"{KEPT} is a file" in capsys.readouterr().err
        assert tree(RESULTS) == before


LAYOUTS = {
    "one root": "component_validate_path: ./validate/Part\n",
    "figures elsewhere": (
        "component_validate_path: &results {component: Part, base: ./validate}\n"
        "validate_figures_path: {figures: figures, base: {component: Part, base: ./pictures}}\n"
        "validate_log_path: ./validate\n"
        "validate_metadata_path: {data: data, base: *results}\n"
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_other_layouts_of_the_results(work: Path, layout: str, validated: list[str]) -> None:
    """``paths.yaml`` may put all into one folder, or some results elsewhere: all of them are kept."""
    Path("configs/paths.yaml").write_text(f"component_model_path: {{component: Part, base: ./out}}\n{LAYOUTS[layout]}")
    validate("monday", config=settings())
    monday = tree(RESULTS)
    overlays = sorted(path.name for path in Path().rglob("anomaly_overlay_*.png"))
    validate("tuesday", config=settings(), force=True)
    assert tree(KEPT / NAME) == monday
    validate("tuesday", config=settings(), force=True)
    assert tree(KEPT / NAME) == monday
    assert images() == TUESDAY
    for _ in range(2):
        assert [part.image for part in pixal.detect(batch=NAME, config=settings(), quiet=True).parts] == MONDAY
    validated.clear()
    validate("monday", config=settings())
    assert validated == []
    assert images() == MONDAY
    assert len(list(Path().rglob("anomaly_overlay_*.png"))) == 2 * len(overlays)
    if layout == "figures elsewhere":
        kept = Path("pictures/Part/front/figures/batches/tuesday_2026-11-28T00-47")
        assert len(list(kept.glob("anomaly_overlay_*.png"))) == 2
        assert Path("validate/batches/tuesday_2026-11-28T00-47/validate.log").is_file()


def test_a_batch_that_moved_meanwhile_gets_no_verdicts_of_another(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another run validates a batch while ``detect`` reads the one before."""
    validate("monday", config=settings())
    exclusive_run = reporting.exclusive_run

    def late(config: PhotographConfig, command: str) -> Any:
        monkeypatch.undo()
        monkeypatch.chdir(work)
        validate("tuesday", config=settings())
        return exclusive_run(config, command)

    monkeypatch.setattr("pixal.tasks.photographs.verdicts.validate.exclusive_run", late)
    with pytest.raises(InputError, match="another run has changed the batch"):
        pixal.detect(config=settings(), quiet=True)
    assert images() == TUESDAY
    assert images(KEPT / NAME) == MONDAY
