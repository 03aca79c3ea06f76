"""What ``pixal serve`` shows of real results: the aligned reference, outlines, figures; and where it cannot write."""

from __future__ import annotations

import errno
import html
import json
import os
import re
import shutil
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from helpers import NO_FIGURES
from served import running, write_results, write_settings

import pixal
from pixal import cli
from pixal.config import load_config
from pixal.database.marks import find_verdict
from pixal.database.part_list import PartFilter, batch_version, find_batch, list_parts, part_details
from pixal.errors import ConfigError, InputError
from pixal.io import ownership
from pixal.io.images import decode_image
from pixal.server.files import list_figures, list_inspections
from pixal.server.site import PartKey, Picture
from pixal.tasks.photographs.parts import PhotographRecord
from pixal.tasks.photographs.serving.component import ServedComponent
from pixal.tasks.photographs.serving.journal_index import JournalIndex
from pixal.tasks.photographs.serving.pictures import PictureCache, aligned_reference, outlines_of_map
from pixal.tasks.photographs.serving.site import PhotographSite
from pixal.tasks.photographs.settings import PhotographConfig, photograph_config
from pixal.tasks.photographs.verdicts.history import database_file
from pixal.tasks.photographs.verdicts.verdict_store import JOURNAL


@pytest.fixture(scope="module")
def validated(trained_front: Path, rendered: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory in which a batch of the type front was validated; the test runs in it."""
    folder = tmp_path_factory.mktemp("serve") / "work"
    shutil.copytree(trained_front, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        config = load_config(overrides=[*NO_FIGURES, "plotting.plot_anomaly_heatmap=True", "execution.workers=1"])
        pixal.validate(rendered / "production/Part/front", batch="lot1", config=config, quiet=True)
        yield folder


def key_of(component: ServedComponent, image: str) -> tuple[PartKey, Any]:
    store = component.store()
    assert store is not None
    with store.reading() as connection:
        batch = find_batch(connection, "lot1")
        assert batch is not None
        verdict = find_verdict(connection, batch["id"], "front", image)
        assert verdict is not None
        details, regions = part_details(connection, verdict["id"])
    return PartKey(batch["folder"], "front", image, details["model_sha256"]), (details, regions)


def test_the_reference_lies_on_the_part_and_outlines_lie_in_its_regions(validated: Path, rendered: Path) -> None:
    component = ServedComponent(photograph_config(load_config()), PictureCache())
    checked = 0
    for path in sorted((rendered / "production/Part/front").iterdir()):
        key, (details, regions) = key_of(component, path.name)
        reference, photo = component.picture("reference", key), component.picture("photo", key)
        assert reference is not None
        assert photo is not None
        images = [decode_image(picture.data).astype(float) for picture in (photo, reference)]
        difference = np.abs(images[0] - images[1])[100:-100, 150:-150].mean()
        shifted = np.abs(images[0] - np.roll(images[1], 12, axis=1))[100:-100, 150:-150].mean()
        assert difference < 0.8 * shifted, path.name
        full = component.picture("full", key)
        assert full is not None
        assert full.data == path.read_bytes()
        lines = component.outlines(key, details["threshold"])
        assert bool(lines) == (details["verdict"] == "fail")
        for x, y in (point for line in lines for point in line):
            assert any(is_inside(region, x, y) for region in regions)
            checked += 1
    assert checked > 20


def test_the_reconstruction_is_drawn_from_the_input_that_was_judged(validated: Path) -> None:
    config = photograph_config(load_config())
    component = ServedComponent(config, PictureCache())
    key, _ = key_of(component, "part_000.jpg")
    assert component.has_reconstruction(key)
    picture = component.picture("reconstruction", key)
    assert picture is not None
    assert picture.media_type == "image/png"
    height, width, _ = decode_image(picture.data).shape
    assert min(height, width) > 300
    assert not component.has_reconstruction(replace(key, model_sha256="another model"))
    assert component.picture("reconstruction", replace(key, model_sha256="another model")) is None


def test_an_input_that_was_changed_after_its_verdict_is_not_drawn(validated: Path, tmp_path: Path) -> None:
    shutil.copytree(validated, tmp_path / "work")
    loaded = photograph_config(load_config())
    config = PhotographConfig(loaded.parameters, loaded.paths.for_component("Part", tmp_path / "work"), loaded.source)
    archive = config.paths.resolve("component_validate_path", "front") / "out.npz"
    data = bytearray(archive.read_bytes())
    data[len(data) // 20] ^= 1  # in the first row
    archive.write_bytes(data)
    component = ServedComponent(config, PictureCache())
    assert component.picture("reconstruction", key_of(component, "part_000.jpg")[0]) is None
    assert component.picture("reconstruction", key_of(component, "part_007.jpg")[0]) is not None


def test_the_component_leads_to_history_reports_promotions_and_inspections(validated: Path, rendered: Path) -> None:
    config = photograph_config(load_config())
    page = config.paths.resolve("component_model_path") / "learning/candidate/front/promotion.html"
    page.parent.mkdir(parents=True)
    ownership.note(page)
    page.write_text("a trial")
    pixal.inspect(rendered / "train/Part/front", sample=4, quiet=True)
    with running(config) as port:

        def read(path: str) -> str:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
                return str(answer.read().decode())

        links = re.findall(r'href="(/[^"]*)"', html.unescape(read("/c/Part")))
        assert [link for link in links if link.endswith("/promotion.html")]
        assert "/inspections/front/inspection.html" in links
        assert "/c/Part/files/results/report.html" in links
        assert {"/c/Part/history", "/c/Part/figures"} <= set(links)
        texts = [read(link) for link in links if "/static/" not in link]
        assert "a trial" in texts
        details = json.loads(read("/c/Part/b/lot1/part.json?type=front&image=part_000.jpg"))
        assert "/picture/reconstruction?" in read(details["reconstruction"])


def is_inside(region: Any, x: float, y: float) -> bool:
    """Whether a point is in the box of a region, with a margin: boxes are of the pixels of the input."""
    return -3 <= x - region["x"] <= region["width"] + 3 and -3 <= y - region["y"] <= region["height"] + 3


def test_figures_are_listed_without_overlays_of_parts(validated: Path) -> None:
    root = validated / "validate/Part"
    stray = root / "front/figures/of_the_user.png"
    stray.parent.mkdir(parents=True, exist_ok=True)
    stray.write_bytes(b"x")
    names = [name for names in list_figures(root, skip=("report", "anomaly_overlay_")).values() for name in names]
    assert names
    assert not [name for name in names if "anomaly_overlay_" in name or "of_the_user" in name or "/report/" in name]


def test_only_folders_that_inspect_wrote_are_inspections(tmp_path: Path) -> None:
    for name, is_owned in (("a", True), ("b", False)):
        (tmp_path / name).mkdir()
        if is_owned:
            ownership.note(tmp_path / name / "inspection.html")
        (tmp_path / name / "inspection.html").write_text("x")
    assert list_inspections(tmp_path) == ["a"]
    assert list_inspections(tmp_path / "none") == []


def test_the_reference_moves_as_the_homography_says() -> None:
    reference = np.zeros((360, 640, 3), np.uint8)
    reference[100:120, 200:230] = 255
    pose = {f"h{i}{j}": value for (i, j), value in np.ndenumerate(np.array([[1.0, 0, 10], [0, 1, -5], [0, 0, 1]]))}
    size = {"width": 640, "height": 360}
    record = PhotographRecord(image="a.png", source="a.png", status="ok", name="a", **size, **pose)
    picture = aligned_reference(reference, record)
    assert picture is not None
    rows, columns = np.nonzero(decode_image(picture.data)[..., 0] > 128)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (190, 219, 105, 124)
    large = record.replace(width=2560, height=1440)
    picture = aligned_reference(cv2.resize(reference, (2560, 1440), interpolation=cv2.INTER_NEAREST), large)
    assert picture is not None
    image = decode_image(picture.data)
    assert image.shape == (720, 1280, 3)
    rows, columns = np.nonzero(image[..., 0] > 128)
    assert columns.min() == pytest.approx((4 * 200 - 10) / 2, abs=1)
    assert rows.max() == pytest.approx((4 * 120 + 5) / 2 - 1, abs=1)
    assert aligned_reference(reference, record.replace(h00=None)) is None


def test_outlines_follow_the_map(tmp_path: Path) -> None:
    values = np.zeros((60, 80), np.float16)
    values[10:20, 30:50] = 5
    values[13:16, 35:40] = 0  # a hole
    tifffile.imwrite(tmp_path / "map.tiff", values)
    outer, hole = sorted(outlines_of_map(tmp_path / "map.tiff", 2.0), key=lambda line: min(line))
    assert (min(outer), max(outer)) == ((30.5, 10.5), (49.5, 19.5))
    assert 34 <= min(hole)[0] <= 36
    assert outlines_of_map(tmp_path / "map.tiff", 6.0) == []
    assert outlines_of_map(tmp_path / "none.tiff", 1.0) == []
    noise = np.random.default_rng(0).random((600, 600)).astype(np.float16)
    tifffile.imwrite(tmp_path / "noise.tiff", noise)
    assert sum(map(len, outlines_of_map(tmp_path / "noise.tiff", 0.5))) <= 20_000


def test_the_index_of_a_journal_reads_what_is_added_and_what_is_written_again(tmp_path: Path) -> None:
    config = write_settings(tmp_path)
    write_results(config, 5)
    journal = tmp_path / "validate/Part/front/metadata" / JOURNAL
    lines = journal.read_bytes().splitlines(keepends=True)
    growing = tmp_path / "growing.journal"
    index = JournalIndex(growing)
    assert index.find("0000.png") is None
    growing.write_bytes(lines[0] + lines[1][:50])
    found = index.find("0000.png")
    assert found is not None
    assert found.part.score == 4.0
    assert index.find("0001.png") is None
    with growing.open("ab") as file:
        file.write(lines[1][50:] + b"damaged\n" + lines[0].replace(b'"score": 4.0', b'"score": 7.0'))
    assert index.find("0001.png") is not None
    newest = index.find("0000.png")
    assert newest is not None
    assert newest.part.score == 7.0
    growing.unlink()
    growing.write_bytes(lines[2])
    assert index.find("0000.png") is None
    assert index.find("0002.png") is not None


def test_verdicts_of_a_watch_are_shown_before_its_results_are_written(tmp_path: Path) -> None:
    config = write_settings(tmp_path)
    write_results(config, 3)
    root = config.paths.resolve("component_validate_path")
    results = (root / "results.json").read_bytes(), (root / "results.json").stat()
    write_results(config, 6)
    (root / "results.json").write_bytes(results[0])  # the watch has stored three further verdicts in its journal
    os.utime(root / "results.json", ns=(results[1].st_atime_ns, results[1].st_mtime_ns))
    database_file(config.paths).unlink()

    def shown(component: ServedComponent) -> tuple[str, dict[str, tuple[str, str | None, int]]]:
        store = component.store()
        assert store is not None
        with store.reading() as connection:
            batch = find_batch(connection, "lot1")
            assert batch is not None
            parts = list_parts(connection, batch["id"], PartFilter(order="name"), start=0, count=10)[1]
            return batch_version(connection, batch), {
                part["image"]: (part["verdict"], part["sha256"], part["regions"]) for part in parts
            }

    component = ServedComponent(config, PictureCache())
    version, parts = shown(component)
    assert list(parts) == [f"{number:04d}.png" for number in range(6)]
    assert [verdict for verdict, _, _ in parts.values()] == ["fail", "pass", "pass", "fail", "pass", "error"]
    assert [regions for _, _, regions in parts.values()] == [1, 0, 0, 1, 0, 0]
    assert all(sha256 for _, sha256, _ in list(parts.values())[3:])
    component._next_look = 0.0
    assert shown(component) == (version, parts)  # nothing is written again
    write_results(config, 6)
    component._next_look = 0.0
    assert shown(component)[1] == parts
    assert shown(component)[0] != version


def test_results_that_may_not_be_written_are_shown_and_marks_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_settings(tmp_path)
    write_results(config, 3)
    database_file(config.paths).unlink()

    def refuse(path: Path, **_: Any) -> None:
        if path == database_file(config.paths):
            raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(ownership, "note", refuse)
    component = ServedComponent(config, PictureCache())
    store = component.store()
    assert store is not None
    assert "cannot be written" in component.read_only
    with store.reading() as connection:
        assert find_batch(connection, "lot1") is not None
    assert not database_file(config.paths).exists()


def test_components_next_to_each_other_are_found(tmp_path: Path) -> None:
    config = write_settings(tmp_path)
    assert list(PhotographSite(config).components()) == ["Part"]
    write_results(config, 3)
    shutil.copytree(tmp_path / "validate/Part", tmp_path / "validate/Other")
    (tmp_path / "validate/of_the_user").mkdir()
    components = PhotographSite(config).components()
    assert list(components) == ["Part", "Other"]
    assert components["Part"].store() is not None
    assert components["Other"].roots["results"] == tmp_path / "validate/Other"


def test_a_cache_keeps_the_newest_pictures() -> None:
    cache = PictureCache(largest=100)
    made: list[int] = []

    def make(number: int) -> Picture:
        made.append(number)
        return Picture(bytes(40))

    for number in (1, 2, 1, 3, 1, 2):
        assert cache.get(number, lambda number=number: make(number)) is not None
    assert made == [1, 2, 3, 2]
    assert cache.get(9, lambda: None) is None


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (["--port", "70000"], "0 to 65535"),
        (["--host", "no.such.host.invalid"], "cannot listen at no.such.host.invalid"),
        (["--set", "task=nothing"], "task"),
    ],
)
def test_bad_usage_is_one_line(
    options: list[str],
    problem: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["serve", *options]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert problem in errors[-1]


def test_a_missing_extra_and_a_damaged_database_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = write_settings(tmp_path)
    write_results(config, 3)
    database_file(config.paths).write_bytes(b"damaged" * 1000)
    with pytest.raises(InputError, match="--rebuild"):
        pixal.serve(config=config)
    monkeypatch.setattr("pixal.extras.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pixal\[serve\]"):
        pixal.serve(config=config)
